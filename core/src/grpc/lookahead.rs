//! A body that knows when it is at its end.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};
use tonic::Status;

type Framed = Result<Frame<Bytes>, Status>;

/// A body that says with its last frame that it is the last, if that is known by then: HTTP/2 needs no other frame to end it. What
/// tonic makes of a message does not look whether there is another one.
pub(super) struct Lookahead {
    /// None at its end.
    body: Option<tonic::body::Body>,
    next: Option<Framed>,
}

impl Lookahead {
    pub(super) fn new(body: tonic::body::Body) -> Self {
        Lookahead { body: Some(body), next: None }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Framed>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            self.body = None;
        }
        Poll::Ready(frame)
    }
}

impl Body for Lookahead {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Framed>> {
        let frame = match self.next.take() {
            Some(next) => Some(next),
            None => ready!(self.poll(context)),
        };
        if frame.is_some()
            && let Poll::Ready(next) = self.poll(context)
        {
            self.next = next;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.next.is_none() && self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    /// Not told: it would become a header.
    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{FutureExt, StreamExt, stream};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    fn body(frames: impl futures_util::Stream<Item = &'static str> + Send + 'static) -> Lookahead {
        let frames = frames.map(|frame| Ok::<_, Infallible>(Frame::data(Bytes::from(frame))));
        Lookahead::new(tonic::body::Body::new(StreamBody::new(frames)))
    }

    /// What comes next, if anything does by now, and whether that was all.
    fn next(body: &mut Lookahead) -> Option<(Option<Bytes>, bool)> {
        let frame = body.frame().now_or_never()?;
        Some((frame.map(|frame| frame.unwrap().into_data().unwrap()), body.is_end_stream()))
    }

    #[test]
    fn the_last_frame_is_known_to_be_the_last() {
        let mut whole = body(stream::iter(["a", "b"]));
        assert_eq!(next(&mut whole), Some((Some("a".into()), false)));
        assert_eq!(next(&mut whole), Some((Some("b".into()), true)));
        assert_eq!(next(&mut whole), Some((None, true)));
    }

    #[test]
    fn a_frame_does_not_wait_for_the_one_after_it() {
        let mut open = body(stream::iter(["a"]).chain(stream::pending()));
        assert_eq!(next(&mut open), Some((Some("a".into()), false)));
        assert_eq!(next(&mut open), None);
    }
}
