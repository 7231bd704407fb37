//! A proxy between clients and a cluster, as an operator starts it: processes, ports, flags.

mod servers;

use std::net::SocketAddr;
use std::process::{Command, Stdio};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::cluster_client::ClusterClient;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_core::proto::etcdserverpb::watch_client::WatchClient;
use seedbed_core::proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_core::proto::etcdserverpb::{
    CompactionRequest, LeaseGrantRequest, LeaseKeepAliveRequest, MemberListRequest, PutRequest, RangeRequest,
    RangeResponse, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use seedbed_core::proto::mvccpb::event::EventType;
use tokio::sync::mpsc;
use tonic::Streaming;

use self::servers::proxy::Proxy;
use self::servers::{Cluster, PROGRAM, eventually, free_port, run};

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}

fn serializable(key: &str) -> RangeRequest {
    RangeRequest { key: key.to_owned().into(), serializable: true, ..RangeRequest::default() }
}

async fn read(kv: &mut KvClient<Channel>, request: RangeRequest) -> RangeResponse {
    kv.range(request).await.expect("the proxy answers").into_inner()
}

fn value(response: &RangeResponse) -> Option<String> {
    response.kvs.first().map(|kv| String::from_utf8(kv.value.to_vec()).expect("text"))
}

/// A stream of watches.
struct Watching {
    requests: mpsc::UnboundedSender<WatchRequest>,
    told: Streaming<WatchResponse>,
}

impl Watching {
    async fn open(channel: Channel) -> Watching {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
        let told = WatchClient::new(channel).watch(sent).await.expect("a stream").into_inner();
        Watching { requests, told }
    }

    fn ask(&self, union: RequestUnion) {
        self.requests.send(WatchRequest { request_union: Some(union) }).expect("the stream is open");
    }

    async fn next(&mut self) -> WatchResponse {
        self.told.message().await.expect("the stream is whole").expect("it goes on")
    }

    async fn create(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request));
        self.next().await
    }

    /// So many events, as revision and value; a deletion has none.
    async fn events(&mut self, count: usize) -> Vec<(i64, String)> {
        let mut events = Vec::new();
        while events.len() < count {
            for event in self.next().await.events {
                let kv = event.kv.clone().expect("an event has a pair");
                let value = if event.r#type() == EventType::Delete { "-".into() } else { kv.value };
                events.push((kv.mod_revision, String::from_utf8(value.to_vec()).expect("text")));
            }
        }
        events
    }
}

fn watch(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: key.to_owned().into(), ..WatchCreateRequest::default() }
}

#[test]
fn a_storm_of_reads_costs_the_members_next_to_nothing() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        cluster.servers[0].put("k", "v").await;
        let proxy = Proxy::start(&cluster.endpoints(), &["--cache-staleness", "30s"]).await;
        let kv = proxy.kv().await;
        let reads = stream::iter(0..2_000).map(|_| {
            let mut kv = kv.clone();
            async move { value(&read(&mut kv, serializable("k")).await) }
        });
        let values: Vec<_> = reads.buffer_unordered(64).collect().await;
        assert!(values.iter().all(|value| value.as_deref() == Some("v")));
        let asked = proxy.number("etcd_grpc_proxy_cache_misses_total") + proxy.number("seedbed_proxy_probes_total");
        let hits = proxy.number("etcd_grpc_proxy_cache_hits_total");
        // Until the first answer is known to be right, several may go to the member, one after the other.
        assert!(hits > 1_000 && asked < 200, "{hits} answered from what is kept, {asked} questions to the member");
        let mut kv = kv;
        for _ in 0..200 {
            read(&mut kv, serializable("k")).await;
        }
        let later = proxy.number("etcd_grpc_proxy_cache_misses_total") + proxy.number("seedbed_proxy_probes_total");
        assert_eq!((later, proxy.number("etcd_grpc_proxy_cache_hits_total")), (asked, hits + 200));
    });
}

#[test]
fn nobody_is_taken_back_behind_what_he_has_seen() {
    run(async {
        let cluster = Cluster::start(3, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &["--cache-staleness", "30s"]).await;
        let mut kv = proxy.kv().await;
        let mut revision = 0;
        for round in 0..200 {
            let written = round.to_string();
            let put = put("k", &written);
            let told = if round % 2 == 0 {
                kv.put(put).await.expect("a put").into_inner().header.expect("a header").revision
            } else {
                // Directly: another client's write, of which this one is told by a linearizable read.
                cluster.servers[round % 3].kv().await.put(put).await.expect("a put");
                read(&mut kv, RangeRequest { key: "k".into(), ..RangeRequest::default() })
                    .await
                    .header
                    .expect("one")
                    .revision
            };
            let response = read(&mut kv, serializable("k")).await;
            assert_eq!(value(&response).as_deref(), Some(&*written));
            let other = read(&mut kv, serializable("other")).await;
            for now in [response, other].map(|response| response.header.expect("a header").revision) {
                assert!(now >= told && now >= revision, "{now} after {told} and {revision}");
                revision = now;
            }
        }
        assert!(proxy.number("etcd_grpc_proxy_cache_hits_total") > 200);
    });
}

#[test]
fn what_is_kept_follows_direct_writes_and_the_ends_of_leases() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let direct = &cluster.servers[0];
        let proxy = Proxy::start(&cluster.endpoints(), &["--cache-staleness", "30s"]).await;
        let mut kv = proxy.kv().await;
        let all =
            RangeRequest { key: "k".into(), range_end: "l".into(), serializable: true, ..RangeRequest::default() };
        direct.put("k1", "1").await;
        eventually("the pair and the range", async || {
            let (one, range) = (read(&mut kv, serializable("k1")).await, read(&mut kv, all.clone()).await);
            (value(&one).as_deref() == Some("1") && range.count == 1).then_some(())
        })
        .await;
        direct.put("k1", "2").await;
        direct.put("k2", "2").await;
        eventually("both, as they are now", async || {
            let (one, range) = (read(&mut kv, serializable("k1")).await, read(&mut kv, all.clone()).await);
            (value(&one).as_deref() == Some("2") && range.count == 2).then_some(())
        })
        .await;
        let mut leases = LeaseClient::new(proxy.channel().await);
        let lease = leases.lease_grant(LeaseGrantRequest { id: 0, ttl: 1 }).await.expect("a lease").into_inner();
        kv.put(PutRequest { lease: lease.id, ..put("k3", "3") }).await.expect("a put");
        assert_eq!(value(&read(&mut kv, serializable("k3")).await).as_deref(), Some("3"));
        eventually("the end of the lease", async || {
            read(&mut kv, serializable("k3")).await.kvs.is_empty().then_some(())
        })
        .await;
    });
}

#[test]
fn many_watches_of_a_key_are_one_watch_of_a_member() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &[]).await;
        let mut kv = proxy.kv().await;
        kv.put(put("k", "before")).await.expect("a put");
        let mut watchers = Vec::new();
        for nth in 0..50_i64 {
            let mut watching = Watching::open(proxy.channel().await).await;
            let created = watching.create(WatchCreateRequest { watch_id: nth + 100, ..watch("k") }).await;
            assert!(created.created && created.watch_id == nth + 100 && !created.canceled, "{created:?}");
            watchers.push(watching);
        }
        assert_eq!(proxy.number("seedbed_proxy_member_watches"), 1);
        for n in 0..20 {
            kv.put(put("k", &n.to_string())).await.expect("a put");
        }
        let expected: Vec<_> = (0..20).map(|n| (n + 3, n.to_string())).collect();
        for watching in &mut watchers {
            assert_eq!(watching.events(20).await, expected);
        }
        // One that begins in the past, and one that filters, with what was there before.
        let mut late = Watching::open(proxy.channel().await).await;
        late.create(WatchCreateRequest { start_revision: 2, ..watch("k") }).await;
        let events = late.events(21).await;
        assert_eq!((&events[0], &events[1..]), (&(2, "before".to_owned()), &expected[..]));
        let mut previous = Watching::open(proxy.channel().await).await;
        previous.create(WatchCreateRequest { prev_kv: true, ..watch("k") }).await;
        kv.put(put("k", "last")).await.expect("a put");
        let told = previous.next().await;
        assert_eq!(told.events[0].prev_kv.as_ref().map(|kv| &kv.value[..]), Some(&b"19"[..]));
        drop((watchers, late, previous));
        eventually("no watch", async || (proxy.number("seedbed_proxy_member_watches") == 0).then_some(())).await;
    });
}

#[test]
fn watches_are_canceled_asked_for_progress_and_refused_as_at_a_member() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &[]).await;
        let mut kv = proxy.kv().await;
        let mut watching = Watching::open(proxy.channel().await).await;
        assert_eq!(watching.create(watch("a")).await.watch_id, 0);
        assert_eq!(watching.create(watch("b")).await.watch_id, 1);
        let revision = kv.put(put("a", "1")).await.expect("a put").into_inner().header.expect("one").revision;
        assert_eq!(watching.events(1).await, [(revision, "1".to_owned())]);
        watching.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        let progress = watching.next().await;
        assert_eq!((progress.watch_id, progress.header.expect("one").revision), (-1, revision));
        watching.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 }));
        let canceled = watching.next().await;
        assert!(canceled.canceled && canceled.watch_id == 0, "{canceled:?}");
        kv.put(put("a", "2")).await.expect("a put");
        let last = kv.put(put("b", "3")).await.expect("a put").into_inner().header.expect("one").revision;
        assert_eq!(watching.events(1).await, [(last, "3".to_owned())], "nothing of the canceled one");
        let twice = watching.create(WatchCreateRequest { watch_id: 1, ..watch("c") }).await;
        assert!(twice.created && twice.canceled && !twice.cancel_reason.is_empty(), "{twice:?}");
        kv.compact(CompactionRequest { revision: last, physical: true }).await.expect("a compaction");
        let past = WatchCreateRequest { start_revision: 2, watch_id: 9, ..watch("a") };
        assert!(watching.create(past).await.created);
        let ended = watching.next().await;
        assert!(ended.canceled && ended.watch_id == 9 && ended.compact_revision == last, "{ended:?}");
        assert!(!ended.cancel_reason.is_empty(), "{ended:?}");
    });
}

#[test]
fn what_carries_credentials_shares_nothing() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &["--namespace", "ns/"]).await;
        let mut kv = proxy.kv().await;
        let mut lease = LeaseClient::new(proxy.channel().await);
        lease.lease_grant(LeaseGrantRequest { id: 7, ttl: 60 }).await.expect("a lease");
        fn personal<T>(message: T) -> tonic::Request<T> {
            let mut request = tonic::Request::new(message);
            request.metadata_mut().insert("token", "mine".parse().expect("it is plain"));
            request
        }
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(watch("k"))) };
        let requests = personal(stream::iter([create]).chain(stream::pending()));
        let mut told = WatchClient::new(proxy.channel().await).watch(requests).await.expect("a stream").into_inner();
        assert!(told.message().await.expect("it goes on").is_some_and(|told| told.created));
        kv.put(put("k", "v")).await.expect("a put");
        let event = told.message().await.expect("it goes on").expect("a response").events.remove(0);
        assert_eq!(event.kv.map(|kv| kv.key), Some(Bytes::from_static(b"k")));
        for _ in 0..2 {
            let response = kv.range(personal(serializable("k"))).await.expect("an answer");
            assert_eq!(response.metadata().get("seedbed-proxy-cached"), None);
            assert_eq!(value(response.get_ref()).as_deref(), Some("v"));
        }
        let keep = personal(stream::iter([LeaseKeepAliveRequest { id: 7 }]));
        let mut kept = lease.lease_keep_alive(keep).await.expect("a stream").into_inner();
        assert_eq!(kept.message().await.expect("an answer").map(|kept| (kept.id, kept.ttl)), Some((7, 60)));
        let shared = [
            "seedbed_proxy_member_watches",
            "etcd_grpc_proxy_cache_hits_total",
            "etcd_grpc_proxy_cache_misses_total",
            "seedbed_proxy_keep_alives_total",
        ];
        assert_eq!(shared.map(|name| proxy.number(name)), [0; 4]);
    });
}

#[test]
fn keep_alives_of_one_lease_go_together_and_each_is_answered() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &[]).await;
        let mut leases = LeaseClient::new(proxy.channel().await);
        let lease = leases.lease_grant(LeaseGrantRequest { id: 7, ttl: 60 }).await.expect("a lease").into_inner();
        assert_eq!(lease.id, 7);
        let storm = (0..40).map(|_| {
            let mut leases = leases.clone();
            async move {
                let requests = stream::iter([7, 8, 7].map(|id| LeaseKeepAliveRequest { id }));
                let answers = leases.lease_keep_alive(requests).await.expect("a stream").into_inner();
                answers
                    .map(|answer| answer.map(|kept| (kept.id, kept.ttl)).expect("an answer"))
                    .collect::<Vec<_>>()
                    .await
            }
        });
        for answers in futures_util::future::join_all(storm).await {
            assert_eq!(answers, [(7, 60), (8, 0), (7, 60)]);
        }
        let (asked, sent) =
            (proxy.number("seedbed_proxy_keep_alives_total"), proxy.number("seedbed_proxy_keep_alives_sent_total"));
        assert!(asked == 120 && sent < 100, "{sent} of {asked}");
    });
}

#[test]
fn a_namespace_is_all_there_is() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        cluster.servers[0].put("outside", "1").await;
        let proxy = Proxy::start(&cluster.endpoints(), &["--namespace", "ns/"]).await;
        let mut kv = proxy.kv().await;
        let mut watching = Watching::open(proxy.channel().await).await;
        watching.create(WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..watch("") }).await;
        kv.put(put("a", "in")).await.expect("a put");
        cluster.servers[0].put("b", "out").await;
        assert_eq!(cluster.servers[0].value("ns/a").await.as_deref(), Some("in"));
        for serializable in [false, true] {
            let everything =
                RangeRequest { key: "\0".into(), range_end: "\0".into(), serializable, ..RangeRequest::default() };
            let response = read(&mut kv, everything).await;
            let keys: Vec<&[u8]> = response.kvs.iter().map(|kv| &kv.key[..]).collect();
            assert_eq!(keys, [b"a"]);
        }
        assert_eq!(watching.next().await.events[0].kv.as_ref().map(|kv| &kv.key[..]), Some(&b"a"[..]));
        assert!(kv.put(put("", "no key")).await.is_err());
    });
}

#[test]
fn a_member_that_goes_is_followed_by_another() {
    run(async {
        let mut cluster = Cluster::start(3, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &[]).await;
        let mut kv = proxy.kv().await;
        let mut watching = Watching::open(proxy.channel().await).await;
        watching.create(watch("k")).await;
        let mut expected = Vec::new();
        let write = async |kv: &mut KvClient<Channel>, value: &str| {
            let written = eventually("a put", async || kv.put(put("k", value)).await.ok()).await;
            written.into_inner().header.expect("a header").revision
        };
        expected.push((write(&mut kv, "1").await, "1".to_owned()));
        assert_eq!(watching.events(1).await, expected);
        // The proxy asks the first of them first.
        cluster.servers[0].kill().await;
        let direct = cluster.servers[1].kv().await;
        let mut direct = direct;
        let second = write(&mut direct, "2").await;
        assert_eq!(watching.events(1).await, [(second, "2".to_owned())]);
        eventually("an answer", async || {
            let response = kv.range(serializable("k")).await.ok()?.into_inner();
            (value(&response).as_deref() == Some("2")).then_some(())
        })
        .await;
    });
}

#[test]
fn whoever_wants_a_leader_hears_that_there_is_none() {
    run(async {
        let mut cluster = Cluster::start(3, &[]).await;
        let proxy = Proxy::start(&cluster.endpoints(), &[]).await;
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(watch("k"))) };
        let mut request = tonic::Request::new(stream::iter([create]).chain(stream::pending()));
        request.metadata_mut().insert("hasleader", "true".parse().expect("it is plain"));
        let mut leading = WatchClient::new(proxy.channel().await).watch(request).await.expect("a stream").into_inner();
        assert!(leading.message().await.expect("it goes on").is_some_and(|told| told.created));
        let mut patient = Watching::open(proxy.channel().await).await;
        patient.create(watch("k")).await;
        // Of leases, at a proxy that is asked for nothing else.
        let other = Proxy::start(&cluster.endpoints(), &[]).await;
        let mut request = tonic::Request::new(stream::pending());
        request.metadata_mut().insert("hasleader", "true".parse().expect("it is plain"));
        let keeping = LeaseClient::new(other.channel().await).lease_keep_alive(request).await;
        let mut keeping = keeping.expect("a stream").into_inner();
        for server in &mut cluster.servers {
            server.kill().await;
        }
        for ended in [leading.message().await.map(drop), keeping.message().await.map(drop)] {
            let ended = ended.expect_err("nobody leads");
            assert_eq!((ended.code(), ended.message()), (tonic::Code::Unavailable, "etcdserver: no leader"));
        }
        // Whoever did not ask for one goes on.
        for server in &mut cluster.servers {
            server.start();
        }
        let mut kv = proxy.kv().await;
        let put = eventually("a put", async || kv.put(put("k", "v")).await.ok()).await.into_inner();
        let revision = put.header.expect("a header").revision;
        assert!(patient.events(1).await.iter().all(|(_, value)| value == "v") && revision > 0);
    });
}

#[test]
fn proxies_that_are_registered_are_what_clients_know() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        cluster.published().await;
        let plain = Proxy::start(&cluster.endpoints(), &[]).await;
        let members = async |proxy: &Proxy| {
            let mut client = ClusterClient::new(proxy.channel().await);
            client.member_list(MemberListRequest { linearizable: true }).await.expect("a list").into_inner().members
        };
        assert_eq!(members(&plain).await[0].client_ur_ls, [format!("http://{}", cluster.servers[0].client)]);
        let flags = ["--resolver-prefix", "proxies", "--resolver-ttl", "60", "--advertise-client-url", "10.0.0.9:1"];
        let registered = Proxy::start(&cluster.endpoints(), &flags).await;
        eventually("the proxy", async || {
            let known = members(&registered).await;
            (known.len() == 1 && known[0].client_ur_ls == ["10.0.0.9:1"]).then_some(())
        })
        .await;
    });
}

#[test]
fn a_proxy_without_members_says_so_and_stops_when_it_is_told() {
    run(async {
        let nobody = format!("127.0.0.1:{}", free_port());
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(PROGRAM);
        command.args(["grpc-proxy", "start", "--endpoints", &nobody, "--listen-addr", &address.to_string()]);
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program can be run");
        let mut proxy = Proxy { address, process };
        eventually("a page", async || proxy.page("/proxy/health").contains("503").then_some(())).await;
        let refused = proxy.kv().await.range(serializable("k")).await.expect_err("there is nobody");
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert!(refused.message().contains("reaches no member"), "{refused}");
        let id = rustix::process::Pid::from_child(&proxy.process);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).expect("a child can be signalled");
        let ended = eventually("its end", async || proxy.process.try_wait().expect("a child can be awaited")).await;
        assert_eq!(ended.code(), Some(0));
    });
}
