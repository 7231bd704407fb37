//! A plan as it is named on the command line: a file, or a scenario and a seed.

use std::fs;
use std::path::Path;

use clap::Args;
use seedbed_sim::Mutant;
use seedbed_sim::plan::Plan;

use crate::catalogue;
use crate::exit::Failure;
use crate::record;
use crate::regressions;

/// Which plan.
#[derive(Debug, Args)]
pub(crate) struct NamedPlan {
    /// A file with a plan, the name of a regression, or a scenario, whose seed follows
    #[arg(value_name = "PLAN|SCENARIO")]
    pub(crate) what: String,
    /// The seed of the scenario
    #[arg(value_name = "SEED")]
    pub(crate) seed: Option<u64>,
    /// Plant a bug (see `seedbed list`)
    #[arg(long, value_name = "BUG")]
    pub(crate) mutant: Option<Mutant>,
}

impl NamedPlan {
    /// The plan, with its planted bug.
    pub(crate) fn read(&self) -> Result<Plan, Failure> {
        let mut plan = self.found()?;
        if let Some(mutant) = self.mutant {
            plan.mutant = Some(mutant.name().to_owned());
        }
        Ok(plan)
    }

    fn found(&self) -> Result<Plan, Failure> {
        let what = &self.what;
        match (catalogue::find(what), self.seed) {
            (Some(scenario), Some(seed)) => Ok(scenario.plan(seed)),
            (None, Some(_)) => {
                Err(Failure::Usage(format!("no scenario is called `{what}`; `seedbed list` names them")))
            }
            (Some(_), None) if !Path::new(what).exists() => {
                Err(Failure::Usage(format!("the seed is missing: `{what} SEED`")))
            }
            (_, None) => {
                if let Some(regression) = self.regression().and_then(regressions::find) {
                    return regression;
                }
                let json = fs::read_to_string(what).map_err(|error| {
                    Failure::Usage(format!(
                        "{what}: {error} (neither a plan that can be read nor a scenario or a regression)"
                    ))
                })?;
                Plan::from_json(&json).map_err(|error| Failure::Usage(format!("{what}: {error}")))
            }
        }
    }

    /// The name of the regression, if it is one. A file goes before a regression of the same name.
    pub(crate) fn regression(&self) -> Option<&'static str> {
        let named = self.seed.is_none() && !Path::new(&self.what).exists();
        regressions::names().find(|name| named && *name == self.what)
    }

    /// The command that replays it, as it is typed in the workspace.
    pub(crate) fn replay(&self) -> String {
        let mutant = self.mutant.map(|mutant| mutant.name());
        match self.seed {
            Some(seed) => record::replay(&self.what, seed, mutant),
            None => record::replay_file(&self.what, mutant),
        }
    }
}
