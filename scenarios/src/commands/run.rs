//! `run`: scenarios over seeds, judged.

use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use seedbed_reports::{Failure as FailedRun, Row, Summary};
use seedbed_sim::ReadPath;
use seedbed_sim::plan::Scenario;

use crate::attempt::Runner;
use crate::catalogue::CATALOGUE;
use crate::cli::{RunArgs, SweepArgs};
use crate::commit;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::record::{self, RunRecord};
use crate::regressions;
use crate::seeds::Shard;
use crate::sweep::{Finished, Job, sweep};

/// Each scenario's seeds unless others are asked for: so many that the catalogue takes about a minute on two cores.
pub(crate) const SEEDS: Range<u64> = 0..32;

pub(crate) fn run(args: &RunArgs, runner: Runner, stop: &AtomicBool, out: &mut impl Write) -> Result<Exit, Failure> {
    let RunArgs { scenarios, sweep: SweepArgs { seeds, shard, verify_every, out: folder, common } } = args;
    // Regressions are part of the whole catalogue, and of no scenario that is named.
    let regressions = if scenarios.is_empty() { regressions::all()? } else { Vec::new() };
    let scenarios = chosen(scenarios);
    let seeds: Range<u64> = seeds.0.clone();
    let shard = shard.unwrap_or(Shard::ALL);
    let verify = |nth: u64| *verify_every != 0 && nth.is_multiple_of(*verify_every);
    let seeded = scenarios.iter().flat_map(|scenario| {
        // By the place within the share, so that every share has its sample.
        (0..).zip(shard.seeds(&seeds)).map(|(nth, seed): (u64, u64)| Job {
            plan: scenario.plan(seed),
            regression: None,
            verify: verify(nth),
        })
    });
    // Each is one share's.
    let steps = shard.count(&seeds).saturating_mul(scenarios.len() as u64);
    let places = shard.seeds(&(0..regressions.len() as u64)).collect::<Vec<u64>>();
    let steps = steps.saturating_add(places.len() as u64);
    let kept = (0..).zip(places).map(|(nth, place)| {
        let (name, plan) = &regressions[place as usize];
        Job { plan: plan.clone(), regression: Some(name), verify: verify(nth) }
    });
    let jobs = seeded.chain(kept);
    // Before the sweep, and not after it, is the time to find out that its results cannot be kept.
    Summary::default().write(folder)?;

    let progress = Progress::new(steps, common.json);
    let mut tally = Tally::default();
    for scenario in &scenarios {
        let families: Vec<_> = scenario.faults.families.iter().flat_map(|family| family.kind.families()).collect();
        tally.summary.coverage.expect(&families);
    }
    sweep(jobs, runner, common.jobs(), stop, |run| {
        if common.json {
            serde_json::to_writer(&mut *out, &RunRecord::new(&run, || replay_command(&run)))?;
            writeln!(out)?;
            // A reader follows a sweep line by line.
            out.flush()?;
        }
        tally.add(&run, &progress);
        Ok(ControlFlow::Continue(()))
    })?;
    tally.end_of_scenario(&progress);
    drop(progress);

    let mut summary = tally.summary;
    summary.interrupted = stop.load(Ordering::Relaxed);
    if !common.json {
        print(&summary, folder, out)?;
    }
    summary.write(folder)?;
    if !common.json {
        writeln!(out, "{}; written to {}", summary.verdict(), folder.join("summary.md").display())?;
    }
    Ok(match (summary.failures.is_empty(), summary.interrupted) {
        (false, _) => Exit::Violation,
        (true, true) => Exit::Interrupted,
        (true, false) => Exit::Success,
    })
}

/// The named scenarios in the order of their first mention; all, if none is named.
fn chosen(named: &[&'static Scenario]) -> Vec<&'static Scenario> {
    if named.is_empty() {
        return CATALOGUE.iter().collect();
    }
    let mut chosen: Vec<&'static Scenario> = Vec::new();
    for scenario in named {
        if chosen.iter().all(|other| other.name != scenario.name) {
            chosen.push(scenario);
        }
    }
    chosen
}

fn replay_command(run: &Finished) -> String {
    let mutant = run.plan.mutant.as_deref();
    match run.regression {
        Some(name) => record::replay_file(name, mutant),
        None => record::replay(&run.plan.scenario, run.plan.seed, mutant),
    }
}

fn print(summary: &Summary, folder: &Path, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", summary.table())?;
    for failure in &summary.failures {
        writeln!(out, "\n{} seed {}", failure.scenario, failure.seed)?;
        for (judge, message) in &failure.violations {
            writeln!(out, "  {judge}: {message}")?;
        }
        writeln!(out, "  replay: {}", failure.replay)?;
        writeln!(out, "  plan: {}", folder.join(failure.plan_file()).display())?;
    }
    writeln!(out, "\n{}", summary.tried())
}

/// What its row in the table is called.
fn row_name(run: &Finished) -> String {
    run.regression.map_or_else(|| run.plan.scenario.clone(), |name| format!("regression: {name}"))
}

/// The summary as it grows.
#[derive(Default)]
struct Tally {
    summary: Summary,
}

impl Tally {
    /// Runs come scenario by scenario.
    fn add(&mut self, run: &Finished, progress: &Progress) {
        let outcome = &run.outcome;
        let name = row_name(run);
        if self.summary.rows.last().is_none_or(|row| row.scenario != name) {
            self.end_of_scenario(progress);
            self.summary.rows.push(Row { scenario: name.clone(), ..Row::default() });
        }
        let row = self.summary.rows.last_mut().expect("pushed above");
        row.seeds += 1;
        row.operations += outcome.operations.total();
        row.faults += outcome.faults.values().sum::<u64>();
        row.virtual_ms += outcome.virtual_ms;
        row.violated += u64::from(run.violated());
        self.summary.coverage.add(&outcome.faults);
        if let Some(ms) = outcome.heal_to_commit_ms {
            self.summary.recovery.add(&outcome.scenario, outcome.seed, ms);
        }
        let proxied = &outcome.proxied;
        self.summary.kept.add(&outcome.scenario, outcome.seed, proxied.cached, proxied.stalest_ms, proxied.allowed_ms);
        self.summary.verified += u64::from(run.verified);
        if !run.violated() {
            self.summary.stale_lease_reads += outcome.staleness.get(&ReadPath::Lease).map_or(0, |lease| lease.stale);
        }
        if run.violated() {
            progress.line(&format!("{name} seed {}: {}", outcome.seed, outcome.violations[0].message));
            self.summary.failures.push(FailedRun {
                scenario: name.clone(),
                seed: outcome.seed,
                violations: outcome.violations.iter().map(|v| (v.judge.to_owned(), v.message.clone())).collect(),
                replay: replay_command(run),
                plan: commit::stamped(&run.plan),
            });
        }
        progress.step(&name);
    }

    fn end_of_scenario(&self, progress: &Progress) {
        if let (Some(row), Progress::Lines) = (self.summary.rows.last(), progress) {
            progress.line(&format!("{}: {} seeds, {} violated", row.scenario, row.seeds, row.violated));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::time::Duration;

    use seedbed_sim::outcome::{Outcome, Violation};
    use seedbed_sim::plan::Plan;
    use seedbed_sim::run::Options;

    use super::*;
    use crate::attempt::tests::fine;
    use crate::catalogue;
    use crate::cli::RunArgs;

    fn printed(args: &str, runner: Runner, stop: bool) -> (Exit, String, tempfile::TempDir) {
        let folder = tempfile::tempdir().expect("a folder for temporary files");
        let mut args = RunArgs::parsed(args);
        args.sweep.out = folder.path().to_owned();
        let mut out = Vec::new();
        let exit = run(&args, runner, &AtomicBool::new(stop), &mut out).expect("nothing to go wrong");
        (exit, String::from_utf8(out).expect("UTF-8"), folder)
    }

    fn odd_seeds_fail(plan: &Plan, options: &Options) -> (Outcome, Duration) {
        let violations = if plan.seed % 2 == 1 {
            vec![Violation { judge: "durability", message: "put of k3 is lost".to_owned() }]
        } else {
            Vec::new()
        };
        let (outcome, cpu) = fine(plan, options);
        (Outcome { violations, ..outcome }, cpu)
    }

    #[test]
    fn a_violation_comes_with_its_judge_the_command_that_replays_it_and_its_plan() {
        let (exit, out, folder) = printed("partition --seeds 0..4", odd_seeds_fail, false);
        assert_eq!(exit, Exit::Violation);
        for part in [
            "2 violated",
            "partition seed 1\n  durability: put of k3 is lost\n  replay: cargo run --release -- replay partition 1\n",
            "partition seed 3\n",
            "4 runs, 2 with a violation",
        ] {
            assert!(out.contains(part), "{part} is missing in: {out}");
        }
        let plan = fs::read_to_string(folder.path().join("plans/partition-3.json")).expect("the plan is written");
        let plan = Plan::from_json(&plan).expect("a valid plan");
        assert_eq!(Plan { commit: None, ..plan }, catalogue::find("partition").expect("listed").plan(3));
        assert!(!folder.path().join("plans/partition-2.json").exists());
    }

    #[test]
    fn a_violation_in_json_has_the_command_too() {
        let (exit, out, _folder) = printed("calm --seeds 3 --json", odd_seeds_fail, false);
        assert_eq!(exit, Exit::Violation);
        let run: serde_json::Value = serde_json::from_str(&out).expect("one object");
        assert_eq!(run["verdict"], "violation");
        assert_eq!(run["violations"][0]["judge"], "durability");
        assert_eq!(run["replay"], "cargo run --release -- replay calm 3");
    }

    #[test]
    fn without_a_violation_an_interrupted_sweep_says_so_and_ends_with_its_own_status() {
        let (exit, out, folder) = printed("--seeds 0..4", fine, true);
        assert_eq!(exit, Exit::Interrupted);
        assert!(out.contains("0 runs") && out.contains("interrupted"), "{out}");
        assert!(folder.path().join("summary.md").exists());
        assert_eq!(printed("--seeds 0..4", fine, false).0, Exit::Success);
    }

    #[test]
    fn a_sweep_of_everything_runs_every_regression_under_its_name() {
        fn regressions_fail(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            let (outcome, cpu) = fine(plan, options);
            let violation = Violation { judge: "replicas", message: "the entry at index 3 differs".to_owned() };
            let violations = if plan.seed > 5 { vec![violation] } else { Vec::new() };
            (Outcome { violations, ..outcome }, cpu)
        }
        let names: Vec<&str> = regressions::names().collect();
        let (exit, out, folder) = printed("--seeds 0..2", regressions_fail, false);
        assert_eq!(exit, Exit::Violation);
        for name in &names {
            assert!(out.contains(&format!("regression: {name} ")), "{name} is missing in: {out}");
            assert!(out.contains(&format!("  replay: cargo run --release -- replay {name}\n")), "{out}");
        }
        assert_eq!(fs::read_dir(folder.path().join("plans")).expect("a folder").count(), names.len());

        // Each is one share's, and none is run beside scenarios that are named.
        let runs = |args: &str| -> Vec<String> {
            let (_, out, _folder) = printed(args, fine, false);
            let records = out.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("an object"));
            records.filter_map(|run| run["regression"].as_str().map(str::to_owned)).collect()
        };
        let mut shared = [runs("--seeds 0..2 --json --shard 0/2"), runs("--seeds 0..2 --json --shard 1/2")].concat();
        shared.sort();
        assert_eq!(shared, names);
        assert!(runs("calm --seeds 0..2 --json").is_empty());
    }

    #[test]
    fn scenarios_run_once_in_the_order_of_their_mention() {
        let (_, out, _folder) = printed("partition calm partition --seeds 0 --json", fine, false);
        let order: Vec<&str> = out.lines().filter_map(|line| line.split('"').nth(3)).collect();
        assert_eq!(order, ["partition", "calm"]);
    }
}
