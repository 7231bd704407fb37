//! The way to the members: one connection at a time, to one of them that answers.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::sync::Mutex;
use tonic::Status;
use tonic::body::Body;

use crate::grpc::Channel;
use crate::runtime::Runtime;

/// How a proxy comes by a connection to a member.
pub trait Connect: Send + Sync + 'static {
    /// How many members there are to choose from, at least one.
    fn endpoints(&self) -> usize;

    /// A connection to one of them, from 0.
    fn connect(&self, endpoint: usize) -> BoxFuture<'static, io::Result<Channel>>;
}

/// The connection to a member. Clones of it are the same.
#[derive(Clone)]
pub(super) struct Link {
    channel: Channel,
    broken: Arc<AtomicBool>,
}

impl Link {
    /// From now on nobody begins anything on this connection.
    pub(super) fn give_up(&self) {
        self.broken.store(true, Ordering::Relaxed);
    }
}

impl tower_service::Service<Request<Body>> for Link {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        let ready = self.channel.poll_ready(context);
        if let Poll::Ready(Err(_)) = &ready {
            self.give_up();
        }
        ready
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (calling, link) = (self.channel.call(request), self.clone());
        Box::pin(async move { calling.await.inspect_err(|_| link.give_up()) })
    }
}

/// Connections to members, one after the other. Clones are the same.
pub(super) struct Upstream<R> {
    shared: Arc<Shared>,
    runtime: PhantomData<fn() -> R>,
}

struct Shared {
    connect: Box<dyn Connect>,
    dial_timeout: Duration,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    link: Option<Link>,
    /// Whom to try next.
    next: usize,
}

impl<R> Clone for Upstream<R> {
    fn clone(&self) -> Self {
        Upstream { shared: self.shared.clone(), runtime: PhantomData }
    }
}

impl<R> fmt::Debug for Upstream<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("endpoints", &self.shared.connect.endpoints()).finish_non_exhaustive()
    }
}

impl<R: Runtime> Upstream<R> {
    pub(super) fn new(connect: impl Connect, dial_timeout: Duration) -> Self {
        let shared = Shared { connect: Box::new(connect), dial_timeout, current: Mutex::default() };
        Upstream { shared: Arc::new(shared), runtime: PhantomData }
    }

    /// The connection, or another one if it has broken: to the next member that takes one.
    ///
    /// # Errors
    /// `Unavailable`: none of them does.
    pub(super) async fn link(&self) -> Result<Link, Status> {
        let Shared { connect, dial_timeout, current } = &*self.shared;
        let mut current = current.lock().await;
        if let Some(link) = current.link.as_ref().filter(|link| !link.broken.load(Ordering::Relaxed)) {
            return Ok(link.clone());
        }
        current.link = None;
        let mut why = String::new();
        for _ in 0..connect.endpoints() {
            let endpoint = current.next;
            current.next = (endpoint + 1) % connect.endpoints();
            match R::timeout(*dial_timeout, connect.connect(endpoint)).await {
                Ok(Ok(channel)) => {
                    let link = Link { channel, broken: Arc::default() };
                    current.link = Some(link.clone());
                    return Ok(link);
                }
                Ok(Err(error)) => why = error.to_string(),
                Err(_) => why = format!("no answer for {dial_timeout:?}"),
            }
        }
        Err(Status::unavailable(format!("seedbed: the proxy reaches no member: {why}")))
    }
}

/// What a member has answered.
pub(super) fn sent_on<T>(answered: Result<T, Status>) -> Result<T, Status> {
    answered.map_err(told_on)
}

/// An error, as clients know it: that a connection broke is a reason to try again elsewhere.
pub(super) fn told_on(status: Status) -> Status {
    let broke = std::error::Error::source(&status).is_some_and(|source| source.is::<hyper::Error>());
    if broke { Status::unavailable(format!("seedbed: the connection to a member broke: {status}")) } else { status }
}
