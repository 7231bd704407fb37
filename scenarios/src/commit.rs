//! Which commit a plan was made at: a seed means the same only as long as the code that draws from it does.

use seedbed_sim::plan::Plan;

/// The commit that this binary was built at, if it was built under git.
const COMMIT: Option<&str> = option_env!("SEEDBED_COMMIT");

/// The plan's JSON form, with this binary's commit in it.
pub(crate) fn stamped(plan: &Plan) -> String {
    let commit = COMMIT.map(str::to_owned).or_else(|| plan.commit.clone());
    Plan { commit, ..plan.clone() }.to_json()
}

/// A line for whoever runs a plan that was made at another commit.
pub(crate) fn warning(plan: &Plan) -> Option<String> {
    differs(plan.commit.as_deref()?, COMMIT?)
}

fn differs(made: &str, built: &str) -> Option<String> {
    (made != built)
        .then(|| format!("warning: the plan was made at commit {made}, this is {built}: the run may be another"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalogue::CATALOGUE;

    #[test]
    fn a_stamped_plan_is_the_same_but_for_its_commit_and_raises_no_warning() {
        let plan = CATALOGUE[0].plan(3);
        let stamped = Plan::from_json(&stamped(&plan)).expect("a valid plan");
        assert_eq!(stamped.commit.as_deref(), COMMIT);
        assert_eq!(warning(&stamped), None);
        assert_eq!(warning(&plan), None);
        assert_eq!(Plan { commit: None, ..stamped }, plan);
    }

    #[test]
    fn another_commit_is_named_in_a_line() {
        let line = differs("0123456789ab", "ba9876543210").expect("a warning");
        assert!(line.contains("0123456789ab") && line.contains("ba9876543210") && !line.contains('\n'), "{line}");
        assert_eq!(differs("0123456789ab", "0123456789ab"), None);
    }
}
