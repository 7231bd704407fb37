//! Refusals that follow from the request alone: a request with a fault is refused for it, and no other is; and what is no
//! reason to refuse such a request in any state of the store is none.
//!
//! Whether the store was in such a state is for [linearizability](super::linearizable) to say (compacted, a future revision, a key
//! that does not exist), and for the judge of [leases](super::lease).

use tonic::Code;

use crate::history::{History, Operation, Outcome};
use crate::model::{Fault, Refusal, Refusals};
use crate::outcome::Violation;

const JUDGE: &str = "refusal";

/// Judges the refusals of a history.
pub fn check(history: &History) -> Result<(), Violation> {
    history.operations.iter().try_for_each(judge)
}

fn judge(operation: &Operation) -> Result<(), Violation> {
    let fault = Fault::of(&operation.request);
    match (&operation.outcome, fault) {
        (Outcome::Unknown, _) | (Outcome::Ok(_), None) => Ok(()),
        (Outcome::Ok(_), Some(fault)) => Err(violation(operation, &format!("it had to be refused: {fault:?}"))),
        // The member's own affair: it had too much to do.
        (Outcome::Failed { code, .. }, _) if *code == Code::ResourceExhausted as i32 => Ok(()),
        (outcome, Some(fault)) if *outcome == fault.outcome() => Ok(()),
        (Outcome::Failed { .. }, Some(fault)) => {
            Err(violation(operation, &format!("that is not what is wrong with it: {fault:?}")))
        }
        (Outcome::Failed { code, message }, None) => match Refusal::of(*code, message) {
            Some(reason) if Refusals::possible(&operation.request).contains(reason) => Ok(()),
            _ => Err(violation(operation, "nothing in the request is a reason for that")),
        },
    }
}

fn violation(operation: &Operation, what: &str) -> Violation {
    Violation { judge: JUDGE, message: format!("{operation}: {what}") }
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{
        LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
        PutRequest, PutResponse, RangeRequest, RangeResponse, RequestOp, TxnRequest, TxnResponse, request_op,
    };

    use super::*;
    use crate::history::{Recorder, Request, Response, Server};

    fn judged(request: Request, outcome: Outcome) -> Result<(), String> {
        let mut recorder = Recorder::new();
        let token = recorder.invoke(1, Server::default(), 0, |_| request);
        recorder.complete(token, None, outcome, 1);
        check(recorder.history()).map_err(|violation| violation.message)
    }

    fn refused(message: &str) -> Outcome {
        Outcome::Failed { code: Code::InvalidArgument as i32, message: message.to_owned() }
    }

    fn put(key: &'static str) -> RequestOp {
        let put = PutRequest { key: key.into(), ..PutRequest::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    }

    #[test]
    fn a_refusal_has_its_reason_in_the_request() {
        let duplicate = "etcdserver: duplicate key given in txn request";
        let txn = |keys: [&'static str; 2]| {
            Request::Txn(TxnRequest { success: keys.map(put).to_vec(), ..TxnRequest::default() })
        };
        judged(txn(["a", "a"]), refused(duplicate)).unwrap();
        assert!(judged(txn(["a", "b"]), refused(duplicate)).unwrap_err().contains("no"));
        assert!(judged(txn(["a", "b"]), refused("etcdserver: key is not provided")).is_err());
        let answered = Outcome::Ok(Response::Txn(TxnResponse::default()));
        assert!(judged(txn(["a", "a"]), answered.clone()).unwrap_err().contains("had to be refused"));
        judged(txn(["a", "b"]), answered).unwrap();
    }

    #[test]
    fn what_is_no_reason_for_such_a_request_in_any_state_is_none() {
        use Refusal::{Compacted, KeyNotFound, LeaseExists, LeaseNotFound};
        let put = |put: PutRequest| Request::Put(PutRequest { key: "k".into(), ..put });
        let range = |revision| Request::Range(RangeRequest { key: "k".into(), revision, ..RangeRequest::default() });
        let in_txn = |request| {
            let nested = TxnRequest { failure: vec![RequestOp { request: Some(request) }], ..TxnRequest::default() };
            let nested = RequestOp { request: Some(request_op::Request::RequestTxn(nested)) };
            Request::Txn(TxnRequest { success: vec![nested], ..TxnRequest::default() })
        };
        let leased = PutRequest { key: "k".into(), lease: 7, ..PutRequest::default() };
        let grant = |id| Request::LeaseGrant(LeaseGrantRequest { id, ttl: 5 });
        let plain = put(PutRequest::default());
        for (request, possible, impossible) in [
            (put(leased.clone()), &[LeaseNotFound][..], &[LeaseExists, KeyNotFound][..]),
            (put(PutRequest { ignore_value: true, ..PutRequest::default() }), &[KeyNotFound], &[LeaseNotFound]),
            (plain, &[], &Refusal::ALL),
            (range(0), &[], &Refusal::ALL),
            (range(5), &[Compacted], &[KeyNotFound]),
            (in_txn(request_op::Request::RequestPut(leased)), &[LeaseNotFound], &[KeyNotFound, Compacted]),
            (grant(7), &[LeaseExists], &[LeaseNotFound]),
            (grant(0), &[], &Refusal::ALL),
            (Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }), &[LeaseNotFound], &[LeaseExists]),
            (Request::LeaseKeepAlive(LeaseKeepAliveRequest { id: 7 }), &[], &Refusal::ALL),
            (Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys: true }), &[], &Refusal::ALL),
            (Request::LeaseLeases(LeaseLeasesRequest {}), &[], &Refusal::ALL),
        ] {
            for refusal in possible {
                judged(request.clone(), refusal.outcome()).unwrap();
            }
            for refusal in impossible {
                let message = judged(request.clone(), refusal.outcome()).unwrap_err();
                assert!(message.contains("nothing in the request is a reason"), "{message}");
            }
        }
    }

    #[test]
    fn an_empty_key_is_never_answered() {
        judged(Request::Range(RangeRequest::default()), refused("etcdserver: key is not provided")).unwrap();
        let answered = Outcome::Ok(Response::Range(RangeResponse::default()));
        judged(Request::Range(RangeRequest::default()), answered).unwrap_err();
        let put = Request::Put(PutRequest { key: "k".into(), ..PutRequest::default() });
        judged(put.clone(), Outcome::Ok(Response::Put(PutResponse::default()))).unwrap();
        judged(put, refused("etcdserver: value is provided")).unwrap_err();
    }
}
