//! The KV service of a proxy.

use http::{HeaderName, HeaderValue};
use tonic::metadata::MetadataMap;
use tonic::{Status, async_trait};

use super::cache::Cache;
use super::namespace::Namespace;
use super::seen::Seen;
use super::upstream::{Upstream, sent_on};
use super::{CACHED, credentials};
use crate::api::{HAS_LEADER, only_serializable};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op,
};
use crate::runtime::Runtime;

static CACHED_NAME: HeaderName = HeaderName::from_static(CACHED);
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Keys and values, from members.
pub(super) struct KvProxy<R: Runtime> {
    pub(super) upstream: Upstream<R>,
    pub(super) cache: Cache<R>,
    pub(super) namespace: Namespace,
}

/// Has the answer count as seen.
fn seen<T>(seen: &Seen, answered: &tonic::Response<T>, header: impl Fn(&T) -> Option<&ResponseHeader>) {
    seen.saw(header(answered.get_ref()).map_or(0, |header| header.revision));
}

/// Whether a read is for a member to answer: not everybody may see it, or who asks wants to know that there is a leader.
fn is_for_members(metadata: &MetadataMap) -> bool {
    // Names are compared one by one: there are few, and it is asked for each read.
    metadata.as_ref().keys().any(|name| name.as_str() == HAS_LEADER || credentials::have(name))
}

impl<R: Runtime> KvProxy<R> {
    /// [`Kv::range`], in no box.
    pub(super) async fn read(
        &self,
        request: tonic::Request<RangeRequest>,
    ) -> Result<tonic::Response<RangeResponse>, Status> {
        let by = Seen::of(&request);
        let cached = !is_for_members(request.metadata());
        let mut request = request.map(|mut range| {
            self.namespace.enter_get(&mut range);
            range
        });
        let range = request.get_ref();
        // The past, which may be compacted at any time, and what is refused, is for members to say.
        let mut response = if cached && range.serializable && range.revision == 0 && !range.key.is_empty() {
            let (response, cached) = match self.cache.hit(range, by.revision()) {
                Some(hit) => (hit, true),
                // In a box, as below: most reads are hits, and theirs need no room for asking a member.
                None => Box::pin(self.cache.read(range, by.revision())).await?,
            };
            let mut response = tonic::Response::new(response);
            if cached {
                response.metadata_mut().as_mut().insert(CACHED_NAME.clone(), TRUE);
            }
            response
        } else {
            request.extensions_mut().clear();
            Box::pin(self.ask(request, &by)).await?
        };
        seen(&by, &response, |response| response.header.as_ref());
        self.namespace.leave_get(response.get_mut());
        Ok(response)
    }

    /// Has a member answer a read: at no revision before what is seen by then, if any member may answer.
    async fn ask(
        &self,
        request: tonic::Request<RangeRequest>,
        by: &Seen,
    ) -> Result<tonic::Response<RangeResponse>, Status> {
        let again = request.get_ref().serializable.then(|| (request.metadata().clone(), request.get_ref().clone()));
        let response = sent_on(self.client().await?.range(request).await)?;
        match again {
            Some((metadata, range)) if revision(response.get_ref()) < by.revision() => {
                // A member that lags behind the one that the client has heard before.
                let range = RangeRequest { serializable: false, ..range };
                let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), range);
                sent_on(self.client().await?.range(request).await)
            }
            _ => Ok(response),
        }
    }

    async fn client(&self) -> Result<KvClient<super::upstream::Link>, Status> {
        Ok(KvClient::new(self.upstream.link().await?).max_decoding_message_size(usize::MAX))
    }
}

#[async_trait]
impl<R: Runtime> Kv for KvProxy<R> {
    async fn range(&self, request: tonic::Request<RangeRequest>) -> Result<tonic::Response<RangeResponse>, Status> {
        self.read(request).await
    }

    async fn put(&self, mut request: tonic::Request<PutRequest>) -> Result<tonic::Response<PutResponse>, Status> {
        let by = Seen::of(&request);
        self.namespace.enter_put(request.get_mut());
        let mut response = sent_on(self.client().await?.put(request).await)?;
        seen(&by, &response, |response| response.header.as_ref());
        self.namespace.leave_put(response.get_mut());
        Ok(response)
    }

    async fn delete_range(
        &self,
        mut request: tonic::Request<DeleteRangeRequest>,
    ) -> Result<tonic::Response<DeleteRangeResponse>, Status> {
        let by = Seen::of(&request);
        self.namespace.enter_delete(request.get_mut());
        let mut response = sent_on(self.client().await?.delete_range(request).await)?;
        seen(&by, &response, |response| response.header.as_ref());
        self.namespace.leave_delete(response.get_mut());
        Ok(response)
    }

    async fn txn(&self, mut request: tonic::Request<TxnRequest>) -> Result<tonic::Response<TxnResponse>, Status> {
        let by = Seen::of(&request);
        self.namespace.enter_txn(request.get_mut());
        let again =
            only_serializable(request.get_ref()).then(|| (request.metadata().clone(), request.get_ref().clone()));
        let mut response = sent_on(self.client().await?.txn(request).await)?;
        let revision = response.get_ref().header.as_ref().map_or(0, |header| header.revision);
        if let Some((metadata, mut txn)) = again.filter(|_| revision < by.revision()) {
            // As with a range: it only reads.
            for operation in txn.success.iter_mut().chain(&mut txn.failure) {
                if let Some(request_op::Request::RequestRange(range)) = &mut operation.request {
                    range.serializable = false;
                }
            }
            let request = tonic::Request::from_parts(metadata, tonic::Extensions::default(), txn);
            response = sent_on(self.client().await?.txn(request).await)?;
        }
        seen(&by, &response, |response| response.header.as_ref());
        self.namespace.leave_txn(response.get_mut());
        Ok(response)
    }

    async fn compact(
        &self,
        request: tonic::Request<CompactionRequest>,
    ) -> Result<tonic::Response<CompactionResponse>, Status> {
        let by = Seen::of(&request);
        let response = sent_on(self.client().await?.compact(request).await)?;
        seen(&by, &response, |response| response.header.as_ref());
        Ok(response)
    }
}

fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}
