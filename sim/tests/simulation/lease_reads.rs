//! What lease reads promise, and what they do not: a leader is cut off in the middle of its lease, while others are as
//! early as they can be with electing another.

use std::ops::Range;

use seedbed_sim::ReadPath;
use seedbed_sim::outcome::Outcome;
use seedbed_sim::plan::Plan;
use seedbed_sim::run::{self, Options};
use serde_json::{Value, json};

use crate::plans;

/// Clients who do next to nothing but read by the lease, so that some of them still ask the leader that is cut off.
fn plan(seed: u64, declared_ppm: u64, faults: &Value) -> Plan {
    plans::plan(
        seed,
        faults,
        &json!({
            "cluster": {
                "heartbeat_ms": 100, "election_ms": 1000,
                "snapshot_entries": 240, "keep_entries": 60, "segment_bytes": 40_000, "lease_drift_ppm": declared_ppm,
            },
            "workload": {
                "clients": 24, "grpc_clients": 0, "operations": 1600, "think_ms": [0, 200], "timeout_ms": 800,
                "mix": {
                    "get": 0, "get_serializable": 0, "get_lease": 80, "range": 0,
                    "put": 6, "delete": 0, "txn": 0, "compact": 0,
                },
            },
        }),
    )
}

/// The leader's clock at half speed, all others half as fast again.
fn drifting(seed: u64, declared_ppm: u64) -> Plan {
    let faults = json!([
        {"at_ms": 2000, "for_ms": 4000, "fault": {"drift": {"target": "leader", "ppm": -500_000}}},
        {"at_ms": 2000, "for_ms": 4000, "fault": {"drift": {"target": "followers", "ppm": 500_000}}},
        {"at_ms": 3000, "for_ms": 3000, "fault": {"isolate": {"target": "leader"}}},
    ]);
    plan(seed, declared_ppm, &faults)
}

/// The leader's voters restart at the moment when it is cut off.
fn forgetful(seed: u64) -> Plan {
    let faults = json!([
        {"at_ms": 3000, "for_ms": 2500, "fault": {"isolate": {"target": "leader"}}},
        {"at_ms": 3050, "for_ms": 50, "fault": {"crash": {"target": "followers"}}},
    ]);
    plan(seed, 1_000, &faults)
}

/// Whether a client reads, and another has just written, in the gap that a bug leaves open is chance: no single seed has
/// to show it, some of these have.
const SEEDS: Range<u64> = 0..10;

fn outcomes(plan: impl Fn(u64) -> Plan) -> Vec<Outcome> {
    let outcome = |seed| {
        let outcome = run::run(&plan(seed), &Options::default()).outcome;
        assert!(outcome.faults.values().sum::<u64>() >= 2, "seed {seed}: {:?}", outcome.faults);
        outcome
    };
    SEEDS.map(outcome).collect()
}

fn assert_no_violation(outcomes: &[Outcome]) {
    for outcome in outcomes {
        assert_eq!(outcome.violations, [], "seed {}", outcome.seed);
    }
}

/// The same plans find a bug: that they found nothing without it was not for want of an opportunity.
fn assert_noticed(mutant: &str, plan: impl Fn(u64) -> Plan) {
    let outcomes = outcomes(|seed| Plan { mutant: Some(mutant.to_owned()), ..plan(seed) });
    let judges: Vec<_> = outcomes.iter().flat_map(|outcome| &outcome.violations).map(|found| found.judge).collect();
    assert!(judges.contains(&"linearizable"), "{judges:?}");
}

#[test]
fn clocks_that_drift_beyond_what_was_declared_make_lease_reads_stale_and_that_is_counted() {
    let outcomes = outcomes(|seed| drifting(seed, 1_000));
    assert_no_violation(&outcomes);
    assert!(outcomes.iter().any(|outcome| outcome.staleness[&ReadPath::Lease].stale > 0));
}

#[test]
fn clocks_that_drift_as_far_as_was_declared_make_none_stale() {
    assert_no_violation(&outcomes(|seed| drifting(seed, 500_000)));
    assert_noticed("lease-without-margin", |seed| drifting(seed, 500_000));
}

#[test]
fn voters_that_restart_break_no_lease_that_they_have_forgotten() {
    assert_no_violation(&outcomes(forgetful));
    assert_noticed("vote-in-forgotten-lease", forgetful);
}
