//! Lease reads where some clock drifts further than was declared: nothing is promised of them, so stale ones are counted
//! and are no violation. No other read may be touched by it.

use std::collections::BTreeMap;

use crate::history::{History, Operation};
use seedbed_core::read::ReadPath;

/// How many lease reads show less than what had been shown or written before they were invoked.
pub fn count(history: &History) -> u64 {
    // The greatest revision that any answer up to a time has carried.
    let mut shown: BTreeMap<u64, i64> = BTreeMap::new();
    let mut answers: Vec<(u64, i64)> = history
        .operations
        .iter()
        .filter(|operation| !operation.reads_by(ReadPath::Lease) && !operation.request.is_serializable())
        .filter_map(|operation| Some((operation.returned, operation.response()?.revision())))
        .collect();
    answers.sort_unstable();
    let mut greatest = 0;
    for (returned, revision) in answers {
        greatest = greatest.max(revision);
        shown.insert(returned, greatest);
    }
    let stale = |read: &&Operation| {
        let before = shown.range(..read.invoked).next_back().map_or(0, |(_, revision)| *revision);
        read.reads_by(ReadPath::Lease) && read.response().is_some_and(|response| response.revision() < before)
    };
    history.operations.iter().filter(stale).count() as u64
}

/// The history without its lease reads: what the other judges are to hold to their guarantees.
pub fn without_lease_reads(history: &History) -> History {
    let mut history = history.clone();
    history.operations.retain(|operation| !operation.reads_by(ReadPath::Lease));
    history
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader};

    use super::*;
    use crate::history::{Ask, Outcome, Recorder, Request, Response, Server};

    fn header(revision: i64) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision, ..ResponseHeader::default() })
    }

    /// A put at revision 7 that ends at 20, and a read by a path that begins at `invoked` and shows a revision.
    fn history(path: ReadPath, invoked: u64, revision: i64) -> History {
        let mut recorder = Recorder::new();
        let put = recorder.invoke(1, Server::default(), 10, |_| Request::Put(PutRequest::default()));
        let put_response = PutResponse { header: header(7), ..PutResponse::default() };
        recorder.complete(put, None, Outcome::Ok(Response::Put(put_response)), 20);
        let ask = |_| Ask { request: Request::Range(RangeRequest::default()), path };
        let read = recorder.invoke(2, Server::default(), invoked, ask);
        let shown = RangeResponse { header: header(revision), ..RangeResponse::default() };
        recorder.complete(read, None, Outcome::Ok(Response::Range(shown)), invoked + 5);
        recorder.finish()
    }

    #[test]
    fn only_a_lease_read_that_misses_what_was_answered_before_it_is_stale() {
        assert_eq!(count(&history(ReadPath::Lease, 21, 6)), 1);
        assert_eq!(count(&history(ReadPath::Lease, 21, 7)), 0);
        assert_eq!(count(&history(ReadPath::Lease, 15, 6)), 0, "it overlaps the put");
        assert_eq!(count(&history(ReadPath::ReadIndex, 21, 6)), 0, "another judge's matter");
    }

    #[test]
    fn only_lease_reads_are_left_out() {
        assert_eq!(without_lease_reads(&history(ReadPath::Lease, 21, 7)).operations.len(), 1);
        assert_eq!(without_lease_reads(&history(ReadPath::Log, 21, 7)).operations.len(), 2);
    }
}
