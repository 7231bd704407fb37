//! The KV service.

use std::sync::Arc;
use std::time::Duration;

use openraft_rt::WatchReceiver;
use prost::Message;
use tonic::{Status, async_trait};

use super::dispatch::OperationId;
use super::error::ApiError;
use super::proposals::{Proposals, other_kind};
use crate::compactor::Compactor;
use crate::mvcc::{Refusal, Store, reads_only, validate};
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op,
};
use crate::raft::{NodeId, Raft, Reply, Request};
use crate::read::{ReadPath, Reads};
use crate::runtime::{Mutant, Mutants, Runtime};

/// Range, Put, DeleteRange, Txn and Compact, from this member.
pub struct KvService<R: Runtime> {
    pub(crate) cluster_id: u64,
    pub(crate) node: NodeId,
    pub(crate) raft: Raft<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) proposals: Proposals<R>,
    pub(crate) reads: Arc<Reads<R>>,
    pub(crate) compactor: Compactor<R>,
    pub(crate) request_timeout: Duration,
}

impl<R: Runtime> KvService<R> {
    /// Answers a range.
    pub(super) async fn read(&self, request: tonic::Request<RangeRequest>) -> Result<RangeResponse, ApiError> {
        let operation = OperationId::of(&request);
        let asked = ReadPath::of(&request).map_err(|_| ApiError::UnknownReadPath)?;
        let request = request.into_inner();
        validate::range(&request)?;
        let path = if request.serializable { ReadPath::Serializable } else { asked.unwrap_or_default() };
        self.reads.ready(path, || request.clone(), operation.0).await?;
        let reading = self.store.reading().await;
        let mut response = self.store.range(&request)?;
        drop(reading);
        self.complete(&mut response.header);
        Ok(response)
    }

    /// Deletes the keys of a range.
    pub(super) async fn delete(
        &self,
        request: tonic::Request<DeleteRangeRequest>,
    ) -> Result<DeleteRangeResponse, ApiError> {
        let operation = OperationId::of(&request);
        let request = request.into_inner();
        validate::delete_range(&request)?;
        let bytes = request.encoded_len();
        match self.proposals.propose(operation, Request::DeleteRange(request), bytes).await? {
            Reply::DeleteRange(mut response) => {
                self.complete(&mut response.header);
                Ok(response)
            }
            other => other_kind(&other),
        }
    }

    /// Carries out a txn.
    pub(super) async fn change(&self, request: tonic::Request<TxnRequest>) -> Result<TxnResponse, ApiError> {
        let operation = OperationId::of(&request);
        let request = request.into_inner();
        validate::txn(&request, self.proposals.limits.txn_operations)?;
        if reads_only(&request) {
            // As in etcd: it needs no place in the log.
            let path = if only_serializable(&request) { ReadPath::Serializable } else { ReadPath::ReadIndex };
            self.reads.ready(path, RangeRequest::default, operation.0).await?;
            let reading = self.store.reading().await;
            let mut response = self.store.read_txn(&request)?;
            drop(reading);
            self.complete(&mut response.header);
            return Ok(response);
        }
        let bytes = request.encoded_len();
        match self.proposals.propose(operation, Request::Txn(request), bytes).await? {
            Reply::Txn(mut response) => {
                self.complete(&mut response.header);
                Ok(response)
            }
            other => other_kind(&other),
        }
    }

    fn complete(&self, header: &mut Option<ResponseHeader>) {
        let header = header.get_or_insert_default();
        header.cluster_id = self.cluster_id;
        header.member_id = self.node.0;
        header.raft_term = self.raft.server_metrics().borrow_watched().vote.leader_id().term;
    }
}

/// Whether a txn that only reads may be answered from an old state: every range in it says so. One without ranges is
/// asked for the sake of its conditions, and nobody has said that they may be old.
pub(crate) fn only_serializable(txn: &TxnRequest) -> bool {
    let mut operations = txn.success.iter().chain(&txn.failure).peekable();
    operations.peek().is_some()
        && operations.all(|operation| {
            matches!(&operation.request, Some(request_op::Request::RequestRange(range)) if range.serializable)
        })
}

#[async_trait]
impl<R: Runtime> Kv for KvService<R> {
    async fn range(&self, request: tonic::Request<RangeRequest>) -> Result<tonic::Response<RangeResponse>, Status> {
        Ok(tonic::Response::new(self.read(request).await?))
    }

    async fn put(&self, request: tonic::Request<PutRequest>) -> Result<tonic::Response<PutResponse>, Status> {
        let operation = OperationId::of(&request);
        let request = request.into_inner();
        validate::put(&request).map_err(ApiError::from)?;
        if R::Mutants::active(Mutant::LeaseUnknownHere)
            && request.lease != 0
            && self.store.leases().0.get(request.lease).is_none()
        {
            return Err(ApiError::from(Refusal::LeaseNotFound(request.lease)).into());
        }
        let bytes = request.encoded_len();
        match self.proposals.propose(operation, Request::Put(request), bytes).await? {
            Reply::Put(mut response) => {
                self.complete(&mut response.header);
                Ok(tonic::Response::new(response))
            }
            other => other_kind(&other),
        }
    }

    async fn delete_range(
        &self,
        request: tonic::Request<DeleteRangeRequest>,
    ) -> Result<tonic::Response<DeleteRangeResponse>, Status> {
        Ok(tonic::Response::new(self.delete(request).await?))
    }

    async fn txn(&self, request: tonic::Request<TxnRequest>) -> Result<tonic::Response<TxnResponse>, Status> {
        Ok(tonic::Response::new(self.change(request).await?))
    }

    async fn compact(
        &self,
        request: tonic::Request<CompactionRequest>,
    ) -> Result<tonic::Response<CompactionResponse>, Status> {
        let operation = OperationId::of(&request);
        let request = request.into_inner();
        let physical = request.physical;
        let bytes = request.encoded_len();
        match self.proposals.propose(operation, Request::Compact(request), bytes).await? {
            Reply::Compact(mut response) => {
                if physical {
                    let finished = self.compactor.finished();
                    R::timeout(self.request_timeout, finished).await.map_err(|_| ApiError::Timeout)?;
                }
                self.complete(&mut response.header);
                Ok(tonic::Response::new(response))
            }
            other => other_kind(&other),
        }
    }
}
