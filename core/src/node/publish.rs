//! Publishing what clients may know of this member.

use std::time::Duration;

use openraft_rt::Select2;

use crate::members::Attributes;
use crate::raft::{Command, LogStore, NodeId, ProposeError, Proposer, Request};
use crate::runtime::Runtime;
use crate::watermark::Stop;

/// Publishes, once there is a vote on the disk, until it has succeeded or the member stops. Whoever is known to others
/// and has no vote is taken for one that has lost its disk. A time-out leaves open whether it has succeeded: to publish
/// twice does no harm.
pub(super) async fn publish<R: Runtime>(
    member: NodeId,
    attributes: Attributes,
    log: LogStore<R>,
    proposer: Proposer<R>,
    retry: Duration,
    stop: Stop,
) {
    let publishing = async {
        loop {
            if !log.has_vote() {
                R::sleep(retry).await;
                continue;
            }
            let request = Request::Publish { member, attributes: attributes.clone() };
            match proposer.propose(Command::new(0, request)).await {
                Ok(_) | Err(ProposeError::Stopped) => return,
                Err(error) => tracing::warn!(%error, "this member's name and client URLs are not published yet"),
            }
            R::sleep(retry).await;
        }
    };
    let _: Select2<(), ()> = R::select2(stop.stopped(), publishing).await;
}
