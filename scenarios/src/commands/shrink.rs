//! `shrink`: a plan that fails, made as small as it can be and still fail.
//!
//! What is taken out, and in which order, is the simulator's affair ([`smallest`]). Here candidates are run, side by
//! side, and held against the original's failure. The first that fails in their order counts, so that the result
//! depends neither on the number of threads nor on their speed.

use std::cell::RefCell;
use std::collections::{BTreeSet, VecDeque};
use std::fs;
use std::io::{self, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use comfy_table::{CellAlignment, Table, presets};
use seedbed_sim::outcome::Outcome;
use seedbed_sim::plan::{Plan, Step};
use seedbed_sim::run::Options;
use seedbed_sim::shrink::fingerprint::Fingerprint;
use seedbed_sim::shrink::plan::{Candidate, Laboratory, smallest};
use seedbed_sim::workload::Steps;

use crate::attempt::{self, Runner, now};
use crate::cli::ShrinkArgs;
use crate::commit;
use crate::exit::{Exit, Failure};
use crate::output::note;
use crate::progress::Progress;
use crate::record::{self, ShrinkRecord, Size};
use crate::sweep::{Finished, Job, sweep};

/// Runs after which the search ends, unless it is told otherwise.
pub(crate) const BUDGET: u64 = 3000;

/// Where shrunk plans go, unless it is told otherwise.
const FOLDER: &str = "reports/out";

pub(crate) fn shrink(
    args: &ShrinkArgs,
    runner: Runner,
    stop: &AtomicBool,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let began = now();
    let plan = args.plan.read()?;
    if let Some(warning) = commit::warning(&plan) {
        note(&warning);
    }
    let before = attempt::run(runner, &plan, Options::default())?.outcome;
    let Some(violation) = before.violations.first() else {
        let bug = if plan.mutant.is_some() { ", even with its planted bug" } else { "" };
        return Err(Failure::Usage(format!(
            "{} seed {} breaks no guarantee{bug}: there is nothing to shrink",
            plan.scenario, plan.seed
        )));
    };
    if plan.mutant.is_some() && !clean_without_bug(&plan, runner)? {
        return Err(Failure::Usage(format!(
            "{} seed {} breaks a guarantee without its planted bug too: shrink that first",
            plan.scenario, plan.seed
        )));
    }
    let file = args.output.clone().unwrap_or_else(|| default_file(&plan));
    // Before the search, and not after it, is the time to find out that its result cannot be kept.
    write(&file, &plan)?;

    let mut trials = Trials {
        failure: Fingerprint::of(violation),
        runner,
        threads: args.common.jobs(),
        stop,
        budget: args.budget,
        runs: 0,
        progress: Progress::new(args.budget, args.common.json),
        failed: None,
    };
    trials.progress.line(&format!("{}, {}", trials.failure, described(&plan)));
    let shrunk = smallest(&plan, &mut trials);
    let Trials { failure, runs, failed, progress, .. } = trials;
    drop(progress);
    write(&file, &shrunk)?;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let after = attempt::run(runner, &shrunk, Options::default())?.outcome;
    let interrupted = stop.load(Ordering::Relaxed);
    let ended = match (interrupted, runs >= args.budget) {
        (true, _) => "interrupted",
        (false, true) => "budget",
        (false, false) => "smallest",
    };
    let record = ShrinkRecord {
        scenario: &plan.scenario,
        seed: plan.seed,
        mutant: plan.mutant.as_deref(),
        failure: failure.to_string(),
        message: after.violations.iter().find(|found| Fingerprint::of(found) == failure).map(|found| &*found.message),
        before: size(&plan, &before),
        after: size(&shrunk, &after),
        runs,
        ended,
        wall_ms: record::millis(now().saturating_sub(began)),
        plan: file.display().to_string(),
        replay: record::replay_file(&file.display().to_string(), None),
    };
    if args.common.json {
        serde_json::to_writer(&mut *out, &record).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&record, out)?;
    }
    Ok(if interrupted { Exit::Interrupted } else { Exit::Success })
}

/// Whether the violation is the bug's doing.
fn clean_without_bug(plan: &Plan, runner: Runner) -> io::Result<bool> {
    let without = attempt::run(runner, &Plan { mutant: None, ..plan.clone() }, Options::default())?;
    Ok(without.outcome.violations.is_empty())
}

fn default_file(plan: &Plan) -> PathBuf {
    // A plan that was read from a file may call its scenario anything: a name must not leave the folder.
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' { c } else { '_' };
    let scenario: String = plan.scenario.chars().map(plain).collect();
    let mutant = plan.mutant.as_deref().map(|mutant| format!("-{mutant}")).unwrap_or_default();
    Path::new(FOLDER).join(format!("{scenario}-{}{mutant}-shrunk.json", plan.seed))
}

fn write(file: &Path, plan: &Plan) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    if let Some(folder) = file.parent() {
        fs::create_dir_all(folder).map_err(named)?;
    }
    fs::write(file, commit::stamped(plan)).map_err(named)
}

/// Runs candidates, and counts them.
struct Trials<'a> {
    failure: Fingerprint,
    runner: Runner,
    threads: usize,
    stop: &'a AtomicBool,
    budget: u64,
    runs: u64,
    progress: Progress,
    /// Why no more can be tried.
    failed: Option<io::Error>,
}

impl Laboratory for Trials<'_> {
    fn first(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Candidate> {
        if self.failed.is_some() || self.runs >= self.budget {
            return None;
        }
        let Trials { failure, runner, threads, stop, budget, runs, progress, failed } = self;
        let labels = RefCell::new(VecDeque::new());
        let jobs = candidates.map(|(label, plan)| {
            labels.borrow_mut().push_back(label);
            Job { plan, regression: None, verify: false }
        });
        let mut found = None;
        let swept = sweep(jobs, *runner, *threads, stop, |run| {
            let label = labels.borrow_mut().pop_front().expect("every job has put one there");
            *runs += 1;
            progress.step(&described(&run.plan));
            if failure.is_among(&run.outcome.violations) && counts(&run, *runner, runs)? {
                found = Some((label, Arc::unwrap_or_clone(run.plan)));
            }
            Ok(if found.is_some() || runs >= budget { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        });
        *failed = swept.err();
        found
    }

    fn script(&mut self, plan: &Plan) -> Vec<Step> {
        let steps = Steps::default();
        let noted = attempt::run(self.runner, plan, Options { steps: Some(steps.clone()), ..Options::default() });
        self.runs += 1;
        self.failed = noted.err();
        let mut steps = steps.lock().unwrap_or_else(PoisonError::into_inner).clone();
        steps.sort_by_key(|step| step.at_us);
        steps
    }

    fn passed(&mut self, pass: &'static str, plan: &Plan) {
        self.progress.line(&format!("{pass}: {} after {} runs", described(plan), self.runs));
    }
}

/// Whether a violation is the planted bug's doing, if there is one.
fn counts(run: &Finished, runner: Runner, runs: &mut u64) -> io::Result<bool> {
    if run.plan.mutant.is_none() {
        return Ok(true);
    }
    *runs += 1;
    clean_without_bug(&run.plan, runner)
}

fn described(plan: &Plan) -> String {
    format!("{} faults, {} operations", plan.faults.len(), plan.workload.operations)
}

fn size(plan: &Plan, outcome: &Outcome) -> Size {
    let acting = plan.workload.script.as_ref().map(|script| {
        let clients: BTreeSet<u32> = script.iter().map(|step| step.client).collect();
        clients.len() as u64
    });
    Size {
        faults: plan.faults.len() as u64,
        operations: plan.workload.operations.into(),
        clients: acting.unwrap_or(plan.workload.clients.into()),
        members: plan.cluster.members,
        keys: plan.workload.keys.into(),
        virtual_ms: outcome.virtual_ms,
    }
}

fn print(record: &ShrinkRecord<'_>, out: &mut impl Write) -> io::Result<()> {
    let ShrinkRecord { before, after, .. } = record;
    let mutant = record.mutant.map(|mutant| format!(", with {mutant}")).unwrap_or_default();
    writeln!(out, "{} seed {}{mutant}", record.scenario, record.seed)?;
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["", "before", "after"]);
    let seconds = |ms: u64| format!("{}.{} s", ms / 1000, ms % 1000 / 100);
    for (name, before, after) in [
        ("faults", before.faults.to_string(), after.faults.to_string()),
        ("operations", before.operations.to_string(), after.operations.to_string()),
        ("clients", before.clients.to_string(), after.clients.to_string()),
        ("members", before.members.to_string(), after.members.to_string()),
        ("keys", before.keys.to_string(), after.keys.to_string()),
        ("virtual time", seconds(before.virtual_ms), seconds(after.virtual_ms)),
    ] {
        table.add_row([name.to_owned(), before, after]);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}")?;
    let ended = match record.ended {
        "smallest" => "nothing more can be taken out",
        "budget" => "the budget is spent: a larger one may find a smaller plan",
        _ => "interrupted: there may be a smaller plan",
    };
    writeln!(out, "{} runs; {ended}", record.runs)?;
    writeln!(out, "{}", record.failure)?;
    if let Some(message) = record.message {
        writeln!(out, "  {message}")?;
    }
    writeln!(out, "  replay: {}", record.replay)?;
    writeln!(out, "  plan: {}", record.plan)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seedbed_sim::outcome::Violation;

    use super::*;
    use crate::attempt::tests::fine;

    /// Every operation at its own time.
    fn steps(plan: &Plan) -> Vec<Step> {
        let steps = (0..plan.workload.operations).map(|place| Step {
            at_us: u64::from(place) * 5_000,
            client: place % plan.workload.clients + 1,
            nth: place / plan.workload.clients + 1,
            member: 1,
        });
        steps.collect()
    }

    /// Fails with the planted bug, if client 2 carries out its tenth operation while there is a fault.
    fn buggy(plan: &Plan, options: &Options) -> (Outcome, Duration) {
        let script = plan.workload.script.clone().unwrap_or_else(|| steps(plan));
        if let Some(noted) = &options.steps {
            noted.lock().expect("nobody panics").extend(script.iter().rev());
        }
        let fails = script.iter().any(|step| (step.client, step.nth) == (2, 10)) && !plan.faults.is_empty();
        let mut violations = vec![];
        if plan.mutant.is_some() && fails {
            let message = format!("stale read: #{} (client 2)", script.len());
            violations.push(Violation { judge: "linearizable", message });
        } else if plan.mutant.is_some() && plan.faults.is_empty() {
            // Another failure, which does not count.
            violations.push(Violation { judge: "durability", message: "lost: 3".to_owned() });
        }
        let (outcome, cpu) = fine(plan, options);
        (Outcome { violations, ..outcome }, cpu)
    }

    fn shrunk(args: &str, runner: Runner, stop: bool) -> (Result<Exit, Failure>, String, Option<String>) {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let file = folder.path().join("made/shrunk.json");
        let mut args = ShrinkArgs::parsed(args);
        args.output = Some(file.clone());
        let mut out = Vec::new();
        let exit = shrink(&args, runner, &AtomicBool::new(stop), &mut out);
        (exit, String::from_utf8(out).expect("UTF-8"), fs::read_to_string(file).ok())
    }

    fn plan(json: Option<String>) -> Plan {
        Plan::from_json(&json.expect("it was written")).expect("a valid plan")
    }

    #[test]
    fn the_smallest_plan_does_not_depend_on_the_number_of_threads() {
        let plans = [1, 2, 5].map(|jobs| {
            let args = format!("partition 3 --mutant read-before-quorum --jobs {jobs}");
            let (exit, out, json) = shrunk(&args, buggy, false);
            assert_eq!(exit.expect("shrunk"), Exit::Success);
            for part in
                ["partition seed 3, with read-before-quorum", "linearizable: stale read\n  stale read: #1", "replay: "]
            {
                assert!(out.contains(part), "{part} is missing in: {out}");
            }
            plan(json)
        });
        assert_eq!((plans[0].faults.len(), plans[0].workload.operations), (1, 1));
        assert_eq!(plans[0].mutant.as_deref(), Some("read-before-quorum"));
        assert_eq!(crate::commit::warning(&plans[0]), None);
        assert!(plans.iter().all(|plan| *plan == plans[0]));
    }

    #[test]
    fn in_json_it_says_what_became_smaller() {
        let (exit, out, _) = shrunk("partition 3 --mutant read-before-quorum --json", buggy, false);
        assert_eq!(exit.expect("shrunk"), Exit::Success);
        let record: serde_json::Value = serde_json::from_str(&out).expect("one object");
        assert_eq!((&record["failure"], &record["ended"]), (&"linearizable: stale read".into(), &"smallest".into()));
        assert_eq!((&record["after"]["operations"], &record["after"]["clients"]), (&1.into(), &1.into()));
        assert!(record["before"]["operations"].as_u64() > Some(500) && record["runs"].as_u64() > Some(10), "{record}");
    }

    #[test]
    fn an_interruption_or_the_end_of_the_budget_keeps_a_plan_that_fails() {
        let args = "partition 3 --mutant read-before-quorum";
        let (exit, out, json) = shrunk(args, buggy, true);
        assert_eq!(exit.expect("what there is"), Exit::Interrupted);
        assert!(out.contains("interrupted"), "{out}");
        assert!(!plan(json).faults.is_empty());
        let (exit, out, json) = shrunk(&format!("{args} --budget 10"), buggy, false);
        assert_eq!(exit.expect("what there is"), Exit::Success);
        assert!(out.contains("the budget is spent"), "{out}");
        assert!(!plan(json).faults.is_empty());
    }

    #[test]
    fn what_does_not_fail_or_fails_without_the_bug_too_is_refused_in_a_line() {
        fn always(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            let violation = Violation { judge: "durability", message: "lost: 3".to_owned() };
            let (outcome, cpu) = fine(plan, options);
            (Outcome { violations: vec![violation], ..outcome }, cpu)
        }
        for (args, runner, says) in [
            ("partition 3", fine as Runner, "partition seed 3 breaks no guarantee: there is nothing to shrink"),
            ("partition 3 --mutant leader-restore", always, "breaks a guarantee without its planted bug too"),
        ] {
            match shrunk(args, runner, false) {
                (Err(Failure::Usage(line)), out, None) => assert!(line.contains(says) && out.is_empty(), "{line}"),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn the_name_of_the_file_stays_in_its_folder() {
        let plan = Plan { scenario: "../x".to_owned(), ..crate::catalogue::CATALOGUE[0].plan(4) };
        assert_eq!(default_file(&plan), Path::new("reports/out/___x-4-shrunk.json"));
        let plan = Plan { mutant: Some("leader-restore".to_owned()), ..crate::catalogue::CATALOGUE[0].plan(4) };
        assert_eq!(default_file(&plan), Path::new("reports/out/calm-4-leader-restore-shrunk.json"));
    }
}
