//! What a read takes by each path when an fsync takes so long: in the simulation, in virtual time.
//!
//! It answers whose latency follows the disk's. Three members whose fsync takes a fixed time, a network of 0.2 to 0.4 ms
//! one way, and one reader who asks the leader, while nobody or one client writes. Virtual time has no noise: samples
//! differ by their seed, and the processor plays no part. All figures are the same on every machine.
//!
//! What was measured is written to `reports/out/simulated_reads.md` and `.svg`, beside the members' own counters.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, SamplingMode, criterion_group, criterion_main};
use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use prost::Message;
use seedbed_benches::load::{KEYS, VALUE_BYTES};
use seedbed_benches::reports;
use seedbed_benches::verdict::Verdicts;
use seedbed_core::api::Context;
use seedbed_core::raft::NodeId;
use seedbed_core::read::ReadPath;
use seedbed_proto::etcdserverpb::{PutRequest, RangeRequest};
use seedbed_reports::{Against, ReadCost, ReadPaths, ReadPoint};
use seedbed_sim::cluster::Cluster;
use seedbed_sim::converge;
use seedbed_sim::network::Network;
use seedbed_sim::plan::Plan;
use seedbed_sim::runtime::{MadsimRuntime, Simulation};
use seedbed_sim::wire;

type Instant = <MadsimRuntime as AsyncRuntime>::Instant;

const FSYNC_MS: [u64; 6] = [0, 1, 5, 10, 20, 50];

/// Reads of a run.
const READS: u64 = 200;

/// A sample is a run, with a seed of its own.
const SAMPLES: u64 = 10;

const PATIENCE: Duration = Duration::from_secs(30);

const HOW: &str = "In the simulation: three members, one-way latency of 0.2 to 0.4 ms, one reader who asks the leader, and \
    one writer or none. Times are virtual. A sample is a run of 200 reads with a seed of its own; all of ten are counted.";

/// What one run came to.
#[derive(Default)]
struct Measured {
    latencies: Vec<Duration>,
    writes: u64,
    took: Duration,
    cost: ReadCost,
}

fn plan(seed: u64, fsync: Duration) -> Plan {
    let mut plan = Plan::from_json(include_str!("../plans/calm.json")).expect("the plan is valid");
    let fsync = fsync.as_micros() as u64;
    plan.seed = seed;
    plan.disk.sync_us = [fsync, fsync];
    plan.network.latency_us = [200, 400];
    plan.cluster.heartbeat_ms = 100;
    plan.cluster.election_ms = 1_000;
    // Neither snapshots nor new segments: nothing else is to use the disk.
    plan.cluster.snapshot_entries = 100_000;
    plan.cluster.keep_entries = 1_000;
    plan.cluster.segment_bytes = 64 << 20;
    plan.cluster.lease_drift_ppm = Some(1_000);
    plan
}

/// Asks a member. Whether it answers without an error.
async fn ask(network: &Network, client: u32, member: NodeId, method: &str, body: Vec<u8>, context: Context) -> bool {
    let call = network.client_call(client, member, method, body.into(), context);
    let reply = madsim::time::timeout(PATIENCE, call).await;
    reply.is_ok_and(|reply| reply.ok().and_then(wire::decode).is_some_and(|answer| answer.result.is_ok()))
}

fn key(number: u64) -> Bytes {
    format!("key-{:04}", number % KEYS).into()
}

async fn put(network: &Network, client: u32, member: NodeId, number: u64) -> bool {
    let value = vec![b'v'; VALUE_BYTES].into();
    let request = PutRequest { key: key(number), value, ..PutRequest::default() };
    ask(network, client, member, "/etcdserverpb.KV/Put", request.encode_to_vec(), Context::default()).await
}

async fn read(network: &Network, member: NodeId, path: ReadPath, number: u64) -> bool {
    let serializable = path == ReadPath::Serializable;
    let request = RangeRequest { key: key(number), serializable, ..RangeRequest::default() };
    let context = Context { path: Some(path), ..Context::default() };
    ask(network, 1, member, "/etcdserverpb.KV/Range", request.encode_to_vec(), context).await
}

fn cost(cluster: &Cluster, path: ReadPath) -> ReadCost {
    let counters = cluster.read_counters().get(&path).copied().unwrap_or_default();
    let nodes = cluster.ids().into_iter().filter_map(|id| cluster.node(id));
    ReadCost {
        reads: counters.reads,
        rounds: counters.rounds,
        messages: counters.messages,
        fsyncs: counters.fsyncs,
        all_fsyncs: nodes.map(|node| node.wal_stats().syncs).sum(),
        waited: counters.waited,
        cpu: None,
    }
}

async fn measure(plan: Plan, path: ReadPath, writes: bool) -> Measured {
    let cluster = RefCell::new(Cluster::start(&plan));
    converge::first_leader(&cluster, PATIENCE).await.expect("a cluster at peace elects a leader");
    let cluster = cluster.into_inner();
    let leader = cluster.leader().expect("it has one");
    let network = cluster.network.clone();
    assert!(put(&network, 1, leader, 0).await, "a cluster at peace takes a put");
    // Until what the start has caused, heartbeats and the names of members among it, is over.
    madsim::time::sleep(Duration::from_secs(1)).await;
    let before = cost(&cluster, path);
    let written = Rc::new(Cell::new(0));
    if writes {
        let (network, written) = (network.clone(), written.clone());
        madsim::task::spawn_local(async move {
            while put(&network, 2, leader, written.get()).await {
                written.set(written.get() + 1);
            }
        });
    }
    let mut measured = Measured::default();
    let begun = Instant::now();
    for number in 0..READS {
        let asked = Instant::now();
        assert!(read(&network, leader, path, number).await, "a cluster at peace serves a read");
        measured.latencies.push(asked.elapsed());
    }
    measured.took = begun.elapsed();
    measured.writes = written.get();
    let after = cost(&cluster, path);
    measured.cost = ReadCost {
        reads: after.reads - before.reads,
        rounds: after.rounds - before.rounds,
        messages: after.messages - before.messages,
        fsyncs: after.fsyncs - before.fsyncs,
        all_fsyncs: after.all_fsyncs - before.all_fsyncs,
        waited: after.waited - before.waited,
        cpu: None,
    };
    measured
}

fn point(path: ReadPath, fsync: Duration, writes: bool, mut samples: Vec<Measured>, verdicts: &Verdicts) -> ReadPoint {
    let mut rates: Vec<f64> =
        samples.iter().map(|sample| sample.latencies.len() as f64 / sample.took.as_secs_f64()).collect();
    rates.sort_unstable_by(f64::total_cmp);
    let took: Duration = samples.iter().map(|sample| sample.took).sum();
    let written: u64 = samples.iter().map(|sample| sample.writes).sum();
    let mut latencies: Vec<Duration> = samples.iter_mut().flat_map(|sample| sample.latencies.drain(..)).collect();
    latencies.sort_unstable();
    let mut sum = ReadCost::default();
    for cost in samples.iter().map(|sample| sample.cost) {
        sum.reads += cost.reads;
        sum.rounds += cost.rounds;
        sum.messages += cost.messages;
        sum.fsyncs += cost.fsyncs;
        sum.all_fsyncs += cost.all_fsyncs;
        sum.waited += cost.waited;
    }
    ReadPoint {
        members: 3,
        role: "leader".to_owned(),
        path: path.to_string(),
        verdict: verdicts.of(path),
        readers: 1,
        fsync: Some(fsync),
        writes: writes.then(|| written as f64 / took.as_secs_f64()),
        rate: rates[rates.len() / 2],
        mean: latencies.iter().sum::<Duration>().div_f64(latencies.len() as f64),
        p99: latencies[(latencies.len() - 1) * 99 / 100],
        failed: 0,
        cost: sum,
    }
}

fn simulated_reads(criterion: &mut Criterion) {
    let (mut points, verdicts) = (Vec::new(), OnceCell::new());
    for writes in [false, true] {
        for path in ReadPath::ALL {
            let writing = if writes { "writes" } else { "quiet" };
            let mut group = criterion.benchmark_group(format!("simulated-read/{writing}/{path}"));
            group.sample_size(SAMPLES as usize).sampling_mode(SamplingMode::Flat).nresamples(1_001);
            // A run takes what it takes, however many reads it is asked for: the least that criterion accepts to warm up, and
            // enough of the rest for it not to complain.
            group.warm_up_time(Duration::from_millis(1)).measurement_time(Duration::from_secs(20));
            for fsync_ms in FSYNC_MS {
                let fsync = Duration::from_millis(fsync_ms);
                let mut samples = BTreeMap::new();
                let mut next = 0;
                group.bench_function(BenchmarkId::from_parameter(format!("{fsync_ms}ms")), |bencher| {
                    bencher.iter_custom(|reads| {
                        let seed = next % SAMPLES;
                        next += 1;
                        let plan = plan(seed, fsync);
                        let run = Simulation::new(seed).expect(move || measure(plan, path, writes));
                        let took = run.took.mul_f64(reads as f64 / READS as f64);
                        samples.insert(seed, run);
                        took
                    });
                });
                if !samples.is_empty() {
                    let verdicts = verdicts.get_or_init(|| Verdicts::ask().unwrap_or_else(|error| panic!("{error}")));
                    points.push(point(path, fsync, writes, samples.into_values().collect(), verdicts));
                }
            }
            group.finish();
        }
    }
    // Nothing was measured if the bench was only asked for its list.
    if !points.is_empty() {
        let page = ReadPaths {
            name: "simulated_reads".to_owned(),
            title: "Read paths, by the time of an fsync".to_owned(),
            how: HOW.to_owned(),
            against: Against::Fsync,
            points,
        };
        page.write(reports()).unwrap_or_else(|error| panic!("{error}"));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = simulated_reads
}
criterion_main!(benches);
