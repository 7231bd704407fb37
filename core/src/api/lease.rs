//! The Lease service.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use openraft_rt::Select2;
use prost::Message;
use rand::Rng as _;
use tonic::{Status, Streaming, async_trait};

use super::dispatch::OperationId;
use super::error::ApiError;
use super::header::Headers;
use super::leader::{LeaderCheck, LeaderWatch};
use super::proposals::{Proposals, other_kind};
use crate::grpc::Responses;
use crate::lease::{Lessor, TTL_MAX};
use crate::mvcc::Store;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseStatus, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use crate::raft::{Reply, Request};
use crate::read::Reads;
use crate::runtime::Runtime;
use crate::watermark::Stop;

/// How many keep-alives of one stream are carried out together at most.
const TOGETHER_MAX: usize = 1000;

/// Leases, from this member.
pub struct LeaseService<R: Runtime> {
    pub(crate) headers: Headers<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) proposals: Proposals<R>,
    pub(crate) reads: Arc<Reads<R>>,
    pub(crate) lessor: Lessor<R>,
    /// The shortest time for which a lease is granted, in seconds.
    pub(crate) ttl_min: i64,
    pub(crate) leader: LeaderCheck<R>,
    /// Ends all streams.
    pub(crate) stop: Stop,
}

impl<R: Runtime> LeaseService<R> {
    /// Renews a lease, as a message on a stream of keep-alives does.
    ///
    /// # Errors
    /// `Timeout`: no leader has done it in time.
    pub async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, ApiError> {
        Ok(self.keep_all_alive(vec![id]).await?.remove(0))
    }

    /// Grants a lease.
    pub(super) async fn grant(
        &self,
        request: tonic::Request<LeaseGrantRequest>,
    ) -> Result<LeaseGrantResponse, ApiError> {
        let operation = OperationId::of(&request);
        let LeaseGrantRequest { id: asked, ttl } = request.into_inner();
        if ttl > TTL_MAX {
            return Err(ApiError::LeaseTtlTooLarge);
        }
        let ttl = ttl.max(self.ttl_min);
        loop {
            let id = if asked == 0 { any_id::<R>() } else { asked };
            let request = LeaseGrantRequest { id, ttl };
            let bytes = request.encoded_len();
            match self.proposals.propose(operation, Request::LeaseGrant(request), bytes).await {
                Ok(Reply::LeaseGrant(mut response)) => {
                    response.header = response.header.map(|header| self.headers.at(header.revision));
                    return Ok(response);
                }
                Ok(other) => other_kind(&other),
                // Nobody has asked for that very number.
                Err(ApiError::LeaseExists) if asked == 0 => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn keep_all_alive(&self, ids: Vec<i64>) -> Result<Vec<LeaseKeepAliveResponse>, ApiError> {
        // Before, as in etcd: the revision is none that came later than the renewal.
        let header = self.headers.at(self.store.revision());
        let seconds = self.lessor.renew(&ids).await?;
        let response = |(id, ttl)| LeaseKeepAliveResponse { header: Some(header), id, ttl };
        Ok(ids.into_iter().zip(seconds).map(response).collect())
    }
}

#[async_trait]
impl<R: Runtime> Lease for LeaseService<R> {
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: tonic::Request<LeaseGrantRequest>,
    ) -> Result<tonic::Response<LeaseGrantResponse>, Status> {
        Ok(tonic::Response::new(self.grant(request).await?))
    }

    async fn lease_revoke(
        &self,
        request: tonic::Request<LeaseRevokeRequest>,
    ) -> Result<tonic::Response<LeaseRevokeResponse>, Status> {
        let operation = OperationId::of(&request);
        let request = request.into_inner();
        let bytes = request.encoded_len();
        match self.proposals.propose(operation, Request::LeaseRevoke(request), bytes).await? {
            Reply::LeaseRevoke(mut response) => {
                response.header = response.header.map(|header| self.headers.at(header.revision));
                Ok(tonic::Response::new(response))
            }
            other => other_kind(&other),
        }
    }

    async fn lease_keep_alive(
        &self,
        request: tonic::Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<tonic::Response<Self::LeaseKeepAliveStream>, Status> {
        let keeping = Keeping {
            leader: self.leader.follow(request.metadata().as_ref()),
            requests: request.into_inner(),
            service: self.clone(),
            ended: None,
            answered: VecDeque::new(),
        };
        Ok(tonic::Response::new(keeping.into_stream()))
    }

    async fn lease_time_to_live(
        &self,
        request: tonic::Request<LeaseTimeToLiveRequest>,
    ) -> Result<tonic::Response<LeaseTimeToLiveResponse>, Status> {
        let LeaseTimeToLiveRequest { id, keys } = request.into_inner();
        let remaining = self.lessor.remaining(id, keys).await.map_err(ApiError::from)?;
        // As in etcd: a lease that does not exist is an answer, and no error.
        let (ttl, granted_ttl) = remaining.left.unwrap_or((-1, 0));
        let header = Some(self.headers.at(remaining.revision));
        Ok(tonic::Response::new(LeaseTimeToLiveResponse { header, id, ttl, granted_ttl, keys: remaining.keys }))
    }

    /// Linearizable, other than in etcd, which lists what the member knows.
    async fn lease_leases(
        &self,
        _: tonic::Request<LeaseLeasesRequest>,
    ) -> Result<tonic::Response<LeaseLeasesResponse>, Status> {
        self.reads.linearizable().await.map_err(ApiError::from)?;
        let (leases, revision) = self.store.leases();
        let leases = leases.iter().map(|(id, _)| LeaseStatus { id }).collect();
        Ok(tonic::Response::new(LeaseLeasesResponse { header: Some(self.headers.at(revision)), leases }))
    }
}

impl<R: Runtime> Clone for LeaseService<R> {
    fn clone(&self) -> Self {
        LeaseService {
            headers: self.headers.clone(),
            store: self.store.clone(),
            proposals: self.proposals.clone(),
            reads: self.reads.clone(),
            lessor: self.lessor.clone(),
            ttl_min: self.ttl_min,
            leader: self.leader.clone(),
            stop: self.stop.clone(),
        }
    }
}

/// A number for a lease that nobody has named: positive, as etcd's are.
fn any_id<R: Runtime>() -> i64 {
    loop {
        let id = (R::thread_rng().next_u64() >> 1) as i64;
        if id != 0 {
            return id;
        }
    }
}

/// A stream of keep-alives.
struct Keeping<R: Runtime> {
    requests: Streaming<LeaseKeepAliveRequest>,
    service: LeaseService<R>,
    leader: LeaderWatch<R>,
    /// What came in the place of a request, when several were taken at once: the end, or an error.
    ended: Option<Result<(), Status>>,
    /// Responses that have not been sent.
    answered: VecDeque<LeaseKeepAliveResponse>,
}

impl<R: Runtime> Responses for Keeping<R> {
    type Response = LeaseKeepAliveResponse;

    /// None, once the client has nothing more to ask.
    async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Status> {
        if let Some(response) = self.answered.pop_front() {
            return Ok(Some(response));
        }
        if let Some(ended) = self.ended.take() {
            return ended.map(|()| None);
        }
        let ended = R::select2(self.service.stop.stopped(), self.leader.lost());
        let first = match R::select2(ended, self.requests.message()).await {
            Select2::First(Select2::First(())) => return Err(ApiError::Stopped.into()),
            Select2::First(Select2::Second(())) => return Err(ApiError::NoLeader.into()),
            Select2::Second(request) => request?,
        };
        let Some(first) = first else { return Ok(None) };
        let mut ids = vec![first.id];
        // What has come meanwhile goes with it.
        while ids.len() < TOGETHER_MAX
            && self.ended.is_none()
            && let Some(request) = self.requests.message().now_or_never()
        {
            match request {
                Ok(Some(request)) => ids.push(request.id),
                Ok(None) => self.ended = Some(Ok(())),
                Err(status) => self.ended = Some(Err(status)),
            }
        }
        self.answered.extend(self.service.keep_all_alive(ids).await?);
        Ok(self.answered.pop_front())
    }
}
