//! The requests of a stream, one after the other.

use std::task::{Context, Poll};

use futures_util::{FutureExt, Stream};
use tonic::{Status, Streaming};

use crate::signal::Doze;

/// What a client sends on a stream, for a task that waits for other things as well.
pub(crate) struct Requests<T> {
    /// None once the client has sent its last.
    sent: Option<Streaming<T>>,
    doze: Doze,
}

impl<T: Unpin + 'static> Requests<T> {
    pub(crate) fn new(sent: Streaming<T>) -> Self {
        Requests { sent: Some(sent), doze: Doze::default() }
    }

    /// The next request. Never ready again once the client has sent its last: it may still listen.
    ///
    /// # Errors
    /// What has become of the client.
    pub(crate) fn poll_next(&mut self, context: &Context<'_>) -> Poll<Result<T, Status>> {
        let Some(sent) = &mut self.sent else { return Poll::Pending };
        match self.doze.poll(context, |context| std::pin::Pin::new(sent).poll_next(context)) {
            Poll::Ready(Some(request)) => Poll::Ready(request),
            Poll::Ready(None) => {
                self.sent = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }

    /// The next request, if it is there.
    pub(crate) fn take(&mut self) -> Option<Result<T, Status>> {
        std::future::poll_fn(|context| self.poll_next(context)).now_or_never()
    }
}
