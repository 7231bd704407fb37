//! Reading: spans of keys, filters, order, limit.

use std::cmp::Ordering;
use std::ops::Bound;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::{Kv, Version, header};

impl Kv {
    /// The key's version at a revision, if it lives.
    pub(super) fn get(&self, key: &Bytes, revision: i64) -> Option<&Version> {
        version_at(self.keys.get(key)?, revision)
    }

    /// Calls `visit` with each live key of a span at a revision, in order.
    pub(super) fn visit<'a>(
        &'a self,
        key: &Bytes,
        range_end: &Bytes,
        revision: i64,
        mut visit: impl FnMut(&'a Bytes, &'a Version),
    ) {
        if range_end.is_empty() {
            if let Some((key, versions)) = self.keys.get_key_value(key)
                && let Some(version) = version_at(versions, revision)
            {
                visit(key, version);
            }
            return;
        }
        let end = match range_end.as_ref() {
            [0] => Bound::Unbounded,
            _ if range_end <= key => return,
            _ => Bound::Excluded(range_end),
        };
        for (key, versions) in self.keys.range::<Bytes, _>((Bound::Included(key), end)) {
            if let Some(version) = version_at(versions, revision) {
                visit(key, version);
            }
        }
    }

    /// A range whose revision is neither compacted nor in the future. `now` is the revision that it stands at: inside a
    /// txn that has written, the one being made.
    ///
    /// - `count` heeds neither limit nor filters.
    /// - With another target than the key, no order means ascending. Equals stay in the order of their keys.
    /// - With a filter or an order, the limit is cut last. With neither, etcd reads no more than one key beyond the limit,
    ///   in the order of keys, before it sorts for a target: a limit then decides which keys are sorted.
    pub(super) fn range(&self, request: &RangeRequest, now: i64) -> RangeResponse {
        let at = if request.revision > 0 { request.revision } else { now };
        let mut found = Vec::new();
        self.visit(&request.key, &request.range_end, at, |key, version| found.push((key, version)));
        let count = found.len() as i64;
        if request.count_only {
            return RangeResponse { header: header(now), kvs: Vec::new(), more: false, count };
        }
        let limit = usize::try_from(request.limit).unwrap_or(0);
        let filters = [
            request.min_mod_revision,
            request.max_mod_revision,
            request.min_create_revision,
            request.max_create_revision,
        ];
        if limit > 0 && request.sort_order() == SortOrder::None && filters == [0; 4] {
            found.truncate(limit.saturating_add(1));
        }
        let within = |value: i64, least: i64, most: i64| (least == 0 || value >= least) && (most == 0 || value <= most);
        found.retain(|(_, version)| {
            within(version.modified, request.min_mod_revision, request.max_mod_revision)
                && within(version.created, request.min_create_revision, request.max_create_revision)
        });
        let by_target = |a: &(&Bytes, &Version), b: &(&Bytes, &Version)| -> Ordering {
            match request.sort_target() {
                SortTarget::Key => a.0.cmp(b.0),
                SortTarget::Version => a.1.version.cmp(&b.1.version),
                SortTarget::Create => a.1.created.cmp(&b.1.created),
                SortTarget::Mod => a.1.modified.cmp(&b.1.modified),
                SortTarget::Value => a.1.value.cmp(&b.1.value),
            }
        };
        match (request.sort_order(), request.sort_target()) {
            (SortOrder::None | SortOrder::Ascend, SortTarget::Key) => {}
            (SortOrder::None | SortOrder::Ascend, _) => found.sort_by(by_target),
            (SortOrder::Descend, _) => found.sort_by(|a, b| by_target(b, a)),
        }
        let more = limit > 0 && found.len() > limit;
        if more {
            found.truncate(limit);
        }
        let kvs = found
            .into_iter()
            .map(|(key, version)| {
                let mut kv = version.key_value(key);
                if request.keys_only {
                    kv.value = Bytes::new();
                }
                kv
            })
            .collect();
        RangeResponse { header: header(now), kvs, more, count }
    }
}

fn version_at(versions: &[Version], revision: i64) -> Option<&Version> {
    let last = versions.last()?;
    let version = if last.modified <= revision {
        last
    } else {
        let later = versions.partition_point(|version| version.modified <= revision);
        &versions[later.checked_sub(1)?]
    };
    (version.version > 0).then_some(version)
}
