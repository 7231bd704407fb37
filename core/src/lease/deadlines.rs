//! When leases end, as the leader sees it.
//!
//! They are known while a member leads, in one term: its tenure. Nothing of it is written; the next leader begins anew.
//!
//! ```text
//!   tenure    begin ── follow what is applied ── renew ── due: propose their end ── end
//!   a lease            granted ───────────────── later ── ending ── gone, when that is applied
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft_rt::Instant as _;

use crate::ids::Term;
use crate::mvcc::{Lease, Store};
use crate::raft::LeaseRest;
use crate::runtime::{LeaseChange, Mutant, Mutants, Runtime};
use crate::watermark::Watermark;

/// The deadlines of one member's tenure, if it has one. Clones are the same.
pub(crate) struct Deadlines<R: Runtime> {
    tenure: Arc<Mutex<Option<Tenure<R>>>>,
    /// Raised whenever something has changed that somebody may wait for.
    changes: Watermark,
}

impl<R: Runtime> Clone for Deadlines<R> {
    fn clone(&self) -> Self {
        Deadlines { tenure: self.tenure.clone(), changes: self.changes.clone() }
    }
}

impl<R: Runtime> Default for Deadlines<R> {
    fn default() -> Self {
        Deadlines { tenure: Arc::default(), changes: Watermark::default() }
    }
}

/// What is known while this member leads in a term.
struct Tenure<R: Runtime> {
    term: Term,
    checkpoint_interval: Option<Duration>,
    leases: BTreeMap<i64, Kept<R>>,
    /// The ends of those that are not ending yet.
    ends: BTreeSet<(R::Instant, i64)>,
    /// When what is left of a lease is to be noted.
    checkpoints: BTreeSet<(R::Instant, i64)>,
}

/// A lease.
struct Kept<R: Runtime> {
    /// The place in the log of its grant: which of the leases of its number it is.
    granted: u64,
    ttl: Duration,
    end: R::Instant,
    checkpoint: Option<R::Instant>,
    /// Its end has been proposed, and nobody knows yet what comes of that.
    ending: bool,
    /// The same, of a note of what is left of it.
    noting: bool,
}

/// What came of a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Renewal {
    /// It ends its time later.
    Renewed,
    /// There is none of that number, as far as is applied.
    Unknown,
    /// It is at its end, or what is left of it is being noted: to be tried again after the next change.
    Busy,
    /// The member does not lead any more, or not in that term.
    Over,
}

impl<R: Runtime> Deadlines<R> {
    fn lock(&self) -> MutexGuard<'_, Option<Tenure<R>>> {
        self.tenure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.raise(self.changes.get() + 1);
    }

    /// Looks at the tenure of a term, if it is that one.
    fn in_term<T>(&self, term: Term, look: impl FnOnce(&mut Tenure<R>) -> T) -> Option<T> {
        self.lock().as_mut().filter(|tenure| tenure.term == term).map(look)
    }

    /// The term of the tenure.
    pub(super) fn term(&self) -> Option<Term> {
        self.lock().as_ref().map(|tenure| tenure.term)
    }

    /// A number that grows with every change.
    pub(super) fn version(&self) -> u64 {
        self.changes.get()
    }

    /// Resolves once something has changed since that version.
    pub(super) async fn changed_since(&self, version: u64) {
        self.changes.reached(version + 1).await;
    }

    /// This member leads, in that term, and has applied everything from before it: every lease gets `time` from now on.
    pub(super) fn begin(
        &self,
        term: Term,
        store: &Store<R::Disk>,
        checkpoint_interval: Option<Duration>,
        time: impl Fn(&Lease) -> Duration,
    ) {
        let mut held = self.lock();
        let mut tenure = Tenure {
            term,
            checkpoint_interval,
            leases: BTreeMap::new(),
            ends: BTreeSet::new(),
            checkpoints: BTreeSet::new(),
        };
        // Under the lock, so that what is applied meanwhile is followed afterwards.
        let (leases, _) = store.leases();
        let now = R::Instant::now();
        for (id, lease) in leases.iter().filter(|_| !R::Mutants::active(Mutant::LeaseNotTakenUp)) {
            tenure.keep(id, lease, now, now + time(lease));
        }
        *held = Some(tenure);
        drop(held);
        self.changed();
    }

    /// This member does not lead.
    pub(super) fn end(&self) {
        if self.lock().take().is_some() {
            self.changed();
        }
    }

    /// What entries have done to leases, and the store shows already.
    pub(crate) fn follow(&self, store: &Store<R::Disk>, changes: impl Iterator<Item = LeaseChange>) {
        let mut changes = changes.peekable();
        if changes.peek().is_none() {
            return;
        }
        let mut held = self.lock();
        let Some(tenure) = held.as_mut() else { return };
        let (leases, _) = store.leases();
        let now = R::Instant::now();
        for change in changes {
            let id = match change {
                LeaseChange::Granted(id) | LeaseChange::Revoked(id) | LeaseChange::Expired(id) => id,
                LeaseChange::Noted => continue,
            };
            // What it has come to in the end: more may have become of it in the same batch.
            let (is, was) = (leases.get(id), tenure.leases.get(&id));
            if is.map(|lease| lease.granted) != was.map(|kept| kept.granted) {
                tenure.forget(id);
                if let Some(lease) = is {
                    tenure.keep(id, lease, now, now + seconds(lease.ttl));
                }
            }
        }
        drop(held);
        self.changed();
    }

    /// Gives a lease its time anew, from now on. While what is left of it is being noted, the answer has to wait, and its end
    /// moves all the same.
    pub(super) fn renew(&self, term: Term, id: i64) -> Renewal {
        let now = R::Instant::now();
        let renewed = self.in_term(term, |tenure| match tenure.leases.get(&id) {
            None => Renewal::Unknown,
            Some(kept) if kept.ending || kept.end <= now => Renewal::Busy,
            Some(kept) => {
                let (end, noting) = (kept.end.max(now + kept.ttl), kept.noting);
                tenure.move_end(id, now, end);
                if noting { Renewal::Busy } else { Renewal::Renewed }
            }
        });
        renewed.unwrap_or(Renewal::Over)
    }

    /// What is left of a lease, that of its number which was granted at a place in the log; nothing, if it is at its end or the
    /// member does not know it.
    pub(super) fn left(&self, term: Term, id: i64, granted: u64) -> Option<Duration> {
        let now = R::Instant::now();
        self.in_term(term, |tenure| {
            let kept = tenure.leases.get(&id).filter(|kept| kept.granted == granted)?;
            (!kept.ending && kept.end > now).then(|| kept.end - now)
        })
        .flatten()
    }

    /// Leases that are at their end, at most so many, each with the place of its grant. They are ending from now on.
    pub(super) fn due(&self, term: Term, most: usize) -> Vec<(i64, u64)> {
        let now = R::Instant::now();
        let due = self.in_term(term, |tenure| {
            let due: Vec<(R::Instant, i64)> =
                tenure.ends.iter().take_while(|(end, _)| *end <= now).take(most).copied().collect();
            let mut ending = Vec::with_capacity(due.len());
            for (end, id) in due {
                tenure.ends.remove(&(end, id));
                let kept = tenure.leases.get_mut(&id).expect("every end is a lease's");
                kept.ending = true;
                ending.push((id, kept.granted));
            }
            ending
        });
        due.unwrap_or_default()
    }

    /// The end of a lease has not come to anything: it is due again.
    pub(super) fn not_ended(&self, term: Term, id: i64, granted: u64) {
        self.in_term(term, |tenure| {
            let kept = tenure.leases.get_mut(&id);
            if let Some(kept) = kept.filter(|kept| kept.ending && kept.granted == granted) {
                kept.ending = false;
                tenure.ends.insert((kept.end, id));
            }
        });
        self.changed();
    }

    /// Leases of which what is left is to be noted, in seconds, at most so many. It is being noted from now on.
    pub(super) fn to_note(&self, term: Term, most: usize) -> Vec<LeaseRest> {
        let now = R::Instant::now();
        let to_note = self.in_term(term, |tenure| {
            let due: Vec<(R::Instant, i64)> =
                tenure.checkpoints.iter().take_while(|(at, _)| *at <= now).take(most).copied().collect();
            let mut rests = Vec::with_capacity(due.len());
            for (at, id) in due {
                tenure.checkpoints.remove(&(at, id));
                let kept = tenure.leases.get_mut(&id).expect("every checkpoint is a lease's");
                kept.checkpoint = None;
                if !kept.ending && kept.end > now {
                    kept.noting = true;
                    // Rounded up: a lease is rather too long than too short. Not longer than it was granted for, though what
                    // a new leader has given it on top is left as well.
                    let left = (kept.end - now).min(kept.ttl).as_millis().div_ceil(1000);
                    rests.push(LeaseRest { id, granted: kept.granted, rest: i64::try_from(left).unwrap_or(i64::MAX) });
                }
            }
            rests
        });
        to_note.unwrap_or_default()
    }

    /// What is left of these leases has been noted, or that has come to nothing.
    pub(super) fn noted(&self, term: Term, rests: &[LeaseRest]) {
        let now = R::Instant::now();
        self.in_term(term, |tenure| {
            for LeaseRest { id, granted, .. } in rests {
                if let Some(kept) = tenure.leases.get_mut(id).filter(|kept| kept.granted == *granted) {
                    kept.noting = false;
                    tenure.schedule(*id, now);
                }
            }
        });
        self.changed();
    }

    /// When there is something to do next.
    pub(super) fn next(&self, term: Term) -> Option<R::Instant> {
        self.in_term(term, |tenure| {
            let first = |set: &BTreeSet<(R::Instant, i64)>| set.first().map(|(at, _)| *at);
            [first(&tenure.ends), first(&tenure.checkpoints)].into_iter().flatten().min()
        })
        .flatten()
    }
}

impl<R: Runtime> Tenure<R> {
    fn keep(&mut self, id: i64, lease: &Lease, now: R::Instant, end: R::Instant) {
        let (granted, ttl) = (lease.granted, seconds(lease.ttl));
        let kept = Kept { granted, ttl, end, checkpoint: None, ending: false, noting: false };
        self.leases.insert(id, kept);
        self.ends.insert((end, id));
        self.schedule(id, now);
    }

    fn forget(&mut self, id: i64) {
        if let Some(kept) = self.leases.remove(&id) {
            self.ends.remove(&(kept.end, id));
            kept.checkpoint.map(|at| self.checkpoints.remove(&(at, id)));
        }
    }

    fn move_end(&mut self, id: i64, now: R::Instant, end: R::Instant) {
        let kept = self.leases.get_mut(&id).expect("the caller has found it");
        self.ends.remove(&(kept.end, id));
        kept.end = end;
        self.ends.insert((end, id));
        self.schedule(id, now);
    }

    /// Notes what is left after an interval, if more than that is left.
    fn schedule(&mut self, id: i64, now: R::Instant) {
        let Some(interval) = self.checkpoint_interval else { return };
        let kept = self.leases.get_mut(&id).expect("the caller has found it");
        if let Some(at) = kept.checkpoint.take() {
            self.checkpoints.remove(&(at, id));
        }
        if kept.end > now + interval {
            kept.checkpoint = Some(now + interval);
            self.checkpoints.insert((now + interval, id));
        }
    }
}

/// The time of so many seconds. Less than one is none.
pub(super) fn seconds(seconds: i64) -> Duration {
    Duration::from_secs(u64::try_from(seconds).unwrap_or(0))
}

#[cfg(test)]
mod tests;
