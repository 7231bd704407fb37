//! The history of one key.
//!
//! A key lives in generations: one begins with the put that creates the key and ends with its deletion. A deletion's
//! revision (a *tombstone*, marked † here) closes the generation.
//!
//! ```text
//!  put at 2, put at 5   [2 5
//!  deleted at 7         [2 5 7†]
//!  put at 9             [2 5 7†] [9
//!  compacted at 6       [5 7†] [9        5 is what a read at 6 finds
//!  compacted at 7       [7†] [9          history from 7 on stays whole: a watcher may still ask for it
//!  compacted at 8       [9               a read at 8 finds nothing either way
//! ```

use super::revision::Revision;

/// One life of a key. Never without a revision.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Generation {
    /// The revision of the put that began it; unknown (0) if only its tombstone has survived compaction.
    created: i64,
    /// Changes since then: the version after the last revision.
    version: i64,
    /// Ascending. Compaction takes from the front.
    revisions: Vec<Revision>,
    /// Whether the last revision is a tombstone.
    ended: bool,
}

impl Generation {
    fn first(&self) -> Revision {
        *self.revisions.first().expect("a generation has a revision")
    }

    fn last(&self) -> Revision {
        *self.revisions.last().expect("a generation has a revision")
    }

    /// How many of the revisions are at `main` or before.
    fn count_up_to(&self, main: i64) -> usize {
        self.revisions.partition_point(|revision| revision.main <= main)
    }
}

/// A key as it is at some revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    /// Where its row is.
    pub(crate) modified: Revision,
    pub(crate) created: i64,
    pub(crate) version: i64,
}

/// The revisions of one key, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyIndex {
    generations: Vec<Generation>,
}

impl KeyIndex {
    /// Whether the key has no history left.
    pub(crate) fn is_empty(&self) -> bool {
        self.generations.is_empty()
    }

    fn live(&mut self) -> Option<&mut Generation> {
        self.generations.last_mut().filter(|generation| !generation.ended)
    }

    /// Records a put. `revision` is greater than any before.
    pub(crate) fn put(&mut self, revision: Revision) -> Found {
        let generation = match self.generations.last_mut() {
            Some(generation) if !generation.ended => {
                debug_assert!(generation.last() < revision, "{revision} is put after {}", generation.last());
                generation.version += 1;
                generation.revisions.push(revision);
                generation
            }
            _ => self.generations.push_mut(Generation {
                created: revision.main,
                version: 1,
                revisions: vec![revision],
                ended: false,
            }),
        };
        Found { modified: revision, created: generation.created, version: generation.version }
    }

    /// Records a deletion. `false` if there is nothing to delete.
    pub(crate) fn tombstone(&mut self, revision: Revision) -> bool {
        let Some(generation) = self.live() else { return false };
        debug_assert!(generation.last() < revision, "{revision} is deleted after {}", generation.last());
        generation.version += 1;
        generation.revisions.push(revision);
        generation.ended = true;
        true
    }

    /// Takes up the row of a put that survived. Rows come in ascending order. `false` if the row contradicts the ones
    /// before it.
    pub(crate) fn restore(&mut self, revision: Revision, created: i64, version: i64) -> bool {
        if let Some(generation) = self.live() {
            generation.version += 1;
            generation.revisions.push(revision);
            return generation.created == created && generation.version == version;
        }
        self.generations.push(Generation { created, version, revisions: vec![revision], ended: false });
        created <= revision.main && version >= 1
    }

    /// Takes up a tombstone that survived, though nothing else of its generation may have.
    pub(crate) fn restore_tombstone(&mut self, revision: Revision) {
        if !self.tombstone(revision) {
            self.generations.push(Generation { created: 0, version: 1, revisions: vec![revision], ended: true });
        }
    }

    /// The key as of `main`; `None` if it did not exist then.
    pub(crate) fn get(&self, main: i64) -> Option<Found> {
        for generation in self.generations.iter().rev() {
            if generation.first().main > main {
                continue;
            }
            if generation.ended && generation.last().main <= main {
                return None;
            }
            let upto = generation.count_up_to(main);
            let later = generation.revisions.len() - upto;
            return Some(Found {
                modified: generation.revisions[upto - 1],
                created: generation.created,
                version: generation.version - later as i64,
            });
        }
        None
    }

    /// Forgets what no read at `main` or later, and no watch from `main` on, can need; adds it to `garbage`, in
    /// ascending order.
    pub(crate) fn compact(&mut self, main: i64, garbage: &mut Vec<Revision>) {
        // A tombstone at exactly `main` stays: a watch from `main` on has to see it.
        let over = self.generations.partition_point(|generation| generation.ended && generation.last().main < main);
        for generation in self.generations.drain(..over) {
            garbage.extend(generation.revisions);
        }
        if let Some(generation) = self.generations.first_mut() {
            let superseded = generation.count_up_to(main).saturating_sub(1);
            garbage.extend(generation.revisions.drain(..superseded));
        }
    }

    /// Forgets what has ended at exactly `main`, too: a planted bug.
    pub(crate) fn compact_end(&mut self, main: i64, garbage: &mut Vec<Revision>) {
        let ended = |generation: &&Generation| generation.ended && generation.last().main == main;
        if self.generations.first().filter(ended).is_some() {
            garbage.extend(self.generations.remove(0).revisions);
        }
    }

    /// Takes back every change after `main`. Only the newest changes can be, those that nobody has seen yet.
    pub(crate) fn truncate(&mut self, main: i64) {
        while let Some(generation) = self.generations.last_mut() {
            let kept = generation.count_up_to(main);
            let taken = generation.revisions.len() - kept;
            if kept == 0 {
                self.generations.pop();
                continue;
            }
            if taken > 0 {
                generation.revisions.truncate(kept);
                generation.version -= taken as i64;
                generation.ended = false;
            }
            return;
        }
    }

    /// The revisions at `main` or before that are kept.
    pub(crate) fn kept_up_to(&self, main: i64) -> impl Iterator<Item = Revision> {
        self.generations
            .iter()
            .flat_map(|generation| generation.revisions.iter().copied())
            .take_while(move |revision| revision.main <= main)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(main: i64) -> Revision {
        Revision { main, sub: 0 }
    }

    /// The example of the module's documentation.
    fn example() -> KeyIndex {
        let mut key = KeyIndex::default();
        key.put(at(2));
        key.put(at(5));
        assert!(key.tombstone(at(7)));
        key.put(at(9));
        key
    }

    fn compacted(main: i64) -> (KeyIndex, Vec<i64>) {
        let (mut key, mut garbage) = (example(), Vec::new());
        key.compact(main, &mut garbage);
        (key, garbage.into_iter().map(|revision| revision.main).collect())
    }

    #[test]
    fn reads_find_the_life_of_their_revision() {
        let key = example();
        let found = |main| key.get(main).map(|found| (found.modified.main, found.created, found.version));
        assert_eq!(found(1), None);
        assert_eq!(found(2), Some((2, 2, 1)));
        assert_eq!(found(4), Some((2, 2, 1)));
        assert_eq!(found(6), Some((5, 2, 2)));
        assert_eq!(found(7), None);
        assert_eq!(found(8), None);
        assert_eq!(found(9), Some((9, 9, 1)));
        assert_eq!(found(100), Some((9, 9, 1)));
    }

    #[test]
    fn compaction_keeps_the_newest_and_all_history_after() {
        assert!(compacted(1).1.is_empty());
        assert_eq!(compacted(5).1, [2]);
        assert_eq!(compacted(6).1, [2]);
        assert_eq!(compacted(7).1, [2, 5], "the tombstone at the compact revision stays");
        assert_eq!(compacted(8).1, [2, 5, 7]);
        assert_eq!(compacted(100).1, [2, 5, 7]);
        assert_eq!(compacted(6).0.get(6), example().get(6));
        assert_eq!(compacted(100).0.get(100), example().get(100), "the version survives its predecessors");
    }

    #[test]
    fn a_deleted_key_vanishes() {
        let mut key = KeyIndex::default();
        key.put(at(2));
        key.tombstone(at(3));
        assert!(!key.tombstone(at(4)));
        key.compact(3, &mut Vec::new());
        assert!(!key.is_empty());
        key.compact(4, &mut Vec::new());
        assert!(key.is_empty());
    }

    #[test]
    fn restoring_what_compaction_left_gives_the_same_index() {
        for main in 1..=10 {
            let (compacted, _) = compacted(main);
            let mut restored = KeyIndex::default();
            let (whole, kept) = (example(), compacted.kept_up_to(i64::MAX));
            for revision in kept {
                match whole.get(revision.main) {
                    Some(found) => assert!(restored.restore(revision, found.created, found.version)),
                    None => restored.restore_tombstone(revision),
                }
            }
            for read in main..=10 {
                assert_eq!(restored.get(read), example().get(read), "at {read} after compaction at {main}");
            }
        }
    }

    #[test]
    fn a_lone_tombstone_is_history() {
        let mut key = KeyIndex::default();
        key.restore_tombstone(at(7));
        assert_eq!(key.get(7), None);
        assert_eq!(key.kept_up_to(7).collect::<Vec<_>>(), [at(7)]);
        assert_eq!(key.put(at(9)), Found { modified: at(9), created: 9, version: 1 });
    }

    #[test]
    fn contradicting_rows_are_noticed() {
        let mut key = KeyIndex::default();
        assert!(key.restore(at(5), 2, 2));
        assert!(!key.restore(at(6), 2, 4), "a version is missing");
        let mut key = KeyIndex::default();
        assert!(key.restore(at(5), 2, 2));
        assert!(!key.restore(at(6), 6, 1), "the deletion between is missing");
        assert!(!KeyIndex::default().restore(at(5), 6, 1), "created after it was modified");
    }

    #[test]
    fn truncating_takes_back_what_nobody_has_seen() {
        let whole = example();
        for main in 1..=9 {
            let mut key = whole.clone();
            key.truncate(main);
            for read in 1..=main {
                assert_eq!(key.get(read), whole.get(read));
            }
            assert_eq!(key.get(100), whole.get(main));
        }
        let mut key = whole.clone();
        key.truncate(1);
        assert!(key.is_empty());
    }
}
