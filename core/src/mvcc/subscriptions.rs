//! Who wants to know when which keys change.
//!
//! ```text
//!   commit ── note(keys) ──► Subscriptions ── marks ──► Subscriber      before readers see the commit
//!      │                     by key, by range              ▲
//!   publish ───────────────────── wake ────────────────────┘            once they do
//! ```
//!
//! A commit costs those whom it concerns, and nobody else. A subscription is a mark: the first revision that its owner has
//! yet to look at, and the last that is known to concern it. The changes themselves stay in the store, which has them in any
//! case: see [`Store::changes`]. So a subscription's memory does not depend on how far its owner has fallen behind.
//!
//! A subscription that nothing concerns moves along with the store by itself. History that is compacted before the owner has
//! looked is lost to it only if something in it was, or may have been, its own.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use interavl::IntervalTree;
use tokio::sync::Notify;

use super::key_range::KeyRange;
use super::store::Store;
use crate::runtime::Disk;
use crate::watermark::Watermark;

/// All subscriptions to a store.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    registry: Mutex<Registry>,
    /// The revision that readers see.
    reached: Watermark,
}

#[derive(Debug)]
struct Registry {
    /// The last revision whose changes have been noted. Readers may not see it yet.
    noted: i64,
    next_subscriber: u64,
    /// Those to one key.
    keys: BTreeMap<(Bytes, Owner), Arc<Marks>>,
    /// The others, which have ranges in common more often than not.
    ranges: IntervalTree<Edge, BTreeMap<Owner, Arc<Marks>>>,
}

/// A subscriber's number, and that of a subscription of its own.
type Owner = (u64, i64);

/// An end of a range.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Edge {
    /// Before this key.
    Key(Bytes),
    /// After all keys.
    End,
}

/// What a subscriber has to look at.
#[derive(Debug, Default)]
struct Marks {
    marks: Mutex<Marked>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Marked {
    // Boxed, since most subscribers have one, and a node of the tree has room for eleven.
    all: BTreeMap<i64, Box<Mark>>,
    /// Those whose owner has something to look at.
    behind: BTreeSet<i64>,
    /// It is among those who are to be woken for the commit that is being noted.
    is_concerned: bool,
}

#[derive(Debug)]
struct Mark {
    key: Bytes,
    range_end: Bytes,
    /// The first revision that may concern the owner and that it has not looked at.
    next: i64,
    /// The last that is known to concern it, or may; it is behind if that is not before `next`.
    last: i64,
}

impl Mark {
    fn range(&self) -> KeyRange<'_> {
        KeyRange::new(&self.key, &self.range_end)
    }
}

impl Marks {
    fn lock(&self) -> MutexGuard<'_, Marked> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something from `first` to `last` is in a subscription's range, and nothing that was marked before came after `first`.
    /// Whether it is the first of a commit that concerns the subscriber.
    fn mark(&self, id: i64, first: i64, last: i64) -> bool {
        let mut marked = self.lock();
        let Some(mark) = marked.all.get_mut(&id).filter(|mark| mark.next <= last) else { return false };
        if mark.last < mark.next {
            mark.next = mark.next.max(first);
        }
        mark.last = mark.last.max(last);
        marked.behind.insert(id);
        !std::mem::replace(&mut marked.is_concerned, true)
    }
}

impl Registry {
    fn insert(&mut self, range: KeyRange<'_>, owner: Owner, marks: Arc<Marks>) {
        match edges(range) {
            None => drop(self.keys.insert((owned(range.first()), owner), marks)),
            Some(edges) => drop(self.ranges.entry(edges).or_insert_with(BTreeMap::new).insert(owner, marks)),
        }
    }

    fn remove(&mut self, range: KeyRange<'_>, owner: Owner) {
        let Some(edges) = edges(range) else {
            self.keys.remove(&(owned(range.first()), owner));
            return;
        };
        if let Some(owners) = self.ranges.get_mut(&edges) {
            owners.remove(&owner);
            if owners.is_empty() {
                self.ranges.remove(&edges);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.ranges.max_interval_end().is_none()
    }

    /// Whom a change of a key concerns.
    fn concerned(&self, key: &Bytes, mut tell: impl FnMut(Owner, &Arc<Marks>)) {
        let ends = (key.clone(), (0, i64::MIN))..=(key.clone(), (u64::MAX, i64::MAX));
        for ((_, owner), marks) in self.keys.range(ends) {
            tell(*owner, marks);
        }
        let this = Edge::Key(key.clone())..Edge::Key([&key[..], &[0]].concat().into());
        for (_, owners) in self.ranges.iter_overlaps(&this) {
            owners.iter().for_each(|(owner, marks)| tell(*owner, marks));
        }
    }
}

/// The ends of what is more than one key.
fn edges(range: KeyRange<'_>) -> Option<Range<Edge>> {
    match range {
        KeyRange::One(_) => None,
        KeyRange::Between(first, end) => Some(Edge::Key(owned(first))..Edge::Key(owned(end))),
        KeyRange::From(first) => Some(Edge::Key(owned(first))..Edge::End),
    }
}

fn owned(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}

impl Subscriptions {
    pub(super) fn new(revision: i64, reached: Watermark) -> Arc<Self> {
        let registry =
            Registry { noted: revision, next_subscriber: 0, keys: BTreeMap::new(), ranges: IntervalTree::default() };
        Arc::new(Subscriptions { registry: Mutex::new(registry), reached })
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether nobody wants to know of anything.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.registry().is_empty()
    }

    /// Notes what is about to be seen by readers: revisions, in order, and the keys that change there. `revision` is the
    /// store's then.
    pub(super) fn note(&self, revision: i64, changes: impl Iterator<Item = (i64, Bytes)>) -> Concerned {
        let mut registry = self.registry();
        registry.noted = revision;
        let mut concerned = Concerned::default();
        if registry.is_empty() {
            return concerned;
        }
        for (revision, key) in changes {
            registry.concerned(&key, |owner, marks| concerned.mark(owner, marks, revision, revision));
        }
        concerned
    }

    /// Notes that everything is about to be another state's, at `revision`: who knows what has changed between.
    pub(super) fn note_all(&self, revision: i64) -> Concerned {
        let mut registry = self.registry();
        let first = std::mem::replace(&mut registry.noted, revision) + 1;
        let mut concerned = Concerned::default();
        let ranges = registry.ranges.iter().flat_map(|(_, owners)| owners);
        for (owner, marks) in registry.keys.iter().map(|((_, owner), marks)| (owner, marks)).chain(ranges) {
            concerned.mark(*owner, marks, first, revision);
        }
        concerned
    }
}

/// Whom a commit concerns.
#[derive(Debug, Default)]
#[must_use = "they wait"]
pub(super) struct Concerned(Vec<Arc<Marks>>);

impl Concerned {
    fn mark(&mut self, (_, id): Owner, marks: &Arc<Marks>, first: i64, last: i64) {
        if marks.mark(id, first, last) {
            self.0.push(marks.clone());
        }
    }

    /// Readers see the commit now.
    pub(super) fn wake(self) {
        for marks in self.0 {
            marks.lock().is_concerned = false;
            marks.changed.notify_one();
        }
    }
}

/// One who subscribes to changes of keys: a stream of watches, or somebody in a queue. Its subscriptions have numbers of its own
/// choice, and end with it.
#[derive(Debug)]
pub(crate) struct Subscriber {
    subscriptions: Arc<Subscriptions>,
    number: u64,
    marks: Arc<Marks>,
}

impl<D: Disk> Store<D> {
    /// A subscriber to this store's changes, without subscriptions yet.
    pub(crate) fn subscriber(&self) -> Subscriber {
        let subscriptions = self.inner.subscriptions.clone();
        let number = {
            let mut registry = subscriptions.registry();
            registry.next_subscriber += 1;
            registry.next_subscriber
        };
        Subscriber { subscriptions, number, marks: Arc::default() }
    }
}

impl Subscriber {
    /// Subscribes to the changes of keys from the revision `next` on, which may be past or future. Another subscription with
    /// the number must not be there.
    pub(crate) fn subscribe(&mut self, id: i64, key: Bytes, range_end: Bytes, next: i64) {
        let mut registry = self.subscriptions.registry();
        registry.insert(KeyRange::new(&key, &range_end), (self.number, id), self.marks.clone());
        self.marks.lock().all.insert(id, Box::new(Mark { key, range_end, next, last: 0 }));
        self.place(&registry, id, next);
    }

    /// Has a subscription look at everything from `next` on, once more or sooner than it would have.
    pub(crate) fn restart(&self, id: i64, next: i64) {
        self.place(&self.subscriptions.registry(), id, next);
    }

    /// What was noted before may concern it. The registry is locked, so that nothing is noted meanwhile.
    fn place(&self, registry: &Registry, id: i64, next: i64) {
        let mut marked = self.marks.lock();
        let Some(mark) = marked.all.get_mut(&id) else { return };
        (mark.next, mark.last) = (next, registry.noted);
        if mark.next <= mark.last {
            marked.behind.insert(id);
        } else {
            marked.behind.remove(&id);
        }
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&mut self, id: i64) {
        let mut registry = self.subscriptions.registry();
        let mut marked = self.marks.lock();
        marked.behind.remove(&id);
        if let Some(mark) = marked.all.remove(&id) {
            registry.remove(mark.range(), (self.number, id));
        }
    }

    /// Whether a subscription has something to look at in a store at `revision`.
    pub(crate) fn is_behind(&self, id: i64, revision: i64) -> bool {
        let marked = self.marks.lock();
        marked.behind.contains(&id) && marked.all[&id].next <= revision
    }

    /// The revisions to look at in a store at `revision`, those of all subscriptions together.
    pub(crate) fn behind(&self, revision: i64) -> Option<RangeInclusive<i64>> {
        let marked = self.marks.lock();
        let marks = || marked.behind.iter().map(|id| &marked.all[id]).filter(|mark| mark.next <= revision);
        let first = marks().map(|mark| mark.next).min()?;
        let last = marks().map(|mark| mark.last).max()?;
        Some(first..=last)
    }

    /// The first subscription, by number, that has something to look at up to a revision.
    pub(crate) fn first_behind(&self, upto: i64) -> Option<i64> {
        let marked = self.marks.lock();
        marked.behind.iter().copied().find(|id| marked.all[id].next <= upto)
    }

    /// The subscriptions that have something to look at up to a revision, in the order of their numbers, each with where it
    /// begins. From now on they have looked at it.
    pub(crate) fn look(&self, upto: i64) -> Vec<(i64, i64)> {
        let mut marked = self.marks.lock();
        let Marked { all, behind, .. } = &mut *marked;
        let mut looking = Vec::new();
        behind.retain(|id| {
            let mark = all.get_mut(id).expect("who is behind is there");
            if mark.next <= upto {
                looking.push((*id, mark.next));
                mark.next = upto + 1;
            }
            mark.next <= mark.last
        });
        looking
    }

    /// Resolves once there is something to look at. May do so too often; nothing is lost if it is dropped before.
    pub(crate) async fn due(&self) {
        let first = {
            let marked = self.marks.lock();
            marked.behind.iter().map(|id| marked.all[id].next).min()
        };
        match first {
            // Noted before the subscription was made, perhaps, so that nobody is woken for it.
            Some(first) => self.subscriptions.reached.reached(u64::try_from(first).unwrap_or(0)).await,
            None => self.marks.changed.notified().await,
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let mut registry = self.subscriptions.registry();
        for (id, mark) in &self.marks.lock().all {
            registry.remove(mark.range(), (self.number, *id));
        }
    }
}
