//! How old the answers of each read path are: no judge, but what a path is worth when things go wrong.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::history::{History, Operation};
use seedbed_core::read::ReadPath;

/// The ranges that clients read by one path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Staleness {
    /// How many were answered.
    pub answered: u64,
    /// How many of these show less than had been shown or written before they were invoked.
    pub stale: u64,
}

/// The reads of each path. What only serializable and lease reads have shown counts for nothing: they promise less.
pub fn count(history: &History) -> BTreeMap<ReadPath, Staleness> {
    let promised =
        |operation: &&Operation| !operation.request.is_serializable() && operation.read_path() != Some(ReadPath::Lease);
    let mut answers: Vec<(u64, i64)> = history
        .operations
        .iter()
        .filter(promised)
        .filter_map(|operation| Some((operation.returned, operation.response()?.revision())))
        .collect();
    answers.sort_unstable();
    // The greatest revision that any answer up to a time has carried.
    let mut shown: BTreeMap<u64, i64> = BTreeMap::new();
    let mut greatest = 0;
    for (returned, revision) in answers {
        greatest = greatest.max(revision);
        shown.insert(returned, greatest);
    }
    let mut by_path = BTreeMap::from(ReadPath::ALL.map(|path| (path, Staleness::default())));
    for read in &history.operations {
        if let (Some(path), Some(response)) = (read.read_path(), read.response()) {
            let before = shown.range(..read.invoked).next_back().map_or(0, |(_, revision)| *revision);
            let of_path = by_path.entry(path).or_default();
            of_path.answered += 1;
            of_path.stale += u64::from(response.revision() < before);
        }
    }
    by_path
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
        let serializable = path == ReadPath::Serializable;
        let range = RangeRequest { serializable, ..RangeRequest::default() };
        let read = recorder.invoke(2, Server::default(), invoked, |_| Ask { request: Request::Range(range), path });
        let shown = RangeResponse { header: header(revision), ..RangeResponse::default() };
        recorder.complete(read, None, Outcome::Ok(Response::Range(shown)), invoked + 5);
        recorder.finish()
    }

    #[test]
    fn only_a_read_that_misses_what_was_answered_before_it_is_stale() {
        for path in ReadPath::ALL {
            let stale = |invoked, revision| count(&history(path, invoked, revision))[&path];
            assert_eq!(stale(21, 6), Staleness { answered: 1, stale: 1 }, "{path}");
            assert_eq!(stale(21, 7), Staleness { answered: 1, stale: 0 }, "{path}");
            assert_eq!(stale(15, 6), Staleness { answered: 1, stale: 0 }, "{path}: it overlaps the put");
        }
    }

    #[test]
    fn reads_are_counted_by_their_path() {
        let counted = count(&history(ReadPath::Log, 21, 6));
        assert_eq!(counted.len(), ReadPath::ALL.len());
        let others = counted.iter().filter(|(path, _)| **path != ReadPath::Log);
        assert!(others.into_iter().all(|(_, staleness)| *staleness == Staleness::default()), "{counted:?}");
    }
}
