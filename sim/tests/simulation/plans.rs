//! Plans of tests: one that would do, and what each test has otherwise.

use seedbed_sim::plan::Plan;
use serde_json::{Value, json};

/// A plan of three members in fair weather, with these faults, and with the fields of `changes` instead of its own.
pub(crate) fn plan(seed: u64, faults: &Value, changes: &Value) -> Plan {
    let mut plan = json!({
        "version": 1,
        "scenario": "test",
        "seed": seed,
        "cluster": {
            "members": 3, "heartbeat_ms": 40, "election_ms": 200,
            "snapshot_entries": 60, "keep_entries": 20, "segment_bytes": 20_000,
        },
        "network": {"latency_us": [200, 600], "loss_permille": 0},
        "disk": {"sync_us": [300, 1500]},
        "workload": {
            "clients": 8, "grpc_clients": 4, "operations": 400, "keys": 5, "value_bytes": 20,
            "think_ms": [0, 80], "timeout_ms": 500,
            "mix": {"get": 10, "get_serializable": 5, "range": 5, "put": 20, "delete": 5, "txn": 5, "compact": 2},
        },
        "faults": faults,
        "converge_ms": 15_000,
    });
    change(&mut plan, changes);
    Plan::from_json(&plan.to_string()).expect("a valid plan")
}

fn change(plan: &mut Value, changes: &Value) {
    match (plan, changes) {
        (Value::Object(fields), Value::Object(changes)) => {
            for (field, changes) in changes {
                change(fields.entry(field).or_insert(Value::Null), changes);
            }
        }
        (plan, changes) => *plan = changes.clone(),
    }
}
