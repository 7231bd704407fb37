//! Removes compacted rows in the background, a bounded number at a time.
//!
//! What a compaction means is decided when its entry is applied, on every member alike. That its rows still lie on the
//! disk for a while is each member's own affair, and survives a restart.

use std::sync::Arc;

use openraft_rt::Select2;
use tokio::sync::Notify;

use crate::mvcc::Store;
use crate::runtime::{CrashPoint, CrashPoints, Disk, Runtime};
use crate::watermark::{Stop, Watermark};

/// Rows removed in one transaction: few enough that applies hardly wait for it.
const ROWS_PER_STEP: usize = 256;

/// The background task of a store.
pub(crate) struct Compactor<R: Runtime> {
    store: Store<R::Disk>,
    poke: Arc<Notify>,
    /// The greatest revision whose compaction has been finished.
    finished: Watermark,
    stop: Stop,
}

impl<R: Runtime> Clone for Compactor<R> {
    fn clone(&self) -> Self {
        Compactor {
            store: self.store.clone(),
            poke: self.poke.clone(),
            finished: self.finished.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<R: Runtime> Compactor<R> {
    /// Starts the task, and with it what an earlier life left to do. It ends when it is told to.
    pub(crate) fn start(store: Store<R::Disk>, stop: Stop) -> Self {
        let compactor = Compactor { store, poke: Arc::new(Notify::new()), finished: Watermark::default(), stop };
        compactor.poke.notify_one();
        drop(R::spawn(compactor.clone().run()));
        compactor
    }

    /// A compaction has been applied.
    pub(crate) fn poke(&self) {
        self.poke.notify_one();
    }

    /// Resolves once the rows of every compaction applied so far are gone; never, if the store fails before.
    pub(crate) async fn finished(&self) {
        self.finished.reached(compact_revision(&self.store)).await;
    }

    async fn run(self) {
        loop {
            if let Select2::First(()) = R::select2(self.stop.stopped(), self.poke.notified()).await {
                return;
            }
            let revision = compact_revision(&self.store);
            loop {
                R::CrashPoints::reached(CrashPoint::Compaction).await;
                match self.store.compaction_step(ROWS_PER_STEP).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        // The store is unusable, and whoever applies next finds out.
                        tracing::error!(%error, "compaction has stopped");
                        return;
                    }
                }
            }
            self.finished.raise(revision);
        }
    }
}

/// The compact revision; 0 if there is none yet.
fn compact_revision<D: Disk>(store: &Store<D>) -> u64 {
    u64::try_from(store.compact_revision()).unwrap_or(0)
}
