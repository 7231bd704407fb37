//! Lease reads where some clock drifts further than was declared: nothing is promised of them, so stale ones are counted,
//! by [`staleness`](super::staleness), and are no violation. No other read may be touched by it.

use crate::history::History;
use seedbed_core::read::ReadPath;

/// The history without its lease reads: what the other judges are to hold to their guarantees.
pub fn without_lease_reads(history: &History) -> History {
    let mut history = history.clone();
    history.operations.retain(|operation| operation.read_path() != Some(ReadPath::Lease));
    history
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::RangeRequest;

    use super::*;
    use crate::history::{Ask, Recorder, Request, Server};

    #[test]
    fn only_lease_reads_are_left_out() {
        for path in ReadPath::ALL {
            let mut recorder = Recorder::new();
            let range = RangeRequest { serializable: path == ReadPath::Serializable, ..RangeRequest::default() };
            let _ = recorder.invoke(1, Server::default(), 10, |_| Ask { request: Request::Range(range), path });
            let kept = without_lease_reads(&recorder.finish()).operations.len();
            assert_eq!(kept, usize::from(path != ReadPath::Lease), "{path}");
        }
    }
}
