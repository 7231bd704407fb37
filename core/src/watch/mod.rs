//! Watching: what changed, told in order to whoever asked for it.
//!
//! ```text
//!   requests ──► Session ──► responses          one for each stream, polled by its client
//!                   │
//!                   ▼
//!       Store: Subscriber ── which watches are behind, and from where on;   changes ── what happened there
//! ```
//!
//! A watch is a subscription to the store, which knows how far it has been told. A session holds one piece of history at most: it
//! reads on when its client has taken that, so a slow client costs little memory, and can miss nothing but what is compacted
//! meanwhile, of which it is told. A watch that is behind and one that is not are the same thing.
//!
//! What holds, as in etcd:
//! - *ordered, unique, reliable*: the changes of a watch's range from its start on, each once, in the order of revisions;
//! - *atomic*: a response has all changes of the revisions that it has, unless the watch allows fragments;
//! - *bookmarkable*: whoever is told of progress at a revision has been told of all changes up to it.

mod interval;
mod session;
#[cfg(test)]
mod tests;
mod watcher;

use std::time::Duration;

pub(crate) use self::interval::Interval;
pub(crate) use self::session::{Session, fragmented};
pub(crate) use self::watcher::{Impossible, Watcher};
use crate::mvcc::PieceLimit;

/// How watches are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchOptions {
    /// How often it is seen whether a watch that wants to be told of progress has heard anything since; a tenth more
    /// seldom, perhaps.
    pub progress_interval: Duration,
    /// Bytes of a response beyond which a watch that allows it gets the rest in another.
    pub fragment_bytes: usize,
    /// How much history is read at once, and held for a stream whose client is slow.
    pub piece: PieceLimit,
}

impl Default for WatchOptions {
    /// etcd's: ten minutes, and the greatest size of a request.
    fn default() -> Self {
        WatchOptions {
            progress_interval: Duration::from_secs(600),
            fragment_bytes: 3 << 19,
            piece: PieceLimit::default(),
        }
    }
}
