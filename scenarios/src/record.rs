//! The JSON lines: one object each. The fields are documented in the help of `--json`.

use std::collections::BTreeMap;
use std::time::Duration;

use seedbed_sim::ReadPath;
use seedbed_sim::checker::lease::LeaseCounts;
use seedbed_sim::checker::proxied::ProxiedCounts;
use seedbed_sim::checker::staleness::Staleness;
use seedbed_sim::contend::ContendCounts;
use seedbed_sim::disk::CrashDamage;
use seedbed_sim::outcome::{Operations, ReadCost, Violation};
use seedbed_sim::watch::WatchCounts;
use serde::Serialize;

use crate::sweep::Finished;

/// What `--json` prints for a run.
#[derive(Debug, Serialize)]
pub(crate) struct RunRecord<'a> {
    scenario: &'a str,
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    regression: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mutant: Option<&'a str>,
    verdict: &'static str,
    /// In hexadecimal: JSON's numbers end at 53 bits in many readers.
    trace_hash: String,
    operations: u64,
    operations_by_end: Operations,
    grpc_operations: u64,
    faults: u64,
    faults_by_family: &'a BTreeMap<&'static str, u64>,
    crashes: CrashDamage,
    reads_by_path: &'a BTreeMap<ReadPath, ReadCost>,
    staleness_by_path: &'a BTreeMap<ReadPath, Staleness>,
    watched: WatchCounts,
    leases: LeaseCounts,
    contended: ContendCounts,
    proxied: ProxiedCounts,
    virtual_ms: u64,
    heal_to_commit_ms: Option<u64>,
    wall_ms: f64,
    cpu_ms: f64,
    verified: bool,
    violations: &'a [Violation],
    #[serde(skip_serializing_if = "Option::is_none")]
    replay: Option<String>,
}

impl<'a> RunRecord<'a> {
    pub(crate) fn new(run: &'a Finished, replay: impl FnOnce() -> String) -> Self {
        let outcome = &run.outcome;
        RunRecord {
            scenario: &outcome.scenario,
            seed: outcome.seed,
            regression: run.regression,
            mutant: run.plan.mutant.as_deref(),
            verdict: if run.violated() { "violation" } else { "ok" },
            trace_hash: hash(outcome.trace_hash),
            operations: outcome.operations.total(),
            operations_by_end: outcome.operations,
            grpc_operations: outcome.grpc_operations,
            faults: outcome.faults.values().sum(),
            faults_by_family: &outcome.faults,
            crashes: outcome.crashes,
            reads_by_path: &outcome.reads,
            staleness_by_path: &outcome.staleness,
            watched: outcome.watched,
            leases: outcome.leases,
            contended: outcome.contended,
            proxied: outcome.proxied,
            virtual_ms: outcome.virtual_ms,
            heal_to_commit_ms: outcome.heal_to_commit_ms,
            wall_ms: millis(run.wall),
            cpu_ms: millis(run.cpu),
            verified: run.verified,
            violations: &outcome.violations,
            replay: run.violated().then(replay),
        }
    }
}

/// What `--json` prints for a planted bug.
#[derive(Debug, Serialize)]
pub(crate) struct MutantRecord<'a> {
    pub(crate) mutant: &'a str,
    pub(crate) killed: bool,
    /// Those who noticed, the one that looks deepest first.
    pub(crate) judges: &'a [&'static str],
    pub(crate) message: Option<&'a str>,
    pub(crate) scenario: Option<&'a str>,
    pub(crate) seed: Option<u64>,
    pub(crate) seeds: u64,
    pub(crate) cpu_ms: f64,
    pub(crate) disputed: u64,
    pub(crate) replay: Option<&'a str>,
}

/// What `--json` prints for a shrunk plan.
#[derive(Debug, Serialize)]
pub(crate) struct ShrinkRecord<'a> {
    pub(crate) scenario: &'a str,
    pub(crate) seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) mutant: Option<&'a str>,
    pub(crate) failure: String,
    pub(crate) message: Option<&'a str>,
    pub(crate) before: Size,
    pub(crate) after: Size,
    pub(crate) runs: u64,
    pub(crate) ended: &'static str,
    pub(crate) wall_ms: f64,
    pub(crate) plan: String,
    pub(crate) replay: String,
}

/// How large a plan and its run are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Size {
    pub(crate) faults: u64,
    pub(crate) operations: u64,
    /// Those that do something.
    pub(crate) clients: u64,
    pub(crate) members: u64,
    pub(crate) keys: u64,
    pub(crate) virtual_ms: u64,
}

/// A trace hash as it is printed: 16 hexadecimal digits.
pub(crate) fn hash(hash: u64) -> String {
    format!("{hash:016x}")
}

/// Milliseconds, to the microsecond.
pub(crate) fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

/// The command that runs a scenario's seed again, as it is typed in the workspace.
pub(crate) fn replay(scenario: &str, seed: u64, mutant: Option<&str>) -> String {
    replay_file(&format!("{scenario} {seed}"), mutant)
}

/// The command that runs a file's plan again.
pub(crate) fn replay_file(file: &str, mutant: Option<&str>) -> String {
    let mutant = mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
    format!("cargo run --release -- replay {file}{mutant}")
}
