//! What a user of the binary relies on: exit statuses, one-line refusals, JSON lines, equal hashes in two processes.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

fn seedbed(folder: &Path, args: &str) -> Output {
    Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(args.split_whitespace())
        .current_dir(folder)
        .output()
        .expect("the binary that cargo has built starts")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("output is UTF-8")
}

/// One JSON object a line.
fn objects(output: &Output) -> Vec<Value> {
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect(line)).collect()
}

#[track_caller]
fn assert_refused(output: &Output, says: &str) {
    let refusal = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{refusal}");
    assert!(refusal.starts_with("error: ") && refusal.contains(says), "{refusal}");
    assert_eq!(refusal.trim_end().lines().count(), 1, "{refusal}");
    assert_eq!(text(&output.stdout), "");
}

#[test]
fn bad_usage_is_one_line_and_exit_2() {
    let folder = folder();
    for (args, says) in [
        ("run gale", "no scenario is called `gale`"),
        ("run calm --seeds 5..2", "no seed is in 5..2"),
        ("run calm --seeds one..two", "`one` is not a seed"),
        ("run calm --shard 2/2", "0 <= i < n"),
        ("replay", "required"),
        ("replay calm", "the seed is missing"),
        ("replay gale 1", "no scenario is called `gale`"),
        ("replay calm 1 --log [", "--log ["),
        ("shrink calm 1", "calm seed 1 breaks no guarantee: there is nothing to shrink"),
        ("shrink missing.json", "missing.json: "),
        ("mutants gremlin", "no planted bug is called `gremlin`"),
        ("frobnicate", "frobnicate"),
    ] {
        assert_refused(&seedbed(folder.path(), args), says);
    }
}

#[test]
fn a_cluster_that_does_not_come_back_in_time_is_a_finding() {
    let folder = folder();
    // Votes that take longer than an election, but for a few: the plan passes narrowly, and its cluster never agrees.
    let plan = json!({
        "version": 1, "scenario": "never", "seed": 5,
        "cluster": {
            "members": 5, "heartbeat_ms": 40, "election_ms": 200,
            "snapshot_entries": 60, "keep_entries": 20, "segment_bytes": 20_000,
        },
        "network": {"latency_us": [200, 600], "loss_permille": 0},
        "disk": {"sync_us": [10, 390_000]},
        "workload": {
            "clients": 4, "operations": 50, "keys": 5, "value_bytes": 20, "think_ms": [0, 80], "timeout_ms": 500,
            "mix": {"get": 10, "put": 20},
        },
        "faults": [{"at_ms": 300, "for_ms": 400, "fault": {"crash": {"target": "everyone"}}}],
        "converge_ms": 1900,
    });
    std::fs::write(folder.path().join("never.json"), plan.to_string()).expect("written");
    let run = seedbed(folder.path(), "replay never.json --json");
    assert_eq!(run.status.code(), Some(1), "{}", text(&run.stderr));
    let violation = &objects(&run)[0]["violations"][0];
    assert_eq!(violation["judge"], "converge");
    let message = violation["message"].as_str().expect("a message");
    assert!(message.contains("1.9s after") && message.contains("member 5: "), "{message}");
}

#[test]
fn a_damaged_plan_is_one_line_with_the_field_and_exit_2() {
    let folder = folder();
    let printed = seedbed(folder.path(), "replay partition 3 --print-plan");
    assert_eq!(printed.status.code(), Some(0));
    let mut plan: Value = serde_json::from_slice(&printed.stdout).expect("a plan is JSON");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).expect("written");

    plan["cluster"]["colour"] = "red".into();
    write("unknown.json", &plan.to_string());
    assert_refused(&seedbed(folder.path(), "replay unknown.json"), "unknown.json: cluster.colour: unknown field");
    plan["cluster"].as_object_mut().expect("an object").remove("colour");
    plan["network"]["latency_us"] = Value::from(vec![400_000, 500_000]);
    write("slow.json", &plan.to_string());
    assert_refused(&seedbed(folder.path(), "replay slow.json"), "slow.json: network.latency_us: there and back takes");
    write("cut.json", &text(&printed.stdout)[..200]);
    assert_refused(&seedbed(folder.path(), "replay cut.json"), "cut.json: ");
    std::fs::write(folder.path().join("binary.json"), [0xff, 0xfe, 0x00]).expect("written");
    assert_refused(&seedbed(folder.path(), "replay binary.json"), "binary.json: ");
    assert_refused(&seedbed(folder.path(), "replay missing.json"), "missing.json: ");
}

#[test]
fn a_plan_of_another_commit_is_run_with_a_warning() {
    let folder = folder();
    let printed = seedbed(folder.path(), "replay calm 3 --print-plan");
    let mut plan: Value = serde_json::from_slice(&printed.stdout).expect("a plan is JSON");
    // A copy of the source without its history has no commit to differ from.
    let built_at = plan["commit"].as_str().map(str::to_owned);
    plan["commit"] = "0123456789ab".into();
    std::fs::write(folder.path().join("plan.json"), plan.to_string()).expect("written");
    let hash = |output: &Output| objects(output)[0]["trace_hash"].clone();
    let old = seedbed(folder.path(), "replay plan.json --json");
    assert_eq!(old.status.code(), Some(0), "{}", text(&old.stderr));
    assert_eq!(hash(&old), hash(&seedbed(folder.path(), "replay calm 3 --json")));
    let warned = text(&old.stderr);
    match built_at {
        Some(commit) => {
            assert!(warned.contains("made at commit 0123456789ab") && warned.contains(&commit), "{warned}");
            assert_eq!(warned.lines().count(), 1, "{warned}");
        }
        None => assert_eq!(warned, ""),
    }
}

#[test]
fn help_says_what_a_scenario_is_and_how_the_process_ends() {
    let help = seedbed(folder().path(), "--help");
    assert_eq!(help.status.code(), Some(0));
    let help = text(&help.stdout);
    for part in ["A scenario is", "Examples:", "Exit status:", "trace_hash", "replay"] {
        assert!(help.contains(part), "{part} is missing in: {help}");
    }
}

#[test]
fn the_list_has_every_scenario_and_every_planted_bug() {
    let list = objects(&seedbed(folder().path(), "list --json"));
    let names = |kind: &str| list.iter().filter_map(|line| line[kind].as_str()).collect::<Vec<_>>();
    assert_eq!(
        names("scenario"),
        [
            "calm",
            "partition",
            "fsync-delay",
            "crash-restart",
            "unflushed-leader",
            "read-paths",
            "read-stall",
            "deposed-leader",
            "lease-drift",
            "lease-restart",
            "lease-hazard",
            "bad-links",
            "crash-points",
            "bad-clocks",
            "disk-errors",
            "disk-damage",
            "membership",
            "lost-disk",
            "watch",
            "forgetting",
            "leases",
            "lease-keepers",
            "locks",
            "proxy",
            "everything"
        ]
    );
    assert_eq!(names("mutant").len(), seedbed_sim::Mutant::ALL.len());
    assert!(names("regression").contains(&"store-growth-torn"));
    assert!(list.iter().all(|line| line["summary"].as_str().is_some_and(|summary| !summary.is_empty())));
}

#[test]
fn a_sweep_prints_documented_objects_in_order_and_writes_a_summary() {
    let folder = folder();
    let sweep = seedbed(folder.path(), "run partition calm --seeds 1..3 --jobs 2 --verify-every 2 --json");
    assert_eq!(sweep.status.code(), Some(0), "{}{}", text(&sweep.stdout), text(&sweep.stderr));
    let runs = objects(&sweep);
    let order: Vec<_> =
        runs.iter().map(|run| (run["scenario"].as_str().expect("a name"), run["seed"].as_u64())).collect();
    assert_eq!(order, [("partition", Some(1)), ("partition", Some(2)), ("calm", Some(1)), ("calm", Some(2))]);
    for run in &runs {
        assert_eq!(run["verdict"], "ok");
        assert_eq!(run["violations"], Value::Array(Vec::new()));
        assert_eq!(run["trace_hash"].as_str().map(str::len), Some(16), "{run}");
        // Every second of each scenario, from the first.
        assert_eq!(run["verified"], run["seed"].as_u64() == Some(1), "{run}");
        for count in ["operations", "grpc_operations", "faults", "virtual_ms"] {
            assert!(run[count].is_u64(), "{count} in {run}");
        }
        for time in ["wall_ms", "cpu_ms"] {
            assert!(run[time].as_f64().is_some_and(|time| time >= 0.0), "{time} in {run}");
        }
    }
    let summary = std::fs::read_to_string(folder.path().join("reports/out/summary.md")).expect("the summary");
    assert!(summary.contains("4 runs, 0 with a violation"), "{summary}");
}

#[test]
fn a_sweep_without_json_prints_a_table_and_plain_progress() {
    let folder = folder();
    let sweep = seedbed(folder.path(), "run calm --seeds 1 --out here");
    assert_eq!(sweep.status.code(), Some(0));
    let table = text(&sweep.stdout);
    for part in ["scenario", "operations", "virtual time", "calm", "ok", "here/summary.md"] {
        assert!(table.contains(part), "{part} is missing in: {table}");
    }
    assert!(text(&sweep.stderr).contains("calm: 1 seeds, 0 violated"));
    assert!(folder.path().join("here/summary.md").exists());
}

#[test]
fn a_regression_is_replayed_by_its_name_from_anywhere() {
    let replay = objects(&seedbed(folder().path(), "replay txn-put-beside-empty-deletion --json"));
    assert_eq!((&replay[0]["verdict"], &replay[0]["scenario"]), (&"ok".into(), &"everything".into()));
    assert_eq!(replay[0]["regression"], "txn-put-beside-empty-deletion");
}

#[test]
fn shards_share_the_seeds() {
    let folder = folder();
    let seeds = |shard: &str| -> Vec<u64> {
        let sweep = seedbed(folder.path(), &format!("run calm --seeds 0..3 --shard {shard} --verify-every 0 --json"));
        objects(&sweep).iter().filter_map(|run| run["seed"].as_u64()).collect()
    };
    assert_eq!(seeds("0/2"), [0, 2]);
    assert_eq!(seeds("1/2"), [1]);
}

#[test]
fn the_trace_hash_is_the_same_in_another_process_from_the_plan_and_beside_other_seeds() {
    let folder = folder();
    let hash = |output: Output| {
        let objects = objects(&output);
        let run = objects.last().expect("a run");
        assert!(run["grpc_operations"].as_u64() > Some(0), "a plan with both ways in: {run}");
        run["trace_hash"].as_str().map(str::to_owned).expect("a hash")
    };
    let alone = hash(seedbed(folder.path(), "replay everything 6 --json"));
    let beside = hash(seedbed(folder.path(), "run everything --seeds 4..7 --jobs 3 --json"));
    assert_eq!(alone, beside);

    let plan = seedbed(folder.path(), "replay everything 6 --print-plan").stdout;
    std::fs::write(folder.path().join("plan.json"), plan).expect("written");
    let expected = seedbed(folder.path(), &format!("replay plan.json --expect-hash {alone}"));
    assert_eq!(expected.status.code(), Some(0), "{}", text(&expected.stderr));
    let other = seedbed(folder.path(), "replay plan.json --expect-hash 1");
    assert_eq!(other.status.code(), Some(1));
    assert!(text(&other.stderr).contains(&format!("the trace hash is {alone}, not 0000000000000001")));
}

#[test]
fn a_run_has_the_same_events_in_two_processes() {
    let folder = folder();
    let twice = seedbed(folder.path(), "replay calm 0 --twice");
    assert_eq!(twice.status.code(), Some(0), "{}{}", text(&twice.stdout), text(&twice.stderr));
    assert!(text(&twice.stdout).contains("calm seed 0, in two processes"), "{}", text(&twice.stdout));
    let json = objects(&seedbed(folder.path(), "replay calm 0 --twice --json"));
    assert_eq!(json[0]["verdict"], "ok");
    assert!(json[0]["events"].as_u64() > Some(10_000), "{}", json[0]);
    // What both processes have told is what the run came to.
    let hash = objects(&seedbed(folder.path(), "replay calm 0 --json"))[0]["trace_hash"].clone();
    let events = text(&seedbed(folder.path(), "replay calm 0 --events").stdout);
    assert_eq!(events.lines().count() as u64 - 1, json[0]["events"].as_u64().expect("a number"));
    let hash = u64::from_str_radix(hash.as_str().expect("hexadecimal"), 16).expect("hexadecimal");
    assert!(events.lines().last().is_some_and(|outcome| outcome.contains(&format!("trace_hash: {hash},"))));
}

#[test]
fn the_log_of_a_run_is_the_same_byte_for_byte() {
    let folder = folder();
    let log = |name: &str| {
        let run = seedbed(folder.path(), &format!("replay crash-restart 2 --log info --log-file {name}"));
        assert_eq!(run.status.code(), Some(0), "{}", text(&run.stdout));
        std::fs::read(folder.path().join(name)).expect("the log")
    };
    assert_eq!(log("one"), log("another"));
}

#[test]
fn ctrl_c_keeps_what_is_finished() {
    interrupted("0/1", |nth| nth);
    // Between its seeds are very many that belong to others.
    interrupted("7/1000000000000", |nth| 7 + nth * 1_000_000_000_000);
}

/// Interrupts a sweep of all seeds after its first run.
fn interrupted(shard: &str, seed: fn(u64) -> u64) {
    let folder = folder();
    let all = format!("0..{}", u64::MAX);
    let mut sweep = Command::new(env!("CARGO_BIN_EXE_seedbed"))
        .args(["run", "calm", "--seeds", &all, "--shard", shard, "--verify-every", "0", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary that cargo has built starts");
    let mut lines = BufReader::new(sweep.stdout.take().expect("piped")).lines().map(|line| line.expect("UTF-8"));
    let mut finished = vec![lines.next().expect("a first run")];
    kill_process(Pid::from_child(&sweep), Signal::INT).expect("it is still at work");
    finished.extend(lines);
    assert_eq!(sweep.wait().expect("it ends").code(), Some(130));
    for (nth, line) in (0..).zip(&finished) {
        let run: Value = serde_json::from_str(line).expect("no line is cut");
        assert_eq!(run["seed"], seed(nth));
    }
    let summary = std::fs::read_to_string(folder.path().join("reports/out/summary.md")).expect("the summary");
    assert!(summary.contains(&format!("{} runs, 0 with a violation", finished.len())), "{summary}");
    assert!(summary.contains("interrupted"), "{summary}");
}
