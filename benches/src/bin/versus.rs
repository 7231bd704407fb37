//! The server beside etcd: the same machine, the same minute, the same clients.
//!
//! ```sh
//! cargo build --release --workspace
//! cargo run --release -p seedbed-benches --bin versus -- --etcd /usr/bin/etcd
//! ```
//!
//! Each store gets three members as child processes on loopback, with its data on the disk. The two take turns, so that
//! whatever else the machine does meets both. Clients are spread over the members, with a connection each.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use comfy_table::{CellAlignment, Table, presets};
use openraft::AsyncRuntime;
use seedbed_benches::load::{self, Ask, Caller, Until};
use seedbed_benches::median;
use seedbed_benches::servers::{Cluster, Program};
use seedbed_core::read::ReadPath;
use seedbed_core::runtime::tokio::TokioRuntime;

const MEMBERS: u64 = 3;

const FLAGS: [&str; 2] = ["--log-level", "warn"];

/// Before each measurement.
const WARM_UP: Duration = Duration::from_secs(1);

const ASKS: [(&str, Ask); 3] = [
    ("put", Ask::Put),
    ("linearizable", Ask::Read(ReadPath::ReadIndex)),
    ("serializable", Ask::Read(ReadPath::Serializable)),
];

/// Compares the server with etcd: rate, latency and processor time of puts and reads
#[derive(Debug, Parser)]
struct Flags {
    /// The program of etcd, of version 3.4 or newer
    #[arg(long, value_name = "PATH")]
    etcd: PathBuf,
    /// Clients at the same time
    #[arg(long, value_name = "NUMBER", default_value = "128", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    clients: u64,
    /// How long each measurement takes
    #[arg(long, value_name = "SECONDS", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// How often each is measured; medians are shown
    #[arg(long, value_name = "NUMBER", default_value = "3", value_parser = clap::value_parser!(u64).range(1..=100))]
    turns: u64,
}

/// One measurement.
#[derive(Clone, Copy)]
struct Measured {
    rate: f64,
    p50: Duration,
    p99: Duration,
    /// Processor time of all members for an operation.
    cpu: Duration,
    failed: u64,
}

fn main() -> ExitCode {
    let flags = Flags::parse();
    match TokioRuntime::new(2).block_on(compare(&flags)) {
        Ok(table) => {
            println!("{table}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(flags: &Flags) -> io::Result<Table> {
    let stores = [("etcd", Program::new(&flags.etcd, &FLAGS)), ("seedbed", Program::seedbed(&FLAGS)?)];
    let mut table = Table::new();
    table.load_style(presets::ASCII_MARKDOWN);
    table.set_header(["operation", "store", "operations/s", "p50", "p99", "server CPU each", "failed"]);
    for (name, ask) in ASKS {
        let mut measured = stores.each_ref().map(|_| Vec::new());
        for _ in 0..flags.turns {
            for ((_, program), measured) in stores.iter().zip(&mut measured) {
                // One store at a time: an idle one has heartbeats too.
                let cluster = Cluster::start(program, MEMBERS).await?;
                load::fill(&cluster, load::KEYS).await?;
                measured.push(measure(&cluster, flags, ask).await?);
            }
        }
        for ((store, _), measured) in stores.iter().zip(&measured) {
            table.add_row([
                name.to_owned(),
                (*store).to_owned(),
                format!("{:.0}", median(measured, |it| it.rate)),
                Millis(median(measured, |it| it.p50.as_secs_f64())).to_string(),
                Millis(median(measured, |it| it.p99.as_secs_f64())).to_string(),
                format!("{:.0} µs", median(measured, |it| it.cpu.as_secs_f64() * 1e6)),
                measured.iter().map(|it| it.failed).sum::<u64>().to_string(),
            ]);
        }
    }
    for column in table.column_iter_mut().skip(2) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    Ok(table)
}

async fn measure(cluster: &Cluster, flags: &Flags, ask: Ask) -> io::Result<Measured> {
    let callers = Caller::many(&cluster.members, flags.clients, flags.clients, ask).await?;
    load::run(&callers, Until::Passed(WARM_UP)).await;
    let before = cluster.cpu()?;
    let answered = load::run(&callers, Until::Passed(Duration::from_secs(flags.seconds))).await;
    let cpu = cluster.cpu()? - before;
    Ok(Measured {
        rate: answered.rate(),
        p50: answered.permille(500),
        p99: answered.permille(990),
        cpu: cpu.div_f64(answered.latencies.len().max(1) as f64),
        failed: answered.failed,
    })
}

/// Seconds, shown in milliseconds.
struct Millis(f64);

impl fmt::Display for Millis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0 * 1e3)
    }
}
