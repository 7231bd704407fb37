//! Time as a member sees it.

use std::fmt::Debug;
use std::time::Duration;

/// A member's clocks. Both may run fast or slow against true time; only the wall clock may jump backwards.
pub trait Clock: Clone + Debug + Send + Sync + 'static {
    /// Time since an unspecified origin that stays the same for one life of the process. Never goes backwards.
    fn monotonic(&self) -> Duration;

    /// Time since the Unix epoch, as far as this member knows. For people and logs: nothing is decided by it.
    fn wall(&self) -> Duration;
}
