//! Leadership that is handed over, as by an operator or by a member that stops on purpose.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Target;

/// How long the old leader waits to hear of a new one.
const LIMIT: Duration = Duration::from_secs(5);

/// The leader hands over when the fault begins.
#[derive(Default)]
pub(super) struct Transfer {
    /// Whether somebody else led then.
    done: Arc<AtomicBool>,
}

impl Nemesis for Transfer {
    fn begin(&mut self, cluster: &mut Cluster) {
        for id in cluster.resolve(Target::Leader) {
            let done = self.done.clone();
            cluster.with_node(id, |node| async move {
                if node.hand_over(LIMIT).await.is_some() {
                    done.store(true, Ordering::Relaxed);
                }
            });
        }
    }

    fn end(&mut self, _: &mut Cluster) -> bool {
        self.done.load(Ordering::Relaxed)
    }
}
