//! A stream on which what is written at about the same time is written at once.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Puts what is written in a turn off until other tasks have had theirs, as grpc-go does: a request's head is written by the
/// connection's task when its body is not there yet, and would go in a segment of its own, and be acknowledged by another.
pub(super) struct Gather<S> {
    stream: S,
    /// Whether what is to be written was put off,
    put_off: bool,
    /// and has been written since, or some of it.
    written: bool,
}

impl<S> Gather<S> {
    pub(super) fn new(stream: S) -> Self {
        Gather { stream, put_off: false, written: false }
    }

    fn poll_write_with(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>>
    where
        S: Unpin,
    {
        if !self.put_off {
            self.put_off = true;
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        let written = write(Pin::new(&mut self.stream), context);
        // What the stream has no room for now has been put off long enough.
        self.written = written.is_ready();
        written
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Gather<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection reads first when it has its turn.
        if self.written {
            (self.put_off, self.written) = (false, false);
        }
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Gather<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream, context| stream.poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(context, |stream, context| stream.poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    use http::Request;
    use http_body_util::BodyExt;
    use hyper::body::Incoming;
    use hyper::service::service_fn;
    use openraft::AsyncRuntime;
    use tonic::body::Body;

    use super::*;
    use crate::grpc::{Channel, Tasks, serve_connection};
    use crate::proto::etcdserverpb::RangeRequest;
    use crate::proto::etcdserverpb::kv_client::KvClient;
    use crate::runtime::tokio::TokioRuntime;

    /// Counts what is written.
    struct Counted<S> {
        stream: S,
        writes: Arc<AtomicU64>,
    }

    impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
        fn poll_read(
            mut self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(context, buffer)
        }
    }

    impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
        fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
            self.writes.fetch_add(1, Ordering::Relaxed);
            Pin::new(&mut self.stream).poll_write(context, bytes)
        }

        fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_flush(context)
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(context)
        }
    }

    /// Reads a request to its end, and refuses it.
    async fn refuse(request: Request<Incoming>) -> Result<http::Response<Body>, Infallible> {
        assert!(request.into_body().collect().await.is_ok());
        Ok(tonic::Status::not_found("").into_http())
    }

    #[test]
    fn a_request_is_one_write() {
        // One thread: tasks have their turns in order.
        tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
            let (near, far) = tokio::io::duplex(4096);
            drop(TokioRuntime::spawn(serve_connection::<TokioRuntime, _>(
                far,
                service_fn(refuse),
                Tasks::default(),
                std::future::pending(),
            )));
            let writes = Arc::new(AtomicU64::new(0));
            let near = Counted { stream: near, writes: writes.clone() };
            let mut kv =
                KvClient::new(Channel::connect::<TokioRuntime>(near, "member.test".parse().unwrap()).await.unwrap());
            let mut ask = async || {
                let before = writes.load(Ordering::Relaxed);
                kv.range(RangeRequest { key: "key".into(), ..Default::default() }).await.unwrap_err();
                writes.load(Ordering::Relaxed) - before
            };
            // With the first one, the connection's own settings go back and forth.
            ask().await;
            assert_eq!((ask().await, ask().await), (1, 1));
        });
    }
}
