//! One seed, one run: in another thread, beside other seeds, with a log or without, whichever way clients come in.

use std::io::Write;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft_rt::AsyncRuntime;
use rand::Rng;
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::{Disk, File, Transport};
use seedbed_sim::disk::SimDisk;
use seedbed_sim::network::{Network, Weather};
use seedbed_sim::plan::Plan;
use seedbed_sim::run::{self, Options};
use seedbed_sim::runtime::{MadsimRuntime, Simulation, create_node, kill, restart};
use seedbed_sim::{log, trace};
use serde_json::json;

use crate::plans;

/// A little of everything: three members call each other, write and crash. Gives the trace's hash and length.
async fn little_of_everything() -> (u64, u64) {
    let members = [1, 2, 3].map(NodeId);
    let network = Network::new(Weather { latency_us: [50, 2_000], loss_permille: 20 });
    let world: Vec<_> = members
        .map(|id| (id, create_node(&format!("member-{id}")), SimDisk::new(id.0, [10, 3_000])))
        .into_iter()
        .collect();
    for (id, node, disk) in &world {
        node.spawn(member(*id, network.clone(), disk.clone()));
    }
    madsim::time::sleep(Duration::from_millis(200)).await;
    let (id, node, disk) = &world[1];
    kill(node.id());
    network.reset(*id);
    disk.crash();
    let fault = network.isolate(NodeId(3));
    madsim::time::sleep(Duration::from_millis(200)).await;
    restart(node.id()).spawn(member(*id, network.clone(), disk.clone()));
    network.heal(fault);
    madsim::time::sleep(Duration::from_millis(200)).await;
    (trace::hash(), trace::events())
}

async fn member(id: NodeId, network: Network, disk: SimDisk) {
    let folder = disk.handle();
    let file = Arc::new(folder.open("data").or_else(|_| folder.create("data")).expect("a file"));
    folder.sync_dir("").await.expect("sync_dir");
    let transport = network.transport(id);
    let store = file.clone();
    transport.serve(Arc::new(move |from, request| {
        let store = store.clone();
        async move {
            store.write_at(from.0 * 1000, &request).expect("write");
            store.sync().await.expect("sync");
            request
        }
        .boxed()
    }));
    for round in 0_u64.. {
        let to = NodeId(1 + MadsimRuntime::thread_rng().next_u64() % 3);
        let call = transport.call(to, Bytes::from(format!("round {round} of {id}")));
        let reply = MadsimRuntime::timeout(Duration::from_millis(10), call).await;
        tracing::info!(round, to = to.0, ok = reply.is_ok(), "called");
        MadsimRuntime::sleep(Duration::from_micros(500)).await;
    }
}

#[test]
fn a_seed_has_one_hash_and_another_seed_another() {
    let first: Vec<_> = (0..8).map(|seed| Simulation::new(seed).expect(little_of_everything)).collect();
    assert!(first.iter().all(|(_, events)| *events > 1000), "{first:?}");
    // In parallel this time.
    let again: Vec<_> = std::thread::scope(|scope| {
        let run = |seed| Simulation::new(seed).expect(little_of_everything);
        let threads: Vec<_> = (0..8).map(|seed| scope.spawn(move || run(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(first, again);
    let mut hashes: Vec<_> = first.iter().map(|(hash, _)| hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 8);
}

/// A plan in which all clients speak gRPC, over links that lose, to members that crash and pause.
fn over_http2(seed: u64) -> Plan {
    let faults = json!([
        {"at_ms": 300, "for_ms": 400, "fault": {"crash": {"target": "leader"}}},
        {"at_ms": 800, "for_ms": 600, "fault": {"pause": {"target": "leader"}}},
        {"at_ms": 1000, "for_ms": 500, "fault": {"isolate": {"target": "follower"}}},
        {"at_ms": 1500, "for_ms": 300, "fault": {"crash": {"target": "everyone"}}},
    ]);
    plans::plan(
        seed,
        &faults,
        &json!({
            "network": {"latency_us": [100, 2000], "loss_permille": 5},
            "workload": {"clients": 6, "grpc_clients": 6, "think_ms": [0, 40], "timeout_ms": 400},
        }),
    )
}

#[test]
fn a_run_over_http2_comes_to_the_same_again_beside_other_seeds() {
    let outcome = |seed| run::run(&over_http2(seed), &Options::default()).outcome;
    let first: Vec<_> = (0..4).map(outcome).collect();
    for outcome in &first {
        assert_eq!(outcome.violations, []);
        assert_eq!(outcome.faults.values().sum::<u64>(), 4, "{outcome:?}");
        // All but the few that see at the end whether the cluster serves directly, too.
        assert!(outcome.grpc_operations >= 400 && outcome.operations.ok > 200, "{outcome:?}");
    }
    let again: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|seed| scope.spawn(move || outcome(seed))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    assert_eq!(first, again);
    assert_ne!(first[0].trace_hash, first[1].trace_hash);
}

#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("one thread").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn without_one_of_its_faults_a_run_stays_as_it_was_until_that_one_begins() {
    const TAKEN_OUT: usize = 1;
    let plan = plans::plan(
        11,
        &json!([
            {"at_ms": 300, "for_ms": 2000, "fault": {"loss": {"permille": 50}}},
            {"at_ms": 900, "for_ms": 300, "fault": {"pause": {"target": "leader"}}},
            {"at_ms": 1000, "for_ms": 900, "fault": {"reorder": {
                "links": "all", "permille": 300, "delay_us": [1000, 9000]}}},
        ]),
        &json!({}),
    );
    let mut fewer = plan.clone();
    fewer.faults.remove(TAKEN_OUT);
    let events = |plan: &Plan| {
        let lines = Lines::default();
        run::run(plan, &Options { events: Some(trace::Stream::new(lines.clone())), ..Options::default() });
        String::from_utf8(std::mem::take(&mut lines.0.lock().expect("one thread"))).expect("text")
    };
    let (all, rest) = (events(&plan), events(&fewer));
    let mut pairs = all.lines().zip(rest.lines()).enumerate();
    let (nth, (parted, _)) = pairs.find(|(_, (one, other))| one != other).expect("the pause matters");
    // An event's line has its number, and the seconds since the run began.
    let at_s: f64 = parted.split(' ').nth(1).expect("a time").parse().expect("seconds");
    assert!(nth > 1000 && at_s * 1000.0 >= plan.faults[TAKEN_OUT].at_ms as f64, "they part at event {nth}: {parted}");
}

#[test]
fn a_log_repeats_itself_byte_by_byte_and_changes_nothing() {
    let logged = |seed| {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = log::subscriber(seed, "trace", move || writer.clone()).expect("a filter");
        let hash = Simulation::new(seed).log(tracing::Dispatch::new(subscriber)).expect(little_of_everything);
        (hash, String::from_utf8(std::mem::take(&mut lines.0.lock().expect("one thread"))).expect("text"))
    };
    let (hash, lines) = logged(3);
    assert_eq!((hash, lines.clone()), logged(3));
    assert_eq!(hash, Simulation::new(3).expect(little_of_everything));
    let line = lines.lines().find(|line| line.contains("member-2")).expect("member 2 says something");
    assert!(line.contains(" member-2  seed=3  INFO simulation::determinism: called round="), "{line}");
}

#[test]
fn a_panic_in_a_node_ends_the_run_and_names_the_seed() {
    let panicked = Simulation::new(9).run(|| async {
        create_node("member-1").spawn(async { panic!("the sky fell") });
        madsim::time::sleep(Duration::from_secs(1)).await;
    });
    let panicked = panicked.expect_err("a panic is never swallowed");
    let line = panicked.to_string();
    assert!(line.starts_with("the run of seed 9 panicked: the sky fell (at "), "{line}");
}
