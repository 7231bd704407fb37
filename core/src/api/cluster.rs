//! The Cluster service: who is in the cluster.

use std::collections::BTreeMap;
use std::sync::Arc;

use openraft_rt::WatchReceiver;
use tonic::{Status, async_trait};

use super::error::ApiError;
use super::header::Headers;
use crate::members::Attributes;
use crate::mvcc::Store;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::{Member, MemberListRequest, MemberListResponse};
use crate::raft::NodeId;
use crate::read::Reads;
use crate::runtime::Runtime;

/// MemberList, from this member.
pub struct ClusterService<R: Runtime> {
    pub(crate) headers: Headers<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) reads: Arc<Reads<R>>,
    pub(crate) peer_urls: BTreeMap<NodeId, Vec<String>>,
}

impl<R: Runtime> ClusterService<R> {
    fn members(&self) -> Result<Vec<Member>, ApiError> {
        let membership = self.headers.raft.metrics().borrow_watched().membership_config.clone();
        let membership = membership.membership();
        let voters: Vec<NodeId> = membership.voter_ids().collect();
        let member = |id: NodeId| {
            let Attributes { name, client_urls } = Attributes::of(id, &self.store)?;
            let peer_urls = self.peer_urls.get(&id).cloned().unwrap_or_default();
            Ok(Member {
                id: id.0,
                name,
                peer_ur_ls: peer_urls,
                client_ur_ls: client_urls,
                is_learner: !voters.contains(&id),
            })
        };
        membership.nodes().map(|(id, _)| member(*id)).collect()
    }
}

#[async_trait]
impl<R: Runtime> Cluster for ClusterService<R> {
    async fn member_list(
        &self,
        request: tonic::Request<MemberListRequest>,
    ) -> Result<tonic::Response<MemberListResponse>, Status> {
        if request.into_inner().linearizable {
            self.reads.linearizable().await.map_err(ApiError::from)?;
        }
        let members = self.members()?;
        Ok(tonic::Response::new(MemberListResponse { header: Some(self.headers.at(0)), members }))
    }
}
