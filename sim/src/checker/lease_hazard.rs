//! Lease reads where some clock drifts further than was declared. They may be stale, as nothing else may be: they are held to
//! what serializable reads promise, a state that the store had, and how many are stale is counted by
//! [`staleness`](super::staleness).

use crate::history::{History, Request};
use seedbed_core::read::ReadPath;

/// The history with every lease read taken for a serializable one.
pub fn as_serializable(history: &History) -> History {
    let mut history = history.clone();
    for operation in &mut history.operations {
        if let Request::Range(range) = &mut operation.request
            && operation.path == ReadPath::Lease
        {
            range.serializable = true;
        }
    }
    history
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::RangeRequest;

    use super::*;
    use crate::history::{Ask, Recorder, Server};

    #[test]
    fn only_lease_reads_are_taken_for_serializable_ones() {
        for path in ReadPath::ALL {
            let mut recorder = Recorder::new();
            let range = RangeRequest { serializable: path == ReadPath::Serializable, ..RangeRequest::default() };
            let _ = recorder.invoke(1, Server::default(), 10, |_| Ask { request: Request::Range(range), path });
            let history = as_serializable(&recorder.finish());
            let promises_less = matches!(path, ReadPath::Serializable | ReadPath::Lease);
            assert_eq!(history.operations[0].request.is_serializable(), promises_less, "{path}");
        }
    }
}
