//! ReadIndex reads wait for nobody else's disk: where a plan says by when they have to be answered, each of them is.
//!
//! Reads at a member whose own disk stands still are left out: it gets no entries while it cannot acknowledge what it
//! has got, and shows nothing that it does not have.

use std::time::Duration;

use seedbed_core::read::ReadPath;

use crate::evidence::Stall;
use crate::history::{History, Outcome};
use crate::outcome::Violation;

/// Judges the ReadIndex reads of a history.
pub fn check(history: &History, stalls: &[Stall], limit: Option<Duration>) -> Result<(), Violation> {
    let Some(limit) = limit else { return Ok(()) };
    for read in history.operations.iter().filter(|operation| operation.reads_by(ReadPath::ReadIndex)) {
        let took = Duration::from_nanos(read.returned - read.invoked);
        let own_disk = stalls
            .iter()
            .any(|stall| stall.node.0 == read.member && stall.from < read.returned && read.invoked < stall.until);
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

    fn judged(path: ReadPath, took_ms: u64, outcome: Outcome, stalled: u64) -> bool {
        let mut recorder = Recorder::new();
        let ask = |_| Ask { request: Request::Range(RangeRequest::default()), path };
        let read = recorder.invoke(1, Server::default(), 1_000, ask);
        recorder.complete(read, Some(Server { member: 2, incarnation: 0 }), outcome, 1_000 + took_ms * 1_000_000);
        let stalls = [Stall { node: NodeId(stalled), from: 0, until: 2_000 }];
        check(&recorder.finish(), &stalls, Some(Duration::from_millis(20))).is_ok()
    }

    #[test]
    fn a_member_may_wait_for_its_own_disk() {
        assert!(judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 2));
        assert!(!judged(ReadPath::ReadIndex, 21, Outcome::Unknown, 3));
    }

    #[test]
    fn a_late_read_and_one_without_an_answer_are_noticed_on_this_path_alone() {
        let answered = || Outcome::Ok(Response::Range(RangeResponse::default()));
        assert!(judged(ReadPath::ReadIndex, 20, answered(), 1));
        assert!(!judged(ReadPath::ReadIndex, 21, answered(), 1));
        assert!(!judged(ReadPath::ReadIndex, 5, Outcome::Unknown, 1));
        assert!(judged(ReadPath::Log, 900, answered(), 1));
    }
}
