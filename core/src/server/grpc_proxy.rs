//! `grpc-proxy start`: a proxy of a cluster, with etcd's flags.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Parser, Subcommand};
use futures_util::future::{self, BoxFuture};
use http::{Method, StatusCode, Uri};
use openraft::AsyncRuntime;
use tokio::net::TcpStream;

use super::clients::{self, Front, Pages, SILENCE_MAX};
use super::metrics::Page;
use super::options::{LogFormat, LogLevel, NotRun, not_run};
use super::pages::{JSON, PROMETHEUS, no_page, page, version};
use super::shutdown::Signals;
use super::url::Url;
use super::{FINISH_MAX, Failure, carried_out, duration};
use crate::grpc::{Channel, ChannelOptions, Response};
use crate::proxy::{Connect, Proxy, ProxyOptions, Registration};
use crate::runtime::tokio::{TokioRuntime, set_up_stream};
use crate::watch::WatchOptions;
use crate::watermark::Stop;

const ABOUT: &str = "\
A proxy between clients and an etcd-compatible cluster. It answers reads that any member may answer from what it keeps, which is \
never staler than --cache-staleness; watches that many clients have alike are one watch of a member; keep-alives of one lease go \
together. All else goes to a member as it is. Flags are etcd's, where etcd has them.";

const EXAMPLES: &str = "\
Examples:
  seedbed-server grpc-proxy start --endpoints 10.0.0.1:2379,10.0.0.2:2379 --listen-addr 127.0.0.1:23790
  etcdctl --endpoints 127.0.0.1:23790 get key --consistency s

Exit status:
  0    ended by SIGINT or SIGTERM
  1    it could not start
  2    bad flags";

/// How long a member may be silent before it is asked whether it is there, and then again before another one is taken.
const MEMBER_SILENCE_MAX: Duration = Duration::from_secs(1);

/// Bytes by which a message may exceed a request: its frame, and what metadata cost.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

#[derive(Debug, Parser)]
#[command(name = "seedbed-server grpc-proxy", version, about = "A proxy of an etcd-compatible cluster")]
struct GrpcProxy {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start the proxy
    #[command(long_about = ABOUT, after_help = EXAMPLES)]
    Start(Flags),
}

#[derive(Debug, clap::Args)]
struct Flags {
    /// Where the members are, separated by commas
    #[arg(long, value_name = "ADDRESSES", default_value = "127.0.0.1:2379")]
    endpoints: String,
    /// Where to listen for clients
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:23790")]
    listen_addr: String,
    /// Where to show /metrics and /health besides, as http://host:port
    #[arg(long, value_name = "URL")]
    metrics_addr: Option<String>,
    /// Where clients find this proxy: what it is registered as, with --resolver-prefix
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:23790")]
    advertise_client_url: String,
    /// Under which keys proxies are registered; then they are what clients know as the members
    #[arg(long, value_name = "PREFIX")]
    resolver_prefix: Option<String>,
    /// For how long a proxy stays registered that is gone, in seconds
    #[arg(long, value_name = "SECONDS")]
    resolver_ttl: Option<u32>,
    /// What clients' keys lie under, unknown to them
    #[arg(long, value_name = "PREFIX", default_value = "")]
    namespace: String,
    /// Bytes that a client's message may have; 0: as many as a member takes by default
    #[arg(long, value_name = "BYTES", default_value = "0")]
    max_recv_bytes: usize,
    /// How stale an answer from what is kept may be at most, as 2s or 500ms
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    cache_staleness: String,
    /// Of how many ranges of keys answers are kept at most; 0: none are
    #[arg(long, value_name = "NUMBER", default_value = "65536")]
    cache_ranges: usize,
    /// How often a watch that asked for it is told that nothing has happened, as 10m or 500ms
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    watch_progress_notify_interval: String,
    /// The least severe lines that are logged
    #[arg(long, value_name = "LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// How lines are logged
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// What the proxy does.
struct Options {
    endpoints: Vec<Url>,
    listen: Url,
    metrics: Option<Url>,
    proxy: ProxyOptions,
    log_level: LogLevel,
    log_format: LogFormat,
}

/// Whether the command line, the program's name first, is about a proxy.
pub(super) fn is_meant(args: &[OsString]) -> bool {
    args.get(1).is_some_and(|word| word == "grpc-proxy")
}

/// Runs the proxy that the command line describes, until a signal ends it.
pub(super) fn main(args: &[OsString]) -> ExitCode {
    carried_out(Options::parse(&args[1..]), |options| (options.log_level, options.log_format), run)
}

async fn run(options: Options) -> Result<(), Failure> {
    let mut signals = Signals::listen()?;
    let mut sockets = clients::listen(std::slice::from_ref(&options.listen)).await?;
    if let Some(metrics) = &options.metrics {
        sockets.append(&mut clients::listen(std::slice::from_ref(metrics)).await?);
    }
    let proxy = Proxy::<TokioRuntime>::start(Sockets { endpoints: options.endpoints }, options.proxy);
    tracing::info!(listen = %options.listen, "started");
    let stop = Stop::default();
    let front =
        Front { services: proxy.clone(), pages: Arc::new(ProxyPages { proxy: proxy.clone() }), stop: stop.clone() };
    let serving = TokioRuntime::spawn(front.serve(sockets));
    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    signals.end_at_the_next();
    stop.stop();
    proxy.stop();
    if TokioRuntime::timeout(FINISH_MAX, serving).await.is_err() {
        tracing::warn!("requests are still under way: they are cut off");
    }
    tracing::info!("stopped");
    Ok(())
}

impl Options {
    fn parse(args: &[OsString]) -> Result<Options, NotRun> {
        let GrpcProxy { action: Action::Start(flags) } =
            GrpcProxy::try_parse_from(args).map_err(|error| not_run(&error))?;
        flags.check().map_err(NotRun::Bad)
    }
}

impl Flags {
    fn check(self) -> Result<Options, String> {
        let endpoints: Result<Vec<Url>, String> = self.endpoints.split(',').map(|one| address(one.trim())).collect();
        let endpoints = endpoints.map_err(|reason| format!("--endpoints: {reason}"))?;
        let listen = address(&self.listen_addr).map_err(|reason| format!("--listen-addr: {reason}"))?;
        let metrics = self.metrics_addr.as_deref().map(Url::parse).transpose();
        let metrics = metrics.map_err(|reason| format!("--metrics-addr: {reason}"))?;
        let spans = |flag: &str, text: &str| match duration::parse(text) {
            Some(span) if !span.is_zero() => Ok(span),
            _ => Err(format!("--{flag}: {text:?} is no time such as 2s or 500ms")),
        };
        let staleness_max = spans("cache-staleness", &self.cache_staleness)?;
        let progress_interval = spans("watch-progress-notify-interval", &self.watch_progress_notify_interval)?;
        let registration = match (self.resolver_prefix, self.resolver_ttl) {
            (Some(prefix), Some(ttl_s)) if !prefix.is_empty() && ttl_s > 0 => Some(Registration {
                prefix: prefix.into(),
                ttl_s: i64::from(ttl_s),
                address: self.advertise_client_url,
            }),
            (None, None) => None,
            _ => return Err("--resolver-prefix and --resolver-ttl go together, and neither is empty".to_owned()),
        };
        let watch = WatchOptions { progress_interval, ..WatchOptions::default() };
        let message_bytes = match self.max_recv_bytes {
            0 => watch.fragment_bytes + MESSAGE_OVERHEAD_BYTES,
            bytes => bytes,
        };
        Ok(Options {
            endpoints,
            listen,
            metrics,
            proxy: ProxyOptions {
                namespace: self.namespace.into(),
                staleness_max,
                ranges_max: self.cache_ranges,
                dial_timeout: Duration::from_secs(3),
                silence_max: MEMBER_SILENCE_MAX,
                watch,
                registration,
                message_bytes,
            },
            log_level: self.log_level,
            log_format: self.log_format,
        })
    }
}

/// `host:port`, or a URL.
fn address(text: &str) -> Result<Url, String> {
    if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) }
}

/// Members behind sockets.
struct Sockets {
    endpoints: Vec<Url>,
}

impl Connect for Sockets {
    fn endpoints(&self) -> usize {
        self.endpoints.len()
    }

    fn connect(&self, endpoint: usize) -> BoxFuture<'static, io::Result<Channel>> {
        let authority = self.endpoints[endpoint].authority();
        Box::pin(async move {
            let stream = TcpStream::connect(&authority).await?;
            set_up_stream(&stream, SILENCE_MAX)?;
            let host = authority.parse().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
            let options = ChannelOptions { silence_max: Some(MEMBER_SILENCE_MAX), ..ChannelOptions::default() };
            Channel::connect_with::<TokioRuntime>(stream, host, options).await.map_err(io::Error::other)
        })
    }
}

/// etcd's pages of a proxy.
///
/// | path | |
/// |---|---|
/// | `/health` | 200 and `{"health":"true"}` if the cluster answers a linearizable read; else 503 and why |
/// | `/proxy/health` | 200 if the proxy reaches a member |
/// | `/metrics`, `/proxy/metrics` | numbers of the proxy, for Prometheus |
/// | `/version` | the etcd that it is compatible with |
struct ProxyPages {
    proxy: Proxy<TokioRuntime>,
}

impl Pages for ProxyPages {
    fn answer(self: Arc<Self>, method: Method, uri: Uri) -> BoxFuture<'static, Response> {
        if let Some(refusal) =
            no_page(&method, uri.path(), &["/health", "/proxy/health", "/metrics", "/proxy/metrics", "/version"])
        {
            return Box::pin(future::ready(refusal));
        }
        Box::pin(async move {
            match uri.path() {
                "/health" => health(self.proxy.health(true).await),
                "/proxy/health" => health(self.proxy.health(false).await),
                "/version" => version(),
                _ => page(StatusCode::OK, PROMETHEUS, metrics(&self.proxy)),
            }
        })
    }
}

fn health(health: Result<(), tonic::Status>) -> Response {
    match health {
        Ok(()) => page(StatusCode::OK, JSON, r#"{"health":"true"}"#.to_owned()),
        Err(status) => {
            let answer = serde_json::json!({ "health": "false", "reason": status.message() });
            page(StatusCode::SERVICE_UNAVAILABLE, JSON, answer.to_string())
        }
    }
}

fn metrics(proxy: &Proxy<TokioRuntime>) -> String {
    let counts = proxy.counts();
    let mut page = Page::default();
    // Names are etcd's, where it has any.
    page.counter("etcd_grpc_proxy_cache_hits_total", "Reads answered from what is kept.", counts.hits);
    page.counter("etcd_grpc_proxy_cache_misses_total", "Reads that a member was asked for.", counts.misses);
    page.gauge("etcd_grpc_proxy_cache_keys_total", "Ranges of which answers are kept.", counts.ranges);
    page.counter("seedbed_proxy_reads_coalesced_total", "Reads that had another one's answer.", counts.coalesced);
    page.counter("seedbed_proxy_cache_hit_bytes_total", "Bytes that no member has sent.", counts.hit_bytes);
    page.counter("seedbed_proxy_probes_total", "Questions what revision the cluster is at.", counts.probes);
    page.gauge("seedbed_proxy_member_watches", "Watches that members have of this proxy.", counts.watches);
    page.gauge("etcd_grpc_proxy_watchers_coalescing_total", "Watches of clients.", counts.client_watches);
    page.counter("etcd_grpc_proxy_events_coalescing_total", "Events that members have told.", counts.events);
    page.counter("seedbed_proxy_keep_alives_total", "Keep-alives of clients.", counts.keep_alives);
    page.counter(
        "seedbed_proxy_keep_alives_sent_total",
        "Keep-alives that members were asked for.",
        counts.keep_alives_sent,
    );
    page.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, NotRun> {
        let words: Vec<OsString> = ["grpc-proxy", "start"].iter().chain(args).map(OsString::from).collect();
        Options::parse(&words)
    }

    #[test]
    fn defaults_are_etcds() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.endpoints[0].authority(), "127.0.0.1:2379");
        assert_eq!(options.listen.authority(), "127.0.0.1:23790");
        assert!(options.metrics.is_none() && options.proxy.registration.is_none());
        assert_eq!(options.proxy.staleness_max, Duration::from_secs(2));
    }

    #[test]
    fn addresses_come_with_a_scheme_and_without() {
        let options = parse(&["--endpoints", "http://10.0.0.1:1, [::1]:2", "--namespace", "ns/"]).unwrap();
        let endpoints: Vec<String> = options.endpoints.iter().map(Url::authority).collect();
        assert_eq!(endpoints, ["10.0.0.1:1", "[::1]:2"]);
        assert_eq!(options.proxy.namespace, "ns/");
    }

    #[test]
    fn bad_flags_are_refused_with_one_line_that_names_them() {
        for args in [
            &["--endpoints", "nowhere"][..],
            &["--endpoints", "https://10.0.0.1:1"],
            &["--listen-addr", "10.0.0.1"],
            &["--metrics-addr", "127.0.0.1:1"],
            &["--cache-staleness", "0s"],
            &["--cache-staleness", "soon"],
            &["--cache-ranges", "few"],
            &["--resolver-prefix", "p"],
            &["--no-such-flag"],
        ] {
            match parse(args) {
                Err(NotRun::Bad(line)) => assert!(line.contains(args[0]) && !line.contains('\n'), "{args:?}: {line}"),
                other => panic!("{args:?}: {:?}", other.map(|_| ()).err()),
            }
        }
    }
}
