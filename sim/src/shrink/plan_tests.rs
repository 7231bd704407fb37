use super::*;
use crate::plan::{ClusterPlan, ContendPlan, DiskPlan, NetworkPlan, ProxyPlan, VERSION, WatchPlan, WorkloadPlan};

/// Says what fails, tries one candidate after the other, and counts.
struct Fake<F> {
    fails: F,
    script: Vec<Step>,
    tries: u64,
    tries_max: u64,
    passes: Vec<&'static str>,
}

impl<F: FnMut(&Plan) -> bool> Laboratory for Fake<F> {
    fn first(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Candidate> {
        for candidate in candidates {
            if self.tries == self.tries_max {
                return None;
            }
            assert_eq!(candidate.1.validate(), Ok(()));
            self.tries += 1;
            if (self.fails)(&candidate.1) {
                return Some(candidate);
            }
        }
        None
    }

    fn script(&mut self, _: &Plan) -> Vec<Step> {
        self.script.clone()
    }

    fn passed(&mut self, pass: &'static str, _: &Plan) {
        self.passes.push(pass);
    }
}

fn step(at_us: u64, client: u32, nth: u32) -> Step {
    Step { at_us, client, nth, member: u64::from(nth) % 5 + 1 }
}

/// Four clients, each with an operation every 10 ms.
fn script() -> Vec<Step> {
    (1..=200).flat_map(|nth| (1..=4).map(move |client| step(u64::from(nth) * 10_000, client, nth))).collect()
}

fn fault(at_ms: u64, for_ms: u64, fault: FaultKind) -> Fault {
    Fault { at_ms, for_ms, stream: None, fault }
}

fn plan() -> Plan {
    let faults = vec![
        fault(200, 300, FaultKind::Halves { side: vec![4, 5] }),
        fault(600, 100, FaultKind::Loss { permille: 30, links: LinkSet::Members }),
        fault(900, 400, FaultKind::Crash { target: Target::Member(5) }),
        fault(1000, 300, FaultKind::Bridge { bridge: 4, side: vec![1, 5] }),
        fault(1500, 400, FaultKind::CrashUnflushed { target: Target::Leader, stall_ms: 80 }),
    ];
    Plan {
        version: VERSION,
        scenario: "gale".into(),
        seed: 3,
        mutant: None,
        commit: None,
        cluster: ClusterPlan {
            members: 5,
            heartbeat_ms: 50,
            election_ms: 300,
            snapshot_entries: 100,
            keep_entries: 20,
            segment_bytes: 20_000,
            lease_drift_ppm: None,
            lease_checkpoint_ms: None,
        },
        network: NetworkPlan { latency_us: [200, 900], loss_permille: 2 },
        disk: DiskPlan { sync_us: [300, 1500] },
        workload: WorkloadPlan {
            clients: 4,
            grpc_clients: 2,
            operations: 800,
            keys: 9,
            value_bytes: 100,
            think_ms: [0, 20],
            timeout_ms: 800,
            mix: Mix { get: 20, put: 30, txn: 10, ..Mix::default() },
            leases: None,
            script: None,
        },
        contend: Some(ContendPlan { contenders: 3, observers: 1, names: 1, ttl_s: [1, 1], hold_ms: [0, 100] }),
        watch: Some(WatchPlan { watchers: 3, progress_ms: 200, fragment_bytes: 500, piece_changes: 20 }),
        proxy: Some(ProxyPlan { proxies: 2, staleness_ms: 500, ranges: 10, percent: 80 }),
        faults,
        converge_ms: 15_000,
        read_index_ms: Some(500),
    }
}

fn shrunk(plan: &Plan, tries_max: u64, fails: impl FnMut(&Plan) -> bool) -> (Plan, u64, Vec<&'static str>) {
    let mut fake = Fake { fails, script: script(), tries: 0, tries_max, passes: Vec::new() };
    (smallest(plan, &mut fake), fake.tries, fake.passes)
}

fn has(plan: &Plan, client: u32, nth: u32) -> bool {
    plan.workload.script.iter().flatten().any(|step| (step.client, step.nth) == (client, nth))
}

#[test]
fn a_proxy_to_which_something_happens_is_left() {
    let mut plan = plan();
    let fault = FaultKind::ProxyRestart { proxy: 1 };
    plan.faults.push(Fault { at_ms: 2_000, for_ms: 400, stream: None, fault });
    let is_met = |plan: &Plan| plan.faults.iter().any(|fault| fault.fault.proxy().is_some());
    let (shrunk, ..) = shrunk(&plan, u64::MAX, is_met);
    assert_eq!(shrunk.proxy.map(|proxy| proxy.proxies), Some(1));
    assert_eq!(shrunk.faults.len(), 1);
}

#[test]
fn what_a_failure_needs_is_left_and_nothing_else() {
    let crashed = |plan: &Plan| plan.faults.iter().any(|fault| matches!(fault.fault, FaultKind::Crash { .. }));
    let scripted = |plan: &Plan| plan.workload.script.is_some();
    // Before it has a script, the plan has all operations.
    let (shrunk, tries, passes) =
        shrunk(&plan(), u64::MAX, |plan| crashed(plan) && (!scripted(plan) || has(plan, 2, 90) && has(plan, 3, 95)));
    let script = shrunk.workload.script.clone().unwrap_or_default();
    assert_eq!(script.iter().map(|step| (step.client, step.nth)).collect::<Vec<_>>(), [(2, 90), (3, 95)]);
    let [Fault { for_ms: 1, fault: FaultKind::Crash { target: Target::Member(1) }, .. }] = &shrunk.faults[..] else {
        panic!("{:?}", shrunk.faults)
    };
    let WorkloadPlan { clients, grpc_clients, operations, keys, value_bytes, .. } = shrunk.workload;
    assert_eq!((clients, grpc_clients, operations, keys, value_bytes), (3, 0, 2, 1, 1));
    assert_eq!((shrunk.cluster.members, shrunk.network.loss_permille, shrunk.read_index_ms), (1, 0, None));
    assert_eq!((shrunk.watch, shrunk.contend, shrunk.proxy), (None, None, None));
    assert_eq!(shrunk.cluster.segment_bytes, 64 << 20);
    // What is kept comes soon.
    assert!(script[1].at_us < 100_000, "{script:?}");
    assert_eq!((shrunk.converge_ms, shrunk.seed), (15_000, 3));
    assert!(tries < 300, "{tries} tries");
    assert_eq!(passes[..4], ["script", "end", "start", "weather"], "{passes:?}");
}

#[test]
fn members_that_faults_name_stay_members() {
    for members in [3, 5] {
        let (shrunk, ..) = shrunk(&plan(), u64::MAX, |plan| {
            plan.cluster.members >= members
                && plan.faults.iter().any(|fault| matches!(fault.fault, FaultKind::Bridge { .. }))
        });
        assert_eq!(shrunk.validate(), Ok(()));
        assert_eq!(shrunk.cluster.members, members);
    }
    for members in [1, 3] {
        let fewer = fewer_members(&plan(), members);
        let [halves, .., bridge, _] = &fewer.faults[..] else { panic!("{:?}", fewer.faults) };
        assert_eq!(halves.fault, FaultKind::Halves { side: vec![1] });
        assert_eq!(members == 3, bridge.fault == FaultKind::Bridge { bridge: 1, side: vec![2] });
    }
}

#[test]
fn a_failure_that_no_script_repeats_is_shrunk_all_the_same() {
    let (shrunk, ..) =
        shrunk(&plan(), u64::MAX, |plan| plan.workload.script.is_none() && plan.workload.operations >= 60);
    assert!(shrunk.faults.is_empty());
    assert!((60..80).contains(&shrunk.workload.operations), "{}", shrunk.workload.operations);
}

#[test]
fn the_end_of_the_budget_leaves_a_plan_that_fails() {
    let fails = |plan: &Plan| plan.workload.script.is_none() || has(plan, 1, 100);
    let (full, tries, _) = shrunk(&plan(), u64::MAX, fails);
    for budget in [0, 1, 10, tries / 2] {
        let (partly, tried, _) = shrunk(&plan(), budget, fails);
        assert!(fails(&partly) && tried == budget);
        assert!(partly.workload.operations >= full.workload.operations);
    }
}

#[test]
fn time_that_is_taken_out_moves_what_is_later_and_shortens_what_is_under_way() {
    let mut plan = plan();
    set_script(&mut plan, vec![step(50_000, 1, 1), step(700_000, 1, 2), step(1_900_000, 1, 3)]);
    let shorter = without(&plan, 100, 650);
    let times: Vec<_> = shorter.faults.iter().map(|fault| (fault.at_ms, fault.for_ms)).collect();
    assert_eq!(times, [(100, 1), (100, 1), (250, 400), (350, 300), (850, 400)]);
    let script = shorter.workload.script.clone().unwrap_or_default();
    assert_eq!(script.iter().map(|step| step.at_us).collect::<Vec<_>>(), [50_000, 100_000, 1_250_000]);
    assert_eq!(shorter.validate(), Ok(()));
    let stalled = without(&plan, 1520, 100);
    assert_eq!(stalled.faults[4], fault(1500, 360, FaultKind::CrashUnflushed { target: Target::Leader, stall_ms: 20 }));
}
