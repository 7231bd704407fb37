//! The flags, which are etcd's, and what follows from them.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::bootstrap::InitialCluster;
use super::duration;
use super::url::Url;
use crate::api::Limits;
use crate::auto_compaction::AutoCompaction;
use crate::lease::LeaseOptions;
use crate::raft::RaftOptions;
use crate::watch::WatchOptions;

/// How often what is left of leases is noted, where that is asked for, as in etcd.
const LEASE_CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

const DEFAULT_NAME: &str = "default";
const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
const DEFAULT_PEER_URL: &str = "http://localhost:2380";

/// Entries that stay in the log behind a snapshot, for followers that lag: etcd's number.
const KEPT_ENTRIES: u64 = 5000;

/// The longest election time-out, which is etcd's.
const ELECTION_MS_MAX: u64 = 50_000;

/// The least and the greatest limit of a request. A request, framed, has to fit into a message between members.
const REQUEST_BYTES_MAX: usize = 32 << 20;

const ABOUT: &str = "\
A member of an etcd-compatible key-value store. Flags, their defaults and their variables (ETCD_NAME for --name) are \
etcd's.

Flags that begin with `initial-` say who forms a new cluster. They are remembered in the data folder at the first start, \
and without effect afterwards.";

const EXAMPLES: &str = "\
Examples:
  seedbed-server                     a cluster of one, on ports 2379 (clients) and 2380 (members)

  seedbed-server --name a \\
    --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379 \\
    --listen-peer-urls http://10.0.0.1:2380 --initial-advertise-peer-urls http://10.0.0.1:2380 \\
    --initial-cluster a=http://10.0.0.1:2380,b=http://10.0.0.2:2380,c=http://10.0.0.3:2380

  seedbed-server grpc-proxy start --help   a proxy between clients and a cluster

Exit status:
  0    ended by SIGINT or SIGTERM, everything written
  1    it could not start, or its disk has failed
  2    bad flags";

#[derive(Debug, Parser)]
#[command(name = "seedbed-server", version, about = "A member of an etcd-compatible store", long_about = ABOUT, after_help = EXAMPLES)]
struct Flags {
    /// The member's name
    #[arg(long, value_name = "NAME", env = "ETCD_NAME", default_value = DEFAULT_NAME)]
    name: String,
    /// Where the member keeps its data [default: NAME.etcd]
    #[arg(long, value_name = "FOLDER", env = "ETCD_DATA_DIR")]
    data_dir: Option<PathBuf>,
    /// Where to listen for clients [default: http://localhost:2379]
    #[arg(long, value_name = "URLS", env = "ETCD_LISTEN_CLIENT_URLS")]
    listen_client_urls: Option<String>,
    /// Where clients find this member [default: http://localhost:2379]
    #[arg(long, value_name = "URLS", env = "ETCD_ADVERTISE_CLIENT_URLS")]
    advertise_client_urls: Option<String>,
    /// Where to listen for other members
    #[arg(long, value_name = "URLS", env = "ETCD_LISTEN_PEER_URLS", default_value = DEFAULT_PEER_URL)]
    listen_peer_urls: String,
    /// Where the other members find this one; they use the first
    #[arg(long, value_name = "URLS", env = "ETCD_INITIAL_ADVERTISE_PEER_URLS", default_value = DEFAULT_PEER_URL)]
    initial_advertise_peer_urls: String,
    /// The members of a new cluster, as NAME=URL,NAME=URL [default: this member alone]
    #[arg(long, value_name = "MEMBERS", env = "ETCD_INITIAL_CLUSTER")]
    initial_cluster: Option<String>,
    /// Whether the cluster is new
    #[arg(long, value_name = "STATE", env = "ETCD_INITIAL_CLUSTER_STATE", default_value = "new")]
    initial_cluster_state: ClusterState,
    /// Tells clusters with the same URLs apart
    #[arg(long, value_name = "TOKEN", env = "ETCD_INITIAL_CLUSTER_TOKEN", default_value = "etcd-cluster")]
    initial_cluster_token: String,
    /// How often a leader reminds its followers, in milliseconds
    #[arg(long, value_name = "MS", env = "ETCD_HEARTBEAT_INTERVAL", default_value = "100")]
    heartbeat_interval: u64,
    /// How long a follower waits for a leader before it campaigns, in milliseconds
    #[arg(long, value_name = "MS", env = "ETCD_ELECTION_TIMEOUT", default_value = "1000")]
    election_timeout: u64,
    /// Log entries between two snapshots
    #[arg(long, value_name = "ENTRIES", env = "ETCD_SNAPSHOT_COUNT", default_value = "10000")]
    snapshot_count: u64,
    /// Whether history is kept by time or by number of revisions
    #[arg(long, value_name = "MODE", env = "ETCD_AUTO_COMPACTION_MODE", default_value = "periodic")]
    auto_compaction_mode: CompactionMode,
    /// How much history is kept: hours or a duration such as 30m, or a number of revisions; 0 keeps everything
    #[arg(long, value_name = "KEPT", env = "ETCD_AUTO_COMPACTION_RETENTION", default_value = "0")]
    auto_compaction_retention: String,
    /// Operations that a transaction may have
    #[arg(long, value_name = "NUMBER", env = "ETCD_MAX_TXN_OPS", default_value = "128")]
    max_txn_ops: usize,
    /// Bytes that a request may have
    #[arg(long, value_name = "BYTES", env = "ETCD_MAX_REQUEST_BYTES", default_value = "1572864")]
    max_request_bytes: usize,
    /// Offer lease reads: no member's clock runs faster or slower than true time by more than so many parts in a million.
    /// This flag and --election-timeout must be the same on every member, and no machine may be suspended while its member
    /// runs: either would make lease reads stale. A restarted member then waits one election time-out before it votes
    #[arg(long, value_name = "PPM", value_parser = clap::value_parser!(u32).range(..=500_000))]
    lease_read_drift_ppm: Option<u32>,
    /// How often a watch that asked for it is told that nothing has happened, as 10m or 500ms
    #[arg(
        long,
        alias = "experimental-watch-progress-notify-interval",
        value_name = "DURATION",
        env = "ETCD_WATCH_PROGRESS_NOTIFY_INTERVAL",
        default_value = "10m"
    )]
    watch_progress_notify_interval: String,
    /// Note every five minutes what is left of long leases, so that a change of leaders does not give them their whole time
    /// again
    #[arg(
        long,
        value_name = "BOOL",
        env = "ETCD_EXPERIMENTAL_ENABLE_LEASE_CHECKPOINT",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = false,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    experimental_enable_lease_checkpoint: bool,
    /// The least severe lines that are logged
    #[arg(long, value_name = "LEVEL", env = "ETCD_LOG_LEVEL", default_value = "info")]
    log_level: LogLevel,
    /// How lines are logged
    #[arg(long, value_name = "FORMAT", env = "ETCD_LOG_FORMAT", default_value = "text")]
    log_format: LogFormat,
}

/// Whether a member forms a new cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum ClusterState {
    New,
    Existing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CompactionMode {
    Periodic,
    Revision,
}

/// The least severe lines that are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogLevel {
    Debug,
    Info,
    Warn,
    Error,
    #[value(alias = "dpanic")]
    Panic,
    Fatal,
}

/// How lines are logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum LogFormat {
    #[value(alias = "console")]
    Text,
    Json,
}

/// What the server does.
#[derive(Clone, Debug)]
pub(super) struct Options {
    pub(super) name: String,
    pub(super) lease_drift_ppm: Option<u32>,
    pub(super) data_dir: PathBuf,
    pub(super) listen_client_urls: Vec<Url>,
    pub(super) advertise_client_urls: Vec<Url>,
    pub(super) listen_peer_urls: Vec<Url>,
    pub(super) advertise_peer_urls: Vec<Url>,
    pub(super) initial_cluster: InitialCluster,
    pub(super) initial_cluster_state: ClusterState,
    pub(super) initial_cluster_token: String,
    pub(super) raft: RaftOptions,
    pub(super) auto_compaction: AutoCompaction,
    pub(super) watch: WatchOptions,
    pub(super) lease: LeaseOptions,
    pub(super) limits: Limits,
    pub(super) log_level: LogLevel,
    pub(super) log_format: LogFormat,
}

/// The command line does not tell the server to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum NotRun {
    /// It asks for this text.
    Show(String),
    /// It is wrong, for this reason: one line.
    Bad(String),
}

impl Options {
    /// Reads the command line, the program's name first.
    ///
    /// # Errors
    /// Why the server is not to run.
    pub(super) fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Options, NotRun> {
        let flags = Flags::try_parse_from(args).map_err(|error| not_run(&error))?;
        flags.check().map_err(NotRun::Bad)
    }
}

/// What clap makes of a command line that does not tell the server to run.
pub(super) fn not_run(error: &clap::Error) -> NotRun {
    let text = error.to_string();
    if error.use_stderr() { NotRun::Bad(first_line(&text)) } else { NotRun::Show(text) }
}

/// What clap says before it explains the usage.
fn first_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim);
    let first = lines.next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    // Missing or unknown names follow in lines of their own.
    let rest = lines.take_while(|line| !line.is_empty()).collect::<Vec<_>>().join(", ");
    if rest.is_empty() { first.to_owned() } else { format!("{first} {rest}") }
}

impl Flags {
    fn check(self) -> Result<Options, String> {
        if self.name.is_empty() {
            return Err("--name must not be empty".to_owned());
        }
        let urls = |flag: &str, text: &str| Url::parse_list(text).map_err(|reason| format!("--{flag}: {reason}"));
        let listen_peer_urls = urls("listen-peer-urls", &self.listen_peer_urls)?;
        let advertise_peer_urls = urls("initial-advertise-peer-urls", &self.initial_advertise_peer_urls)?;
        let listen_client_urls =
            urls("listen-client-urls", self.listen_client_urls.as_deref().unwrap_or(DEFAULT_CLIENT_URL))?;
        for (flag, urls) in [("listen-peer-urls", &listen_peer_urls), ("listen-client-urls", &listen_client_urls)] {
            urls.iter().try_for_each(Url::check_address).map_err(|reason| format!("--{flag}: {reason}"))?;
        }
        let advertise_client_urls = match (&self.advertise_client_urls, &self.listen_client_urls) {
            (Some(text), _) => urls("advertise-client-urls", text)?,
            (None, None) => urls("advertise-client-urls", DEFAULT_CLIENT_URL)?,
            (None, Some(_)) => {
                return Err(
                    "--advertise-client-urls is required when --listen-client-urls is set explicitly".to_owned()
                );
            }
        };
        let initial_cluster = match &self.initial_cluster {
            Some(text) => InitialCluster::parse(text).map_err(|reason| format!("--initial-cluster: {reason}"))?,
            None => InitialCluster(BTreeMap::from([(self.name.clone(), advertise_peer_urls.clone())])),
        };
        self.check_own_urls(&initial_cluster, &advertise_peer_urls)?;
        let raft = self.raft()?;
        let auto_compaction = self.auto_compaction()?;
        let limits = self.limits()?;
        let watch = self.watch()?;
        Ok(Options {
            data_dir: self.data_dir.unwrap_or_else(|| format!("{}.etcd", self.name).into()),
            name: self.name,
            lease_drift_ppm: self.lease_read_drift_ppm,
            listen_client_urls,
            advertise_client_urls,
            listen_peer_urls,
            advertise_peer_urls,
            initial_cluster,
            initial_cluster_state: self.initial_cluster_state,
            initial_cluster_token: self.initial_cluster_token,
            raft,
            auto_compaction,
            watch,
            lease: LeaseOptions {
                checkpoint_interval: self.experimental_enable_lease_checkpoint.then_some(LEASE_CHECKPOINT_INTERVAL),
            },
            limits,
            log_level: self.log_level,
            log_format: self.log_format,
        })
    }

    /// The member must be where the others will look for it.
    fn check_own_urls(&self, cluster: &InitialCluster, advertised: &[Url]) -> Result<(), String> {
        let Some(named) = cluster.0.get(&self.name) else {
            return Err(format!("couldn't find local name {:?} in the initial cluster configuration", self.name));
        };
        if let Some(url) = named.iter().find(|url| !advertised.contains(url)) {
            let advertised = &self.initial_advertise_peer_urls;
            return Err(format!(
                "--initial-cluster has {}={url} but missing from --initial-advertise-peer-urls={advertised}",
                self.name
            ));
        }
        match advertised.iter().find(|url| !named.contains(url)) {
            Some(url) => {
                let cluster = self.initial_cluster.as_deref().unwrap_or_default();
                Err(format!("--initial-advertise-peer-urls has {url} but missing from --initial-cluster={cluster}"))
            }
            None => Ok(()),
        }
    }

    fn raft(&self) -> Result<RaftOptions, String> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat == 0 || election == 0 {
            let flag = if heartbeat == 0 { "heartbeat-interval" } else { "election-timeout" };
            return Err(format!("--{flag} must be >0 (set to 0ms)"));
        }
        if heartbeat.saturating_mul(5) > election {
            return Err(format!(
                "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
            ));
        }
        if election > ELECTION_MS_MAX {
            return Err(format!(
                "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_MS_MAX}ms"
            ));
        }
        if self.snapshot_count == 0 {
            return Err("--snapshot-count must be at least 1".to_owned());
        }
        Ok(RaftOptions {
            heartbeat_interval: Duration::from_millis(heartbeat),
            election_timeout: Duration::from_millis(election),
            snapshot_entries: self.snapshot_count,
            keep_entries: KEPT_ENTRIES,
        })
    }

    fn watch(&self) -> Result<WatchOptions, String> {
        let text = &self.watch_progress_notify_interval;
        match duration::parse(text).filter(|interval| !interval.is_zero()) {
            Some(progress_interval) => Ok(WatchOptions {
                progress_interval,
                fragment_bytes: self.max_request_bytes,
                ..WatchOptions::default()
            }),
            None => Err(format!("--watch-progress-notify-interval {text}: not a duration, such as 10m or 500ms")),
        }
    }

    fn auto_compaction(&self) -> Result<AutoCompaction, String> {
        let text = &self.auto_compaction_retention;
        let number = text.parse::<u64>().ok();
        let mode = match self.auto_compaction_mode {
            CompactionMode::Revision => number.map(AutoCompaction::Revision),
            // A bare number is of hours.
            CompactionMode::Periodic => number
                .map_or_else(|| duration::parse(text), |hours| duration::parse(&format!("{hours}h")))
                .map(AutoCompaction::Periodic),
        };
        mode.ok_or_else(|| {
            format!("--auto-compaction-retention: {text:?} is neither a number nor a duration of this mode")
        })
    }

    fn limits(&self) -> Result<Limits, String> {
        if !(1..=REQUEST_BYTES_MAX).contains(&self.max_request_bytes) {
            return Err(format!("--max-request-bytes must be between 1 and {REQUEST_BYTES_MAX}"));
        }
        if self.max_txn_ops == 0 {
            return Err("--max-txn-ops must be at least 1".to_owned());
        }
        Ok(Limits { txn_operations: self.max_txn_ops, request_bytes: self.max_request_bytes, ..Limits::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<Options, NotRun> {
        Options::parse(std::iter::once(&"seedbed-server").chain(args).map(OsString::from))
    }

    /// The line for flags that are refused.
    fn refusal(args: &[&str]) -> String {
        match parse(args) {
            Err(NotRun::Bad(line)) if !line.is_empty() && !line.contains('\n') => line,
            other => panic!("{args:?}: {other:?}"),
        }
    }

    #[test]
    fn without_flags_it_is_what_etcd_is_without_flags() {
        let options = parse(&[]).unwrap();
        assert_eq!(options.name, "default");
        assert_eq!(options.data_dir, PathBuf::from("default.etcd"));
        assert_eq!(options.listen_client_urls, Url::parse_list("http://localhost:2379").unwrap());
        assert_eq!(options.advertise_client_urls, options.listen_client_urls);
        assert_eq!(options.listen_peer_urls, Url::parse_list("http://localhost:2380").unwrap());
        assert_eq!(options.initial_cluster, InitialCluster::parse("default=http://localhost:2380").unwrap());
        assert_eq!(options.initial_cluster_token, "etcd-cluster");
        assert_eq!(options.raft.heartbeat_interval, Duration::from_millis(100));
        assert_eq!(options.raft.election_timeout, Duration::from_millis(1000));
        assert_eq!(options.auto_compaction, AutoCompaction::Periodic(Duration::ZERO));
        assert_eq!(options.limits, Limits::default());
    }

    #[test]
    fn a_name_alone_names_the_folder_and_the_cluster() {
        let options = parse(&["--name", "a"]).unwrap();
        assert_eq!(options.data_dir, PathBuf::from("a.etcd"));
        assert_eq!(options.initial_cluster, InitialCluster::parse("a=http://localhost:2380").unwrap());
    }

    #[test]
    fn watches_are_told_of_progress_every_ten_minutes_or_as_often_as_is_said() {
        let interval = |args: &[&str]| parse(args).unwrap().watch.progress_interval;
        assert_eq!(interval(&[]), Duration::from_secs(600));
        assert_eq!(interval(&["--watch-progress-notify-interval", "500ms"]), Duration::from_millis(500));
        assert_eq!(interval(&["--experimental-watch-progress-notify-interval", "1m"]), Duration::from_secs(60));
        for bad in ["0s", "often", "-1s"] {
            let line = refusal(&[&format!("--watch-progress-notify-interval={bad}")]);
            assert_eq!(line, format!("--watch-progress-notify-interval {bad}: not a duration, such as 10m or 500ms"));
        }
    }

    #[test]
    fn history_is_kept_by_hours_durations_or_revisions() {
        let kept = |mode: &str, retention: &str| {
            let args = ["--auto-compaction-mode", mode, "--auto-compaction-retention", retention];
            parse(&args).unwrap().auto_compaction
        };
        assert_eq!(kept("periodic", "2"), AutoCompaction::Periodic(Duration::from_secs(7200)));
        assert_eq!(kept("periodic", "30m"), AutoCompaction::Periodic(Duration::from_secs(1800)));
        assert_eq!(kept("revision", "1000"), AutoCompaction::Revision(1000));
        for (mode, retention) in [("revision", "1h"), ("periodic", "1.5"), ("periodic", "soon"), ("revision", "")] {
            let args = ["--auto-compaction-mode", mode, "--auto-compaction-retention", retention];
            assert!(refusal(&args).contains("--auto-compaction-retention"));
        }
    }

    #[test]
    fn a_cluster_that_does_not_name_this_member_is_refused() {
        let cluster = "a=http://h:1,b=http://h:2";
        assert!(refusal(&["--initial-cluster", cluster]).contains("couldn't find local name \"default\""));
        let line = refusal(&["--name", "a", "--initial-cluster", cluster]);
        assert!(line.contains("--initial-cluster has a=http://h:1 but missing from --initial-advertise-peer-urls"));
        let advertised = "http://h:1,http://h:3";
        let args = ["--name", "a", "--initial-cluster", cluster, "--initial-advertise-peer-urls", advertised];
        assert!(refusal(&args).contains("--initial-advertise-peer-urls has http://h:3"));
        parse(&["--name", "a", "--initial-cluster", cluster, "--initial-advertise-peer-urls", "http://h:1"]).unwrap();
    }

    #[test]
    fn bad_flags_are_refused_with_one_line_that_names_them() {
        let cases: [&[&str]; 15] = [
            &["--lease-read-drift-ppm", "1000000"],
            &["--election-timeout", "400"],
            &["--election-timeout", "60000"],
            &["--heartbeat-interval", "0"],
            &["--heartbeat-interval", "fast"],
            &["--snapshot-count", "0"],
            &["--initial-cluster-state", "old"],
            &["--auto-compaction-mode", "never"],
            &["--listen-client-urls", "http://127.0.0.1:1"],
            &["--listen-peer-urls", "ftp://127.0.0.1:1"],
            &["--listen-peer-urls", "http://example.com:1"],
            &["--log-level", "loud"],
            &["--log-format", "xml"],
            &["--max-txn-ops", "0"],
            &["--max-request-bytes", "99999999999"],
        ];
        for args in cases {
            assert!(refusal(args).contains(args[0]), "{args:?}: {}", refusal(args));
        }
        assert!(refusal(&["--no-such-flag"]).contains("--no-such-flag"));
        assert!(refusal(&["stray"]).contains("stray"));
    }

    #[test]
    fn help_and_version_are_shown() {
        assert!(matches!(parse(&["--help"]), Err(NotRun::Show(text)) if text.contains("--initial-cluster-token")));
        assert!(matches!(parse(&["--version"]), Err(NotRun::Show(text)) if text.contains("seedbed-server")));
    }
}
