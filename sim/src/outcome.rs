//! What a run came to.

use std::collections::BTreeMap;

use seedbed_core::read::{PathCounters, ReadPath};
use serde::Serialize;

use crate::checker::lease::LeaseCounts;
use crate::checker::proxied::ProxiedCounts;
use crate::checker::staleness::Staleness;
use crate::contend::ContendCounts;
use crate::disk::CrashDamage;
use crate::watch::WatchCounts;

/// What a run came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    /// The plan's scenario.
    pub scenario: String,
    /// The plan's seed.
    pub seed: u64,
    /// Every guarantee that was broken; empty if the run was correct.
    pub violations: Vec<Violation>,
    /// The rolling hash over everything that happened, in order. Equal for equal plans.
    pub trace_hash: u64,
    /// Client operations by their end.
    pub operations: Operations,
    /// How many of them went by gRPC.
    pub grpc_operations: u64,
    /// Faults that took effect, by family.
    pub faults: BTreeMap<&'static str, u64>,
    /// How many crashes lost or tore something.
    pub crashes: CrashDamage,
    /// What reads cost all members, by path.
    pub reads: BTreeMap<ReadPath, ReadCost>,
    /// How many reads of each path were answered, and how many of these were stale. Whether they may be is for the judges
    /// to say.
    pub staleness: BTreeMap<ReadPath, Staleness>,
    /// What was watched.
    pub watched: WatchCounts,
    /// What was contended for.
    pub contended: ContendCounts,
    /// What became of leases.
    pub leases: LeaseCounts,
    /// What proxies have answered.
    pub proxied: ProxiedCounts,
    /// Virtual time from the first operation to the verdict.
    pub virtual_ms: u64,
    /// Virtual time from the healing of everything to the first commit of something that nobody had applied before;
    /// `None`, if there was no fault or the run did not get there.
    pub heal_to_commit_ms: Option<u64>,
}

/// What the reads of one path cost: see [`PathCounters`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the fields of PathCounters, where they are explained")]
pub struct ReadCost {
    pub reads: u64,
    pub rounds: u64,
    pub messages: u64,
    pub fsyncs: u64,
    /// In virtual microseconds, of all of them together.
    pub waited_us: u64,
}

impl From<PathCounters> for ReadCost {
    fn from(counters: PathCounters) -> Self {
        let PathCounters { reads, rounds, messages, fsyncs, waited } = counters;
        ReadCost { reads, rounds, messages, fsyncs, waited_us: waited.as_micros() as u64 }
    }
}

/// Client operations by their end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Operations {
    /// Answered.
    pub ok: u64,
    /// Refused with an error that says that nothing happened.
    pub failed: u64,
    /// Without an answer: they may have happened.
    pub unknown: u64,
}

impl Operations {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.failed + self.unknown
    }
}

/// A broken guarantee.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The judge that found it.
    pub judge: &'static str,
    /// What is wrong, with the keys, revisions and members in it.
    pub message: String,
}
