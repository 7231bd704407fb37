//! The model, run in the order of revisions, and the search for writes of unknown outcome.
//!
//! A revision that no answered write made is a gap. Each gap is filled, in order:
//!
//! ```text
//!   revision   2     3     4     5     6
//!   owner      #1    gap   #4    gap   #9
//!                    │           └─ #7: a value of #7 was read with mod_revision 5
//!                    └─ a choice among unknown writes that were invoked in time: #2, or #7 if it were free
//! ```
//!
//! When an answer differs from the model's, the search goes back to the latest choice that could have changed the keys in
//! question, directly or by way of a txn that looks at others, and skips the choices in between (conflict-directed
//! backjumping). If there is none, the history has no explanation: that is a proof, not a guess.

use std::collections::{BTreeMap, BTreeSet};

use super::footprint::{Footprint, puts, shown};
use super::keyline;
use super::timeline::{Blame, Contradiction, Floors, Order, Timeline};
use super::{NOBODY, Placements, Role, Subject, Unknown, violation};
use crate::history::{Request, operation_of};
use crate::model::{FIRST_REVISION, Kv, difference};
use crate::outcome::Violation;

/// Answers whose keys' lives are looked into: each look goes through the whole history, and with evidence the first
/// contradiction is the one that matters.
const SUSPECTS_MAX: usize = 16;

/// A gap that more than one operation could fill, or a place after the last known revision.
#[derive(Debug)]
struct Choice {
    revision: i64,
    /// Who fills it now; `None`: nobody, the order ends here.
    filler: Option<usize>,
    /// The proposed filler, to be tried first, and then not again.
    proposed: Option<usize>,
    /// What is left to try, counted down through all possible fillers twice.
    untried: usize,
    /// The earlier choices that the failures so far could come from.
    conflict: BTreeSet<i64>,
}

pub(super) struct Replay<'s, 'h> {
    subject: &'s Subject<'h>,
    timeline: &'s Timeline<'s, 'h>,
    floors: &'s Floors,
    /// Operations that changed nothing, grouped by revision: those of `r` are `readers[starts[r]..starts[r + 1]]`.
    readers: Vec<u32>,
    starts: Vec<u32>,
    /// The operation that made a revision, unknown ones included.
    makers: Vec<u32>,
    /// Gaps whose filler is implied, by revision: a place in `floors.writes`.
    forced: BTreeMap<i64, usize>,
    proposed: BTreeMap<i64, usize>,
    /// For each of `floors.writes`, whether evidence puts it anywhere.
    proposed_elsewhere: Vec<bool>,
    proposed_compactions: Vec<(u32, i64)>,
    /// For each of `floors.writes`, the revision that it made.
    placed: Vec<Option<i64>>,
    choices: Vec<Choice>,
    /// Answers of which it is known that their keys' lives do not convict them.
    suspected: BTreeSet<u32>,
    state: Kv,
    /// What is left of the search.
    steps: usize,
}

impl<'s, 'h> Replay<'s, 'h> {
    pub(super) fn new(
        subject: &'s Subject<'h>,
        timeline: &'s Timeline<'s, 'h>,
        floors: &'s Floors,
        evidence: Option<&Placements>,
    ) -> Result<Self, Violation> {
        let (readers, starts) = group_by_revision(subject);
        let mut replay = Replay {
            subject,
            timeline,
            floors,
            readers,
            starts,
            makers: subject.owners.clone(),
            forced: BTreeMap::new(),
            proposed: BTreeMap::new(),
            proposed_elsewhere: vec![false; floors.writes.len()],
            proposed_compactions: Vec::new(),
            placed: vec![None; floors.writes.len()],
            choices: Vec::new(),
            suspected: BTreeSet::new(),
            state: Kv::new(),
            steps: subject.operations.len().saturating_mul(20).saturating_add(2_000_000),
        };
        replay.force()?;
        if let Some(evidence) = evidence {
            replay.propose(evidence);
        }
        Ok(replay)
    }

    /// How many operations of unknown outcome made a revision.
    pub(super) fn surfaced(&self) -> usize {
        self.placed.iter().flatten().count()
    }

    fn request(&self, place: u32) -> &'h Request {
        &self.subject.operations[place as usize].request
    }

    fn unknown(&self, filler: usize) -> Unknown {
        self.floors.writes[filler]
    }

    /// Finds the gaps of which a reader has seen the value. A value names its writer if no other operation wrote that
    /// number, and a key's first version cannot be the work of `ignore_value`.
    fn force(&mut self) -> Result<(), Violation> {
        if self.floors.writes.is_empty() {
            return Ok(());
        }
        let mut writers: BTreeMap<u64, usize> = BTreeMap::new();
        let mut keeps_values = false;
        for (filler, unknown) in self.floors.writes.iter().enumerate() {
            writers.insert(self.subject.operations[unknown.operation as usize].id, filler);
            puts(self.request(unknown.operation), &mut |put| keeps_values |= put.ignore_value);
        }
        for operation in self.subject.operations {
            puts(&operation.request, &mut |put| {
                if let Some(named) = operation_of(&put.value).filter(|&named| named != operation.id) {
                    writers.remove(&named);
                }
            });
        }
        let subject = self.subject;
        let mut contradiction = None;
        for (operation, role) in subject.operations.iter().zip(&subject.roles) {
            let (Some(response), false) = (operation.response(), *role == Role::Mute) else { continue };
            shown(response, &mut |kv| {
                let gap = usize::try_from(kv.mod_revision)
                    .ok()
                    .filter(|&at| kv.mod_revision > FIRST_REVISION && subject.owners.get(at) == Some(&NOBODY));
                if gap.is_none() || (keeps_values && kv.version != 1) {
                    return;
                }
                let Some(&filler) = operation_of(&kv.value).and_then(|named| writers.get(&named)) else { return };
                let mut its_own = false;
                puts(&subject.operations[self.floors.writes[filler].operation as usize].request, &mut |put| {
                    its_own |= put.key == kv.key && put.value == kv.value;
                });
                if !its_own {
                    return;
                }
                let revision = kv.mod_revision;
                let Unknown { operation: writer, floor } = self.floors.writes[filler];
                match self.placed[filler] {
                    _ if floor >= revision => {
                        contradiction.get_or_insert_with(|| {
                            violation(format!(
                                "read before it was written: {operation} shows {} at revision {revision}, but revision \
                                 {floor} had been reached when that was invoked",
                                subject.describe(writer)
                            ))
                        });
                    }
                    Some(other) if other != revision => {
                        contradiction.get_or_insert_with(|| {
                            violation(format!(
                                "took effect twice: {} is seen at revision {other}, and at revision {revision} by \
                                 {operation}",
                                subject.describe(writer)
                            ))
                        });
                    }
                    _ => {
                        self.placed[filler] = Some(revision);
                        self.forced.entry(revision).or_insert(filler);
                    }
                }
            });
        }
        contradiction.map_or(Ok(()), Err)
    }

    fn propose(&mut self, evidence: &Placements) {
        for (filler, unknown) in self.floors.writes.iter().enumerate() {
            let id = self.subject.operations[unknown.operation as usize].id;
            if let Some(&revision) = evidence.revisions.get(&id) {
                self.proposed.insert(revision, filler);
                self.proposed_elsewhere[filler] = true;
            }
        }
        for (place, role) in (0u32..).zip(&self.subject.roles) {
            if *role == Role::UnknownCompaction
                && let Some(&revision) = evidence.revisions.get(&self.subject.operations[place as usize].id)
            {
                self.proposed_compactions.push((place, revision));
            }
        }
    }

    /// Runs the model. `Ok(None)`: everything is explained. `Ok(Some(_))`: the search was given up, and this is the
    /// first contradiction that it met.
    pub(super) fn run(&mut self) -> Result<Option<Violation>, Violation> {
        let mut first: Option<Violation> = None;
        let mut step = self.read(FIRST_REVISION);
        loop {
            let (violation, blame) = match step {
                Ok(Next::Go) => {
                    step = self.step();
                    continue;
                }
                Ok(Next::Done) => return Ok(None),
                Err(contradiction) => contradiction,
            };
            if self.steps == 0 {
                return Ok(Some(first.unwrap_or(violation)));
            }
            let culprits = self.culprits(&blame);
            if culprits.is_empty() {
                return Err(violation);
            }
            if let Blame::Answer(place) = blame
                && self.suspected.len() < SUSPECTS_MAX
                && self.suspected.insert(place)
                && keyline::refutes(self.subject, &self.floors.writes, &self.forced, place)
            {
                return Err(violation);
            }
            let first = first.get_or_insert(violation);
            if !self.back(culprits) {
                first.message.push_str(" (every other placement of the operations of unknown outcome fails as well)");
                return Err(first.clone());
            }
            step = Ok(Next::Go);
        }
    }

    /// Carries out the next revision, or ends the order.
    fn step(&mut self) -> Result<Next, Contradiction> {
        let revision = self.state.revision() + 1;
        let past_the_top = revision > self.subject.top;
        if past_the_top && !self.floors.has_refusals() {
            return Ok(Next::Done);
        }
        let owner = if past_the_top { NOBODY } else { self.subject.owners[revision as usize] };
        if owner != NOBODY {
            self.compare(revision, owner)?;
            return self.read(revision);
        }
        if let Some(&filler) = self.forced.get(&revision) {
            self.unknown_write(revision, filler)?;
            return self.read(revision);
        }
        if self.choices.last().is_none_or(|choice| choice.revision < revision) {
            self.choose(revision, past_the_top);
        }
        match self.choices.last().expect("a choice was just made").filler {
            Some(filler) => {
                self.unknown_write(revision, filler)?;
                self.read(revision)
            }
            None if past_the_top => self.times(),
            None => Err((self.made_by_nobody(revision), Blame::Filler(Footprint::default()))),
        }
    }

    fn made_by_nobody(&self, revision: i64) -> Violation {
        violation(format!(
            "revision {revision} was produced by nobody: no answered operation made it, and none of the {} writes of \
             unknown outcome could have",
            self.floors.writes.len()
        ))
    }

    /// Opens a choice with its first filler. Past the last known revision the first choice is to end there.
    fn choose(&mut self, revision: i64, past_the_top: bool) {
        let untried = 2 * self.floors.writes.partition_point(|unknown| unknown.floor < revision);
        let proposed =
            self.proposed.get(&revision).copied().filter(|&filler| !past_the_top && self.could_fill(filler, revision));
        self.choices.push(Choice { revision, filler: None, proposed, untried, conflict: BTreeSet::new() });
        if past_the_top {
            return;
        }
        match proposed {
            Some(filler) => self.fill(filler),
            None => {
                self.choose_next();
            }
        }
    }

    fn could_fill(&self, filler: usize, revision: i64) -> bool {
        self.placed[filler].is_none() && self.unknown(filler).floor < revision
    }

    /// Takes the next filler of the last choice: those that were invoked last come first.
    fn choose_next(&mut self) -> bool {
        let choice = self.choices.last().expect("only an open choice is continued");
        let (revision, proposed, mut untried) = (choice.revision, choice.proposed, choice.untried);
        let mut found = None;
        // Twice through: those that evidence puts elsewhere come last.
        let eligible = self.floors.writes.partition_point(|unknown| unknown.floor < revision);
        while found.is_none() && untried > 0 {
            untried -= 1;
            let (filler, elsewhere) = (untried % eligible, untried < eligible);
            found = Some(filler).filter(|&filler| {
                self.proposed_elsewhere[filler] == elsewhere
                    && proposed != Some(filler)
                    && self.could_fill(filler, revision)
            });
        }
        self.choices.last_mut().expect("it was there").untried = untried;
        if let Some(filler) = found {
            self.fill(filler);
        }
        found.is_some()
    }

    fn fill(&mut self, filler: usize) {
        let choice = self.choices.last_mut().expect("only an open choice is filled");
        choice.filler = Some(filler);
        self.placed[filler] = Some(choice.revision);
    }

    /// Goes back to the latest of the culprits that has another filler. `false`: none has.
    fn back(&mut self, mut culprits: BTreeSet<i64>) -> bool {
        while let Some(target) = culprits.pop_last() {
            while self.choices.last().is_some_and(|choice| choice.revision > target) {
                self.drop_choice();
            }
            while self.state.revision() >= target {
                let revision = self.state.revision();
                if revision > self.subject.top {
                    self.makers.pop();
                } else {
                    self.makers[revision as usize] = self.subject.owners[revision as usize];
                }
                self.state.undo();
            }
            let choice = self.choices.last_mut().expect("a culprit is an open choice");
            choice.conflict.append(&mut culprits);
            if let Some(filler) = choice.filler.take() {
                self.placed[filler] = None;
            }
            if self.choose_next() {
                return true;
            }
            // No filler is left. Those that earlier choices hold might have done.
            let choice = self.choices.pop().expect("it was there");
            culprits = choice.conflict;
            for held in &self.choices {
                if held.filler.is_some_and(|filler| self.unknown(filler).floor < target) {
                    culprits.insert(held.revision);
                }
            }
        }
        false
    }

    fn drop_choice(&mut self) {
        if let Some(filler) = self.choices.pop().and_then(|choice| choice.filler) {
            self.placed[filler] = None;
        }
    }

    /// The open choices that a contradiction may come from.
    fn culprits(&mut self, blame: &Blame) -> BTreeSet<i64> {
        let mut culprits = BTreeSet::new();
        let mut keys = match blame {
            Blame::Anything => return self.choices.iter().map(|choice| choice.revision).collect(),
            Blame::Keys(keys) => keys.clone(),
            Blame::Answer(place) => Footprint::of(self.request(*place)),
            Blame::Filler(keys) => {
                let last = self.choices.last().map(|choice| choice.revision);
                culprits.extend(last.filter(|&revision| revision > self.state.revision()));
                keys.clone()
            }
        };
        self.steps = self.steps.saturating_sub(self.floors.writes.len());
        // What a txn did hangs on all keys that it names, so these count as well.
        let mut least_floor: Option<i64> = None;
        let mut rest: Vec<usize> = (0..self.floors.writes.len()).collect();
        loop {
            let before = rest.len();
            let mut grown = keys.clone();
            rest.retain(|&filler| {
                let Unknown { operation, floor } = self.unknown(filler);
                let request = self.request(operation);
                if !Footprint::of(request).overlaps(&keys) {
                    return true;
                }
                if matches!(request, Request::Txn(_)) {
                    grown.add(request);
                }
                let fixed = self.placed[filler].is_some_and(|revision| self.forced.get(&revision) == Some(&filler));
                if !fixed {
                    least_floor = Some(least_floor.map_or(floor, |least| least.min(floor)));
                }
                false
            });
            if rest.len() == before {
                break;
            }
            keys = grown;
        }
        if let Some(floor) = least_floor {
            culprits.extend(self.choices.iter().map(|choice| choice.revision).filter(|&revision| revision > floor));
        }
        culprits
    }

    /// An unknown operation makes a revision, if it can.
    fn unknown_write(&mut self, revision: i64, filler: usize) -> Result<(), Contradiction> {
        self.steps = self.steps.saturating_sub(1);
        let place = self.unknown(filler).operation;
        let request = self.request(place);
        let applied = self.state.apply(request);
        if applied.is_err() || self.state.revision() != revision {
            let violation = violation(format!(
                "revision {revision} was produced by nobody: {} would have changed nothing",
                self.subject.describe(place)
            ));
            return Err((violation, Blame::Filler(Footprint::of(request))));
        }
        match self.makers.get_mut(revision as usize) {
            Some(maker) => *maker = place,
            None => self.makers.push(place),
        }
        Ok(())
    }

    /// Everything that saw a revision without changing it.
    fn read(&mut self, revision: i64) -> Result<Next, Contradiction> {
        if revision <= self.subject.top {
            let group = self.starts[revision as usize] as usize..self.starts[revision as usize + 1] as usize;
            for at in group {
                self.compare(revision, self.readers[at])?;
            }
        }
        Ok(Next::Go)
    }

    /// Holds an answer against the model's, at the state after `revision` or, for its maker, before it.
    fn compare(&mut self, revision: i64, place: u32) -> Result<(), Contradiction> {
        self.steps = self.steps.saturating_sub(1);
        let operation = self.subject.describe(place);
        let response = operation.response().expect("only answered operations are compared");
        let reads = self.state.revision() == revision;
        let message = match self.state.apply(&operation.request) {
            Ok(expected) => match difference(&expected, response) {
                None => return Ok(()),
                Some(difference) => difference,
            },
            Err(refusals) => format!("it should have been refused ({:?})", refusals.iter().collect::<Vec<_>>()),
        };
        if reads && self.state.revision() > revision {
            self.state.undo();
        }
        Err((violation(format!("{operation}: {message}")), Blame::Answer(place)))
    }

    /// Whether the complete order agrees with real time.
    fn times(&mut self) -> Result<Next, Contradiction> {
        let surfaced = self
            .placed
            .iter()
            .enumerate()
            .filter_map(|(filler, revision)| revision.map(|revision| (self.unknown(filler).operation, revision)))
            .collect();
        let order = Order { makers: &self.makers, surfaced: &surfaced, state: &self.state };
        self.timeline.sweep(&order, self.floors, &self.proposed_compactions, &mut self.steps)?;
        Ok(Next::Done)
    }
}

/// What follows a step that went well.
enum Next {
    Go,
    Done,
}

/// Sorts the operations that own no revision by the one that they saw.
fn group_by_revision(subject: &Subject<'_>) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0u32; subject.top as usize + 2];
    let revision_of = |role: &Role| match role {
        Role::Read(revision) | Role::Stale(revision) => Some(*revision as usize),
        _ => None,
    };
    for revision in subject.roles.iter().filter_map(revision_of) {
        starts[revision + 1] += 1;
    }
    for revision in 1..starts.len() {
        starts[revision] += starts[revision - 1];
    }
    let mut readers = vec![0u32; starts.last().copied().unwrap_or(0) as usize];
    let mut next = starts.clone();
    for (place, role) in (0u32..).zip(&subject.roles) {
        if let Some(revision) = revision_of(role) {
            readers[next[revision] as usize] = place;
            next[revision] += 1;
        }
    }
    (readers, starts)
}
