//! Replicas agree: equal state at equal revision, and the same entry at the same place of the log (state machine safety;
//! Raft, figure 3).

use std::collections::BTreeMap;

use seedbed_core::raft::NodeId;
use seedbed_core::runtime::AppliedEntry;

use crate::outcome::Violation;

const JUDGE: &str = "replicas";

/// A member's state in one number. Comparable at equal revision and equal compact revision only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// The member.
    pub node: NodeId,
    /// The revision up to which the hash goes.
    pub revision: i64,
    /// The revision up to which the member's history was compacted.
    pub compact_revision: i64,
    /// The hash.
    pub hash: u32,
}

/// Judges state hashes, taken at any time.
pub fn hashes(hashes: &[StateHash]) -> Result<(), Violation> {
    let mut first: BTreeMap<(i64, i64), &StateHash> = BTreeMap::new();
    for hash in hashes {
        let other = first.entry((hash.revision, hash.compact_revision)).or_insert(hash);
        if other.hash != hash.hash {
            return Err(violation(format!(
                "at revision {} (compacted up to {}) member {} has hash {:08x} and member {} has hash {:08x}",
                hash.revision, hash.compact_revision, other.node, other.hash, hash.node, hash.hash
            )));
        }
    }
    Ok(())
}

/// Judges applied entries, each member's in the order it applied them. A member that restarts may apply some again, or,
/// with a snapshot, leave some out.
pub fn applied<'a>(members: impl IntoIterator<Item = (NodeId, &'a [AppliedEntry])>) -> Result<(), Violation> {
    // Who was the first to apply the entry at an index.
    let mut log: BTreeMap<u64, (NodeId, AppliedEntry)> = BTreeMap::new();
    for (node, entries) in members {
        for &entry in entries {
            let (first, other) = *log.entry(entry.index).or_insert((node, entry));
            if other != entry {
                return Err(violation(format!(
                    "the entry at index {} differs: member {first} applied {}, member {node} applied {}",
                    entry.index,
                    shown(&other),
                    shown(&entry)
                )));
            }
        }
    }
    let mut before: Option<(NodeId, AppliedEntry)> = None;
    for (node, entry) in log.into_values() {
        if let Some((first, earlier)) = before {
            let adjacent = entry.index == earlier.index + 1;
            let step = entry.revision - earlier.revision;
            let wrong = entry.term < earlier.term
                || step < i64::from(entry.changed)
                || (adjacent && step != i64::from(entry.changed));
            if wrong {
                return Err(violation(format!(
                    "after {} at index {} (member {first}) came {} at index {} (member {node}): neither term nor \
                     revision may go back, and a revision is taken by a change only",
                    shown(&earlier),
                    earlier.index,
                    shown(&entry),
                    entry.index
                )));
            }
        }
        before = Some((node, entry));
    }
    Ok(())
}

fn shown(entry: &AppliedEntry) -> String {
    let AppliedEntry { term, operation, revision, changed, .. } = entry;
    format!("operation #{operation} of term {term} to revision {revision}{}", if *changed { "" } else { " unchanged" })
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(node: u64, revision: i64, compact_revision: i64, hash: u32) -> StateHash {
        StateHash { node: NodeId(node), revision, compact_revision, hash }
    }

    fn entry(index: u64, term: u64, operation: u64, revision: i64, changed: bool) -> AppliedEntry {
        AppliedEntry { index, term, operation, revision, changed, compacted: false }
    }

    fn judge(members: &[&[AppliedEntry]]) -> Result<(), Violation> {
        applied((1..).map(NodeId).zip(members.iter().copied()))
    }

    #[test]
    fn hashes_agree_at_equal_revisions() {
        assert_eq!(hashes(&[hash(1, 5, 0, 7), hash(2, 5, 0, 7), hash(3, 6, 0, 8), hash(3, 5, 4, 9)]), Ok(()));
        let message = hashes(&[hash(1, 5, 0, 7), hash(2, 6, 0, 8), hash(3, 5, 0, 9)]).unwrap_err().message;
        assert!(message.contains("member 1") && message.contains("member 3"), "{message}");
    }

    #[test]
    fn the_same_entry_stands_at_an_index() {
        let log = [entry(1, 1, 0, 1, false), entry(2, 1, 11, 2, true), entry(3, 1, 12, 2, false)];
        assert_eq!(judge(&[&log, &log[..2], &log[2..]]), Ok(()));
        let replayed = [log[0], log[1], log[0], log[1], log[2]];
        assert_eq!(judge(&[&replayed, &log]), Ok(()));
        let other = [log[0], entry(2, 2, 13, 2, true)];
        let message = judge(&[&log, &other]).unwrap_err().message;
        assert!(message.contains("index 2") && message.contains("#11") && message.contains("#13"), "{message}");
    }

    #[test]
    fn a_member_that_applies_an_entry_otherwise_is_noticed() {
        let here = [entry(1, 1, 11, 2, true)];
        let there = [entry(1, 1, 11, 1, false)];
        assert!(judge(&[&here, &there]).is_err());
    }

    #[test]
    fn revisions_and_terms_never_go_back() {
        assert!(judge(&[&[entry(1, 1, 1, 5, true), entry(2, 1, 2, 4, true)]]).is_err());
        assert!(judge(&[&[entry(1, 2, 1, 5, true), entry(2, 1, 2, 6, true)]]).is_err());
        assert!(judge(&[&[entry(1, 1, 1, 5, true), entry(2, 1, 2, 7, true)]]).is_err(), "a revision nobody took");
        assert!(judge(&[&[entry(1, 1, 1, 5, true), entry(4, 1, 2, 7, true)]]).is_ok(), "a snapshot in between");
        assert!(judge(&[&[entry(1, 1, 1, 5, true), entry(4, 1, 2, 5, true)]]).is_err(), "a change takes a revision");
    }
}
