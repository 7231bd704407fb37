//! What a read costs by each path, on real servers: child processes, real sockets, real fsync.
//!
//! It answers how dear linearizable reads are beside serializable ones, and how well readers share the cost. A point is a
//! number of readers who each read a random key, one read after the other, by one path, of the leader or of a follower,
//! while nobody or somebody writes. The time shown is that of one read of each reader; the throughput counts reads.
//!
//! Filters choose points, for instance
//!
//! ```sh
//! cargo build --release --workspace
//! cargo bench -p seedbed-benches --bench read_paths -- '3-members/leader/quiet/.*/128$'
//! ```
//!
//! What was measured is written to `reports/out/read_paths.md` and `.svg`, beside the members' own counters. Servers,
//! readers and writers share the machine's cores: ratios are worth more than rates.

use std::cell::OnceCell;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use openraft::AsyncRuntime;
use seedbed_benches::load::{self, Answered, Ask, Background, Caller, Until};
use seedbed_benches::reports;
use seedbed_benches::servers::{Cluster, Program};
use seedbed_benches::verdict::Verdicts;
use seedbed_core::read::ReadPath;
use seedbed_core::runtime::tokio::TokioRuntime;
use seedbed_reports::{Against, ReadCost, ReadPaths, ReadPoint};

const READERS: [u64; 4] = [1, 16, 128, 1024];

const CONNECTIONS_MAX: u64 = 128;

/// What writers together aim at.
const WRITES_A_SECOND: u32 = 500;

const SAMPLES: usize = 10;

/// Lease reads are offered to clocks that drift no more than this, which is far above what a quartz does.
const FLAGS: [&str; 4] = ["--log-level", "warn", "--lease-read-drift-ppm", "1000"];

const HOW: &str = "Real servers as child processes on loopback, data on the disk, servers and readers on the same cores. \
    Each reader reads a key of 128 bytes, waits, and reads the next. Rates are medians of ten samples; mean and p99 are \
    over all reads of these; the members' counters include the reads before, which warmed up. Reads, rounds and waiting \
    are those of the member that was asked, messages, fsyncs and CPU those of all. Writers, where there are any, aim at 500 \
    puts a second.";

#[derive(Clone, Copy)]
struct Setting {
    members: u64,
    follower: bool,
    writes: bool,
    path: ReadPath,
    readers: u64,
}

impl Setting {
    fn role(self) -> &'static str {
        if self.follower { "follower" } else { "leader" }
    }
}

/// A setting that is measured.
struct Measuring {
    setting: Setting,
    readers: Vec<Caller>,
    writers: Option<Background>,
    asked: usize,
    before: ReadCost,
    samples: Vec<Answered>,
}

impl Measuring {
    async fn start(cluster: &mut Cluster, setting: Setting) -> Self {
        let leader = cluster.leader().await.expect("a cluster at peace has a leader");
        let asked = (leader + usize::from(setting.follower)) % cluster.members.len();
        let member = std::slice::from_ref(&cluster.members[asked]);
        let leading = std::slice::from_ref(&cluster.members[leader]);
        let readers = Caller::many(member, setting.readers, CONNECTIONS_MAX, Ask::Read(setting.path)).await;
        let writers = if setting.writes { Some(Background::start(leading, WRITES_A_SECOND).await) } else { None };
        let writers = writers.transpose().expect("the leader takes connections");
        let before = cost(cluster, asked, setting.path).await;
        let readers = readers.expect("a member takes connections");
        Measuring { setting, readers, writers, asked, before, samples: Vec::new() }
    }

    async fn sample(&mut self, rounds: u64) -> Duration {
        let answered = load::run(&self.readers, Until::Rounds(rounds)).await;
        let took = answered.took;
        // The first ones warm up.
        if self.samples.len() == SAMPLES {
            self.samples.remove(0);
        }
        self.samples.push(answered);
        took
    }

    async fn finish(self, cluster: &Cluster, verdicts: &Verdicts) -> ReadPoint {
        let Measuring { setting, writers, asked, before, samples, .. } = self;
        let writes = writers.as_ref().map(Background::rate);
        drop(writers);
        let after = cost(cluster, asked, setting.path).await;
        let mut rates: Vec<f64> = samples.iter().map(Answered::rate).collect();
        rates.sort_unstable_by(f64::total_cmp);
        let rate = rates[rates.len() / 2];
        let failed = samples.iter().map(|sample| sample.failed).sum();
        let mut latencies: Vec<Duration> = samples.into_iter().flat_map(|sample| sample.latencies).collect();
        latencies.sort_unstable();
        let all = Answered { latencies, ..Answered::default() };
        ReadPoint {
            members: setting.members,
            role: setting.role().to_owned(),
            path: setting.path.to_string(),
            verdict: verdicts.of(setting.path),
            readers: setting.readers,
            fsync: None,
            writes,
            rate,
            mean: all.mean(),
            p99: all.permille(990),
            failed,
            cost: ReadCost {
                reads: after.reads - before.reads,
                rounds: after.rounds - before.rounds,
                messages: after.messages - before.messages,
                fsyncs: after.fsyncs - before.fsyncs,
                all_fsyncs: after.all_fsyncs - before.all_fsyncs,
                waited: after.waited - before.waited,
                cpu: after.cpu.zip(before.cpu).map(|(after, before)| after - before),
            },
        }
    }
}

/// What reads by a path have cost since the members' start.
async fn cost(cluster: &Cluster, asked: usize, path: ReadPath) -> ReadCost {
    let cpu = cluster.cpu().expect("every member runs");
    let mut cost = ReadCost { cpu: Some(cpu), ..ReadCost::default() };
    for (place, member) in cluster.members.iter().enumerate() {
        let metrics = member.metrics().await.expect("a member shows its metrics");
        let of_path = |name: &str| metrics.get(&format!("seedbed_{name}{{path=\"{path}\"}}"));
        if place == asked {
            cost.reads = of_path("reads_total") as u64;
            cost.rounds = of_path("read_rounds_total") as u64;
            cost.waited = Duration::from_secs_f64(of_path("read_waited_seconds_total"));
        }
        cost.messages += of_path("read_messages_total") as u64;
        cost.fsyncs += of_path("read_fsyncs_total") as u64;
        cost.all_fsyncs += metrics.get("etcd_disk_wal_fsync_duration_seconds_count") as u64;
    }
    cost
}

/// A cluster with keys.
async fn start(members: u64) -> Cluster {
    let program = Program::seedbed(&FLAGS).unwrap_or_else(|error| panic!("{error}"));
    let cluster = Cluster::start(&program, members).await.unwrap_or_else(|error| panic!("{error}"));
    load::fill(&cluster, load::KEYS).await.unwrap_or_else(|error| panic!("{error}"));
    cluster
}

fn settings(members: u64) -> impl Iterator<Item = Setting> {
    // One member alone has no follower to ask.
    let roles: &[bool] = if members == 1 { &[false] } else { &[false, true] };
    roles.iter().flat_map(move |&follower| {
        [false, true].into_iter().flat_map(move |writes| {
            ReadPath::ALL.into_iter().flat_map(move |path| {
                READERS.into_iter().map(move |readers| Setting { members, follower, writes, path, readers })
            })
        })
    })
}

fn read_paths(criterion: &mut Criterion) {
    let mut runtime = TokioRuntime::new(2);
    let (mut points, verdicts) = (Vec::new(), OnceCell::new());
    for members in [1, 3] {
        // Started for the first setting that a filter lets through.
        let mut cluster: Option<Cluster> = None;
        for setting in settings(members) {
            let plural = if members == 1 { "" } else { "s" };
            let writing = if setting.writes { "writes" } else { "quiet" };
            let group = format!("read/{members}-member{plural}/{}/{writing}/{}", setting.role(), setting.path);
            let mut group = criterion.benchmark_group(group);
            group.sample_size(SAMPLES).sampling_mode(SamplingMode::Flat).nresamples(1_001);
            group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1));
            group.throughput(Throughput::Elements(setting.readers));
            let mut measuring: Option<Measuring> = None;
            group.bench_function(BenchmarkId::from_parameter(setting.readers), |bencher| {
                let cluster = cluster.get_or_insert_with(|| runtime.block_on(start(members)));
                let measuring = measuring.get_or_insert_with(|| runtime.block_on(Measuring::start(cluster, setting)));
                bencher.iter_custom(|rounds| runtime.block_on(measuring.sample(rounds)));
            });
            group.finish();
            if let (Some(measuring), Some(cluster)) = (measuring, &cluster) {
                // Asked once something is measured, while no reader is at work.
                let verdicts = verdicts.get_or_init(|| Verdicts::ask().unwrap_or_else(|error| panic!("{error}")));
                points.push(runtime.block_on(measuring.finish(cluster, verdicts)));
            }
        }
    }
    // Nothing was measured if the bench was only asked for its list.
    if !points.is_empty() {
        let page = ReadPaths {
            name: "read_paths".to_owned(),
            title: "Read paths, real servers".to_owned(),
            how: HOW.to_owned(),
            against: Against::Readers,
            points,
        };
        page.write(reports()).unwrap_or_else(|error| panic!("{error}"));
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = read_paths
}
criterion_main!(benches);
