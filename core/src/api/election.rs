//! The Election service.
//!
//! A leader is first in a [queue](super::queue): the others wait behind it, and each follows the one before it.

use futures_util::stream::BoxStream;
use openraft_rt::Select2;
use tonic::{Status, async_trait};

use super::error::ApiError;
use super::leader::{LeaderCheck, LeaderWatch};
use super::queue::Queue;
use crate::grpc::Responses;
use crate::proto::mvccpb::KeyValue;
use crate::proto::v3electionpb::election_server::Election;
use crate::proto::v3electionpb::{
    CampaignRequest, CampaignResponse, LeaderKey, LeaderRequest, LeaderResponse, ProclaimRequest, ProclaimResponse,
    ResignRequest, ResignResponse,
};
use crate::runtime::Runtime;

/// Elections, from this member.
pub struct ElectionService<R: Runtime> {
    pub(crate) queue: Queue<R>,
    pub(crate) leader: LeaderCheck<R>,
}

#[async_trait]
impl<R: Runtime> Election for ElectionService<R> {
    type ObserveStream = BoxStream<'static, Result<LeaderResponse, Status>>;

    /// Waits until it is elected, for as long as it takes. A client that goes away gives its place up.
    async fn campaign(
        &self,
        request: tonic::Request<CampaignRequest>,
    ) -> Result<tonic::Response<CampaignResponse>, Status> {
        let CampaignRequest { name, lease, value } = request.into_inner();
        let lease = self.queue.session(lease).await?;
        let place = self.queue.join(&name, lease, value.clone()).await?;
        if place.found.as_ref().is_some_and(|found| *found != value)
            && !self.queue.proclaim(&place.key, place.created, lease, value).await?.succeeded
        {
            return Err(ApiError::ElectionNotLeader.into());
        }
        let (queue, waiting) = (self.queue.clone(), place.clone());
        let waits = async move {
            queue.turn(&name, waiting.created).await?;
            // etcd does not look: the lease may have ended meanwhile, and the place with it.
            let (_, has_place) = queue.place(&waiting).await?;
            if !has_place {
                return Err(ApiError::ElectionNotLeader);
            }
            let leader = LeaderKey { name, key: waiting.key, rev: waiting.created, lease };
            Ok(CampaignResponse { header: waiting.header, leader: Some(leader) })
        };
        Ok(tonic::Response::new(self.queue.wait_at(place, waits).await?))
    }

    async fn proclaim(
        &self,
        request: tonic::Request<ProclaimRequest>,
    ) -> Result<tonic::Response<ProclaimResponse>, Status> {
        let ProclaimRequest { leader, value } = request.into_inner();
        let LeaderKey { key, rev, lease, .. } = leader.ok_or(ApiError::MissingLeaderKey)?;
        let lease = self.queue.session(lease).await?;
        let response = self.queue.proclaim(&key, rev, lease, value).await?;
        if !response.succeeded {
            return Err(ApiError::ElectionNotLeader.into());
        }
        Ok(tonic::Response::new(ProclaimResponse { header: response.header }))
    }

    async fn leader(&self, request: tonic::Request<LeaderRequest>) -> Result<tonic::Response<LeaderResponse>, Status> {
        let (header, kv) = self.queue.first(&request.into_inner().name).await?;
        let kv = kv.ok_or(ApiError::ElectionNoLeader)?;
        Ok(tonic::Response::new(LeaderResponse { header, kv: Some(kv) }))
    }

    async fn observe(
        &self,
        request: tonic::Request<LeaderRequest>,
    ) -> Result<tonic::Response<Self::ObserveStream>, Status> {
        let leader = self.leader.follow(request.metadata().as_ref());
        let observer = Observer { queue: self.queue.clone(), name: request.into_inner().name, told: None };
        Ok(tonic::Response::new(Observing { observer, leader }.into_stream()))
    }

    async fn resign(&self, request: tonic::Request<ResignRequest>) -> Result<tonic::Response<ResignResponse>, Status> {
        let LeaderKey { key, rev, .. } = request.into_inner().leader.ok_or(ApiError::MissingLeaderKey)?;
        let header = self.queue.leave(&key, rev).await?.header;
        Ok(tonic::Response::new(ResignResponse { header }))
    }
}

/// A stream of leaders.
struct Observing<R: Runtime> {
    observer: Observer<R>,
    leader: LeaderWatch<R>,
}

impl<R: Runtime> Responses for Observing<R> {
    type Response = LeaderResponse;

    async fn next(&mut self) -> Result<Option<LeaderResponse>, Status> {
        match R::select2(self.leader.lost(), self.observer.next()).await {
            Select2::First(()) => Err(ApiError::NoLeader.into()),
            Select2::Second(next) => Ok(Some(next?)),
        }
    }
}

/// Who is told of the leaders of an office.
struct Observer<R: Runtime> {
    queue: Queue<R>,
    name: bytes::Bytes,
    /// Who leads, as it was told last, and the revision up to which nothing else has happened to its key.
    told: Option<(KeyValue, i64)>,
}

impl<R: Runtime> Observer<R> {
    /// The next leader, or the next value of the one that was told. A leader that was soon followed by another may be left
    /// out.
    async fn next(&mut self) -> Result<LeaderResponse, ApiError> {
        loop {
            if let Some((told, upto)) = &self.told
                && let Some(change) = self.queue.next_change(&told.key, *upto).await?
            {
                let revision = change.kv.mod_revision;
                self.told = (!change.deleted).then(|| (change.kv.clone(), revision));
                if !change.deleted {
                    return Ok(LeaderResponse { header: Some(self.queue.header(revision)), kv: Some(change.kv) });
                }
            }
            // What had become of the one that was told may have been compacted: then it may be there still.
            let (header, first) = self.queue.first(&self.name).await?;
            let revision = header.as_ref().map_or(0, |header| header.revision);
            let told = self.told.take().map(|(told, _)| told);
            match first {
                Some(kv) => {
                    self.told = Some((kv.clone(), revision));
                    if told.as_ref() != Some(&kv) {
                        return Ok(LeaderResponse { header, kv: Some(kv) });
                    }
                }
                None => self.queue.joined(&self.name, revision).await?,
            }
        }
    }
}
