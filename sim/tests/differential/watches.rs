//! Watches of the same past and present at real etcd and at the server: the same events, and the same ends.
//!
//! How events are parted into responses is each server's own affair, so what is compared is what a watch is told in all.
//! The model says when that is everything.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::stream::poll_fn;
use openraft::AsyncRuntime as _;
use seedbed_core::grpc::Channel;
use seedbed_core::runtime::tokio::TokioRuntime;
use seedbed_proto::etcdserverpb::watch_client::WatchClient;
use seedbed_proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_proto::etcdserverpb::{WatchCancelRequest, WatchCreateRequest, WatchRequest, WatchResponse};
use seedbed_proto::mvccpb::event::EventType;
use seedbed_proto::mvccpb::{Event, KeyValue};
use seedbed_sim::checker::watch::wants;
use seedbed_sim::model::{Changed, Kv};
use tokio::sync::mpsc;
use tonic::Streaming;

use crate::shown::Shown;

/// After so long without a word something is missing: what a server tells, it tells within a moment.
const SILENCE: Duration = Duration::from_secs(20);

/// A stream of watches at one server, with what they were told.
pub(crate) struct Watches {
    who: &'static str,
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    told: BTreeMap<i64, Told>,
}

/// What a watch was told.
#[derive(Clone, Debug, Default, PartialEq)]
struct Told {
    events: Vec<Event>,
    /// The revision that its history was compacted at, if that has ended it.
    compacted: Option<i64>,
}

impl Watches {
    /// Opens a stream by asking for a first watch, since etcd says nothing before. [`answer`](Watches::answer) is its answer.
    pub(crate) async fn open(who: &'static str, channel: Channel, first: WatchCreateRequest) -> Watches {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        requests.send(create(first)).expect("the stream is open");
        let sent = poll_fn(move |context| receiver.poll_recv(context));
        let opening = TokioRuntime::timeout(SILENCE, WatchClient::new(channel).watch(sent)).await;
        let responses = opening.unwrap_or_else(|_| panic!("{who} opens no stream")).expect("a stream").into_inner();
        Watches { who, requests, responses, told: BTreeMap::new() }
    }

    /// Asks for another watch.
    pub(crate) fn ask(&self, request: WatchCreateRequest) {
        self.requests.send(create(request)).expect("the stream is open");
    }

    /// The answer to the last watch that was asked for, without what names a server.
    pub(crate) async fn answer(&mut self) -> WatchResponse {
        loop {
            let response = self.next().await.unwrap_or_else(|| panic!("{} does not answer", self.who));
            if response.created {
                if !response.canceled {
                    self.told.insert(response.watch_id, Told::default());
                }
                return response;
            }
            self.take(response);
        }
    }

    /// Cancels a watch. The answer, without what names a server; what the watch was told before is nobody's affair.
    pub(crate) async fn cancel(&mut self, watch_id: i64) -> WatchResponse {
        let request_union = Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id }));
        self.requests.send(WatchRequest { request_union }).expect("the stream is open");
        loop {
            let response = self.next().await.unwrap_or_else(|| panic!("{} does not cancel {watch_id}", self.who));
            if response.canceled && response.watch_id == watch_id {
                self.told.remove(&watch_id);
                return response;
            }
            self.take(response);
        }
    }

    /// Listens until the watches have been told as much as they are to be.
    async fn listen(&mut self, expected: &BTreeMap<i64, Told>) {
        let is_told = |told: &BTreeMap<i64, Told>| {
            expected.iter().all(|(id, expected)| {
                let told = &told[id];
                told.compacted.is_some() || expected.compacted.is_none() && told.events.len() >= expected.events.len()
            })
        };
        while !is_told(&self.told) {
            match self.next().await {
                Some(response) => self.take(response),
                None => panic!("{} has told only {}\nof {}", self.who, Shown(&self.told), Shown(expected)),
            }
        }
    }

    fn take(&mut self, response: WatchResponse) {
        let told = self.told.get_mut(&response.watch_id).unwrap_or_else(|| panic!("{}: {response:?}", self.who));
        if response.canceled {
            told.compacted = Some(response.compact_revision);
        }
        told.events.extend(response.events);
    }

    /// None, if there is none for a long time.
    async fn next(&mut self) -> Option<WatchResponse> {
        let message = TokioRuntime::timeout(SILENCE, self.responses.message()).await.ok()?;
        let mut response = message.expect("a response").expect("the stream goes on");
        let header = response.header.as_mut().expect("every response has a header");
        assert!(header.cluster_id != 0 && header.member_id != 0 && header.raft_term != 0, "{}: {header:?}", self.who);
        (header.cluster_id, header.member_id, header.raft_term) = (1, 1, 1);
        Some(response)
    }
}

fn create(request: WatchCreateRequest) -> WatchRequest {
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(request)) }
}

/// Watches that have been created at both servers, by number, each with the compact revision at that time.
pub(crate) type Created = BTreeMap<i64, (WatchCreateRequest, i64)>;

/// Listens until the watches have been told what they are to be, now that the store holds `state`. How many events that was.
///
/// # Panics
/// If they are told something else.
pub(crate) async fn compare(state: &Kv, created: &Created, parties: &mut [Watches; 2]) -> usize {
    let changes = state.changes();
    let expected: BTreeMap<i64, Told> =
        created.iter().map(|(id, (request, compacted))| (*id, told(&changes, request, *compacted))).collect();
    for party in parties {
        party.listen(&expected).await;
        for (id, expected) in &expected {
            let told = &party.told[id];
            let request = &created[id].0;
            assert_eq!(told, expected, "{}: watch {id}, {}", party.who, Shown(request));
        }
    }
    expected.values().map(|told| told.events.len()).sum()
}

/// What a watch is told that was created when history was compacted up to a revision.
fn told(changes: &[Changed], request: &WatchCreateRequest, compacted: i64) -> Told {
    if request.start_revision < compacted {
        return Told { events: Vec::new(), compacted: Some(compacted) };
    }
    let event = |change: &Changed| Event {
        r#type: if change.after.is_some() { EventType::Put } else { EventType::Delete } as i32,
        kv: Some(change.after.clone().unwrap_or_else(|| KeyValue {
            key: change.key.clone(),
            mod_revision: change.revision,
            ..KeyValue::default()
        })),
        prev_kv: change.before.clone().filter(|_| request.prev_kv && change.revision > compacted),
    };
    let wanted = |change: &&Changed| change.revision >= request.start_revision && wants(request, change);
    Told { events: changes.iter().filter(wanted).map(event).collect(), compacted: None }
}
