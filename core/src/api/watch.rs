//! The Watch service: a stream of requests, and one of responses.

use futures_util::FutureExt;
use futures_util::stream::BoxStream;
use openraft_rt::Select2;
use tonic::{Status, Streaming, async_trait};

use super::error::ApiError;
use super::header::Headers;
use super::leader::{LeaderCheck, LeaderWatch};
use crate::grpc::Responses;
use crate::mvcc::Store;
use crate::proto::etcdserverpb::watch_server::Watch;
use crate::proto::etcdserverpb::{WatchRequest, WatchResponse};
use crate::runtime::Runtime;
use crate::watch::{Interval, Session, WatchOptions};
use crate::watermark::Stop;

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
            requests: Some(request.into_inner()),
            session: Session::new(self.headers.clone(), self.store.clone(), self.options),
            store: self.store.clone(),
            progress: Interval::new(self.options.progress_interval),
            stop: self.stop.clone(),
        };
        Ok(tonic::Response::new(serving.into_stream()))
    }
}

/// One stream.
struct Serving<R: Runtime> {
    /// None once the client has sent its last.
    requests: Option<Streaming<WatchRequest>>,
    session: Session<R>,
    store: Store<R::Disk>,
    progress: Interval<R>,
    leader: LeaderWatch<R>,
    stop: Stop,
}

/// What a stream waits for while there is nothing to send.
enum Happened {
    Request(Result<Option<WatchRequest>, Status>),
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
                && let Some(request) = self.requests.as_mut().and_then(|requests| requests.message().now_or_never())
            {
                self.take(request)?;
            }
            let reading = self.store.reading().await;
            let response = self.session.next_response()?;
            drop(reading);
            if response.is_some() {
                return Ok(response);
            }
            match self.happens().await {
                Happened::Request(request) => self.take(request)?,
                Happened::Change => {}
                Happened::Progress => self.session.interval_passed(),
                Happened::NoLeader => return Err(ApiError::NoLeader.into()),
                Happened::Stopped => {}
            }
        }
    }
}

impl<R: Runtime> Serving<R> {
    fn take(&mut self, request: Result<Option<WatchRequest>, Status>) -> Result<(), Status> {
        match request? {
            Some(request) => self.session.handle(request),
            // As in etcd: whoever has nothing more to ask is still told.
            None => self.requests = None,
        }
        Ok(())
    }

    async fn happens(&mut self) -> Happened {
        let Serving { requests, progress, leader, stop, .. } = self;
        let request = async {
            match requests {
                Some(requests) => Happened::Request(requests.message().await),
                None => std::future::pending().await,
            }
        };
        let change = self.session.due().map(|()| Happened::Change);
        let notifies = self.session.notifies();
        let progress = async {
            match notifies {
                true => progress.passed().map(|()| Happened::Progress).await,
                false => std::future::pending().await,
            }
        };
        let no_leader = leader.lost().map(|()| Happened::NoLeader);
        let stopped = stop.stopped().map(|()| Happened::Stopped);
        let often = R::select2(request, change);
        let seldom = R::select2(R::select2(progress, no_leader), stopped);
        match R::select2(often, seldom).await {
            Select2::First(Select2::First(happened) | Select2::Second(happened))
            | Select2::Second(Select2::First(Select2::First(happened) | Select2::Second(happened)))
            | Select2::Second(Select2::Second(happened)) => happened,
        }
    }
}
