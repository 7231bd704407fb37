//! `run`: scenarios over seeds, judged.

use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};

use seedbed_reports::{Failure as FailedRun, Row, Summary};
use seedbed_sim::plan::Scenario;

use crate::catalogue::CATALOGUE;
use crate::cli::{RunArgs, SweepArgs};
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::record::{self, RunRecord};
use crate::sweep::{Finished, Job, sweep};

/// Each scenario's seeds unless others are asked for: so many that the catalogue takes about a minute on two cores.
pub(crate) const SEEDS: Range<u64> = 0..32;

pub(crate) fn run(args: &RunArgs, stop: &AtomicBool, out: &mut impl Write) -> Result<Exit, Failure> {
    let RunArgs { scenarios, sweep: SweepArgs { seeds, shard, verify_every, out: folder, common } } = args;
    let scenarios = chosen(scenarios);
    let seeds: Range<u64> = seeds.0.clone();
    let in_shard = |seed: &u64| shard.is_none_or(|shard| shard.has(*seed));
    let jobs = scenarios.iter().flat_map(|scenario| {
        seeds
            .clone()
            .filter(in_shard)
            .map(|seed| Job { plan: scenario.plan(seed), verify: *verify_every != 0 && seed % verify_every == 0 })
    });

    let steps = (seeds.end - seeds.start).saturating_mul(scenarios.len() as u64);
    let progress = Progress::new(steps, common.json);
    let mut tally = Tally::default();
    sweep(jobs, seedbed_sim::run::run, common.jobs(), stop, |run| {
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
    summary.write(folder)?;
    if !common.json {
        print(&summary, out)?;
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
    record::replay(&run.plan.scenario, run.plan.seed, run.plan.mutant.as_deref())
}

fn print(summary: &Summary, out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "{}", summary.table())?;
    for failure in &summary.failures {
        writeln!(out, "\n{} seed {}", failure.scenario, failure.seed)?;
        for (judge, message) in &failure.violations {
            writeln!(out, "  {judge}: {message}")?;
        }
        writeln!(out, "  replay: {}", failure.replay)?;
    }
    writeln!(out)
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
        if self.summary.rows.last().is_none_or(|row| row.scenario != outcome.scenario) {
            self.end_of_scenario(progress);
            self.summary.rows.push(Row { scenario: outcome.scenario.clone(), ..Row::default() });
        }
        let row = self.summary.rows.last_mut().expect("pushed above");
        row.seeds += 1;
        row.operations += outcome.operations.total();
        row.faults += outcome.faults.values().sum::<u64>();
        row.virtual_ms += outcome.virtual_ms;
        row.violated += u64::from(run.violated());
        self.summary.verified += u64::from(run.verified);
        if run.violated() {
            progress.line(&format!("{} seed {}: {}", outcome.scenario, outcome.seed, outcome.violations[0].message));
            self.summary.failures.push(FailedRun {
                scenario: outcome.scenario.clone(),
                seed: outcome.seed,
                violations: outcome.violations.iter().map(|v| (v.judge.to_owned(), v.message.clone())).collect(),
                replay: replay_command(run),
                plan: run.plan.to_json(),
            });
        }
        progress.step(&outcome.scenario);
    }

    fn end_of_scenario(&self, progress: &Progress) {
        if let (Some(row), Progress::Lines) = (self.summary.rows.last(), progress) {
            progress.line(&format!("{}: {} seeds, {} violated", row.scenario, row.seeds, row.violated));
        }
    }
}
