//! The cluster of a run: members on simulated nodes, each with a disk that outlives its crashes.

mod member;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use madsim::runtime::Handle;
use madsim::task::NodeId as SimNode;
use seedbed_core::api::Limits;
use seedbed_core::auto_compaction::AutoCompaction;
use seedbed_core::lease::LeaseOptions;
use seedbed_core::members::{Attributes, Directory};
use seedbed_core::mvcc;
use seedbed_core::node::{Node, NodeOptions, Status};
use seedbed_core::raft::{Membership, NodeId, RaftOptions};
use seedbed_core::read::ReadCounters;
use seedbed_core::runtime::Host;
use seedbed_core::wal::WalOptions;
use seedbed_core::watch::WatchOptions;

use self::member::{Excuse, Member, State, excuse};
use crate::clock::SimClock;
use crate::disk::{CrashDamage, DiskFault, SimDisk};
use crate::evidence;
use crate::network::{Address, Network, Weather};
use crate::outcome::Violation;
use crate::plan::{Plan, Target, WatchPlan};
use crate::proxies::Proxies;
use crate::runtime::{MadsimRuntime, clock_of};
use crate::service;

/// The cluster's number in response headers.
const CLUSTER_ID: u64 = 0x5eed;

/// What a member says that has lost its disk.
pub const DISK_LOST: &str = "its data folder has been lost";

/// Pages of a store's file that a member keeps in memory: little, since its disk is memory too.
const STORE_CACHE_BYTES: usize = 4 << 20;

/// The members of a run.
pub struct Cluster {
    /// The network between members, and between clients and members.
    pub network: Network,
    /// The proxies between clients and members.
    pub proxies: Proxies,
    members: BTreeMap<NodeId, Member>,
    /// Who formed the cluster.
    founders: BTreeSet<NodeId>,
    /// Whom clients may ask.
    roster: Roster,
    raft: RaftOptions,
    segment_bytes: u64,
    lease_drift_ppm: Option<u32>,
    watch: WatchOptions,
    lease: LeaseOptions,
    /// Whether members check the store's file when they open it, as the server does: where disks are damaged. Elsewhere it
    /// would only take time.
    verify_stores: bool,
    /// How long an fsync takes in fair weather.
    sync_us: [u64; 2],
    weather: Weather,
    findings: Findings,
    /// What reads have cost members in lives that have ended.
    past_reads: ReadCounters,
    /// What crashes have done to disks that are gone.
    past_damage: CrashDamage,
}

/// Who is in the cluster, in the order of their numbers, as operators and clients know it.
pub type Roster = Rc<RefCell<Vec<NodeId>>>;

/// What members found wrong by themselves, for instance a log that they refuse.
type Findings = Arc<Mutex<Vec<Violation>>>;

impl Cluster {
    /// Makes the members and starts them.
    pub fn start(plan: &Plan) -> Self {
        let ids: Vec<_> = (1..=plan.cluster.members).map(NodeId).collect();
        let weather = Weather { latency_us: plan.network.latency_us, loss_permille: plan.network.loss_permille };
        let network = Network::new(weather);
        let members = ids.iter().map(|&id| (id, Member::new(id, plan.disk.sync_us))).collect();
        let raft = RaftOptions {
            heartbeat_interval: Duration::from_millis(plan.cluster.heartbeat_ms),
            election_timeout: Duration::from_millis(plan.cluster.election_ms),
            snapshot_entries: plan.cluster.snapshot_entries,
            keep_entries: plan.cluster.keep_entries,
        };
        let segment_bytes = plan.cluster.segment_bytes;
        let proxies = Proxies::new(plan, &network, &ids);
        let mut cluster = Cluster {
            network,
            proxies,
            members,
            founders: ids.iter().copied().collect(),
            roster: Rc::new(RefCell::new(ids)),
            raft,
            segment_bytes,
            lease_drift_ppm: plan.cluster.lease_drift_ppm,
            lease: LeaseOptions { checkpoint_interval: plan.cluster.lease_checkpoint_ms.map(Duration::from_millis) },
            watch: plan.watch.as_ref().map_or_else(WatchOptions::default, watch_options),
            verify_stores: plan.damages_disks(),
            sync_us: plan.disk.sync_us,
            weather,
            findings: Findings::default(),
            past_reads: ReadCounters::default(),
            past_damage: CrashDamage::default(),
        };
        for id in cluster.ids() {
            cluster.boot(id);
        }
        cluster.proxies.start();
        cluster
    }

    /// The members' numbers: of those who are in the cluster.
    pub fn ids(&self) -> Vec<NodeId> {
        self.roster.borrow().clone()
    }

    /// The same, kept up to date, for clients.
    pub fn roster(&self) -> Roster {
        self.roster.clone()
    }

    /// A member that the cluster has added is started, on an empty disk. From now on clients ask it, and faults mean it.
    pub fn join(&mut self, id: NodeId) {
        let mut roster = self.roster.borrow_mut();
        let Err(place) = roster.binary_search(&id) else { return };
        roster.insert(place, id);
        drop(roster);
        tracing::info!(member = %id, "a new member");
        let sync_us = self.sync_us;
        self.members.entry(id).or_insert_with(|| Member::new(id, sync_us));
        // The faults of others' links are those of its links to them.
        self.members.keys().for_each(|&other| self.set_links(other));
        self.boot(id);
    }

    /// The cluster has removed a member. From now on clients turn to others, and faults mean others. Its process runs until
    /// it dies, and is not started again.
    pub fn leave(&self, id: NodeId) {
        tracing::info!(member = %id, "no member any more");
        self.roster.borrow_mut().retain(|listed| *listed != id);
    }

    /// These are the members, as it turns out: whoever is not known yet joins, and the processes of others are ended.
    pub fn set_members(&mut self, membership: &Membership) {
        let members: BTreeSet<NodeId> = membership.members().collect();
        members.iter().for_each(|&id| self.join(id));
        let others: Vec<NodeId> = self.members.keys().copied().filter(|id| !members.contains(id)).collect();
        for id in others {
            self.leave(id);
            self.crash(id);
        }
    }

    /// Who takes part, as the leader knows it.
    pub fn membership(&self) -> Option<Membership> {
        Some(self.node(self.leader()?)?.membership())
    }

    /// Empties the disk of a member that is down. Whoever starts under its number does not know what it has promised.
    pub fn wipe(&mut self, id: NodeId) {
        tracing::info!(member = %id, "its disk is empty");
        let disk = SimDisk::new(id.0, self.sync_us);
        let member = self.member_mut(id);
        let old = std::mem::replace(&mut member.disk, disk);
        member.wiped = true;
        self.past_damage += old.stats().damage_by_crash;
        self.weather_disk(id);
        self.set_disk_faults(id);
    }

    /// Why a member has not started, if it was started and has not.
    pub fn refusal(&self, id: NodeId) -> Option<String> {
        lock(&self.member(id).refusal).clone()
    }

    /// Whom a fault meets now. Nobody, if it is meant for a leader and there is none.
    pub fn resolve(&self, target: Target) -> Vec<NodeId> {
        match target {
            Target::Leader => self.leader().into_iter().collect(),
            Target::Follower => {
                let leader = self.leader();
                self.ids().into_iter().find(|id| Some(*id) != leader).into_iter().collect()
            }
            Target::Followers => {
                let leader = self.leader();
                self.ids().into_iter().filter(|id| Some(*id) != leader).collect()
            }
            Target::Member(id) => vec![NodeId(id)],
            Target::Everyone => self.ids(),
        }
    }

    /// Who leads in the greatest term, among the members that run.
    pub fn leader(&self) -> Option<NodeId> {
        let leading = |member: &Member| {
            let status = member.running()?.status();
            status.leads.then_some((status.term, member.id))
        };
        self.members.values().filter_map(leading).max().map(|(_, id)| id)
    }

    /// A member's disk.
    pub fn disk(&self, id: NodeId) -> &SimDisk {
        &self.member(id).disk
    }

    /// The node that a member's tasks run on.
    pub(crate) fn sim_node(&self, id: NodeId) -> SimNode {
        self.member(id).sim
    }

    /// A member's clock.
    pub fn clock(&self, id: NodeId) -> SimClock {
        clock_of(self.member(id).sim)
    }

    /// A member that runs, even if paused; `None` while it is down or recovering.
    pub fn node(&self, id: NodeId) -> Option<Node<MadsimRuntime>> {
        self.member(id).running()
    }

    /// Has a member that runs do something, in a task of its own that dies with it.
    pub fn with_node<F: Future<Output = ()> + Send + 'static>(
        &self,
        id: NodeId,
        work: impl FnOnce(Node<MadsimRuntime>) -> F + Send + 'static,
    ) {
        let member = self.member(id);
        if let Some(node) = member.running() {
            let here = Handle::current().get_node(member.sim).expect("the node was made by this cluster");
            here.spawn(async move { work(node).await });
        }
    }

    /// What each member that runs says about itself.
    pub fn statuses(&self) -> Vec<(NodeId, Option<Status>)> {
        self.ids().into_iter().map(|id| (id, self.node(id).map(|node| node.status()))).collect()
    }

    /// Takes the power from a member's machine. What it had not synced is kept, lost or torn. False if it was down already.
    pub fn crash(&mut self, id: NodeId) -> bool {
        if self.member(id).state == State::Down {
            return false;
        }
        tracing::info!(member = %id, "crash");
        self.end_life(id);
        self.member(id).disk.crash();
        self.network.reset(id);
        true
    }

    /// Kills a member's process, and its machine lives: what it had written stays, synced or not. False if it was down already.
    pub fn kill(&mut self, id: NodeId) -> bool {
        if self.member(id).state == State::Down {
            return false;
        }
        tracing::info!(member = %id, "kill");
        self.end_life(id);
        self.member(id).disk.detach();
        self.network.reset(id);
        true
    }

    /// Ends a member's process. What it had written stays as it is.
    fn end_life(&mut self, id: NodeId) {
        // A member that had stopped by itself must not be forgotten with its life.
        let found = self.member(id).stopped();
        lock(&self.findings).extend(found);
        if let Some(node) = self.member(id).running() {
            add(&mut self.past_reads, node.read_counters());
        }
        let member = self.member_mut(id);
        member.state = State::Down;
        *lock(&member.node) = None;
        *lock(&member.refusal) = None;
        Handle::current().kill(member.sim);
    }

    /// Starts those again whom an error of their disk has stopped, if it gives no errors any more: what an operator does, or
    /// whatever looks after processes. A member whose disk is damaged stays as it is.
    pub fn tend(&mut self) {
        for id in self.ids() {
            let member = self.member(id);
            let stopped = || member.failure().is_some_and(|failure| member.excuse(&failure) == Some(Excuse::Error));
            if member.state == State::Up && !member.disk_faults.values().any(|fault| fault.stops()) && stopped() {
                tracing::info!(member = %id, "stopped by its disk, and started again");
                self.kill(id);
                self.boot(id);
            }
        }
    }

    /// Whether a member has stopped, or has not started, since its disk is damaged or lost. It will not be back.
    pub fn is_out(&self, id: NodeId) -> bool {
        let member = self.member(id);
        member.wiped || member.failure().is_some_and(|failure| member.excuse(&failure) == Some(Excuse::Damage))
    }

    /// Whether what a member says is wrong follows from what was done to its disk.
    pub fn excuses(&self, id: NodeId, error: &str) -> bool {
        self.member(id).excuse(error).is_some()
    }

    /// What crashes have done to all disks.
    pub fn crash_damage(&self) -> CrashDamage {
        let mut sum = self.past_damage;
        for member in self.members.values() {
            sum += member.disk.stats().damage_by_crash;
        }
        sum
    }

    /// Starts a member that is down.
    pub fn boot(&mut self, id: NodeId) {
        if !self.roster.borrow().contains(&id) {
            return;
        }
        let (mut initial_members, joins) = (self.founders.clone(), !self.founders.contains(&id));
        if joins {
            initial_members.extend(self.ids());
            initial_members.insert(id);
        }
        let (raft, segment_bytes, lease_drift_ppm) = (self.raft.clone(), self.segment_bytes, self.lease_drift_ppm);
        let (verify, watch, lease) = (self.verify_stores, self.watch, self.lease);
        let (network, findings) = (self.network.clone(), self.findings.clone());
        let member = self.member_mut(id);
        if member.state != State::Down {
            return;
        }
        let handle = Handle::current();
        if handle.is_exit(member.sim) {
            tracing::info!(member = %id, "restart");
            member.incarnation += 1;
            handle.restart(member.sim);
        }
        member.state = State::Up;
        let attributes = Attributes { name: format!("m{id}"), client_urls: Vec::new() };
        let options = NodeOptions {
            cluster_id: CLUSTER_ID,
            node: id,
            initial_members,
            joins,
            raft,
            wal: WalOptions { segment_bytes_max: segment_bytes, ..WalOptions::default() },
            store: mvcc::Options { cache_bytes: STORE_CACHE_BYTES, verify, ..mvcc::Options::default() },
            limits: Limits::default(),
            lease_drift_ppm,
            directory: Directory { attributes: Some(attributes), ..Directory::default() },
            auto_compaction: AutoCompaction::default(),
            watch,
            lease,
        };
        let transport = network.transport(id);
        let host = Host { clock: clock_of(member.sim), disk: member.disk.handle(), transport: transport.clone() };
        let (slot, refusal, incarnation) = (member.node.clone(), member.refusal.clone(), member.incarnation);
        member.errors_before = member.disk.stats().errors();
        let (disk, errors_before, wiped) = (member.disk.clone(), member.errors_before, member.wiped);
        let running = handle.get_node(member.sim).expect("the node was made by this cluster");
        running.spawn(async move {
            match Node::<MadsimRuntime>::start(host, options).await {
                Ok(node) => {
                    if wiped {
                        let message = format!("member {id} has lost its disk, and takes part again");
                        lock(&findings).push(Violation { judge: "recovery", message });
                    }
                    service::serve(&transport, &node, incarnation);
                    *lock(&slot) = Some(node);
                }
                Err(error) => {
                    tracing::error!(member = %id, %error, "cannot start");
                    let error = error.to_string();
                    if excuse(&disk, errors_before, &error).is_none() && !(wiped && error.contains(DISK_LOST)) {
                        let message = format!("member {id} cannot start (life {incarnation}): {error}");
                        lock(&findings).push(Violation { judge: "recovery", message });
                    }
                    *lock(&refusal) = Some(error);
                }
            }
        });
    }

    /// Stops a member's process as SIGSTOP does. False if it does not run.
    pub fn pause(&mut self, id: NodeId) -> bool {
        let member = self.member_mut(id);
        if member.state != State::Up {
            return false;
        }
        tracing::info!(member = %id, "pause");
        member.state = State::Paused;
        Handle::current().pause(member.sim);
        true
    }

    /// Lets a paused member go on.
    pub fn resume(&mut self, id: NodeId) {
        let member = self.member_mut(id);
        if member.state == State::Paused {
            tracing::info!(member = %id, "resume");
            member.state = State::Up;
            Handle::current().resume(member.sim);
        }
    }

    /// From now on, until [`unslow`](Cluster::unslow) with the same fault, a member's fsync takes so long.
    pub fn slow(&mut self, id: NodeId, fault: usize, sync_us: [u64; 2]) {
        self.member_mut(id).slowed.insert(fault, sync_us);
        self.weather_disk(id);
    }

    /// Ends one fault's slowness.
    pub fn unslow(&mut self, id: NodeId, fault: usize) {
        self.member_mut(id).slowed.remove(&fault);
        self.weather_disk(id);
    }

    /// From now on, until [`unstall`](Cluster::unstall) with the same fault, a member's fsync does not return.
    pub fn stall(&mut self, id: NodeId, fault: usize) {
        if self.member(id).stalled.is_empty() {
            evidence::stalled(id);
        }
        self.member_mut(id).stalled.insert(fault);
        self.weather_disk(id);
    }

    /// Ends one fault's stall.
    pub fn unstall(&mut self, id: NodeId, fault: usize) {
        let stalled = &mut self.member_mut(id).stalled;
        if stalled.remove(&fault) && stalled.is_empty() {
            evidence::unstalled(id);
        }
        self.weather_disk(id);
    }

    /// From now on, until [`mend_disk`](Cluster::mend_disk) with the same fault, a member's disk has this fault. Of several of
    /// one kind the one later in the plan counts.
    pub fn fault_disk(&mut self, id: NodeId, place: usize, fault: DiskFault) {
        self.member_mut(id).disk_faults.insert(place, fault);
        self.set_disk_faults(id);
    }

    /// Ends one fault of a disk.
    pub fn mend_disk(&mut self, id: NodeId, place: usize) {
        self.member_mut(id).disk_faults.remove(&place);
        self.set_disk_faults(id);
    }

    fn set_disk_faults(&self, id: NodeId) {
        let member = self.member(id);
        member.disk.set_faults(member.disk_faults.values().copied());
    }

    /// From now on, until [`undrift`](Cluster::undrift) with the same fault, a member's clock runs fast by so many parts in
    /// a million, or slow if negative. Of several such faults the one later in the plan counts.
    pub fn drift(&mut self, id: NodeId, fault: usize, ppm: i64) {
        self.member_mut(id).drifts.insert(fault, ppm);
        self.set_clock(id);
    }

    /// Ends one fault's drift.
    pub fn undrift(&mut self, id: NodeId, fault: usize) {
        self.member_mut(id).drifts.remove(&fault);
        self.set_clock(id);
    }

    /// From now on, until [`unslow_links`](Cluster::unslow_links) with the same fault, what other members send to this one is
    /// under way for so long. Of several such faults the one later in the plan counts.
    pub fn slow_links(&mut self, id: NodeId, fault: usize, latency_us: [u64; 2]) {
        self.member_mut(id).slow_links.insert(fault, latency_us);
        self.set_links(id);
    }

    /// Ends one fault's slowness.
    pub fn unslow_links(&mut self, id: NodeId, fault: usize) {
        self.member_mut(id).slow_links.remove(&fault);
        self.set_links(id);
    }

    fn set_links(&self, id: NodeId) {
        let slowest = self.member(id).slow_links.values().last();
        let weather = slowest.map(|&latency_us| Weather { latency_us, ..self.weather });
        for other in self.ids().into_iter().filter(|other| *other != id) {
            self.network.set_link(Address::Member(other), Address::Member(id), weather);
        }
    }

    /// From now on what members send to somebody who is none is under way for so long; none: as in fair weather.
    pub fn slow_links_to(&self, to: Address, latency_us: Option<[u64; 2]>) {
        let weather = latency_us.map(|latency_us| Weather { latency_us, ..self.weather });
        for member in self.ids() {
            self.network.set_link(Address::Member(member), to, weather);
        }
    }

    fn set_clock(&self, id: NodeId) {
        let member = self.member(id);
        clock_of(member.sim).set_drift(member.drifts.values().last().copied().unwrap_or(0));
    }

    fn weather_disk(&self, id: NodeId) {
        let member = self.member(id);
        member.disk.set_sync_us(member.slowed.values().last().copied().unwrap_or(self.sync_us));
        member.disk.set_stalled(!member.stalled.is_empty());
    }

    /// Fair weather without loss, for the second act.
    pub fn calm(&self) {
        self.network.heal_all();
        self.network.set_weather(Weather { loss_permille: 0, ..self.weather });
    }

    /// What reads have cost all members in all their lives.
    pub fn read_counters(&self) -> ReadCounters {
        let mut sum = self.past_reads.clone();
        for node in self.members.values().filter_map(Member::running) {
            add(&mut sum, node.read_counters());
        }
        sum
    }

    /// What members found wrong by themselves: a start that failed, a raft core that stopped.
    pub fn findings(&self) -> Vec<Violation> {
        let mut findings = lock(&self.findings).clone();
        findings.extend(self.members.values().filter_map(Member::stopped));
        findings
    }

    fn member(&self, id: NodeId) -> &Member {
        &self.members[&id]
    }

    fn member_mut(&mut self, id: NodeId) -> &mut Member {
        self.members.get_mut(&id).expect("whoever is named has been made")
    }
}

pub(crate) fn watch_options(plan: &WatchPlan) -> WatchOptions {
    let size = |size: u64| usize::try_from(size).unwrap_or(usize::MAX);
    let default = WatchOptions::default();
    WatchOptions {
        progress_interval: Duration::from_millis(plan.progress_ms),
        fragment_bytes: size(plan.fragment_bytes),
        piece: mvcc::PieceLimit { changes: size(plan.piece_changes), ..default.piece },
    }
}

fn add(sum: &mut ReadCounters, counters: ReadCounters) {
    for (path, counters) in counters {
        *sum.entry(path).or_default() += counters;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
