//! All judges on one run.

use std::collections::BTreeSet;
use std::time::Duration;

use seedbed_core::raft::NodeId;
use seedbed_core::runtime::AppliedEntry;

use crate::checker::durable::{self, Final};
use crate::checker::lease::LeaseCounts;
use crate::checker::linearizable::{self, Placements};
use crate::checker::replicas::{self, StateHash};
use crate::checker::{
    election, fencing, lease, lease_hazard, proxied, read_latency, refusal, serializable, unasked, watch,
};
use crate::contend::ContendLog;
use crate::converge::Converged;
use crate::evidence::Evidence;
use crate::history::History;
use crate::outcome::Violation;
use crate::plan::Plan;
use crate::watch::WatchLog;

/// What the judges say.
#[derive(Debug, Default)]
pub struct Judged {
    /// What they have found.
    pub violations: Vec<Violation>,
    /// What became of leases, if nothing was wrong with that.
    pub leases: LeaseCounts,
}

/// Judges a run by what its clients saw, what its members did, and where they ended. Every judge speaks, in a fixed
/// order, the ones that look deepest first: one mistake often shows in several ways.
pub fn judge(
    plan: &Plan,
    history: &History,
    watched: &WatchLog,
    contended: &ContendLog,
    evidence: &Evidence,
    converged: &[Converged],
) -> Judged {
    let promising_less = plan.breaks_leases().then(|| lease_hazard::as_serializable(history));
    let history = promising_less.as_ref().unwrap_or(history);
    let applied: Vec<AppliedEntry> = evidence.applied.values().flatten().copied().collect();
    let leases = plan.lease_ttl_max_s().map(|_| lease::check(history, &circumstances(plan, evidence, &applied)));
    let counts = leases.as_ref().and_then(|counts| counts.as_ref().ok().copied()).unwrap_or_default();
    let extended = (!evidence.unasked.is_empty()).then(|| unasked::as_operations(history, &applied, &evidence.unasked));
    let (history, applied) = match &extended {
        Some((history, applied)) => (history, applied),
        None => (history, &applied),
    };
    let placements = Placements::of_log(history, applied);
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
    let by_member = evidence.applied.iter().map(|(node, entries): (&NodeId, _)| (*node, &entries[..]));
    let linearizable = linearizable::check(history, Some(&placements)).and_then(|checked| match checked.undecided {
        // A search that was given up is not a pass.
        Some(contradiction) => Err(Violation {
            judge: "undecided",
            message: format!("the search for an order was given up; it first met: {}", contradiction.message),
        }),
        None => Ok(()),
    });
    let violations = [
        election::leaders(&evidence.leads),
        election::votes(&evidence.votes),
        replicas::applied(by_member),
        replicas::hashes(&hashes),
        refusal::check(history),
        linearizable,
        serializable::check(history, Some(&placements)).map(|_| ()),
        read_latency::check(history, &evidence.stalls, plan.read_index_ms.map(Duration::from_millis)),
        durable::check(history, &finals, Some(&placements)),
        plan.proxy.map_or(Ok(()), |proxy| proxied::check(history, &evidence.reached, proxy.staleness_ms * 1_000_000)),
        watch::check(history, applied, &steady(evidence), watched),
        fencing::check(history, applied, &evidence.reached, contended),
        leases.transpose().map(|_| ()),
    ]
    .into_iter()
    .filter_map(Result::err)
    .collect();
    Judged { violations, leases: counts }
}

/// Members to which the log has brought everything, from the first entry on, and no snapshot anything.
fn steady(evidence: &Evidence) -> BTreeSet<u64> {
    let first = |entries: &[AppliedEntry]| entries.first().map(|entry| entry.index);
    let begin = evidence.applied.values().filter_map(|entries| first(entries)).min();
    let leaps = |entries: &[AppliedEntry]| entries.windows(2).any(|pair| pair[1].index > pair[0].index + 1);
    let steady = |entries: &[AppliedEntry]| first(entries) == begin && !leaps(entries);
    evidence.applied.iter().filter(|(_, entries)| steady(entries)).map(|(node, _)| node.0).collect()
}

/// What the judge of leases has to know beside the history.
fn circumstances(plan: &Plan, evidence: &Evidence, applied: &[AppliedEntry]) -> lease::Circumstances {
    let election_ms = plan.cluster.election_ms;
    lease::Circumstances {
        applied: applied.iter().map(|entry| (entry.index, *entry)).collect(),
        unasked: evidence.unasked.clone(),
        leased: evidence.leased.clone(),
        // As the service has it: one and a half election time-outs, in whole seconds.
        ttl_min: (election_ms * 3 / 2).div_ceil(1000) as i64,
        extension_ns: election_ms * 1_000_000,
        drift_ppm: plan.drift_ppm_max(),
        jumps: evidence.jumps.clone(),
    }
}
