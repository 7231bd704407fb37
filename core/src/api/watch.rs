//! The Watch service: a stream of requests, and one of responses.

use std::future::{pending, poll_fn};
use std::task::Poll;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use openraft_rt::Select2;
use tonic::{Status, Streaming, async_trait};

use super::error::ApiError;
use super::header::Headers;
use super::leader::{LeaderCheck, LeaderWatch};
use crate::grpc::{Requests, Responses};
use crate::mvcc::Store;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::{WatchRequest, WatchResponse};
use crate::runtime::Runtime;
use crate::watch::{Interval, Session, WatchOptions};
use crate::watermark::{Stop, StopWatch};

/// Watches, from this member.
pub struct WatchService<R: Runtime> {
    pub(crate) headers: Headers<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) options: WatchOptions,
    pub(crate) leader: LeaderCheck<R>,
    /// Ends all streams.
    pub(crate) stop: Stop,
}

#[async_trait]
impl<R: Runtime> Watch for WatchService<R> {
    type WatchStream = BoxStream<'static, Result<WatchResponse, Status>>;

    async fn watch(
        &self,
        request: tonic::Request<Streaming<WatchRequest>>,
    ) -> Result<tonic::Response<Self::WatchStream>, Status> {
        let serving = Serving::<R> {
            leader: self.leader.follow(request.metadata().as_ref()),
            requests: Requests::new(request.into_inner()),
            session: Session::new(self.headers.clone(), self.store.clone(), self.options),
            store: self.store.clone(),
            progress: Interval::new(self.options.progress_interval),
            stop: self.stop.watch(),
        };
        Ok(tonic::Response::new(serving.into_stream()))
    }
}

/// One stream.
struct Serving<R: Runtime> {
    requests: Requests<WatchRequest>,
    session: Session<R>,
    store: Store<R::Disk>,
    progress: Interval<R>,
    leader: LeaderWatch<R>,
    stop: StopWatch,
}

/// What a stream waits for while there is nothing to send.
enum Happened {
    Request(Result<WatchRequest, Status>),
    Change,
    Progress,
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
            // What follows is looked after also while there is always more to tell.
            if self.leader.is_lost() {
                return Err(ApiError::NoLeader.into());
            }
            if self.session.notifies() && self.progress.has_passed() {
                self.session.interval_passed();
            }
            // A request is not to wait for the end of history.
            while !self.session.owes()
                && let Some(request) = self.requests.take()
            {
                self.session.handle(request?);
            }
            let reading = self.store.reading().await;
            let response = self.session.next_response()?;
            drop(reading);
            if response.is_some() {
                return Ok(response);
            }
            match self.happens().await {
                Happened::Request(request) => self.session.handle(request?),
                Happened::Change => {}
                Happened::Progress => self.session.interval_passed(),
                Happened::NoLeader => return Err(ApiError::NoLeader.into()),
                Happened::Stopped => {}
            }
        }
    }
}

impl<R: Runtime> Serving<R> {
    async fn happens(&mut self) -> Happened {
        let Serving { requests, session, store, progress, leader, stop } = self;
        let (notifies, awaited, wants_leader) = (session.notifies(), session.awaited(), leader.is_wanted());
        // What hardly any stream waits for is in a box: else each had room for it, which is moved for each response.
        let mut seldom: Option<BoxFuture<'_, Happened>> = (notifies || awaited.is_some() || wants_leader).then(|| {
            let progress = async {
                match notifies {
                    true => progress.passed().map(|()| Happened::Progress).await,
                    false => pending().await,
                }
            };
            let change = async {
                match awaited.map(|revision| u64::try_from(revision).unwrap_or(0)) {
                    Some(revision) => store.reached().reached(revision).map(|()| Happened::Change).await,
                    None => pending().await,
                }
            };
            let no_leader = leader.lost().map(|()| Happened::NoLeader);
            R::select2(R::select2(change, progress), no_leader)
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
            if session.poll_changed(context).is_ready() {
                return Poll::Ready(Happened::Change);
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
