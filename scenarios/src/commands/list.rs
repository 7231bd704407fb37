//! `list`: the scenarios and the planted bugs.

use std::io::Write;

use seedbed_sim::Mutant;
use serde_json::json;

use crate::catalogue::CATALOGUE;
use crate::cli::ListArgs;
use crate::exit::{Exit, Failure};

pub(crate) fn list(args: &ListArgs, out: &mut impl Write) -> Result<Exit, Failure> {
    let scenarios = CATALOGUE.iter().map(|scenario| ("scenario", scenario.name, scenario.summary));
    let mutants = Mutant::ALL.iter().map(|mutant| ("mutant", mutant.name(), mutant.summary()));
    let mut heading = "";
    for (kind, name, summary) in scenarios.chain(mutants) {
        if args.json {
            writeln!(out, "{}", json!({ kind: name, "summary": summary }))?;
            continue;
        }
        if heading != kind {
            writeln!(out, "{}", if kind == "scenario" { "Scenarios" } else { "\nPlanted bugs" })?;
            heading = kind;
        }
        writeln!(out, "  {name:<24} {summary}")?;
    }
    Ok(Exit::Success)
}
