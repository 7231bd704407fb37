//! Refusals that follow from the request alone: each has its reason in the request, and a request that has to be refused
//! is not answered.
//!
//! Refusals that depend on the state (compacted, a future revision, a key that does not exist) are
//! [linearizability](super::linearizable)'s.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;
use seedbed_proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op};
use tonic::Code;

use crate::history::{History, Operation, Outcome, Request};
use crate::model::Refusal;
use crate::outcome::Violation;

const JUDGE: &str = "refusal";

/// etcd's limits.
const TXN_OPERATIONS_MAX: usize = 128;
const REQUEST_BYTES_MAX: usize = 3 << 19;

/// Judges the refusals of a history.
pub fn check(history: &History) -> Result<(), Violation> {
    history.operations.iter().try_for_each(judge)
}

fn judge(operation: &Operation) -> Result<(), Violation> {
    let faults = Faults::of(&operation.request);
    match &operation.outcome {
        Outcome::Unknown => Ok(()),
        Outcome::Ok(_) if faults.certain => Err(violation(operation, "it was answered, but had to be refused")),
        Outcome::Ok(_) => Ok(()),
        Outcome::Failed { code, message } if Refusal::of(*code, message).is_some() => Ok(()),
        // The member's own affair: it had too much to do.
        Outcome::Failed { code, .. } if *code == Code::ResourceExhausted as i32 => Ok(()),
        Outcome::Failed { message, .. } if faults.reasons.contains(&message[..]) => Ok(()),
        Outcome::Failed { .. } => Err(violation(operation, "nothing in the request is a reason for that")),
    }
}

fn violation(operation: &Operation, what: &str) -> Violation {
    Violation { judge: JUDGE, message: format!("{operation}: {what}") }
}

/// What is wrong with a request by itself.
#[derive(Default)]
struct Faults {
    /// Texts of errors that may be the answer.
    reasons: BTreeSet<&'static str>,
    /// Whether one of them has to be.
    certain: bool,
    puts: Vec<Bytes>,
    deletes: Vec<DeleteRangeRequest>,
}

impl Faults {
    fn of(request: &Request) -> Self {
        let mut faults = Faults::default();
        let bytes = match request {
            Request::Range(request) => {
                faults.range(request);
                0
            }
            Request::Put(request) => {
                faults.put(request);
                request.encoded_len()
            }
            Request::DeleteRange(request) => {
                faults.delete(request);
                request.encoded_len()
            }
            Request::Txn(request) => {
                faults.txn(request);
                request.encoded_len()
            }
            Request::Compact(_) => 0,
        };
        if bytes > REQUEST_BYTES_MAX {
            faults.surely("etcdserver: request is too large");
        }
        if faults.doubles() {
            // Which doubles are allowed, over the branches of nested txns, is left to the differential test.
            faults.reasons.insert("etcdserver: duplicate key given in txn request");
        }
        faults
    }

    fn surely(&mut self, reason: &'static str) {
        self.reasons.insert(reason);
        self.certain = true;
    }

    fn key(&mut self, key: &Bytes) {
        if key.is_empty() {
            self.surely("etcdserver: key is not provided");
        }
    }

    fn range(&mut self, range: &RangeRequest) {
        self.key(&range.key);
        if !(0..=2).contains(&range.sort_order) || !(0..=4).contains(&range.sort_target) {
            self.surely("etcdserver: invalid sort option");
        }
    }

    fn put(&mut self, put: &PutRequest) {
        self.key(&put.key);
        if put.ignore_value && !put.value.is_empty() {
            self.surely("etcdserver: value is provided");
        }
        if put.ignore_lease && put.lease != 0 {
            self.surely("etcdserver: lease is provided");
        }
        self.puts.push(put.key.clone());
    }

    fn delete(&mut self, delete: &DeleteRangeRequest) {
        self.key(&delete.key);
        self.deletes.push(delete.clone());
    }

    fn txn(&mut self, txn: &TxnRequest) {
        for compare in &txn.compare {
            self.key(&compare.key);
        }
        for branch in [&txn.success, &txn.failure] {
            if branch.len() > TXN_OPERATIONS_MAX || txn.compare.len() > TXN_OPERATIONS_MAX {
                self.surely("etcdserver: too many operations in txn request");
            }
            if puts_twice(branch) {
                self.surely("etcdserver: duplicate key given in txn request");
            }
            for operation in branch {
                match &operation.request {
                    Some(request_op::Request::RequestRange(range)) => self.range(range),
                    Some(request_op::Request::RequestPut(put)) => self.put(put),
                    Some(request_op::Request::RequestDeleteRange(delete)) => self.delete(delete),
                    Some(request_op::Request::RequestTxn(nested)) => self.txn(nested),
                    None => self.surely("etcdserver: key not found"),
                }
            }
        }
    }

    /// Whether any put names the key of another, or of a deletion.
    fn doubles(&self) -> bool {
        let mut seen = BTreeSet::new();
        self.puts.iter().any(|key| !seen.insert(key) || self.deletes.iter().any(|delete| deletes(delete, key)))
    }
}

fn puts_twice(branch: &[RequestOp]) -> bool {
    let mut seen = BTreeSet::new();
    branch.iter().any(|operation| match &operation.request {
        Some(request_op::Request::RequestPut(put)) => !seen.insert(&put.key),
        _ => false,
    })
}

fn deletes(delete: &DeleteRangeRequest, key: &Bytes) -> bool {
    match &delete.range_end[..] {
        [] => delete.key == key,
        [0] => delete.key <= key,
        end => delete.key <= key && &key[..] < end,
    }
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{PutResponse, RangeResponse, TxnResponse};

    use super::*;
    use crate::history::{Recorder, Response, Server};

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
    fn an_empty_key_is_never_answered() {
        judged(Request::Range(RangeRequest::default()), refused("etcdserver: key is not provided")).unwrap();
        let answered = Outcome::Ok(Response::Range(RangeResponse::default()));
        judged(Request::Range(RangeRequest::default()), answered).unwrap_err();
        let put = Request::Put(PutRequest { key: "k".into(), ..PutRequest::default() });
        judged(put.clone(), Outcome::Ok(Response::Put(PutResponse::default()))).unwrap();
        judged(put, refused("etcdserver: value is provided")).unwrap_err();
    }
}
