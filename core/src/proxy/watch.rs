//! The Watch service of a proxy.
//!
//! ```text
//!   line of "a"   … | 7 | 9 | 12 |            what members have told, kept for a while
//!                         ▲    ▲
//!   watches             slow  most            each has the next revision that it is to be told of
//! ```
//!
//! Nothing queues for a client that does not read. One whose next revision is not kept any more, or that begins in the past, has
//! a stream of its own to a member until it is near again; so nobody misses anything, and nobody is sent away.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::{pending, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use openraft_rt::Select2;
use tokio::sync::mpsc;
use tonic::{Status, Streaming, async_trait};

use super::credentials;
use super::feed::Feed;
use super::line::{Line, LineKey};
use super::namespace::Namespace;
use super::seen::Seen;
use super::upstream::{Upstream, sent_on};
use super::wake::Wake;
use crate::api::{ApiError, wants_leader};
use crate::grpc::{Requests, Responses};
use crate::proto::etcdserverpb::watch_client::WatchClient;
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::{
    ResponseHeader, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use crate::proto::mvccpb::Event;
use crate::proto::mvccpb::event::EventType;
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watch::{Impossible, Interval, WatchOptions, Watcher, fragmented};
use crate::watermark::{Stop, StopWatch};

/// Stands for no watch, and for all of a stream.
const NO_WATCH: i64 = -1;

/// How long to wait until a member that could not be asked is asked again, or one that was not far enough.
const PAUSE: Duration = Duration::from_millis(50);

/// Watches, from members.
pub(super) struct WatchProxy<R: Runtime> {
    pub(super) upstream: Upstream<R>,
    pub(super) feed: Feed<R>,
    pub(super) namespace: Namespace,
    pub(super) options: WatchOptions,
    pub(super) stop: Stop,
}

#[async_trait]
impl<R: Runtime> Watch for WatchProxy<R> {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        if credentials::are_in(request.metadata()) {
            return self.pass(request).await;
        }
        let serving = Serving::<R> {
            seen: Seen::of(&request),
            needs_leader: wants_leader(request.metadata().as_ref()),
            requests: Requests::new(request.into_inner()),
            upstream: self.upstream.clone(),
            feed: self.feed.clone(),
            namespace: self.namespace.clone(),
            fragment_bytes: self.options.fragment_bytes,
            wake: Arc::default(),
            watches: BTreeMap::new(),
            catching_up: BTreeMap::new(),
            notifying: 0,
            joining: None,
            next_id: 0,
            ready: BTreeSet::new(),
            listened: false,
            out: VecDeque::new(),
            progress: None,
            notice: None,
            interval: Interval::new(self.options.progress_interval),
            stop: self.stop.watch(),
        };
        Ok(tonic::Response::new(serving.into_stream()))
    }
}

impl<R: Runtime> WatchProxy<R> {
    /// Has a member serve a stream.
    async fn pass(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<tonic::Response<BoxStream<'static, Result<WatchResponse, Status>>>, Status> {
        let (seen, namespace, stop) = (Seen::of(&request), self.namespace.clone(), self.stop.clone());
        let entered = self.namespace.clone();
        let request = credentials::sent_on(request, move |request: &mut WatchRequest| {
            if let Some(RequestUnion::CreateRequest(create)) = &mut request.request_union {
                entered.enter_watch(create);
            }
        });
        let mut client = WatchClient::new(self.upstream.link().await?).max_decoding_message_size(usize::MAX);
        let responses = sent_on(client.watch(request).await)?.into_inner().map(move |told| {
            let mut response = sent_on(told)?;
            seen.saw(response.header.as_ref().map_or(0, |header| header.revision));
            response.events.iter_mut().for_each(|event| namespace.leave_event(event));
            Ok(response)
        });
        Ok(tonic::Response::new(responses.take_until(async move { stop.stopped().await }).boxed()))
    }
}

/// One client's stream.
struct Serving<R: Runtime> {
    requests: Requests<WatchRequest>,
    seen: Seen,
    /// Whether the stream is to end while the members have no leader.
    needs_leader: bool,
    upstream: Upstream<R>,
    feed: Feed<R>,
    namespace: Namespace,
    fragment_bytes: usize,
    wake: Arc<Wake>,
    watches: BTreeMap<i64, ClientWatch>,
    /// What a member tells a watch alone, while it is not near.
    catching_up: BTreeMap<i64, mpsc::Receiver<WatchResponse>>,
    /// How many of the watches want to know of progress by themselves.
    notifying: usize,
    /// The line that a watch to be is waiting for.
    joining: Option<(Arc<Line>, i64)>,
    /// Where the search for a free number begins.
    next_id: i64,
    /// Watches that may have something to be told.
    ready: BTreeSet<i64>,
    /// Whether there was no request a moment ago.
    listened: bool,
    /// Responses that have not been sent.
    out: VecDeque<WatchResponse>,
    /// The question for progress that is to be answered to the client, and the one for watches that want to know by themselves.
    progress: Option<u64>,
    notice: Option<u64>,
    interval: Interval<R>,
    stop: StopWatch,
}

/// A watch of a client.
struct ClientWatch {
    watcher: Watcher,
    line: Arc<Line>,
    /// The first revision that it has not been told of.
    next: i64,
}

impl ClientWatch {
    /// Whether it has been told everything that its line has, and what is told of progress goes for that.
    fn is_near(&self) -> bool {
        self.line.is_settled() && matches!(self.line.piece(self.next), Ok(None))
    }
}

/// What a stream waits for while there is nothing to send.
enum Happened {
    Request(Result<WatchRequest, Status>),
    Woken,
    Told(i64, Option<WatchResponse>),
    Answered,
    Interval,
    NoLeader,
    Stopped,
}

impl<R: Runtime> Responses for Serving<R> {
    type Response = WatchResponse;

    async fn next(&mut self) -> Result<Option<WatchResponse>, Status> {
        loop {
            if self.stop.is_stopped() {
                return Err(ApiError::Stopped.into());
            }
            if let Some(response) = self.out.pop_front() {
                self.seen.saw(response.header.as_ref().map_or(0, |header| header.revision));
                return Ok(Some(response));
            }
            if self.notifies() && self.interval.has_passed() {
                self.notice.get_or_insert_with(|| self.feed.ask());
            }
            self.ready.append(&mut self.wake.take());
            // A request is not to wait for the end of history.
            if !self.ready.is_empty()
                && !std::mem::take(&mut self.listened)
                && let Some(request) = self.requests.take()
            {
                self.handle(request?).await;
                continue;
            }
            if let Some(id) = self.ready.pop_first() {
                self.deliver(id);
                continue;
            }
            self.tell_progress();
            if !self.out.is_empty() || !self.ready.is_empty() {
                continue;
            }
            let happened = self.happens().await;
            self.listened = true;
            match happened {
                Happened::Request(request) => self.handle(request?).await,
                Happened::Told(id, response) => self.caught(id, response),
                Happened::Woken | Happened::Answered => {}
                Happened::Interval => self.notice = Some(self.feed.ask()),
                Happened::NoLeader => return Err(ApiError::NoLeader.into()),
                Happened::Stopped => {}
            }
        }
    }
}

impl<R: Runtime> Serving<R> {
    async fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            // In a box: see `seldom`.
            Some(RequestUnion::CreateRequest(request)) => Box::pin(self.create(request)).await,
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) if R::Mutants::active(Mutant::ProxyProgressEarly) => {
                let progress = self.response(NO_WATCH, self.feed.position());
                self.out.push_back(progress);
            }
            Some(RequestUnion::ProgressRequest(_)) => self.progress = Some(self.feed.ask()),
            None => {}
        }
    }

    async fn create(&mut self, mut request: WatchCreateRequest) {
        self.namespace.enter_watch(&mut request);
        let created = Watcher::new(&request, 0)
            .and_then(|watcher| Ok((self.free_id(request.watch_id).ok_or(Impossible::UsedId)?, watcher)));
        let (id, mut watcher) = match created {
            Ok(created) => created,
            Err(impossible) => {
                let refusal = WatchResponse {
                    created: true,
                    canceled: true,
                    cancel_reason: impossible.reason().to_owned(),
                    ..self.response(NO_WATCH, self.seen.revision().max(self.feed.position()))
                };
                return self.out.push_back(refusal);
            }
        };
        let line = self.join(id, &watcher).await;
        let now = line.upto().max(self.seen.revision());
        if request.start_revision == 0 {
            watcher.start = now + 1;
        }
        if request.watch_id == 0 {
            self.next_id = id + 1;
        }
        self.out.push_back(WatchResponse { created: true, ..self.response(id, now) });
        let next = watcher.start;
        self.notifying += usize::from(watcher.progress_notify);
        self.watches.insert(id, ClientWatch { watcher, line, next });
        self.ready.insert(id);
    }

    /// The line of a watch, once it is known how far it is by now.
    async fn join(&mut self, id: i64, watcher: &Watcher) -> Arc<Line> {
        let range = LineKey::new(watcher.key.clone(), watcher.range_end.clone(), watcher.prev_kv);
        loop {
            let line = self.feed.join(range.clone(), 0, &self.wake, id);
            self.joining = Some((line.clone(), id));
            // So that it does not begin before it was asked for.
            let question = self.feed.ask();
            line.begun().await;
            self.feed.answered(question).await;
            self.joining = None;
            if line.ended().is_none() {
                return line;
            }
        }
    }

    /// The number that is asked for, if nobody has it, or any if none is asked for.
    fn free_id(&self, asked: i64) -> Option<i64> {
        match asked {
            0 => (self.next_id..).find(|id| !self.watches.contains_key(id)),
            asked => Some(asked).filter(|id| !self.watches.contains_key(id)),
        }
    }

    /// As in etcd, nothing is said of a watch that is not there.
    fn cancel(&mut self, id: i64) {
        if let Some(watch) = self.end(id) {
            let revision = watch.line.upto().max(self.seen.revision());
            self.out.push_back(WatchResponse { canceled: true, ..self.response(id, revision) });
        }
    }

    fn end(&mut self, id: i64) -> Option<ClientWatch> {
        let watch = self.watches.remove(&id)?;
        self.notifying -= usize::from(watch.watcher.progress_notify);
        self.catching_up.remove(&id);
        self.ready.remove(&id);
        watch.line.leave(&self.wake, id);
        self.feed.release(&watch.line);
        Some(watch)
    }

    /// Tells a watch the next piece, if it is near and there is one.
    fn deliver(&mut self, id: i64) {
        let Some(watch) = self.watches.get_mut(&id).filter(|_| !self.catching_up.contains_key(&id)) else { return };
        match watch.line.piece(watch.next) {
            Ok(Some((piece, more))) => {
                let events = piece.events.iter().filter(|event| revision(event) >= watch.next).cloned().collect();
                self.tell(id, events, piece.header);
                if more {
                    self.ready.insert(id);
                }
            }
            Ok(None) => {
                if let Some(ended) = watch.line.ended() {
                    if (1..=watch.next).contains(&ended.compact_revision) {
                        // What is gone is none of its own. It goes on from there, on a line of the same range.
                        watch.line =
                            self.feed.join(watch.line.range.clone(), ended.compact_revision - 1, &self.wake, id);
                        self.ready.insert(id);
                        return;
                    }
                    self.end(id);
                    self.out.push_back(WatchResponse { watch_id: id, ..ended });
                }
            }
            Err(_) if R::Mutants::active(Mutant::ProxyWatchSkips) => {
                watch.next = watch.line.since();
                self.ready.insert(id);
            }
            Err(_) => {
                let (sender, receiver) = mpsc::channel(1);
                let from = WatchCreateRequest {
                    key: watch.line.range.key.clone(),
                    range_end: watch.line.range.range_end.clone(),
                    prev_kv: watch.line.range.prev_kv,
                    start_revision: watch.next,
                    ..WatchCreateRequest::default()
                };
                self.catching_up.insert(id, receiver);
                drop(R::spawn(catch_up::<R>(self.upstream.clone(), from, sender)));
            }
        }
    }

    /// Tells a watch what it wants of events that are everything up to the revision of a header.
    fn tell(&mut self, id: i64, mut events: Vec<Event>, header: ResponseHeader) {
        let Some(watch) = self.watches.get_mut(&id) else { return };
        watch.next = watch.next.max(header.revision + 1);
        events.retain(|event| watch.watcher.wants(event.r#type() == EventType::Delete));
        if events.is_empty() {
            return;
        }
        events.iter_mut().for_each(|event| self.namespace.leave_event(event));
        watch.watcher.told = true;
        let fragments = watch.watcher.fragment;
        let response = WatchResponse { header: Some(header), watch_id: id, events, ..WatchResponse::default() };
        if fragments {
            self.out.extend(fragmented(response, self.fragment_bytes));
        } else {
            self.out.push_back(response);
        }
    }

    /// A member has told a watch something alone.
    fn caught(&mut self, id: i64, response: Option<WatchResponse>) {
        let Some(response) = response else {
            self.catching_up.remove(&id);
            self.ready.insert(id);
            return;
        };
        if response.canceled && response.compact_revision > 0 && R::Mutants::active(Mutant::ProxyHidesCompaction) {
            self.catching_up.remove(&id);
            if let Some(watch) = self.watches.get_mut(&id) {
                watch.next = watch.next.max(response.compact_revision);
            }
            self.ready.insert(id);
            return;
        }
        if response.canceled {
            self.end(id);
            self.out.push_back(WatchResponse { watch_id: id, created: false, ..response });
            return;
        }
        let upto = match response.events.last() {
            Some(last) => revision(last),
            None => response.header.as_ref().map_or(0, |header| header.revision),
        };
        self.tell(id, response.events, ResponseHeader { revision: upto, ..response.header.unwrap_or_default() });
        if self.watches.get(&id).is_some_and(|watch| watch.line.reaches(watch.next)) {
            self.catching_up.remove(&id);
            self.ready.insert(id);
        }
    }

    /// Tells how far all watches are, where that was asked for, once it is so.
    fn tell_progress(&mut self) {
        let is_answered = |question: &u64| self.feed.is_answered(*question);
        let (progress, notice) = (self.progress.filter(is_answered), self.notice.filter(is_answered));
        if progress.is_none() && notice.is_none() {
            return;
        }
        // Those who need what is not kept here any more go and ask for it.
        let Serving { watches, catching_up, ready, .. } = self;
        let far = watches.iter().filter(|(id, it)| !catching_up.contains_key(id) && it.line.piece(it.next).is_err());
        ready.extend(far.map(|(id, _)| *id));
        if notice.is_some() {
            self.notice = None;
            let mut quiet = Vec::new();
            for (id, watch) in &mut *watches {
                let told = std::mem::take(&mut watch.watcher.told);
                let upto = watch.line.upto();
                let is_near = !catching_up.contains_key(id) && watch.is_near();
                if watch.watcher.progress_notify && !told && is_near && watch.watcher.start <= upto + 1 {
                    watch.next = watch.next.max(upto + 1);
                    quiet.push((*id, upto));
                }
            }
            for (id, upto) in quiet {
                let progress = self.response(id, upto);
                self.out.push_back(progress);
            }
        }
        // The least of what is known of each; and no watch may have been told more, nor begin later.
        let upto = self.watches.values().map(|watch| watch.line.upto()).min().unwrap_or(self.feed.position());
        let is_there = |watch: &ClientWatch| watch.is_near() && watch.next.max(watch.watcher.start) <= upto + 1;
        let are_there = self.catching_up.is_empty() && self.watches.values().all(is_there);
        if progress.is_some() && are_there && upto >= self.seen.revision() {
            self.progress = None;
            self.watches.values_mut().for_each(|watch| watch.next = watch.next.max(upto + 1));
            let progress = self.response(NO_WATCH, upto);
            self.out.push_back(progress);
        }
    }

    fn notifies(&self) -> bool {
        self.notifying > 0
    }

    fn response(&self, watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse { header: Some(self.feed.header(revision)), watch_id, ..WatchResponse::default() }
    }

    async fn happens(&mut self) -> Happened {
        let notifies = self.notifies();
        let unanswered =
            self.progress.into_iter().chain(self.notice).find(|question| !self.feed.is_answered(*question));
        let Serving { requests, catching_up, wake, feed, interval, stop, progress, needs_leader, .. } = self;
        let (asks, needs_leader) = (unanswered.is_some() || progress.is_some(), *needs_leader);
        // What a stream waits for seldom is in a box: else each had room for it, which is moved for each response.
        let mut seldom: Option<BoxFuture<'_, Happened>> = (asks || notifies || needs_leader).then(|| {
            let answered = async {
                match (unanswered, asks) {
                    (Some(question), _) => feed.answered(question).await,
                    // It is answered, and some watch is not there: one that catches up, or begins later.
                    (None, true) => {
                        R::sleep(PAUSE).await;
                        let question = feed.ask();
                        feed.answered(question).await;
                    }
                    (None, false) => pending().await,
                }
                Happened::Answered
            };
            let interval = async {
                match notifies {
                    true => interval.passed().map(|()| Happened::Interval).await,
                    false => pending().await,
                }
            };
            let no_leader = async {
                match needs_leader {
                    true => feed.clone().leader_lost().map(|()| Happened::NoLeader).await,
                    false => pending().await,
                }
            };
            R::select2(R::select2(answered, interval), no_leader)
                .map(|happened| match happened {
                    Select2::First(Select2::First(happened) | Select2::Second(happened))
                    | Select2::Second(happened) => happened,
                })
                .boxed()
        });
        poll_fn(|context| {
            if let Poll::Ready(request) = requests.poll_next(context) {
                return Poll::Ready(Happened::Request(request));
            }
            if wake.poll_woken(context).is_ready() {
                return Poll::Ready(Happened::Woken);
            }
            for (id, receiver) in &mut *catching_up {
                if let Poll::Ready(response) = Pin::new(receiver).poll_recv(context) {
                    return Poll::Ready(Happened::Told(*id, response));
                }
            }
            if let Some(seldom) = &mut seldom
                && let Poll::Ready(happened) = seldom.poll_unpin(context)
            {
                return Poll::Ready(happened);
            }
            stop.poll_stopped(context).map(|()| Happened::Stopped)
        })
        .await
    }
}

impl<R: Runtime> Drop for Serving<R> {
    fn drop(&mut self) {
        for id in self.watches.keys().copied().collect::<Vec<_>>() {
            self.end(id);
        }
        if let Some((line, id)) = self.joining.take() {
            line.leave(&self.wake, id);
            self.feed.release(&line);
        }
    }
}

fn revision(event: &Event) -> i64 {
    event.kv.as_ref().map_or(0, |kv| kv.mod_revision)
}

/// Has members tell one watch what comes from its start on, until nobody listens or it has ended.
async fn catch_up<R: Runtime>(
    upstream: Upstream<R>,
    mut from: WatchCreateRequest,
    sender: mpsc::Sender<WatchResponse>,
) {
    while !sender.is_closed() {
        if let Ok(link) = upstream.link().await {
            let client = WatchClient::new(link).max_decoding_message_size(usize::MAX);
            let listening = listen::<R>(client, &mut from, &sender);
            let _: Select2<_, ()> = R::select2(listening, sender.closed()).await;
        }
        R::sleep(PAUSE).await;
    }
}

async fn listen<R: Runtime>(
    mut client: WatchClient<super::upstream::Link>,
    from: &mut WatchCreateRequest,
    sender: &mpsc::Sender<WatchResponse>,
) -> Result<(), Status> {
    let (requests, mut receiver) = mpsc::unbounded_channel();
    let ask = |union| {
        // The stream has the other end for as long as it lives.
        let _ = requests.send(WatchRequest { request_union: Some(union) });
    };
    ask(RequestUnion::CreateRequest(from.clone()));
    let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut responses = client.watch(sent).await?.into_inner();
    while let Some(response) = responses.message().await? {
        if response.created && !response.canceled {
            ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
            continue;
        }
        let upto = match response.events.last() {
            Some(last) => revision(last),
            None => response.header.as_ref().map_or(0, |header| header.revision),
        };
        from.start_revision = from.start_revision.max(upto + 1);
        let (ended, progressed) = (response.canceled, response.events.is_empty());
        if sender.send(response).await.is_err() || ended {
            break;
        }
        if progressed {
            R::sleep(PAUSE).await;
            ask(RequestUnion::ProgressRequest(WatchProgressRequest {}));
        }
    }
    Ok(())
}
