//! A plan, run: two acts, then the verdict.
//!
//! ```text
//!   start ── first leader ── act one: clients and faults ── act two: heal, converge, serve ── judges
//! ```
//!
//! Everything in a run follows from its plan.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use seedbed_core::raft::NodeId;
use seedbed_core::read::ReadPath;

use crate::checker::{proxied, staleness};
use crate::client::{Client, Way};
use crate::clock::true_now_ns;
use crate::cluster::Cluster;
use crate::contend::{ContendLog, Contenders};
use crate::converge::{self, Converged};
use crate::disk::CrashDamage;
use crate::evidence::{self, Evidence};
use crate::history::{History, Outcome as OperationOutcome, Recorder};
use crate::judge::Judged;
use crate::outcome::{Operations, Outcome, ReadCost, Violation};
use crate::plan::Plan;
use crate::runtime::Simulation;
use crate::trace::Stream;
use crate::watch::{WatchLog, Watchers};
use crate::workload::{Notes, Steps};
use crate::{judge, mutant, nemesis, trace};

/// How to run a plan. None of it changes what happens in the run.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Where the run's log goes, such as one of [`log::subscriber`](crate::log::subscriber); nowhere if `None`.
    pub log: Option<tracing::Dispatch>,
    /// Where clients note down what they do, for a script; nowhere if `None`. Not for a plan that has a script.
    pub steps: Option<Steps>,
    /// Where the events of the run's trace go; nowhere if `None`.
    pub events: Option<Stream>,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Run {
    /// What it came to.
    pub outcome: Outcome,
    /// What clients did and saw; empty, if the run ended with a panic.
    pub history: History,
    /// The processor time that it took, with its judges.
    pub cpu: Duration,
}

/// Runs a valid plan, on a thread of its own, and judges what came of it.
///
/// A panic in a member or a client ends the run: it is the finding of the judge `panic`.
pub fn run(plan: &Plan, options: &Options) -> Run {
    let mut simulation = Simulation::new(plan.seed);
    if let Some(log) = &options.log {
        simulation = simulation.log(log.clone());
    }
    let acted = simulation.run(|| {
        mutant::plant(plan.mutant.as_deref().map(|name| name.parse().expect("the plan is valid")));
        trace::stream(options.events.clone());
        act(plan, options.steps.clone())
    });
    let judged_from = thread_cpu();
    let acted = acted.unwrap_or_else(|panicked| Acted {
        violations: vec![Violation { judge: "panic", message: panicked.message }],
        ..Acted::default()
    });
    let Acted {
        history,
        watched,
        contended,
        evidence,
        mut violations,
        converged,
        faults,
        crashes,
        reads,
        virtual_ms,
        trace_hash,
        cpu,
    } = acted;
    let Judged { violations: judged, leases } =
        judge::judge(plan, &history, &watched, &contended, &evidence, &converged);
    violations.extend(judged);
    let outcome = Outcome {
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        violations,
        trace_hash,
        operations: count(&history),
        grpc_operations: by_grpc(&history, plan),
        faults,
        crashes,
        reads,
        staleness: staleness::count(&history),
        watched: watched.counts(),
        contended: contended.counts(),
        leases,
        proxied: plan
            .proxy
            .map_or_else(Default::default, |proxy| proxied::count(&history, &evidence.reached, proxy.staleness_ms)),
        virtual_ms,
        heal_to_commit_ms: evidence
            .healed
            .filter(|_| !plan.faults.is_empty())
            .and_then(|healed| healed.to_commit_ns())
            .map(|ns| ns / 1_000_000),
    };
    Run { outcome, history, cpu: cpu + (thread_cpu() - judged_from) }
}

/// The processor time of this thread. Asked of the kernel, not of libc, whose clocks madsim replaces.
fn thread_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// What is known when the last act has ended; nothing, if the run did not get there.
#[derive(Default)]
struct Acted {
    history: History,
    watched: WatchLog,
    contended: ContendLog,
    evidence: Evidence,
    violations: Vec<Violation>,
    converged: Vec<Converged>,
    faults: BTreeMap<&'static str, u64>,
    crashes: CrashDamage,
    reads: BTreeMap<ReadPath, ReadCost>,
    virtual_ms: u64,
    trace_hash: u64,
    cpu: Duration,
}

async fn act(plan: &Plan, steps: Option<Steps>) -> Acted {
    let cluster = Rc::new(RefCell::new(Cluster::start(plan)));
    let deadline = Duration::from_millis(plan.converge_ms);
    if let Err(violation) = converge::first_leader(&cluster, deadline).await {
        let violations = [cluster.borrow().findings(), vec![violation]].concat();
        return Acted { violations, trace_hash: trace::hash(), cpu: thread_cpu(), ..Acted::default() };
    }
    let begun = true_now_ns();
    let recorder = Rc::new(RefCell::new(Recorder::new()));
    let notes = Notes::new(begun, steps);

    let clients: Vec<_> = (1..=plan.workload.clients)
        .map(|id| {
            let (network, members) = (cluster.borrow().network.clone(), cluster.borrow().roster());
            let roster = match Way::of(u64::from(id), &plan.workload) {
                Way::Grpc => cluster.borrow().proxies.roster(plan.seed, id, &members),
                Way::Direct => members,
            };
            let client = Client::new(id, plan.seed, roster, &plan.workload, network, recorder.clone());
            match &plan.workload.script {
                Some(script) => madsim::task::spawn_local(client.follow(script.clone(), begun)),
                None => {
                    let share = share(plan.workload.operations, plan.workload.clients, id);
                    madsim::task::spawn_local(client.run(share, notes.clone()))
                }
            }
        })
        .collect();
    let (network, members) = (cluster.borrow().network.clone(), cluster.borrow().roster());
    let roster = |client| cluster.borrow().proxies.roster(plan.seed, client, &members);
    let watchers = Watchers::start(plan, &network, &roster);
    let mut contenders = Contenders::start(plan, &network, &roster);
    let faults = nemesis::run(&cluster, plan, &recorder).await;

    cluster.borrow().calm();
    evidence::healed();
    converge::first_write(&cluster, &recorder, plan, deadline).await;
    for client in clients {
        client.await.expect("a client's task is never aborted, and its panic ends the run");
    }
    contenders.rest().await;
    let mut converged = converge::converge(&cluster, &recorder, plan, deadline).await;
    let mut unkept = None;
    if let Ok(members) = &converged
        // All may be out, whose disks are damaged.
        && !members.is_empty()
    {
        let well: Vec<NodeId> = members.iter().map(|member| member.node).collect();
        unkept = keep_promises(&cluster, &recorder, plan, &watchers, &contenders, well, deadline).await.err();
        // What this has changed belongs to where the members end.
        converged = converge::converge(&cluster, &recorder, plan, deadline).await;
    }
    let (watched, contended) = (watchers.finish(), contenders.finish());
    let mut violations = cluster.borrow().findings();
    let (counters, crashes) = (cluster.borrow().read_counters(), cluster.borrow().crash_damage());
    let converged = converged.unwrap_or_else(|violation| {
        violations.push(violation);
        Vec::new()
    });
    violations.extend(unkept);
    let virtual_ms = (true_now_ns() - begun) / 1_000_000;
    let history = recorder.take().finish();
    Acted {
        history,
        watched,
        contended,
        evidence: evidence::take(),
        violations,
        converged,
        faults,
        crashes,
        reads: counters.into_iter().map(|(path, counters)| (path, counters.into())).collect(),
        virtual_ms,
        trace_hash: trace::hash(),
        cpu: thread_cpu(),
    }
}

/// Sees to it that what was promised comes to be, by way of members that are well: leases end, locks and offices are given to who
/// waits for them, watchers hear of everything.
///
/// # Errors
/// The first judge that has waited in vain, whatever else there is.
async fn keep_promises(
    cluster: &Rc<RefCell<Cluster>>,
    recorder: &Rc<RefCell<Recorder>>,
    plan: &Plan,
    watchers: &Watchers,
    contenders: &Contenders,
    well: Vec<NodeId>,
    limit: Duration,
) -> Result<(), Violation> {
    if let Some(ttl_s) = plan.lease_ttl_max_s() {
        converge::leases_end(cluster, ttl_s, plan.cluster.election_ms).await?;
    }
    let network = cluster.borrow().network.clone();
    contenders.last_contest(plan, &network, &Rc::new(RefCell::new(well.clone())), limit).await?;
    if watchers.is_empty() {
        return Ok(());
    }
    // After all else: so they hear of its changes, too.
    watchers.ready(well.clone(), limit).await?;
    match converge::last_write(cluster, recorder, plan, &well, limit).await {
        Some(revision) => watchers.told(revision, limit).await,
        // The members do not serve, which is for another judge to say.
        None => Ok(()),
    }
}

/// A client's part of all operations.
fn share(operations: u32, clients: u32, client: u32) -> u32 {
    operations / clients + u32::from(client <= operations % clients)
}

fn count(history: &History) -> Operations {
    let mut operations = Operations::default();
    for operation in &history.operations {
        match operation.outcome {
            OperationOutcome::Ok(_) => operations.ok += 1,
            OperationOutcome::Failed { .. } => operations.failed += 1,
            OperationOutcome::Unknown => operations.unknown += 1,
        }
    }
    operations
}

fn by_grpc(history: &History, plan: &Plan) -> u64 {
    let clients = history.operations.iter().map(|operation| operation.client);
    clients.filter(|client| Way::of(*client, &plan.workload) == Way::Grpc).count() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_add_up() {
        assert_eq!((1..=3).map(|client| share(10, 3, client)).collect::<Vec<_>>(), [4, 3, 3]);
    }
}
