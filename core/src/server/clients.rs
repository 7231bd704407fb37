//! The port for clients: gRPC, and beside it etcd's pages for people and probes.
//!
//! ```text
//!   socket ──► HTTP/2 or HTTP/1.1, by its first bytes ──► application/grpc ──► Routes
//!                                                    └──► anything else ─────► Pages: /health /version /metrics
//! ```

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures_util::future::{self, BoxFuture};
use http::{Method, Request, Uri, header};
use hyper::body::Incoming;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use openraft::AsyncRuntime;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::url::Url;
use crate::grpc::{Response, Routes, SEND_BUFFER_BYTES, Tasks};
use crate::proxy::{self, Proxy};
use crate::runtime::tokio::{TokioRuntime, set_up_stream};
use crate::watermark::Stop;

/// How long a client's machine may be silent while something is on its way to it, before its connection is given up.
pub(super) const SILENCE_MAX: Duration = Duration::from_secs(30);

/// How long a client may take to send the head of an HTTP/1.1 request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// Listens where clients are to connect. Nobody is answered before [`Front::serve`].
pub(super) async fn listen(urls: &[Url]) -> io::Result<Vec<TcpListener>> {
    let mut sockets = Vec::new();
    for url in urls {
        let about = |error: io::Error| io::Error::new(error.kind(), format!("listen on {url}: {error}"));
        let address = resolve(url).await.map_err(about)?;
        sockets.push(TcpListener::bind(address).await.map_err(about)?);
    }
    Ok(sockets)
}

/// The address to listen on. `localhost` is the IPv4 one if there is one, since that is where clients look first.
pub(super) async fn resolve(url: &Url) -> io::Result<SocketAddr> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(url.authority()).await?.collect();
    let first = addresses.iter().find(|address| address.is_ipv4()).or(addresses.first());
    first.copied().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "it has no address"))
}

/// What answers requests that are gRPC: something for each connection.
pub(super) trait Services: Clone + Send + Sync + 'static {
    type Connection: Service<
            Request<Incoming>,
            Response = Response,
            Error = Infallible,
            Future = BoxFuture<'static, Result<Response, Infallible>>,
        > + Send
        + Sync
        + 'static;

    fn connection(&self) -> Self::Connection;

    /// What runs their answers.
    fn tasks(&self) -> Tasks<TokioRuntime> {
        Tasks::default()
    }
}

impl Services for Routes {
    type Connection = Routes;

    fn connection(&self) -> Routes {
        self.clone()
    }
}

impl Services for Proxy<TokioRuntime> {
    type Connection = proxy::Connection;

    fn connection(&self) -> proxy::Connection {
        Proxy::connection(self)
    }

    fn tasks(&self) -> Tasks<TokioRuntime> {
        Proxy::<TokioRuntime>::tasks()
    }
}

/// What answers requests that are not.
pub(super) trait Pages: Send + Sync + 'static {
    /// The page at a path.
    fn answer(self: Arc<Self>, method: Method, uri: Uri) -> BoxFuture<'static, Response>;
}

/// Answers clients.
#[derive(Clone)]
pub(super) struct Front<S> {
    pub(super) services: S,
    pub(super) pages: Arc<dyn Pages>,
    pub(super) stop: Stop,
}

impl<S: Services> Front<S> {
    /// Answers clients on these sockets until it is told to stop, and then finishes what is under way.
    pub(super) async fn serve(self, sockets: Vec<TcpListener>) {
        future::join_all(sockets.into_iter().map(|socket| self.clone().accept(socket))).await;
    }

    async fn accept(self, socket: TcpListener) {
        // Dropped with this future, and the connections with it.
        let mut connections = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.stopped() => break,
                Some(_) = connections.join_next() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => drop(connections.spawn(self.clone().attend(stream, address))),
                Err(error) => {
                    // Out of file descriptors, most likely: it would fail again at once.
                    tracing::warn!(%error, "cannot accept a client");
                    TokioRuntime::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        drop(socket);
        while connections.join_next().await.is_some() {}
    }

    async fn attend(self, stream: TcpStream, address: SocketAddr) {
        if let Err(error) = set_up_stream(&stream, SILENCE_MAX) {
            return tracing::debug!(%address, %error, "a client has gone at once");
        }
        let tasks = self.services.tasks();
        let mut server = auto::Builder::new(tasks.clone());
        // As in `grpc::serve_connection`, which a socket that speaks both protocols cannot use.
        server.http2().max_concurrent_streams(u32::MAX).max_send_buf_size(SEND_BUFFER_BYTES).auto_date_header(false);
        server.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
        let mut stop = self.stop.watch();
        let attending = Attending { services: self.services.connection(), pages: self.pages };
        let mut connection = pin!(server.serve_connection(TokioIo::new(stream), attending));
        let served = future::poll_fn(|context| {
            tasks.begin_turn();
            match connection.as_mut().poll(context) {
                Poll::Ready(ended) => Poll::Ready(Some(ended)),
                Poll::Pending => stop.poll_stopped(context).map(|()| None),
            }
        });
        let ended = match served.await {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%address, %error, "a client's connection has ended");
        }
    }
}

/// Answers one connection.
struct Attending<C> {
    services: C,
    pages: Arc<dyn Pages>,
}

impl<C> Service<Request<Incoming>> for Attending<C>
where
    C: Service<
            Request<Incoming>,
            Response = Response,
            Error = Infallible,
            Future = BoxFuture<'static, Result<Response, Infallible>>,
        >,
{
    type Response = Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response, Infallible>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let kind = request.headers().get(header::CONTENT_TYPE);
        if kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc")) {
            return self.services.call(request);
        }
        let answer = self.pages.clone().answer(request.method().clone(), request.uri().clone());
        Box::pin(async move { Ok(answer.await) })
    }
}
