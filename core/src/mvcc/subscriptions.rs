//! Who wants to know when which keys change.
//!
//! ```text
//!   commit ── note(keys) ──► Subscriptions ── marks ──► Subscriber      before readers see the commit
//!      │                     by key, by range              ▲
//!   publish ───────────────────── wake ────────────────────┘            once they do
//! ```
//!
//! A commit costs those whom it concerns, each once, and hardly anything beside. A subscription is a mark: the first revision
//! that its owner has yet to look at, and the last that is known to concern it. The changes themselves stay in the store, which
//! has them in any case: see [`Store::changes`]. So a subscription's memory does not depend on how far its owner has fallen
//! behind.
//!
//! A subscription that nothing concerns moves along with the store by itself. History that is compacted before the owner has
//! looked is lost to it only if something in it was, or may have been, its own.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use bytes::Bytes;

use super::key_range::KeyRange;
use super::store::Store;
use crate::runtime::{Disk, Mutant, Planted};
use crate::signal::Signal;
use crate::watermark::Watermark;

/// All subscriptions to a store.
#[derive(Debug)]
pub(crate) struct Subscriptions {
    registry: Mutex<Registry>,
    /// The revision that readers see.
    reached: Watermark,
    planted: Planted,
}

#[derive(Debug, Default)]
struct Registry {
    /// The last revision whose changes have been noted. Readers may not see it yet.
    noted: i64,
    next_subscriber: u64,
    /// Those to one key.
    keys: BTreeMap<(Bytes, Owner), Arc<Marks>>,
    /// Those to all keys that begin alike, by what they begin with.
    prefixes: BTreeMap<Bytes, Owners>,
    /// How many of the prefixes are so long.
    prefix_lengths: BTreeMap<usize, usize>,
    /// Those to all keys from one on, by that.
    open: BTreeMap<Bytes, Owners>,
    /// Those to other ranges, by both ends. Nearly all that clients ask for are one of the above: the others are looked through.
    others: BTreeMap<(Bytes, Bytes), Owners>,
}

/// A subscriber's number, and that of a subscription of its own.
type Owner = (u64, i64);

/// Those who have subscribed to the same range.
type Owners = BTreeMap<Owner, Arc<Marks>>;

/// What a subscription is found by.
enum Kind<'a> {
    Key(&'a [u8]),
    Prefix(&'a [u8]),
    Open(&'a [u8]),
    Other(&'a [u8], &'a [u8]),
}

impl<'a> Kind<'a> {
    fn of(range: KeyRange<'a>) -> Self {
        match range {
            KeyRange::One(key) => Kind::Key(key),
            KeyRange::From(first) => Kind::Open(first),
            KeyRange::Between(first, end) if ends_prefix(first, end) => Kind::Prefix(first),
            KeyRange::Between(first, end) => Kind::Other(first, end),
        }
    }
}

/// Whether `end` is the least key that is greater than all that begin with `first`.
fn ends_prefix(first: &[u8], end: &[u8]) -> bool {
    let kept = first.iter().rposition(|byte| *byte < 0xff);
    kept.is_some_and(|at| end.len() == at + 1 && end[..at] == first[..at] && end[at] == first[at] + 1)
}

/// What a subscriber has to look at.
#[derive(Debug, Default)]
struct Marks {
    marks: Mutex<Marked>,
    changed: Signal,
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
        let owners = match Kind::of(range) {
            Kind::Key(key) => {
                self.keys.insert((owned(key), owner), marks);
                return;
            }
            Kind::Prefix(prefix) => {
                if !self.prefixes.contains_key(prefix) {
                    *self.prefix_lengths.entry(prefix.len()).or_default() += 1;
                }
                self.prefixes.entry(owned(prefix)).or_default()
            }
            Kind::Open(first) => self.open.entry(owned(first)).or_default(),
            Kind::Other(first, end) => self.others.entry((owned(first), owned(end))).or_default(),
        };
        owners.insert(owner, marks);
    }

    fn remove(&mut self, range: KeyRange<'_>, owner: Owner) {
        match Kind::of(range) {
            Kind::Key(key) => drop(self.keys.remove(&(owned(key), owner))),
            Kind::Prefix(prefix) => {
                if remove_from(&mut self.prefixes, &owned(prefix), owner)
                    && let Entry::Occupied(mut count) = self.prefix_lengths.entry(prefix.len())
                {
                    *count.get_mut() -= 1;
                    if *count.get() == 0 {
                        count.remove();
                    }
                }
            }
            Kind::Open(first) => drop(remove_from(&mut self.open, &owned(first), owner)),
            Kind::Other(first, end) => drop(remove_from(&mut self.others, &(owned(first), owned(end)), owner)),
        }
    }

    /// All subscriptions.
    fn all(&self) -> impl Iterator<Item = (&Owner, &Arc<Marks>)> {
        let keys = self.keys.iter().map(|((_, owner), marks)| (owner, marks));
        let ranges = self.prefixes.values().chain(self.open.values()).chain(self.others.values());
        keys.chain(ranges.flatten())
    }

    fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    /// The ranges of more than one key that a key is in, each with what it is known by among all of them.
    fn ranges_of<'a>(&'a self, key: &Bytes, mut tell: impl FnMut((usize, &'a Bytes, &'a Bytes), &'a Owners)) {
        for length in self.prefix_lengths.keys().take_while(|length| **length <= key.len()) {
            if let Some((prefix, owners)) = self.prefixes.get_key_value(&key[..*length]) {
                tell((0, prefix, prefix), owners);
            }
        }
        self.open.range::<Bytes, _>(..=key).for_each(|(first, owners)| tell((1, first, first), owners));
        let before = self.others.iter().take_while(|((first, _), _)| first <= key);
        before.filter(|((_, end), _)| key < end).for_each(|((first, end), owners)| tell((2, first, end), owners));
    }
}

/// Whether nobody is left there.
fn remove_from<K: Ord>(ranges: &mut BTreeMap<K, Owners>, range: &K, owner: Owner) -> bool {
    let Some(owners) = ranges.get_mut(range) else { return false };
    owners.remove(&owner);
    owners.is_empty() && ranges.remove(range).is_some()
}

fn owned(key: &[u8]) -> Bytes {
    Bytes::copy_from_slice(key)
}

impl Subscriptions {
    pub(super) fn new(revision: i64, reached: Watermark, planted: Planted) -> Arc<Self> {
        let registry = Registry { noted: revision, ..Registry::default() };
        Arc::new(Subscriptions { registry: Mutex::new(registry), reached, planted })
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
        let mut keys: BTreeMap<Bytes, (i64, i64)> = BTreeMap::new();
        for (revision, key) in changes {
            let first = if self.planted.active(Mutant::WatchQuietCompacted) { i64::MIN } else { revision };
            keys.entry(key).or_insert((first, revision)).1 = revision;
        }
        // What concerns a range, of all keys, comes first: so each subscription is marked once, whatever a commit changes.
        let mut ranges = BTreeMap::new();
        for (key, &(first, last)) in &keys {
            registry.ranges_of(key, |range, owners| {
                let (_, least, greatest) = ranges.entry(range).or_insert((owners, first, last));
                (*least, *greatest) = (first.min(*least), last.max(*greatest));
            });
            let all = (key.clone(), (0, i64::MIN))..=(key.clone(), (u64::MAX, i64::MAX));
            registry.keys.range(all).for_each(|((_, owner), marks)| concerned.mark(*owner, marks, first, last));
        }
        for (owners, first, last) in ranges.into_values() {
            owners.iter().for_each(|(owner, marks)| concerned.mark(*owner, marks, first, last));
        }
        concerned
    }

    /// Notes that everything is about to be another state's, at `revision`: who knows what has changed between.
    pub(super) fn note_all(&self, revision: i64) -> Concerned {
        let mut registry = self.registry();
        let first = std::mem::replace(&mut registry.noted, revision) + 1;
        let mut concerned = Concerned::default();
        // Other things than keys may have changed.
        if first <= revision {
            registry.all().for_each(|(owner, marks)| concerned.mark(*owner, marks, first, revision));
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
            marks.changed.ring();
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

    /// The revisions to look at in a store at `revision`, together: those of the subscriptions that begin at `least` or later.
    pub(crate) fn behind(&self, least: i64, revision: i64) -> Option<RangeInclusive<i64>> {
        let marked = self.marks.lock();
        let begins = |mark: &&Mark| (least..=revision).contains(&mark.next);
        let marks = || marked.behind.iter().map(|id| &*marked.all[id]).filter(begins);
        let first = marks().map(|mark| mark.next).min()?;
        let last = marks().map(|mark| mark.last).max()?;
        Some(first..=last)
    }

    /// The first subscription, by number, that has something to look at up to a revision.
    pub(crate) fn first_behind(&self, upto: i64) -> Option<i64> {
        let marked = self.marks.lock();
        marked.behind.iter().copied().find(|id| marked.all[id].next <= upto)
    }

    /// The subscriptions that have something to look at and begin within these revisions, in the order of their numbers, each
    /// with where it begins. From now on they have looked at it.
    pub(crate) fn look(&self, revisions: RangeInclusive<i64>) -> Vec<(i64, i64)> {
        let mut marked = self.marks.lock();
        let Marked { all, behind, .. } = &mut *marked;
        let mut looking = Vec::new();
        behind.retain(|id| {
            let mark = all.get_mut(id).expect("who is behind is there");
            if revisions.contains(&mark.next) {
                looking.push((*id, mark.next));
                mark.next = revisions.end() + 1;
            }
            mark.next <= mark.last
        });
        looking
    }

    /// Resolves once there is something to look at. May do so too often; nothing is lost if it is dropped before.
    pub(crate) async fn due(&self) {
        match self.awaited() {
            Some(first) => self.subscriptions.reached.reached(u64::try_from(first).unwrap_or(0)).await,
            None => self.marks.changed.rung().await,
        }
    }

    /// Resolves once more is to be looked at than before.
    pub(crate) fn poll_changed(&self, context: &Context<'_>) -> Poll<()> {
        self.marks.changed.poll_rung(context)
    }

    /// The revision at which there will be something to look at: noted before the subscription was made, perhaps, so that nobody
    /// is woken for it.
    pub(crate) fn awaited(&self) -> Option<i64> {
        let marked = self.marks.lock();
        marked.behind.iter().map(|id| marked.all[id].next).min()
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
