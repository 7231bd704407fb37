//! The testbed: one seed decides every delay, crash, partition and fsync, and every answer is judged.
//!
//! ```text
//!      plan         outcome          a run as data; what it came to
//!
//!           runtime                  madsim's tasks and timers behind the store's traits; the run itself
//!         /    |    \
//!     disk  network  clock           the world around a member, with its faults
//!         \    |    /
//!      evidence  mutant  log         who watches from inside; what is planted; what is said
//!           \    |    /
//!          trace   rng               the rolling hash of a run; one random stream a component
//! ```
//!
//! Dependencies run downwards, but that `runtime` and the world name each other's types, and that `plan` and `outcome`
//! need nobody. The store does not know that any of this exists.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets; a RUSTFLAGS variable overrides that file: \
     unset it, or add `--cfg madsim` to it"
);

pub mod checker;
pub mod clock;
pub mod disk;
pub mod evidence;
pub mod history;
pub mod log;
pub mod model;
pub mod mutant;
pub mod network;
pub mod outcome;
pub mod panics;
pub mod plan;
pub mod rng;
pub mod run;
pub mod runtime;
pub mod trace;

pub use seedbed_core::runtime::Mutant;
