//! Serializable reads: a member may be behind, but what it shows is a state that the store had, and it never goes back.
//!
//! 1. Every answer is the model's at its header's revision, in an order that also explains the rest of the history:
//!    what a member shows too early, or what is lost again later, has no such order.
//! 2. On one incarnation of a member, a read shows no less than what had been shown when it was invoked, to whomever. A
//!    restarted member may begin further back: it replays its log.

use std::collections::BTreeMap;

use super::linearizable::{self, Checked, Placements, check_with_serializable};
use crate::history::{History, Operation, Outcome};
use crate::outcome::Violation;

const JUDGE: &str = "serializable";

/// Judges the serializable reads of a history: how many there are. A history that is not linearizable without them
/// leaves nothing to hold their content against; then only their order is judged.
pub fn check(history: &History, evidence: Option<&Placements>) -> Result<usize, Violation> {
    let reads: Vec<&Operation> = history
        .operations
        .iter()
        .filter(|operation| operation.request.is_serializable() && matches!(operation.outcome, Outcome::Ok(_)))
        .collect();
    if reads.is_empty() {
        return Ok(0);
    }
    never_back(&reads)?;
    match check_with_serializable(history, evidence) {
        Err(violation) if linearizable::check(history, evidence).is_ok() => {
            Err(Violation { judge: JUDGE, message: violation.message })
        }
        // A search that was given up is not a pass.
        Ok(Checked { undecided: Some(met), .. })
            if linearizable::check(history, evidence).is_ok_and(|alone| alone.undecided.is_none()) =>
        {
            let message = format!("the search for an order of the reads was given up; it first met: {}", met.message);
            Err(Violation { judge: JUDGE, message })
        }
        _ => Ok(reads.len()),
    }
}

fn never_back(reads: &[&Operation]) -> Result<(), Violation> {
    match goes_back(reads.iter().copied().filter(|read| read.member != 0)) {
        Some([newest, read]) => {
            let message = format!("a member went back: after {newest}, it answered {read}");
            Err(Violation { judge: JUDGE, message })
        }
        None => Ok(()),
    }
}

/// Of answers of one incarnation of a member, one that was returned, and one of a lesser revision that was asked for after that;
/// none, if there are no two such.
pub(super) fn goes_back<'a>(answers: impl Iterator<Item = &'a Operation>) -> Option<[&'a Operation; 2]> {
    let mut servers: BTreeMap<(u64, u64), Vec<&Operation>> = BTreeMap::new();
    for answer in answers {
        servers.entry((answer.member, answer.incarnation)).or_default().push(answer);
    }
    for mut answers in servers.into_values() {
        let mut returned = answers.clone();
        returned.sort_by_key(|answer| answer.returned);
        answers.sort_by_key(|answer| answer.invoked);
        let mut returned = returned.into_iter().peekable();
        let mut newest: Option<&Operation> = None;
        for answer in answers {
            while let Some(before) = returned.next_if(|before| before.returned < answer.invoked) {
                if newest.is_none_or(|newest| revision(newest) < revision(before)) {
                    newest = Some(before);
                }
            }
            if let Some(newest) = newest.filter(|newest| revision(newest) > revision(answer)) {
                return Some([newest, answer]);
            }
        }
    }
    None
}

fn revision(read: &Operation) -> i64 {
    read.response().map_or(0, crate::history::Response::revision)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::generate::{Generated, Shape, generate};
    use crate::history::Response;
    use crate::plan::Mix;

    fn generated(seed: u64) -> Generated {
        let mix = Mix { get_serializable: 40, put: 40, delete: 10, txn: 10, ..Default::default() };
        generate(seed, &Shape { keys: 3, mix, ..Shape::busy(4, 120) })
    }

    /// The last serializable read that shows a key.
    fn shown(history: &mut History) -> &mut Operation {
        let shows = |operation: &&mut Operation| {
            operation.request.is_serializable()
                && matches!(operation.response(), Some(Response::Range(range)) if !range.kvs.is_empty())
        };
        history.operations.iter_mut().rev().find(shows).expect("some read shows a key")
    }

    #[test]
    fn a_member_that_lags_is_fine() {
        for seed in 0..50 {
            let Generated { history, placements, .. } = generated(seed);
            assert!(check(&history, Some(&placements)).unwrap() > 0);
            assert!(check(&history, None).unwrap() > 0);
        }
    }

    #[test]
    fn a_state_that_never_was_is_noticed() {
        for seed in 0..50 {
            let Generated { mut history, .. } = generated(seed);
            let read = shown(&mut history);
            let Outcome::Ok(Response::Range(range)) = &mut read.outcome else { panic!("it shows a key") };
            range.kvs[0].version += 1;
            assert!(linearizable::check(&history, None).is_ok(), "the other judge has no say");
            let violation = check(&history, None).unwrap_err();
            assert_eq!(violation.judge, JUDGE);
        }
    }

    #[test]
    fn a_member_that_goes_back_is_noticed_unless_it_restarted() {
        let Generated { mut history, .. } = generated(1);
        let late = history.operations.iter().map(|operation| operation.returned).max().unwrap() + 1;
        let mut first = shown(&mut history).clone();
        let mut second = first.clone();
        (first.id, first.invoked, first.returned) = (9001, late, late + 1);
        (second.id, second.invoked, second.returned) = (9002, late + 2, late + 3);
        let Outcome::Ok(response) = &mut second.outcome else { panic!("it shows a key") };
        let Response::Range(range) = response else { panic!("it is a range") };
        range.kvs.clear();
        range.count = 0;
        response.header_mut().as_mut().unwrap().revision = 1;
        history.operations.extend([first, second]);
        let violation = check(&history, None).unwrap_err();
        assert!(violation.message.contains("went back"), "{}", violation.message);
        history.operations.last_mut().unwrap().incarnation += 1;
        assert!(check(&history, None).is_ok());
    }
}
