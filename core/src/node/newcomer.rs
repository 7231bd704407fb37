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

/// How often, within the limit, somebody is asked who does not listen.
const TRIES: u32 = 20;
/// How often, within the limit, an answer is waited for that does not come.
const LOST: u32 = 4;

/// One of the others that knows this member; nobody, if all have said no or not answered within the limit.
pub(super) async fn known_by<R: Runtime>(
    others: impl Iterator<Item = NodeId>,
    transport: &R::Transport,
    limit: Duration,
) -> Option<NodeId> {
    let answer = async |other| loop {
        let asked = transport.call(other, encode(&PeerRequest::<R>::KnowsMe));
        if let Ok(Ok(reply)) = R::timeout(limit / LOST, asked).await
            && let Ok(PeerReply::<R>::KnowsYou(known)) = decode(&reply)
        {
            return known.then_some(other);
        }
        // Nobody listens there yet.
        R::sleep(limit / TRIES).await;
    };
    let ask = async |other| R::timeout(limit, answer(other)).await.ok().flatten();
    let asked: FuturesUnordered<_> = others.map(ask).collect();
    let knowing = asked.filter_map(async |known| known);
    std::pin::pin!(knowing).next().await
}
