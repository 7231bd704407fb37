//! The summary of a sweep: a table, and what was violated.
//!
//! The page is plain Markdown, and the same for the same results: no date, no duration, no host.

use std::fmt::Write as _;
use std::path::Path;
use std::{fs, io};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use crate::coverage::Coverage;
use crate::kept::Kept;
use crate::recovery::Recovery;

/// What a sweep came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// One for each scenario, in the order they were run.
    pub rows: Vec<Row>,
    /// Every run with a violation, in the order of rows and seeds.
    pub failures: Vec<Failure>,
    /// Runs that were done a second time, to compare their trace hashes.
    pub verified: u64,
    /// Stale lease reads where some clock drifted further than was declared: counted, and no violation.
    pub stale_lease_reads: u64,
    /// Which faults took effect, and which of them together.
    pub coverage: Coverage,
    /// How long it took to commit something again.
    pub recovery: Recovery,
    /// What proxies have answered themselves.
    pub kept: Kept,
    /// Whether the sweep was ended before its last seed.
    pub interrupted: bool,
}

/// One scenario.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its name.
    pub scenario: String,
    /// Runs.
    pub seeds: u64,
    /// Client operations.
    pub operations: u64,
    /// Faults that took effect.
    pub faults: u64,
    /// Virtual time.
    pub virtual_ms: u64,
    /// Runs with a violation.
    pub violated: u64,
}

/// A run with a violation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Failure {
    /// The scenario.
    pub scenario: String,
    /// The seed.
    pub seed: u64,
    /// Judge and message of each violation.
    pub violations: Vec<(String, String)>,
    /// The command that replays it.
    pub replay: String,
    /// The plan, as JSON.
    pub plan: String,
}

impl Failure {
    /// The name of the file with its plan.
    pub fn plan_file(&self) -> String {
        // A plan that was read from a file may call its scenario anything: a name must not leave the folder.
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
        format!("{PLANS}/{}-{}.json", self.scenario.chars().map(plain).collect::<String>(), self.seed)
    }
}

/// The folder of the plans of failures.
const PLANS: &str = "plans";

impl Summary {
    /// One line: how many runs, how many with a violation.
    pub fn verdict(&self) -> String {
        let runs = self.rows.iter().map(|row| row.seeds).sum::<u64>();
        let violated = self.failures.len();
        let stale = match self.stale_lease_reads {
            0 => String::new(),
            stale => format!("; {stale} lease reads stale, where clocks drift further than was declared"),
        };
        let ended = if self.interrupted { "; interrupted before the last seed" } else { "" };
        let verified = self.verified;
        format!("{runs} runs, {violated} with a violation; {verified} run twice to compare trace hashes{stale}{ended}")
    }

    /// The table for a terminal.
    pub fn table(&self) -> String {
        self.rendered(presets::UTF8_BORDERS_ONLY)
    }

    /// What was tried, in a few lines.
    pub fn tried(&self) -> String {
        self.coverage.lines() + &self.recovery.line() + &self.kept.line()
    }

    /// The whole page.
    pub fn markdown(&self) -> String {
        let mut page = format!("# Summary\n\n{}.\n\n{}\n", self.verdict(), self.rendered(presets::ASCII_MARKDOWN));
        if self.rows.iter().any(|row| row.faults > 0) {
            let tried = self.tried().replace('\n', "\n\n");
            let _ = write!(page, "\n## What was tried\n\n{tried}{}\n", self.coverage.markdown());
        }
        for failure in &self.failures {
            let Failure { scenario, seed, replay, .. } = failure;
            let _ = write!(page, "\n## {scenario}, seed {seed}\n\n");
            for (judge, message) in &failure.violations {
                let _ = writeln!(page, "- `{judge}`: {}", message.replace('\n', "\n  "));
            }
            let _ = write!(page, "\n    {replay}\n\nIts plan: [{0}]({0})\n", failure.plan_file());
        }
        page
    }

    /// Writes `summary.md`, and the plans of the failures into `plans/`, in a folder, which is made if it is not there.
    /// Plans of an earlier sweep go.
    pub fn write(&self, folder: &Path) -> io::Result<()> {
        let named =
            |path: &Path, error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        fs::create_dir_all(folder).map_err(|error| named(folder, error))?;
        let plans = folder.join(PLANS);
        match fs::remove_dir_all(&plans) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(named(&plans, error)),
            _ => {}
        }
        fs::create_dir_all(&plans).map_err(|error| named(&plans, error))?;
        let write = |name: &str, text: &str| {
            let path = folder.join(name);
            fs::write(&path, text).map_err(|error| named(&path, error))
        };
        for failure in &self.failures {
            write(&failure.plan_file(), &failure.plan)?;
        }
        write("summary.md", &self.markdown())
    }

    fn rendered(&self, style: comfy_table::TableStyle) -> String {
        let mut table = Table::new();
        table.load_style(style);
        table.set_header(["scenario", "seeds", "operations", "faults", "virtual time", "verdict"]);
        for row in &self.rows {
            table.add_row([
                row.scenario.clone(),
                row.seeds.to_string(),
                row.operations.to_string(),
                row.faults.to_string(),
                format!("{}.{} s", row.virtual_ms / 1000, row.virtual_ms % 1000 / 100),
                if row.violated == 0 { "ok".to_owned() } else { format!("{} violated", row.violated) },
            ]);
        }
        for column in table.column_iter_mut().skip(1).take(4) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary() -> Summary {
        Summary {
            rows: vec![
                Row { scenario: "calm".into(), seeds: 3, operations: 1200, faults: 0, virtual_ms: 30_950, violated: 0 },
                Row { scenario: "gale".into(), seeds: 3, operations: 900, faults: 17, virtual_ms: 9, violated: 1 },
            ],
            failures: vec![Failure {
                scenario: "gale".into(),
                seed: 7,
                violations: vec![("durability".into(), "put of k3 at revision 12 is lost".into())],
                replay: "cargo run --release -- replay gale 7".into(),
                plan: "{}\n".into(),
            }],
            verified: 1,
            stale_lease_reads: 0,
            coverage: Coverage::default(),
            recovery: Recovery::default(),
            kept: Kept::default(),
            interrupted: false,
        }
    }

    #[test]
    fn the_page_has_a_row_for_each_scenario_and_the_command_for_each_failure() {
        let page = summary().markdown();
        assert!(page.contains("6 runs, 1 with a violation"), "{page}");
        let row = page.lines().find(|line| line.contains("calm")).expect("a row");
        assert!(row.contains("1200") && row.contains("30.9 s") && row.contains("ok"), "{row}");
        assert!(page.lines().any(|line| line.contains("gale") && line.contains("1 violated")), "{page}");
        assert!(page.contains("    cargo run --release -- replay gale 7\n"), "{page}");
        assert!(page.contains("`durability`: put of k3 at revision 12 is lost"), "{page}");
        assert!(!page.contains("interrupted"));
        assert!(!page.contains("stale"));
        assert!(Summary { stale_lease_reads: 9, ..summary() }.markdown().contains("9 lease reads stale"));
        assert!(Summary { interrupted: true, ..summary() }.markdown().contains("interrupted"));
    }

    #[test]
    fn the_page_and_the_plans_are_written_to_a_new_folder() {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let out = folder.path().join("reports/out");
        summary().write(&out).expect("written");
        assert_eq!(fs::read_to_string(out.join("summary.md")).expect("the page"), summary().markdown());
        assert_eq!(fs::read_to_string(out.join("plans/gale-7.json")).expect("the plan"), "{}\n");
    }

    #[test]
    fn a_folder_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        let error = summary().write(&file.path().join("out")).expect_err("a file is no folder");
        assert!(error.to_string().contains("/out: "), "{error}");
    }

    #[test]
    fn the_name_of_a_plan_stays_in_its_folder() {
        let failure = Failure { scenario: "../../etc/x".into(), ..summary().failures.remove(0) };
        assert_eq!(failure.plan_file(), "plans/______etc_x-7.json");
    }
}
