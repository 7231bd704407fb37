//! The calling end of a connection.

use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::body::Body;

use super::executor::Tasks;
use super::gather::Gather;
use super::lookahead::Lookahead;
use super::timer::Timer;
use crate::runtime::Runtime;

/// A connection to a server, for the generated tonic clients: `KvClient::new(channel)`. Clones share the connection, on
/// which any number of calls may be under way. It is closed when the last clone is gone.
///
/// A connection that has broken stays so: every later call fails, and its owner makes another.
#[derive(Clone, Debug)]
pub struct Channel {
    requests: http2::SendRequest<Lookahead>,
    authority: Authority,
}

/// How a connection differs from the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Of a call's response no more bytes than that are under way that the caller has not read; `None`: hyper's own measure, two
    /// megabytes.
    pub window_bytes: Option<u32>,
    /// While a call is under way, the server may be silent for so long before it is asked whether it is there, and again for so
    /// long before the connection counts as broken. `None`: for as long as the stream lasts.
    pub silence_max: Option<Duration>,
}

impl Channel {
    /// Speaks HTTP/2 on a stream, as the client. `authority` is whom the requests name as their host.
    ///
    /// # Errors
    /// What broke the stream.
    pub async fn connect<R: Runtime>(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: Authority,
    ) -> Result<Self, hyper::Error> {
        Self::connect_with::<R>(stream, authority, ChannelOptions::default()).await
    }

    /// Like [`connect`](Channel::connect), other than usual.
    ///
    /// # Errors
    /// What broke the stream.
    pub async fn connect_with<R: Runtime>(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        authority: Authority,
        options: ChannelOptions,
    ) -> Result<Self, hyper::Error> {
        let mut builder = http2::Builder::new(Tasks::<R>::default());
        if let Some(bytes) = options.window_bytes {
            builder.initial_stream_window_size(bytes);
        }
        if let Some(silence_max) = options.silence_max {
            builder.timer(Timer::<R>::default()).keep_alive_interval(silence_max).keep_alive_timeout(silence_max);
        }
        let (requests, connection) = builder.handshake(TokioIo::new(Gather::new(stream))).await?;
        drop(R::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client's connection has ended");
            }
        }));
        Ok(Channel { requests, authority })
    }
}

impl tower_service::Service<Request<Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = BoxFuture<'static, Result<Response<Incoming>, hyper::Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.requests.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let mut target = http::uri::Parts::default();
        target.scheme = Some(Scheme::HTTP);
        target.authority = Some(self.authority.clone());
        target.path_and_query =
            request.uri().path_and_query().cloned().or_else(|| Some(PathAndQuery::from_static("/")));
        *request.uri_mut() = Uri::from_parts(target).expect("scheme, authority and path are all there");
        Box::pin(self.requests.send_request(request.map(Lookahead::new)))
    }
}
