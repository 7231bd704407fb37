//! Partitions and loss between members, each a fault that begins, counts what it drops, and is healed.
//!
//! Faults add up: healing one leaves the others. Clients keep their links unless a [cut](Network::cut) names them: a
//! leader that its cluster has left still answers whoever can reach it.

use std::collections::{BTreeMap, BTreeSet};

use seedbed_core::raft::NodeId;

use super::{Address, Network};
use crate::trace;

/// What a network has done and suffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NetworkStats {
    /// Requests, replies and segments of streams sent.
    pub sent: u64,
    /// Those that were lost.
    pub lost: u64,
    /// Those that a cut stopped.
    pub cut: u64,
    /// Those that were sent twice by the network.
    pub duplicated: u64,
    /// Requests and connections to a member that did not serve.
    pub refused: u64,
}

/// A fault under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

enum Kind {
    /// Nothing passes from the first to the second.
    Cut(BTreeSet<(Address, Address)>),
    /// Messages between members lost in a thousand.
    Loss(u32),
}

struct Fault {
    kind: Kind,
    dropped: u64,
}

/// The faults under way.
pub(super) struct Faults {
    members: BTreeSet<NodeId>,
    begun: u64,
    faults: BTreeMap<FaultId, Fault>,
}

impl Faults {
    pub(super) fn new(members: &[NodeId]) -> Self {
        Faults { members: members.iter().copied().collect(), begun: 0, faults: BTreeMap::new() }
    }

    pub(super) fn join(&mut self, node: NodeId) {
        self.members.insert(node);
    }

    fn begin(&mut self, kind: Kind) -> FaultId {
        self.begun += 1;
        let id = FaultId(self.begun);
        self.faults.insert(id, Fault { kind, dropped: 0 });
        id
    }

    /// Whether a cut stops this message. Each cut that does counts it.
    pub(super) fn cut(&mut self, from: Address, to: Address) -> bool {
        let mut stopped = false;
        for fault in self.faults.values_mut() {
            if matches!(&fault.kind, Kind::Cut(pairs) if pairs.contains(&(from, to))) {
                fault.dropped += 1;
                stopped = true;
            }
        }
        stopped
    }

    /// Whether a fault loses this message, for which `drawn` was drawn out of a thousand.
    pub(super) fn loses(&mut self, from: Address, to: Address, drawn: u32) -> bool {
        let between_members = matches!((from, to), (Address::Member(_), Address::Member(_)));
        let mut lost = false;
        for fault in self.faults.values_mut() {
            if matches!(fault.kind, Kind::Loss(permille) if between_members && drawn < permille) {
                fault.dropped += 1;
                lost = true;
            }
        }
        lost
    }
}

impl Network {
    /// Nothing passes from the first of each pair to the second.
    pub fn cut(&self, pairs: impl IntoIterator<Item = (Address, Address)>) -> FaultId {
        self.begin("net-fault-cut", Kind::Cut(pairs.into_iter().collect()))
    }

    /// The members in `side` and the others do not hear each other.
    pub fn halves(&self, side: &[NodeId]) -> FaultId {
        self.cut_where(|from, to| side.contains(&from) != side.contains(&to))
    }

    /// No member hears this one, and it hears none.
    pub fn isolate(&self, node: NodeId) -> FaultId {
        self.cut_where(|from, to| (from == node) != (to == node))
    }

    /// What this member sends to others is lost; what they send to it arrives.
    pub fn one_way(&self, node: NodeId) -> FaultId {
        self.cut_where(|from, to| from == node && to != node)
    }

    /// The members in `side` and the others hear each other only by way of `bridge`, who hears all.
    pub fn bridge(&self, bridge: NodeId, side: &[NodeId]) -> FaultId {
        self.cut_where(|from, to| from != bridge && to != bridge && side.contains(&from) != side.contains(&to))
    }

    /// Of the messages between members, so many in a thousand are lost.
    pub fn loss(&self, permille: u32) -> FaultId {
        self.begin("net-fault-loss", Kind::Loss(permille))
    }

    /// Ends a fault. Returns how many messages it dropped: a fault that dropped none had no effect.
    pub fn heal(&self, fault: FaultId) -> u64 {
        trace::record("net-heal", &[fault.0]);
        self.shared.lock().faults.faults.remove(&fault).map_or(0, |fault| fault.dropped)
    }

    /// Ends all faults, and gives the links back their common weather.
    pub fn heal_all(&self) {
        let mut state = self.shared.lock();
        state.links.calm();
        let healed = std::mem::take(&mut state.faults.faults);
        trace::record("net-heal-all", &[healed.len() as u64]);
    }

    /// How many messages a fault under way has dropped so far.
    pub fn dropped(&self, fault: FaultId) -> u64 {
        self.shared.lock().faults.faults.get(&fault).map_or(0, |fault| fault.dropped)
    }

    /// What the network has done so far.
    pub fn stats(&self) -> NetworkStats {
        self.shared.lock().stats
    }

    fn cut_where(&self, stopped: impl Fn(NodeId, NodeId) -> bool) -> FaultId {
        let members = self.shared.lock().faults.members.clone();
        let pairs = members.iter().flat_map(|&from| members.iter().map(move |&to| (from, to)));
        let stopped = pairs.filter(|&(from, to)| stopped(from, to));
        self.cut(stopped.map(|(from, to)| (Address::Member(from), Address::Member(to))))
    }

    fn begin(&self, tag: &'static str, kind: Kind) -> FaultId {
        let fault = self.shared.lock().faults.begin(kind);
        trace::record(tag, &[fault.0]);
        fault
    }
}
