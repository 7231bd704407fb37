//! The Lease service of a proxy: keep-alives go to a member together, one of each lease at a time.
//!
//! ```text
//!   clients   7  7  8      7                     each asks for itself
//!   member    (7 8) ───►   (7)  ◄── (7 8)        whoever asks while one is under way waits for the next
//! ```
//!
//! An answer is never one to an earlier question: a lease counts from when it was asked for.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use openraft_rt::Select2;
use tokio::sync::{Notify, mpsc, oneshot};
use tonic::{Status, Streaming, async_trait};

use super::credentials;
use super::feed::Feed;
use super::namespace::Namespace;
use super::seen::Seen;
use super::upstream::{Link, Upstream, sent_on, told_on};
use crate::api::{ApiError, wants_leader};
use crate::grpc::Responses;
use crate::proto::etcdserverpb::lease_client::LeaseClient;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseLeasesResponse, LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse,
    ResponseHeader,
};
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::{Stop, StopWatch};

/// How many keep-alives of one client's stream wait for their answers together at most.
const TOGETHER_MAX: usize = 1000;

/// Who waits for an answer about a lease.
type Waiter = oneshot::Sender<Result<LeaseKeepAliveResponse, Status>>;

/// Leases, from members.
pub(super) struct LeaseProxy<R: Runtime> {
    pub(super) upstream: Upstream<R>,
    pub(super) namespace: Namespace,
    pub(super) keeper: Keeper<R>,
    pub(super) feed: Feed<R>,
    pub(super) stop: Stop,
}

/// Sends keep-alives to a member. Clones are the same.
pub(super) struct Keeper<R: Runtime> {
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Clone for Keeper<R> {
    fn clone(&self) -> Self {
        Keeper { shared: self.shared.clone() }
    }
}

struct Shared<R: Runtime> {
    upstream: Upstream<R>,
    waiting: Mutex<BTreeMap<i64, Vec<Waiter>>>,
    /// What members have said of leases, for a planted bug.
    said: Mutex<BTreeMap<i64, LeaseKeepAliveResponse>>,
    wanted: Notify,
    /// Keep-alives that clients have asked for, and that a member was.
    asked: AtomicU64,
    sent: AtomicU64,
}

impl<R: Runtime> Keeper<R> {
    pub(super) fn start(upstream: Upstream<R>, stop: Stop) -> Self {
        let keeper = Keeper {
            shared: Arc::new(Shared {
                upstream,
                waiting: Mutex::default(),
                said: Mutex::default(),
                wanted: Notify::new(),
                asked: AtomicU64::new(0),
                sent: AtomicU64::new(0),
            }),
        };
        let running = keeper.clone();
        drop(R::spawn(async move {
            let _: Select2<(), ()> = R::select2(stop.stopped(), running.run()).await;
        }));
        keeper
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<i64, Vec<Waiter>>> {
        self.shared.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn said(&self) -> MutexGuard<'_, BTreeMap<i64, LeaseKeepAliveResponse>> {
        self.shared.said.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many keep-alives there were, and how many of them members were asked for.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.shared.asked.load(Ordering::Relaxed), self.shared.sent.load(Ordering::Relaxed))
    }

    fn ask(&self, id: i64) -> oneshot::Receiver<Result<LeaseKeepAliveResponse, Status>> {
        let (waiter, answer) = oneshot::channel();
        self.shared.asked.fetch_add(1, Ordering::Relaxed);
        if R::Mutants::active(Mutant::ProxyRemembersKeepAlive)
            && let Some(said) = self.said().get(&id)
        {
            let _ = waiter.send(Ok(*said));
            return answer;
        }
        self.lock().entry(id).or_default().push(waiter);
        self.shared.wanted.notify_one();
        answer
    }

    /// Has a lease renewed.
    ///
    /// # Errors
    /// What a member says, or that there is none.
    pub(super) async fn keep_alive(&self, id: i64) -> Result<LeaseKeepAliveResponse, Status> {
        self.ask(id).await.unwrap_or_else(|_| Err(ApiError::Stopped.into()))
    }

    async fn run(self) {
        loop {
            self.shared.wanted.notified().await;
            match self.shared.upstream.link().await {
                Ok(link) => {
                    self.keep(link.clone()).await;
                    // Another one may have a leader, and answer.
                    link.give_up();
                }
                Err(status) => fail(std::mem::take(&mut *self.lock()), &status),
            }
        }
    }

    /// Sends keep-alives on one stream until it breaks.
    async fn keep(&self, link: Link) {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let mut round = self.send(&requests);
        let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
        let mut answers = match LeaseClient::new(link).lease_keep_alive(sent).await {
            Ok(answers) => answers.into_inner(),
            Err(status) => return fail(round, &told_on(status)),
        };
        loop {
            while !round.is_empty() {
                match answers.message().await {
                    Ok(Some(response)) => {
                        if R::Mutants::active(Mutant::ProxyRemembersKeepAlive) && response.ttl > 0 {
                            self.said().insert(response.id, response);
                        }
                        for waiter in round.remove(&response.id).into_iter().flatten() {
                            // Whoever has gone does not want to know.
                            let _ = waiter.send(Ok(response));
                        }
                    }
                    Ok(None) => return fail(round, &Status::unavailable("seedbed: a member ended the stream")),
                    Err(status) => return fail(round, &told_on(status)),
                }
            }
            let wanted = R::select2(self.shared.wanted.notified(), answers.message());
            if let Select2::Second(_) = wanted.await {
                // Nothing was asked: the member has gone.
                return;
            }
            round = self.send(&requests);
        }
    }

    /// Sends one keep-alive for each lease that somebody waits for.
    fn send(&self, requests: &mpsc::UnboundedSender<LeaseKeepAliveRequest>) -> BTreeMap<i64, Vec<Waiter>> {
        let round = std::mem::take(&mut *self.lock());
        self.shared.sent.fetch_add(round.len() as u64, Ordering::Relaxed);
        for id in round.keys() {
            // If the stream has broken, so it says.
            let _ = requests.send(LeaseKeepAliveRequest { id: *id });
        }
        round
    }
}

/// Tells those who wait.
fn fail(round: BTreeMap<i64, Vec<Waiter>>, status: &Status) {
    for waiter in round.into_values().flatten() {
        // Whoever has gone does not want to know.
        let _ = waiter.send(Err(status.clone()));
    }
}

impl<R: Runtime> LeaseProxy<R> {
    async fn client(&self) -> Result<LeaseClient<Link>, Status> {
        Ok(LeaseClient::new(self.upstream.link().await?).max_decoding_message_size(usize::MAX))
    }
}

fn saw(seen: &Seen, header: Option<&ResponseHeader>) {
    seen.saw(header.map_or(0, |header| header.revision));
}

#[async_trait]
impl<R: Runtime> Lease for LeaseProxy<R> {
    type LeaseKeepAliveStream = BoxStream<'static, Result<LeaseKeepAliveResponse, Status>>;

    async fn lease_grant(
        &self,
        request: tonic::Request<LeaseGrantRequest>,
    ) -> Result<tonic::Response<LeaseGrantResponse>, Status> {
        let by = Seen::of(&request);
        let response = sent_on(self.client().await?.lease_grant(request).await)?;
        saw(&by, response.get_ref().header.as_ref());
        Ok(response)
    }

    async fn lease_revoke(
        &self,
        request: tonic::Request<LeaseRevokeRequest>,
    ) -> Result<tonic::Response<LeaseRevokeResponse>, Status> {
        let by = Seen::of(&request);
        let response = sent_on(self.client().await?.lease_revoke(request).await)?;
        saw(&by, response.get_ref().header.as_ref());
        Ok(response)
    }

    async fn lease_keep_alive(
        &self,
        request: tonic::Request<Streaming<LeaseKeepAliveRequest>>,
    ) -> Result<tonic::Response<Self::LeaseKeepAliveStream>, Status> {
        if credentials::are_in(request.metadata()) {
            let (seen, stop) = (Seen::of(&request), self.stop.clone());
            let request = credentials::sent_on(request, |_: &mut LeaseKeepAliveRequest| {});
            let responses = sent_on(self.client().await?.lease_keep_alive(request).await)?.into_inner();
            let responses = responses.map(move |kept| {
                let response = sent_on(kept)?;
                saw(&seen, response.header.as_ref());
                Ok(response)
            });
            return Ok(tonic::Response::new(responses.take_until(async move { stop.stopped().await }).boxed()));
        }
        let needs_leader = wants_leader(request.metadata().as_ref());
        let keeping = Keeping {
            requests: request.into_inner(),
            keeper: self.keeper.clone(),
            leaderless: needs_leader.then(|| self.feed.clone().leader_lost().boxed()),
            stop: self.stop.watch(),
            ended: None,
            waiting: VecDeque::new(),
        };
        Ok(tonic::Response::new(keeping.into_stream()))
    }

    async fn lease_time_to_live(
        &self,
        request: tonic::Request<LeaseTimeToLiveRequest>,
    ) -> Result<tonic::Response<LeaseTimeToLiveResponse>, Status> {
        let by = Seen::of(&request);
        let mut response = sent_on(self.client().await?.lease_time_to_live(request).await)?;
        saw(&by, response.get_ref().header.as_ref());
        self.namespace.leave_keys(&mut response.get_mut().keys);
        Ok(response)
    }

    async fn lease_leases(
        &self,
        request: tonic::Request<LeaseLeasesRequest>,
    ) -> Result<tonic::Response<LeaseLeasesResponse>, Status> {
        let by = Seen::of(&request);
        let response = sent_on(self.client().await?.lease_leases(request).await)?;
        saw(&by, response.get_ref().header.as_ref());
        Ok(response)
    }
}

/// What a stream of keep-alives waits for.
enum Happened {
    Request(Result<Option<LeaseKeepAliveRequest>, Status>),
    Answer(Result<LeaseKeepAliveResponse, Status>),
}

/// A client's stream of keep-alives.
struct Keeping<R: Runtime> {
    requests: Streaming<LeaseKeepAliveRequest>,
    keeper: Keeper<R>,
    /// When the stream is to end, if its client wants none while there is no leader.
    leaderless: Option<BoxFuture<'static, ()>>,
    stop: StopWatch,
    /// What came in the place of a request, when several were taken at once: the end, or an error.
    ended: Option<Result<(), Status>>,
    /// Answers to come, in the order of their questions.
    waiting: VecDeque<oneshot::Receiver<Result<LeaseKeepAliveResponse, Status>>>,
}

impl<R: Runtime> Responses for Keeping<R> {
    type Response = LeaseKeepAliveResponse;

    /// None, once the client has nothing more to ask.
    async fn next(&mut self) -> Result<Option<LeaseKeepAliveResponse>, Status> {
        loop {
            if self.waiting.is_empty()
                && let Some(ended) = self.ended.take()
            {
                return ended.map(|()| None);
            }
            match self.happens().await? {
                Happened::Request(Ok(Some(request))) => self.waiting.push_back(self.keeper.ask(request.id)),
                Happened::Request(Ok(None)) => self.ended = Some(Ok(())),
                Happened::Request(Err(status)) => self.ended = Some(Err(status)),
                Happened::Answer(answer) => {
                    self.waiting.pop_front();
                    return answer.map(Some);
                }
            }
        }
    }
}

impl<R: Runtime> Keeping<R> {
    /// Requests first: what has come meanwhile is asked together.
    async fn happens(&mut self) -> Result<Happened, ApiError> {
        let Keeping { requests, leaderless, stop, ended, waiting, .. } = self;
        std::future::poll_fn(|context| {
            if waiting.len() < TOGETHER_MAX
                && ended.is_none()
                && let Poll::Ready(request) = requests.poll_next_unpin(context)
            {
                return Poll::Ready(Ok(Happened::Request(request.transpose())));
            }
            if let Some(first) = waiting.front_mut()
                && let Poll::Ready(answer) = first.poll_unpin(context)
            {
                let answer = answer.unwrap_or_else(|_| Err(ApiError::Stopped.into()));
                return Poll::Ready(Ok(Happened::Answer(answer)));
            }
            if stop.poll_stopped(context).is_ready() {
                return Poll::Ready(Err(ApiError::Stopped));
            }
            if let Some(leaderless) = leaderless
                && leaderless.poll_unpin(context).is_ready()
            {
                return Poll::Ready(Err(ApiError::NoLeader));
            }
            Poll::Pending
        })
        .await
    }
}
