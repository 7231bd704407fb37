//! A member of a run: its node, its disk, which outlives its crashes, and the faults of both that are under way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use madsim::task::NodeId as SimNode;
use seedbed_core::node::Node;
use seedbed_core::raft::NodeId;

use super::lock;
use crate::disk::{DiskFault, SimDisk};
use crate::outcome::Violation;
use crate::runtime::{MadsimRuntime, create_node};

/// A member, dead or alive.
pub(super) struct Member {
    pub(super) id: NodeId,
    pub(super) sim: SimNode,
    pub(super) disk: SimDisk,
    /// The running member; empty while it is down, or still recovering.
    pub(super) node: Arc<Mutex<Option<Node<MadsimRuntime>>>>,
    /// Why it did not start, if it did not.
    pub(super) refusal: Arc<Mutex<Option<String>>>,
    /// Whether its disk was emptied under it.
    pub(super) wiped: bool,
    /// The errors that its disk had been made to give before this life.
    pub(super) errors_before: u64,
    pub(super) incarnation: u32,
    pub(super) state: State,
    /// Faults of its disk under way, by their place in the plan: they may overlap.
    pub(super) slowed: BTreeMap<usize, [u64; 2]>,
    pub(super) stalled: BTreeSet<usize>,
    pub(super) disk_faults: BTreeMap<usize, DiskFault>,
    /// Faults of the links to it under way, by their place in the plan.
    pub(super) slow_links: BTreeMap<usize, [u64; 2]>,
    /// Faults of its clock under way, by their place in the plan: parts in a million.
    pub(super) drifts: BTreeMap<usize, i64>,
}

/// Whether a member's process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Up,
    Paused,
    Down,
}

impl Member {
    pub(super) fn new(id: NodeId, sync_us: [u64; 2]) -> Self {
        Member {
            id,
            sim: create_node(&format!("m{id}")).id(),
            disk: SimDisk::new(id.0, sync_us),
            node: Arc::default(),
            refusal: Arc::default(),
            wiped: false,
            errors_before: 0,
            incarnation: 0,
            state: State::Down,
            slowed: BTreeMap::new(),
            stalled: BTreeSet::new(),
            disk_faults: BTreeMap::new(),
            slow_links: BTreeMap::new(),
            drifts: BTreeMap::new(),
        }
    }

    pub(super) fn running(&self) -> Option<Node<MadsimRuntime>> {
        lock(&self.node).clone()
    }

    /// Why it does not run though its process was started.
    pub(super) fn failure(&self) -> Option<String> {
        self.running().and_then(|node| node.status().failure).or_else(|| lock(&self.refusal).clone())
    }

    /// That it has stopped by itself, if nothing explains it.
    pub(super) fn stopped(&self) -> Option<Violation> {
        let failure = self.running()?.status().failure?;
        let message = || format!("member {} has stopped: {failure}", self.id);
        self.excuse(&failure).is_none().then(|| Violation { judge: "alive", message: message() })
    }

    pub(super) fn excuse(&self, error: &str) -> Option<Excuse> {
        excuse(&self.disk, self.errors_before, error)
    }
}

/// Why a member may stop, or not start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excuse {
    /// Its disk was made to give an error in this life.
    Error,
    /// Its disk was damaged.
    Damage,
}

/// Whether an error follows from what was done to a disk, and from nothing else: it has to be the one that the disk gave,
/// or to name the file that is damaged.
pub(super) fn excuse(disk: &SimDisk, errors_before: u64, error: &str) -> Option<Excuse> {
    let stats = disk.stats();
    if stats.errors() > errors_before && disk.caused(error) {
        return Some(Excuse::Error);
    }
    let names_file = ["wal/", "store/"].iter().any(|folder| error.contains(folder));
    (stats.damaged > 0 && names_file).then_some(Excuse::Damage)
}

#[cfg(test)]
mod tests {
    use seedbed_core::runtime::{Disk, File};

    use super::*;
    use crate::plan::Part;
    use crate::runtime::Simulation;

    #[test]
    fn only_what_was_done_to_a_disk_is_an_excuse() {
        Simulation::new(1).expect(|| async {
            let (disk, other) = (SimDisk::new(1, [100, 200]), SimDisk::new(2, [100, 200]));
            let error = "raft: wal/1: sync: disk 1: wal/1: sync: input/output error";
            assert_eq!(excuse(&disk, 0, error), None, "its disk has had no fault");
            disk.set_faults([DiskFault::Errors { reads: 1000, writes: 1000 }]);
            let given = disk.handle().create_dir("wal").expect_err("it fails").to_string();
            assert_eq!(excuse(&disk, 0, &given), Some(Excuse::Error));
            assert_eq!(excuse(&disk, 1, &given), None, "that was in an earlier life");
            assert_eq!(excuse(&other, 0, &given), None, "that was another's disk");
            assert_eq!(excuse(&disk, 0, "the log ends at nothing"), None, "no error of a disk");

            let damaged = "wal/1: damaged at offset 512: an invalid frame in a complete segment";
            disk.set_faults([]);
            assert_eq!(excuse(&disk, 0, damaged), None, "its disk is whole");
            disk.handle().create_dir("wal").expect("mended");
            let file = disk.handle().create("wal/1").expect("mended");
            for at in 0..3 {
                file.write_at(at * 512, &[1; 512]).expect("mended");
                file.sync().await.expect("mended");
            }
            assert!(disk.rot(Part::Log, 1));
            assert_eq!(excuse(&disk, 0, damaged), Some(Excuse::Damage));
            assert_eq!(excuse(&disk, 0, "the log ends at nothing"), None, "it names no file");
        });
    }
}
