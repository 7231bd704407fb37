//! What makes things go wrong: each family of faults in a file, and the schedule that begins and ends them.
//!
//! A fault is counted when it *took effect*: a partition that stopped a message, a crash of a process that ran. A plan
//! full of faults that met nobody tests nothing.

mod compaction;
mod crash;
mod crash_at;
mod defragment;
mod disk_damage;
mod disk_errors;
mod disturbance;
mod drift;
mod fsync;
mod jump;
mod lose_disk;
mod member_add;
mod member_remove;
mod member_replace;
mod operator;
mod partition;
mod pause;
mod proxy_cut;
mod proxy_restart;
mod proxy_slow;
mod restart;
mod skew;
mod slow_link;
mod slow_node;
mod snapshot;
mod transfer;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use seedbed_core::runtime::CrashPoint;

use self::disk_damage::Damage;
use crate::client::{Client, Role};
use crate::cluster::Cluster;
use crate::crash_points;
use crate::disk::DiskFault;
use crate::history::Recorder;
use crate::plan::{Fault, FaultKind, Part, Plan, Target};

/// How often faults look around that follow what happens.
const TURN_MS: u64 = 40;

/// One fault, under way. Nemeses are told apart by their place in the plan.
trait Nemesis {
    /// Begins. The cluster is as the plan's earlier events have left it.
    fn begin(&mut self, cluster: &mut Cluster);

    /// Goes on with its next stage, for faults that have several.
    fn proceed(&mut self, _cluster: &mut Cluster) {}

    /// Lets what it has stopped go on, for faults that are not over yet then: what follows shows whether they took effect.
    fn come_back(&mut self, _cluster: &mut Cluster) {}

    /// Ends, and heals what it did. Whether it took effect.
    fn end(&mut self, cluster: &mut Cluster) -> bool;
}

/// A kind's name in tables and counters.
pub fn family(kind: &FaultKind) -> &'static str {
    match kind {
        FaultKind::Halves { .. } => "halves",
        FaultKind::Isolate { .. } => "isolate",
        FaultKind::OneWay { .. } => "one-way",
        FaultKind::Bridge { .. } => "bridge",
        FaultKind::Loss { .. } => "loss",
        FaultKind::Ring { .. } => "ring",
        FaultKind::Shut { .. } => "shut",
        FaultKind::Latency { .. } => "latency",
        FaultKind::Reorder { .. } => "reorder",
        FaultKind::Duplicate { .. } => "duplicate",
        FaultKind::Reset { .. } => "reset",
        FaultKind::Skew { .. } => "skew",
        FaultKind::Jump { .. } => "jump",
        FaultKind::CrashAt { point, .. } => crash_at(*point),
        FaultKind::Transfer => "transfer",
        FaultKind::Snapshot { .. } => "snapshot",
        FaultKind::Defragment { .. } => "defragment",
        FaultKind::Compaction { .. } => "compaction",
        FaultKind::SlowNode { .. } => "slow-node",
        FaultKind::FsyncDelay { .. } => "fsync-delay",
        FaultKind::FsyncStall { .. } => "fsync-stall",
        FaultKind::Crash { .. } => "crash",
        FaultKind::Restart { .. } => "restart",
        FaultKind::Pause { .. } => "pause",
        FaultKind::CrashUnflushed { .. } => "crash-unflushed",
        FaultKind::Drift { .. } => "drift",
        FaultKind::SlowLink { .. } => "slow-link",
        FaultKind::FsyncFailure { .. } => "fsync-failure",
        FaultKind::IoError { .. } => "io-error",
        FaultKind::NoSpace { .. } => "no-space",
        FaultKind::SlowDisk { .. } => "slow-disk",
        FaultKind::BitRot { .. } => "bit-rot",
        FaultKind::MisdirectedWrite { .. } => "misdirected-write",
        FaultKind::LoseDisk { .. } => "lose-disk",
        FaultKind::MemberAdd { .. } => "member-add",
        FaultKind::LearnerPromotion { .. } => "learner-promotion",
        FaultKind::MemberRemove { .. } => "member-remove",
        FaultKind::MemberReplace { .. } => "member-replace",
        FaultKind::ProxyRestart { .. } => "proxy-restart",
        FaultKind::ProxyCut { .. } => "proxy-cut",
        FaultKind::ProxySlow { .. } => "proxy-slow",
    }
}

/// The name of the family of crashes at a place.
pub(crate) fn crash_at(point: CrashPoint) -> &'static str {
    match point {
        CrashPoint::WalAppend => "crash-at-wal-append",
        CrashPoint::WalSync => "crash-at-wal-sync",
        CrashPoint::Apply => "crash-at-apply",
        CrashPoint::SnapshotBuild => "crash-at-snapshot-build",
        CrashPoint::SnapshotInstall => "crash-at-snapshot-install",
        CrashPoint::Compaction => "crash-at-compaction",
        CrashPoint::Defragment => "crash-at-defragment",
    }
}

/// `client` makes a client for it alone.
fn nemesis(place: usize, fault: &Fault, client: impl FnOnce() -> Client) -> Box<dyn Nemesis> {
    let kind = &fault.fault;
    match kind {
        FaultKind::Halves { .. }
        | FaultKind::Isolate { .. }
        | FaultKind::OneWay { .. }
        | FaultKind::Bridge { .. }
        | FaultKind::Ring { .. }
        | FaultKind::Shut { .. } => Box::new(partition::Partition::new(kind.clone())),
        FaultKind::Loss { .. }
        | FaultKind::Latency { .. }
        | FaultKind::Reorder { .. }
        | FaultKind::Duplicate { .. }
        | FaultKind::Reset { .. } => Box::new(disturbance::Disturbance::new(fault.stream(place), kind.clone())),
        FaultKind::Skew { target, by_ms } => Box::new(skew::Skew::new(*target, *by_ms)),
        FaultKind::Jump { target, by_ms } => Box::new(jump::Jump::new(*target, *by_ms)),
        FaultKind::CrashAt { target, point, nth } => Box::new(crash_at::CrashAt::new(place, *target, *point, *nth)),
        FaultKind::Transfer => Box::new(transfer::Transfer::default()),
        FaultKind::Snapshot { target } => Box::new(snapshot::Snapshot::new(*target)),
        FaultKind::Defragment { target } => Box::new(defragment::Defragment::new(*target)),
        FaultKind::Compaction { keep } => Box::new(compaction::Compaction::new(*keep, client())),
        FaultKind::SlowNode { target, .. } => Box::new(slow_node::SlowNode::new(*target)),
        FaultKind::FsyncDelay { target, sync_us } => Box::new(fsync::FsyncDelay::new(place, *target, *sync_us)),
        FaultKind::FsyncStall { target } => Box::new(fsync::FsyncStall::new(place, *target)),
        FaultKind::Crash { target } => Box::new(crash::Crash::new(*target)),
        FaultKind::Restart { target } => Box::new(restart::Restart::new(*target)),
        FaultKind::Pause { target } => Box::new(pause::Pause::new(*target)),
        FaultKind::CrashUnflushed { target, .. } => Box::new(crash::CrashUnflushed::new(place, *target)),
        FaultKind::SlowLink { target, latency_us } => Box::new(slow_link::SlowLink::new(place, *target, *latency_us)),
        FaultKind::Drift { target, ppm } => Box::new(drift::Drift::new(place, *target, *ppm)),
        FaultKind::FsyncFailure { target, permille } => errors(place, *target, DiskFault::FailingSyncs(*permille)),
        FaultKind::IoError { target, reads_permille, writes_permille } => {
            errors(place, *target, DiskFault::Errors { reads: *reads_permille, writes: *writes_permille })
        }
        FaultKind::NoSpace { target } => errors(place, *target, DiskFault::Full),
        FaultKind::SlowDisk { target, delay_us } => errors(place, *target, DiskFault::Slow(*delay_us)),
        FaultKind::BitRot { target, part, bits, .. } => damage(*target, *part, Damage::Rot(*bits)),
        FaultKind::MisdirectedWrite { target, part, .. } => damage(*target, *part, Damage::Astray),
        FaultKind::LoseDisk { target } => Box::new(lose_disk::LoseDisk::new(*target)),
        FaultKind::MemberAdd { member } => Box::new(member_add::MemberAdd::new(*member, 0)),
        FaultKind::LearnerPromotion { member, learn_ms } => Box::new(member_add::MemberAdd::new(*member, *learn_ms)),
        FaultKind::MemberRemove { target } => Box::new(member_remove::MemberRemove::new(*target)),
        FaultKind::MemberReplace { target, member } => Box::new(member_replace::MemberReplace::new(*target, *member)),
        FaultKind::ProxyRestart { proxy } => Box::new(proxy_restart::ProxyRestart::new(*proxy)),
        FaultKind::ProxyCut { proxy } => Box::new(proxy_cut::ProxyCut::new(*proxy)),
        FaultKind::ProxySlow { proxy, latency_us } => Box::new(proxy_slow::ProxySlow::new(*proxy, *latency_us)),
    }
}

fn errors(place: usize, target: Target, fault: DiskFault) -> Box<dyn Nemesis> {
    Box::new(disk_errors::DiskErrors::new(place, target, fault))
}

fn damage(target: Target, part: Part, damage: Damage) -> Box<dyn Nemesis> {
    Box::new(disk_damage::DiskDamage::new(target, part, damage))
}

/// A moment of the schedule: time, then the fault's place in the plan, then its stage.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Event {
    at_ms: u64,
    place: usize,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Begin,
    Proceed,
    Return,
    End,
}

fn schedule(faults: &[Fault]) -> Vec<Event> {
    let mut events = Vec::new();
    for (place, fault) in faults.iter().enumerate() {
        let mut at_ms = fault.at_ms;
        events.push(Event { at_ms, place, stage: Stage::Begin });
        if let Some(first_ms) = fault.fault.first_stage_ms() {
            at_ms += first_ms;
            events.push(Event { at_ms, place, stage: Stage::Proceed });
        }
        if let FaultKind::SlowNode { run_ms, stop_ms, .. } = fault.fault {
            let mut turn_ms = at_ms;
            for part_ms in [run_ms, stop_ms].into_iter().cycle() {
                turn_ms += part_ms;
                if turn_ms >= at_ms + fault.for_ms {
                    break;
                }
                events.push(Event { at_ms: turn_ms, place, stage: Stage::Proceed });
            }
        }
        if fault.fault.changes_members() || matches!(fault.fault, FaultKind::CrashAt { .. }) {
            let turns = (1..).map(|turn| at_ms + turn * TURN_MS);
            let turns = turns.take_while(|turn_ms| *turn_ms < at_ms + fault.for_ms);
            events.extend(turns.map(|at_ms| Event { at_ms, place, stage: Stage::Proceed }));
        }
        if fault.fault.damages().is_some() || matches!(fault.fault, FaultKind::LoseDisk { .. }) {
            events.push(Event { at_ms: at_ms + fault.for_ms / 2, place, stage: Stage::Return });
        }
        events.push(Event { at_ms: at_ms + fault.for_ms, place, stage: Stage::End });
    }
    events.sort();
    events
}

/// Carries out the faults of a plan, from now on, and returns when the last has ended: by family, how many took effect.
/// What faults ask of the KV service is recorded.
pub async fn run(
    cluster: &Rc<RefCell<Cluster>>,
    plan: &Plan,
    recorder: &Rc<RefCell<Recorder>>,
) -> BTreeMap<&'static str, u64> {
    let faults = &plan.faults;
    let dying = Rc::downgrade(cluster);
    crash_points::reset(Some(Rc::new(move |member| {
        if let Some(cluster) = dying.upgrade() {
            cluster.borrow_mut().crash(member);
        }
    })));
    let client = |place: usize| {
        let (network, roster) = (cluster.borrow().network.clone(), cluster.borrow().roster());
        let id = Role::Nemesis { place }.number(&plan.workload);
        Client::new(id, plan.seed, roster, &plan.workload, network, recorder.clone())
    };
    let nemesis = |(place, fault): (usize, &Fault)| nemesis(place, fault, || client(place));
    let mut nemeses: Vec<_> = faults.iter().enumerate().map(nemesis).collect();
    let mut effects = BTreeMap::new();
    let mut now_ms = 0;
    for Event { at_ms, place, stage } in schedule(faults) {
        madsim::time::sleep(Duration::from_millis(at_ms - now_ms)).await;
        now_ms = at_ms;
        let cluster = &mut cluster.borrow_mut();
        let family = family(&faults[place].fault);
        match stage {
            Stage::Begin => {
                let leader = cluster.leader().map(|leader| leader.0);
                tracing::info!(leader, fault = ?faults[place].fault, "fault begins");
                nemeses[place].begin(cluster);
            }
            Stage::Proceed => nemeses[place].proceed(cluster),
            Stage::Return => nemeses[place].come_back(cluster),
            Stage::End => {
                let effect = nemeses[place].end(cluster);
                cluster.tend();
                tracing::info!(family, effect, "fault ends");
                *effects.entry(family).or_default() += u64::from(effect);
            }
        }
    }
    crash_points::reset(None);
    effects
}
