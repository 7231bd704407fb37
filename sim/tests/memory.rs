//! A run leaves nothing behind: whoever fuzzes for a week runs millions of them in one process.
//!
//! The only test of this program, since another would allocate meanwhile.

#[path = "simulation/plans.rs"]
mod plans;

use std::alloc::System;

use seedbed_sim::plan::Plan;
use seedbed_sim::run::{self, Options};
use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// A little of every fault, and clients that come in both ways.
fn plan(seed: u64) -> Plan {
    let faults = json!([
        {"at_ms": 400, "for_ms": 500, "fault": {"crash": {"target": "leader"}}},
        {"at_ms": 800, "for_ms": 600, "fault": {"isolate": {"target": "leader"}}},
        {"at_ms": 1200, "for_ms": 200, "fault": {"pause": {"target": "follower"}}},
        {"at_ms": 1500, "for_ms": 300, "fault": {"crash-unflushed": {"target": "leader", "stall_ms": 200}}},
        {"at_ms": 2200, "for_ms": 300, "fault": {"crash": {"target": "everyone"}}},
    ]);
    plans::plan(seed, &faults, &json!({"network": {"loss_permille": 5}}))
}

/// Bytes that are allocated and not freed.
fn live_bytes() -> i64 {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated as i64 - stats.bytes_deallocated as i64
}

#[test]
fn a_run_leaves_no_memory_behind() {
    let after = |seed| {
        let outcome = run::run(&plan(seed), &Options::default()).outcome;
        assert_eq!(outcome.violations, []);
        assert!(outcome.faults["crash"] > 0, "{outcome:?}");
        drop(outcome);
        live_bytes()
    };
    // What a process makes once for all of them comes with the first.
    let first = after(0);
    for seed in 1..8 {
        assert_eq!(after(seed), first, "bytes after seed {seed}");
    }
}
