//! The answering end of a connection.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::pin;

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::TokioIo;
use openraft_rt::Select2;
use tokio::io::{AsyncRead, AsyncWrite};

use super::executor::Tasks;
use super::routes::Response;
use crate::runtime::Runtime;

/// What waits in a stream at most for a client that does not read: as much as grpc-go allows. hyper's own measure is six times as
/// much, which with ten thousand such streams is four gigabytes.
pub(crate) const SEND_BUFFER_BYTES: usize = 64 << 10;

/// Serves HTTP/2 on a stream until the other end closes it. Once `stop` resolves no new request is taken, those under way
/// are finished, and the connection is closed. Dropping the future ends it at once.
///
/// `service` is [`Routes`](super::Routes), or something around it; `tasks` run its answers.
///
/// # Errors
/// What broke the connection. Streams end in all sorts of ways: nothing follows from it but a line in a log.
pub async fn serve_connection<R: Runtime, S>(
    stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    service: S,
    tasks: Tasks<R>,
    stop: impl Future<Output = ()> + Send,
) -> Result<(), hyper::Error>
where
    S: Service<Request<Incoming>, Response = Response, Error = Infallible> + Send,
    S::Future: Send + 'static,
{
    let connection = http2::Builder::new(tasks.clone())
        // etcd's: any number of watches and requests may share a connection.
        .max_concurrent_streams(u32::MAX)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        // A wall clock; gRPC has no use for the header.
        .auto_date_header(false)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let served = poll_fn(|context| {
        tasks.begin_turn();
        connection.as_mut().poll(context)
    });
    match R::select2(served, stop).await {
        Select2::First(ended) => ended,
        Select2::Second(()) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}
