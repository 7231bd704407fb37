//! Election safety: at most one leader in a term, and at most one vote of a member in a term (Raft, figure 3 and
//! section 5.2).

use std::collections::BTreeMap;

use seedbed_core::raft::{NodeId, Term};

use crate::evidence::{Lead, Vote};
use crate::outcome::Violation;

const JUDGE: &str = "election";

/// Judges the leaders, in any order.
pub fn leaders(leads: &[Lead]) -> Result<(), Violation> {
    let mut leaders: BTreeMap<Term, NodeId> = BTreeMap::new();
    for lead in leads {
        let first = *leaders.entry(lead.term).or_insert(lead.node);
        if first != lead.node {
            return Err(violation(format!("members {first} and {} both led in term {}", lead.node, lead.term)));
        }
    }
    Ok(())
}

/// Judges votes, in the order in which they became durable: for one candidate in a term, in terms that never go back,
/// and all acknowledged leaders of a term are the same.
pub fn votes(votes: &[Vote]) -> Result<(), Violation> {
    let mut last: BTreeMap<NodeId, Vote> = BTreeMap::new();
    let mut acknowledged: BTreeMap<Term, Vote> = BTreeMap::new();
    for &vote in votes {
        if let Some(before) = last.insert(vote.node, vote) {
            if vote.term < before.term {
                return Err(violation(format!(
                    "member {} went back from term {} to term {}",
                    vote.node, before.term, vote.term
                )));
            }
            let changed = vote.term == before.term && vote.candidate != before.candidate;
            if changed && !vote.committed {
                return Err(violation(format!(
                    "member {} voted twice in term {}: for {} and for {}",
                    vote.node, vote.term, before.candidate, vote.candidate
                )));
            }
            if vote.term == before.term && before.committed && changed {
                return Err(violation(format!(
                    "member {} acknowledged two leaders of term {}: {} and {}",
                    vote.node, vote.term, before.candidate, vote.candidate
                )));
            }
        }
        if vote.committed {
            let first = *acknowledged.entry(vote.term).or_insert(vote);
            if first.candidate != vote.candidate {
                return Err(violation(format!(
                    "two leaders of term {} were acknowledged: {} by member {}, {} by member {}",
                    vote.term, first.candidate, first.node, vote.candidate, vote.node
                )));
            }
        }
    }
    Ok(())
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lead(node: u64, term: Term) -> Lead {
        Lead { node: NodeId(node), term }
    }

    fn vote(node: u64, term: Term, candidate: u64, committed: bool) -> Vote {
        Vote { node: NodeId(node), term, candidate: NodeId(candidate), committed }
    }

    #[test]
    fn one_leader_a_term() {
        assert_eq!(leaders(&[lead(1, 1), lead(2, 2), lead(1, 3), lead(1, 1)]), Ok(()));
        let violation = leaders(&[lead(1, 1), lead(2, 2), lead(3, 2)]).unwrap_err();
        assert_eq!(violation.message, "members 2 and 3 both led in term 2");
    }

    #[test]
    fn one_vote_a_term() {
        assert_eq!(votes(&[vote(1, 1, 1, false), vote(1, 1, 1, true), vote(1, 2, 3, false)]), Ok(()));
        assert_eq!(votes(&[vote(1, 2, 1, false), vote(1, 2, 2, true)]), Ok(()), "the other candidate won");
        let told = |given: &[Vote]| votes(given).unwrap_err().message;
        assert!(told(&[vote(1, 2, 1, false), vote(1, 2, 2, false)]).contains("voted twice"));
        assert!(told(&[vote(1, 3, 1, false), vote(1, 2, 1, false)]).contains("went back"));
        assert!(told(&[vote(1, 3, 1, true), vote(1, 3, 2, true)]).contains("acknowledged two leaders"));
        assert!(told(&[vote(1, 3, 1, true), vote(2, 3, 2, true)]).contains("two leaders of term 3"));
    }
}
