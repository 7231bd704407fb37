//! Shared fixtures of the benches.
//!
//! ```text
//!   wal   mvcc                 on the real runtime; they link no simulator
//!     \    |
//!   medium  requests
//!     |
//!   servers ── load ── watchers     real servers as child processes, and their clients
//!           \   |   /
//!   read_paths  versus  proxies     the read paths; the server beside etcd; its proxy beside etcd's
//!
//!   simulator   checker   simulated_reads     on the testbed
//! ```

pub mod load;
pub mod medium;
pub mod requests;
pub mod servers;
pub mod verdict;
pub mod watchers;

use std::path::Path;

/// Where a bench writes its pages.
pub fn reports() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../reports/out"))
}

/// The middle one, or the greater of the two in the middle. There is one at least.
pub fn median<T>(measured: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut all: Vec<f64> = measured.iter().map(of).collect();
    all.sort_unstable_by(f64::total_cmp);
    all[all.len() / 2]
}
