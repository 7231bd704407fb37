//! Each kind of fault takes effect, is counted under its name, and breaks no promise.

use seedbed_sim::CrashPoint;
use seedbed_sim::outcome::Outcome;
use seedbed_sim::plan::Plan;
use seedbed_sim::run::{self, Options};
use serde_json::{Value, json};

use crate::plans;

/// Five members, clients that come in both ways, snapshots and compactions all the time.
fn plan(seed: u64, faults: &Value) -> Plan {
    plans::plan(
        seed,
        faults,
        &json!({
            "cluster": {"members": 5, "snapshot_entries": 40, "keep_entries": 5},
            "workload": {
                "clients": 10, "grpc_clients": 5, "operations": 600, "think_ms": [0, 160],
                "mix": {"put": 30, "compact": 3},
            },
        }),
    )
}

fn clean(seed: u64, faults: &Value) -> Outcome {
    let outcome = run::run(&plan(seed, faults), &Options::default()).outcome;
    assert_eq!(outcome.violations, [], "seed {seed}");
    outcome
}

#[test]
fn every_kind_takes_effect_and_breaks_no_promise() {
    let delay = json!([1_000, 200_000]);
    for (family, fault) in [
        ("ring", json!({"ring": {"order": [3, 1, 4, 2, 5]}})),
        ("shut", json!({"shut": {"target": "leader"}})),
        ("latency", json!({"latency": {"links": "all", "delay_us": [1_000, 30_000]}})),
        ("reorder", json!({"reorder": {"links": "members", "permille": 300, "delay_us": delay}})),
        ("duplicate", json!({"duplicate": {"links": "members", "permille": 300, "after_us": delay}})),
        ("reset", json!({"reset": {"links": "members", "permille": 50}})),
        ("reset", json!({"reset": {"links": "clients", "permille": 50}})),
        ("loss", json!({"loss": {"links": "clients", "permille": 100}})),
        ("skew", json!({"skew": {"target": "leader", "by_ms": -60_000}})),
        ("jump", json!({"jump": {"target": "leader", "by_ms": 2_000}})),
        ("transfer", json!("transfer")),
        ("snapshot", json!({"snapshot": {"target": "everyone"}})),
        ("defragment", json!({"defragment": {"target": "everyone"}})),
        ("compaction", json!({"compaction": {"keep": 3}})),
        ("slow-node", json!({"slow-node": {"target": "leader", "run_ms": 20, "stop_ms": 60}})),
        ("restart", json!({"restart": {"target": "leader"}})),
        ("restart", json!({"restart": {"target": "everyone"}})),
        ("lose-disk", json!({"lose-disk": {"target": "leader"}})),
        ("member-add", json!({"member-add": {"member": 6}})),
        ("learner-promotion", json!({"learner-promotion": {"member": 9, "learn_ms": 800}})),
        ("member-remove", json!({"member-remove": {"target": "leader"}})),
        ("member-remove", json!({"member-remove": {"target": "follower"}})),
        ("member-replace", json!({"member-replace": {"target": "leader", "member": 6}})),
    ] {
        let outcome = clean(1, &json!([{"at_ms": 500, "for_ms": 1_500, "fault": fault}]));
        assert_eq!(outcome.faults, [(family, 1)].into(), "{fault}");
        assert!(outcome.heal_to_commit_ms.is_some(), "{fault}");
    }
}

/// How often members died there in runs of three seeds, each of whom was away before if `away`.
fn deaths(point: CrashPoint, away: bool) -> u64 {
    let outcome = |seed: u64| {
        let target = json!({"member": 1 + seed});
        let mut faults = vec![
            json!({"at_ms": 1_700, "for_ms": 4_000, "fault": {"crash-at": {"target": target, "point": point, "nth": 1}}}),
        ];
        if away {
            faults.insert(0, json!({"at_ms": 300, "for_ms": 1_500, "fault": {"isolate": {"target": target}}}));
        }
        clean(seed, &faults.into())
    };
    let family = format!("crash-at-{point}");
    (0..3).map(|seed| outcome(seed).faults[family.as_str()]).sum()
}

#[test]
fn a_member_dies_at_every_point_and_comes_back() {
    for point in CrashPoint::ALL {
        match point {
            // Only who was away for a while needs a snapshot when he is back, and not each time.
            CrashPoint::SnapshotInstall => assert!(deaths(point, true) > 0),
            _ => assert_eq!(deaths(point, false), 3, "{point}"),
        }
    }
}

#[test]
fn a_point_that_nobody_comes_to_has_no_effect() {
    let fault = json!({"crash-at": {"target": "everyone", "point": "wal-append", "nth": 1_000_000}});
    let outcome = clean(0, &json!([{"at_ms": 300, "for_ms": 1_000, "fault": fault}]));
    assert_eq!(outcome.faults, [("crash-at-wal-append", 0)].into());
}
