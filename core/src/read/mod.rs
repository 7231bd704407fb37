//! The read paths, one file each. What they promise differs; what they read is the member's own applied state.

mod read_index;

pub use self::read_index::{ReadError, ReadIndex, ReadOptions};
