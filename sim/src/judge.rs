//! All judges on one run.

use std::time::Duration;

use seedbed_core::raft::NodeId;

use crate::checker::durable::{self, Final};
use crate::checker::linearizable::{self, Placements};
use crate::checker::replicas::{self, StateHash};
use crate::checker::{election, lease_hazard, read_latency, refusal, serializable, watch};
use crate::converge::Converged;
use crate::evidence::Evidence;
use crate::history::History;
use crate::outcome::Violation;
use crate::plan::Plan;
use crate::watch::WatchLog;

/// Judges a run by what its clients saw, what its members did, and where they ended. Every judge speaks, in a fixed
/// order, the ones that look deepest first: one mistake often shows in several ways.
pub fn judge(
    plan: &Plan,
    history: &History,
    watched: &WatchLog,
    evidence: &Evidence,
    converged: &[Converged],
) -> Vec<Violation> {
    let promising_less = plan.breaks_leases().then(|| lease_hazard::as_serializable(history));
    let history = promising_less.as_ref().unwrap_or(history);
    let placements = Placements::of_log(history, evidence.applied.values().flatten());
    let finals: Vec<_> =
        converged.iter().map(|member| Final { member: member.node.0, everything: member.state.clone() }).collect();
    let hashes: Vec<_> = converged
        .iter()
        .map(|member| StateHash {
            node: member.node,
            revision: member.hash.revision,
            compact_revision: member.hash.compact_revision,
            hash: member.hash.hash,
            digest: member.digest.0,
        })
        .collect();
    let applied = evidence.applied.iter().map(|(node, entries): (&NodeId, _)| (*node, &entries[..]));
    let linearizable = linearizable::check(history, Some(&placements)).and_then(|checked| match checked.undecided {
        // A search that was given up is not a pass.
        Some(contradiction) => Err(Violation {
            judge: "undecided",
            message: format!("the search for an order was given up; it first met: {}", contradiction.message),
        }),
        None => Ok(()),
    });
    [
        election::leaders(&evidence.leads),
        election::votes(&evidence.votes),
        replicas::applied(applied),
        replicas::hashes(&hashes),
        refusal::check(history),
        linearizable,
        serializable::check(history, Some(&placements)).map(|_| ()),
        read_latency::check(history, &evidence.stalls, plan.read_index_ms.map(Duration::from_millis)),
        durable::check(history, &finals, Some(&placements)),
        watch::check(history, evidence.applied.values().flatten(), watched),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect()
}
