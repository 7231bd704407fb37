//! What the store asks of a runtime: that the real one gives it, and that the suite which says so would notice if not.
//!
//! One program, since building one takes longer than its tests do.

mod conformance;
mod tokio;
