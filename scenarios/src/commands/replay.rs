//! `replay`: one plan again.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use seedbed_sim::plan::Plan;
use seedbed_sim::run::{LogOptions, LogWriter, Options};
use tracing_subscriber::EnvFilter;

use crate::attempt;
use crate::catalogue;
use crate::cli::ReplayArgs;
use crate::exit::{Exit, Failure};
use crate::record::{self, RunRecord};
use crate::sweep::Finished;

pub(crate) fn replay(args: &ReplayArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let mut plan = plan(args)?;
    if let Some(mutant) = args.mutant {
        plan.mutant = Some(mutant.name().to_owned());
    }
    if args.print_plan {
        write!(out, "{}", plan.to_json())?;
        return Ok(Exit::Success);
    }

    let log = log(args)?;
    let attempt = attempt::run(seedbed_sim::run::run, &plan, Options { log: log.clone() })?;
    if let Some(log) = log {
        // A panic while a line was written leaves the lock poisoned, and what was written is still wanted.
        log.writer.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).flush()?;
    }
    let run = Finished {
        plan: Arc::new(plan),
        outcome: attempt.outcome,
        wall: attempt.wall,
        cpu: attempt.cpu,
        verified: false,
    };
    if args.json {
        serde_json::to_writer(&mut *out, &RunRecord::new(&run, || command(args))).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&run, out)?;
    }
    let hash = run.outcome.trace_hash;
    let differs = args.expect_hash.filter(|expected| *expected != hash);
    if let Some(expected) = differs {
        eprintln!("the trace hash is {}, not {}", record::hash(hash), record::hash(expected));
    }
    Ok(if run.violated() || differs.is_some() { Exit::Violation } else { Exit::Success })
}

fn plan(args: &ReplayArgs) -> Result<Plan, Failure> {
    let what = &args.what;
    match (catalogue::find(what), args.seed) {
        (Some(scenario), Some(seed)) => Ok(scenario.plan(seed)),
        (None, Some(_)) => Err(Failure::Usage(format!("no scenario is called `{what}`; `seedbed list` names them"))),
        (Some(_), None) if !Path::new(what).exists() => {
            Err(Failure::Usage(format!("the seed is missing: `seedbed replay {what} SEED`")))
        }
        (_, None) => {
            let json = fs::read_to_string(what).map_err(|error| {
                Failure::Usage(format!("{what}: {error} (neither a plan that can be read nor a scenario)"))
            })?;
            Plan::from_json(&json).map_err(|error| Failure::Usage(format!("{what}: {error}")))
        }
    }
}

fn log(args: &ReplayArgs) -> Result<Option<LogOptions>, Failure> {
    let Some(filter) = args.log.clone() else { return Ok(None) };
    EnvFilter::try_new(&filter).map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
    let writer: Box<dyn Write + Send> = match &args.log_file {
        None => Box::new(io::stderr()),
        Some(path) => {
            let named = |error| io::Error::other(format!("{}: {error}", path.display()));
            Box::new(BufWriter::new(File::create(path).map_err(named)?))
        }
    };
    let writer: LogWriter = Arc::new(Mutex::new(writer));
    Ok(Some(LogOptions { filter, writer }))
}

/// This command, as it is typed in the workspace.
fn command(args: &ReplayArgs) -> String {
    let mutant = args.mutant.map(|mutant| mutant.name());
    match args.seed {
        Some(seed) => record::replay(&args.what, seed, mutant),
        None => {
            let mutant = mutant.map(|mutant| format!(" --mutant {mutant}")).unwrap_or_default();
            format!("cargo run --release -- replay {}{mutant}", args.what)
        }
    }
}

fn print(run: &Finished, out: &mut impl Write) -> io::Result<()> {
    let outcome = &run.outcome;
    let mutant = run.plan.mutant.as_deref().map(|mutant| format!(", with {mutant}")).unwrap_or_default();
    writeln!(out, "{} seed {}{mutant}", outcome.scenario, outcome.seed)?;
    let operations = &outcome.operations;
    writeln!(
        out,
        "  operations   {} ({} ok, {} failed, {} unknown)",
        operations.total(),
        operations.ok,
        operations.failed,
        operations.unknown
    )?;
    let families: Vec<String> = outcome.faults.iter().map(|(family, count)| format!("{count} {family}")).collect();
    writeln!(out, "  faults       {}", if families.is_empty() { "none".to_owned() } else { families.join(", ") })?;
    writeln!(out, "  virtual time {} ms", outcome.virtual_ms)?;
    writeln!(out, "  trace hash   {}", record::hash(outcome.trace_hash))?;
    if !run.violated() {
        return writeln!(out, "  verdict      ok");
    }
    writeln!(out, "  verdict      violation")?;
    for violation in &outcome.violations {
        writeln!(out, "    {}: {}", violation.judge, violation.message)?;
    }
    Ok(())
}
