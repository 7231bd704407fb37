//! One client that watches: it opens a stream to a member, has several watches on it, and goes elsewhere when it breaks.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream;
use madsim::runtime::NodeHandle;
use madsim::time::{sleep, timeout};
use prost::Message;
use rand_pcg::Pcg64;
use seedbed_core::grpc::{Channel, ChannelOptions};
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::watch_client::WatchClient;
use seedbed_proto::etcdserverpb::watch_create_request::FilterType;
use seedbed_proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_proto::etcdserverpb::{
    WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::log::{Heard, StreamLog, WatchLog, Word};
use super::{End, POLL, Waiting};
use crate::client::Role;
use crate::clock::true_now_ns;
use crate::cluster::Roster;
use crate::network::Network;
use crate::plan::Plan;
use crate::proxies::is_proxy;
use crate::rng::{self, Draw as _};
use crate::runtime::{MadsimRuntime, create_node};
use crate::trace;

/// How long it waits for a connection, and for a stream on it.
const PATIENCE: Duration = Duration::from_millis(800);
/// How long it waits after a stream has ended.
const BACKOFF_MS: [u64; 2] = [10, 150];
/// How long it leaves a stream alone before it does something.
const IDLE_MS: [u64; 2] = [5, 250];
/// How long it does not read, when it is slow.
const SLOW_MS: [u64; 2] = [50, 900];
/// What may be under way to it that it has not read, on half of its streams: a few events, so that the member notices when it
/// is slow.
const WINDOW_BYTES: [u64; 2] = [100, 2_000];
/// Watches on one stream at most.
const WATCHES_MAX: usize = 5;
/// For how many idle moments in a row a stream may be silent, though it is asked for progress.
const SILENCES_MAX: u32 = 25;
/// The metadata by which a client asks to be sent away by a member that has no leader.
const HAS_LEADER: &str = "hasleader";

/// Stands for all watches of a stream.
const ALL_WATCHES: i64 = -1;

/// The number of the watch of everything that each has in the end: one that no other watch can have.
const LAST_WATCH: i64 = 1_000_000;

/// A client that watches.
pub(super) struct Watcher {
    nth: u32,
    client: u32,
    rng: Pcg64,
    keys: u32,
    network: Network,
    roster: Roster,
    /// Where the tasks of its connections run.
    home: NodeHandle,
    log: Rc<RefCell<WatchLog>>,
    end: Rc<End>,
    /// The greatest revision that it has heard of.
    seen: i64,
    /// Watches that have ended with their stream, to be taken up again.
    broken_off: Vec<WatchCreateRequest>,
    /// From where it watches everything in the end, once a member has told it.
    everything_from: Option<i64>,
}

/// A stream that is open.
struct Stream {
    place: usize,
    member: NodeId,
    requests: mpsc::UnboundedSender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    /// Asked for and not yet answered, in order.
    creating: Vec<WatchCreateRequest>,
    /// By number: as it would have to be asked for to go on.
    watches: BTreeMap<i64, WatchCreateRequest>,
    /// How far the whole stream is, as it was told last.
    progress: i64,
    /// Whether the last watch has been told by itself how far it is.
    noticed: bool,
}

/// The stream is of no use any more.
struct Broken;

impl Watcher {
    pub(super) fn new(
        nth: u32,
        plan: &Plan,
        network: Network,
        roster: &dyn Fn(u32) -> Roster,
        log: Rc<RefCell<WatchLog>>,
        end: Rc<End>,
    ) -> Self {
        let client = Role::Watcher { nth }.number(&plan.workload);
        let roster = roster(client);
        Watcher {
            nth,
            client,
            rng: rng::stream(plan.seed, "watcher", u64::from(nth)),
            keys: plan.workload.keys,
            network,
            roster,
            home: create_node(&format!("w{nth}")),
            log,
            end,
            seen: 1,
            broken_off: Vec::new(),
            everything_from: None,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            let member = self.any_member();
            if let Ok(mut stream) = self.open(member).await {
                let lived = self.live(&mut stream).await;
                let Stream { watches, .. } = stream;
                self.broken_off = watches.into_values().collect();
                if lived.is_ok() {
                    self.set(Waiting::Done);
                    return;
                }
                self.set(Waiting::Under);
            }
            let [least, most] = BACKOFF_MS;
            sleep(Duration::from_millis(self.rng.between(least, most))).await;
        }
    }

    fn set(&self, waiting: Waiting) {
        self.end.waiting.borrow_mut()[self.nth as usize] = waiting;
    }

    /// One of those that are well, if that is known already.
    fn any_member(&mut self) -> NodeId {
        let well = self.end.members.borrow();
        let roster = self.roster.borrow();
        // Proxies find those that are well by themselves.
        let stays = well.is_empty() || roster.first().is_some_and(|first| is_proxy(first.0));
        *self.rng.pick(if stays { &roster } else { &well })
    }

    async fn open(&mut self, member: NodeId) -> io::Result<Stream> {
        let needs_leader = self.rng.chance(300);
        let window = self.rng.chance(500).then(|| self.rng.between(WINDOW_BYTES[0], WINDOW_BYTES[1]) as u32);
        let connecting = async {
            let stream = self.network.connect(self.client, member).await?;
            let authority = format!("m{member}").parse().expect("a member's name is one of a host");
            let options = ChannelOptions { window_bytes: window, ..ChannelOptions::default() };
            let connecting = Channel::connect_with::<MadsimRuntime>(stream, authority, options);
            let channel = self.home.spawn(connecting).await;
            let channel = channel.map_err(io::Error::other)?.map_err(io::Error::other)?;
            let (requests, mut receiver) = mpsc::unbounded_channel();
            let mut sent = tonic::Request::new(stream::poll_fn(move |context| receiver.poll_recv(context)));
            if needs_leader {
                sent.metadata_mut().insert(HAS_LEADER, "true".parse().expect("it is plain"));
            }
            let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
            let responses = client.watch(sent).await.map_err(io::Error::other)?.into_inner();
            Ok::<_, io::Error>((requests, responses))
        };
        let (requests, responses) = timeout(PATIENCE, connecting).await??;
        let mut log = self.log.borrow_mut();
        log.streams.push(StreamLog { watcher: self.nth, member: member.0, words: Vec::new() });
        let place = log.streams.len() - 1;
        let (creating, watches) = (Vec::new(), BTreeMap::new());
        Ok(Stream { place, member, requests, responses, creating, watches, progress: 0, noticed: false })
    }

    /// Uses a stream until it breaks, or until this is the end and everything has been told.
    async fn live(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        // On some of the last streams nothing is that could wake the member but the last write.
        let alone = !self.end.members.borrow().is_empty() && self.rng.chance(500);
        for request in std::mem::take(&mut self.broken_off).into_iter().filter(|_| !alone) {
            if stream.creating.len() < WATCHES_MAX && self.rng.chance(700) {
                self.create(stream, request)?;
            }
        }
        if stream.creating.is_empty() && !alone {
            let request = self.any_watch();
            self.create(stream, request)?;
        }
        let mut silences = 0;
        while self.end.members.borrow().is_empty() {
            // Now and then in the middle of what it is told.
            let [least, most] = if self.rng.chance(150) { [0, 0] } else { IDLE_MS };
            let idle = Duration::from_millis(self.rng.between(least, most));
            match timeout(idle, self.hear(stream)).await {
                Ok(heard) => {
                    heard?;
                    silences = 0;
                }
                Err(_) => {
                    silences += 1;
                    if silences > SILENCES_MAX {
                        return Err(Broken);
                    }
                    self.act(stream).await?;
                }
            }
        }
        self.end(stream).await
    }

    /// Does something or other.
    async fn act(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        match self.rng.between(0, 9) {
            0..=3 => self.ask(stream, RequestUnion::ProgressRequest(WatchProgressRequest {})),
            4 | 5 if stream.watches.len() + stream.creating.len() < WATCHES_MAX => {
                let request = self.any_watch();
                self.create(stream, request)?;
                // In one breath, so that the member has not told anything yet.
                match self.rng.between(0, 3) {
                    0 => self.ask(stream, RequestUnion::ProgressRequest(WatchProgressRequest {})),
                    1 => {
                        let request = self.any_watch();
                        self.create(stream, request)
                    }
                    _ => Ok(()),
                }
            }
            6 => {
                let ids: Vec<i64> = stream.watches.keys().copied().collect();
                if ids.is_empty() {
                    return Ok(());
                }
                let watch_id = *self.rng.pick(&ids);
                self.ask(stream, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))
            }
            7 | 8 => {
                let [least, most] = SLOW_MS;
                sleep(Duration::from_millis(self.rng.between(least, most))).await;
                Ok(())
            }
            9 if self.rng.chance(300) => Err(Broken),
            _ => Ok(()),
        }
    }

    /// Everything has been healed: watches everything at a member that is well, waits for the last write, and then hears that
    /// it has been told all.
    async fn end(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        if !is_proxy(stream.member.0) && !self.end.members.borrow().contains(&stream.member) {
            return Err(Broken);
        }
        while !stream.creating.is_empty() {
            self.hear(stream).await?;
        }
        let start_revision = self.everything_from.unwrap_or_default();
        let progress_notify = self.rng.chance(500);
        let last = WatchCreateRequest { watch_id: LAST_WATCH, start_revision, progress_notify, ..everything() };
        self.create(stream, last)?;
        while !stream.watches.contains_key(&LAST_WATCH) {
            self.hear(stream).await?;
        }
        self.everything_from.get_or_insert(next_of(stream, LAST_WATCH)?);
        self.set(Waiting::Ready(stream.member));
        // Nothing is asked meanwhile: what it is told it is told by itself.
        let last = loop {
            match self.end.last_write.get() {
                Some(last) if next_of(stream, LAST_WATCH)? > last => break last,
                _ => drop(timeout(POLL, self.hear(stream)).await.map_or(Ok(()), |heard| heard)?),
            }
        };
        stream.noticed = false;
        while progress_notify && !stream.noticed {
            self.hear(stream).await?;
        }
        // Those of the future would keep the member from saying how far all are.
        let future = |request: &WatchCreateRequest| request.start_revision > last + 1;
        let ids: Vec<i64> = stream.watches.iter().filter(|(_, request)| future(request)).map(|(id, _)| *id).collect();
        for watch_id in ids {
            self.ask(stream, RequestUnion::CancelRequest(WatchCancelRequest { watch_id }))?;
        }
        self.ask(stream, RequestUnion::ProgressRequest(WatchProgressRequest {}))?;
        while stream.progress < last {
            self.hear(stream).await?;
        }
        Ok(())
    }

    fn create(&mut self, stream: &mut Stream, request: WatchCreateRequest) -> Result<(), Broken> {
        stream.creating.push(request.clone());
        self.ask(stream, RequestUnion::CreateRequest(request))
    }

    fn ask(&self, stream: &Stream, union: RequestUnion) -> Result<(), Broken> {
        let request = WatchRequest { request_union: Some(union) };
        self.note(stream, Heard::Asked(request.clone()));
        stream.requests.send(request).map_err(|_| Broken)
    }

    fn note(&self, stream: &Stream, heard: Heard) {
        self.log.borrow_mut().streams[stream.place].words.push(Word { at: true_now_ns(), heard });
    }

    /// Waits for a response, and takes it in. Nothing is lost if it is dropped before.
    async fn hear(&mut self, stream: &mut Stream) -> Result<(), Broken> {
        let told = match stream.responses.message().await {
            Ok(Some(told)) => told,
            ended => {
                tracing::debug!(watcher = self.nth, member = %stream.member, ?ended, "the stream has ended");
                return Err(Broken);
            }
        };
        let digest = trace::digest(&told.encode_to_vec());
        trace::record("watched", &[u64::from(self.nth), stream.member.0, told.watch_id as u64, digest]);
        let revision = told.header.as_ref().map_or(0, |header| header.revision);
        self.seen = self.seen.max(revision);
        let mut again = None;
        if told.created && !stream.creating.is_empty() {
            let request = stream.creating.remove(0);
            if !told.canceled {
                let start = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
                stream.watches.insert(told.watch_id, WatchCreateRequest { start_revision: start, ..request });
            }
        } else if told.canceled {
            let ended = stream.watches.remove(&told.watch_id);
            // What is left begins at the compacted revision.
            again = ended.filter(|_| told.compact_revision != 0);
            again.iter_mut().for_each(|request| request.start_revision = told.compact_revision);
        } else if told.events.is_empty() {
            if told.watch_id == ALL_WATCHES {
                stream.progress = revision;
            }
            stream.noticed |= told.watch_id == LAST_WATCH;
            let meant = |id: &i64| [ALL_WATCHES, *id].contains(&told.watch_id);
            for (_, request) in stream.watches.iter_mut().filter(|(id, _)| meant(id)) {
                request.start_revision = request.start_revision.max(revision + 1);
            }
        } else if !told.fragment
            && let Some(request) = stream.watches.get_mut(&told.watch_id)
            && let Some(last) = told.events.last().and_then(|event| event.kv.as_ref())
        {
            request.start_revision = last.mod_revision + 1;
        }
        self.note(stream, Heard::Told(told));
        again.map_or(Ok(()), |request| self.create(stream, request))
    }

    /// A watch that somebody might want.
    fn any_watch(&mut self) -> WatchCreateRequest {
        let (key, range_end) = match self.rng.between(0, 9) {
            0..=3 => (self.any_key(), Bytes::new()),
            4 | 5 => (self.any_key(), self.any_key()),
            6 | 7 => (self.any_key(), Bytes::from_static(b"\0")),
            _ => (Bytes::new(), Bytes::from_static(b"\0")),
        };
        let start_revision = match self.rng.between(0, 9) {
            0..=4 => 0,
            5..=7 => self.rng.between(1, self.seen as u64) as i64,
            8 => self.seen + self.rng.between(1, 40) as i64,
            _ => self.seen + self.rng.between(40, 400) as i64,
        };
        let filters = match self.rng.between(0, 9) {
            0 => vec![FilterType::Noput as i32],
            1 => vec![FilterType::Nodelete as i32],
            _ => Vec::new(),
        };
        WatchCreateRequest {
            key,
            range_end,
            start_revision,
            filters,
            prev_kv: self.rng.chance(400),
            progress_notify: self.rng.chance(500),
            fragment: self.rng.chance(400),
            watch_id: if self.rng.chance(200) { self.rng.between(1, 6) as i64 } else { 0 },
        }
    }

    fn any_key(&mut self) -> Bytes {
        format!("k{:03}", self.rng.between(0, u64::from(self.keys.max(1)) - 1)).into()
    }
}

/// Whatever happens from now on.
fn everything() -> WatchCreateRequest {
    WatchCreateRequest { range_end: Bytes::from_static(b"\0"), ..WatchCreateRequest::default() }
}

/// The first revision that a watch has not been told of.
fn next_of(stream: &Stream, watch_id: i64) -> Result<i64, Broken> {
    stream.watches.get(&watch_id).map(|request| request.start_revision).ok_or(Broken)
}
