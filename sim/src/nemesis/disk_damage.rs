//! Disks that do not hold what was written to them.
//!
//! The member goes on for a while, on what it has in its memory and on what it reads, and then crashes and starts again:
//! that is when it reads everything. It counts as having taken effect if a read met what was damaged.

use seedbed_core::raft::NodeId;

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::{Part, Target};

/// What happens to the data.
#[derive(Clone, Copy, Debug)]
pub(super) enum Damage {
    /// So many bits of a sector flip.
    Rot(u32),
    /// A write goes astray.
    Astray,
}

/// Damage to a part of what one member has.
pub(super) struct DiskDamage {
    target: Target,
    part: Part,
    damage: Damage,
    /// Whom it met, with how many reads of its disk had met damage before.
    struck: Option<(NodeId, u64)>,
    crashed: bool,
}

impl DiskDamage {
    pub(super) fn new(target: Target, part: Part, damage: Damage) -> Self {
        DiskDamage { target, part, damage, struck: None, crashed: false }
    }
}

impl Nemesis for DiskDamage {
    fn begin(&mut self, cluster: &mut Cluster) {
        let Some(&id) = cluster.resolve(self.target).first() else { return };
        self.struck = Some((id, cluster.disk(id).stats().damage_met));
        match self.damage {
            Damage::Rot(bits) => drop(cluster.disk(id).rot(self.part, bits)),
            Damage::Astray => cluster.disk(id).misdirect(self.part),
        }
    }

    fn proceed(&mut self, cluster: &mut Cluster) {
        if let Some((id, _)) = self.struck {
            self.crashed = cluster.crash(id);
            cluster.disk(id).direct();
        }
    }

    fn come_back(&mut self, cluster: &mut Cluster) {
        if let Some((id, _)) = self.struck.filter(|_| self.crashed) {
            cluster.boot(id);
        }
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.struck.is_some_and(|(id, before)| cluster.disk(id).stats().damage_met > before)
    }
}
