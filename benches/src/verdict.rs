//! What the answers of a read path are worth while things go wrong: asked of the testbed, not asserted.

use std::collections::BTreeMap;
use std::io;
use std::process::Command;

use seedbed_core::read::ReadPath;
use serde::Deserialize;

use crate::servers::beside;

/// Enough for thousands of reads by each path, in a few seconds.
const SEEDS: &str = "0..24";

/// Every path, under pause, partition, crash, drift and fsync stall.
const SCENARIO: &str = "read-paths";

/// Clocks that drift further than was declared for leases.
const HAZARD: &str = "lease-hazard";

/// What became of the reads by each path under fault.
#[derive(Debug)]
pub struct Verdicts {
    runs: BTreeMap<(String, ReadPath), Seen>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    answered: u64,
    stale: u64,
    /// Runs in which some guarantee was broken.
    violated: u64,
}

/// The fields of a run that are of use here: see `seedbed run --help`.
#[derive(Deserialize)]
struct Run {
    scenario: String,
    verdict: String,
    staleness_by_path: BTreeMap<ReadPath, Staleness>,
}

#[derive(Deserialize)]
struct Staleness {
    answered: u64,
    stale: u64,
}

impl Verdicts {
    /// Runs the scenarios, in a process of its own: benches of the real runtime must not link the simulator.
    ///
    /// # Errors
    /// The simulator is not built, or cannot be understood.
    pub fn ask() -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let mut command = Command::new(beside("seedbed")?);
        command.args(["run", SCENARIO, HAZARD, "--seeds", SEEDS, "--json", "--out"]).arg(folder.path());
        let output = command.output()?;
        // Otherwise it has not come to its end: 1 says that a guarantee was broken.
        if !matches!(output.status.code(), Some(0 | 1)) {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(io::Error::other(format!("the simulator ended with {}: {said}", output.status)));
        }
        let mut runs: BTreeMap<(String, ReadPath), Seen> = BTreeMap::new();
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let run: Run = serde_json::from_str(line)?;
            for (path, staleness) in run.staleness_by_path {
                let seen = runs.entry((run.scenario.clone(), path)).or_default();
                seen.answered += staleness.answered;
                seen.stale += staleness.stale;
                seen.violated += u64::from(run.verdict != "ok");
            }
        }
        Ok(Verdicts { runs })
    }

    /// In a few words, for a table.
    pub fn of(&self, path: ReadPath) -> String {
        let Seen { answered, stale, violated } = self.seen(SCENARIO, path);
        let verdict = match (path, violated, stale) {
            (_, 1.., _) => "NOT AS PROMISED",
            (ReadPath::Serializable, ..) => "not linearizable",
            (_, 0, 0) => "linearizable",
            (_, 0, _) => "NOT AS PROMISED",
        };
        let beyond = match path {
            ReadPath::Lease => {
                let Seen { answered, stale, .. } = self.seen(HAZARD, path);
                format!("; beyond the declared drift {stale} of {answered} stale")
            }
            _ => String::new(),
        };
        format!("{verdict}: {stale} of {answered} stale{beyond}")
    }

    fn seen(&self, scenario: &str, path: ReadPath) -> Seen {
        self.runs.get(&(scenario.to_owned(), path)).copied().unwrap_or_default()
    }
}
