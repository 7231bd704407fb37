//! One watch of a stream. How far it has been told is its subscription's to know.

use bytes::Bytes;

use crate::mvcc::{Change, KeyRange};
use crate::proto::etcdserverpb::WatchCreateRequest;
use crate::proto::etcdserverpb::watch_create_request::FilterType;
use crate::proto::mvccpb::Event;
use crate::proto::mvccpb::event::EventType;

/// Why a watch cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Impossible {
    EmptyRange,
    NegativeStart,
    UsedId,
}

impl Impossible {
    /// What the client is told: etcd's words, where it has any.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Impossible::EmptyRange => "mvcc: watcher range is empty",
            Impossible::NegativeStart => "mvcc: watcher start revision is negative",
            Impossible::UsedId => "mvcc: duplicate watch ID provided on the WatchStream",
        }
    }
}

/// A watch: what it wants to know.
#[derive(Clone, Debug)]
pub(crate) struct Watcher {
    pub(crate) key: Bytes,
    pub(crate) range_end: Bytes,
    puts: bool,
    deletions: bool,
    pub(crate) prev_kv: bool,
    pub(crate) progress_notify: bool,
    pub(crate) fragment: bool,
    /// The first revision that it is to be told of.
    pub(crate) start: i64,
    /// Whether it has been told anything since it was last looked after.
    pub(crate) told: bool,
}

impl Watcher {
    /// The watch that is asked for of a store at `revision`.
    pub(crate) fn new(request: &WatchCreateRequest, revision: i64) -> Result<Watcher, Impossible> {
        // As in etcd: no key at all means the least one.
        let key = if request.key.is_empty() { Bytes::from_static(&[0]) } else { request.key.clone() };
        if KeyRange::new(&key, &request.range_end).bounds().is_none() {
            return Err(Impossible::EmptyRange);
        }
        if request.start_revision < 0 {
            return Err(Impossible::NegativeStart);
        }
        let start = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
        let without = |filter: FilterType| request.filters().any(|other| other == filter);
        Ok(Watcher {
            // Copies: they are slices of a message that need not live as long.
            key: Bytes::copy_from_slice(&key),
            range_end: Bytes::copy_from_slice(&request.range_end),
            puts: !without(FilterType::Noput),
            deletions: !without(FilterType::Nodelete),
            prev_kv: request.prev_kv,
            progress_notify: request.progress_notify,
            fragment: request.fragment,
            start,
            told: false,
        })
    }

    /// Whether a key is in its range.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        KeyRange::new(&self.key, &self.range_end).contains(key)
    }

    /// Whether it is to be told of deletions, or else of puts.
    pub(crate) fn wants(&self, deletion: bool) -> bool {
        if deletion { self.deletions } else { self.puts }
    }

    /// What it is to be told of these changes, if it has been told of everything before `next`.
    pub(crate) fn events(&self, changes: &[Change], next: i64) -> Vec<Event> {
        let from = changes.partition_point(|change| change.kv.mod_revision < next);
        let wanted = |change: &&Change| self.wants(change.deleted) && self.covers(&change.kv.key);
        changes[from..].iter().filter(wanted).map(|change| self.event(change)).collect()
    }

    fn event(&self, change: &Change) -> Event {
        let kind = if change.deleted { EventType::Delete } else { EventType::Put };
        let prev_kv = change.previous.clone().filter(|_| self.prev_kv);
        Event { r#type: kind as i32, kv: Some(change.kv.clone()), prev_kv }
    }
}
