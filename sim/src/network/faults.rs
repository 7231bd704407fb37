//! What goes wrong on links: each a fault that begins, counts the messages that it meets, and is healed.
//!
//! Faults add up: healing one leaves the others. What one draws comes from a random stream of its own, so that without
//! it the others draw what they drew. Partitions leave clients their links: a leader that its cluster has left still
//! answers whoever can reach it.

use std::collections::{BTreeMap, BTreeSet};

use rand_pcg::Pcg64;
use seedbed_core::raft::NodeId;

use super::{Address, Network};
use crate::plan::LinkSet;
use crate::rng::{Draw as _, stream};
use crate::runtime::seed;
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
    /// Those that the network delivers twice.
    pub duplicated: u64,
    /// Those that broke what they were sent on.
    pub reset: u64,
    /// Requests and connections to a member that did not serve.
    pub refused: u64,
}

/// A fault under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultId(u64);

enum Kind {
    /// Nothing passes from the first to the second.
    Cut(BTreeSet<(Address, Address)>),
    /// Nothing passes from a member to another if this says so, whoever joins later included.
    CutBetween(Box<dyn Fn(NodeId, NodeId) -> bool + Send>),
    /// Nothing passes between clients and a member.
    Shut(NodeId),
    /// Messages lost in a thousand.
    Loss(LinkSet, u32),
    /// So many in a thousand are under way for longer, by so many microseconds.
    Delay(LinkSet, u32, [u64; 2]),
    /// So many in a thousand arrive twice, the second time so many microseconds later.
    Duplicate(LinkSet, u32, [u64; 2]),
    /// So many in a thousand do not arrive, but break what they were sent on.
    Reset(LinkSet, u32),
}

struct Fault {
    kind: Kind,
    rng: Pcg64,
    /// Messages that it has done something to.
    met: u64,
}

impl Fault {
    /// Whether it happens to a message, as it does to so many in a thousand.
    fn happens(&mut self, permille: u32) -> bool {
        let happens = (self.rng.between(0, 999) as u32) < permille;
        self.met += u64::from(happens);
        happens
    }
}

impl LinkSet {
    fn includes(self, from: Address, to: Address) -> bool {
        let between_members = matches!((from, to), (Address::Member(_), Address::Member(_)));
        match self {
            LinkSet::Members => between_members,
            LinkSet::Clients => !between_members,
            LinkSet::All => true,
            LinkSet::One { from: one, to: other } => {
                (from, to) == (Address::Member(NodeId(one)), Address::Member(NodeId(other)))
            }
        }
    }
}

/// The faults under way.
#[derive(Default)]
pub(super) struct Faults {
    begun: u64,
    faults: BTreeMap<FaultId, Fault>,
}

impl Faults {
    fn begin(&mut self, index: u64, kind: Kind) -> FaultId {
        self.begun += 1;
        let id = FaultId(self.begun);
        self.faults.insert(id, Fault { kind, rng: stream(seed(), "net-fault", index), met: 0 });
        id
    }

    /// Whether a cut stops this message. Each cut that does counts it.
    pub(super) fn cut(&mut self, from: Address, to: Address) -> bool {
        let mut stopped = false;
        for fault in self.faults.values_mut() {
            let stops = match &fault.kind {
                Kind::Cut(pairs) => pairs.contains(&(from, to)),
                Kind::CutBetween(stops) => match (from, to) {
                    (Address::Member(from), Address::Member(to)) => stops(from, to),
                    _ => false,
                },
                Kind::Shut(node) => {
                    let node = Address::Member(*node);
                    LinkSet::Clients.includes(from, to) && (from == node || to == node)
                }
                _ => false,
            };
            fault.met += u64::from(stops);
            stopped |= stops;
        }
        stopped
    }

    /// Whether a fault loses this message, for which `drawn` was drawn out of a thousand.
    pub(super) fn loses(&mut self, from: Address, to: Address, drawn: u32) -> bool {
        let mut lost = false;
        for fault in self.faults.values_mut() {
            if matches!(fault.kind, Kind::Loss(links, permille) if links.includes(from, to) && drawn < permille) {
                fault.met += 1;
                lost = true;
            }
        }
        lost
    }

    /// By how many nanoseconds faults hold this message up.
    pub(super) fn delay_ns(&mut self, from: Address, to: Address) -> u64 {
        let mut delay_us = 0;
        for fault in self.faults.values_mut() {
            if let Kind::Delay(links, permille, [least, greatest]) = fault.kind
                && links.includes(from, to)
                && fault.happens(permille)
            {
                delay_us += fault.rng.between(least, greatest);
            }
        }
        delay_us * 1000
    }

    /// How much later than it would by itself a second one of this message arrives, for which `drawn` was drawn out of a
    /// thousand; `None` if none does.
    pub(super) fn again_ns(&mut self, from: Address, to: Address, drawn: u32) -> Option<u64> {
        let mut again_us = None;
        for fault in self.faults.values_mut() {
            if let Kind::Duplicate(links, permille, [least, greatest]) = fault.kind
                && links.includes(from, to)
                && drawn < permille
            {
                fault.met += 1;
                again_us = Some(fault.rng.between(least, greatest));
            }
        }
        again_us.map(|us| us * 1000)
    }

    /// Whether a fault breaks what this message is sent on.
    pub(super) fn resets(&mut self, from: Address, to: Address) -> bool {
        let mut resets = false;
        for fault in self.faults.values_mut() {
            if let Kind::Reset(links, permille) = fault.kind
                && links.includes(from, to)
            {
                resets |= fault.happens(permille);
            }
        }
        resets
    }
}

impl Network {
    /// Nothing passes from the first of each pair to the second.
    pub fn cut(&self, pairs: impl IntoIterator<Item = (Address, Address)>) -> FaultId {
        self.begin("net-fault-cut", 0, Kind::Cut(pairs.into_iter().collect()))
    }

    /// The members in `side` and the others do not hear each other.
    pub fn halves(&self, side: &[NodeId]) -> FaultId {
        let side = side.to_vec();
        self.cut_where(move |from, to| side.contains(&from) != side.contains(&to))
    }

    /// No member hears this one, and it hears none.
    pub fn isolate(&self, node: NodeId) -> FaultId {
        self.cut_where(move |from, to| (from == node) != (to == node))
    }

    /// What this member sends to others is lost; what they send to it arrives.
    pub fn one_way(&self, node: NodeId) -> FaultId {
        self.cut_where(move |from, to| from == node && to != node)
    }

    /// The members in `side` and the others hear each other only by way of `bridge`, who hears all.
    pub fn bridge(&self, bridge: NodeId, side: &[NodeId]) -> FaultId {
        let side = side.to_vec();
        self.cut_where(move |from, to| from != bridge && to != bridge && side.contains(&from) != side.contains(&to))
    }

    /// Each member hears only those beside it in this ring, and is heard by them alone. Who is not in it hears all.
    pub fn ring(&self, order: &[NodeId]) -> FaultId {
        let order = order.to_vec();
        self.cut_where(move |from, to| {
            let place = |node| order.iter().position(|other| *other == node);
            match (place(from), place(to)) {
                (Some(one), Some(other)) => {
                    !matches!(one.abs_diff(other), 0 | 1) && one.abs_diff(other) != order.len() - 1
                }
                _ => false,
            }
        })
    }

    /// No client reaches this member, and it answers none.
    pub fn shut(&self, node: NodeId) -> FaultId {
        self.begin("net-fault-shut", 0, Kind::Shut(node))
    }

    /// Of the messages on these links, so many in a thousand are lost.
    pub fn loss(&self, links: LinkSet, permille: u32) -> FaultId {
        self.begin("net-fault-loss", 0, Kind::Loss(links, permille))
    }

    /// Of the messages on these links, so many in a thousand are under way for longer, so that others overtake them. Bytes
    /// of a stream stay in order. `stream` names the random stream that it draws from, as it does in a plan.
    pub fn delay(&self, stream: u64, links: LinkSet, permille: u32, delay_us: [u64; 2]) -> FaultId {
        self.begin("net-fault-delay", stream, Kind::Delay(links, permille, delay_us))
    }

    /// Of the requests between members on these links that may be carried out twice, and of the replies, so many in a
    /// thousand arrive once more. A connection hands its bytes over once, so clients and proposals are spared.
    pub fn duplicate(&self, stream: u64, links: LinkSet, permille: u32, after_us: [u64; 2]) -> FaultId {
        self.begin("net-fault-duplicate", stream, Kind::Duplicate(links, permille, after_us))
    }

    /// Of the messages on these links, so many in a thousand break the call or the connection that they belong to.
    pub fn reset_some(&self, stream: u64, links: LinkSet, permille: u32) -> FaultId {
        self.begin("net-fault-reset", stream, Kind::Reset(links, permille))
    }

    /// Ends a fault. Returns how many messages it met: a fault that met none had no effect.
    pub fn heal(&self, fault: FaultId) -> u64 {
        trace::record("net-heal", &[fault.0]);
        self.shared.lock().faults.faults.remove(&fault).map_or(0, |fault| fault.met)
    }

    /// Ends all faults, and gives the links back their common weather.
    pub fn heal_all(&self) {
        let mut state = self.shared.lock();
        state.links.calm();
        let healed = std::mem::take(&mut state.faults.faults);
        trace::record("net-heal-all", &[healed.len() as u64]);
    }

    /// How many messages a fault under way has met so far.
    pub fn met(&self, fault: FaultId) -> u64 {
        self.shared.lock().faults.faults.get(&fault).map_or(0, |fault| fault.met)
    }

    /// What the network has done so far.
    pub fn stats(&self) -> NetworkStats {
        self.shared.lock().stats
    }

    fn cut_where(&self, stops: impl Fn(NodeId, NodeId) -> bool + Send + 'static) -> FaultId {
        self.begin("net-fault-cut", 0, Kind::CutBetween(Box::new(stops)))
    }

    fn begin(&self, tag: &'static str, stream: u64, kind: Kind) -> FaultId {
        let fault = self.shared.lock().faults.begin(stream, kind);
        trace::record(tag, &[fault.0]);
        fault
    }
}
