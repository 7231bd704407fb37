//! The Maintenance service: how this member is.

use openraft_rt::WatchReceiver;
use tonic::{Code, Status, async_trait};

use super::error::ApiError;
use super::header::Headers;
use crate::mvcc::Store;
use crate::proto::etcdserverpb::alarm_request::AlarmAction;
use crate::proto::etcdserverpb::maintenance_server::Maintenance;
use crate::proto::etcdserverpb::{
    AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, StatusRequest, StatusResponse,
};
use crate::raft::LogStore;
use crate::runtime::Runtime;
use crate::watermark::Watermark;

/// The etcd that clients are to take this server for. They choose by it what they ask for: it names no release that has
/// more than this server does.
pub const ETCD_VERSION: &str = "3.5.0";

/// Status, Alarm and Defragment, from this member.
pub struct MaintenanceService<R: Runtime> {
    pub(crate) headers: Headers<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) log: LogStore<R>,
    pub(crate) applied: Watermark,
}

#[async_trait]
impl<R: Runtime> Maintenance for MaintenanceService<R> {
    /// Lists alarms: there are none, since nothing raises any.
    async fn alarm(&self, request: tonic::Request<AlarmRequest>) -> Result<tonic::Response<AlarmResponse>, Status> {
        if request.into_inner().action() != AlarmAction::Get {
            return Err(Status::new(Code::Unimplemented, "alarms cannot be raised or disarmed yet"));
        }
        let header = Some(self.headers.at(self.store.revision()));
        Ok(tonic::Response::new(AlarmResponse { header, alarms: Vec::new() }))
    }

    /// Goes on if the client has gone. Its response is empty, as etcd's is.
    async fn defragment(
        &self,
        _: tonic::Request<DefragmentRequest>,
    ) -> Result<tonic::Response<DefragmentResponse>, Status> {
        let before = self.store.size().map_err(ApiError::from)?;
        let (store, log) = (self.store.clone(), self.log.clone());
        let done = R::spawn(async move { crate::raft::defragment(&store, &log).await }).await;
        done.map_err(|error| Status::new(Code::Internal, error.to_string()))?
            .map_err(|error| Status::new(Code::Unavailable, format!("defragment: {error}")))?;
        let after = self.store.size().map_err(ApiError::from)?;
        tracing::info!(from = before.file_bytes, to = after.file_bytes, "the store's file is defragmented");
        Ok(tonic::Response::new(DefragmentResponse { header: None }))
    }

    async fn status(&self, _: tonic::Request<StatusRequest>) -> Result<tonic::Response<StatusResponse>, Status> {
        let size = self.store.size().map_err(ApiError::from)?;
        let metrics = self.headers.raft.metrics().borrow_watched().clone();
        let is_voter = metrics.membership_config.membership().voter_ids().any(|voter| voter == self.headers.node);
        let mut errors = Vec::new();
        if metrics.current_leader.is_none() {
            errors.push(ApiError::NoLeader.code_and_message().1.to_owned());
        }
        errors.extend(metrics.running_state.err().map(|failure| failure.to_string()));
        Ok(tonic::Response::new(StatusResponse {
            header: Some(self.headers.at(self.store.revision())),
            version: ETCD_VERSION.to_owned(),
            db_size: i64::try_from(size.file_bytes).unwrap_or(i64::MAX),
            leader: metrics.current_leader.map_or(0, |leader| leader.0),
            raft_index: metrics.local_committed.map_or(0, |committed| committed.index()),
            raft_term: metrics.current_term,
            raft_applied_index: self.applied.get(),
            errors,
            db_size_in_use: i64::try_from(size.row_bytes).unwrap_or(i64::MAX),
            is_learner: !is_voter,
        }))
    }
}
