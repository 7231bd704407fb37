//! What many leases cost a member, on a real server: a child process, real sockets, real fsync.
//!
//! A hundred thousand leases are granted, and kept alive on a few streams. A round is one keep-alive of each lease of a tenth of
//! them; the time shown is that of a round, the throughput counts keep-alives.
//!
//! ```sh
//! cargo build --release --workspace
//! cargo bench -p seedbed-benches --bench leases
//! ```
//!
//! What they cost is printed and kept in `reports/out/leases.md`, for a member alone and for three: memory for each, processor
//! time while nobody keeps them, of one keep-alive of many, and of all of them kept alive every twenty seconds, as etcd's clients
//! do with a minute: a thousand clients, spread over the members, each keep a hundred, one after the other at even times. Memory is
//! the first member's, processor time all members'. Server and clients share the machine's cores.

use std::cell::RefCell;
use std::fs;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use futures_util::stream;
use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use seedbed_benches::reports;
use seedbed_benches::servers::{Cluster, Program};
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_core::proto::etcdserverpb::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use seedbed_core::runtime::tokio::TokioRuntime;
use tokio::sync::mpsc;
use tonic::Streaming;

const LEASES: i64 = 100_000;
/// Long enough that none ends while it is measured.
const TTL_S: i64 = 3_600;
const GRANTERS: i64 = 250;
const STREAMS: i64 = 16;
/// How often a lease of a minute is kept alive.
const KEPT_EVERY: Duration = Duration::from_secs(20);
/// Who keep them at even times.
const CLIENTS: i64 = 1_000;
/// As many as a connection takes, and few more.
const STREAMS_A_CONNECTION: i64 = 100;
const IDLE: Duration = Duration::from_secs(5);

/// A stream of keep-alives.
struct Keeper {
    requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
    /// The lease that is next: every so-manieth.
    next: i64,
}

impl Keeper {
    async fn new(channel: Channel, nth: i64) -> Keeper {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
        let answered = LeaseClient::new(channel).lease_keep_alive(sent).await;
        Keeper { requests, responses: answered.expect("it keeps leases alive").into_inner(), next: nth }
    }

    /// Keeps so many alive, one after the other in even parts of `time`.
    async fn keep_evenly(mut self, count: i64, time: Duration) {
        let pause = time / count as u32;
        let mut next =
            <TokioRuntime as AsyncRuntime>::Instant::now() + pause.mul_f64(self.next as f64 / CLIENTS as f64);
        for _ in 0..count {
            TokioRuntime::sleep_until(next).await;
            next += pause;
            self.requests.send(LeaseKeepAliveRequest { id: self.next % LEASES + 1 }).expect("the stream is open");
            self.next += CLIENTS;
            let kept = self.responses.message().await.expect("it answers").expect("it goes on");
            assert_eq!(kept.ttl, TTL_S, "lease {} is gone", kept.id);
        }
    }

    /// Keeps so many alive, one after the other without waiting in between.
    async fn keep(&mut self, count: i64) {
        for _ in 0..count {
            self.requests.send(LeaseKeepAliveRequest { id: self.next % LEASES + 1 }).expect("the stream is open");
            self.next += STREAMS;
        }
        for _ in 0..count {
            let kept = self.responses.message().await.expect("it answers").expect("it goes on");
            assert_eq!(kept.ttl, TTL_S, "lease {} is gone", kept.id);
        }
    }
}

struct Kept {
    cluster: Cluster,
    keepers: Vec<Keeper>,
    bytes_a_lease: f64,
    /// Of the processor, in a second without keep-alives.
    idle: f64,
    kept: u64,
    cpu_before: Duration,
}

impl Kept {
    async fn start(members: u64) -> Kept {
        let program = Program::seedbed(&["--log-level", "warn"]).unwrap_or_else(|error| panic!("{error}"));
        let cluster = Cluster::start(&program, members).await.unwrap_or_else(|error| panic!("{error}"));
        let member = &cluster.members[0];
        let before = member.memory().expect("it runs");
        let mut granters = Vec::new();
        let mut channel = member.connect().await.expect("a member takes connections");
        for nth in 0..GRANTERS {
            if nth % 100 == 99 {
                channel = member.connect().await.expect("a member takes connections");
            }
            let mut client = LeaseClient::new(channel.clone());
            granters.push(TokioRuntime::spawn(async move {
                for id in (1..=LEASES).filter(|id| id % GRANTERS == nth) {
                    client.lease_grant(LeaseGrantRequest { id, ttl: TTL_S }).await.expect("it is granted");
                }
            }));
        }
        for granter in granters {
            granter.await.expect("it does not panic");
        }
        let bytes_a_lease = member.memory().expect("it runs").saturating_sub(before) as f64 / LEASES as f64;
        let cpu_before = cluster.cpu().expect("it runs");
        TokioRuntime::sleep(IDLE).await;
        let idle = (cluster.cpu().expect("it runs") - cpu_before).as_secs_f64() / IDLE.as_secs_f64();
        let mut keepers = Vec::new();
        for nth in 0..STREAMS {
            let channel = member.connect().await.expect("a member takes connections");
            keepers.push(Keeper::new(channel, nth).await);
        }
        let cpu_before = cluster.cpu().expect("it runs");
        Kept { cluster, keepers, bytes_a_lease, idle, kept: 0, cpu_before }
    }

    async fn round(&mut self) {
        let each = LEASES / 10 / STREAMS;
        let tasks: Vec<_> = std::mem::take(&mut self.keepers)
            .into_iter()
            .map(|mut keeper| {
                TokioRuntime::spawn(async move {
                    keeper.keep(each).await;
                    keeper
                })
            })
            .collect();
        for task in tasks {
            self.keepers.push(task.await.expect("it does not panic"));
        }
        self.kept += (each * STREAMS) as u64;
    }

    /// All members' processor time a second, with each lease kept every twenty seconds.
    async fn evenly(&self) -> f64 {
        let (mut tasks, mut channel) = (Vec::new(), None);
        for nth in 0..CLIENTS {
            if nth % STREAMS_A_CONNECTION == 0 {
                let member = nth / STREAMS_A_CONNECTION % self.cluster.members.len() as i64;
                let connected = self.cluster.members[member as usize].connect().await;
                channel = Some(connected.expect("a member takes connections"));
            }
            let keeper = Keeper::new(channel.clone().expect("it was just made"), nth).await;
            tasks.push(keeper);
        }
        let cpu_before = self.cluster.cpu().expect("it runs");
        let begun = <TokioRuntime as AsyncRuntime>::Instant::now();
        let tasks: Vec<_> = tasks
            .into_iter()
            .map(|keeper| TokioRuntime::spawn(keeper.keep_evenly(LEASES / CLIENTS, KEPT_EVERY)))
            .collect();
        for task in tasks {
            task.await.expect("it does not panic");
        }
        (self.cluster.cpu().expect("it runs") - cpu_before).as_secs_f64() / begun.elapsed().as_secs_f64()
    }

    /// `each`: processor time of a keep-alive of many, if that was measured.
    fn line(&self, each: Option<f64>, evenly: f64) -> String {
        format!(
            "| {} | {LEASES} | {:.0} | {:.1} ms | {} | {:.1} ms |\n",
            self.cluster.members.len(),
            self.bytes_a_lease,
            self.idle * 1e3,
            each.map_or_else(String::new, |each| format!("{:.2} us", each * 1e6)),
            evenly * 1e3
        )
    }
}

fn leases(criterion: &mut Criterion) {
    let runtime = RefCell::new(TokioRuntime::new(2));
    let mut kept: Option<Kept> = None;
    let mut group = criterion.benchmark_group("leases");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).nresamples(1_001);
    group.warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements((LEASES / 10 / STREAMS * STREAMS) as u64));
    group.bench_function("keep-alive", |bencher| {
        let mut runtime = runtime.borrow_mut();
        let kept = kept.get_or_insert_with(|| runtime.block_on(Kept::start(1)));
        bencher.iter_custom(|rounds| {
            runtime.block_on(async {
                let begun = <TokioRuntime as AsyncRuntime>::Instant::now();
                for _ in 0..rounds {
                    kept.round().await;
                }
                begun.elapsed()
            })
        });
    });
    group.finish();
    // Nothing was measured if the bench was only asked for its list.
    let Some(kept) = kept else { return };
    let mut runtime = runtime.borrow_mut();
    let cpu = (kept.cluster.cpu().expect("it runs") - kept.cpu_before).as_secs_f64();
    let alone = kept.line(Some(cpu / kept.kept.max(1) as f64), runtime.block_on(kept.evenly()));
    drop(kept);
    let three = runtime.block_on(Kept::start(3));
    let three = three.line(None, runtime.block_on(three.evenly()));
    let head = "| members | leases | bytes of memory each | CPU a second, idle | CPU a keep-alive | CPU a second, each kept every \
                20 s |\n|---:|---:|---:|---:|---:|---:|\n";
    let page = format!("{head}{alone}{three}");
    print!("{page}");
    fs::create_dir_all(reports()).and_then(|()| fs::write(reports().join("leases.md"), page)).expect("it is written");
}

criterion_group! {
    name = benches;
    config = Criterion::default().without_plots();
    targets = leases
}
criterion_main!(benches);
