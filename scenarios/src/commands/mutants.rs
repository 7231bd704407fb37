//! `mutants`: planted bugs, and which judges notice each.
//!
//! A judge that never fails proves nothing. Each bug is tried with the ordinary scenarios, in turn and seed after seed: none has
//! a scenario of its own. The last of the catalogue come first: most goes on there, and most bugs are noticed. A violation counts
//! only if the same plan without the bug has none: otherwise it tells of the store, or of the judge.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::ops::{ControlFlow, Range};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets};
use seedbed_sim::Mutant;
use seedbed_sim::plan::Plan;
use seedbed_sim::run::Options;

use crate::attempt::{self, Runner};
use crate::catalogue::CATALOGUE;
use crate::cli::MutantsArgs;
use crate::exit::{Exit, Failure};
use crate::progress::Progress;
use crate::record::{self, MutantRecord};
use crate::sweep::{Finished, Job, sweep};

/// Seeds of each scenario that a bug is tried with before it has survived.
pub(crate) const SEEDS: Range<u64> = 0..50;

pub(crate) fn mutants(
    args: &MutantsArgs,
    runner: Runner,
    stop: &AtomicBool,
    out: &mut impl Write,
) -> Result<Exit, Failure> {
    let MutantsArgs { mutants, seeds, common } = args;
    let mutants = if mutants.is_empty() { &Mutant::ALL[..] } else { mutants };
    let progress = Progress::new(mutants.len() as u64, common.json);
    let mut trials = Vec::new();
    for mutant in mutants {
        let trial = Trial::of(*mutant, &seeds.0, runner, common.jobs(), stop)?;
        // What was not tried to the end has neither been killed nor survived.
        if trial.kill.is_none() && stop.load(Ordering::Relaxed) {
            break;
        }
        if common.json {
            trial.write_json(out)?;
        }
        progress.line(&format!("{mutant}: {} after {} seeds", trial.verdict(), trial.seeds));
        progress.step(mutant.name());
        trials.push(trial);
    }
    drop(progress);
    let interrupted = trials.len() < mutants.len();
    if !common.json {
        if !(interrupted && trials.is_empty()) {
            print(&trials, out)?;
        }
        if interrupted {
            writeln!(out, "interrupted: {} of {} planted bugs were tried to the end", trials.len(), mutants.len())?;
        }
    }
    Ok(if trials.iter().any(|trial| trial.kill.is_none()) {
        Exit::Violation
    } else if interrupted {
        Exit::Interrupted
    } else {
        Exit::Success
    })
}

/// The first run in which a planted bug caused a violation.
struct Kill {
    scenario: String,
    seed: u64,
    /// Whoever noticed, the one that looks deepest first.
    judges: Vec<&'static str>,
    /// What the first of them says.
    message: String,
    replay: String,
}

/// What became of a planted bug.
struct Trial {
    mutant: Mutant,
    kill: Option<Kill>,
    /// Runs, up to the one that killed it.
    seeds: u64,
    /// Of those runs, and of their counterparts without the bug.
    cpu: Duration,
    /// Runs with a violation with and without the bug.
    disputed: u64,
}

impl Trial {
    fn of(mutant: Mutant, seeds: &Range<u64>, runner: Runner, threads: usize, stop: &AtomicBool) -> io::Result<Trial> {
        let mut trial = Trial { mutant, kill: None, seeds: 0, cpu: Duration::ZERO, disputed: 0 };
        let jobs = seeds.clone().flat_map(|seed| {
            CATALOGUE.iter().rev().map(move |scenario| Job {
                plan: Plan { mutant: Some(mutant.name().to_owned()), ..scenario.plan(seed) },
                regression: None,
                verify: false,
            })
        });
        sweep(jobs, runner, threads, stop, |run| trial.judge(&run, runner))?;
        Ok(trial)
    }

    fn judge(&mut self, run: &Finished, runner: Runner) -> io::Result<ControlFlow<()>> {
        self.seeds += 1;
        self.cpu += run.cpu;
        let Some(violation) = run.outcome.violations.first() else { return Ok(ControlFlow::Continue(())) };
        let without = attempt::run(runner, &Plan { mutant: None, ..Plan::clone(&run.plan) }, Options::default())?;
        self.cpu += without.cpu;
        if !without.outcome.violations.is_empty() {
            self.disputed += 1;
            return Ok(ControlFlow::Continue(()));
        }
        // One may have spoken more than once.
        let mut judges: Vec<&str> = run.outcome.violations.iter().map(|violation| violation.judge).collect();
        let mut named = BTreeSet::new();
        judges.retain(|judge| named.insert(*judge));
        self.kill = Some(Kill {
            scenario: run.plan.scenario.clone(),
            seed: run.plan.seed,
            judges,
            message: violation.message.clone(),
            replay: record::replay(&run.plan.scenario, run.plan.seed, Some(self.mutant.name())),
        });
        Ok(ControlFlow::Break(()))
    }

    fn verdict(&self) -> &'static str {
        if self.kill.is_some() { "killed" } else { "survived" }
    }

    fn write_json(&self, out: &mut impl Write) -> io::Result<()> {
        let kill = self.kill.as_ref();
        let record = MutantRecord {
            mutant: self.mutant.name(),
            killed: kill.is_some(),
            judges: kill.map_or(&[], |kill| &kill.judges),
            message: kill.map(|kill| kill.message.as_str()),
            scenario: kill.map(|kill| kill.scenario.as_str()),
            seed: kill.map(|kill| kill.seed),
            seeds: self.seeds,
            cpu_ms: record::millis(self.cpu),
            disputed: self.disputed,
            replay: kill.map(|kill| kill.replay.as_str()),
        };
        serde_json::to_writer(&mut *out, &record)?;
        writeln!(out)?;
        out.flush()
    }
}

fn print(trials: &[Trial], out: &mut impl Write) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::UTF8_BORDERS_ONLY);
    table.set_header(["planted bug", "verdict", "judges", "scenario", "seed", "seeds tried", "cpu"]);
    for trial in trials {
        let kill = trial.kill.as_ref();
        table.add_row([
            trial.mutant.name().to_owned(),
            trial.verdict().to_owned(),
            kill.map(|kill| kill.judges.join(", ")).unwrap_or_default(),
            kill.map(|kill| kill.scenario.clone()).unwrap_or_default(),
            kill.map(|kill| kill.seed.to_string()).unwrap_or_default(),
            trial.seeds.to_string(),
            format!("{:.1} s", trial.cpu.as_secs_f64()),
        ]);
    }
    for column in table.column_iter_mut().skip(4) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    writeln!(out, "{table}")?;
    for kill in trials.iter().filter_map(|trial| trial.kill.as_ref()) {
        writeln!(out, "\n{}: {}\n  replay: {}", kill.judges.join(", "), kill.message, kill.replay)?;
    }
    let disputed = trials.iter().map(|trial| trial.disputed).sum::<u64>();
    if disputed > 0 {
        writeln!(out, "\n{disputed} violations do not count: the same run without the planted bug has one as well")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use seedbed_sim::outcome::{Outcome, Violation};

    use super::*;
    use crate::attempt::tests::fine;

    fn trial(runner: Runner, threads: usize) -> Trial {
        Trial::of(Mutant::AckBeforeFsync, &(0..4), runner, threads, &AtomicBool::new(false)).expect("threads")
    }

    fn violated(plan: &Plan, options: &Options) -> (Outcome, Duration) {
        let violation = Violation { judge: "durability", message: "lost".to_owned() };
        let (outcome, cpu) = fine(plan, options);
        (Outcome { violations: vec![violation], ..outcome }, cpu)
    }

    /// What `mutants` prints, with an interruption after so many runs.
    fn interrupted(json: bool, after: u64) -> (Exit, String) {
        static STOP: AtomicBool = AtomicBool::new(false);
        static RUNS: AtomicU64 = AtomicU64::new(0);
        /// Catches every bug at once but the second of all, which is under way when the interruption comes.
        fn second_lives(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            STOP.store(RUNS.fetch_sub(1, Ordering::Relaxed) <= 1, Ordering::Relaxed);
            let caught = plan.mutant.as_deref().is_some_and(|mutant| mutant != Mutant::ALL[1].name());
            if caught { violated(plan, options) } else { fine(plan, options) }
        }
        RUNS.store(after, Ordering::Relaxed);
        STOP.store(after == 0, Ordering::Relaxed);
        let args = MutantsArgs::parsed(if json { "--jobs 1 --json" } else { "--jobs 1" });
        let mut out = Vec::new();
        let exit = mutants(&args, second_lives, &STOP, &mut out).expect("nothing to go wrong");
        (exit, String::from_utf8(out).expect("UTF-8"))
    }

    #[test]
    fn an_interruption_leaves_what_is_finished_and_says_so() {
        let all = Mutant::ALL.len();
        // A kill takes two runs, with the bug and without: the third is of the second bug.
        let (exit, out) = interrupted(false, 3);
        assert_eq!(exit, Exit::Interrupted);
        assert!(out.contains(Mutant::ALL[0].name()) && !out.contains(Mutant::ALL[1].name()), "{out}");
        assert!(out.ends_with(&format!("\ninterrupted: 1 of {all} planted bugs were tried to the end\n")), "{out}");
        let (exit, out) = interrupted(false, 0);
        assert_eq!(
            (exit, out),
            (Exit::Interrupted, format!("interrupted: 0 of {all} planted bugs were tried to the end\n"))
        );
        let (exit, out) = interrupted(true, 3);
        assert_eq!((exit, out.lines().count()), (Exit::Interrupted, 1));
    }

    #[test]
    fn a_bug_is_killed_by_the_first_violation_in_a_fixed_order() {
        fn late(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            let caught = plan.mutant.is_some() && plan.scenario == "fsync-delay" && plan.seed >= 1;
            if caught { violated(plan, options) } else { fine(plan, options) }
        }
        for threads in [1, 8] {
            let trial = trial(late, threads);
            let kill = trial.kill.as_ref().expect("killed");
            assert_eq!((kill.scenario.as_str(), kill.seed, &kill.judges[..]), ("fsync-delay", 1, &["durability"][..]));
            // All scenarios of seed 0, then of seed 1 all but the first two.
            assert_eq!(CATALOGUE[2].name, "fsync-delay");
            assert_eq!(trial.seeds, 2 * CATALOGUE.len() as u64 - 2);
            assert_eq!(kill.replay, "cargo run --release -- replay fsync-delay 1 --mutant ack-before-fsync");
        }
    }

    #[test]
    fn a_bug_that_nobody_notices_survives_its_seeds() {
        let trial = trial(fine, 2);
        assert_eq!((trial.verdict(), trial.seeds), ("survived", 4 * CATALOGUE.len() as u64));
    }

    #[test]
    fn a_violation_that_is_there_without_the_bug_does_not_count() {
        let trial = trial(violated, 2);
        assert!(trial.kill.is_none());
        assert_eq!(trial.disputed, trial.seeds);
    }
}
