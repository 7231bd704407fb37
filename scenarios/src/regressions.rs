//! Plans that once failed, in the binary: every sweep of all scenarios runs them, and they have to be clean.

use seedbed_sim::plan::Plan;

use crate::exit::Failure;

/// The plans of `regressions/`, by the names of their files.
static PLANS: &[(&str, &str)] = include!(concat!(env!("OUT_DIR"), "/regressions.rs"));

/// The names of all of them, in order.
pub(crate) fn names() -> impl Iterator<Item = &'static str> {
    PLANS.iter().map(|(name, _)| *name)
}

/// The plan of that name, if there is one.
pub(crate) fn find(name: &str) -> Option<Result<Plan, Failure>> {
    let (name, json) = PLANS.iter().find(|(other, _)| *other == name)?;
    Some(Plan::from_json(json).map_err(|error| Failure::Usage(format!("regression {name}: {error}"))))
}

/// All of them.
pub(crate) fn all() -> Result<Vec<(&'static str, Plan)>, Failure> {
    names().filter_map(|name| find(name).map(|plan| plan.map(|plan| (name, plan)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue;

    #[test]
    fn every_regression_is_a_plan_of_the_store_as_it_is() {
        let all = all().expect("valid plans");
        assert!(all.len() >= 3);
        for (name, plan) in all {
            assert_eq!(plan.mutant, None, "{name}");
            assert!(catalogue::find(name).is_none(), "{name} is a scenario's name");
        }
    }
}
