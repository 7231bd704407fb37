//! A proxy: it stands between clients and members, and takes off the members what many clients ask alike.
//!
//! ```text
//!   clients ──► kv ─────► cache ──┐                     reads that any member may answer, from what is kept
//!               watch ──────────► feed ══ one stream ══► a member    one watch for each range, whoever watches it
//!               lease ──► keeper ────── one stream ────►             one keep-alive of each lease at a time
//!               pass ──────────────────────────────────►             all else, as it is
//! ```
//!
//! etcd's `grpc-proxy` is the model for what it does, and its defects for what it does not: nothing here is stale beyond a bound
//! that is told, and a client is never taken back behind what it has seen.

mod cache;
mod credentials;
mod feed;
mod kv;
mod lease;
mod line;
mod namespace;
mod pass;
mod registry;
mod seen;
mod upstream;
mod wake;
mod watch;

use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::service::Service;
use tonic::Status;

use self::cache::{Cache, CacheOptions};
use self::feed::Feed;
use self::kv::KvProxy;
use self::lease::{Keeper, LeaseProxy};
use self::namespace::Namespace;
use self::pass::Pass;
pub use self::registry::Registration;
use self::registry::Registry;
pub use self::seen::Seen;
pub use self::upstream::Connect;
use self::upstream::Upstream;
use self::watch::WatchProxy;
use crate::grpc::{Response, Routes, Tasks};
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::runtime::Runtime;
use crate::watch::WatchOptions;
use crate::watermark::Stop;

/// The method that a proxy is asked most, and answers itself most.
const RANGE: &str = "/etcdserverpb.KV/Range";

/// The metadata of an answer that no member was asked for.
pub const CACHED: &str = "seedbed-proxy-cached";

/// How a proxy is made.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// What clients' keys lie under, unknown to them; nothing, if it is empty.
    pub namespace: Bytes,
    /// What is kept is never staler than that, by the proxy's own clock.
    pub staleness_max: Duration,
    /// Of so many ranges of keys answers are kept at most.
    pub ranges_max: usize,
    /// How long a connection to a member may take.
    pub dial_timeout: Duration,
    /// How long a member may tell nothing before it is asked whether it is there, and then again before it is given up.
    pub silence_max: Duration,
    /// Of its own watches.
    pub watch: WatchOptions,
    /// How the proxy makes itself known, if it is to: then proxies are what clients know as the members.
    pub registration: Option<Registration>,
    /// Bytes that a message of a client may have.
    pub message_bytes: usize,
}

/// What a proxy has done since it was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProxyCounts {
    /// Reads answered from what is kept.
    pub hits: u64,
    /// Bytes of these answers, which no member has sent.
    pub hit_bytes: u64,
    /// Reads that a member was asked for, of those that may be answered from what is kept.
    pub misses: u64,
    /// Reads that had the answer to another one's question.
    pub coalesced: u64,
    /// Questions to members what revision the cluster is at.
    pub probes: u64,
    /// Ranges of which answers are kept.
    pub ranges: u64,
    /// Watches that the proxy has at a member.
    pub watches: u64,
    /// Watches that clients have at the proxy.
    pub client_watches: u64,
    /// Events that members have told.
    pub events: u64,
    /// Keep-alives of clients,
    pub keep_alives: u64,
    /// and those that members were asked for.
    pub keep_alives_sent: u64,
}

/// A proxy. Clones are the same.
pub struct Proxy<R: Runtime> {
    routes: Routes,
    upstream: Upstream<R>,
    feed: Feed<R>,
    cache: Cache<R>,
    keeper: Keeper<R>,
    stop: Stop,
}

impl<R: Runtime> Clone for Proxy<R> {
    fn clone(&self) -> Self {
        Proxy {
            routes: self.routes.clone(),
            upstream: self.upstream.clone(),
            feed: self.feed.clone(),
            cache: self.cache.clone(),
            keeper: self.keeper.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<R: Runtime> fmt::Debug for Proxy<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("counts", &self.counts()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Proxy<R> {
    /// Starts a proxy of the members that `connect` leads to.
    pub fn start(connect: impl Connect, options: ProxyOptions) -> Self {
        let stop = Stop::default();
        let upstream = Upstream::<R>::new(connect, options.dial_timeout);
        let namespace = Namespace::new(options.namespace);
        let feed = Feed::start(upstream.clone(), options.silence_max, stop.clone());
        let caching = CacheOptions { staleness_max: options.staleness_max, ranges_max: options.ranges_max };
        let cache = Cache::start(upstream.clone(), feed.clone(), caching, stop.clone());
        let keeper = Keeper::start(upstream.clone(), stop.clone());
        let kv = Arc::new(KvProxy { upstream: upstream.clone(), cache: cache.clone(), namespace: namespace.clone() });
        let watch = WatchProxy {
            upstream: upstream.clone(),
            feed: feed.clone(),
            namespace: namespace.clone(),
            options: options.watch,
            stop: stop.clone(),
        };
        let lease = LeaseProxy {
            upstream: upstream.clone(),
            namespace: namespace.clone(),
            keeper: keeper.clone(),
            feed: feed.clone(),
            stop: stop.clone(),
        };
        let registry = options
            .registration
            .map(|registration| Registry::start(upstream.clone(), keeper.clone(), registration, stop.clone()));
        let pass = Pass { upstream: upstream.clone(), namespace, registry };
        let reading = kv.clone();
        let routes = Routes::new(|_| Ok(()))
            .with_short_cut(RANGE, options.message_bytes, move |request| {
                let kv = reading.clone();
                async move { kv.read(request).await }
            })
            .with(KvServer::from_arc(kv).max_decoding_message_size(options.message_bytes))
            .with(WatchServer::new(watch))
            .with(LeaseServer::new(lease))
            .with(LockServer::new(pass.clone()))
            .with(ElectionServer::new(pass.clone()).max_decoding_message_size(options.message_bytes))
            .with(ClusterServer::new(pass.clone()))
            .with(MaintenanceServer::new(pass));
        Proxy { routes, upstream, feed, cache, keeper, stop }
    }

    /// The services for one connection of a client.
    pub fn connection(&self) -> Connection {
        Connection { routes: self.routes.clone(), seen: Seen::default() }
    }

    /// What runs the answers on a connection: most of them are there already.
    pub fn tasks() -> Tasks<R> {
        Tasks::at_once()
    }

    /// What it has done.
    pub fn counts(&self) -> ProxyCounts {
        let counters = self.cache.counters();
        let (keep_alives, keep_alives_sent) = self.keeper.counts();
        ProxyCounts {
            hits: counters.hits.load(Ordering::Relaxed),
            hit_bytes: counters.hit_bytes.load(Ordering::Relaxed),
            misses: counters.misses.load(Ordering::Relaxed),
            coalesced: counters.coalesced.load(Ordering::Relaxed),
            probes: counters.probes.load(Ordering::Relaxed),
            ranges: self.cache.ranges() as u64,
            watches: self.feed.lines() as u64,
            client_watches: self.feed.watches(),
            events: self.feed.events(),
            keep_alives,
            keep_alives_sent,
        }
    }

    /// Whether the proxy reaches a member, and, if that is asked for, whether that one answers a linearizable read.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn health(&self, linearizable: bool) -> Result<(), Status> {
        let link = self.upstream.link().await?;
        if linearizable {
            let request = RangeRequest { key: Bytes::from_static(b"health"), limit: 1, ..RangeRequest::default() };
            KvClient::new(link).range(request).await?;
        }
        Ok(())
    }

    /// Ends its streams and its tasks.
    pub fn stop(&self) {
        self.stop.stop();
    }
}

/// The services of a proxy, for one connection: what was told there is not taken back.
#[derive(Clone, Debug)]
pub struct Connection {
    routes: Routes,
    seen: Seen,
}

impl Service<Request<Incoming>> for Connection {
    type Response = Response;
    type Error = Infallible;
    type Future = <Routes as Service<Request<Incoming>>>::Future;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.seen.clone());
        self.routes.call(request)
    }
}
