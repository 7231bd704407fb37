//! Watchers that do not read cost a member a bounded share of its memory, and miss nothing.

mod servers;

use std::fs;

use bytes::Bytes;
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use seedbed_core::proto::etcdserverpb::watch_client::WatchClient;
use seedbed_core::proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_core::proto::etcdserverpb::{PutRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use tonic::Streaming;

use self::servers::{Cluster, Server, eventually, run};

const WATCHERS: u64 = 12;
const PUTS: u64 = 1_024;
const VALUE_BYTES: usize = 64 << 10;
/// What a member may hold for one of them: a piece of history, an event that has been encoded, and what waits in its stream.
const BYTES_EACH: u64 = 3 << 20;

/// Memory of a server's process.
fn resident_bytes(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.id())).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("the kernel tells");
    let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number of kB");
    kib << 10
}

/// How much memory a member has come to need for so many puts.
async fn grown_by_puts(server: &Server) -> u64 {
    let before = resident_bytes(server);
    let kv = server.kv().await;
    let value = Bytes::from(vec![b'v'; VALUE_BYTES]);
    let puts = stream::iter(0..PUTS).map(|_| {
        let (mut kv, value) = (kv.clone(), value.clone());
        async move { kv.put(PutRequest { key: "k".into(), value, ..PutRequest::default() }).await }
    });
    let answers: Vec<_> = puts.buffer_unordered(8).collect().await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
    resident_bytes(server).saturating_sub(before)
}

/// A stream with one watch of the key, which is there.
async fn watch(server: &Server) -> Streaming<WatchResponse> {
    let mut client = WatchClient::new(eventually("a connection", async || server.channel().await).await);
    let create = WatchCreateRequest { key: "k".into(), ..WatchCreateRequest::default() };
    let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
    let requests = stream::iter([request]).chain(stream::pending());
    let mut told = client.watch(requests).await.expect("a member takes a watch").into_inner();
    assert!(told.message().await.expect("it goes on").is_some_and(|told| told.created));
    told
}

/// The revisions of so many events, which come in any number of responses.
async fn revisions(mut told: Streaming<WatchResponse>) -> Result<Vec<i64>, tonic::Status> {
    let mut revisions = Vec::new();
    while (revisions.len() as u64) < PUTS {
        let response = told.message().await?.ok_or_else(|| tonic::Status::aborted("the stream has ended"))?;
        revisions.extend(response.events.iter().filter_map(|event| Some(event.kv.as_ref()?.mod_revision)));
    }
    Ok(revisions)
}

#[test]
fn whoever_does_not_read_costs_little_and_misses_nothing() {
    run(async {
        // What a member keeps of its log in memory is not the question.
        let cluster = Cluster::start(1, &["--snapshot-count", "100"]).await;
        let server = &cluster.servers[0];
        // Twice: the first time a process comes to the size that it needs for its work.
        grown_by_puts(server).await;
        let without = grown_by_puts(server).await;
        let mut streams = Vec::new();
        for _ in 0..WATCHERS {
            streams.push(watch(server).await);
        }
        let with = grown_by_puts(server).await;
        let bound = without + WATCHERS * BYTES_EACH;
        let put = PUTS * VALUE_BYTES as u64;
        println!("{put} bytes were put: the member grew by {without} without watchers, by {with} with them");
        assert!(bound < without + put, "otherwise it would not show whether somebody queues");
        assert!(with < bound, "{with} of {bound} bytes, {without} of them without watchers");

        let first = 2 + 2 * PUTS as i64;
        let all: Vec<i64> = (first..first + PUTS as i64).collect();
        for told in try_join_all(streams.into_iter().map(revisions)).await.expect("no stream ends") {
            assert_eq!(told, all);
        }
    });
}
