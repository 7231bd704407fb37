//! Handing leadership over, so that a member that stops on purpose leaves no gap of an election time-out.

use std::time::Duration;

use openraft_rt::WatchReceiver;

use super::Node;
use crate::raft::NodeId;
use crate::runtime::Runtime;

impl<R: Runtime> Node<R> {
    /// If this member leads and there is another voter, hands leadership over to the one that has come furthest, and waits
    /// until somebody else leads, or the time is over. Answers who leads then; `None` if nobody else does.
    ///
    /// It is for a member that is about to stop: one that has tried does not lead again before it was elected anew.
    pub async fn hand_over(&self, limit: Duration) -> Option<NodeId> {
        let successor = self.successor()?;
        tracing::info!(to = %successor, "handing leadership over");
        if self.raft.trigger().transfer_leader(successor).await.is_err() {
            return None;
        }
        let mut metrics = self.raft.metrics();
        let node = self.node;
        let led = |leader: Option<NodeId>| leader.filter(|leader| *leader != node);
        let elected = metrics.wait_until(|metrics| led(metrics.current_leader).is_some());
        let metrics = R::timeout(limit, elected).await.ok()?.ok()?;
        led(metrics.current_leader)
    }

    /// The voter with the longest log, as far as this member knows as a leader; of several, the one heard of last, since a
    /// quiet cluster's logs are equally long, those of dead members too.
    fn successor(&self) -> Option<NodeId> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        let (replication, heartbeat) = (metrics.replication.as_ref()?, metrics.heartbeat.as_ref()?);
        let others = metrics.membership_config.membership().voter_ids().filter(|voter| *voter != self.node);
        others.max_by_key(|voter| {
            let matched = replication.get(voter).copied().flatten();
            let heard = heartbeat.get(voter).copied().flatten().map(|heard| *heard);
            (matched, heard)
        })
    }
}
