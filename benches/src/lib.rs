//! Shared fixtures of the benches.
//!
//! ```text
//!   wal   mvcc                 on the real runtime; they link no simulator
//!     \    |
//!   medium  requests
//!
//!   simulator   checker        on the testbed
//! ```

pub mod medium;
pub mod requests;
