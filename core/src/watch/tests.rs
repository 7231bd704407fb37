//! Watches of one member, as a client has them: over HTTP/2.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use openraft::AsyncRuntime;
use tokio::sync::mpsc;
use tonic::{Code, Streaming};

use super::WatchOptions;
use crate::grpc::{Channel, Tasks, serve_connection};
use crate::mvcc::PieceLimit;
use crate::node::Node;
use crate::node::testing::{alone, session};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, RequestOp, TxnRequest, WatchCancelRequest, WatchCreateRequest,
    WatchProgressRequest, WatchRequest, WatchResponse, request_op,
};
use crate::proto::mvccpb::event::EventType;
use crate::runtime::tokio::TokioRuntime;

/// One member and its clients.
struct World {
    node: Node<TokioRuntime>,
    kv: KvClient<Channel>,
}

impl World {
    async fn new(folder: &std::path::Path, watch: WatchOptions) -> World {
        let node = alone(folder, watch).await;
        let kv = KvClient::new(connect(&node).await);
        World { node, kv }
    }

    async fn put(&mut self, key: &str, value: &str) -> i64 {
        let request = PutRequest { key: bytes(key), value: bytes(value), ..PutRequest::default() };
        self.kv.put(request).await.unwrap().into_inner().header.unwrap().revision
    }

    async fn delete(&mut self, key: &str) {
        let request = DeleteRangeRequest { key: bytes(key), ..DeleteRangeRequest::default() };
        assert_eq!(self.kv.delete_range(request).await.unwrap().into_inner().deleted, 1);
    }

    async fn compact(&mut self, revision: i64) {
        self.kv.compact(CompactionRequest { revision, physical: true }).await.unwrap();
    }

    async fn watch(&self) -> Stream {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let requests_stream = stream::poll_fn(move |context| receiver.poll_recv(context));
        let responses = WatchClient::new(connect(&self.node).await).watch(requests_stream).await.unwrap().into_inner();
        Stream { requests: Some(requests), responses }
    }
}

async fn connect(node: &Node<TokioRuntime>) -> Channel {
    let (near, far) = tokio::io::duplex(4096);
    let routes = node.routes();
    drop(TokioRuntime::spawn(async move {
        serve_connection::<TokioRuntime, _>(far, routes, Tasks::default(), std::future::pending()).await
    }));
    Channel::connect::<TokioRuntime>(near, "member.test".parse().unwrap()).await.unwrap()
}

/// A stream of watches.
struct Stream {
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    responses: Streaming<WatchResponse>,
}

impl Stream {
    fn ask(&self, union: RequestUnion) {
        let requests = self.requests.as_ref().unwrap();
        requests.send(WatchRequest { request_union: Some(union) }).unwrap();
    }

    fn ask_for_progress(&self) {
        self.ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
    }

    async fn next(&mut self) -> WatchResponse {
        self.responses.message().await.unwrap().expect("the stream goes on")
    }

    /// Asks for a watch. Gives its number.
    async fn create(&mut self, request: WatchCreateRequest) -> i64 {
        let created = self.answer(request).await;
        assert!(created.created && !created.canceled && created.events.is_empty(), "{created:?}");
        created.watch_id
    }

    async fn answer(&mut self, request: WatchCreateRequest) -> WatchResponse {
        self.ask(RequestUnion::CreateRequest(request));
        self.next().await
    }

    async fn events(&mut self) -> Vec<String> {
        described(&self.next().await)
    }
}

/// Events as `revision: key = value`, or `revision: key -`, and what was before in brackets.
fn described(response: &WatchResponse) -> Vec<String> {
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).unwrap();
    let describe = |event: &crate::proto::mvccpb::Event| {
        let kv = event.kv.as_ref().unwrap();
        let change = match event.r#type() {
            EventType::Put => format!("= {}", text(&kv.value)),
            EventType::Delete => "-".to_owned(),
        };
        let before = event.prev_kv.as_ref().map_or(String::new(), |before| format!(" ({})", text(&before.value)));
        format!("{}: {} {change}{before}", kv.mod_revision, text(&kv.key))
    };
    response.events.iter().map(describe).collect()
}

fn bytes(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn all() -> WatchCreateRequest {
    WatchCreateRequest { range_end: bytes("\0"), ..WatchCreateRequest::default() }
}

fn one(key: &str) -> WatchCreateRequest {
    WatchCreateRequest { key: bytes(key), ..WatchCreateRequest::default() }
}

fn run<F: Future<Output = ()>>(options: WatchOptions, test: impl FnOnce(World) -> F) {
    let folder = tempfile::tempdir().unwrap();
    TokioRuntime::new(2).block_on(async {
        let world = World::new(folder.path(), options).await;
        let node = world.node.clone();
        test(world).await;
        node.stop().await.unwrap();
    });
}

#[test]
fn a_watch_is_told_of_what_comes_and_of_what_was() {
    run(WatchOptions::default(), |mut world| async move {
        world.put("a", "1").await;
        let mut stream = world.watch().await;
        assert_eq!(stream.create(one("a")).await, 0, "numbers begin with 0");
        world.put("b", "2").await;
        world.put("a", "3").await;
        assert_eq!(stream.events().await, ["4: a = 3"]);
        assert_eq!(stream.create(WatchCreateRequest { start_revision: 2, ..all() }).await, 1);
        assert_eq!(stream.events().await, ["2: a = 1", "3: b = 2", "4: a = 3"]);
        world.delete("a").await;
        let told = [stream.next().await, stream.next().await];
        assert_eq!(told.each_ref().map(|response| response.watch_id), [0, 1]);
        assert_eq!(told.each_ref().map(described), [["5: a -"], ["5: a -"]]);
        assert_eq!(told[0].header.unwrap().revision, 5);
    });
}

#[test]
fn ranges_filters_and_what_was_before() {
    run(WatchOptions::default(), |mut world| async move {
        let mut stream = world.watch().await;
        let between =
            WatchCreateRequest { key: bytes("a"), range_end: bytes("c"), prev_kv: true, ..Default::default() };
        let filters = |filter: FilterType| vec![filter as i32];
        let deletions = WatchCreateRequest { watch_id: 7, filters: filters(FilterType::Noput), ..all() };
        let puts = WatchCreateRequest { filters: filters(FilterType::Nodelete), ..one("a") };
        assert_eq!(
            [stream.create(between).await, stream.create(deletions).await, stream.create(puts).await],
            [0, 7, 1]
        );
        world.put("a", "1").await;
        let both = [stream.next().await, stream.next().await];
        assert_eq!(
            both.map(|response| (response.watch_id, described(&response))),
            [(0, vec!["2: a = 1".to_owned()]), (1, vec!["2: a = 1".to_owned()])]
        );
        world.put("c", "2").await;
        world.delete("a").await;
        let both = [stream.next().await, stream.next().await];
        assert_eq!(
            both.map(|response| (response.watch_id, described(&response))),
            [(0, vec!["4: a - (1)".to_owned()]), (7, vec!["4: a -".to_owned()])]
        );
    });
}

#[test]
fn a_watch_that_cannot_be_is_created_and_canceled_at_once() {
    run(WatchOptions::default(), |world| async move {
        let mut stream = world.watch().await;
        let empty = WatchCreateRequest { key: bytes("b"), range_end: bytes("a"), ..WatchCreateRequest::default() };
        let negative = WatchCreateRequest { start_revision: -3, ..all() };
        assert_eq!(stream.create(WatchCreateRequest { watch_id: 4, ..all() }).await, 4);
        let twice = WatchCreateRequest { watch_id: 4, ..all() };
        for (request, reason) in [(empty, "range is empty"), (negative, "is negative"), (twice, "duplicate watch ID")] {
            let refused = stream.answer(request).await;
            assert!(refused.created && refused.canceled && refused.watch_id == -1, "{refused:?}");
            assert!(refused.cancel_reason.contains(reason), "{refused:?}");
        }
    });
}

#[test]
fn a_canceled_watch_hears_nothing_more() {
    run(WatchOptions::default(), |mut world| async move {
        let mut stream = world.watch().await;
        let (one, other) = (stream.create(all()).await, stream.create(all()).await);
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 99 }));
        stream.ask(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: one }));
        let canceled = stream.next().await;
        assert!(canceled.canceled && canceled.watch_id == one && canceled.compact_revision == 0, "{canceled:?}");
        world.put("a", "1").await;
        let told = stream.next().await;
        assert_eq!((told.watch_id, described(&told)), (other, vec!["2: a = 1".to_owned()]));
    });
}

#[test]
fn who_wants_what_is_compacted_is_told_so() {
    run(WatchOptions::default(), |mut world| async move {
        for value in ["1", "2", "3"] {
            world.put("a", value).await;
        }
        world.delete("a").await;
        world.compact(5).await;
        let mut stream = world.watch().await;
        let id = stream.create(WatchCreateRequest { start_revision: 2, ..all() }).await;
        let canceled = stream.next().await;
        assert!(canceled.canceled && canceled.watch_id == id && canceled.compact_revision == 5, "{canceled:?}");
        assert_eq!(canceled.cancel_reason, "etcdserver: mvcc: required revision has been compacted");
        // The deletion at the compacted revision itself is still history, and what was before it is not.
        stream.create(WatchCreateRequest { start_revision: 5, prev_kv: true, ..all() }).await;
        assert_eq!(stream.events().await, ["5: a -"]);
    });
}

#[test]
fn the_future_is_told_from_its_start_on() {
    run(WatchOptions::default(), |mut world| async move {
        let mut stream = world.watch().await;
        stream.create(WatchCreateRequest { start_revision: 4, ..all() }).await;
        for value in ["1", "2", "3"] {
            world.put("a", value).await;
        }
        assert_eq!(stream.events().await, ["4: a = 3"]);
    });
}

#[test]
fn progress_is_told_when_all_watches_are_there_and_not_before() {
    let piece = PieceLimit { changes: 1, ..PieceLimit::default() };
    run(WatchOptions { piece, ..WatchOptions::default() }, |mut world| async move {
        for value in ["1", "2", "3"] {
            world.put("a", value).await;
        }
        let mut stream = world.watch().await;
        stream.ask(RequestUnion::CreateRequest(WatchCreateRequest { start_revision: 2, ..one("a") }));
        stream.ask_for_progress();
        assert!(stream.next().await.created);
        for expected in ["2: a = 1", "3: a = 2", "4: a = 3"] {
            assert_eq!(stream.events().await, [expected]);
        }
        let progress = stream.next().await;
        assert_eq!((progress.watch_id, progress.header.unwrap().revision, progress.events.len()), (-1, 4, 0));
        // One that has not begun is behind what could be told.
        stream.create(WatchCreateRequest { start_revision: 6, ..one("b") }).await;
        stream.ask_for_progress();
        world.put("a", "4").await;
        assert_eq!(stream.events().await, ["5: a = 4"]);
        let progress = stream.next().await;
        assert_eq!((progress.watch_id, progress.header.unwrap().revision), (-1, 5));
    });
}

#[test]
fn a_quiet_watch_is_told_of_progress_by_itself() {
    let options = WatchOptions { progress_interval: Duration::from_millis(20), ..WatchOptions::default() };
    run(options, |mut world| async move {
        let mut stream = world.watch().await;
        let id = stream.create(WatchCreateRequest { progress_notify: true, ..one("quiet") }).await;
        let revision = world.put("a", "1").await;
        loop {
            let progress = stream.next().await;
            assert!(progress.watch_id == id && progress.events.is_empty() && !progress.canceled, "{progress:?}");
            if progress.header.unwrap().revision == revision {
                break;
            }
        }
    });
}

#[test]
fn one_revision_is_told_whole_or_in_fragments() {
    run(WatchOptions { fragment_bytes: 300, ..WatchOptions::default() }, |mut world| async move {
        let mut stream = world.watch().await;
        let whole = stream.create(all()).await;
        let parts = stream.create(WatchCreateRequest { fragment: true, ..all() }).await;
        let put = |key: usize| RequestOp {
            request: Some(request_op::Request::RequestPut(PutRequest {
                key: bytes(&format!("k{key}")),
                value: bytes(&"v".repeat(100)),
                ..PutRequest::default()
            })),
        };
        world.kv.txn(TxnRequest { success: (0..5).map(put).collect(), ..TxnRequest::default() }).await.unwrap();
        let told = stream.next().await;
        assert_eq!((told.watch_id, told.events.len(), told.fragment), (whole, 5, false));
        let mut told = Vec::new();
        loop {
            let part = stream.next().await;
            assert_eq!(part.watch_id, parts);
            told.extend(part.events.into_iter().map(|event| event.kv.unwrap().key));
            if !part.fragment {
                break;
            }
            assert!(told.len() < 5, "the last one is no fragment");
        }
        assert_eq!(told, ["k0", "k1", "k2", "k3", "k4"]);
    });
}

#[test]
fn who_has_nothing_more_to_ask_is_told_until_the_member_ends() {
    run(WatchOptions::default(), |mut world| async move {
        let mut stream = world.watch().await;
        stream.create(all()).await;
        stream.requests = None;
        world.put("a", "1").await;
        assert_eq!(stream.events().await, ["2: a = 1"]);
        world.node.end_streams();
        let ended = stream.responses.message().await.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: server stopped"));
    });
}

#[test]
fn a_client_that_does_not_read_misses_nothing() {
    let piece = PieceLimit { changes: 4, ..PieceLimit::default() };
    run(WatchOptions { piece, ..WatchOptions::default() }, |mut world| async move {
        let mut stream = world.watch().await;
        stream.create(all()).await;
        // More than HTTP/2's window and the connection hold.
        let value = "v".repeat(20_000);
        for key in 0..60 {
            world.put(&format!("k{key}"), &value).await;
        }
        let mut told = Vec::new();
        while told.len() < 60 {
            told.extend(stream.next().await.events.into_iter().map(|event| event.kv.unwrap().mod_revision));
        }
        assert_eq!(told, (2..62).collect::<Vec<i64>>());
    });
}

#[test]
fn a_watch_that_comes_while_others_are_told_misses_nothing() {
    let piece = PieceLimit { changes: 2, ..PieceLimit::default() };
    run(WatchOptions { piece, ..WatchOptions::default() }, |mut world| async move {
        for value in ["1", "2", "3", "4"] {
            world.put("a", value).await;
        }
        let mut stream = world.watch().await;
        // In one breath: the third comes while a piece is on its way to the second.
        let from = |start_revision| WatchCreateRequest { start_revision, prev_kv: true, ..one("a") };
        for start in [4, 4, 2] {
            stream.ask(RequestUnion::CreateRequest(from(start)));
        }
        stream.ask_for_progress();
        let mut told: BTreeMap<i64, Vec<String>> = BTreeMap::new();
        loop {
            let response = stream.next().await;
            told.entry(response.watch_id).or_default().extend(described(&response));
            if response.watch_id == -1 {
                break;
            }
        }
        assert_eq!(told[&0], ["4: a = 3 (2)", "5: a = 4 (3)"]);
        assert_eq!(told[&1], told[&0]);
        assert_eq!(told[&2], ["2: a = 1", "3: a = 2 (1)", "4: a = 3 (2)", "5: a = 4 (3)"]);
    });
}

#[test]
fn a_watch_that_is_given_a_number_anew_is_not_told_what_the_other_wanted() {
    run(WatchOptions::default(), |mut world| async move {
        world.put("a", "1").await;
        world.put("b", "2").await;
        let mut session = session(&world.node, WatchOptions::default());
        let create = |request| WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) };
        let numbered = |watch_id, request| create(WatchCreateRequest { watch_id, ..request });
        for watch_id in [5, 7] {
            session.handle(numbered(watch_id, WatchCreateRequest { start_revision: 2, ..all() }));
            assert!(session.next_response().unwrap().unwrap().created);
        }
        let first = session.next_response().unwrap().unwrap();
        assert_eq!((first.watch_id, described(&first).len()), (5, 2));
        // The same piece of history is on its way to the other one.
        let cancel = RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 7 });
        session.handle(WatchRequest { request_union: Some(cancel) });
        session.handle(numbered(7, one("b")));
        assert!(session.next_response().unwrap().unwrap().canceled);
        assert!(session.next_response().unwrap().unwrap().created);
        assert_eq!(session.next_response().unwrap(), None);
        world.put("b", "3").await;
        let later: Vec<_> = std::iter::from_fn(|| session.next_response().unwrap()).collect();
        let told: Vec<_> = later.iter().map(|response| (response.watch_id, described(response))).collect();
        assert_eq!(told, [(5, vec!["4: b = 3".to_owned()]), (7, vec!["4: b = 3".to_owned()])]);
    });
}

#[test]
fn any_number_will_do_for_a_watch() {
    run(WatchOptions::default(), |mut world| async move {
        let mut stream = world.watch().await;
        for watch_id in [i64::MAX, i64::MIN] {
            assert_eq!(stream.create(WatchCreateRequest { watch_id, ..all() }).await, watch_id);
        }
        world.put("a", "1").await;
        assert_eq!([stream.next().await.watch_id, stream.next().await.watch_id], [i64::MIN, i64::MAX]);
    });
}
