//! `replay`: one plan again.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use seedbed_sim::outcome::Violation;
use seedbed_sim::plan::Plan;
use seedbed_sim::run::Options;
use seedbed_sim::trace::Stream;
use serde_json::json;
use tracing::Dispatch;

use crate::attempt;
use crate::cli::ReplayArgs;
use crate::commit;
use crate::exit::{Exit, Failure};
use crate::output::note;
use crate::record::{self, RunRecord};
use crate::sweep::{DETERMINISM, Finished};
use crate::twice::{self, Compared};

pub(crate) fn replay(args: &ReplayArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let plan = args.plan.read()?;
    if args.print_plan {
        write!(out, "{}", commit::stamped(&plan))?;
        return Ok(Exit::Success);
    }

    // Of two processes with the same plan one warning is enough.
    if let Some(warning) = commit::warning(&plan).filter(|_| !args.events) {
        note(&warning);
    }
    if args.twice {
        return twice(args, &plan, out);
    }
    if args.events {
        return events(&plan);
    }

    let mut log = Log::of(args)?;
    let attempt =
        attempt::run(attempt::simulate, &plan, Options { log: log.dispatch(plan.seed, args)?, ..Options::default() })?;
    let run = Finished {
        plan: Arc::new(plan),
        regression: args.plan.regression(),
        outcome: attempt.outcome,
        wall: attempt.wall,
        cpu: attempt.cpu,
        verified: false,
    };
    if args.json {
        serde_json::to_writer(&mut *out, &RunRecord::new(&run, || args.plan.replay())).map_err(io::Error::from)?;
        writeln!(out)?;
    } else {
        print(&run, out)?;
    }
    let hash = run.outcome.trace_hash;
    let differs = args.expect_hash.filter(|expected| *expected != hash);
    if let Some(expected) = differs {
        note(&format!("the trace hash is {}, not {}", record::hash(hash), record::hash(expected)));
    }
    // After the verdict, which a full disk must not hide.
    log.finish()?;
    Ok(if run.violated() || differs.is_some() { Exit::Violation } else { Exit::Success })
}

/// Compares the plan's run with itself, in two processes.
fn twice(args: &ReplayArgs, plan: &Plan, out: &mut impl Write) -> Result<Exit, Failure> {
    let compared = twice::compared(&args.plan)?;
    let (events, violation) = match compared {
        Compared::Equal { events } => (events, None),
        Compared::Differs { events, one, other } => {
            let shown = |event: Option<String>| event.unwrap_or_else(|| "the end".to_owned());
            let (one, other) = (shown(one), shown(other));
            let message = format!(
                "after {events} events that are alike, one process has\n      {one}\n    and the other\n      {other}"
            );
            (events, Some(Violation { judge: DETERMINISM, message }))
        }
    };
    let verdict = if violation.is_some() { "violation" } else { "ok" };
    if args.json {
        let mut record = json!({ "scenario": plan.scenario, "seed": plan.seed });
        if let Some(mutant) = &plan.mutant {
            record["mutant"] = mutant.as_str().into();
        }
        record["verdict"] = verdict.into();
        record["events"] = events.into();
        record["violations"] =
            violation.iter().map(|found| json!({ "judge": found.judge, "message": found.message })).collect();
        writeln!(out, "{record}")?;
    } else {
        let mutant = plan.mutant.as_deref().map(|mutant| format!(", with {mutant}")).unwrap_or_default();
        writeln!(out, "{} seed {}{mutant}, in two processes", plan.scenario, plan.seed)?;
        writeln!(out, "  events       {events} alike")?;
        writeln!(out, "  verdict      {verdict}")?;
        if let Some(Violation { judge, message }) = &violation {
            writeln!(out, "    {judge}: {message}")?;
        }
    }
    Ok(if violation.is_some() { Exit::Violation } else { Exit::Success })
}

/// Prints every event of the run, and last what it came to.
fn events(plan: &Plan) -> Result<Exit, Failure> {
    // Not the standard output that this thread has locked: another thread runs the plan.
    let stream = Stream::new(BufWriter::new(File::from(rustix::io::dup(io::stdout()).map_err(io::Error::from)?)));
    let options = Options { events: Some(stream.clone()), ..Options::default() };
    let attempt = attempt::run(attempt::simulate, plan, options)?;
    stream.line(format_args!("{:?}", attempt.outcome));
    stream.flush();
    Ok(if attempt.outcome.violations.is_empty() { Exit::Success } else { Exit::Violation })
}

/// Where log lines go. Clones go to the same place.
///
/// A line that cannot be written is not the run's affair: the first error is kept until the end.
#[derive(Clone)]
struct Log(Arc<Mutex<Sink>>);

struct Sink {
    writer: Box<dyn Write + Send>,
    failed: Option<io::Error>,
}

impl Log {
    fn of(args: &ReplayArgs) -> Result<Log, Failure> {
        let writer: Box<dyn Write + Send> = match &args.log_file {
            None => Box::new(io::stderr()),
            Some(path) => {
                let named = |error| io::Error::other(format!("{}: {error}", path.display()));
                Box::new(BufWriter::new(File::create(path).map_err(named)?))
            }
        };
        Ok(Log(Arc::new(Mutex::new(Sink { writer, failed: None }))))
    }

    fn dispatch(&self, seed: u64, args: &ReplayArgs) -> Result<Option<Dispatch>, Failure> {
        let Some(filter) = &args.log else { return Ok(None) };
        let log = self.clone();
        let subscriber = seedbed_sim::log::subscriber(seed, filter, move || log.clone())
            .map_err(|error| Failure::Usage(format!("--log {filter}: {error}")))?;
        Ok(Some(Dispatch::new(subscriber)))
    }

    fn sink(&self) -> MutexGuard<'_, Sink> {
        // After a panic in the middle of a line, what was written is still wanted.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is left, and says what went wrong on the way. A reader who has gone is nothing wrong.
    fn finish(&mut self) -> Result<(), Failure> {
        self.flush()?;
        match self.sink().failed.take() {
            Some(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(io::Error::new(error.kind(), format!("the log is incomplete: {error}")).into())
            }
            _ => Ok(()),
        }
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sink = &mut *self.sink();
        if sink.failed.is_none()
            && let Err(error) = sink.writer.write_all(bytes)
        {
            sink.failed = Some(error);
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let sink = &mut *self.sink();
        if let Err(error) = sink.writer.flush() {
            sink.failed.get_or_insert(error);
        }
        Ok(())
    }
}

pub(crate) fn print(run: &Finished, out: &mut impl Write) -> io::Result<()> {
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
