//! What every response begins with.

use openraft_rt::WatchReceiver;

use crate::proto::etcdserverpb::ResponseHeader;
use crate::raft::{NodeId, Raft};
use crate::runtime::Runtime;

/// Makes the headers of one member's responses.
pub(crate) struct Headers<R: Runtime> {
    pub(crate) cluster_id: u64,
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<R>,
}

impl<R: Runtime> Headers<R> {
    /// The header of a response at a revision; 0 where the response is not about data.
    pub(crate) fn at(&self, revision: i64) -> ResponseHeader {
        let raft_term = self.raft.server_metrics().borrow_watched().vote.leader_id().term;
        ResponseHeader { cluster_id: self.cluster_id, member_id: self.node.0, revision, raft_term }
    }
}

impl<R: Runtime> Clone for Headers<R> {
    fn clone(&self) -> Self {
        Headers { cluster_id: self.cluster_id, node: self.node, raft: self.raft.clone() }
    }
}
