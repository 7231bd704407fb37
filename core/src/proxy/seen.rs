//! How far a client has seen the store: it is not taken back behind that.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The greatest revision that was told on one connection. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Seen(Arc<AtomicI64>);

impl Seen {
    /// That of the connection that a request came on; of a request without one, its own.
    pub(super) fn of<T>(request: &tonic::Request<T>) -> Seen {
        request.extensions().get::<Seen>().cloned().unwrap_or_default()
    }

    pub(super) fn revision(&self) -> i64 {
        self.0.load(Ordering::Acquire)
    }

    /// A revision is told.
    pub(super) fn saw(&self, revision: i64) {
        if self.revision() < revision {
            self.0.fetch_max(revision, Ordering::AcqRel);
        }
    }
}
