//! Replicas agree: equal state at equal revision, and the same entry, with the same effect, at the same place of the log
//! (state machine safety; Raft, figure 3).
//!
//! Two numbers stand for a state. The hash is read from all rows that are kept, once everything has come to rest. The
//! digest is carried along with each change, so it also covers what has been compacted away, and every entry that a
//! member applies comes with it: a state that differs for a moment only is noticed as well.

use std::collections::BTreeMap;

use seedbed_core::raft::NodeId;
use seedbed_core::runtime::AppliedEntry;

use crate::outcome::Violation;

const JUDGE: &str = "replicas";

/// A member's state in two numbers. Comparable at equal revision and equal compact revision only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateHash {
    /// The member.
    pub node: NodeId,
    /// The revision up to which they go.
    pub revision: i64,
    /// The revision up to which the member's history was compacted.
    pub compact_revision: i64,
    /// The hash of the rows that it keeps.
    pub hash: u32,
    /// The digest of its whole history.
    pub digest: u64,
}

/// Judges state hashes, taken at any time.
pub fn hashes(hashes: &[StateHash]) -> Result<(), Violation> {
    let mut first: BTreeMap<(i64, i64), &StateHash> = BTreeMap::new();
    for hash in hashes {
        let other = first.entry((hash.revision, hash.compact_revision)).or_insert(hash);
        if (other.hash, other.digest) != (hash.hash, hash.digest) {
            return Err(violation(format!(
                "at revision {} (compacted up to {}) member {} has hash {:08x} and digest {:016x}, member {} has hash \
                 {:08x} and digest {:016x}",
                hash.revision,
                hash.compact_revision,
                other.node,
                other.hash,
                other.digest,
                hash.node,
                hash.hash,
                hash.digest
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
    let AppliedEntry { term, operation, revision, changed, digest, .. } = entry;
    let unchanged = if *changed { "" } else { " unchanged" };
    format!("operation #{operation} of term {term} to revision {revision}{unchanged} with digest {digest:016x}")
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(node: u64, revision: i64, compact_revision: i64, hash: u32) -> StateHash {
        StateHash { node: NodeId(node), revision, compact_revision, hash, digest: u64::from(hash) }
    }

    fn entry(index: u64, term: u64, operation: u64, revision: i64, changed: bool) -> AppliedEntry {
        AppliedEntry {
            index,
            term,
            operation,
            revision,
            changed,
            compacted: false,
            lease: None,
            digest: revision as u64,
        }
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
    fn equal_rows_after_unequal_histories_are_not_enough() {
        let lost = StateHash { digest: 8, ..hash(2, 5, 4, 7) };
        let message = hashes(&[hash(1, 5, 4, 7), lost]).unwrap_err().message;
        assert!(
            message.contains("digest 0000000000000007") && message.contains("digest 0000000000000008"),
            "{message}"
        );
        // At another revision, or compacted up to another one, it is another history.
        assert_eq!(hashes(&[hash(1, 6, 4, 7), hash(3, 5, 3, 7), lost]), Ok(()));
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
    fn a_member_whose_state_differs_for_a_while_is_noticed() {
        let here = [entry(1, 1, 11, 2, true), entry(2, 1, 12, 3, true), entry(3, 1, 13, 4, true)];
        let mut there = here;
        there[1].digest = 99;
        let message = judge(&[&here, &there]).unwrap_err().message;
        assert!(message.contains("index 2") && message.contains("0000000000000063"), "{message}");
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
