//! The page of numbers for Prometheus. Names are etcd's, so that its dashboards work; what is not measured is not there.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft_rt::WatchReceiver;

use crate::api::ETCD_VERSION;
use crate::node::Node;
use crate::raft::NodeId;
use crate::read::PathCounters;
use crate::runtime::tokio::TokioRuntime;
use crate::runtime::{Clock, Runtime};

/// What the page is rendered from.
pub(super) struct Metrics {
    node: Node<TokioRuntime>,
    /// Since the Unix epoch.
    started: Duration,
    leader_changes: Arc<AtomicU64>,
}

impl Metrics {
    /// Counts from now on.
    pub(super) fn start(node: Node<TokioRuntime>, clock: &<TokioRuntime as Runtime>::Clock) -> Self {
        let leader_changes = Arc::new(AtomicU64::new(0));
        drop(<TokioRuntime as openraft::AsyncRuntime>::spawn(count_leaders(node.clone(), leader_changes.clone())));
        Metrics { node, started: clock.wall(), leader_changes }
    }

    /// The page.
    pub(super) fn render(&self) -> String {
        let status = self.node.status();
        let wal = self.node.wal_stats();
        let mut page = Page(String::new());
        page.gauge("etcd_server_has_leader", "Whether a leader is known.", u8::from(status.leader.is_some()));
        page.gauge("etcd_server_is_leader", "Whether this member leads.", u8::from(status.leads));
        let changes = self.leader_changes.load(Ordering::Relaxed);
        page.counter("etcd_server_leader_changes_seen_total", "Changes of the leader that were noticed.", changes);
        page.gauge("etcd_server_proposals_committed_total", "The committed index.", status.committed);
        page.gauge("etcd_server_proposals_applied_total", "The applied index.", status.applied);
        page.sum(
            "etcd_disk_wal_fsync_duration_seconds",
            "Syncs of the write-ahead log.",
            wal.syncs,
            wal.sync_time.as_secs_f64(),
        );
        page.counter("etcd_disk_wal_write_bytes_total", "Bytes written to the write-ahead log.", wal.bytes);
        let reads = self.node.read_counters();
        let by_path =
            |count: fn(&PathCounters) -> f64| reads.iter().map(move |(path, counts)| (path.name(), count(counts)));
        page.by_path("seedbed_reads_total", "Reads that this member served.", by_path(|it| it.reads as f64));
        page.by_path("seedbed_read_rounds_total", "Rounds that reads have shared.", by_path(|it| it.rounds as f64));
        page.by_path(
            "seedbed_read_messages_total",
            "Requests to other members that were sent for reads alone.",
            by_path(|it| it.messages as f64),
        );
        page.by_path(
            "seedbed_read_fsyncs_total",
            "Syncs of the write-ahead log that were made for reads alone.",
            by_path(|it| it.fsyncs as f64),
        );
        page.by_path(
            "seedbed_read_waited_seconds_total",
            "What reads have waited until they could read.",
            by_path(|it| it.waited.as_secs_f64()),
        );
        page.gauge("etcd_debugging_mvcc_current_revision", "The revision.", status.revision);
        page.gauge(
            "etcd_debugging_mvcc_compact_revision",
            "The revision of the last compaction.",
            self.node.store().compact_revision().max(0),
        );
        // A store that has failed has no size.
        if let Ok(size) = self.node.store().size() {
            page.gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the database's file.", size.file_bytes);
            page.gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the rows in it.", size.row_bytes);
        }
        page.labelled("etcd_server_version", "The etcd that it is compatible with.", "server_version", ETCD_VERSION);
        page.labelled("etcd_server_id", "This member.", "server_id", &format!("{:x}", self.node.id().0));
        page.gauge(
            "process_start_time_seconds",
            "When it was started, since the Unix epoch.",
            self.started.as_secs_f64(),
        );
        page.0
    }
}

async fn count_leaders(node: Node<TokioRuntime>, changes: Arc<AtomicU64>) {
    let mut metrics = node.raft().metrics();
    let mut known: Option<NodeId> = None;
    loop {
        let leader = metrics.borrow_watched().current_leader;
        // A leader that is found again after none was known is no other one.
        if leader.is_some() && leader != known {
            changes.fetch_add(1, Ordering::Relaxed);
            known = leader;
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// Prometheus' text format.
#[derive(Default)]
pub(super) struct Page(String);

impl Page {
    /// What is on it.
    pub(super) fn finish(self) -> String {
        self.0
    }

    fn head(&mut self, name: &str, help: &str, kind: &str) {
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
    }

    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl std::fmt::Display) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name} {value}"));
    }

    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.head(name, help, "counter");
        self.line(format_args!("{name} {value}"));
    }

    /// How often, and how much in all.
    fn sum(&mut self, name: &str, help: &str, count: u64, sum: f64) {
        self.head(name, help, "summary");
        self.line(format_args!("{name}_sum {sum}"));
        self.line(format_args!("{name}_count {count}"));
    }

    fn labelled(&mut self, name: &str, help: &str, label: &str, value: &str) {
        self.head(name, help, "gauge");
        self.line(format_args!("{name}{{{label}=\"{value}\"}} 1"));
    }

    fn by_path(&mut self, name: &str, help: &str, values: impl Iterator<Item = (&'static str, f64)>) {
        self.head(name, help, "counter");
        for (path, value) in values {
            self.line(format_args!("{name}{{path=\"{path}\"}} {value}"));
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        writeln!(self.0, "{line}").expect("a string takes whatever is written to it");
    }
}
