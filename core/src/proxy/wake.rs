//! A client's stream of watches, woken by what concerns them.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};

use crate::signal::Signal;

/// Which watches of a stream have something to be told.
#[derive(Debug, Default)]
pub(super) struct Wake {
    marked: Mutex<BTreeSet<i64>>,
    changed: Signal,
}

impl Wake {
    /// There is something for a watch.
    pub(super) fn mark(&self, id: i64) {
        self.marked.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.changed.ring();
    }

    /// The watches for which there is something.
    pub(super) fn take(&self) -> BTreeSet<i64> {
        std::mem::take(&mut self.marked.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Resolves once there is something for a watch, since this has resolved last.
    pub(super) fn poll_woken(&self, context: &Context<'_>) -> Poll<()> {
        self.changed.poll_rung(context)
    }
}
