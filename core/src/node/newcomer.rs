//! A member with an empty disk: is it new, or has it lost what it had?
//!
//! Under a number that has voted, an empty disk is a danger: the vote is forgotten, and may be given again in the same
//! term. Members publish themselves through the log when they start, so others who have applied that know whom they must
//! not meet anew. etcd asks the same ("has already been bootstrapped"). What remains, there as here, is a member that
//! lost its disk before it was published, or while nobody who knows it can be reached.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;

use crate::raft::NodeId;
use crate::raft::message::{PeerReply, PeerRequest, decode, encode};
use crate::runtime::{Runtime, Transport};

/// One of the others that knows this member; nobody, if all have said no or not answered within the limit.
pub(super) async fn known_by<R: Runtime>(
    others: impl Iterator<Item = NodeId>,
    transport: &R::Transport,
    limit: Duration,
) -> Option<NodeId> {
    let ask = async |other| {
        let reply = R::timeout(limit, transport.call(other, encode(&PeerRequest::<R>::KnowsMe))).await;
        let known = match reply {
            Ok(Ok(reply)) => matches!(decode(&reply), Ok(PeerReply::<R>::KnowsYou(true))),
            _ => false,
        };
        known.then_some(other)
    };
    let asked: FuturesUnordered<_> = others.map(ask).collect();
    let knowing = asked.filter_map(async |known| known);
    std::pin::pin!(knowing).next().await
}
