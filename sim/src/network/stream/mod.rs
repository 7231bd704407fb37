//! Byte streams from clients to members: what TCP makes of links that delay, lose and are cut.
//!
//! ```text
//!   client                                member
//!   connect ──open──►  link ──► listener: a task on the member's node
//!           ◄────────  link ◄──accepted──
//!   write ───bytes──►  link ──► read      each direction by itself, in order
//!   shutdown ──end──►  link ──► end of the stream
//! ```
//!
//! - What a write hands over is a segment: a message on its link, with the link's latency and its draws. It never
//!   overtakes an earlier one.
//! - A segment that is lost or meets a cut is sent again after a while, then after twice as long, and so on; what was
//!   sent after it waits. When that has failed too often, its sender gives the connection up. A link that
//!   delivers a segment twice does no more than that: TCP knows what it has.
//! - An end that crashes, or goes without having said that nothing follows, resets the connection; and one that has gone
//!   answers whatever still arrives for it with a reset. A reset is sent once: if it gets lost, the other end finds out
//!   when it sends something, or never.
//! - In each direction at most [`WINDOW_BYTES`] are under way or unread: beyond that a writer waits for the reader.
//! - A paused member's segments wait in its buffers, as in its kernel's, which also accepts connections for it.
//!
//! Acknowledgements are not simulated: a link that is cut in one direction only still carries the other direction's bytes,
//! and a reader's progress is known to a waiting writer at once.
//!
//! madsim's own streams cannot be the carrier. Their reader sleeps for a millisecond at least before each chunk, whatever the
//! latency; latency is drawn from the generator that also schedules; a cut link refuses connections; and a crash looks like
//! an orderly end, at once.

mod carrier;
mod connection;

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use bytes::BytesMut;
use futures_util::future::BoxFuture;
use seedbed_core::raft::NodeId;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use self::connection::{Connection, Segment, Side};
pub(super) use self::connection::{ConnectionId, Connections};
use super::{Address, Network, Shared};

/// The most bytes of one direction that are under way or unread.
pub const WINDOW_BYTES: usize = 256 << 10;

/// Serves one connection of a client, which ends when the future does.
pub type StreamHandler = Arc<dyn Fn(ByteStream) -> BoxFuture<'static, ()> + Send + Sync>;

/// One end of a connection. Dropping it before it has been shut down resets the connection.
pub struct ByteStream {
    shared: Arc<Shared>,
    id: ConnectionId,
    side: Side,
}

impl fmt::Debug for ByteStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ByteStream").field("id", &self.id).field("side", &self.side).finish_non_exhaustive()
    }
}

impl Network {
    /// Opens a connection from a client to a member.
    ///
    /// # Errors
    /// `ConnectionRefused` if the member does not listen; `TimedOut` if it could not be reached for a long time.
    pub async fn connect(&self, client: u32, to: NodeId) -> io::Result<ByteStream> {
        let connection = Connection::new(Address::Client(client), Address::Member(to));
        let id = self.shared.lock().connections.add(connection);
        let stream = ByteStream { shared: self.shared.clone(), id, side: Side::Client };
        self.shared.transmit(id, Side::Client, Segment::Open);
        poll_fn(|context| stream.poll(|connection| connection.poll_connected(context))).await?;
        Ok(stream)
    }
}

impl ByteStream {
    /// Does something with the connection, and wakes whom that concerns.
    fn poll<T>(
        &self,
        work: impl FnOnce(&mut Connection) -> (Poll<io::Result<T>>, Option<Waker>),
    ) -> Poll<io::Result<T>> {
        let mut state = self.shared.lock();
        // The end of the run may have taken the connection.
        let Some(connection) = state.connections.get_mut(self.id) else {
            return Poll::Ready(Err(io::ErrorKind::NotConnected.into()));
        };
        let (polled, woken) = work(connection);
        drop(state);
        woken.into_iter().for_each(Waker::wake);
        polled
    }

    /// Sends as much of the parts as there is room for.
    fn poll_send(&self, context: &mut Context<'_>, parts: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let wanted: usize = parts.iter().map(|part| part.len()).sum();
        if wanted == 0 {
            return Poll::Ready(Ok(0));
        }
        let room = match self.poll(|connection| (connection.poll_room(self.side, context), None)) {
            Poll::Ready(Ok(room)) => room,
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        };
        let mut segment = BytesMut::with_capacity(wanted.min(room));
        for part in parts {
            segment.extend_from_slice(&part[..part.len().min(room - segment.len())]);
        }
        let sent = segment.len();
        self.shared.transmit(self.id, self.side, Segment::Bytes(segment.freeze()));
        Poll::Ready(Ok(sent))
    }
}

impl AsyncRead for ByteStream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.poll(|connection| connection.poll_read(self.side, context, buffer))
    }
}

impl AsyncWrite for ByteStream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_send(context, &[io::IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_send(context, parts)
    }

    /// So that what is flushed at once is one segment.
    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing to do: a write is sent at once.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let first = match self.poll(|connection| (Poll::Ready(connection.shut(self.side)), None)) {
            Poll::Ready(first) => first?,
            Poll::Pending => unreachable!("it is answered at once"),
        };
        if first {
            self.shared.transmit(self.id, self.side, Segment::End);
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for ByteStream {
    fn drop(&mut self) {
        let left = self.shared.lock().connections.leave(self.id, self.side);
        if left.resets {
            self.shared.send_reset(self.id, self.side.other());
        }
    }
}

#[cfg(test)]
mod tests;
