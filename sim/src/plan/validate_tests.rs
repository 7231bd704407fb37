use serde_json::json;

use super::*;

/// A plan with one fault of each kind, as a file would have it.
fn sample() -> Value {
    json!({
        "version": 1, "scenario": "sample", "seed": 18446744073709551615u64,
        "cluster": {
            "members": 5, "heartbeat_ms": 30, "election_ms": 200,
            "snapshot_entries": 200, "keep_entries": 50, "segment_bytes": 32768
        },
        "network": { "latency_us": [100, 900], "loss_permille": 1 },
        "disk": { "sync_us": [200, 3000] },
        "workload": {
            "clients": 8, "operations": 1000, "keys": 10, "value_bytes": 64,
            "think_ms": [0, 50], "timeout_ms": 1000, "mix": { "get": 1, "put": 1 }
        },
        "faults": [
            { "at_ms": 100, "for_ms": 500, "fault": { "halves": { "side": [1, 2] } } },
            { "at_ms": 200, "for_ms": 500, "fault": { "isolate": { "target": "leader" } } },
            { "at_ms": 300, "for_ms": 500, "fault": { "one-way": { "target": "follower" } } },
            { "at_ms": 400, "for_ms": 500, "fault": { "bridge": { "bridge": 3, "side": [1, 2] } } },
            { "at_ms": 500, "for_ms": 500, "fault": { "loss": { "permille": 100 } } },
            { "at_ms": 600, "for_ms": 500, "fault": { "fsync-delay": { "target": "everyone", "sync_us": [5, 9] } } },
            { "at_ms": 700, "for_ms": 500, "fault": { "fsync-stall": { "target": { "member": 2 } } } },
            { "at_ms": 800, "for_ms": 500, "fault": { "crash": { "target": { "member": 1 } } } },
            { "at_ms": 900, "for_ms": 500, "fault": { "pause": { "target": { "member": 2 } } } },
            { "at_ms": 1400, "for_ms": 500, "fault": { "crash-unflushed": { "target": "leader", "stall_ms": 300 } } },
            { "at_ms": 1500, "for_ms": 500, "fault": { "fsync-failure": { "target": "leader", "permille": 500 } } },
            {
                "at_ms": 1600, "for_ms": 500,
                "fault": { "io-error": { "target": "everyone", "reads_permille": 0, "writes_permille": 10 } }
            },
            { "at_ms": 1700, "for_ms": 500, "fault": { "no-space": { "target": "followers" } } },
            { "at_ms": 1800, "for_ms": 500, "fault": { "slow-disk": { "target": "leader", "delay_us": [5, 9] } } },
            {
                "at_ms": 2000, "for_ms": 500,
                "fault": { "bit-rot": { "target": { "member": 4 }, "part": "store", "bits": 2, "rest_ms": 0 } }
            },
            {
                "at_ms": 2100, "for_ms": 500,
                "fault": { "misdirected-write": { "target": { "member": 5 }, "part": "log", "rest_ms": 9 } }
            }
        ],
        "converge_ms": 10000
    })
}

/// The refusal of the sample with one place changed.
fn refused(pointer: &str, value: Value) -> String {
    let mut plan = sample();
    let (parent, name) = pointer.rsplit_once('/').expect("a pointer begins with /");
    match plan.pointer_mut(parent).expect("the sample has the parent") {
        Value::Object(fields) => drop(fields.insert(name.to_owned(), value)),
        Value::Array(items) => items[name.parse::<usize>().expect("an index")] = value,
        _ => panic!("{parent} holds nothing"),
    }
    let refusal = Plan::from_json(&plan.to_string()).expect_err(pointer).to_string();
    assert!(!refusal.contains('\n'), "{refusal}");
    refusal
}

#[track_caller]
fn assert_refused(pointer: &str, value: Value, path: &str, reason: &str) {
    let refusal = refused(pointer, value);
    assert!(refusal.starts_with(&format!("{path}: ")) && refusal.contains(reason), "{refusal}");
}

#[test]
fn the_sample_passes_and_reads_back_as_written() {
    let plan = Plan::from_json(&sample().to_string()).expect("valid");
    assert_eq!(plan.seed, u64::MAX);
    assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan));
}

#[test]
fn unknown_fields_are_refused_at_every_level() {
    let unknown = "unknown field `x`";
    assert_refused("/x", json!(1), "x", unknown);
    assert_refused("/cluster/x", json!(1), "cluster.x", unknown);
    assert_refused("/network/x", json!(1), "network.x", unknown);
    assert_refused("/disk/x", json!(1), "disk.x", unknown);
    assert_refused("/workload/x", json!(1), "workload.x", unknown);
    assert_refused("/workload/mix/x", json!(1), "workload.mix.x", unknown);
    assert_refused("/faults/0/x", json!(1), "faults[0].x", unknown);
    for (i, kind) in ["halves", "isolate", "one-way", "bridge", "loss", "fsync-delay", "fsync-stall"].iter().enumerate()
    {
        let path = format!("faults[{i}].fault.{kind}.x");
        assert_refused(&format!("/faults/{i}/fault/{kind}/x"), json!(1), &path, unknown);
    }
    assert_refused("/faults/7/fault", json!({"melt": {}}), "faults[7].fault", "unknown variant `melt`");
    assert_refused("/faults/7/fault/crash/target", json!("nobody"), "faults[7].fault.crash.target", "unknown variant");
    assert_refused(
        "/faults/7/fault/crash/target",
        json!({"member": 1, "x": 1}),
        "faults[7].fault.crash.target",
        "expected value",
    );
}

#[test]
fn missing_fields_and_wrong_types_name_their_place() {
    assert_refused("/cluster", json!({"members": 3}), "cluster", "missing field `heartbeat_ms`");
    assert_refused("/cluster/members", json!("3"), "cluster.members", "invalid type: string");
    assert_refused("/cluster/members", json!(-3), "cluster.members", "invalid value: integer `-3`");
    assert_refused("/workload/clients", json!(1u64 << 40), "workload.clients", "expected u32");
    assert_refused("/disk/sync_us", json!([1]), "disk.sync_us", "length 1");
    let missing = Plan::from_json("{}").expect_err("an empty object").to_string();
    assert!(missing.contains("missing field"), "{missing}");
}

#[test]
fn what_is_not_json_names_line_and_column() {
    for damaged in ["", "nonsense", "{\"version\": 1", "[]", "\u{0}"] {
        let refusal = Plan::from_json(damaged).expect_err(damaged).to_string();
        assert!(refusal.starts_with("plan: ") && !refusal.contains('\n'), "{refusal}");
    }
    let twice = format!("{}{}", sample(), sample());
    assert!(Plan::from_json(&twice).expect_err("two plans").reason.contains("trailing characters"));
}

#[test]
fn a_refusal_is_one_line_even_if_the_file_quotes_more() {
    assert!(refused("/a\nb", json!(1)).contains("a\\nb"));
}

#[test]
fn another_version_is_named_before_its_unknown_fields() {
    let mut plan = sample();
    plan["version"] = json!(2);
    plan["novelty"] = json!(true);
    assert_eq!(
        Plan::from_json(&plan.to_string()).expect_err("version 2").to_string(),
        "version: this is 2, and only 1 is understood"
    );
}

#[test]
fn impossible_clusters_are_refused() {
    for members in [0, 2, 4, 7] {
        assert_refused("/cluster/members", json!(members), "cluster.members", "1, 3 or 5 members");
    }
    assert_refused(
        "/cluster/heartbeat_ms",
        json!(200),
        "cluster.heartbeat_ms",
        "below half of the election time-out of 200",
    );
    assert_refused("/cluster/heartbeat_ms", json!(100), "cluster.heartbeat_ms", "below half of");
    assert_refused("/cluster/election_ms", json!(0), "cluster.election_ms", "0 is not within");
    assert_refused("/cluster/snapshot_entries", json!(0), "cluster.snapshot_entries", "0 is not within");
    assert_refused("/cluster/segment_bytes", json!(0), "cluster.segment_bytes", "0 is not within");
}

#[test]
fn impossible_weather_and_work_are_refused() {
    assert_refused("/network/latency_us", json!([2, 1]), "network.latency_us", "the least, 2, is above");
    assert_refused("/network/loss_permille", json!(1001), "network.loss_permille", "not within 0..=1000");
    assert_refused("/disk/sync_us", json!([0, u64::MAX]), "disk.sync_us", "is not within");
    for size in ["clients", "operations", "keys", "value_bytes", "timeout_ms"] {
        assert_refused(&format!("/workload/{size}"), json!(0), &format!("workload.{size}"), "0 is not within");
    }
    assert_refused("/workload/grpc_clients", json!(9), "workload.grpc_clients", "9 is not within 0..=8");
    assert_refused("/workload/think_ms", json!([9, 3]), "workload.think_ms", "is above the greatest");
    assert_refused("/workload/mix", json!({}), "workload.mix", "add up to 0");
    assert_refused("/converge_ms", json!(0), "converge_ms", "0 is not within");
    assert_refused("/mutant", json!("gremlin"), "mutant", "no planted bug is called `gremlin`");
    assert_refused("/scenario", json!(""), "scenario", "empty");
}

/// That the sample passes with one value changed.
#[track_caller]
fn assert_passes(pointer: &str, value: Value) {
    let mut plan = sample();
    *plan.pointer_mut(pointer).expect("a field of the sample") = value;
    Plan::from_json(&plan.to_string()).expect("possible");
}

/// Each limit from both sides. The sample has a heartbeat every 30 ms and an election time-out of 200 ms; there and back
/// takes 0.6 ms, an fsync 0.9 ms.
#[test]
fn times_that_leave_no_room_are_refused() {
    let latency = "network.latency_us";
    assert_refused("/network/latency_us", json!([15_000, 15_000]), latency, "within the heartbeat interval of 30 ms");
    assert_passes("/network/latency_us", json!([14_000, 14_000]));
    assert_refused("/network/latency_us", json!([0, 60_000]), latency, "takes 30000 us or longer");
    assert_passes("/network/latency_us", json!([0, 59_000]));
    assert_refused("/network/latency_us", json!([300_000, 300_000]), latency, "heartbeat interval");

    assert_refused("/disk/sync_us", json!([99_400, 99_400]), "disk.sync_us", "half of the election time-out of 200 ms");
    assert_passes("/disk/sync_us", json!([99_300, 99_300]));
    assert_refused("/disk/sync_us", json!([300_000, 400_000]), "disk.sync_us", "a vote takes 325600 us or longer");

    assert_refused("/network/loss_permille", json!(501), "network.loss_permille", "not within 0..=500");
    assert_refused("/workload/timeout_ms", json!(2), "workload.timeout_ms", "a put, which takes 2700 us or longer");
    assert_passes("/workload/timeout_ms", json!(3));
    assert_refused("/converge_ms", json!(811), "converge_ms", "may take 812 ms");
    assert_passes("/converge_ms", json!(812));
}

#[test]
fn a_member_alone_needs_no_answer_of_others() {
    let alone = |network: Value, sync_us: u64, timeout_ms: u64, converge_ms: u64| {
        let mut plan = sample();
        plan["cluster"]["members"] = json!(1);
        plan["faults"] = json!([]);
        plan["network"] = network;
        plan["disk"]["sync_us"] = json!([sync_us, sync_us]);
        plan["workload"]["timeout_ms"] = json!(timeout_ms);
        plan["converge_ms"] = json!(converge_ms);
        Plan::from_json(&plan.to_string()).map_err(|error| error.to_string())
    };
    let slow = || json!({ "latency_us": [50_000, 50_000], "loss_permille": 1000 });
    alone(slow(), 300_000, 401, 3400).expect("there is nobody to elect, or to replicate to");
    let refusal = alone(slow(), 300_000, 400, 3400).expect_err("a put takes as long");
    assert!(refusal.starts_with("workload.timeout_ms: "), "{refusal}");
    let refusal = alone(slow(), 300_000, 401, 3399).expect_err("it starts with ten fsyncs");
    assert!(refusal.starts_with("converge_ms: "), "{refusal}");
}

#[test]
fn faults_out_of_order_or_of_no_length_are_refused() {
    assert_refused("/faults/1/at_ms", json!(50), "faults[1].at_ms", "earlier than the fault before it, at 100");
    assert_refused("/faults/0/for_ms", json!(0), "faults[0].for_ms", "0 is not within");
    assert_refused("/faults/9/at_ms", json!(u64::MAX), "faults[9].at_ms", "is not within");
    assert_refused(
        "/faults/9/fault/crash-unflushed/stall_ms",
        json!(0),
        "faults[9].fault.crash-unflushed.stall_ms",
        "0 is not within",
    );
}

#[test]
fn faults_that_name_nobody_are_refused() {
    let none = "there is no member 6 in a cluster of 5";
    assert_refused("/faults/7/fault/crash/target/member", json!(6), "faults[7].fault.crash.target", none);
    assert_refused("/faults/3/fault/bridge/bridge", json!(6), "faults[3].fault.bridge.bridge", none);
    assert_refused("/faults/0/fault/halves/side", json!([6]), "faults[0].fault.halves.side", none);
    assert_refused("/faults/0/fault/halves/side", json!([0]), "faults[0].fault.halves.side", "no member 0");
    assert_refused("/faults/0/fault/halves/side", json!([]), "faults[0].fault.halves.side", "no half");
    assert_refused("/faults/0/fault/halves/side", json!([1, 2, 3, 4, 5]), "faults[0].fault.halves.side", "no half");
    assert_refused("/faults/0/fault/halves/side", json!([1, 1]), "faults[0].fault.halves.side", "twice");
    assert_refused("/faults/3/fault/bridge/side", json!([3]), "faults[3].fault.bridge.side", "is the bridge");
    assert_refused("/faults/4/fault/loss/permille", json!(0), "faults[4].fault.loss.permille", "0 is not within");

    let mut alone = sample();
    alone["cluster"]["members"] = json!(1);
    alone["faults"] = json!([{ "at_ms": 1, "for_ms": 1, "fault": { "crash": { "target": "follower" } } }]);
    let refusal = Plan::from_json(&alone.to_string()).expect_err("no follower").to_string();
    assert_eq!(refusal, "faults[0].fault.crash.target: a cluster of one has no follower");
}

#[test]
fn a_member_that_is_down_cannot_go_down() {
    let again = |fault: Value| json!({ "at_ms": 1000, "for_ms": 100, "fault": fault });
    let still = "still down or stopped by faults[7]";
    assert_refused("/faults/8", again(json!({ "crash": { "target": { "member": 1 } } })), "faults[8]", still);
    assert_refused("/faults/8", again(json!({ "pause": { "target": { "member": 1 } } })), "faults[8]", still);
    assert_refused("/faults/8", again(json!({ "crash": { "target": "everyone" } })), "faults[8]", still);

    // The leader may be somebody else, and once the member is back it may fall again.
    for (at_ms, target) in [(1000, json!("leader")), (1300, json!({ "member": 1 }))] {
        let mut plan = sample();
        plan["faults"][8] = json!({ "at_ms": at_ms, "for_ms": 100, "fault": { "crash": { "target": target } } });
        Plan::from_json(&plan.to_string()).expect("possible");
    }
}

#[test]
fn faults_of_links_clocks_and_places_are_refused_by_the_path_of_the_field() {
    let refusal = |fault: Value| {
        let mut plan = sample();
        plan["faults"] = json!([{"at_ms": 500, "for_ms": 500, "fault": fault}]);
        Plan::from_json(&plan.to_string()).expect_err("refused").to_string()
    };
    for (fault, says) in [
        (json!({"ring": {"order": [1, 2]}}), "faults[0].fault.ring.order: 2 of 5 members are in it"),
        (json!({"ring": {"order": [1, 2, 2]}}), "faults[0].fault.ring.order: a member is named twice"),
        (json!({"ring": {"order": [1, 2, 9]}}), "faults[0].fault.ring.order: there is no member 9"),
        (json!({"shut": {"target": {"member": 6}}}), "faults[0].fault.shut.target: there is no member 6"),
        (
            json!({"reset": {"links": {"one": {"from": 1, "to": 1}}, "permille": 5}}),
            "faults[0].fault.reset.links.one.to: member 1 has no link to itself",
        ),
        (
            json!({"loss": {"links": {"one": {"from": 0, "to": 1}}, "permille": 5}}),
            "faults[0].fault.loss.links.one.from: there is no member 0",
        ),
        (json!({"loss": {"links": "some", "permille": 5}}), "faults[0].fault.loss.links: unknown variant `some`"),
        (
            json!({"latency": {"links": "all", "delay_us": [2, 1]}}),
            "faults[0].fault.latency.delay_us: the least, 2, is above the greatest, 1",
        ),
        (
            json!({"reorder": {"links": "all", "permille": 0, "delay_us": [1, 2]}}),
            "faults[0].fault.reorder.permille: 0 is not within 1..=1000",
        ),
        (
            json!({"duplicate": {"links": "all", "permille": 1001, "after_us": [1, 2]}}),
            "faults[0].fault.duplicate.permille: 1001 is not within 1..=1000",
        ),
        (json!({"skew": {"target": "leader", "by_ms": 0}}), "faults[0].fault.skew.by_ms: 0 is not within"),
        (json!({"jump": {"target": "leader", "by_ms": -5}}), "faults[0].fault.jump.by_ms: invalid value"),
        (
            json!({"slow-node": {"target": "leader", "run_ms": 0, "stop_ms": 1}}),
            "faults[0].fault.slow-node.run_ms: 0 is not within",
        ),
        (
            json!({"crash-at": {"target": "leader", "point": "lunch", "nth": 1}}),
            "faults[0].fault.crash-at.point: unknown variant `lunch`",
        ),
        (
            json!({"crash-at": {"target": "leader", "point": "apply", "nth": 0}}),
            "faults[0].fault.crash-at.nth: 0 is not within",
        ),
    ] {
        let line = refusal(fault);
        assert!(line.starts_with(says), "{line}");
    }
}

#[test]
fn a_script_names_clients_members_and_operations_in_their_order() {
    let step = |at_us: u64, client: u32, nth: u32, member: u64| json!({ "at_us": at_us, "client": client, "nth": nth, "member": member });
    let script = |steps: Vec<Value>| {
        let mut plan = sample();
        plan["workload"]["operations"] = 2.into();
        plan["workload"]["script"] = steps.into();
        Plan::from_json(&plan.to_string()).map_err(|error| error.to_string())
    };
    let plan = script(vec![step(5, 8, 3, 5), step(5, 8, 4, 1)]).expect("valid");
    assert_eq!(Plan::from_json(&plan.to_json()), Ok(plan));
    for (steps, says) in [
        (vec![step(5, 1, 1, 1)], "workload.script: it has 1 operations, and workload.operations is 2"),
        (
            vec![step(5, 1, 1, 1), step(4, 2, 1, 1)],
            "workload.script[1].at_us: 4 is earlier than the operation before it, at 5",
        ),
        (vec![step(5, 9, 1, 1), step(5, 1, 1, 1)], "workload.script[0].client: 9 is not within 1..=8"),
        (
            vec![step(5, 1, 1, 1), step(5, 1, 1, 1)],
            "workload.script[1].nth: client 1 has come to its operation 1 already",
        ),
        (vec![step(5, 1, 0, 1), step(5, 1, 1, 1)], "workload.script[0].nth: 0 is not within"),
        (vec![step(5, 1, 1, 1), step(5, 1, 2, 6)], "workload.script[1].member: there is no member 6"),
        (
            vec![step(u64::MAX, 1, 1, 1), step(5, 1, 2, 6)],
            "workload.script[0].at_us: 18446744073709551615 is not within",
        ),
    ] {
        let refusal = script(steps).expect_err(says);
        assert!(refusal.starts_with(says), "{refusal}");
    }
}

#[test]
fn impossible_faults_of_disks_are_refused() {
    let fault = |nth: usize, field: &str| format!("/faults/{nth}/fault/{field}");
    assert_refused(
        &fault(10, "fsync-failure/permille"),
        json!(0),
        "faults[10].fault.fsync-failure.permille",
        "0 is not within 1..=1000",
    );
    assert_refused(
        &fault(11, "io-error/writes_permille"),
        json!(0),
        "faults[11].fault.io-error.writes_permille",
        "0 is not within 1..=1000",
    );
    assert_passes(&fault(11, "io-error/reads_permille"), json!(1000));
    assert_refused(&fault(13, "slow-disk/delay_us"), json!([9, 5]), "faults[13].fault.slow-disk.delay_us", "above");
    assert_refused(&fault(14, "bit-rot/part"), json!("lid"), "faults[14].fault.bit-rot.part", "unknown variant `lid`");
    assert_refused(&fault(14, "bit-rot/bits"), json!(0), "faults[14].fault.bit-rot.bits", "0 is not within 1..=4096");
}

#[test]
fn no_more_than_a_minority_of_disks_may_be_damaged() {
    let several = "several members would be lost at once";
    for target in ["everyone", "followers"] {
        let field = "/faults/14/fault/bit-rot/target";
        assert_refused(field, json!(target), "faults[14].fault.bit-rot.target", several);
    }
    let more = |target: Value| {
        let mut plan = sample();
        let rot = json!({ "bit-rot": { "target": target, "part": "log", "bits": 1, "rest_ms": 0 } });
        let faults = plan["faults"].as_array_mut().expect("a list");
        faults.push(json!({ "at_ms": 9000, "for_ms": 10, "fault": rot }));
        Plan::from_json(&plan.to_string()).map_err(|error| error.to_string())
    };
    more(json!({ "member": 5 })).expect("its disk was damaged before");
    for target in [json!({ "member": 3 }), json!("leader")] {
        let refusal = more(target).expect_err("a third disk of five");
        assert!(refusal.starts_with("faults[16]: more than a minority of 5 members"), "{refusal}");
    }
}

#[test]
fn members_that_come_have_numbers_of_their_own_and_a_majority_stays() {
    let with = |faults: &[Value]| {
        let mut plan = sample();
        let list = plan["faults"].as_array_mut().expect("a list");
        list.extend(faults.iter().map(|fault| json!({ "at_ms": 9000, "for_ms": 10, "fault": fault })));
        Plan::from_json(&plan.to_string()).map_err(|error| error.to_string())
    };
    let add = |member: u64| json!({ "member-add": { "member": member } });
    let remove = |target: Value| json!({ "member-remove": { "target": target } });
    let replace = |target: Value, member: u64| json!({ "member-replace": { "target": target, "member": member } });
    let five = || json!({ "member": 5 });
    with(&[add(6), json!({ "learner-promotion": { "member": 7, "learn_ms": 0 } }), replace(five(), 9)])
        .expect("three come, and one goes whose disk was damaged before");
    for (faults, says) in [
        (vec![add(5)], "faults[16].fault.member-add.member: 5 is not within 6..="),
        (vec![add(6), replace(five(), 6)], "faults[17]: member 6 has come by faults[16]"),
        (vec![remove(json!("everyone"))], "faults[16].fault.member-remove.target: several members"),
        (vec![remove(json!({ "member": 6 }))], "faults[16].fault.member-remove.target: there is no member 6"),
        (vec![remove(json!("leader"))], "faults[16]: more than a minority of 5 members"),
        (vec![json!({ "lose-disk": { "target": "follower" } })], "faults[16]: more than a minority of 5 members"),
    ] {
        let refusal = with(&faults).expect_err(says);
        assert!(refusal.starts_with(says), "{refusal}");
    }
}

#[test]
fn a_lost_disk_is_not_mixed_with_what_keeps_others_from_refusing_it() {
    let with = |fault: Value| {
        let mut plan = sample();
        plan["faults"] = json!([
            { "at_ms": 2000, "for_ms": 1000, "fault": { "lose-disk": { "target": "follower" } } },
            { "at_ms": 2500, "for_ms": 100, "fault": fault },
        ]);
        plan
    };
    let passes = |plan: &Value| Plan::from_json(&plan.to_string()).map_err(|error| error.to_string());
    for silent in [
        json!({ "halves": { "side": [1, 2] } }),
        json!({ "loss": { "permille": 100 } }),
        json!({ "slow-link": { "target": "leader", "latency_us": [5, 9] } }),
        json!({ "pause": { "target": { "member": 2 } } }),
        json!({ "no-space": { "target": "everyone" } }),
    ] {
        let mut plan = with(silent);
        let refusal = passes(&plan).expect_err("at the same time");
        assert!(refusal.starts_with("faults[0].fault.lose-disk: ") && refusal.contains("faults[1]"), "{refusal}");
        plan["faults"][1]["at_ms"] = 3001.into();
        passes(&plan).expect("one after the other");
        // It starts half-way, and then asks for an election time-out.
        plan["faults"][0]["for_ms"] = 10.into();
        plan["faults"][1]["at_ms"] = 2020.into();
        passes(&plan).expect_err("it is being asked for");
    }
    passes(&with(json!({ "loss": { "permille": 100, "links": "clients" } }))).expect("members hear each other");
    let mut plan = with(json!("transfer"));
    passes(&plan).expect("whoever leads can refuse it");
    plan["network"]["loss_permille"] = 201.into();
    let refusal = passes(&plan).expect_err("hardly anything is heard");
    assert!(refusal.starts_with("faults[0].fault.lose-disk: a refusal gets lost"), "{refusal}");
}

#[test]
fn a_commit_is_a_name_and_a_foreign_version_is_named_first() {
    for commit in ["", "main branch", "01234567\n", &"0".repeat(65)] {
        assert_refused("/commit", commit.into(), "commit", "hexadecimal digits");
    }
    let mut plan = sample();
    plan["commit"] = "0123456789ab".into();
    assert_eq!(Plan::from_json(&plan.to_string()).expect("valid").commit.as_deref(), Some("0123456789ab"));
    plan["version"] = 2.into();
    plan["from-the-future"] = 1.into();
    let refusal = Plan::from_json(&plan.to_string()).expect_err("another version").to_string();
    assert_eq!(refusal, "version: this is 2, and only 1 is understood");
}

#[test]
fn a_member_with_a_damaged_disk_counts_as_down_for_ever() {
    let fault = |at_ms: u64, fault: Value| -> Fault {
        serde_json::from_value(json!({ "at_ms": at_ms, "for_ms": 100, "fault": fault })).expect("a fault")
    };
    let rot =
        |member: u64| json!({ "bit-rot": { "target": { "member": member }, "part": "log", "bits": 1, "rest_ms": 0 } });
    let crash = |member: u64| json!({ "crash": { "target": { "member": member } } });
    let errors = json!({ "no-space": { "target": { "member": 2 } } });
    let mut down = Downtime::default();
    down.add(&fault(1000, rot(1)));
    assert!(down.admits(&fault(50_000, crash(2)), 1, 3), "one more than the limit may be down, perhaps");
    assert!(!down.admits(&fault(1050, crash(2)), 1, 3), "that one is down for sure");
    assert!(down.admits(&fault(800, crash(2)), 1, 3), "it was over before");
    assert!(!down.admits(&fault(500, rot(2)), 3, 3) && down.admits(&fault(500, rot(2)), 3, 5));
    // It may well run, and crash.
    assert!(down.clash(&fault(50_000, crash(1))).is_none() && down.clash(&fault(1050, crash(1))).is_some());
    down.add(&fault(2000, errors));
    for at_ms in [1950, 2000, 2050] {
        assert!(down.clash(&fault(at_ms, crash(2))).is_none(), "nothing says that it has stopped");
    }
    assert!(!down.admits(&fault(2000, crash(3)), 1, 3) && down.admits(&fault(2000, crash(3)), 2, 3));
}
