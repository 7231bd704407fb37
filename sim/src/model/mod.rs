//! The sequential specification of etcd's KV service: what one operation after the other must answer.
//!
//! It shares nothing with the store that it judges but the protocol's messages.
//!
//! - An operation that changes a key takes the next revision; the empty store stands at revision 1.
//! - Each key keeps all its versions, so any revision can be read, and the last change can be undone.
//! - A compaction only moves the bound below which reads are refused: the model itself forgets nothing.
//! - A refused request changes nothing.
//!
//! ```text
//!   revision 2: put a      a: [2: v1]
//!   revision 3: delete a   a: [2: v1] [3: gone]
//!   revision 4: put a      a: [2: v1] [3: gone] [4: v1]        version counts from 1 in each life
//! ```
//!
//! Which leases exist is known only to a model that [follows](Kv::following_leases) them, in the order of the log. To any
//! other one a request that names a lease may succeed, and may be refused for want of it.

mod agreement;
mod fault;
mod leases;
mod range;
mod refusal;
mod txn;

use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader,
};
use seedbed_proto::mvccpb::KeyValue;

pub use self::agreement::difference;
pub use self::fault::{Fault, REQUEST_BYTES_MAX, TXN_OPERATIONS_MAX};
pub use self::leases::Leases;
pub use self::refusal::{Refusal, Refusals};
pub use self::txn::oldest_read;
use crate::history::{Outcome, Request, Response};

/// The revision of the empty store.
pub const FIRST_REVISION: i64 = 1;

/// One version of a key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    modified: i64,
    created: i64,
    /// Changes in the key's present life; 0 if this is its end.
    version: i64,
    lease: i64,
    value: Bytes,
}

impl Version {
    fn key_value(&self, key: &Bytes) -> KeyValue {
        KeyValue {
            key: key.clone(),
            create_revision: self.created,
            mod_revision: self.modified,
            version: self.version,
            value: self.value.clone(),
            lease: self.lease,
        }
    }
}

/// What happened to one key at one revision.
#[derive(Clone, Debug, PartialEq)]
pub struct Changed {
    /// The revision.
    pub revision: i64,
    /// The key.
    pub key: Bytes,
    /// The pair after it; `None` if it was deleted.
    pub after: Option<KeyValue>,
    /// The pair before it, if there was one that it has changed.
    pub before: Option<KeyValue>,
}

impl fmt::Display for Changed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = if self.after.is_some() { "put" } else { "delete" };
        write!(f, "{}: {verb} \"{}\"", self.revision, self.key.escape_ascii())
    }
}

/// The state of the KV service, with its whole past.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kv {
    revision: i64,
    compacted: i64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// The revision and the key of each change, in order.
    changes: Vec<(i64, Bytes)>,
    /// The leases, if they are followed.
    leases: Option<Leases>,
}

impl Default for Kv {
    fn default() -> Self {
        Kv { revision: FIRST_REVISION, compacted: -1, keys: BTreeMap::new(), changes: Vec::new(), leases: None }
    }
}

impl Kv {
    /// The empty store.
    pub fn new() -> Kv {
        Kv::default()
    }

    /// The revision of the last change.
    pub fn revision(&self) -> i64 {
        self.revision
    }

    /// The least revision that can still be read; negative before the first compaction.
    pub fn compacted(&self) -> i64 {
        self.compacted
    }

    /// Carries out a request: what it answers, or all the reasons to refuse it.
    pub fn apply(&mut self, request: &Request) -> Result<Response, Refusals> {
        let refusals = self.refusals_at(request, self.revision, self.compacted);
        let refusals = if self.leases.is_some() { refusals } else { refusals.compelling() };
        if !refusals.is_empty() {
            return Err(refusals);
        }
        let mut changed = false;
        let mut response = match request {
            Request::Range(range) => Response::Range(self.range(range, self.revision)),
            Request::Put(put) => Response::Put(self.put(put, &mut changed)),
            Request::DeleteRange(delete) => Response::DeleteRange(self.delete_range(delete, &mut changed)),
            Request::Txn(txn) => {
                let branch = self.branch(txn, self.revision);
                Response::Txn(self.txn(txn, &branch, &mut changed))
            }
            Request::Compact(compact) => {
                self.compacted = compact.revision;
                Response::Compact(CompactionResponse::default())
            }
            Request::LeaseGrant(grant) => Response::LeaseGrant(self.grant(grant)),
            Request::LeaseRevoke(revoke) => Response::LeaseRevoke(self.revoke(revoke.id, &mut changed)),
            Request::LeaseKeepAlive(_) | Request::LeaseTimeToLive(_) | Request::LeaseLeases(_) => {
                panic!("what is left of a lease is the clock's matter, and not the model's: {request}")
            }
        };
        self.revision += i64::from(changed);
        *response.header_mut() = header(self.revision);
        Ok(response)
    }

    /// Takes the last change back: the store is at the revision before it.
    pub fn undo(&mut self) {
        while self.changes.last().is_some_and(|(revision, _)| *revision == self.revision) {
            let (_, key) = self.changes.pop().expect("there is a last change");
            let versions = self.keys.get_mut(&key).expect("a changed key has versions");
            versions.pop();
            if versions.is_empty() {
                self.keys.remove(&key);
            }
        }
        self.revision -= 1;
    }

    /// Everything that has happened, in order.
    pub fn changes(&self) -> Vec<Changed> {
        // A txn may change a key twice, so a revision alone does not tell which of the versions a change has made.
        let mut past: BTreeMap<&Bytes, usize> = BTreeMap::new();
        let changed = |(revision, key): &'_ (i64, Bytes)| {
            let (key, versions) = self.keys.get_key_value(key).expect("a changed key has versions");
            let nth = past.entry(key).or_default();
            let after = Some(&versions[*nth]).filter(|version| version.version > 0);
            *nth += 1;
            // As in etcd: there is nothing before a creation, though the same txn may have deleted the key.
            let created = after.is_some_and(|after| after.created == *revision);
            Changed {
                revision: *revision,
                key: key.clone(),
                after: after.map(|version| version.key_value(key)),
                before: self.get(key, *revision - 1).filter(|_| !created).map(|version| version.key_value(key)),
            }
        };
        self.changes.iter().map(changed).collect()
    }

    /// What etcd answers, to the letter, if there are no leases or they are followed. None of these ends by itself, and all of
    /// their time is left.
    pub fn answer(&mut self, request: &Request) -> Outcome {
        if let Some(fault) = Fault::of(request) {
            return fault.outcome();
        }
        if let Some(refusal) = self.refusals_at(request, self.revision, self.compacted).first() {
            return refusal.outcome();
        }
        let told = self.told_of_leases(request);
        Outcome::Ok(told.unwrap_or_else(|| self.apply(request).expect("there is no reason to refuse it")))
    }

    /// What a member that stands at `revision` and has compacted nothing answers to a range.
    pub fn serializable(&self, range: &RangeRequest, revision: i64) -> Result<RangeResponse, Refusals> {
        let refusals = read_refusals(range.revision, revision, -1);
        if refusals.is_empty() { Ok(self.range(range, revision)) } else { Err(refusals) }
    }

    /// The revision of a key's last change, or 0 if it does not live.
    pub fn mod_revision(&self, key: &Bytes) -> i64 {
        self.get(key, self.revision).map_or(0, |version| version.modified)
    }

    /// Every reason to refuse a request when the store stands at `revision` and is compacted up to `compacted`.
    /// `revision` must have been reached.
    pub fn refusals_at(&self, request: &Request, revision: i64, compacted: i64) -> Refusals {
        match request {
            Request::Range(range) => read_refusals(range.revision, revision, compacted),
            Request::Put(put) => self.lease_refusal(put).into_iter().chain(self.key_refusal(put, revision)).collect(),
            Request::DeleteRange(_) => Refusals::NONE,
            Request::Txn(txn) => self.txn_refusals(txn, &self.branch(txn, revision), revision, compacted),
            Request::Compact(CompactionRequest { revision: at, .. }) if *at <= compacted => Refusal::Compacted.into(),
            Request::Compact(CompactionRequest { revision: at, .. }) if *at > revision => {
                Refusal::FutureRevision.into()
            }
            Request::Compact(_) => Refusals::NONE,
            Request::LeaseGrant(grant) if self.may_lack(grant.id, false) => Refusal::LeaseExists.into(),
            Request::LeaseRevoke(revoke) if self.may_lack(revoke.id, true) => Refusal::LeaseNotFound.into(),
            Request::LeaseGrant(_)
            | Request::LeaseRevoke(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases(_) => Refusals::NONE,
        }
    }

    fn key_refusal(&self, put: &PutRequest, revision: i64) -> Option<Refusal> {
        let needs_key = put.ignore_value || put.ignore_lease;
        (needs_key && self.get(&put.key, revision).is_none()).then_some(Refusal::KeyNotFound)
    }

    fn put(&mut self, put: &PutRequest, changed: &mut bool) -> PutResponse {
        let modified = self.revision + 1;
        if !self.keys.contains_key(&put.key) {
            self.keys.insert(put.key.clone(), Vec::new());
        }
        let versions = self.keys.get_mut(&put.key).expect("it was just inserted");
        let previous = versions.last().filter(|last| last.version > 0);
        let next = Version {
            modified,
            created: previous.map_or(modified, |previous| previous.created),
            version: previous.map_or(1, |previous| previous.version + 1),
            lease: match previous {
                Some(previous) if put.ignore_lease => previous.lease,
                _ => put.lease,
            },
            value: match previous {
                Some(previous) if put.ignore_value => previous.value.clone(),
                _ => put.value.clone(),
            },
        };
        let prev_kv = previous.filter(|_| put.prev_kv).map(|previous| previous.key_value(&put.key));
        versions.push(next);
        self.changes.push((modified, put.key.clone()));
        *changed = true;
        PutResponse { header: header(modified), prev_kv }
    }

    fn delete_range(&mut self, delete: &DeleteRangeRequest, changed: &mut bool) -> DeleteRangeResponse {
        let now = self.revision + i64::from(*changed);
        let mut doomed: Vec<(Bytes, Option<KeyValue>)> = Vec::new();
        self.visit(&delete.key, &delete.range_end, now, |key, version| {
            doomed.push((key.clone(), delete.prev_kv.then(|| version.key_value(key))));
        });
        let deleted = doomed.len() as i64;
        let mut prev_kvs = Vec::new();
        for (key, previous) in doomed {
            prev_kvs.extend(previous);
            self.delete(key, changed);
        }
        DeleteRangeResponse { header: header(self.revision + i64::from(*changed)), deleted, prev_kvs }
    }

    /// Deletes a key that lives.
    fn delete(&mut self, key: Bytes, changed: &mut bool) {
        let modified = self.revision + 1;
        let gone = Version { modified, created: 0, version: 0, lease: 0, value: Bytes::new() };
        self.keys.get_mut(&key).expect("a live key has versions").push(gone);
        self.changes.push((modified, key));
        *changed = true;
    }
}

/// A header, of which a client's view of the store depends on the revision alone.
fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..Default::default() })
}

/// The reasons to refuse a read at revision `at` (0: the current one).
fn read_refusals(at: i64, revision: i64, compacted: i64) -> Refusals {
    if at <= 0 {
        Refusals::NONE
    } else if at > revision {
        Refusal::FutureRevision.into()
    } else if at < compacted {
        Refusal::Compacted.into()
    } else {
        Refusals::NONE
    }
}

#[cfg(test)]
mod tests;
