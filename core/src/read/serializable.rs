//! Serializable reads: the member's own applied state, at once.
//!
//! No other member is asked, so the state may be old, but it is one that the store has had, and on one life of a member
//! a later read never shows an older one.

use super::ReadError;

/// There is nothing to wait for.
pub(super) fn ready() -> Result<(), ReadError> {
    Ok(())
}
