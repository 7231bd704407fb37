//! The testbed: one seed decides every delay, crash, partition and fsync, and every answer is judged.
//!
//! ```text
//!            run                     a plan, played in two acts and judged
//!       /     |      \
//!  cluster  nemesis  judge            members and their faults; what came of it
//!     |   \    |       \
//!  converge  client   checker         agreement at the end; operations, watches and contenders; one guarantee a file
//!     |        |         \
//!  service  workload    model         what members offer; what clients ask; what the store should answer
//!     |        |           |
//!   plan    history     outcome       a run as data; what was seen; what it came to
//!
//!           runtime                  madsim's tasks and timers behind the store's traits; one simulation
//!         /    |    \
//!     disk  network  clock           the world around a member, with its faults
//!         \    |    /
//!      evidence  mutant  log         who watches from inside; what is planted; what is said
//!           \    |    /
//!       trace   rng   shrink         the rolling hash of a run; one random stream a component; what a failure takes
//! ```
//!
//! Dependencies run downwards, but that `runtime` and the world name each other's types. The store does not know that any
//! of this exists.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets; a RUSTFLAGS variable overrides that file: \
     unset it, or add `--cfg madsim` to it"
);

pub mod checker;
pub mod client;
pub mod clock;
pub mod cluster;
pub mod contend;
pub mod converge;
mod crash_points;
pub mod disk;
pub mod evidence;
pub mod history;
pub mod judge;
pub mod log;
pub mod model;
pub mod mutant;
pub mod nemesis;
pub mod network;
pub mod outcome;
pub mod panics;
pub mod plan;
pub mod proxies;
pub mod rng;
pub mod run;
pub mod runtime;
pub mod service;
pub mod shrink;
pub mod trace;
pub mod watch;
pub mod wire;
pub mod workload;

pub use seedbed_core::read::ReadPath;
pub use seedbed_core::runtime::{CrashPoint, Mutant};
