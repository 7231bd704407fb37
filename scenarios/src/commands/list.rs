//! `list`: the scenarios, the regressions and the planted bugs.

use std::io::Write;

use seedbed_sim::Mutant;
use serde_json::json;

use crate::catalogue::CATALOGUE;
use crate::cli::ListArgs;
use crate::exit::{Exit, Failure};
use crate::regressions;

pub(crate) fn list(args: &ListArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let scenarios = CATALOGUE.iter().map(|scenario| ("scenario", scenario.name, scenario.summary));
    let mutants = Mutant::ALL.iter().map(|mutant| ("mutant", mutant.name(), mutant.summary()));
    let regressions = regressions::all()?;
    let summaries: Vec<(&str, String)> =
        regressions.iter().map(|(name, plan)| (*name, format!("{} seed {}, once", plan.scenario, plan.seed))).collect();
    let regressions = summaries.iter().map(|(name, summary)| ("regression", *name, summary.as_str()));
    let mut heading = "";
    for (kind, name, summary) in scenarios.chain(regressions).chain(mutants) {
        if args.json {
            writeln!(out, "{}", json!({ kind: name, "summary": summary }))?;
            continue;
        }
        if heading != kind {
            let title = match kind {
                "scenario" => "Scenarios",
                "regression" => "\nRegressions",
                _ => "\nPlanted bugs",
            };
            writeln!(out, "{title}")?;
            heading = kind;
        }
        writeln!(out, "  {name:<30} {summary}")?;
    }
    Ok(Exit::Success)
}
