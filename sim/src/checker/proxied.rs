//! Proxies: what they answer from what they keep is not staler than they say, and nobody is taken back.
//!
//! ```text
//!   revision   7 applied        8 applied                      9 applied
//!                 └───────── the bound ─────────┘ a read: 8, or 9 ┘       and no less than the connection was told before
//! ```
//!
//! That such an answer is a state that the store had, whole and right, is for the judge of [serializable
//! reads](super::serializable), to whom a connection with a proxy is a member of its own.

use std::collections::BTreeMap;

use super::serializable::goes_back;
use crate::history::{History, Operation, Outcome};
use crate::outcome::Violation;
use crate::proxies::is_proxy;

const JUDGE: &str = "proxied";

/// How much was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct ProxiedCounts {
    /// Operations that a proxy has answered,
    pub operations: u64,
    /// and those that it has from what it keeps.
    pub cached: u64,
    /// For how long, at most, the store had been beyond what one of those told, when it was asked, in virtual milliseconds,
    pub stalest_ms: u64,
    /// and for how long it may have been.
    pub allowed_ms: u64,
}

/// Counts what proxies have answered. `reached` is as in [`check`], the bound in virtual milliseconds.
pub fn count(history: &History, reached: &BTreeMap<i64, u64>, allowed_ms: u64) -> ProxiedCounts {
    let answered = history.operations.iter().filter(|operation| is_answer(operation));
    let mut counts = ProxiedCounts { allowed_ms, ..ProxiedCounts::default() };
    for operation in answered {
        counts.operations += 1;
        if operation.cached {
            counts.cached += 1;
            counts.stalest_ms = counts.stalest_ms.max(behind_ns(operation, reached) / 1_000_000);
        }
    }
    counts
}

/// How long before an operation was asked the first revision was applied that its answer does not have.
fn behind_ns(operation: &Operation, reached: &BTreeMap<i64, u64>) -> u64 {
    let next = reached.range(revision(operation) + 1..).next();
    next.map_or(0, |(_, at)| operation.invoked.saturating_sub(*at))
}

fn is_answer(operation: &Operation) -> bool {
    is_proxy(operation.member) && matches!(operation.outcome, Outcome::Ok(_))
}

/// Judges the answers of proxies. `reached` says when revisions were applied for the first time, in virtual nanoseconds, as the
/// bound is.
///
/// # Errors
/// The first violation.
pub fn check(history: &History, reached: &BTreeMap<i64, u64>, bound_ns: u64) -> Result<(), Violation> {
    let answered: Vec<&Operation> = history.operations.iter().filter(|operation| is_answer(operation)).collect();
    for operation in answered.iter().filter(|operation| operation.cached) {
        let by = operation.invoked.saturating_sub(bound_ns);
        let least = reached.iter().filter(|(_, at)| **at <= by).map(|(revision, _)| *revision).max().unwrap_or(0);
        if revision(operation) < least {
            return Err(violation(format!(
                "stale beyond {} ms: revision {least} had been applied by {:.3} ms, and {operation}",
                bound_ns / 1_000_000,
                by as f64 / 1e6
            )));
        }
    }
    // On one connection. A keep-alive tells an earlier revision, as etcd's does.
    let telling = answered.into_iter().filter(|operation| !operation.request.is_of_leases());
    match goes_back(telling) {
        Some([newest, operation]) => {
            Err(violation(format!("taken back: after {newest}, a proxy answered {operation}")))
        }
        None => Ok(()),
    }
}

fn revision(operation: &Operation) -> i64 {
    operation.response().map_or(0, crate::history::Response::revision)
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{PutRequest, PutResponse, RangeRequest, RangeResponse, ResponseHeader};

    use super::*;
    use crate::history::{Recorder, Request, Response, Server};

    const MS: u64 = 1_000_000;
    const PROXY: u64 = (1 << 24) + 1;

    /// Reads and writes on one connection, each from a time and a millisecond long, at a revision; revision 5 was applied at
    /// 100 ms.
    fn judged(operations: &[(u64, bool, i64)]) -> Result<(), String> {
        check(&history(operations), &reached(), 200 * MS).map_err(|violation| violation.message)
    }

    fn reached() -> BTreeMap<i64, u64> {
        BTreeMap::from([(4, 50 * MS), (5, 100 * MS)])
    }

    fn history(operations: &[(u64, bool, i64)]) -> History {
        let mut recorder = Recorder::new();
        for (at_ms, cached, revision) in operations {
            let header = Some(ResponseHeader { revision: *revision, ..ResponseHeader::default() });
            let (request, response) = if *cached {
                let request = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
                let response = RangeResponse { header, ..RangeResponse::default() };
                (Request::Range(request), Response::Range(response))
            } else {
                (Request::Put(PutRequest::default()), Response::Put(PutResponse { header, prev_kv: None }))
            };
            let token = recorder.invoke(1, Server::default(), at_ms * MS, |_| request);
            let server = Server { member: PROXY, incarnation: 3, cached: *cached };
            recorder.complete(token, Some(server), Outcome::Ok(response), (at_ms + 1) * MS);
        }
        recorder.finish()
    }

    #[test]
    fn the_stalest_of_what_was_kept_is_told() {
        let counted = |operations: &[_]| count(&history(operations), &reached(), 200);
        let told = counted(&[(40, true, 3), (199, true, 4), (130, true, 4), (290, false, 4), (290, true, 5)]);
        assert_eq!(told, ProxiedCounts { operations: 5, cached: 4, stalest_ms: 99, allowed_ms: 200 });
    }

    #[test]
    fn an_answer_may_be_as_old_as_it_was_said() {
        judged(&[(299, true, 4)]).unwrap();
        judged(&[(301, true, 5)]).unwrap();
        assert!(judged(&[(301, true, 4)]).unwrap_err().starts_with("stale beyond 200 ms: revision 5"));
    }

    #[test]
    fn nobody_is_taken_back() {
        judged(&[(110, false, 5), (120, true, 5)]).unwrap();
        assert!(judged(&[(110, false, 5), (120, true, 4)]).unwrap_err().starts_with("taken back"));
        assert!(judged(&[(110, true, 5), (120, true, 4)]).unwrap_err().starts_with("taken back"));
        // At the same time, either may be first.
        judged(&[(110, false, 5), (110, true, 4)]).unwrap();
    }
}
