//! Reading: which keys, in what order, how many.
//!
//! ```text
//!  select (index)           fetch (rows)    finish
//!  revision → keys → limit*    → values →   sort by value, cut, drop values
//!           → filter → sort → cut
//! ```
//!
//! The index knows everything about a key but its value and lease, so all but a sort by value is decided before a row
//! is read, and only rows that are answered with are read.
//!
//! \* An order says when the limit is applied, as in etcd. With an order asked for, or a filter, it is the last step. With
//! the order left open it is the first: `limit` pairs and one more are taken by key, and if a target other than the key
//! is named, those are sorted by it, ascending, before the one too many is cut.

use std::cmp::Ordering;

use bytes::Bytes;

use super::Refusal;
use super::error::StoreError;
use super::index::Index;
use super::key_index::Found;
use super::key_range::KeyRange;
use super::revision::Revision;
use super::row::{Row, RowKind};
use crate::proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader};
use crate::proto::mvccpb::KeyValue;

/// Where rows are read from.
pub(crate) trait Rows {
    /// The row of a revision that the index holds: it not being there is damage.
    fn row(&self, revision: Revision) -> Result<Row, StoreError>;

    /// The error of a row that is not what the index says it is.
    fn damaged(&self, revision: Revision) -> StoreError;

    /// The pair that the index has found.
    fn key_value(&self, key: &Bytes, found: Found) -> Result<KeyValue, StoreError> {
        match self.row(found.modified)?.kind {
            RowKind::Put { lease, value, .. } => Ok(KeyValue {
                key: key.clone(),
                create_revision: found.created,
                mod_revision: found.modified.main,
                version: found.version,
                value,
                lease,
            }),
            RowKind::Tombstone => Err(self.damaged(found.modified)),
        }
    }
}

/// The revisions that can be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Readable {
    /// The store's revision, as the reader sees it.
    pub(crate) current: i64,
    pub(crate) compacted: i64,
}

impl Readable {
    /// The revision to read at. As in etcd, one that is not positive means the current one.
    pub(crate) fn resolve(self, requested: i64) -> Result<i64, Refusal> {
        let Readable { current, compacted } = self;
        if requested > current {
            return Err(Refusal::FutureRevision { requested, current });
        }
        let at = if requested <= 0 { current } else { requested };
        if at < compacted {
            return Err(Refusal::Compacted { requested, compacted });
        }
        Ok(at)
    }
}

/// The answer to a range, but for what only rows know.
pub(crate) struct Selection {
    found: Vec<(Bytes, Found)>,
    current: i64,
    count: i64,
    more: bool,
    /// The order by value, and the limit that is then still to be applied.
    by_value: Option<(SortOrder, Option<usize>)>,
    keys_only: bool,
}

/// Decides a range as far as the index knows.
pub(crate) fn select(index: &Index, readable: Readable, request: &RangeRequest) -> Result<Selection, Refusal> {
    let at = readable.resolve(request.revision)?;
    let range = KeyRange::new(&request.key, &request.range_end);
    let mut selection = Selection {
        found: Vec::new(),
        current: readable.current,
        count: 0,
        more: false,
        by_value: None,
        keys_only: request.keys_only,
    };
    if request.count_only {
        selection.count = index.range(range, at).count() as i64;
        return Ok(selection);
    }

    let (target, order) = (request.sort_target(), request.sort_order());
    let limit = usize::try_from(request.limit).ok().filter(|limit| *limit > 0);
    let in_key_order = order == SortOrder::None || (target == SortTarget::Key && order == SortOrder::Ascend);
    let at_once = match limit {
        Some(limit) if in_key_order && !has_filters(request) => limit.saturating_add(1),
        _ => usize::MAX,
    };
    for (key, found) in index.range(range, at) {
        selection.count += 1;
        if selection.found.len() < at_once && passes(request, found) {
            selection.found.push((key.clone(), found));
        }
    }

    let order = match order {
        SortOrder::None if target != SortTarget::Key => SortOrder::Ascend,
        order => order,
    };
    match target {
        SortTarget::Key if order == SortOrder::Descend => selection.found.reverse(),
        SortTarget::Key => {}
        SortTarget::Version => sort(&mut selection.found, order, |(_, a), (_, b)| a.version.cmp(&b.version)),
        SortTarget::Create => sort(&mut selection.found, order, |(_, a), (_, b)| a.created.cmp(&b.created)),
        SortTarget::Mod => {
            sort(&mut selection.found, order, |(_, a), (_, b)| a.modified.main.cmp(&b.modified.main));
        }
        SortTarget::Value => {
            selection.by_value = Some((order, limit));
            return Ok(selection);
        }
    }
    selection.more = cut(&mut selection.found, limit);
    Ok(selection)
}

impl Selection {
    /// Reads the rows.
    pub(crate) fn fetch(self, rows: &impl Rows) -> Result<RangeResponse, StoreError> {
        let mut kvs =
            self.found.iter().map(|(key, found)| rows.key_value(key, *found)).collect::<Result<Vec<_>, _>>()?;
        let mut more = self.more;
        if let Some((order, limit)) = self.by_value {
            sort(&mut kvs, order, |a, b| a.value.cmp(&b.value));
            more = cut(&mut kvs, limit);
        }
        if self.keys_only {
            for kv in &mut kvs {
                kv.value = Bytes::new();
            }
        }
        Ok(RangeResponse { header: header(self.current), kvs, more, count: self.count })
    }
}

/// A header that carries the revision: whoever serves the answer knows the rest.
pub(crate) fn header(revision: i64) -> Option<ResponseHeader> {
    Some(ResponseHeader { revision, ..ResponseHeader::default() })
}

/// Equal elements stay in the order of their keys, whichever way the others are sorted.
fn sort<T>(items: &mut [T], order: SortOrder, compare: impl Fn(&T, &T) -> Ordering) {
    match order {
        SortOrder::Descend => items.sort_by(|a, b| compare(b, a)),
        _ => items.sort_by(compare),
    }
}

/// Whether there was anything to cut.
fn cut<T>(items: &mut Vec<T>, limit: Option<usize>) -> bool {
    match limit {
        Some(limit) if items.len() > limit => {
            items.truncate(limit);
            true
        }
        _ => false,
    }
}

fn has_filters(request: &RangeRequest) -> bool {
    request.min_mod_revision != 0
        || request.max_mod_revision != 0
        || request.min_create_revision != 0
        || request.max_create_revision != 0
}

fn passes(request: &RangeRequest, found: Found) -> bool {
    let within = |revision: i64, min: i64, max: i64| (min == 0 || revision >= min) && (max == 0 || revision <= max);
    within(found.modified.main, request.min_mod_revision, request.max_mod_revision)
        && within(found.created, request.min_create_revision, request.max_create_revision)
}
