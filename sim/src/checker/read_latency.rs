//! ReadIndex reads wait for nobody else's disk: where a plan says by when they have to be answered, each of them is.
//!
//! Reads at a member whose own disk stands still are left out: it gets no entries while it cannot acknowledge what it
//! has got, and shows nothing that it does not have. So are reads shortly after: the leader has backed off from a
//! follower that did not answer, half a second at most, and sends it nothing meanwhile.

use std::time::Duration;

use seedbed_core::read::ReadPath;

use crate::evidence::Stall;
use crate::history::{History, Outcome};
use crate::outcome::Violation;

/// How long after a stall a member may still lack entries: the greatest back-off, and the way there.
const AFTERMATH_NS: u64 = 600_000_000;

/// Judges the ReadIndex reads of a history.
pub fn check(history: &History, stalls: &[Stall], limit: Option<Duration>) -> Result<(), Violation> {
    let Some(limit) = limit else { return Ok(()) };
    for read in history.operations.iter().filter(|operation| operation.read_path() == Some(ReadPath::ReadIndex)) {
        let took = Duration::from_nanos(read.returned - read.invoked);
        let own_disk = stalls.iter().any(|stall| {
            let until = stall.until.saturating_add(AFTERMATH_NS);
            stall.node.0 == read.member && stall.from < read.returned && read.invoked < until
        });
        if own_disk {
            continue;
        }
        if took > limit || read.outcome == Outcome::Unknown {
            let message = format!("after {took:?}, {limit:?} at most were promised: {read}");
            return Err(Violation { judge: "read-latency", message });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use seedbed_core::raft::NodeId;
    use seedbed_proto::etcdserverpb::{RangeRequest, RangeResponse};

    use super::*;
    use crate::history::{Ask, Recorder, Request, Response, Server};

    /// When the read begins.
    const INVOKED: u64 = 5_000_000_000;

    /// Whether a read at member 2 is fine, while the disk of a member stands still from the start until some time.
    fn judged(path: ReadPath, took_ms: u64, outcome: Outcome, stalled: u64, stall_ms: u64) -> bool {
        let mut recorder = Recorder::new();
        let ask = |_| Ask { request: Request::Range(RangeRequest::default()), path };
        let read = recorder.invoke(1, Server::default(), INVOKED, ask);
        recorder.complete(
            read,
            Some(Server { member: 2, ..Server::default() }),
            outcome,
            INVOKED + took_ms * 1_000_000,
        );
        let stalls = [Stall { node: NodeId(stalled), from: 0, until: stall_ms * 1_000_000 }];
        check(&recorder.finish(), &stalls, Some(Duration::from_millis(20))).is_ok()
    }

    #[test]
    fn a_member_may_wait_for_its_own_disk() {
        assert!(judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 2, 5_010));
        assert!(judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 2, 4_500), "its leader has backed off");
        assert!(!judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 2, 4_000));
        assert!(!judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 3, 5_010));
    }

    #[test]
    fn a_late_read_and_one_without_an_answer_are_noticed_on_this_path_alone() {
        let answered = || Outcome::Ok(Response::Range(RangeResponse::default()));
        assert!(judged(ReadPath::ReadIndex, 20, answered(), 1, 9_000));
        assert!(!judged(ReadPath::ReadIndex, 21, answered(), 1, 9_000));
        assert!(!judged(ReadPath::ReadIndex, 5, Outcome::Unknown, 1, 9_000));
        assert!(judged(ReadPath::Log, 900, answered(), 1, 9_000));
    }
}
