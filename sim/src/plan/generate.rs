//! From a scenario and a seed to a plan: a pure function.
//!
//! Each part draws from its own stream, named after it, and so does each fault: taking one family of faults out of a
//! scenario does not reshuffle what is left. Only where the family took a member there is room then, perhaps for an earlier
//! one of the places that another fault has drawn.

use rand::Rng as _;
use rand_pcg::Pcg64;

use super::scenario::{
    ContendRanges, Family, FamilyKind, FaultRanges, LinkAim, Scenario, Span, WatchRanges, WorkloadRanges,
};
use super::validate::Downtime;
use super::{
    ClusterPlan, ContendPlan, DiskPlan, Fault, FaultKind, LeasePlan, LinkSet, Mix, NetworkPlan, Part, Plan, ProxyPlan,
    Target, VERSION, WatchPlan, WorkloadPlan,
};
use crate::rng::{self, Draw as _};

/// The first fault waits until there can be a leader and some data.
const QUIET_MS: u64 = 300;
/// How far apart the faults of one moment begin at most.
const MOMENT_MS: u64 = 150;
/// What the shortest fault lasts.
const FAULT_MS_MIN: u64 = 5;
/// How often a place in time is drawn for a fault before it is left out.
const PLACES: u32 = 8;
/// The same, of a fault that takes a member: it has less room, beside others that do, and after what damages a disk.
const LOSS_PLACES: u32 = 32;
/// Of a hundred faults that take a member by number from the cluster, how many take the one that the seed has chosen for it:
/// an operator removes whose disk is damaged, and others have little room beside it.
const SAME_LOST_PERCENT: u64 = 90;

pub(super) fn plan(scenario: &Scenario, seed: u64) -> Plan {
    let draw = |part: &str| Draw::new(seed, scenario.name, part);

    let ranges = &scenario.cluster;
    let d = &mut draw("cluster");
    let election_ms = d.within(ranges.election_ms);
    let cluster = ClusterPlan {
        members: d.weighted(ranges.members),
        election_ms,
        heartbeat_ms: (election_ms / d.within(ranges.heartbeats)).max(1),
        snapshot_entries: d.within(ranges.snapshot_entries),
        keep_entries: d.within(ranges.keep_entries),
        segment_bytes: d.within(ranges.segment_bytes),
        lease_drift_ppm: ranges.lease_drift_ppm.map(|span| draw("lease").within_u32(span)),
        lease_checkpoint_ms: ranges.lease_checkpoint_ms.and_then(|span| {
            let d = &mut draw("lease-checkpoint");
            d.chance(50).then(|| d.within(span))
        }),
    };

    let d = &mut draw("network");
    let latency_us = d.band(scenario.network.latency_us, scenario.network.jitter_us);
    let network = NetworkPlan { latency_us, loss_permille: d.within_u32(scenario.network.loss_permille) };
    let disk = DiskPlan { sync_us: draw("disk").band(scenario.disk.sync_us, scenario.disk.jitter_us) };

    let act_ms = draw("act").within(scenario.faults.act_ms);
    let grpc_percent = draw("grpc").within(scenario.workload.grpc_percent);
    let is_on = |service: &str| !draw(&format!("{service}/off")).chance(scenario.services_off_percent);
    let mut workload = workload(&scenario.workload, act_ms, grpc_percent, &mut draw("workload"));
    if !is_on("leases") {
        workload.leases = None;
        workload.mix = workload.mix.without_leases();
    }
    let watch = scenario.watch.filter(|_| is_on("watch")).map(|ranges| watch(&ranges, &mut draw("watch")));
    let contend = scenario.contend.filter(|_| is_on("contend")).map(|ranges| contend(&ranges, &mut draw("contend")));
    let proxy = scenario.proxy.filter(|_| is_on("proxy")).map(|ranges| {
        let d = &mut draw("proxy");
        ProxyPlan {
            proxies: d.within_u32(ranges.proxies),
            staleness_ms: d.within(ranges.staleness_ms),
            ranges: d.within(ranges.ranges),
            percent: d.within_u32(ranges.percent),
        }
    });
    let mut faults = faults(&scenario.faults, &cluster, proxy.is_some(), act_ms, draw);
    let d = &mut draw("proxy/faults");
    for fault in &mut faults {
        if let Some(met) = fault.fault.proxy_mut() {
            *met = d.within_u32([1, proxy.map_or(1, |proxy| u64::from(proxy.proxies))]);
        }
    }

    Plan {
        version: VERSION,
        scenario: scenario.name.to_owned(),
        seed,
        mutant: None,
        commit: None,
        cluster,
        network,
        disk,
        workload,
        watch,
        contend,
        proxy,
        faults,
        converge_ms: scenario.converge_ms,
        read_index_ms: scenario.read_index_ms,
    }
}

fn watch(ranges: &WatchRanges, d: &mut Draw) -> WatchPlan {
    WatchPlan {
        watchers: d.within_u32(ranges.watchers),
        progress_ms: d.within(ranges.progress_ms),
        fragment_bytes: d.within(ranges.fragment_bytes),
        piece_changes: d.within(ranges.piece_changes),
    }
}

fn contend(ranges: &ContendRanges, d: &mut Draw) -> ContendPlan {
    ContendPlan {
        contenders: d.within_u32(ranges.contenders),
        observers: d.within_u32(ranges.observers),
        names: d.within_u32(ranges.names),
        ttl_s: d.band(ranges.ttl_s, ranges.more_s),
        hold_ms: [0, d.within(ranges.hold_ms)],
    }
}

fn workload(ranges: &WorkloadRanges, act_ms: u64, grpc_percent: u64, d: &mut Draw) -> WorkloadPlan {
    let clients = d.within(ranges.clients);
    let operations = d.within(ranges.operations);
    // The slot of one operation if the work is to last as long as the faults. The mean pause is a part of it: answers
    // and time-outs take the rest.
    let slot_ms = act_ms * clients / operations;
    let weights = &ranges.mix;
    WorkloadPlan {
        clients: clients as u32,
        grpc_clients: (clients * grpc_percent / 100) as u32,
        operations: operations as u32,
        keys: d.within_u32(ranges.keys),
        value_bytes: d.within_u32(ranges.value_bytes),
        think_ms: [0, slot_ms * ranges.think_thirds / 3],
        timeout_ms: d.within(ranges.timeout_ms),
        mix: Mix {
            get: d.within_u32(weights.get),
            get_serializable: d.within_u32(weights.get_serializable),
            range: d.within_u32(weights.range),
            put: d.within_u32(weights.put),
            delete: d.within_u32(weights.delete),
            txn: d.within_u32(weights.txn),
            compact: d.within_u32(weights.compact),
            get_log: d.within_u32(weights.get_log),
            get_lease: d.within_u32(weights.get_lease),
            lease_grant: d.within_u32(weights.lease_grant),
            lease_revoke: d.within_u32(weights.lease_revoke),
            lease_keep_alive: d.within_u32(weights.lease_keep_alive),
            lease_time_to_live: d.within_u32(weights.lease_time_to_live),
            lease_list: d.within_u32(weights.lease_list),
        },
        leases: ranges.leases.map(|ranges| LeasePlan {
            numbers: d.within_u32(ranges.numbers),
            ttl_s: d.band(ranges.ttl_s, ranges.more_s),
            leased_percent: d.within_u32(ranges.leased_percent),
        }),
        script: None,
    }
}

fn faults(
    ranges: &FaultRanges,
    cluster: &ClusterPlan,
    has_proxies: bool,
    act_ms: u64,
    draw: impl Fn(&str) -> Draw,
) -> Vec<Fault> {
    let reckless = draw("reckless").chance(ranges.reckless_percent);
    let limit = if reckless { cluster.members } else { ((cluster.members - 1) / 2).max(1) };
    let is_possible =
        |kind: FamilyKind| cluster.members >= kind.least_members() && (has_proxies || !kind.meets_proxies());
    let possible: Vec<&Family> = ranges.families.iter().filter(|family| is_possible(family.kind)).collect();
    let is_on = |family: &&Family| !draw(family.kind.name()).chance(ranges.off_percent);
    let mut on: Vec<&Family> = possible.iter().copied().filter(is_on).collect();
    // A seed without any fault is the calm scenario's.
    if on.is_empty() && !possible.is_empty() {
        on.push(possible[draw("last-family").within([0, possible.len() as u64 - 1]) as usize]);
    }

    // Who comes first finds most room.
    on.sort_by_key(|family| draw(&format!("{}/turn", family.kind.name())).within([0, u64::MAX]));
    let act = Act {
        cluster,
        act_ms,
        moments: moments(ranges.moments, act_ms, &mut draw("moments")),
        lost: draw("lost").within([1, cluster.members]),
    };
    let mut down = Downtime::default();
    let mut faults = Vec::new();
    for family in on {
        let name = family.kind.name();
        let count = draw(name).after_one().within(family.count);
        for nth in 0..count {
            let d = &mut draw(&format!("{name}/{nth}"));
            let stream = d.within_u32([0, u64::from(u32::MAX)]);
            let places = if family.kind.loses() { LOSS_PLACES } else { PLACES };
            let placed = (0..places)
                .map(|_| Fault { stream: Some(stream), ..window(family, nth, &act, d) })
                .find(|fault| down.admits(fault, limit, cluster.members) && !is_too_late(fault, &faults));
            if let Some(fault) = placed {
                down.add(&fault);
                faults.push(fault);
            }
        }
    }
    faults.sort_by_key(|fault| fault.at_ms);
    faults
}

/// Whether one of the two would meet a member that the other has removed by then.
fn is_too_late(fault: &Fault, others: &[Fault]) -> bool {
    let Some(Target::Member(member)) = fault.fault.loses() else { return false };
    let mut same = others.iter().filter(|other| other.fault.loses() == Some(Target::Member(member)));
    let outruns = |one: &Fault, other: &Fault| one.fault.changes_members() && one.at_ms <= met_ms(other);
    same.any(|other| outruns(fault, other) || outruns(other, fault))
}

/// When the fault has met its target: what has become of a disk shows when it is read again.
fn met_ms(fault: &Fault) -> u64 {
    match fault.fault.damages() {
        Some(_) => fault.at_ms + fault.fault.first_stage_ms().unwrap_or(0) + fault.for_ms / 2,
        None => fault.at_ms,
    }
}

/// What the faults of a plan have in common.
struct Act<'a> {
    cluster: &'a ClusterPlan,
    act_ms: u64,
    /// When faults gather; empty if they do not.
    moments: Vec<u64>,
    /// Whom those that take a member meet more often than others.
    lost: u64,
}

/// Times in the act, each in a part of it that is as long as the others'.
fn moments(count: Span, act_ms: u64, d: &mut Draw) -> Vec<u64> {
    let count = d.within(count);
    let part = |nth| QUIET_MS + nth * (act_ms - 2 * QUIET_MS) / count;
    (0..count).map(|nth| d.within([part(nth), part(nth + 1)])).collect()
}

/// One fault, at one of the moments; somewhere in the act, if there are none.
fn window(family: &Family, nth: u64, act: &Act<'_>, d: &mut Draw) -> Fault {
    let (members, act_ms) = (act.cluster.members, act.act_ms);
    let aim = if family.aims.is_empty() { None } else { Some(d.weighted(family.aims)) };
    let mut target = aim.map_or(Target::Everyone, |aim| aim.target(members, d.within([1, members])));
    if let Target::Member(member) = &mut target
        && family.kind.loses()
        && d.chance(SAME_LOST_PERCENT)
    {
        *member = act.lost;
    }
    let at_ms = match &act.moments[..] {
        [] => d.within([QUIET_MS, act_ms - QUIET_MS]),
        moments => {
            let moment = moments[d.within([0, moments.len() as u64 - 1]) as usize];
            d.within([moment, moment + MOMENT_MS]).min(act_ms - QUIET_MS)
        }
    };
    let lasting = d.within(family.for_ms);
    let brief = d.within([FAULT_MS_MIN, act.cluster.election_ms * 3 / 4]);
    let for_ms = if d.chance(family.brief_percent) { brief } else { lasting };
    // What goes wrong is over when the act is.
    let for_ms = for_ms.min(act_ms - at_ms).max(FAULT_MS_MIN);

    let fault = match family.kind {
        FamilyKind::Halves => FaultKind::Halves { side: d.side((1..=members).collect()) },
        FamilyKind::Isolate => FaultKind::Isolate { target },
        FamilyKind::OneWay => FaultKind::OneWay { target },
        FamilyKind::Bridge => {
            let bridge = d.within([1, members]);
            FaultKind::Bridge { bridge, side: d.side((1..=members).filter(|member| *member != bridge).collect()) }
        }
        FamilyKind::Loss { permille } => FaultKind::Loss { permille: d.within_u32(permille), links: LinkSet::Members },
        FamilyKind::Ring => FaultKind::Ring { order: d.order((1..=members).collect()) },
        FamilyKind::Shut => FaultKind::Shut { target },
        FamilyKind::Latency { links, delay_us, jitter_us } => {
            FaultKind::Latency { links: d.links(links, members), delay_us: d.band(delay_us, jitter_us) }
        }
        FamilyKind::Reorder { links, permille, delay_us, jitter_us } => FaultKind::Reorder {
            links: d.links(links, members),
            permille: d.within_u32(permille),
            delay_us: d.band(delay_us, jitter_us),
        },
        FamilyKind::Duplicate { links, permille, after_us, jitter_us } => FaultKind::Duplicate {
            links: d.links(links, members),
            permille: d.within_u32(permille),
            after_us: d.band(after_us, jitter_us),
        },
        FamilyKind::Reset { links, permille } => {
            FaultKind::Reset { links: d.links(links, members), permille: d.within_u32(permille) }
        }
        FamilyKind::Skew { by_ms } => {
            let by_ms = d.within(by_ms) as i64;
            FaultKind::Skew { target, by_ms: if d.chance(50) { by_ms } else { -by_ms } }
        }
        FamilyKind::Jump { by_ms } => FaultKind::Jump { target, by_ms: d.within(by_ms) },
        FamilyKind::CrashAt { points } => {
            let (point, nth) = d.weighted(points);
            FaultKind::CrashAt { target, point, nth: d.within_u32(nth) }
        }
        FamilyKind::Transfer => FaultKind::Transfer,
        FamilyKind::Snapshot => FaultKind::Snapshot { target },
        FamilyKind::Defragment => FaultKind::Defragment { target },
        FamilyKind::Compaction { keep } => FaultKind::Compaction { keep: d.within(keep) },
        FamilyKind::SlowNode { run_ms, stop_ms } => {
            FaultKind::SlowNode { target, run_ms: d.within(run_ms), stop_ms: d.within(stop_ms) }
        }
        FamilyKind::FsyncDelay { sync_us, jitter_us } => {
            FaultKind::FsyncDelay { target, sync_us: d.band(sync_us, jitter_us) }
        }
        FamilyKind::FsyncStall => FaultKind::FsyncStall { target },
        FamilyKind::Crash => FaultKind::Crash { target },
        FamilyKind::Restart => FaultKind::Restart { target },
        FamilyKind::Pause => FaultKind::Pause { target },
        FamilyKind::CrashUnflushed { stall_ms } => FaultKind::CrashUnflushed { target, stall_ms: d.within(stall_ms) },
        FamilyKind::SlowLink { latency_us, jitter_us } => {
            FaultKind::SlowLink { target, latency_us: d.band(latency_us, jitter_us) }
        }
        FamilyKind::Drift { ppm } => {
            let ppm = d.within(ppm) as i64;
            FaultKind::Drift { target, ppm: if d.chance(50) { ppm } else { -ppm } }
        }
        FamilyKind::FsyncFailure { permille } => FaultKind::FsyncFailure { target, permille: d.within_u32(permille) },
        FamilyKind::IoError { permille } => {
            let permille = d.within_u32(permille);
            let [reads_permille, writes_permille] =
                d.weighted(&[(1, [permille, 0]), (1, [0, permille]), (1, [permille, permille])]);
            FaultKind::IoError { target, reads_permille, writes_permille }
        }
        FamilyKind::NoSpace => FaultKind::NoSpace { target },
        FamilyKind::SlowDisk { delay_us, jitter_us } => {
            FaultKind::SlowDisk { target, delay_us: d.band(delay_us, jitter_us) }
        }
        FamilyKind::BitRot { bits, rest_ms } => {
            let (part, rest_ms) = d.part(rest_ms);
            FaultKind::BitRot { target, part, bits: d.within_u32(bits), rest_ms }
        }
        FamilyKind::MisdirectedWrite { rest_ms } => {
            let (part, rest_ms) = d.part(rest_ms);
            FaultKind::MisdirectedWrite { target, part, rest_ms }
        }
        FamilyKind::LoseDisk => FaultKind::LoseDisk { target },
        // Each family has a third of the numbers, whatever others come.
        FamilyKind::MemberAdd => FaultKind::MemberAdd { member: members + 1 + 3 * nth },
        FamilyKind::LearnerPromotion { learn_ms } => {
            FaultKind::LearnerPromotion { member: members + 2 + 3 * nth, learn_ms: d.within(learn_ms) }
        }
        FamilyKind::MemberRemove => FaultKind::MemberRemove { target },
        FamilyKind::MemberReplace => FaultKind::MemberReplace { target, member: members + 3 + 3 * nth },
        // Which one is drawn when all faults are known.
        FamilyKind::ProxyRestart => FaultKind::ProxyRestart { proxy: 1 },
        FamilyKind::ProxyCut => FaultKind::ProxyCut { proxy: 1 },
        FamilyKind::ProxySlow { latency_us, jitter_us } => {
            FaultKind::ProxySlow { proxy: 1, latency_us: d.band(latency_us, jitter_us) }
        }
    };
    Fault { at_ms, for_ms, stream: None, fault }
}

/// A stream of random numbers that belongs to one part of a plan.
struct Draw(Pcg64);

impl Draw {
    fn new(seed: u64, scenario: &str, part: &str) -> Self {
        Draw(rng::stream(seed, &format!("plan/{scenario}/{part}"), 0))
    }

    /// Past the first number, which has said whether the family is on.
    fn after_one(mut self) -> Self {
        self.0.next_u64();
        self
    }

    fn within(&mut self, [least, greatest]: Span) -> u64 {
        assert!(least <= greatest, "a scenario's range begins before it ends: {least}..={greatest}");
        self.0.between(least, greatest)
    }

    fn within_u32(&mut self, span: Span) -> u32 {
        u32::try_from(self.within(span)).expect("a scenario's range for a field of 32 bits fits it")
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.within([0, 99]) < percent
    }

    /// A least and a greatest.
    fn band(&mut self, least: Span, more: Span) -> Span {
        let least = self.within(least);
        [least, least + self.within(more)]
    }

    fn weighted<T: Copy>(&mut self, choices: &[(u32, T)]) -> T {
        let sum = choices.iter().map(|(weight, _)| u64::from(*weight)).sum::<u64>();
        let mut rest = self.within([0, sum - 1]);
        for (weight, choice) in choices {
            match rest.checked_sub(u64::from(*weight)) {
                Some(less) => rest = less,
                None => return *choice,
            }
        }
        unreachable!("the draw is below the sum of the weights")
    }

    /// A part of what is on a disk, and how long its damage rests: in the log a tenth, since it soon forgets what is old,
    /// while the store's file is written seldom.
    fn part(&mut self, rest_ms: Span) -> (Part, u64) {
        let rest_ms = self.within(rest_ms);
        self.weighted(&[(1, (Part::Log, rest_ms / 10)), (1, (Part::Store, rest_ms))])
    }

    /// Links of a cluster. Those between members are all that one direction can be in a cluster of one.
    fn links(&mut self, aims: &[(u32, LinkAim)], members: u64) -> LinkSet {
        let aim = self.weighted(aims);
        match self.order((1..=members).collect())[..] {
            [from, to, ..] => aim.links([from, to]),
            _ if aim == LinkAim::One => LinkSet::Members,
            _ => aim.links([0, 0]),
        }
    }

    /// The members in any order.
    fn order(&mut self, mut members: Vec<u64>) -> Vec<u64> {
        for last in (1..members.len()).rev() {
            members.swap(last, self.within([0, last as u64]) as usize);
        }
        members
    }

    /// A part of the members that is neither none nor all of them.
    fn side(&mut self, members: Vec<u64>) -> Vec<u64> {
        let mut members = self.order(members);
        members.truncate(self.within([1, members.len() as u64 - 1]) as usize);
        members.sort_unstable();
        members
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::scenario::{
        Aim, ClusterRanges, ContendRanges, DiskRanges, LeaseRanges, MixRanges, NetworkRanges, ProxyRanges,
    };
    use super::*;

    const CALM: &[Family] = &[];
    const ROUGH: &[Family] = &[
        Family { kind: FamilyKind::Halves, count: [1, 3], for_ms: [200, 2000], brief_percent: 20, aims: &[] },
        Family { kind: FamilyKind::Bridge, count: [1, 2], for_ms: [200, 2000], brief_percent: 0, aims: &[] },
        Family {
            kind: FamilyKind::Crash,
            count: [3, 6],
            for_ms: [200, 3000],
            brief_percent: 30,
            aims: &[(1, Aim::Leader), (1, Aim::Follower), (1, Aim::Member), (1, Aim::Everyone)],
        },
        Family {
            kind: FamilyKind::CrashUnflushed { stall_ms: [50, 900] },
            count: [1, 3],
            for_ms: [100, 900],
            brief_percent: 50,
            aims: &[(1, Aim::Leader)],
        },
    ];

    fn scenario(families: &'static [Family]) -> Scenario {
        Scenario {
            name: "test",
            summary: "",
            cluster: ClusterRanges {
                members: &[(1, 1), (2, 3), (2, 5)],
                election_ms: [150, 400],
                heartbeats: [5, 10],
                snapshot_entries: [100, 500],
                keep_entries: [10, 100],
                segment_bytes: [16384, 65536],
                lease_drift_ppm: Some([0, 1000]),
                lease_checkpoint_ms: Some([200, 1000]),
            },
            network: NetworkRanges { latency_us: [100, 500], jitter_us: [0, 1500], loss_permille: [0, 5] },
            disk: DiskRanges { sync_us: [200, 1000], jitter_us: [0, 2000] },
            workload: WorkloadRanges {
                clients: [4, 16],
                grpc_percent: [0, 50],
                operations: [600, 2000],
                keys: [5, 20],
                value_bytes: [16, 256],
                timeout_ms: [400, 2000],
                think_thirds: 2,
                leases: Some(LeaseRanges { numbers: [1, 3], ttl_s: [1, 2], more_s: [0, 2], leased_percent: [0, 50] }),
                mix: MixRanges {
                    get: [1, 30],
                    get_serializable: [0, 10],
                    range: [0, 20],
                    put: [10, 40],
                    delete: [0, 10],
                    txn: [0, 20],
                    compact: [0, 2],
                    get_log: [0, 5],
                    get_lease: [0, 5],
                    lease_grant: [0, 4],
                    lease_revoke: [0, 4],
                    lease_keep_alive: [0, 4],
                    lease_time_to_live: [0, 4],
                    lease_list: [0, 4],
                },
            },
            proxy: Some(ProxyRanges {
                proxies: [1, 2],
                staleness_ms: [300, 2000],
                ranges: [2, 60],
                percent: [20, 100],
            }),
            contend: Some(ContendRanges {
                contenders: [0, 3],
                observers: [0, 2],
                names: [1, 2],
                ttl_s: [1, 2],
                more_s: [0, 2],
                hold_ms: [0, 500],
            }),
            watch: Some(WatchRanges {
                watchers: [0, 4],
                progress_ms: [100, 800],
                fragment_bytes: [200, 4000],
                piece_changes: [1, 60],
            }),
            faults: FaultRanges {
                act_ms: [8000, 15000],
                off_percent: 30,
                reckless_percent: 15,
                moments: [0, 0],
                families,
            },
            converge_ms: 10_000,
            read_index_ms: None,
            services_off_percent: 0,
        }
    }

    #[test]
    fn a_seed_means_the_same_plan_and_another_seed_another() {
        let scenario = scenario(ROUGH);
        assert_eq!(scenario.plan(7), scenario.plan(7));
        let distinct: BTreeSet<String> = (0..200).map(|seed| scenario.plan(seed).to_json()).collect();
        assert_eq!(distinct.len(), 200);
    }

    #[test]
    fn what_is_generated_is_valid_and_survives_json() {
        for seed in 0..500 {
            let plan = scenario(ROUGH).plan(seed);
            assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan), "seed {seed}");
        }
    }

    /// A scenario in which families of all sorts meet, each of which is on in about half of the seeds.
    const MIXED: &[Family] = &[
        Family { kind: FamilyKind::Halves, count: [1, 3], for_ms: [200, 2000], brief_percent: 20, aims: &[] },
        Family {
            kind: FamilyKind::Loss { permille: [10, 200] },
            count: [1, 3],
            for_ms: [200, 2000],
            brief_percent: 0,
            aims: &[],
        },
        Family { kind: FamilyKind::MemberAdd, count: [1, 2], for_ms: [1000, 4000], brief_percent: 0, aims: &[] },
        Family {
            kind: FamilyKind::Crash,
            count: [1, 3],
            for_ms: [200, 2000],
            brief_percent: 30,
            aims: &[(1, Aim::Leader), (1, Aim::Member)],
        },
        Family {
            kind: FamilyKind::BitRot { bits: [1, 3], rest_ms: [0, 2000] },
            count: [1, 2],
            for_ms: [500, 2500],
            brief_percent: 0,
            aims: &[(1, Aim::Leader), (4, Aim::Member)],
        },
        Family {
            kind: FamilyKind::MemberReplace,
            count: [1, 2],
            for_ms: [500, 3000],
            brief_percent: 0,
            aims: &[(1, Aim::Leader), (4, Aim::Member)],
        },
    ];

    #[test]
    fn without_any_family_all_else_stays_as_it_was() {
        let with = scenario(ROUGH).plan(3);
        let without = scenario(CALM).plan(3);
        assert!(without.faults.is_empty());
        assert_eq!(Plan { faults: Vec::new(), ..with }, without);
    }

    #[test]
    fn without_one_family_the_faults_of_the_others_stay_as_they_were() {
        for (out, left_out) in MIXED.iter().enumerate() {
            let others: Vec<Family> =
                MIXED.iter().enumerate().filter(|(nth, _)| *nth != out).map(|one| *one.1).collect();
            let fewer = scenario(others.leak());
            let (mut alike, mut moved) = (0, 0);
            for seed in 0..200 {
                let (all, rest) = (scenario(MIXED).plan(seed), fewer.plan(seed));
                let is_left_out = |fault: &Fault| kind(fault) == left_out.kind.name();
                if all.faults.iter().all(is_left_out) {
                    // Its seed would be the calm scenario's, and turns another on.
                    continue;
                }
                for fault in all.faults.iter().filter(|fault| !is_left_out(fault)) {
                    match rest.faults.iter().find(|other| other.stream == fault.stream) {
                        Some(other) if other == fault => alike += 1,
                        // Where one came late for want of room, there is more now.
                        other => {
                            assert!(
                                left_out.aims.len() > 1,
                                "seed {seed}: {fault:?} became {other:?} without {left_out:?}"
                            );
                            moved += 1;
                        }
                    }
                }
            }
            assert!(alike > 500 && moved * 10 < alike, "without {left_out:?}: {alike} alike, {moved} moved");
        }
    }

    fn kind(fault: &Fault) -> String {
        match serde_json::to_value(&fault.fault).expect("plain") {
            serde_json::Value::Object(fields) => fields.keys().next().cloned().expect("a kind has a name"),
            name => name.as_str().expect("a kind without fields is its name").to_owned(),
        }
    }

    #[test]
    fn a_member_whose_disk_is_damaged_may_be_the_one_that_goes_and_not_the_other_way() {
        const LOSSES: &[Family] = &[
            Family {
                kind: FamilyKind::MemberRemove,
                count: [1, 1],
                for_ms: [500, 3000],
                brief_percent: 0,
                aims: &[(1, Aim::Leader), (1, Aim::Member)],
            },
            Family {
                kind: FamilyKind::BitRot { bits: [1, 3], rest_ms: [0, 2000] },
                count: [1, 1],
                for_ms: [500, 3000],
                brief_percent: 0,
                aims: &[(1, Aim::Leader), (1, Aim::Member)],
            },
        ];
        let mut scenario = scenario(LOSSES);
        scenario.faults.off_percent = 0;
        scenario.cluster.members = &[(1, 3)];
        let plans: Vec<Plan> = (0..300).map(|seed| scenario.plan(seed)).collect();
        let both: Vec<&Plan> = plans.iter().filter(|plan| plan.faults.len() == 2).collect();
        // If every one of them met just anybody it would be 50 or so.
        assert!(both.len() > 100, "{} of 300 plans have both", both.len());
        for plan in both {
            let [damage, removal] = &plan.faults[..] else { unreachable!("they were counted") };
            assert!(damage.fault.damages().is_some() && removal.fault.changes_members(), "seed {}", plan.seed);
            assert_eq!(damage.fault.loses(), removal.fault.loses(), "seed {}", plan.seed);
            let rest_ms = damage.fault.first_stage_ms().expect("damage rests");
            let returns_ms = damage.at_ms + rest_ms + damage.for_ms / 2;
            assert!(removal.at_ms > returns_ms, "seed {}: it is gone before its damage shows", plan.seed);
        }
    }

    #[test]
    fn faults_gather_around_moments_where_the_scenario_says_so() {
        let mut scenario = scenario(ROUGH);
        scenario.faults.moments = [2, 2];
        for seed in 0..100 {
            let at: Vec<u64> = scenario.plan(seed).faults.iter().map(|fault| fault.at_ms).collect();
            let gaps = at.windows(2).filter(|pair| pair[1] - pair[0] > MOMENT_MS).count();
            assert!(gaps <= 1, "seed {seed}: {at:?}");
        }
    }

    #[test]
    fn unflushed_crashes_are_mixed_with_elections_on_either_side() {
        let (mut brief, mut long) = (0, 0);
        for seed in 0..200 {
            let plan = scenario(ROUGH).plan(seed);
            for fault in &plan.faults {
                if let FaultKind::CrashUnflushed { .. } = fault.fault {
                    if fault.for_ms < plan.cluster.election_ms { brief += 1 } else { long += 1 }
                }
            }
        }
        assert!(brief > 50 && long > 50, "{brief} brief, {long} long");
    }

    #[test]
    fn most_plans_leave_a_majority_up_and_some_leave_nobody() {
        let everyone = |plan: &Plan| {
            plan.faults.iter().any(|fault| matches!(fault.fault, FaultKind::Crash { target: Target::Everyone }))
        };
        let plans: Vec<Plan> = (0..200).map(|seed| scenario(ROUGH).plan(seed)).collect();
        let gone = plans.iter().filter(|plan| everyone(plan)).count();
        assert!((20..180).contains(&gone), "{gone} of 200 plans crash everyone");
    }

    #[test]
    fn a_seed_without_a_service_is_otherwise_the_same() {
        let all = scenario(ROUGH);
        let some = Scenario { services_off_percent: 50, ..all };
        let mut seen = BTreeSet::new();
        for seed in 0..200 {
            let (all, some) = (all.plan(seed), some.plan(seed));
            let proxies = some.proxy.is_some();
            seen.insert((some.workload.leases.is_some(), some.watch.is_some(), some.contend.is_some(), proxies));
            assert_eq!((&some.cluster, &some.faults), (&all.cluster, &all.faults));
            let leases = some.workload.leases;
            let mix = if leases.is_some() { all.workload.mix } else { all.workload.mix.without_leases() };
            assert_eq!(some.workload, WorkloadPlan { leases, mix, ..all.workload });
            assert!(some.watch.is_none_or(|watch| all.watch == Some(watch)));
            assert!(some.contend.is_none_or(|contend| all.contend == Some(contend)));
            assert!(leases.is_none_or(|leases| all.workload.leases == Some(leases)));
            assert!(some.proxy.is_none_or(|proxy| all.proxy == Some(proxy)));
        }
        assert_eq!(seen.len(), 16, "{seen:?}");
    }

    #[test]
    fn without_proxies_nothing_happens_to_them_and_all_else_stays_as_it_was() {
        const FAMILIES: &[Family] = &[
            Family { kind: FamilyKind::ProxyRestart, count: [1, 3], for_ms: [50, 2000], brief_percent: 30, aims: &[] },
            Family { kind: FamilyKind::Halves, count: [1, 3], for_ms: [200, 2000], brief_percent: 20, aims: &[] },
        ];
        let mut all = scenario(FAMILIES);
        all.faults.off_percent = 0;
        let some = Scenario { services_off_percent: 50, ..all };
        let mut without = 0;
        for seed in 0..60 {
            let (mut all, some) = (all.plan(seed), some.plan(seed));
            assert!(all.faults.iter().any(|fault| fault.fault.proxy().is_some()));
            if some.proxy.is_none() {
                without += 1;
                all.faults.retain(|fault| fault.fault.proxy().is_none());
            }
            assert_eq!(some.faults, all.faults, "seed {seed}");
        }
        assert!((15..45).contains(&without), "{without} of 60 without proxies");
    }

    #[test]
    fn numbers_are_drawn_from_all_of_a_range() {
        let mut draw = Draw::new(1, "test", "range");
        let seen: BTreeSet<u64> = (0..200).map(|_| draw.within([3, 7])).collect();
        assert_eq!(seen, (3..=7).collect());
        assert_eq!(Draw::new(1, "test", "all").within([5, 5]), 5);
        let _ = Draw::new(1, "test", "all").within([0, u64::MAX]);
    }
}
