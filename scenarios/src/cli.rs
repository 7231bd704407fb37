//! The flags, and the way from them to a command.

use std::ffi::OsString;
use std::io::{self, Write};
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use seedbed_sim::Mutant;
use seedbed_sim::plan::Scenario;

use crate::attempt::simulate;
use crate::catalogue;
use crate::commands;
use crate::exit::{Exit, Failure};
use crate::named::NamedPlan;
use crate::output::Output;
use crate::seeds::{Seeds, Shard};

const ABOUT: &str = "\
Runs a replicated store in a simulation in which one seed decides every delay, crash, partition and fsync, and judges \
every answer.

A scenario is a family of runs with one intent, such as `partition` or `crash-restart`. A scenario and a seed give a \
plan: the cluster, its network and disks, what clients do and what goes wrong when. A plan is data (JSON), and running \
it is a pure function: the same plan has the same trace hash in every thread, process and machine. Each run has two \
acts: faults; then everything is healed, and the cluster must converge and serve.

Without a subcommand, the whole catalogue is run over a few dozen seeds, in one to two minutes on two cores, and \
with it the regressions: plans that once failed.";

const EXAMPLES: &str = "\
Examples:
  seedbed                                  the whole catalogue, and the regressions
  seedbed run partition --seeds 0..1000    one scenario, a thousand seeds
  seedbed replay partition 17              one of them again
  seedbed replay partition 17 --twice      in two processes, compared event by event
  seedbed replay partition 17 --print-plan > plan.json
  seedbed replay plan.json                 the same, from the plan, which may have been edited
  seedbed shrink partition 17              a failure with as few faults and operations as it takes
  seedbed mutants                          do the judges notice planted bugs?

Exit status:
  0    no guarantee was broken; or a plan was shrunk
  1    a violation: its seed, its judge and the command that replays it are printed
  2    bad usage, a damaged plan, nothing to shrink, or a file that cannot be read or written
  130  ended by Ctrl-C, with no violation until then; what was shrunk by then is kept";

const JSON_HELP: &str = "\
Print one JSON object a line instead of a table.

A run has `scenario`, `seed`, `regression` (its name, if it is one), `mutant` (if one is planted), `verdict` (\"ok\" \
or \"violation\"), `trace_hash` (16 hexadecimal digits), `operations` and `operations_by_end` (ok, failed, unknown), \
`grpc_operations` (those of them that went over HTTP/2), `faults` (those that took effect) and `faults_by_family`, \
`crashes` (how many lost or tore something), `reads_by_path` (what the reads of each path cost the members: `reads`, index \
`rounds`, `messages`, `fsyncs` caused, `waited_us` of virtual time), `staleness_by_path` (ranges `answered` to clients, and \
how many of them were `stale`), `watched` (`streams`, `watches`, `events` and `progress` told, watches ended as `compacted`), `leases` (`granted`, `revoked`, `expired`, `keys` that went with one, renewals answered as \
`renewed`, entries that `noted` what was left), `contended` (`locks` and `offices` held, `fenced` changes made, those `kept_out`, leaders \
`observed`, how often one was `disowned` or an office `vacant`), `proxied` (`operations` that proxies have answered, those `cached`, \
the `stalest_ms` of these: for how long the store had been beyond it, of `allowed_ms`), \
`virtual_ms`, `heal_to_commit_ms` (virtual time from the healing of everything to the first \
commit after it; null if there was none), `wall_ms` and `cpu_ms` (of the run's thread), `verified` (it was run twice, and \
the outcomes compared), `violations` (each with `judge` and `message`) and, with a violation, `replay` (the command).

`replay --twice` has `scenario`, `seed`, `mutant`, `verdict`, `events` (that are alike) and `violations`.

A planted bug has `mutant`, `killed`, `judges` (who noticed), `message`, `scenario` and `seed` of the run that killed it \
(null if it survived), `seeds` (runs tried), `cpu_ms` (of all of them), `disputed` (violations not counted, since the run breaks a \
guarantee without the bug too) and `replay`.

A shrunk plan has `scenario`, `seed`, `mutant` (if one is planted), `failure` (judge and claim that were kept), \
`message` (of the smallest plan's violation), `before` and `after` (each with `faults`, `operations`, `clients` that do \
something, `members`, `keys` and `virtual_ms`), `runs` tried, `ended` (\"smallest\", \"budget\" or \"interrupted\"), \
`wall_ms`, `plan` (the file) and `replay`.

A scenario of `list` has `scenario` and `summary`, a regression has `regression`, a planted bug `mutant`.";

#[derive(Debug, Parser)]
#[command(
    name = "seedbed", version, about = "Simulates a replicated store, and judges it", long_about = ABOUT,
    after_help = EXAMPLES, args_conflicts_with_subcommands = true, disable_help_subcommand = true
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    sweep: SweepArgs,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(RunArgs),
    Replay(ReplayArgs),
    Shrink(ShrinkArgs),
    Mutants(MutantsArgs),
    List(ListArgs),
}

/// Flags that mean the same everywhere.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Common {
    /// Runs at a time [default: the number of processors]
    #[arg(long, value_name = "N")]
    jobs: Option<NonZeroUsize>,
    /// Print one JSON object a line instead of a table (fields: see --help)
    #[arg(long, long_help = JSON_HELP)]
    pub(crate) json: bool,
}

impl Common {
    pub(crate) fn jobs(self) -> usize {
        self.jobs.or_else(|| std::thread::available_parallelism().ok()).map_or(1, NonZeroUsize::get)
    }
}

/// How a sweep is done.
#[derive(Clone, Debug, Args)]
pub(crate) struct SweepArgs {
    /// Seeds, the end not included; or one seed
    #[arg(long, value_name = "A..B", default_value_t = Seeds(commands::run::SEEDS))]
    pub(crate) seeds: Seeds,
    /// Only the i-th of n shares of the seeds, counted from 0
    #[arg(long, value_name = "i/n")]
    pub(crate) shard: Option<Shard>,
    /// Run every N-th seed twice, and compare what it came to; 0: none
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub(crate) verify_every: u64,
    /// Where the summary and the plans of failures are written
    #[arg(long, value_name = "FOLDER", default_value = "reports/out")]
    pub(crate) out: PathBuf,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Runs scenarios over seeds, and judges them.
///
/// Prints a table, or a JSON object for each run, in the order of scenarios and seeds; then each violation with the
/// command that replays it. `summary.md` and the plan of each failure are written to the folder of `--out`.
#[derive(Debug, Args)]
pub(crate) struct RunArgs {
    /// Which scenarios, in this order [default: all of them, and the regressions; see `seedbed list`]
    #[arg(value_name = "SCENARIO", value_parser = scenario)]
    pub(crate) scenarios: Vec<&'static Scenario>,
    #[command(flatten)]
    pub(crate) sweep: SweepArgs,
}

/// Runs one plan again, with its log if wanted.
///
/// The same plan gives the same run, the same trace hash and the same log, byte for byte.
#[derive(Debug, Args)]
pub(crate) struct ReplayArgs {
    #[command(flatten)]
    pub(crate) plan: NamedPlan,
    /// Exit with 1 unless the trace hash is this one
    #[arg(long, value_name = "HASH", value_parser = trace_hash)]
    pub(crate) expect_hash: Option<u64>,
    /// Log these lines, filtered as by RUST_LOG: `info`, `seedbed_core::raft=debug`
    #[arg(long, value_name = "FILTER")]
    pub(crate) log: Option<String>,
    /// Log to a file instead of standard error
    #[arg(long, value_name = "FILE", requires = "log")]
    pub(crate) log_file: Option<PathBuf>,
    /// Print the plan as JSON instead of running it
    #[arg(long, conflicts_with_all = ["expect_hash", "log", "json"])]
    pub(crate) print_plan: bool,
    /// Run it in two processes, and show the first event that differs
    #[arg(long, conflicts_with_all = ["expect_hash", "log", "print_plan"])]
    pub(crate) twice: bool,
    /// Print the events of the run and nothing else: what `--twice` has two processes do
    #[arg(long, hide = true, conflicts_with_all = ["expect_hash", "print_plan", "twice", "json"])]
    pub(crate) events: bool,
    /// Print one JSON object instead of text (fields: see `seedbed run --help`)
    #[arg(long)]
    pub(crate) json: bool,
}

/// Makes a plan that fails as small as it can be and still fail.
///
/// Operations, faults, clients, members, keys and time are taken out for as long as a run has a violation of the same
/// kind: the same judge, with the same claim. With a planted bug, the run without it must stay clean. Exits with 2 if
/// the plan does not fail; Ctrl-C ends the search, and the smallest plan until then is kept.
#[derive(Debug, Args)]
pub(crate) struct ShrinkArgs {
    #[command(flatten)]
    pub(crate) plan: NamedPlan,
    /// Where the plan is written [default: reports/out/SCENARIO-SEED[-BUG]-shrunk.json]
    #[arg(long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// Runs after which the search ends
    #[arg(long, value_name = "RUNS", default_value_t = commands::shrink::BUDGET)]
    pub(crate) budget: u64,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Plants known bugs, and shows which judge notices each.
///
/// The ordinary scenarios are tried in turn, from the last to the first and seed after seed, until a judge finds a
/// violation or the seeds are spent. A violation counts if the same run without the bug has none. Exits with 1 if a
/// bug survives.
#[derive(Debug, Args)]
pub(crate) struct MutantsArgs {
    /// Which planted bugs [default: all of them; see `seedbed list`]
    #[arg(value_name = "BUG")]
    pub(crate) mutants: Vec<Mutant>,
    /// Seeds of each scenario, the end not included
    #[arg(long, value_name = "A..B", default_value_t = Seeds(commands::mutants::SEEDS))]
    pub(crate) seeds: Seeds,
    #[command(flatten)]
    pub(crate) common: Common,
}

/// Lists the scenarios, the regressions and the planted bugs, each with a line that says what it is.
#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

fn scenario(name: &str) -> Result<&'static Scenario, String> {
    catalogue::find(name).ok_or_else(|| format!("no scenario is called `{name}`; `seedbed list` names them"))
}

fn trace_hash(text: &str) -> Result<u64, String> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    let hexadecimal = digits.len() <= 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    let hash = hexadecimal.then(|| u64::from_str_radix(digits, 16).ok()).flatten();
    hash.ok_or_else(|| "a trace hash is at most 16 hexadecimal digits".to_owned())
}

/// Does what the flags say.
pub(crate) fn main(args: impl IntoIterator<Item = OsString>) -> Result<Exit, Failure> {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            error.print()?;
            return Ok(Exit::Success);
        }
        Err(error) => return Err(Failure::Usage(one_line(&error))),
    };
    let stop = Arc::new(AtomicBool::new(false));
    let mut out = Output::new(io::stdout().lock(), stop.clone());
    let exit = match cli.command.unwrap_or(Command::Run(RunArgs { scenarios: Vec::new(), sweep: cli.sweep })) {
        Command::Run(args) => commands::run::run(&args, simulate, interrupts(&stop)?, &mut out),
        Command::Replay(args) => commands::replay::replay(&args, &mut out),
        Command::Shrink(args) => commands::shrink::shrink(&args, simulate, interrupts(&stop)?, &mut out),
        Command::Mutants(args) => commands::mutants::mutants(&args, simulate, interrupts(&stop)?, &mut out),
        Command::List(args) => commands::list::list(&args, &mut out),
    }?;
    out.flush()?;
    Ok(exit)
}

/// Set by the first Ctrl-C; the second ends the process as if there were no handler.
fn interrupts(stop: &Arc<AtomicBool>) -> Result<&AtomicBool, Failure> {
    let flag = Arc::clone(stop);
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130);
        }
    })
    .map_err(|error| io::Error::other(format!("no handler for Ctrl-C: {error}")))?;
    Ok(stop)
}

/// clap's first paragraph; the usage and the tips that follow it are left to `--help`.
fn one_line(error: &clap::Error) -> String {
    let text = error.to_string();
    let words: Vec<&str> = text.split("\n\n").next().unwrap_or_default().split_whitespace().collect();
    let line = words.join(" ");
    format!("{} (see `seedbed --help`)", line.strip_prefix("error: ").unwrap_or(&line))
}

#[cfg(test)]
mod tests {
    use super::*;

    impl RunArgs {
        /// What `seedbed run` makes of these flags.
        pub(crate) fn parsed(args: &str) -> RunArgs {
            match Cli::parse_from(["seedbed", "run"].into_iter().chain(args.split_whitespace())).command {
                Some(Command::Run(args)) => args,
                other => panic!("{other:?}"),
            }
        }
    }

    impl ShrinkArgs {
        /// What `seedbed shrink` makes of these flags.
        pub(crate) fn parsed(args: &str) -> ShrinkArgs {
            match Cli::parse_from(["seedbed", "shrink"].into_iter().chain(args.split_whitespace())).command {
                Some(Command::Shrink(args)) => args,
                other => panic!("{other:?}"),
            }
        }
    }

    impl MutantsArgs {
        /// What `seedbed mutants` makes of these flags.
        pub(crate) fn parsed(args: &str) -> MutantsArgs {
            match Cli::parse_from(["seedbed", "mutants"].into_iter().chain(args.split_whitespace())).command {
                Some(Command::Mutants(args)) => args,
                other => panic!("{other:?}"),
            }
        }
    }

    fn refusal(args: &str) -> String {
        let args = ["seedbed"].into_iter().chain(args.split_whitespace()).map(OsString::from);
        match main(args) {
            Err(Failure::Usage(line)) => line,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_flags_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn bad_usage_is_one_line_that_says_what_is_wrong() {
        for (args, says) in [
            ("run gale", "no scenario is called `gale`"),
            ("run calm --seeds 9..3", "no seed is in 9..3"),
            ("--seeds x", "`x` is not a seed"),
            ("run --shard 4/4", "0 <= i < n"),
            ("run --jobs 0", "--jobs"),
            ("dance", "dance"),
            ("--dance", "--dance"),
            ("replay", "PLAN|SCENARIO"),
            ("replay calm x", "invalid digit"),
            ("replay calm 1 --mutant gremlin", "no planted bug is called `gremlin`"),
            ("replay calm 1 --expect-hash xyz", "16 hexadecimal digits"),
            ("replay calm 1 --log-file x", "--log"),
            ("replay calm 1 --twice --print-plan", "--twice"),
            ("shrink", "PLAN|SCENARIO"),
            ("shrink calm 1 --budget x", "--budget"),
            ("mutants gremlin", "no planted bug is called `gremlin`"),
        ] {
            let line = refusal(args);
            assert!(line.contains(says) && !line.contains('\n'), "{args}: {line}");
        }
    }

    #[test]
    fn a_hash_is_read_with_or_without_its_prefix() {
        assert_eq!(trace_hash("00ff"), Ok(255));
        assert_eq!(trace_hash("0xffffffffffffffff"), Ok(u64::MAX));
        for text in ["", "0x", "+1", "11112222333344445"] {
            assert!(trace_hash(text).is_err(), "{text}");
        }
    }
}
