//! Turns results into pages.
//!
//! Takes plain data of its own, and knows neither the simulator nor the scenarios.
//!
//! ```text
//!   scenarios ──► Summary ──► the table on the terminal
//!                        └──► reports/out/summary.md
//! ```

mod summary;

pub use self::summary::{Failure, Row, Summary};
