//! What clients ask for: requests drawn from a plan's mix.

mod generator;
mod notes;

pub use self::generator::Generator;
pub use self::notes::{Notes, Steps};
