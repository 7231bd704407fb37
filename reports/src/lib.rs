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

mod coverage;
mod kept;
mod plot;
mod read_paths;
mod recovery;
mod summary;

pub use self::coverage::Coverage;
pub use self::kept::Kept;
pub use self::read_paths::{Against, ReadCost, ReadPaths, ReadPoint};
pub use self::recovery::Recovery;
pub use self::summary::{Failure, Row, Summary};
