//! The proxy beside etcd's: the same machine, the same minute, the same clients.
//!
//! ```sh
//! cargo build --release --workspace
//! cargo run --release -p seedbed-benches --bin proxies -- --etcd /usr/bin/etcd
//! ```
//!
//! | measurement | |
//! |---|---|
//! | `hit` | clients read one key through the proxy, which has the answer |
//! | `spread` | clients read any of 10,000 keys, of one member and through the proxy; every key has been read once before |
//! | `watchers` | 1,000 watches of one key, spread over the members and through the proxy, while the key is put at a steady pace |
//!
//! Reads are serializable: those that a proxy may answer. Each store gets three members and a proxy as child processes on
//! loopback, with flags at their defaults; a proxy runs only while it is asked. Stores take turns, and so do the two ways of one
//! store: who was first in one turn is last in the next. Every watch must be told of every put, once and in order; else the
//! program fails.

use std::fmt;
use std::io;
use std::ops::{Div, Sub};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use seedbed_benches::load::{self, Ask, Caller, Keys, Until, VALUE_BYTES};
use seedbed_benches::median;
use seedbed_benches::servers::{Cluster, Program, Server};
use seedbed_benches::watchers::{self, Told};
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::PutRequest;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::read::ReadPath;
use seedbed_core::runtime::tokio::TokioRuntime;

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

const MEMBERS: u64 = 3;

/// The store whose proxy has targets.
const OWN: &str = "seedbed";

const FLAGS: [&str; 2] = ["--log-level", "warn"];

/// Before each measurement.
const WARM_UP: Duration = Duration::from_secs(1);

/// Keys of which any is read.
const KEYS: u64 = 10_000;

const WATCHES: u64 = 1_000;

/// As many on each member.
const WATCH_CONNECTIONS: u64 = 48;

const WATCHED: Bytes = Bytes::from_static(b"watched");

/// How long watches may take to be there, or to be told of what has been put.
const PATIENCE: Duration = Duration::from_secs(30);

/// Compares the proxy with etcd's: what a read and a watched put cost through it, and without it
#[derive(Debug, Parser)]
struct Flags {
    /// The program of etcd, of version 3.4 or newer; without it, there is nothing beside the proxy
    #[arg(long, value_name = "PATH")]
    etcd: Option<PathBuf>,
    /// Clients that read at the same time, with a connection each
    #[arg(long, value_name = "NUMBER", default_value = "512", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// Streams that the watches are spread over; these share a few connections
    #[arg(long, value_name = "NUMBER", default_value_t = WATCHES, value_parser = clap::value_parser!(u64).range(1..=WATCHES))]
    streams: u64,
    /// Puts a second of the key that is watched
    #[arg(long, value_name = "NUMBER", default_value = "50", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    puts: u32,
    /// How long each measurement takes
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each is measured; medians are shown, and all of it
    #[arg(long, value_name = "NUMBER", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=100))]
    turns: u64,
    /// What is measured; everything, if it is not said
    #[arg(long, value_name = "MEASUREMENT")]
    only: Option<Measurement>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Measurement {
    /// Reads of one key
    Hit,
    /// Reads of many keys
    Spread,
    /// Watches of one key
    Watchers,
}

/// Whom clients ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    Proxy,
}

/// The same, by each way.
struct Both<T> {
    direct: T,
    proxy: T,
}

/// Reads by one way.
struct Reads {
    rate: f64,
    p50: Duration,
    p99: Duration,
    /// Processor time for a read.
    cpu: Cpu,
    /// Reads that members have served, for one of a client.
    asked: f64,
    failed: u64,
}

/// Puts of a key that is watched by one way.
struct Puts {
    rate: f64,
    /// Processor time for a put.
    cpu: Cpu,
}

/// Processor time.
#[derive(Clone, Copy)]
struct Cpu {
    /// Of all members.
    members: Duration,
    /// Of the proxy, if there is one.
    proxy: Duration,
}

/// What was measured of a store, turn by turn.
struct Store<T> {
    name: &'static str,
    turns: Vec<T>,
}

/// A number of a turn, as it is shown.
struct Number<T> {
    name: &'static str,
    of: fn(&T) -> f64,
    decimals: usize,
}

/// What a ratio is to be.
#[derive(Clone, Copy)]
enum Target {
    AtMost(f64),
    AtLeast(f64),
    Below(f64),
}

/// A cluster, and its proxy if that is asked.
struct Setting {
    /// Before the cluster, so that it ends first.
    proxy: Option<Server>,
    cluster: Cluster,
}

/// A setting with all watches.
struct Watched {
    setting: Setting,
    kv: KvClient<Channel>,
    told: Arc<Told>,
    /// Of which every watch has been told.
    puts: u64,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match TokioRuntime::new(2).block_on(compare(&flags)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Shows each measurement once it is there: a later one may fail.
async fn compare(flags: &Flags) -> io::Result<()> {
    let mut stores = Vec::new();
    stores.extend(flags.etcd.as_ref().map(|path| ("etcd", Program::new(path, &FLAGS))));
    stores.push((OWN, Program::seedbed(&FLAGS)?));
    let wanted = |measurement| flags.only.is_none_or(|only| only == measurement);
    if wanted(Measurement::Hit) {
        show_hits(&turns(&stores, flags, async |program, _| reads(program, Way::Proxy, 1, flags).await).await?);
    }
    if wanted(Measurement::Spread) {
        let measure =
            async |program: &Program, turn| both(turn, async |way| reads(program, way, KEYS, flags).await).await;
        show_spread(&turns(&stores, flags, measure).await?);
    }
    if wanted(Measurement::Watchers) {
        let measure = async |program: &Program, turn| both(turn, async |way| puts(program, way, flags).await).await;
        show_watchers(&turns(&stores, flags, measure).await?);
    }
    Ok(())
}

/// Measures all stores so often, one at a time: an idle one has heartbeats too.
async fn turns<T>(
    stores: &[(&'static str, Program)],
    flags: &Flags,
    measure: impl AsyncFn(&Program, u64) -> io::Result<T>,
) -> io::Result<Vec<Store<T>>> {
    let mut measured: Vec<Store<T>> = stores.iter().map(|(name, _)| Store { name, turns: Vec::new() }).collect();
    for turn in 0..flags.turns {
        let mut order: Vec<usize> = (0..stores.len()).collect();
        if turn % 2 == 1 {
            order.reverse();
        }
        for place in order {
            let (name, program) = &stores[place];
            let it = measure(program, turn).await;
            measured[place].turns.push(it.map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?);
        }
    }
    Ok(measured)
}

async fn both<T>(turn: u64, measure: impl AsyncFn(Way) -> io::Result<T>) -> io::Result<Both<T>> {
    if turn.is_multiple_of(2) {
        let direct = measure(Way::Direct).await?;
        Ok(Both { direct, proxy: measure(Way::Proxy).await? })
    } else {
        let proxy = measure(Way::Proxy).await?;
        Ok(Both { direct: measure(Way::Direct).await?, proxy })
    }
}

impl Setting {
    async fn start(program: &Program, way: Way) -> io::Result<Setting> {
        let cluster = Cluster::start(program, MEMBERS).await?;
        let proxy = match way {
            Way::Direct => None,
            Way::Proxy => Some(cluster.proxy().await?),
        };
        Ok(Setting { proxy, cluster })
    }

    /// Whom clients connect to.
    fn asked(&self) -> &[Server] {
        self.proxy.as_ref().map_or(&self.cluster.members, std::slice::from_ref)
    }

    fn cpu(&self) -> io::Result<Cpu> {
        let proxy = self.proxy.as_ref().map_or(Ok(Duration::ZERO), Server::cpu)?;
        Ok(Cpu { members: self.cluster.cpu()?, proxy })
    }

    /// Reads that members have served, by whichever store's name for them.
    async fn reads(&self) -> io::Result<f64> {
        const ETCD: &str = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"Range\",\
            grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"}";
        let mut reads = 0.0;
        for member in &self.cluster.members {
            let metrics = member.metrics().await?;
            let by_path = ReadPath::ALL.map(|path| metrics.get(&format!("seedbed_reads_total{{path=\"{path}\"}}")));
            reads += metrics.get(ETCD) + by_path.iter().sum::<f64>();
        }
        Ok(reads)
    }
}

/// Serializable reads of any of so many keys, through the proxy or of one member.
async fn reads(program: &Program, way: Way, keys: u64, flags: &Flags) -> io::Result<Reads> {
    let setting = Setting::start(program, way).await?;
    load::fill(&setting.cluster, keys).await?;
    let asked = &setting.asked()[..1];
    let callers = Caller::many(asked, flags.clients, flags.clients, Ask::Read(ReadPath::Serializable)).await?;
    let among = |keys| callers.iter().map(|caller| caller.among(keys)).collect::<Vec<_>>();
    let (in_turn, drawn) = (among(Keys::InTurn(keys)), among(Keys::Drawn(keys)));
    let each_once = load::run(&in_turn, Until::Rounds(keys.div_ceil(flags.clients))).await;
    if each_once.failed > 0 {
        return Err(io::Error::other(format!("{} of the first reads have failed", each_once.failed)));
    }
    load::run(&in_turn, Until::Passed(WARM_UP)).await;
    let reads_before = setting.reads().await?;
    let cpu_before = setting.cpu()?;
    let answered = load::run(&drawn, Until::Passed(Duration::from_secs(flags.seconds))).await;
    let cpu = setting.cpu()? - cpu_before;
    let reads = setting.reads().await? - reads_before;
    let count = answered.latencies.len().max(1) as f64;
    Ok(Reads {
        rate: answered.rate(),
        p50: answered.permille(500),
        p99: answered.permille(990),
        cpu: cpu / count,
        asked: reads / count,
        failed: answered.failed,
    })
}

/// Puts of a key that has all watches, through the proxy or spread over the members.
async fn puts(program: &Program, way: Way, flags: &Flags) -> io::Result<Puts> {
    let mut watched = Watched::start(program, way, flags.streams).await?;
    watched.put(flags.puts, u64::from(flags.puts)).await?;
    let count = flags.seconds * u64::from(flags.puts);
    let before = watched.setting.cpu()?;
    let took = watched.put(flags.puts, count).await?;
    let cpu = watched.setting.cpu()? - before;
    Ok(Puts { rate: count as f64 / took.as_secs_f64(), cpu: cpu / count as f64 })
}

impl Watched {
    async fn start(program: &Program, way: Way, streams: u64) -> io::Result<Watched> {
        let mut setting = Setting::start(program, way).await?;
        let leader = setting.cluster.leader().await?;
        let kv = KvClient::new(setting.cluster.members[leader].connect().await?);
        let told = Arc::new(Told::default());
        let mut channels = Vec::new();
        for server in setting.asked().iter().cycle().take(WATCH_CONNECTIONS.min(streams) as usize) {
            channels.push(server.connect().await?);
        }
        for (nth, channel) in (0..streams).zip(channels.iter().cycle()) {
            let watches = (0..WATCHES).filter(|watch| watch % streams == nth);
            let keys = watches.map(|_| WATCHED).collect();
            drop(TokioRuntime::spawn(watchers::listen(channel.clone(), keys, told.clone())));
        }
        in_time("watches", &told, &told.created, WATCHES).await?;
        Ok(Watched { setting, kv, told, puts: 0 })
    }

    /// Puts so often, at this pace, and waits until every watch has been told of all of it. How long the puts took.
    async fn put(&mut self, a_second: u32, count: u64) -> io::Result<Duration> {
        let begun = Instant::now();
        let mut next = begun;
        for _ in 0..count {
            TokioRuntime::sleep_until(next).await;
            let put = PutRequest { key: WATCHED, value: vec![b'v'; VALUE_BYTES].into(), ..PutRequest::default() };
            let put = self.kv.put(put).await;
            put.map_err(|status| io::Error::other(format!("a put has failed: {}", status.message())))?;
            // Whoever is late does not catch up.
            next = std::cmp::max(next + Duration::from_secs(1) / a_second, Instant::now());
        }
        // What was put last has its time too.
        TokioRuntime::sleep_until(next).await;
        let took = begun.elapsed();
        self.puts += count;
        in_time("events", &self.told, &self.told.events, self.puts * WATCHES).await?;
        Ok(took)
    }
}

async fn in_time(what: &str, told: &Told, count: &AtomicU64, wanted: u64) -> io::Result<()> {
    TokioRuntime::timeout(PATIENCE, told.until(count, wanted)).await.unwrap_or_else(|_| {
        let there = count.load(Ordering::Acquire);
        let late = format!("after {PATIENCE:?}, there are {there} {what} of {wanted}");
        Err(io::Error::new(io::ErrorKind::TimedOut, late))
    })
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, before: Cpu) -> Cpu {
        Cpu { members: self.members - before.members, proxy: self.proxy - before.proxy }
    }
}

impl Div<f64> for Cpu {
    type Output = Cpu;

    fn div(self, count: f64) -> Cpu {
        Cpu { members: self.members.div_f64(count), proxy: self.proxy.div_f64(count) }
    }
}

fn show_hits(stores: &[Store<Reads>]) {
    let numbers = [
        number("reads/s", |it: &Reads| it.rate, 0),
        number("p50, ms", |it| millis(it.p50), 1),
        number("p99, ms", |it| millis(it.p99), 1),
        number("CPU of the proxy a read, µs", |it| micros(it.cpu.proxy), 2),
        number("CPU of the members a read, µs", |it| micros(it.cpu.members), 2),
        number("reads of members for 1000", |it| it.asked * 1e3, 1),
        number("failed", |it| it.failed as f64, 0),
    ];
    let mut verdicts = Vec::new();
    if let [etcd, seedbed] = stores {
        let turns = seedbed.turns.iter().zip(&etcd.turns);
        let ratios = turns.map(|(own, other)| own.cpu.proxy.div_duration_f64(other.cpu.proxy)).collect();
        verdicts.push(verdict("CPU of the proxy a read, of that of etcd's", ratios, Some(Target::AtMost(0.5))));
    }
    show("hit", stores, &numbers, &verdicts);
}

fn show_spread(stores: &[Store<Both<Reads>>]) {
    let numbers = [
        number("reads/s of a member", |it: &Both<Reads>| it.direct.rate, 0),
        number("reads/s by proxy", |it| it.proxy.rate, 0),
        number("p50 of a member, ms", |it| millis(it.direct.p50), 1),
        number("p50 by proxy, ms", |it| millis(it.proxy.p50), 1),
        number("p99 of a member, ms", |it| millis(it.direct.p99), 1),
        number("p99 by proxy, ms", |it| millis(it.proxy.p99), 1),
        number("CPU of the members a read of a member, µs", |it| micros(it.direct.cpu.members), 2),
        number("CPU of the members a read by proxy, µs", |it| micros(it.proxy.cpu.members), 2),
        number("CPU of the proxy a read, µs", |it| micros(it.proxy.cpu.proxy), 2),
        number("reads of members for 1000 by proxy", |it| it.proxy.asked * 1e3, 1),
        number("failed", |it| (it.direct.failed + it.proxy.failed) as f64, 0),
    ];
    let by_store = |store: &Store<Both<Reads>>| {
        let ratios = store.turns.iter().map(|it| it.proxy.rate / it.direct.rate).collect();
        let what = format!("reads/s of {} by proxy, of those of a member", store.name);
        verdict(&what, ratios, (store.name == OWN).then_some(Target::AtLeast(1.0)))
    };
    show("spread", stores, &numbers, &stores.iter().map(by_store).collect::<Vec<_>>());
}

fn show_watchers(stores: &[Store<Both<Puts>>]) {
    let numbers = [
        number("CPU a put without proxy, ms", |it: &Both<Puts>| millis(it.direct.cpu.members), 2),
        number("CPU a put by proxy, ms", |it| millis(it.proxy.cpu.members + it.proxy.cpu.proxy), 2),
        number("of it the members', ms", |it| millis(it.proxy.cpu.members), 2),
        number("of it the proxy's, ms", |it| millis(it.proxy.cpu.proxy), 2),
        number("puts/s without proxy", |it| it.direct.rate, 1),
        number("puts/s by proxy", |it| it.proxy.rate, 1),
    ];
    let by_store = |store: &Store<Both<Puts>>| {
        let all = |cpu: Cpu| cpu.members + cpu.proxy;
        let ratio = |it: &Both<Puts>| all(it.proxy.cpu).div_duration_f64(all(it.direct.cpu));
        let what = format!("CPU of {} and its proxy a put, of that without proxy", store.name);
        let target = (store.name == OWN).then_some(Target::Below(1.0));
        verdict(&what, store.turns.iter().map(ratio).collect(), target)
    };
    show("watchers", stores, &numbers, &stores.iter().map(by_store).collect::<Vec<_>>());
}

fn number<T>(name: &'static str, of: fn(&T) -> f64, decimals: usize) -> Number<T> {
    Number { name, of, decimals }
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn show<T>(measurement: &str, stores: &[Store<T>], numbers: &[Number<T>], verdicts: &[String]) {
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header([measurement, "store", "median", "turns"]);
    for Number { name, of, decimals } in numbers {
        for store in stores {
            let turns: Vec<String> = store.turns.iter().map(|it| format!("{:.decimals$}", of(it))).collect();
            let median = format!("{:.decimals$}", median(&store.turns, of));
            table.add_row([(*name).to_owned(), store.name.to_owned(), median, turns.join(" ")]);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    println!("{table}\n");
    for verdict in verdicts {
        println!("{measurement}: {verdict}\n");
    }
}

/// The median of what the turns came to, and whether that is what it is to be.
fn verdict(what: &str, ratios: Vec<f64>, target: Option<Target>) -> String {
    let middle = median(&ratios, |ratio| *ratio);
    let turns: Vec<String> = ratios.iter().map(|ratio| format!("{ratio:.2}")).collect();
    let judged = target.map(|target| format!("; {target}: {}", if target.met(middle) { "met" } else { "MISSED" }));
    format!("{what}: {middle:.2} ({}){}", turns.join(" "), judged.unwrap_or_default())
}

impl Target {
    fn met(self, ratio: f64) -> bool {
        match self {
            Target::AtMost(most) => ratio <= most,
            Target::AtLeast(least) => ratio >= least,
            Target::Below(limit) => ratio < limit,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::AtMost(most) => write!(f, "at most {most} is wanted"),
            Target::AtLeast(least) => write!(f, "at least {least} is wanted"),
            Target::Below(limit) => write!(f, "below {limit} is wanted"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_met_up_to_its_bound_and_by_no_ratio_that_is_none() {
        assert!(Target::AtMost(0.5).met(0.5) && !Target::AtMost(0.5).met(0.51));
        assert!(Target::AtLeast(1.0).met(1.0) && !Target::AtLeast(1.0).met(0.99));
        assert!(Target::Below(1.0).met(0.99) && !Target::Below(1.0).met(1.0));
        // Nothing was measured that could be compared.
        assert!([Target::AtMost(0.5), Target::AtLeast(1.0), Target::Below(1.0)].iter().all(|it| !it.met(f64::NAN)));
    }
}
