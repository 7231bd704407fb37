//! The referee: linearizability of any model by search (Wing and Gong 1993, with the memory of Lowe 2017).
//!
//! Calls are linearized just in time: when one returns, it must have taken effect, after any of those that are under
//! way. What matters of the past is then the model's state and which pending calls it already includes; equal pairs are
//! kept once.
//!
//! ```text
//!   a ────────┐            at a's return: {a}, {b a}; at b's: what still lacks b takes it now
//!       b ────────────┐    a call without a known outcome stays pending for ever: it may take effect at any later
//!             c ??????     time, or never
//! ```
//!
//! The cost is exponential in the calls that overlap, so the search has a limit and may come out [`Verdict::Undecided`].
//! Where a model is made of independent parts, each part is judged alone ([`Model::parts`]).

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::history::{History, Operation, Outcome, Request};
use crate::model::{Kv, Refusal, difference};

/// A sequential specification.
pub trait Model {
    /// All that decides what later calls may answer.
    type State: Clone + Ord;
    /// A call, together with what it answered.
    type Call;

    /// The state before the first call.
    fn start(&self) -> Self::State;

    /// The state after a call that takes effect now, or `None` if it could not have answered as it did. A call of
    /// unknown outcome that would change nothing may answer `None`: then it never happened.
    fn step(&self, state: &Self::State, call: &Self::Call) -> Option<Self::State>;

    /// Splits calls into parts that have nothing to do with each other, such as the keys of a map. The union of their
    /// places must be all of them. A store whose answers carry one revision for all keys has a single part.
    fn parts(&self, calls: &[Timed<'_, Self::Call>]) -> Vec<Vec<usize>> {
        vec![(0..calls.len()).collect()]
    }
}

/// A call in time.
#[derive(Debug)]
pub struct Timed<'a, C> {
    /// The call.
    pub call: &'a C,
    /// When it was invoked.
    pub invoked: u64,
    /// When it returned; `None`: its outcome is unknown, and it may take effect at any time after its invocation.
    pub returned: Option<u64>,
}

/// What the referee says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Some order explains every answer.
    Linearizable,
    /// No order explains the answers up to the return of the call at this place.
    Illegal(usize),
    /// The limit was reached.
    Undecided,
}

/// Searches an order that explains every answer, visiting at most `limit` states.
pub fn search<M: Model>(model: &M, calls: &[Timed<'_, M::Call>], mut limit: usize) -> Verdict {
    for part in model.parts(calls) {
        match search_part(model, calls, &part, &mut limit) {
            Verdict::Linearizable => {}
            verdict => return verdict,
        }
    }
    Verdict::Linearizable
}

/// A state, and the pending calls that it already includes, in ascending order.
type Configuration<S> = (Rc<S>, Vec<usize>);

fn search_part<M: Model>(model: &M, calls: &[Timed<'_, M::Call>], part: &[usize], limit: &mut usize) -> Verdict {
    // At equal times invocations come first: such calls overlap.
    let mut events: Vec<(u64, bool, usize)> = Vec::new();
    for &place in part {
        events.push((calls[place].invoked, false, place));
        events.extend(calls[place].returned.map(|at| (at, true, place)));
    }
    events.sort_unstable();
    let mut pending: Vec<usize> = Vec::new();
    let mut configurations: BTreeSet<Configuration<M::State>> = BTreeSet::from([(Rc::new(model.start()), Vec::new())]);
    for (_, returns, place) in events {
        if !returns {
            pending.push(place);
            continue;
        }
        let mut next = BTreeSet::new();
        let mut seen = configurations.clone();
        let mut open: Vec<_> = configurations.into_iter().collect();
        while let Some((state, included)) = open.pop() {
            if let Ok(at) = included.binary_search(&place) {
                let mut included = included;
                included.remove(at);
                next.insert((state, included));
                continue;
            }
            for &candidate in &pending {
                let Err(at) = included.binary_search(&candidate) else { continue };
                let Some(state) = model.step(&state, calls[candidate].call) else { continue };
                let mut included = included.clone();
                included.insert(at, candidate);
                let configuration = (Rc::new(state), included);
                if seen.insert(configuration.clone()) {
                    if *limit == 0 {
                        return Verdict::Undecided;
                    }
                    *limit -= 1;
                    open.push(configuration);
                }
            }
        }
        if next.is_empty() {
            return Verdict::Illegal(place);
        }
        pending.retain(|&other| other != place);
        configurations = next;
    }
    Verdict::Linearizable
}

/// The KV service, for the referee.
#[derive(Clone, Copy, Debug, Default)]
pub struct KvModel;

impl Model for KvModel {
    type State = Kv;
    type Call = Operation;

    fn start(&self) -> Kv {
        Kv::new()
    }

    fn step(&self, state: &Kv, operation: &Operation) -> Option<Kv> {
        match &operation.outcome {
            Outcome::Ok(response) => {
                let mut state = state.clone();
                let expected = state.apply(&operation.request).ok()?;
                difference(&expected, response).is_none().then_some(state)
            }
            Outcome::Failed { code, message } => match Refusal::of(*code, message) {
                Some(refusal) => state
                    .refusals_at(&operation.request, state.revision(), state.compacted())
                    .contains(refusal)
                    .then(|| state.clone()),
                None => Some(state.clone()),
            },
            Outcome::Unknown => {
                let mut after = state.clone();
                after.apply(&operation.request).ok()?;
                (after != *state).then_some(after)
            }
        }
    }
}

/// The referee's verdict on a history of the KV service. Serializable reads are not its matter; an illegal verdict names
/// a place in `history.operations`.
pub fn search_kv(history: &History, limit: usize) -> Verdict {
    let (places, calls): (Vec<usize>, Vec<Timed<'_, Operation>>) = history
        .operations
        .iter()
        .enumerate()
        .filter(|(_, operation)| !operation.request.is_serializable())
        .filter(|(_, operation)| {
            operation.outcome != Outcome::Unknown
                || operation.request.may_write()
                || matches!(operation.request, Request::Compact(_))
        })
        .map(|(place, operation)| {
            let returned = (operation.outcome != Outcome::Unknown).then_some(operation.returned);
            (place, Timed { call: operation, invoked: operation.invoked, returned })
        })
        .unzip();
    match search(&KvModel, &calls, limit) {
        Verdict::Illegal(at) => Verdict::Illegal(places[at]),
        verdict => verdict,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    /// Registers that are independent of each other.
    struct Registers;

    #[derive(Clone, Copy)]
    enum Call {
        Write(char, u32),
        Read(char, u32),
    }

    impl Model for Registers {
        type State = BTreeMap<char, u32>;
        type Call = Call;

        fn start(&self) -> Self::State {
            BTreeMap::new()
        }

        fn step(&self, state: &Self::State, call: &Call) -> Option<Self::State> {
            let mut state = state.clone();
            match *call {
                Call::Write(register, value) => {
                    state.insert(register, value);
                    Some(state)
                }
                Call::Read(register, value) => (state.get(&register).copied().unwrap_or(0) == value).then_some(state),
            }
        }

        fn parts(&self, calls: &[Timed<'_, Call>]) -> Vec<Vec<usize>> {
            let mut parts: BTreeMap<char, Vec<usize>> = BTreeMap::new();
            for (place, timed) in calls.iter().enumerate() {
                let (Call::Write(register, _) | Call::Read(register, _)) = *timed.call;
                parts.entry(register).or_default().push(place);
            }
            parts.into_values().collect()
        }
    }

    fn judge(calls: &[(Call, u64, Option<u64>)], limit: usize) -> Verdict {
        let calls: Vec<_> = calls
            .iter()
            .map(|(call, invoked, returned)| Timed { call, invoked: *invoked, returned: *returned })
            .collect();
        search(&Registers, &calls, limit)
    }

    #[test]
    fn overlapping_calls_take_effect_in_any_order() {
        use Call::{Read, Write};
        let calls = [(Write('a', 1), 0, Some(10)), (Read('a', 0), 1, Some(2)), (Read('a', 1), 3, Some(4))];
        assert_eq!(judge(&calls, 1000), Verdict::Linearizable);
        let calls = [(Write('a', 1), 0, Some(10)), (Read('a', 1), 1, Some(2)), (Read('a', 0), 3, Some(4))];
        assert_eq!(judge(&calls, 1000), Verdict::Illegal(2));
        let touching = [(Write('a', 1), 0, Some(10)), (Read('a', 0), 10, Some(11))];
        assert_eq!(judge(&touching, 1000), Verdict::Linearizable, "calls that touch overlap");
    }

    #[test]
    fn an_unknown_write_may_surface_late_or_never_but_once() {
        use Call::{Read, Write};
        let lost = (Write('a', 1), 0, None);
        assert_eq!(judge(&[lost, (Read('a', 0), 5, Some(6))], 1000), Verdict::Linearizable);
        let late = [lost, (Read('a', 0), 5, Some(6)), (Read('a', 1), 7, Some(8))];
        assert_eq!(judge(&late, 1000), Verdict::Linearizable);
        let twice = [
            lost,
            (Read('a', 1), 5, Some(6)),
            (Write('a', 2), 7, Some(8)),
            (Read('a', 2), 9, Some(10)),
            (Read('a', 1), 11, Some(12)),
        ];
        assert_eq!(judge(&twice, 1000), Verdict::Illegal(4));
    }

    #[test]
    fn parts_are_judged_alone_and_a_limit_ends_the_search() {
        use Call::{Read, Write};
        let mut calls: Vec<(Call, u64, Option<u64>)> =
            (0..12).map(|n| (Write(char::from(b'a' + n), 1), 0, Some(10))).collect();
        calls.push((Read('c', 0), 20, Some(21)));
        assert_eq!(judge(&calls, 100), Verdict::Illegal(12), "twelve parts of one write, not one part of 2^12 states");
        let same: Vec<_> = (0..12).map(|n| (Write('a', n), 0, Some(10))).collect();
        assert_eq!(judge(&same, 100), Verdict::Undecided);
    }
}
