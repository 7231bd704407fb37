//! What clients ask for: requests drawn from a plan's mix.

mod generator;

pub use self::generator::Generator;
