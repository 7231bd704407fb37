//! Durability: after everything is healed, each member holds all that was acknowledged, and nothing else.
//!
//! A member's final state counts as a read of everything that was invoked after all else had returned: whatever order
//! explains the history must explain it too.

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{RangeRequest, RangeResponse};

use super::linearizable::{self, Checked, Placements};
use crate::history::{History, Operation, Outcome, Request, Response};
use crate::outcome::Violation;

const JUDGE: &str = "durable";

/// A member's state after the cluster has converged: its answer to a range over all keys.
#[derive(Clone, Debug, PartialEq)]
pub struct Final {
    /// The member.
    pub member: u64,
    /// Every key, without limit, filter or order; its header carries the revision.
    pub everything: RangeResponse,
}

/// Judges the final states. A history that is not linearizable by itself leaves nothing to hold them against; then only
/// their agreement and their revision are judged.
pub fn check(history: &History, finals: &[Final], evidence: Option<&Placements>) -> Result<(), Violation> {
    let Some(first) = finals.first() else { return Ok(()) };
    for other in &finals[1..] {
        agree(first, other)?;
    }
    let newest = history
        .operations
        .iter()
        .filter(|operation| !operation.request.is_serializable())
        .max_by_key(|operation| operation.response().map_or(0, Response::revision));
    for end in finals {
        if let Some(newest) = newest.filter(|newest| revision(end) < newest.response().map_or(0, Response::revision)) {
            return Err(violation(format!(
                "lost: member {} ends at revision {}, but {newest} was acknowledged",
                end.member,
                revision(end)
            )));
        }
    }
    let mut extended = history.clone();
    extended.operations.push(read(history, first));
    match linearizable::check(&extended, evidence) {
        Err(found) if decided(history, evidence) => Err(violation(format!(
            "the final state, as member {} shows it, does not follow from what was acknowledged: {}",
            first.member, found.message
        ))),
        // A search that was given up is not a pass.
        Ok(Checked { undecided: Some(met), .. }) if decided(history, evidence) => Err(violation(format!(
            "the search for an order that leads to the final state was given up; it first met: {}",
            met.message
        ))),
        _ => Ok(()),
    }
}

/// Whether the history alone has a verdict.
fn decided(history: &History, evidence: Option<&Placements>) -> bool {
    linearizable::check(history, evidence).is_ok_and(|checked| checked.undecided.is_none())
}

fn agree(first: &Final, other: &Final) -> Result<(), Violation> {
    if revision(first) != revision(other) {
        return Err(violation(format!(
            "member {} ends at revision {}, member {} at revision {}",
            first.member,
            revision(first),
            other.member,
            revision(other)
        )));
    }
    let [expected, got] = [first, other].map(|end| {
        let everything = RangeResponse { header: None, ..end.everything.clone() };
        Response::Range(everything)
    });
    match crate::model::difference(&expected, &got) {
        None => Ok(()),
        Some(difference) => Err(violation(format!(
            "member {} ends otherwise than member {}, both at revision {}: {difference}",
            other.member,
            first.member,
            revision(first)
        ))),
    }
}

/// The final state as an operation.
fn read(history: &History, end: &Final) -> Operation {
    let (id, time) = history
        .operations
        .iter()
        .fold((0, 0), |(id, time), operation| (operation.id.max(id), operation.returned.max(time)));
    let everything = Bytes::from_static(b"\0");
    Operation {
        id: id + 1,
        client: 0,
        member: end.member,
        incarnation: 0,
        path: Default::default(),
        cached: false,
        invoked: time + 1,
        returned: time + 1,
        request: Request::Range(RangeRequest { key: everything.clone(), range_end: everything, ..Default::default() }),
        outcome: Outcome::Ok(Response::Range(end.everything.clone())),
    }
}

fn revision(end: &Final) -> i64 {
    end.everything.header.as_ref().map_or(0, |header| header.revision)
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checker::generate::{Generated, Shape, generate};

    fn ended(seed: u64) -> (Generated, Vec<Final>) {
        let mut generated = generate(seed, &Shape { keys: 20, ..Shape::busy(4, 200) });
        let Request::Range(all) =
            read(&generated.history, &Final { member: 1, everything: RangeResponse::default() }).request
        else {
            panic!("it is a range")
        };
        let Ok(Response::Range(everything)) = generated.last.apply(&Request::Range(all)) else {
            panic!("everything can be read")
        };
        let finals = (1..=3).map(|member| Final { member, everything: everything.clone() }).collect();
        (generated, finals)
    }

    #[test]
    fn what_was_acknowledged_is_there() {
        for seed in 0..30 {
            let (generated, finals) = ended(seed);
            check(&generated.history, &finals, Some(&generated.placements)).unwrap();
            check(&generated.history, &finals, None).unwrap();
        }
    }

    #[test]
    fn a_lost_write_is_noticed() {
        let (generated, mut finals) = ended(1);
        for end in &mut finals {
            end.everything.kvs.remove(0);
            end.everything.count -= 1;
        }
        let violation = check(&generated.history, &finals, Some(&generated.placements)).unwrap_err();
        assert!(violation.message.contains("does not follow"), "{}", violation.message);
    }

    #[test]
    fn members_that_end_otherwise_are_noticed() {
        let (generated, mut finals) = ended(2);
        finals[1].everything.kvs[0].version += 1;
        let violation = check(&generated.history, &finals, None).unwrap_err();
        assert!(violation.message.contains("member 2 ends otherwise than member 1"), "{}", violation.message);
        finals[1].everything.header.as_mut().unwrap().revision += 1;
        let violation = check(&generated.history, &finals, None).unwrap_err();
        assert!(violation.message.contains("ends at revision"), "{}", violation.message);
    }

    #[test]
    fn a_revision_that_went_back_is_noticed() {
        let (generated, mut finals) = ended(3);
        for end in &mut finals {
            end.everything.header.as_mut().unwrap().revision = 5;
        }
        let violation = check(&generated.history, &finals, None).unwrap_err();
        assert!(violation.message.starts_with("lost: member 1 ends at revision 5"), "{}", violation.message);
    }
}
