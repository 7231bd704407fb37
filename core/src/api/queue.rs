//! Those who wait for something with a name, one after the other: keys under a prefix, in the order of their creation.
//!
//! ```text
//!   name/1a  created at 5 ── it is this one's turn
//!   name/2b  created at 7 ── its turn comes when nothing is left that was created before 7
//! ```
//!
//! A key is its waiter's for as long as it exists, which is as long as the lease that it is put with. Whoever holds something
//! by such a key tells others by its creation revision that it does: a txn that compares it fails once the key is gone.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::Select2;

use super::error::ApiError;
use super::kv::KvService;
use super::lease::LeaseService;
use crate::mvcc::{ApplyError, Change, PieceLimit, Refusal, Store, Subscriber};
use crate::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::request_op::Request;
use crate::proto::etcdserverpb::response_op::Response;
use crate::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, ResponseHeader, TxnRequest,
    TxnResponse,
};
use crate::proto::mvccpb::KeyValue;
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::Stop;

/// For how long a lease is granted to whoever brings none, in seconds, as in etcd.
const SESSION_TTL_S: i64 = 60;

/// What locks and elections are made of.
pub(crate) struct Queue<R: Runtime> {
    pub(crate) kv: Arc<KvService<R>>,
    pub(crate) lease: Arc<LeaseService<R>>,
    pub(crate) store: Store<R::Disk>,
    /// Ends all waiting.
    pub(crate) stop: Stop,
}

impl<R: Runtime> Clone for Queue<R> {
    fn clone(&self) -> Self {
        Queue { kv: self.kv.clone(), lease: self.lease.clone(), store: self.store.clone(), stop: self.stop.clone() }
    }
}

/// A place in a queue.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) key: Bytes,
    /// The revision at which the key was created.
    pub(super) created: i64,
    /// The value that it had already; nothing, if it was created just now.
    pub(super) found: Option<Bytes>,
    pub(super) header: Option<ResponseHeader>,
}

impl<R: Runtime> Queue<R> {
    /// The lease that a waiter brings, renewed; or a new one.
    pub(super) async fn session(&self, lease: i64) -> Result<i64, ApiError> {
        if lease != 0 {
            // If there is none, the put that comes next says so.
            self.lease.keep_alive(lease).await?;
            return Ok(lease);
        }
        let request = tonic::Request::new(LeaseGrantRequest { id: 0, ttl: SESSION_TTL_S });
        Ok(self.lease.grant(request).await?.id)
    }

    /// Takes a place, or finds the one that the lease has.
    pub(super) async fn join(&self, name: &[u8], lease: i64, value: Bytes) -> Result<Place, ApiError> {
        // As etcd names them: a negative number is one with a sign.
        let sign = if lease < 0 { "-" } else { "" };
        let key = Bytes::from([&prefix(name)[..], format!("{sign}{:x}", lease.unsigned_abs()).as_bytes()].concat());
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        let get = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        let response =
            self.txn(created_at(&key, 0), Request::RequestPut(put), Some(Request::RequestRange(get))).await?;
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        let found = found(&response);
        Ok(Place {
            key,
            created: found.as_ref().map_or(revision, |kv| kv.create_revision),
            found: found.map(|kv| kv.value),
            header: response.header,
        })
    }

    /// Resolves once nothing is left in a queue that was created before a revision.
    pub(super) async fn turn(&self, name: &[u8], created: i64) -> Result<(), ApiError> {
        loop {
            let last = RangeRequest {
                max_create_revision: created - 1,
                sort_order: SortOrder::Descend as i32,
                sort_target: SortTarget::Create as i32,
                limit: 1,
                ..under(name)
            };
            match self.read(last).await?.1 {
                Some(before) => {
                    self.gone(&before).await?;
                    if R::Mutants::active(Mutant::LockTurnEarly) {
                        return Ok(());
                    }
                }
                None => return Ok(()),
            }
        }
    }

    /// Whether a place is still there, as it was taken, and the header of the answer.
    pub(super) async fn place(&self, place: &Place) -> Result<(Option<ResponseHeader>, bool), ApiError> {
        let key = RangeRequest { key: place.key.clone(), ..RangeRequest::default() };
        let (header, kv) = self.read(key).await?;
        Ok((header, kv.is_some_and(|kv| kv.create_revision == place.created)))
    }

    /// Who is first in a queue, if anybody is, and the header of the answer.
    pub(super) async fn first(&self, name: &[u8]) -> Result<(Option<ResponseHeader>, Option<KeyValue>), ApiError> {
        let first = RangeRequest {
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            limit: 1,
            ..under(name)
        };
        self.read(first).await
    }

    /// The first pair of a range, as it is now, and the header of the answer.
    async fn read(&self, request: RangeRequest) -> Result<(Option<ResponseHeader>, Option<KeyValue>), ApiError> {
        let response = self.kv.read(tonic::Request::new(request)).await?;
        Ok((response.header, response.kvs.into_iter().next()))
    }

    /// Resolves once a key that has been read here does not exist any more as it was created.
    async fn gone(&self, kv: &KeyValue) -> Result<(), ApiError> {
        loop {
            let request = RangeRequest { key: kv.key.clone(), ..RangeRequest::default() };
            let reading = self.store.reading().await;
            let response = self.store.range(&request)?;
            drop(reading);
            if response.kvs.first().is_none_or(|now| now.create_revision != kv.create_revision) {
                return Ok(());
            }
            self.changed(&request, response.header.map_or(0, |header| header.revision)).await?;
        }
    }

    /// The next change of a key after a revision; nothing, if that part of history has been compacted.
    pub(super) async fn next_change(&self, key: &Bytes, after: i64) -> Result<Option<Change>, ApiError> {
        let mut subscriber = self.store.subscriber();
        subscriber.subscribe(0, key.clone(), Bytes::new(), after + 1);
        loop {
            self.due(&subscriber).await?;
            let Some(behind) = subscriber.behind(i64::MIN, self.store.revision()) else { continue };
            let reading = self.store.reading().await;
            let piece = self.store.changes(behind, PieceLimit::default(), |_| false);
            drop(reading);
            let piece = match piece {
                Err(ApplyError::Refused(Refusal::Compacted { .. })) => return Ok(None),
                piece => piece?,
            };
            if let Some(change) = piece.changes.into_iter().find(|change| change.kv.key == *key) {
                return Ok(Some(change));
            }
            subscriber.look(i64::MIN..=piece.upto);
        }
    }

    /// Resolves once there is anybody in a queue that was empty at a revision.
    pub(super) async fn joined(&self, name: &[u8], after: i64) -> Result<(), ApiError> {
        self.changed(&under(name), after).await
    }

    /// Resolves once something in a range may have changed after a revision.
    async fn changed(&self, range: &RangeRequest, mut after: i64) -> Result<(), ApiError> {
        if R::Mutants::active(Mutant::LockListensLate) {
            R::sleep(Duration::from_millis(5)).await;
            after = self.store.revision();
        }
        let mut subscriber = self.store.subscriber();
        subscriber.subscribe(0, range.key.clone(), range.range_end.clone(), after + 1);
        self.due(&subscriber).await
    }

    async fn due(&self, subscriber: &Subscriber) -> Result<(), ApiError> {
        match R::select2(self.stop.stopped(), subscriber.due()).await {
            Select2::First(()) => Err(ApiError::Stopped),
            Select2::Second(()) => Ok(()),
        }
    }

    /// Gives a place up, unless somebody else has it by now.
    pub(super) async fn leave(&self, key: &Bytes, created: i64) -> Result<TxnResponse, ApiError> {
        let delete = DeleteRangeRequest { key: key.clone(), ..DeleteRangeRequest::default() };
        self.txn(created_at(key, created), Request::RequestDeleteRange(delete), None).await
    }

    /// Gives another value to a place, unless somebody else has it by now. Whether that was done.
    pub(super) async fn proclaim(
        &self,
        key: &Bytes,
        created: i64,
        lease: i64,
        value: Bytes,
    ) -> Result<TxnResponse, ApiError> {
        let put = PutRequest { key: key.clone(), value, lease, ..PutRequest::default() };
        self.txn(created_at(key, created), Request::RequestPut(put), None).await
    }

    /// The header of an answer that is about a revision.
    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        self.lease.headers.at(revision)
    }

    async fn txn(&self, compare: Compare, then: Request, otherwise: Option<Request>) -> Result<TxnResponse, ApiError> {
        let operation = |request| RequestOp { request: Some(request) };
        let request = TxnRequest {
            compare: vec![compare],
            success: vec![operation(then)],
            failure: otherwise.into_iter().map(operation).collect(),
        };
        self.kv.change(tonic::Request::new(request)).await
    }

    /// Waits at a place until `doing` is done or whoever has asked for it has gone: then the place is given up. It is no part
    /// of the asking task, which may be dropped at any time.
    pub(super) async fn wait_at<T, D>(&self, place: Place, doing: D) -> Result<T, ApiError>
    where
        T: Send + 'static,
        D: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        let queue = self.clone();
        let give_up = async move {
            // Whoever has it by another request with the same lease keeps it.
            if place.found.is_none() {
                let _ = queue.leave(&place.key, place.created).await;
            }
        };
        let gone = Stop::default();
        let _asking = Asking(gone.clone());
        let (sender, receiver) = tokio::sync::oneshot::channel();
        drop(R::spawn(async move {
            match R::select2(gone.stopped(), doing).await {
                Select2::First(()) => give_up.await,
                Select2::Second(done) => {
                    let failed = done.is_err();
                    // Whoever has gone at the last moment holds nothing.
                    if sender.send(done).is_err() || failed {
                        give_up.await;
                    }
                }
            }
        }));
        receiver.await.unwrap_or(Err(ApiError::Stopped))
    }
}

/// Dropped with the request that waits.
struct Asking(Stop);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// What the keys of a queue begin with.
pub(super) fn prefix(name: &[u8]) -> Bytes {
    [name, b"/"].concat().into()
}

/// Every key of a queue.
fn under(name: &[u8]) -> RangeRequest {
    RangeRequest { key: prefix(name), range_end: [name, b"0"].concat().into(), ..RangeRequest::default() }
}

/// The condition that a key was created at a revision; 0: that it does not exist.
fn created_at(key: &Bytes, revision: i64) -> Compare {
    Compare {
        result: CompareResult::Equal as i32,
        target: CompareTarget::Create as i32,
        key: key.clone(),
        range_end: Bytes::new(),
        target_union: Some(TargetUnion::CreateRevision(revision)),
    }
}

/// The pair that a txn has found where it did not put one.
fn found(response: &TxnResponse) -> Option<KeyValue> {
    match response.responses.first()?.response.as_ref()? {
        Response::ResponseRange(range) => range.kvs.first().cloned(),
        _ => None,
    }
}
