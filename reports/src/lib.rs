//! Turns results into pages.
//!
//! Takes plain data of its own, and knows neither the simulator nor the scenarios.
//!
//! ```text
//!   scenarios ──► Summary ────► the table on the terminal
//!                          └──► reports/out/summary.md
//!   benches ────► ReadPaths ──► reports/out/read_paths.md, read_paths.svg
//!                          └──► reports/out/simulated_reads.md, simulated_reads.svg
//! ```

mod plot;
mod read_paths;
mod summary;

pub use self::read_paths::{Against, ReadCost, ReadPaths, ReadPoint};
pub use self::summary::{Failure, Row, Summary};
