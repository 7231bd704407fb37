//! Faults of disks: each takes effect, the store notices, and what was acknowledged survives.

use std::time::Duration;

use madsim::time::{sleep, timeout};
use seedbed_core::mvcc::StoreError;
use seedbed_core::node::StartError;
use seedbed_core::wal::WalError;
use seedbed_sim::disk::DiskFault;
use seedbed_sim::outcome::Outcome;
use seedbed_sim::plan::Part;
use seedbed_sim::run::{Options, run};
use seedbed_sim::runtime::Simulation;
use serde_json::{Value, json};

use crate::members::{Members, PATIENCE};
use crate::plans;

/// A run of three members with one fault.
fn with(seed: u64, fault: Value) -> Outcome {
    let faults = json!([{ "at_ms": 600, "for_ms": 1000, "fault": fault }]);
    let changes = json!({
        "cluster": { "heartbeat_ms": 30, "segment_bytes": 16384 },
        "network": { "latency_us": [100, 900] },
        "disk": { "sync_us": [200, 2000] },
        "workload": {
            "clients": 6, "grpc_clients": 0, "operations": 500, "keys": 10, "value_bytes": 128,
            "think_ms": [0, 40], "timeout_ms": 1000,
            "mix": { "get_serializable": 0, "range": 0, "put": 30, "delete": 0, "txn": 10, "compact": 0 }
        }
    });
    let plan = plans::plan(seed, &faults, &changes);
    run(&plan, &Options::default()).outcome
}

/// In how many of a few runs the fault took effect. None may break a guarantee.
fn effects(runs: u64, family: &str, fault: &Value) -> u64 {
    let outcomes = (0..runs).map(|seed| with(seed, fault.clone()));
    outcomes
        .map(|outcome| {
            assert_eq!(outcome.violations, [], "{family}, seed {}", outcome.seed);
            outcome.faults[family]
        })
        .sum()
}

#[test]
fn errors_take_effect_and_break_nothing() {
    for target in [json!("leader"), json!({ "member": 2 }), json!("everyone")] {
        for (family, fault) in [
            ("fsync-failure", json!({ "target": target, "permille": 300 })),
            ("io-error", json!({ "target": target, "reads_permille": 0, "writes_permille": 100 })),
            ("io-error", json!({ "target": target, "reads_permille": 1000, "writes_permille": 1000 })),
            ("no-space", json!({ "target": target })),
            ("slow-disk", json!({ "target": target, "delay_us": [1000, 5000] })),
        ] {
            assert_eq!(effects(2, family, &json!({ family: fault })), 2, "{family}: {fault}");
        }
    }
}

#[test]
fn damage_takes_effect_and_breaks_nothing() {
    // A log forgets soon what is damaged in it.
    for (part, rest_ms) in [("log", 60), ("store", 120)] {
        let rot = json!({ "target": "leader", "part": part, "bits": 1, "rest_ms": 0 });
        let effects_of_rot = effects(16, "bit-rot", &json!({ "bit-rot": rot }));
        let astray = json!({ "target": { "member": 1 }, "part": part, "rest_ms": rest_ms });
        let effects_of_astray = effects(16, "misdirected-write", &json!({ "misdirected-write": astray }));
        // Some of it is forgotten, or written anew, before anybody reads it.
        assert!(effects_of_rot >= 4 && effects_of_astray >= 4, "{part}: {effects_of_rot}, {effects_of_astray}");
    }
}

#[test]
fn a_member_that_its_disk_stops_says_so_and_comes_back_with_everything() {
    for (fault, says) in [
        (DiskFault::FailingSyncs(1000), "input/output error"),
        (DiskFault::Errors { reads: 0, writes: 1000 }, "input/output error"),
        (DiskFault::Full, "no space"),
    ] {
        Simulation::new(7).expect(|| async {
            let mut members = Members::start(3, |_| {}).await;
            let client = members.client();
            let leader = members.leader().await;
            for n in 0..30 {
                client.put(leader, &format!("k{n}"), "1").await.expect("all is well");
            }
            members.disk(leader).set_faults([fault]);
            // Whatever becomes of it: it is not acknowledged by this member.
            let _ = timeout(Duration::from_secs(1), client.put(leader, "k0", "2")).await;
            let failure = timeout(PATIENCE, members.node(leader).failed()).await.expect("it stops");
            assert!(failure.contains(says) && members.disk(leader).caused(&failure), "{failure}");
            members.disk(leader).set_faults([]);
            members.crash(leader);
            members.boot(leader).await.expect("nothing of what it promised is lost");
            members.leader().await;
            for n in 1..30 {
                let read = client.get(leader, &format!("k{n}")).await;
                assert_eq!(read, Ok(Some("1".into())));
            }
            members.agree().await;
        });
    }
}

#[test]
fn a_member_whose_log_or_store_has_rotted_refuses_to_start_and_names_it() {
    for part in [Part::Log, Part::Store] {
        let refused = (0..12).filter(|seed| {
            Simulation::new(*seed).expect(move || async move {
                let mut members = Members::start(3, |options| options.raft.snapshot_entries = 30).await;
                let client = members.client();
                for n in 0..120 {
                    client.put(1, &format!("k{}", n % 20), format!("{n}")).await.expect("all is well");
                }
                members.crash(3);
                // Most of the store's file is not in use.
                for _ in 0..(if part == Part::Log { 1 } else { 10 }) {
                    assert!(members.disk(3).rot(part, 1));
                }
                let refused = match (part, members.boot(3).await) {
                    (Part::Log, Err(StartError::Wal(WalError::Damaged { file, .. }))) => {
                        assert!(file.starts_with("wal/"), "{file}");
                        true
                    }
                    (Part::Store, Err(StartError::Store(error @ StoreError::Database { .. }))) => {
                        assert!(error.to_string().starts_with("store/store.redb"), "{error}");
                        true
                    }
                    // What it has rotted in is not in use.
                    (_, Ok(())) => {
                        sleep(Duration::from_secs(2)).await;
                        members.agree().await;
                        false
                    }
                    other => panic!("{other:?}"),
                };
                let read = client.get(1, "k19").await;
                assert_eq!(read, Ok(Some("119".into())), "the others have it all");
                refused
            })
        });
        assert!(refused.count() >= 3, "{part:?}");
    }
}
