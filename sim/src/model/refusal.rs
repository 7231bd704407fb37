//! Why the store may refuse a request, as clients see it.

use std::ops::BitOrAssign;

use seedbed_proto::etcdserverpb::{LeaseGrantRequest, PutRequest, RangeRequest, TxnRequest, request_op};
use tonic::Code;

use crate::history::{Outcome, Request};

/// A reason to refuse a request that depends on the store's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision has not been reached.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// There is no such lease.
    LeaseNotFound,
    /// There is a lease of that number already.
    LeaseExists,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 5] = [
        Refusal::Compacted,
        Refusal::FutureRevision,
        Refusal::KeyNotFound,
        Refusal::LeaseNotFound,
        Refusal::LeaseExists,
    ];

    fn status(self) -> (Code, &'static str) {
        match self {
            Refusal::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Refusal::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Refusal::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
        }
    }

    /// The reason that an error answer gives. `None`: it says nothing about the store's keys and revisions.
    pub fn of(code: i32, message: &str) -> Option<Refusal> {
        Refusal::ALL.into_iter().find(|refusal| {
            let (its_code, its_message) = refusal.status();
            its_code as i32 == code && its_message == message
        })
    }

    /// The answer that gives this reason.
    pub fn outcome(self) -> Outcome {
        let (code, message) = self.status();
        Outcome::Failed { code: code as i32, message: message.to_owned() }
    }
}

/// Reasons, each once, in the order in which etcd comes upon them. It names the first; a store may name another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusals([Option<Refusal>; Refusal::ALL.len()]);

impl Refusals {
    /// No reason.
    pub const NONE: Refusals = Refusals([None; Refusal::ALL.len()]);

    /// Whether there is no reason at all.
    pub fn is_empty(self) -> bool {
        self == Refusals::NONE
    }

    /// Whether this is among the reasons.
    pub fn contains(self, refusal: Refusal) -> bool {
        self.0.contains(&Some(refusal))
    }

    /// Those that there can be for a request, in whichever state the store is.
    pub fn possible(request: &Request) -> Refusals {
        match request {
            Request::Range(range) => of_range(range),
            Request::Put(put) => of_put(put),
            Request::Txn(txn) => of_txn(txn),
            Request::Compact(_) => [Refusal::Compacted, Refusal::FutureRevision].into_iter().collect(),
            // It asks for no number that there could be already.
            Request::LeaseGrant(LeaseGrantRequest { id: 0, .. }) => Refusals::NONE,
            Request::LeaseGrant(_) => Refusal::LeaseExists.into(),
            Request::LeaseRevoke(_) => Refusal::LeaseNotFound.into(),
            // That there is no such lease is an answer to these.
            Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) => Refusals::NONE,
            Request::DeleteRange(_) | Request::LeaseLeases(_) => Refusals::NONE,
        }
    }

    /// Those for which a store must refuse, whichever leases there are.
    pub fn compelling(self) -> Refusals {
        self.iter().filter(|refusal| !matches!(refusal, Refusal::LeaseNotFound | Refusal::LeaseExists)).collect()
    }

    /// The one that etcd names.
    pub fn first(self) -> Option<Refusal> {
        self.0[0]
    }

    /// Each reason, in their order.
    pub fn iter(self) -> impl Iterator<Item = Refusal> {
        self.0.into_iter().flatten()
    }
}

fn of_range(range: &RangeRequest) -> Refusals {
    let reasons = [Refusal::Compacted, Refusal::FutureRevision];
    reasons.into_iter().filter(|_| range.revision > 0).collect()
}

fn of_put(put: &PutRequest) -> Refusals {
    let key = (put.ignore_value || put.ignore_lease).then_some(Refusal::KeyNotFound);
    key.into_iter().chain((put.lease != 0).then_some(Refusal::LeaseNotFound)).collect()
}

fn of_txn(txn: &TxnRequest) -> Refusals {
    let mut reasons = Refusals::NONE;
    for operation in txn.success.iter().chain(&txn.failure) {
        reasons |= match &operation.request {
            Some(request_op::Request::RequestRange(range)) => of_range(range),
            Some(request_op::Request::RequestPut(put)) => of_put(put),
            Some(request_op::Request::RequestTxn(nested)) => of_txn(nested),
            Some(request_op::Request::RequestDeleteRange(_)) | None => Refusals::NONE,
        };
    }
    reasons
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        [refusal].into_iter().collect()
    }
}

impl FromIterator<Refusal> for Refusals {
    fn from_iter<I: IntoIterator<Item = Refusal>>(refusals: I) -> Self {
        let mut all = Refusals::NONE;
        for refusal in refusals {
            // There is a place for each reason, so the first of these is it or is free.
            if let Some(place) = all.0.iter_mut().find(|place| place.is_none_or(|known| known == refusal)) {
                *place = Some(refusal);
            }
        }
        all
    }
}

impl BitOrAssign for Refusals {
    /// These first, then the others.
    fn bitor_assign(&mut self, others: Self) {
        *self = self.iter().chain(others.iter()).collect();
    }
}
