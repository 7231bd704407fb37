//! A member with an empty disk: is it new, or has it lost what it had?
//!
//! Under a number that has voted, an empty disk is a danger: the vote is forgotten, and may be given again in the same
//! term. Members publish themselves through the log when they start, so others who have applied that know whom they must
//! not meet anew. etcd asks the same ("has already been bootstrapped"). What remains, there as here, is a member that
//! lost its disk before it was published, or while nobody who knows it can be reached.

use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft_rt::Instant;

use crate::raft::NodeId;
use crate::raft::message::{PeerReply, PeerRequest, decode, encode};
use crate::runtime::{Runtime, Transport};

/// How often, within the limit, somebody is asked.
const TRIES: u32 = 20;

/// One of the others that knows this member; nobody, if all have said no or not answered within the limit.
pub(super) async fn known_by<R: Runtime>(
    others: impl Iterator<Item = NodeId>,
    transport: &R::Transport,
    limit: Duration,
) -> Option<NodeId> {
    // Asked again and again, since messages get lost; any answer will do, since they may also be slow.
    let answer = async |other| {
        let mut asked = FuturesUnordered::new();
        loop {
            asked.push(transport.call(other, encode(&PeerRequest::<R>::KnowsMe)));
            let again = <R::Instant as Instant>::now() + limit / TRIES;
            while let Ok(Some(reply)) = R::timeout_at(again, asked.next()).await {
                if let Ok(PeerReply::<R>::KnowsYou(known)) =
                    reply.map_or_else(|_| Err(()), |reply| decode(&reply).map_err(drop))
                {
                    return known.then_some(other);
                }
            }
            // Nobody listens there yet, or the answer is under way.
            R::sleep_until(again).await;
        }
    };
    let ask = async |other| R::timeout(limit, answer(other)).await.ok().flatten();
    let asked: FuturesUnordered<_> = others.map(ask).collect();
    let knowing = asked.filter_map(async |known| known);
    std::pin::pin!(knowing).next().await
}
