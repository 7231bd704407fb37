//! Why the store may refuse a request, as clients see it.

use std::ops::BitOrAssign;

use tonic::Code;

use crate::history::Outcome;

/// A reason to refuse a request that depends on the store's state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// The revision has been compacted.
    Compacted,
    /// The revision has not been reached.
    FutureRevision,
    /// `ignore_value` or `ignore_lease` on a key that does not exist.
    KeyNotFound,
    /// The lease to attach does not exist.
    LeaseNotFound,
}

impl Refusal {
    /// Every reason.
    pub const ALL: [Refusal; 4] =
        [Refusal::Compacted, Refusal::FutureRevision, Refusal::KeyNotFound, Refusal::LeaseNotFound];

    fn status(self) -> (Code, &'static str) {
        match self {
            Refusal::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Refusal::FutureRevision => (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision"),
            Refusal::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Refusal::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
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

/// A set of reasons. Where several hold, which one a store names is its own choice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refusals(u8);

impl Refusals {
    /// No reason.
    pub const NONE: Refusals = Refusals(0);

    /// Whether there is no reason at all.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether this is among the reasons.
    pub fn contains(self, refusal: Refusal) -> bool {
        self.0 & Refusals::from(refusal).0 != 0
    }

    /// Those for which a store must refuse. A lease may exist without the model knowing it.
    pub fn compelling(self) -> Refusals {
        Refusals(self.0 & !Refusals::from(Refusal::LeaseNotFound).0)
    }

    /// Each reason, in the order of their names.
    pub fn iter(self) -> impl Iterator<Item = Refusal> {
        Refusal::ALL.into_iter().filter(move |refusal| self.contains(*refusal))
    }
}

impl From<Refusal> for Refusals {
    fn from(refusal: Refusal) -> Self {
        Refusals(1 << refusal as u8)
    }
}

impl BitOrAssign for Refusals {
    fn bitor_assign(&mut self, other: Self) {
        self.0 |= other.0;
    }
}
