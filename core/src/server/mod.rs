//! The real server: one member of a cluster on this machine's sockets, files and threads.
//!
//! ```text
//!   flags ──► Options ──► Identity ──► Node ──► Front     from the command line to the first answer
//!                         (data folder)
//!
//!   SIGTERM ──► no new requests ──► leadership handed over ──► requests under way finished ──► Node::stop ──► 0
//!   SIGTERM again, at any time ──► the process ends at once: what was acknowledged is durable anyway
//! ```

mod bootstrap;
mod clients;
mod duration;
mod grpc_proxy;
mod identity;
mod logging;
mod metrics;
mod options;
mod pages;
mod shutdown;
mod url;

use std::ffi::OsString;
use std::io;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt::Select2;

use self::clients::Front;
use self::identity::Identity;
use self::metrics::Metrics;
use self::options::{LogFormat, LogLevel, NotRun, Options};
use self::pages::MemberPages;
use self::shutdown::Signals;
use crate::members::{Attributes, Directory};
use crate::node::{Node, NodeOptions, StartError};
use crate::runtime::Host;
use crate::runtime::tokio::{TokioClock, TokioDisk, TokioRuntime, TokioTransport};
use crate::watermark::Stop;

/// How long leadership may take to be handed over, in election time-outs.
const HAND_OVER_ELECTIONS: u32 = 2;

/// How long requests under way may take to finish.
const FINISH_MAX: Duration = Duration::from_secs(5);

/// Why the server has not run to its end.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The flags, or what they say of the data folder.
    #[error("{0}")]
    Usage(String),
    /// A socket or a file.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The member.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The member has stopped by itself.
    #[error("the member has failed: {0}")]
    Member(String),
}

/// Runs the server that the command line describes, until a signal ends it.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if grpc_proxy::is_meant(&args) {
        return grpc_proxy::main(&args);
    }
    carried_out(Options::parse(args), |options| (options.log_level, options.log_format), run)
}

/// Carries out a command line that was understood, and logs as it says.
fn carried_out<T, F: Future<Output = Result<(), Failure>>>(
    understood: Result<T, NotRun>,
    logs: impl FnOnce(&T) -> (LogLevel, LogFormat),
    run: impl FnOnce(T) -> F,
) -> ExitCode {
    let options = match understood {
        Ok(options) => options,
        Err(NotRun::Show(text)) => {
            // A reader that has gone does not want to know.
            let _ = io::Write::write_all(&mut io::stdout(), text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(NotRun::Bad(line)) => return ended(Err(Failure::Usage(line))),
    };
    let (level, format) = logs(&options);
    logging::start(level, format);
    let threads = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    ended(TokioRuntime::new(threads).block_on(run(options)))
}

/// What the process says at its end. A failure is one line, whatever is logged.
fn ended(result: Result<(), Failure>) -> ExitCode {
    let Err(failure) = result else { return ExitCode::SUCCESS };
    let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("error: {failure}\n"));
    ExitCode::from(if matches!(failure, Failure::Usage(_)) { 2 } else { 1 })
}

async fn run(options: Options) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let disk = TokioDisk::open(&options.data_dir)?;
    let identity = Identity::load_or_create(&disk, &options).await?;
    let sockets = clients::listen(&options.listen_client_urls).await?;
    let transport = listen_for_peers(&options, &identity).await?;
    let host = Host { clock: TokioClock, disk, transport };
    let starting = Node::<TokioRuntime>::start(host, node_options(&options, &identity));
    let node = match TokioRuntime::select2(signals.next(), starting).await {
        Select2::First(signal) => {
            tracing::info!(signal, "stopped before it had started");
            return Ok(());
        }
        Select2::Second(started) => started?,
    };
    tracing::info!(
        name = options.name,
        member_id = format!("{:x}", identity.member_id.0),
        cluster_id = format!("{:x}", identity.cluster_id),
        data_dir = %options.data_dir.display(),
        "started"
    );

    let pages = MemberPages { kv: node.kv(), metrics: Metrics::start(node.clone(), &TokioClock) };
    let stop = Stop::default();
    let front = Front { services: node.routes(), pages: Arc::new(pages), stop: stop.clone() };
    let serving = TokioRuntime::spawn(front.serve(sockets));
    match TokioRuntime::select2(signals.next(), node.failed()).await {
        Select2::First(signal) => tracing::info!(signal, "stopping"),
        Select2::Second(failure) => return Err(Failure::Member(failure)),
    }
    signals.end_at_the_next();
    stop.stop();
    node.end_streams();
    match node.hand_over(HAND_OVER_ELECTIONS * options.raft.election_timeout).await {
        Some(leader) => tracing::info!(leader = format!("{:x}", leader.0), "another member leads"),
        None => tracing::info!("there was nobody to hand leadership over to, or nothing to hand over"),
    }
    if TokioRuntime::timeout(FINISH_MAX, serving).await.is_err() {
        tracing::warn!("requests are still under way: they are cut off");
    }
    node.stop().await?;
    tracing::info!("stopped");
    Ok(())
}

/// The port for the other members, and where they are.
async fn listen_for_peers(options: &Options, identity: &Identity) -> Result<TokioTransport, Failure> {
    let others = identity.peer_urls.iter().filter(|(member, _)| **member != identity.member_id);
    let address = |urls: &[String]| match urls.first().map(|url| url::Url::parse(url)) {
        Some(Ok(url)) => Ok(url.authority()),
        _ => Err(io::Error::new(io::ErrorKind::InvalidData, "a member of the data folder has no peer URL")),
    };
    let others = others.map(|(member, urls)| Ok((*member, address(urls)?))).collect::<io::Result<_>>()?;
    let about = |error: io::Error| io::Error::new(error.kind(), format!("peer port: {error}"));
    let (first, more) = options.listen_peer_urls.split_first().expect("a list of URLs has one at least");
    let first = clients::resolve(first).await.map_err(about)?.to_string();
    let transport =
        TokioTransport::bind(identity.member_id, identity.cluster_id, &first, others).await.map_err(about)?;
    for url in more {
        transport.listen_also(&clients::resolve(url).await.map_err(about)?.to_string()).await.map_err(about)?;
    }
    Ok(transport)
}

fn node_options(options: &Options, identity: &Identity) -> NodeOptions {
    NodeOptions {
        cluster_id: identity.cluster_id,
        node: identity.member_id,
        initial_members: identity.peer_urls.keys().copied().collect(),
        joins: false,
        raft: options.raft.clone(),
        wal: Default::default(),
        store: Default::default(),
        limits: options.limits.clone(),
        directory: Directory {
            attributes: Some(Attributes {
                name: options.name.clone(),
                client_urls: options.advertise_client_urls.iter().map(url::Url::to_string).collect(),
            }),
            peer_urls: identity.peer_urls.clone(),
        },
        auto_compaction: options.auto_compaction,
        watch: options.watch,
        lease: options.lease,
        lease_drift_ppm: options.lease_drift_ppm,
    }
}
