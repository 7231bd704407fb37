//! Stores' files that are made shorter at bad moments.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// Defragments when the fault begins.
pub(super) struct Defragment {
    target: Target,
    /// Whether somebody has.
    done: Arc<AtomicBool>,
}

impl Defragment {
    pub(super) fn new(target: Target) -> Self {
        Defragment { target, done: Arc::default() }
    }
}

impl Nemesis for Defragment {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(self.target) {
            let done = self.done.clone();
            cluster.with_node(id, |node| async move {
                if node.defragment().await.is_ok() {
                    done.store(true, Ordering::Relaxed);
                }
            });
        }
    }

    fn end(&mut self, _: &mut Cluster) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}
