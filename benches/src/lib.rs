//! Shared fixtures of the benches.
//!
//! ```text
//!   wal   mvcc                 on the real runtime; they link no simulator
//!     \    |
//!   medium  requests
//!     |
//!   servers ── load            real servers as child processes, and their clients
//!           \   |
//!   read_paths  versus         the read paths; the server beside etcd
//!
//!   simulator   checker   simulated_reads     on the testbed
//! ```

pub mod load;
pub mod medium;
pub mod requests;
pub mod servers;
pub mod verdict;

use std::path::Path;

/// Where a bench writes its pages.
pub fn reports() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../reports/out"))
}
