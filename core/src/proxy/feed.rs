//! What changes in the store, told by one member on one stream: one watch for each range that anybody wants to know of.
//!
//! ```text
//!   member ══ one stream ══►  line of "a"        ──► watches of clients, answers that are kept
//!                             line of "b".."c"   ──► …
//!          ── progress ────►  everything up to here has been told, of all lines
//! ```
//!
//! When the member goes, or has no leader, another one goes on with each line where it was. A question for progress is answered
//! once every watch of the stream has been told everything; one is under way at a time, and whoever asks meanwhile waits for
//! the next.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::stream;
use openraft_rt::{Instant as _, Select2};
use tokio::sync::{Notify, mpsc};
use tonic::Streaming;
use tonic::metadata::MetadataValue;

use super::line::{Line, LineKey};
use super::upstream::{Link, Upstream};
use super::wake::Wake;
use crate::api::HAS_LEADER;
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{
    ResponseHeader, WatchCancelRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::runtime::Runtime;
use crate::watermark::{Stop, Watermark};

/// How long to wait before another member is tried.
const BACKOFF: Duration = Duration::from_millis(100);

/// How long to wait until a member that lags is asked again how far it is.
const PAUSE: Duration = Duration::from_millis(5);

/// For so many times the silence that is allowed, no member may be found that has a leader, before those are told who want one.
const LEADERLESS: u32 = 3;

/// Stands for all watches of a stream.
const ALL: i64 = -1;

/// The lines of a proxy. Clones are the same.
pub(super) struct Feed<R: Runtime> {
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Clone for Feed<R> {
    fn clone(&self) -> Self {
        Feed { shared: self.shared.clone() }
    }
}

struct Shared<R: Runtime> {
    upstream: Upstream<R>,
    /// How long the member may be silent before it is asked for progress, and then again before it is given up.
    silence_max: Duration,
    lines: Mutex<Lines>,
    /// What was answered last to a question for progress. A member may lag behind the one before.
    position: AtomicI64,
    /// How many questions for progress have been answered.
    answered: Watermark,
    /// There is something to be told of, or whether there is a leader.
    wanted: Notify,
    /// Since when no member tells, if that is so although there is something to be told of.
    lost: Mutex<Option<R::Instant>>,
    lost_changed: Notify,
    events: AtomicU64,
}

#[derive(Default)]
struct Lines {
    by_range: BTreeMap<LineKey, Arc<Line>>,
    by_id: BTreeMap<i64, Arc<Line>>,
    last_id: i64,
    /// The way to the member, while there is one.
    requests: Option<mpsc::UnboundedSender<WatchRequest>>,
    /// Questions for progress that were begun, and whether the last of them is under way.
    rounds: u64,
    under_way: bool,
    /// Whether another one is to follow.
    another: bool,
    /// How many want to know whether there is a leader, whatever else is wanted.
    leader_wanted: u64,
    /// Of the last response.
    header: ResponseHeader,
}

/// Somebody wants to know whether there is a leader.
struct LeaderWanted<R: Runtime>(Feed<R>);

impl<R: Runtime> Drop for LeaderWanted<R> {
    fn drop(&mut self) {
        self.0.lock().leader_wanted -= 1;
    }
}

impl<R: Runtime> Feed<R> {
    /// Starts a feed, which ends when it is told to.
    pub(super) fn start(upstream: Upstream<R>, silence_max: Duration, stop: Stop) -> Self {
        let feed = Feed {
            shared: Arc::new(Shared {
                upstream,
                silence_max,
                lines: Mutex::default(),
                position: AtomicI64::new(0),
                answered: Watermark::default(),
                wanted: Notify::new(),
                lost: Mutex::new(None),
                lost_changed: Notify::new(),
                events: AtomicU64::new(0),
            }),
        };
        let running = feed.clone();
        drop(R::spawn(async move {
            let _: Select2<(), ()> = R::select2(stop.stopped(), running.run()).await;
        }));
        feed
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.shared.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to this revision has been told of all lines, by what was answered last to a question for progress.
    pub(super) fn position(&self) -> i64 {
        self.shared.position.load(Ordering::Acquire)
    }

    /// The header of a response at a revision.
    pub(super) fn header(&self, revision: i64) -> ResponseHeader {
        ResponseHeader { revision, ..self.lock().header }
    }

    /// How many events members have told.
    pub(super) fn events(&self) -> u64 {
        self.shared.events.load(Ordering::Relaxed)
    }

    /// How many watches clients have.
    pub(super) fn watches(&self) -> u64 {
        self.lock().by_id.values().map(|line| line.watches()).sum()
    }

    /// How many lines there are.
    pub(super) fn lines(&self) -> usize {
        self.lock().by_range.len()
    }

    /// The line of a range, if there is one.
    pub(super) fn find(&self, range: &LineKey) -> Option<Arc<Line>> {
        self.lock().by_range.get(range).cloned()
    }

    /// The line of a range, for who keeps answers. If there is none, one that is told what follows a revision.
    pub(super) fn line(&self, range: LineKey, upto: i64) -> Arc<Line> {
        let line = self.lock().line(range, upto);
        self.shared.wanted.notify_one();
        line
    }

    /// The line of a range, on which a watch is woken from now on. If there is none, one that is told what follows a revision; 0:
    /// what is new to the member.
    pub(super) fn join(&self, range: LineKey, upto: i64, wake: &Arc<Wake>, id: i64) -> Arc<Line> {
        let mut lines = self.lock();
        let line = lines.line(range, upto);
        // Under the lock, where nobody can take it for idle.
        line.join(wake, id);
        drop(lines);
        self.shared.wanted.notify_one();
        line
    }

    /// Somebody has ceased to want a line. It ends, if that was the last.
    pub(super) fn release(&self, line: &Arc<Line>) {
        let mut lines = self.lock();
        // Under the lock, where nobody can find it.
        let is_known = lines.by_id.contains_key(&line.id);
        if is_known && line.is_idle() {
            lines.remove(line);
            lines.send(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: line.id }));
        }
    }

    /// Asks how far the member is. The number of the question: its answer comes after everything that has happened by now, as
    /// far as the member knows.
    pub(super) fn ask(&self) -> u64 {
        let question = self.lock().ask();
        self.shared.wanted.notify_one();
        question
    }

    /// Resolves once a question has been answered.
    pub(super) async fn answered(&self, question: u64) {
        self.shared.answered.reached(question).await;
    }

    /// Whether a question has been answered.
    pub(super) fn is_answered(&self, question: u64) -> bool {
        self.shared.answered.get() >= question
    }

    /// Resolves once everything up to a revision has been told.
    pub(super) async fn reach(&self, revision: i64) {
        while self.position() < revision {
            let question = self.ask();
            self.answered(question).await;
            if self.position() < revision {
                R::sleep(PAUSE).await;
            }
        }
    }

    async fn leaderless(&self) {
        let Shared { lost, lost_changed, silence_max, .. } = &*self.shared;
        loop {
            let mut changed = std::pin::pin!(lost_changed.notified());
            changed.as_mut().enable();
            let since = *lost.lock().unwrap_or_else(PoisonError::into_inner);
            match since.map(|since| since + *silence_max * LEADERLESS) {
                None => changed.await,
                Some(over) if over <= R::Instant::now() => return,
                Some(over) => {
                    let _: Select2<(), ()> = R::select2(changed, R::sleep_until(over)).await;
                }
            }
        }
    }

    /// Resolves once no member that has a leader has been found for a while.
    pub(super) async fn leader_lost(self) {
        self.lock().leader_wanted += 1;
        let wanted = LeaderWanted(self);
        wanted.0.shared.wanted.notify_one();
        wanted.0.leaderless().await;
    }

    /// Whether a member tells, or has nothing to.
    fn tells(&self, tells: bool) {
        let Shared { lost, lost_changed, .. } = &*self.shared;
        let mut lost = lost.lock().unwrap_or_else(PoisonError::into_inner);
        if lost.is_some() == tells {
            *lost = (!tells).then(R::Instant::now);
            lost_changed.notify_waiters();
        }
    }

    async fn run(self) {
        loop {
            while self.is_idle() {
                self.tells(true);
                self.shared.wanted.notified().await;
            }
            if let Ok(link) = self.shared.upstream.link().await {
                if !self.follow(&link).await {
                    continue;
                }
                link.give_up();
            }
            self.tells(false);
            R::sleep(BACKOFF).await;
        }
    }

    /// Whether nobody wants to know anything.
    fn is_idle(&self) -> bool {
        let lines = self.lock();
        let asked = lines.rounds > self.shared.answered.get() || lines.another;
        lines.by_id.is_empty() && lines.leader_wanted == 0 && !asked
    }

    /// Follows one member's stream to its end. Whether it has failed.
    async fn follow(&self, link: &Link) -> bool {
        let opened = R::timeout(self.shared.silence_max, self.open(link.clone())).await;
        let failed = match opened {
            Ok(Ok(responses)) => {
                // It has a leader, else it would have refused; and it may be a while until there is something to tell.
                self.tells(true);
                self.listen(responses).await
            }
            Ok(Err(status)) => {
                tracing::info!(%status, "a member tells the proxy nothing");
                true
            }
            Err(_) => true,
        };
        let mut lines = self.lock();
        (lines.requests, lines.under_way) = (None, false);
        lines.by_id.values().for_each(|line| line.lost());
        failed
    }

    async fn open(&self, link: Link) -> Result<Streaming<WatchResponse>, tonic::Status> {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        {
            let mut lines = self.lock();
            lines.requests = Some(requests);
            let creates: Vec<RequestUnion> = lines.by_id.values().map(|line| create(line)).collect();
            creates.into_iter().for_each(|create| lines.send(create));
            if lines.rounds > self.shared.answered.get() || lines.another {
                // Whoever waits for an answer of the member before has it from this one.
                lines.rounds += u64::from(std::mem::take(&mut lines.another));
                lines.begin_round();
            }
        }
        let mut request = tonic::Request::new(stream::poll_fn(move |context| receiver.poll_recv(context)));
        // The stream ends when its member has no leader.
        request.metadata_mut().insert(HAS_LEADER, MetadataValue::from_static("true"));
        let mut client = WatchClient::new(link).max_decoding_message_size(usize::MAX);
        Ok(client.watch(request).await?.into_inner())
    }

    /// Listens until the stream breaks, or nobody wants to know anything any more. Whether it has failed.
    async fn listen(&self, mut responses: Streaming<WatchResponse>) -> bool {
        let mut suspected = None;
        loop {
            match R::timeout(self.shared.silence_max, responses.message()).await {
                Ok(Ok(Some(response))) => {
                    self.tells(true);
                    self.told(response);
                }
                Ok(ended) => {
                    tracing::info!(?ended, "a member has ceased to tell the proxy what changes");
                    return true;
                }
                Err(_) if suspected.is_some_and(|question| !self.is_answered(question)) => {
                    tracing::info!("a member tells the proxy nothing any more");
                    return true;
                }
                Err(_) => suspected = Some(self.ask()),
            }
            if self.is_idle() {
                return false;
            }
        }
    }

    fn told(&self, response: WatchResponse) {
        let mut lines = self.lock();
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if let Some(header) = response.header {
            lines.header = header;
        }
        if response.watch_id == ALL && !response.created && !response.canceled {
            lines.by_id.values().for_each(|line| line.settle(revision));
            self.shared.position.store(revision, Ordering::Release);
            let round = lines.rounds;
            lines.under_way = false;
            if std::mem::take(&mut lines.another) {
                lines.rounds += 1;
                lines.begin_round();
            }
            drop(lines);
            self.shared.answered.raise(round);
            return;
        }
        let Some(line) = lines.by_id.get(&response.watch_id).cloned() else { return };
        if response.canceled {
            lines.remove(&line);
        }
        drop(lines);
        if response.canceled {
            line.end(response);
        } else if response.created {
            line.created(revision);
        } else {
            self.shared.events.fetch_add(response.events.len() as u64, Ordering::Relaxed);
            line.told(response.events, response.header.unwrap_or_default());
            // What was kept of it may be gone.
            self.release(&line);
        }
    }
}

impl Lines {
    fn line(&mut self, range: LineKey, upto: i64) -> Arc<Line> {
        if let Some(line) = self.by_range.get(&range) {
            return line.clone();
        }
        self.last_id += 1;
        let line = Arc::new(Line::new(self.last_id, range.clone(), upto));
        self.by_range.insert(range, line.clone());
        self.by_id.insert(line.id, line.clone());
        self.send(create(&line));
        line
    }

    fn send(&self, request: RequestUnion) {
        if let Some(requests) = &self.requests {
            // Without a receiver the stream has broken, and the next one begins anew.
            let _ = requests.send(WatchRequest { request_union: Some(request) });
        }
    }

    fn remove(&mut self, line: &Arc<Line>) {
        self.by_id.remove(&line.id);
        self.by_range.remove(&line.range);
    }

    fn ask(&mut self) -> u64 {
        if self.under_way {
            self.another = true;
            return self.rounds + 1;
        }
        self.rounds += 1;
        self.begin_round();
        self.rounds
    }

    fn begin_round(&mut self) {
        if self.requests.is_some() {
            self.send(RequestUnion::ProgressRequest(WatchProgressRequest {}));
            self.under_way = true;
        }
    }
}

fn create(line: &Line) -> RequestUnion {
    RequestUnion::CreateRequest(WatchCreateRequest {
        key: line.range.key.clone(),
        range_end: line.range.range_end.clone(),
        prev_kv: line.range.prev_kv,
        start_revision: line.resumes_at(),
        watch_id: line.id,
        ..WatchCreateRequest::default()
    })
}
