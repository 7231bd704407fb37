//! Which proxies there are: each has a key under a prefix, with a lease, as etcd's have.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::Select2;
use tonic::Status;

use super::lease::Keeper;
use super::upstream::Upstream;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::lease_client::LeaseClient;
use crate::proto::etcdserverpb::{LeaseGrantRequest, Member, PutRequest, RangeRequest};
use crate::runtime::Runtime;
use crate::watermark::Stop;

/// How long to wait until a member is asked again that could not be.
const BACKOFF: Duration = Duration::from_millis(500);

/// How a proxy makes itself known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Under which keys proxies are known, without the slash that follows it.
    pub prefix: Bytes,
    /// For how long one stays known that is gone, in seconds.
    pub ttl_s: i64,
    /// Where clients find it.
    pub address: String,
}

impl Registration {
    fn under(&self) -> Bytes {
        [&self.prefix[..], b"/"].concat().into()
    }
}

/// The proxies of a cluster. Clones are the same.
pub(super) struct Registry<R: Runtime> {
    upstream: Upstream<R>,
    keeper: Keeper<R>,
    registration: Arc<Registration>,
}

impl<R: Runtime> Clone for Registry<R> {
    fn clone(&self) -> Self {
        Registry {
            upstream: self.upstream.clone(),
            keeper: self.keeper.clone(),
            registration: self.registration.clone(),
        }
    }
}

impl<R: Runtime> Registry<R> {
    /// Keeps a proxy registered until it is told to stop.
    pub(super) fn start(upstream: Upstream<R>, keeper: Keeper<R>, registration: Registration, stop: Stop) -> Self {
        let registry = Registry { upstream, keeper, registration: Arc::new(registration) };
        let running = registry.clone();
        drop(R::spawn(async move {
            let _: Select2<(), ()> = R::select2(stop.stopped(), running.run()).await;
        }));
        registry
    }

    async fn run(self) {
        loop {
            if let Err(status) = self.stay().await {
                tracing::info!(%status, "the proxy is not registered");
            }
            R::sleep(BACKOFF).await;
        }
    }

    /// Registers the proxy, and keeps it so until that fails.
    async fn stay(&self) -> Result<(), Status> {
        let Registration { ttl_s, address, .. } = &*self.registration;
        let grant = LeaseGrantRequest { id: 0, ttl: *ttl_s };
        let granted = LeaseClient::new(self.upstream.link().await?).lease_grant(grant).await?.into_inner();
        let put = PutRequest {
            key: [&self.registration.under()[..], address.as_bytes()].concat().into(),
            value: format!(r#"{{"Op":0,"Addr":{address:?},"Metadata":""}}"#).into(),
            lease: granted.id,
            ..PutRequest::default()
        };
        KvClient::new(self.upstream.link().await?).put(put).await?;
        let pause = Duration::from_secs(u64::try_from(granted.ttl).unwrap_or(1)) / 3;
        loop {
            R::sleep(pause).await;
            if self.keeper.keep_alive(granted.id).await?.ttl <= 0 {
                return Ok(());
            }
        }
    }

    /// The proxies, as clients know members.
    pub(super) async fn members(&self) -> Result<Vec<Member>, Status> {
        let under = self.registration.under();
        let request = RangeRequest {
            key: under.clone(),
            range_end: [&self.registration.prefix[..], b"0"].concat().into(),
            keys_only: true,
            ..RangeRequest::default()
        };
        let response = KvClient::new(self.upstream.link().await?).range(request).await?.into_inner();
        let address = |key: &Bytes| String::from_utf8_lossy(&key[under.len()..]).into_owned();
        let member =
            |address: String| Member { name: address.clone(), client_ur_ls: vec![address], ..Member::default() };
        Ok(response.kvs.iter().map(|kv| member(address(&kv.key))).collect())
    }
}
