//! Whether an order agrees with real time.
//!
//! A place in the order is a pair: the store's revision, and how many compactions came before. Writes and compactions
//! make places; everything else stands at one. Swept by time, `m` is the greatest place among operations that have
//! returned: what is invoked next stands at `m` or after it, and what makes a place makes a later one.
//!
//! ```text
//!   (5, 0) ── compact 3 ── (5, 1) ── write ── (6, 1) ── …
//!             a read at revision 2 stands before it; one that was refused as compacted stands after it
//! ```
//!
//! An operation that several places explain takes the earliest of them. Every demand that it makes on others has the
//! form "not before this place", so the earliest choice is never the wrong one.

use std::collections::BTreeMap;

use super::footprint::Footprint;
use super::{Role, Subject, Unknown, violation};
use crate::history::Request;
use crate::model::{FIRST_REVISION, Kv, Refusal, oldest_read};
use crate::outcome::Violation;

/// A place in the order: the revision, and how many compactions came before.
type Place = (i64, usize);

/// A compaction that took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Compaction {
    /// The store's revision at that time.
    revision: i64,
    /// Reads below this revision are refused from then on.
    bound: i64,
    operation: u32,
}

/// What was known to be reached when operations were invoked that no answer pins to a place.
#[derive(Debug, Default)]
pub(super) struct Floors {
    /// Writes of unknown outcome, in the order of their invocation.
    pub(super) writes: Vec<Unknown>,
    /// Compactions of unknown outcome.
    compactions: Vec<Unknown>,
    /// Refusals.
    refused: BTreeMap<u32, Place>,
}

impl Floors {
    /// Whether anything is left that is not pinned to a revision by its own answer or by what others read.
    pub(super) fn has_refusals(&self) -> bool {
        !self.refused.is_empty()
    }
}

/// Which choices a contradiction may come from.
#[derive(Debug)]
pub(super) enum Blame {
    /// Those that concern these keys.
    Keys(Footprint),
    /// Those that concern the keys of this operation, whose answer differs from the model's.
    Answer(u32),
    /// The same, and the last one: whoever it took cannot have made that revision.
    Filler(Footprint),
    /// Any.
    Anything,
}

/// An order that cannot be.
pub(super) type Contradiction = (Violation, Blame);

/// A complete order of all writes.
pub(super) struct Order<'o> {
    /// The operation that made a revision, by revision.
    pub(super) makers: &'o [u32],
    /// The revisions made by operations of unknown outcome.
    pub(super) surfaced: &'o BTreeMap<u32, i64>,
    /// The state after the last of them.
    pub(super) state: &'o Kv,
}

/// The operations of a history in the order of time.
pub(super) struct Timeline<'s, 'h> {
    subject: &'s Subject<'h>,
    by_invocation: Vec<u32>,
    by_return: Vec<(u64, u32)>,
    /// Those that were answered.
    compactions: Vec<Compaction>,
}

impl<'s, 'h> Timeline<'s, 'h> {
    pub(super) fn new(subject: &'s Subject<'h>) -> Self {
        let operations = subject.operations;
        let mut by_invocation: Vec<u32> = Vec::with_capacity(operations.len());
        let mut by_return = Vec::with_capacity(operations.len());
        let mut compactions = Vec::new();
        for (place, role) in (0u32..).zip(&subject.roles) {
            if matches!(role, Role::Mute | Role::Stale(_)) {
                continue;
            }
            by_invocation.push(place);
            if !matches!(role, Role::UnknownWrite | Role::UnknownCompaction) {
                by_return.push((operations[place as usize].returned, place));
            }
            if let Role::Compaction(revision, bound) = *role {
                compactions.push(Compaction { revision, bound, operation: place });
            }
        }
        // Nearly sorted already: a stable sort uses that.
        by_invocation.sort_by_key(|place| operations[*place as usize].invoked);
        by_return.sort();
        compactions.sort_unstable();
        Timeline { subject, by_invocation, by_return, compactions }
    }

    /// Sweeps what an answer pins to a revision. Whatever fails here fails in every order.
    pub(super) fn sweep_pinned(&self) -> Result<Floors, Violation> {
        let mut floors = Floors::default();
        let mut sweep = Sweep::new(self, &self.compactions)?;
        for &place in &self.by_invocation {
            sweep.until(self.subject.operations[place as usize].invoked);
            let unknown = Unknown { operation: place, floor: sweep.reached.0 };
            match self.subject.roles[place as usize] {
                Role::UnknownWrite => floors.writes.push(unknown),
                Role::UnknownCompaction => floors.compactions.push(unknown),
                Role::Refused(_) => {
                    floors.refused.insert(place, sweep.reached);
                }
                _ => sweep.pinned(place)?,
            }
        }
        Ok(floors)
    }

    /// Sweeps a complete order, refusals included. Compactions of unknown outcome take effect where evidence puts them,
    /// or else where that explains the refusals; each sweep costs its length in `steps`.
    pub(super) fn sweep(
        &self,
        order: &Order<'_>,
        floors: &Floors,
        proposals: &[(u32, i64)],
        steps: &mut usize,
    ) -> Result<(), Contradiction> {
        let mut attempt = Attempt { timeline: self, order, floors, steps };
        if !proposals.is_empty() {
            let mut compactions = self.compactions.clone();
            compactions.extend(proposals.iter().filter_map(|&(operation, revision)| {
                attempt.bound(operation).map(|bound| Compaction { revision, bound, operation })
            }));
            compactions.sort_unstable();
            if attempt.sweep(&compactions).is_ok() {
                return Ok(());
            }
        }
        attempt.settle(&mut self.compactions.clone())
    }

    fn invoked(&self, place: u32) -> u64 {
        self.subject.operations[place as usize].invoked
    }

    fn returned(&self, place: u32) -> u64 {
        self.subject.operations[place as usize].returned
    }
}

/// One pass through time.
struct Sweep<'t, 's, 'h> {
    timeline: &'t Timeline<'s, 'h>,
    compactions: &'t [Compaction],
    /// `m`, and who reached it.
    reached: Place,
    reached_by: Option<u32>,
    next_return: usize,
    /// The places of operations that could choose, until they return.
    chosen: BTreeMap<u32, Place>,
}

impl<'t, 's, 'h> Sweep<'t, 's, 'h> {
    fn new(timeline: &'t Timeline<'s, 'h>, compactions: &'t [Compaction]) -> Result<Self, Violation> {
        let shown = |compaction: &Compaction| timeline.subject.describe(compaction.operation);
        let mut before: Option<&Compaction> = None;
        for compaction in compactions {
            if compaction.bound > compaction.revision {
                return Err(violation(format!(
                    "{}: it compacted a revision that was still to come",
                    shown(compaction)
                )));
            }
            if let Some(before) = before.filter(|before| before.bound >= compaction.bound) {
                return Err(violation(format!(
                    "{}: that revision had been compacted already, by {}",
                    shown(compaction),
                    shown(before)
                )));
            }
            before = Some(compaction);
        }
        Ok(Sweep {
            timeline,
            compactions,
            reached: (FIRST_REVISION, 0),
            reached_by: None,
            next_return: 0,
            chosen: BTreeMap::new(),
        })
    }

    /// How many compactions stand before the first place of a revision.
    fn first_level(&self, revision: i64) -> usize {
        if self.compactions.is_empty() {
            return 0;
        }
        self.compactions.partition_point(|compaction| compaction.revision < revision)
    }

    /// Below which revision reads are refused, after so many compactions.
    fn bound(&self, level: usize) -> i64 {
        level.checked_sub(1).map_or(-1, |last| self.compactions[last].bound)
    }

    /// Takes in everything that returned before a time.
    fn until(&mut self, time: u64) {
        while let Some(&(returned, place)) = self.timeline.by_return.get(self.next_return)
            && returned < time
        {
            self.next_return += 1;
            let stands = match self.timeline.subject.roles[place as usize] {
                Role::Write(revision) => (revision, self.first_level(revision)),
                Role::Read(revision) => match self.chosen.remove(&place) {
                    Some(stands) => stands,
                    None => (revision, self.first_level(revision)),
                },
                Role::Compaction(revision, bound) => (revision, self.level_after(revision, bound)),
                Role::Refused(_) => match self.chosen.remove(&place) {
                    Some(stands) => stands,
                    None => continue,
                },
                Role::UnknownWrite | Role::UnknownCompaction | Role::Stale(_) | Role::Mute => continue,
            };
            if stands > self.reached {
                (self.reached, self.reached_by) = (stands, Some(place));
            }
        }
    }

    fn level_after(&self, revision: i64, bound: i64) -> usize {
        self.compactions.partition_point(|compaction| (compaction.revision, compaction.bound) <= (revision, bound))
    }

    /// Puts an answered operation in its place. Everything that returned before its invocation has been taken in.
    fn pinned(&mut self, place: u32) -> Result<(), Violation> {
        let operation = self.timeline.subject.describe(place);
        match self.timeline.subject.roles[place as usize] {
            Role::Write(revision) => {
                let level = self.first_level(revision);
                self.makes(place, (revision, level))?;
                self.readable(place, level)
            }
            Role::Compaction(revision, bound) => self.makes(place, (revision, self.level_after(revision, bound))),
            Role::Read(revision) => {
                if self.reached.0 > revision {
                    return Err(violation(format!(
                        "stale read: {operation} shows the store at revision {revision}, but {} before it was invoked",
                        self.reached_by()
                    )));
                }
                if self.compactions.is_empty() {
                    return Ok(());
                }
                let first = self.first_level(revision);
                let level = if self.reached.0 == revision { first.max(self.reached.1) } else { first };
                if level > first {
                    self.chosen.insert(place, (revision, level));
                }
                self.readable(place, level)
            }
            _ => Ok(()),
        }
    }

    /// Demands that what makes a place was not invoked after that place had been seen.
    fn makes(&self, operation: u32, stands: Place) -> Result<(), Violation> {
        if self.reached < stands {
            return Ok(());
        }
        Err(violation(format!(
            "revision going back: {} took effect at revision {}, but {} before it was invoked",
            self.timeline.subject.describe(operation),
            stands.0,
            self.reached_by()
        )))
    }

    /// Demands that the past that an operation has read was not compacted before.
    fn readable(&self, place: u32, level: usize) -> Result<(), Violation> {
        if level == 0 {
            return Ok(());
        }
        let operation = self.timeline.subject.describe(place);
        let oldest = operation.response().and_then(|response| oldest_read(&operation.request, response));
        match oldest.filter(|&oldest| oldest < self.bound(level)) {
            None => Ok(()),
            Some(oldest) => Err(violation(format!(
                "{operation} has read revision {oldest}, which had been compacted by {}",
                self.timeline.subject.describe(self.compactions[level - 1].operation)
            ))),
        }
    }

    fn reached_by(&self) -> String {
        match self.reached_by {
            None => format!("the store began at revision {}", self.reached.0),
            Some(place) => format!(
                "{} had returned (revision {}, {} compactions)",
                self.timeline.subject.describe(place),
                self.reached.0,
                self.reached.1
            ),
        }
    }
}

/// The search for the compactions of unknown outcome that took effect.
struct Attempt<'a, 's, 'h> {
    timeline: &'a Timeline<'s, 'h>,
    order: &'a Order<'a>,
    floors: &'a Floors,
    steps: &'a mut usize,
}

/// A sweep that failed at an operation.
struct Failure {
    /// The invocation at which it failed.
    at: usize,
    /// A refusal that nothing explains.
    refused: Option<u32>,
    violation: Violation,
}

impl Attempt<'_, '_, '_> {
    fn top(&self) -> i64 {
        self.order.makers.len() as i64 - 1
    }

    fn bound(&self, operation: u32) -> Option<i64> {
        match &self.timeline.subject.describe(operation).request {
            Request::Compact(compact) => Some(compact.revision),
            _ => None,
        }
    }

    /// Adds compactions of unknown outcome until everything is explained.
    fn settle(&mut self, compactions: &mut Vec<Compaction>) -> Result<(), Contradiction> {
        self.settle_from(compactions).map_err(|(failure, blame)| (failure.violation, blame))
    }

    fn settle_from(&mut self, compactions: &mut Vec<Compaction>) -> Result<(), (Failure, Blame)> {
        let failure = match self.sweep(compactions) {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        // What got furthest says best what cannot be explained.
        let mut furthest = None::<Failure>;
        let mut helpless = true;
        for candidate in &self.floors.compactions {
            let bound = self.bound(candidate.operation).expect("an unknown compaction is a compaction");
            if compactions.iter().any(|placed| placed.operation == candidate.operation) || !self.helps(candidate, bound)
            {
                continue;
            }
            helpless = false;
            for revision in (bound.max(candidate.floor)..=self.top()).rev() {
                if *self.steps == 0 {
                    return Err((failure, Blame::Anything));
                }
                let added = Compaction { revision, bound, operation: candidate.operation };
                let at = compactions.partition_point(|placed| *placed < added);
                compactions.insert(at, added);
                match self.settle_from(compactions) {
                    Ok(()) => return Ok(()),
                    Err((tried, _)) if furthest.as_ref().is_none_or(|furthest| furthest.at < tried.at) => {
                        furthest = Some(tried);
                    }
                    Err(_) => {}
                }
                compactions.remove(at);
            }
        }
        let blame = match failure.refused {
            Some(place) if helpless => self.blame(place, compactions),
            _ => Blame::Anything,
        };
        Err((furthest.filter(|furthest| furthest.at > failure.at).unwrap_or(failure), blame))
    }

    /// Whether a compaction might explain any refusal: it was invoked in time, and reaches as far.
    fn helps(&self, candidate: &Unknown, bound: i64) -> bool {
        self.floors.refused.keys().any(|&place| {
            let operation = self.timeline.subject.describe(place);
            let reaches = match &operation.request {
                Request::Range(range) => bound > range.revision,
                Request::Compact(compact) => bound >= compact.revision,
                _ => true,
            };
            self.timeline.subject.roles[place as usize] == Role::Refused(Refusal::Compacted)
                && reaches
                && self.timeline.invoked(candidate.operation) <= operation.returned
        })
    }

    fn sweep(&mut self, compactions: &[Compaction]) -> Result<(), Failure> {
        *self.steps = self.steps.saturating_sub(self.timeline.by_invocation.len());
        let nowhere = |violation| Failure { at: 0, refused: None, violation };
        let subject = self.timeline.subject;
        let mut sweep = Sweep::new(self.timeline, compactions).map_err(nowhere)?;
        for (turn, &place) in self.timeline.by_invocation.iter().enumerate() {
            sweep.until(self.timeline.invoked(place));
            let at = |violation| Failure { at: turn, refused: None, violation };
            match subject.roles[place as usize] {
                Role::UnknownWrite => {
                    if let Some(&revision) = self.order.surfaced.get(&place) {
                        sweep.makes(place, (revision, sweep.first_level(revision))).map_err(at)?;
                        self.readable_unknown(&sweep, place, revision).map_err(at)?;
                    }
                }
                Role::UnknownCompaction => {
                    if let Some(level) = compactions.iter().position(|compaction| compaction.operation == place) {
                        sweep.makes(place, (compactions[level].revision, level + 1)).map_err(at)?;
                    }
                }
                Role::Refused(refusal) => match self.explain(&sweep, place, refusal, sweep.reached, true) {
                    Some(stands) => {
                        sweep.chosen.insert(place, stands);
                    }
                    None => {
                        return Err(Failure {
                            at: turn,
                            refused: Some(place),
                            violation: violation(format!(
                                "refused without a reason: {}; at no moment between its invocation and its return could \
                                 it be refused so, with the store at revision {} and compacted up to {} at its \
                                 invocation",
                                subject.describe(place),
                                sweep.reached.0,
                                sweep.bound(sweep.reached.1).max(0)
                            )),
                        });
                    }
                },
                _ => sweep.pinned(place).map_err(at)?,
            }
        }
        Ok(())
    }

    /// Demands that a write of unknown outcome could be carried out where it is put: a past that it reads was still
    /// there.
    fn readable_unknown(&self, sweep: &Sweep<'_, '_, '_>, place: u32, revision: i64) -> Result<(), Violation> {
        let operation = self.timeline.subject.describe(place);
        let level = sweep.first_level(revision);
        if level == 0 {
            return Ok(());
        }
        let refusals = self.order.state.refusals_at(&operation.request, revision - 1, sweep.bound(level));
        if refusals.compelling().is_empty() {
            return Ok(());
        }
        Err(violation(format!(
            "{operation} cannot have made revision {revision}: the past that it reads was compacted"
        )))
    }

    /// The earliest place from `from` on that explains a refusal. What makes the places up to there must have been
    /// invoked before the refusal returned; unless `strict`, operations of unknown outcome are let off.
    fn explain(
        &self,
        sweep: &Sweep<'_, '_, '_>,
        place: u32,
        refusal: Refusal,
        from: Place,
        strict: bool,
    ) -> Option<Place> {
        let operation = self.timeline.subject.describe(place);
        let returned = self.timeline.returned(place);
        let (mut revision, mut level) = from;
        loop {
            let refusals = self.order.state.refusals_at(&operation.request, revision, sweep.bound(level));
            if refusals.contains(refusal) {
                return Some((revision, level));
            }
            let maker = match sweep.compactions.get(level).filter(|compaction| compaction.revision == revision) {
                Some(compaction) => {
                    level += 1;
                    compaction.operation
                }
                None => {
                    revision += 1;
                    *self.order.makers.get(revision as usize)?
                }
            };
            let unknown =
                matches!(self.timeline.subject.roles[maker as usize], Role::UnknownWrite | Role::UnknownCompaction);
            if self.timeline.invoked(maker) > returned && (strict || !unknown) {
                return None;
            }
        }
    }

    /// What may be to blame for a refusal that nothing explains.
    fn blame(&self, place: u32, compactions: &[Compaction]) -> Blame {
        let Role::Refused(refusal) = self.timeline.subject.roles[place as usize] else { return Blame::Anything };
        // Floors count answered compactions only.
        if compactions.len() != self.timeline.compactions.len() {
            return Blame::Anything;
        }
        let Ok(sweep) = Sweep::new(self.timeline, compactions) else { return Blame::Anything };
        let floor = self.floors.refused[&place];
        // The places that it could have if no other refusal stood in its way: none of them explains it.
        if self.explain(&sweep, place, refusal, floor, false).is_some() {
            return Blame::Anything;
        }
        match &self.timeline.subject.describe(place).request {
            Request::Range(_) | Request::Compact(_) => Blame::Keys(Footprint::default()),
            request => Blame::Keys(Footprint::of(request)),
        }
    }
}
