//! What contenders and observers were told: the input of their judge.

use bytes::Bytes;
use seedbed_proto::mvccpb::KeyValue;
use serde::Serialize;

/// What is contended for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A lock.
    Lock,
    /// An office: who leads an election.
    Office,
}

/// A contender was told that it holds something.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    /// What.
    pub kind: Kind,
    /// The name that it goes by.
    pub name: Bytes,
    /// The contender's key.
    pub key: Bytes,
    /// The revision at which it was so: of an office, the one at which the key was created.
    pub revision: i64,
    /// When it was told, in virtual nanoseconds.
    pub told: u64,
    /// What it has tried since.
    pub attempts: Vec<Attempt>,
    /// When it was told that it does not hold it any more, in virtual nanoseconds.
    pub disowned: Vec<u64>,
}

/// A change under the fence of a lock or an office.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The revision of the answer.
    pub revision: i64,
    /// Whether it was made.
    pub made: bool,
    /// The key that it was to put,
    pub key: Bytes,
    /// and the value.
    pub value: Bytes,
}

/// What an observer was told on one stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Observed {
    /// The name of the office.
    pub name: Bytes,
    /// The revision of each answer, and who led.
    pub told: Vec<(i64, KeyValue)>,
}

/// Somebody who asked who holds an office was told that nobody does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vacant {
    /// The name of the office.
    pub name: Bytes,
    /// When it was asked, in virtual nanoseconds,
    pub asked: u64,
    /// and when it was told.
    pub told: u64,
}

/// Everything of a run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContendLog {
    /// In the order in which it was told.
    pub held: Vec<Held>,
    /// In the order in which streams were opened; a question who leads is a stream with one answer.
    pub observed: Vec<Observed>,
    /// In the order in which it was told.
    pub vacant: Vec<Vacant>,
}

/// How much there was of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ContendCounts {
    /// Locks that were held.
    pub locks: u64,
    /// Offices that were held.
    pub offices: u64,
    /// Changes made under a fence.
    pub fenced: u64,
    /// Changes that a fence has kept out.
    pub kept_out: u64,
    /// What observers were told.
    pub observed: u64,
    /// How often whoever thought that it held an office was told that it does not.
    pub disowned: u64,
    /// How often whoever asked was told that nobody holds an office.
    pub vacant: u64,
}

impl ContendLog {
    /// How much there was of it.
    pub fn counts(&self) -> ContendCounts {
        let of = |kind| self.held.iter().filter(|held| held.kind == kind).count() as u64;
        let attempts =
            |made| self.held.iter().flat_map(|held| &held.attempts).filter(|tried| tried.made == made).count();
        ContendCounts {
            locks: of(Kind::Lock),
            offices: of(Kind::Office),
            fenced: attempts(true) as u64,
            kept_out: attempts(false) as u64,
            observed: self.observed.iter().map(|observed| observed.told.len() as u64).sum(),
            disowned: self.held.iter().map(|held| held.disowned.len() as u64).sum(),
            vacant: self.vacant.len() as u64,
        }
    }
}
