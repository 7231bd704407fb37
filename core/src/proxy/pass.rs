//! What a proxy hands to a member as it is, but for names: locks, elections, maintenance, and who the members are.

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tonic::{Status, async_trait};

use super::namespace::Namespace;
use super::registry::Registry;
use super::upstream::{Upstream, sent_on};
use crate::proto::etcdserverpb::cluster_client::ClusterClient;
use crate::proto::etcdserverpb::cluster_server::Cluster;
use crate::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, MemberListRequest, MemberListResponse,
    StatusRequest, StatusResponse,
};
use crate::proto::v3electionpb::election_client::ElectionClient;
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse, ResignRequest,
    ResignResponse,
};
use crate::proto::v3lockpb::lock_client::LockClient;
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::runtime::Runtime;

/// What is handed on.
pub(super) struct Pass<R: Runtime> {
    pub(super) upstream: Upstream<R>,
    pub(super) namespace: Namespace,
    /// The proxies, if clients are to know of these and not of the members.
    pub(super) registry: Option<Registry<R>>,
}

impl<R: Runtime> Clone for Pass<R> {
    fn clone(&self) -> Self {
        let Pass { upstream, namespace, registry } = self;
        Pass { upstream: upstream.clone(), namespace: namespace.clone(), registry: registry.clone() }
    }
}

#[async_trait]
impl<R: Runtime> Lock for Pass<R> {
    async fn lock(&self, mut request: tonic::Request<LockRequest>) -> Result<tonic::Response<LockResponse>, Status> {
        self.namespace.enter_name(&mut request.get_mut().name);
        let mut response = sent_on(LockClient::new(self.upstream.link().await?).lock(request).await)?;
        self.namespace.leave(&mut response.get_mut().key);
        Ok(response)
    }

    async fn unlock(
        &self,
        mut request: tonic::Request<UnlockRequest>,
    ) -> Result<tonic::Response<UnlockResponse>, Status> {
        self.namespace.enter(&mut request.get_mut().key);
        sent_on(LockClient::new(self.upstream.link().await?).unlock(request).await)
    }
}

#[async_trait]
impl<R: Runtime> Election for Pass<R> {
    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    async fn campaign(
        &self,
        mut request: tonic::Request<CampaignRequest>,
    ) -> Result<tonic::Response<CampaignResponse>, Status> {
        self.namespace.enter_name(&mut request.get_mut().name);
        let mut response = sent_on(ElectionClient::new(self.upstream.link().await?).campaign(request).await)?;
        response.get_mut().leader.iter_mut().for_each(|leader| self.namespace.leave_leader(leader));
        Ok(response)
    }

    async fn proclaim(
        &self,
        mut request: tonic::Request<ProclaimRequest>,
    ) -> Result<tonic::Response<ProclaimResponse>, Status> {
        request.get_mut().leader.iter_mut().for_each(|leader| self.namespace.enter_leader(leader));
        sent_on(ElectionClient::new(self.upstream.link().await?).proclaim(request).await)
    }

    async fn leader(
        &self,
        mut request: tonic::Request<LeaderRequest>,
    ) -> Result<tonic::Response<LeaderResponse>, Status> {
        self.namespace.enter_name(&mut request.get_mut().name);
        let mut response = sent_on(ElectionClient::new(self.upstream.link().await?).leader(request).await)?;
        response.get_mut().kv.iter_mut().for_each(|kv| self.namespace.leave_pair(kv));
        Ok(response)
    }

    async fn observe(
        &self,
        mut request: tonic::Request<LeaderRequest>,
    ) -> Result<tonic::Response<Self::ObserveStream>, Status> {
        self.namespace.enter_name(&mut request.get_mut().name);
        let response = sent_on(ElectionClient::new(self.upstream.link().await?).observe(request).await)?;
        let namespace = self.namespace.clone();
        let left = move |told: Result<LeaderResponse, Status>| {
            sent_on(told).map(|mut leader| {
                leader.kv.iter_mut().for_each(|kv| namespace.leave_pair(kv));
                leader
            })
        };
        Ok(response.map(|told| told.map(left).boxed()))
    }

    async fn resign(
        &self,
        mut request: tonic::Request<ResignRequest>,
    ) -> Result<tonic::Response<ResignResponse>, Status> {
        request.get_mut().leader.iter_mut().for_each(|leader| self.namespace.enter_leader(leader));
        sent_on(ElectionClient::new(self.upstream.link().await?).resign(request).await)
    }
}

#[async_trait]
impl<R: Runtime> Cluster for Pass<R> {
    /// The members; or the proxies, if they are registered: whoever knows of the members goes past these.
    async fn member_list(
        &self,
        request: tonic::Request<MemberListRequest>,
    ) -> Result<tonic::Response<MemberListResponse>, Status> {
        let mut response = sent_on(ClusterClient::new(self.upstream.link().await?).member_list(request).await)?;
        if let Some(registry) = &self.registry {
            response.get_mut().members = registry.members().await?;
        }
        Ok(response)
    }
}

#[async_trait]
impl<R: Runtime> Maintenance for Pass<R> {
    async fn alarm(&self, request: tonic::Request<AlarmRequest>) -> Result<tonic::Response<AlarmResponse>, Status> {
        sent_on(MaintenanceClient::new(self.upstream.link().await?).alarm(request).await)
    }

    async fn status(&self, request: tonic::Request<StatusRequest>) -> Result<tonic::Response<StatusResponse>, Status> {
        sent_on(MaintenanceClient::new(self.upstream.link().await?).status(request).await)
    }

    async fn defragment(
        &self,
        request: tonic::Request<DefragmentRequest>,
    ) -> Result<tonic::Response<DefragmentResponse>, Status> {
        sent_on(MaintenanceClient::new(self.upstream.link().await?).defragment(request).await)
    }
}
