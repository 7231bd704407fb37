//! The way between members: one request, one reply, in bytes.

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use crate::ids::NodeId;

/// The version of what members say to each other: requests, replies and the way of a transport to lay them out. Messages
/// do not name their fields, so one of another version may well read as something else: a transport between separate
/// programs says its version before anything else, and refuses another.
pub const PROTOCOL_VERSION: u32 = 1;

/// Answers a request of the member named. The future is polled to its end even if the asker has gone.
pub type Handler = Arc<dyn Fn(NodeId, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// Why a call has no reply. Whether the peer has acted on the request is unknown in every case but [`Unreachable`].
///
/// [`Unreachable`]: TransportError::Unreachable
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// No connection could be made: the request was not sent.
    #[error("member {0} is unreachable")]
    Unreachable(NodeId),
    /// The connection ended before the reply.
    #[error("connection to member {0} was lost")]
    Lost(NodeId),
}

/// A member's connections to the others. Requests and replies may be lost, delayed and reordered; what arrives is whole,
/// and arrives once: a forwarded change that came twice would be made twice. Any number of calls may be under way.
pub trait Transport: Clone + Debug + Send + Sync + 'static {
    /// Sends a request and awaits the reply. May wait for ever: callers set their own time-outs, and give a call up by
    /// dropping it.
    fn call(&self, to: NodeId, request: Bytes) -> impl Future<Output = Result<Bytes, TransportError>> + Send;

    /// Answers requests of other members with `handler` from now on, instead of any earlier one.
    fn serve(&self, handler: Handler);
}
