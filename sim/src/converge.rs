//! Act two: with everything healed, the cluster must agree and serve again, within a deadline.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use seedbed_core::mvcc::{ApplyError, Digest, KvHash};
use seedbed_core::raft::{MembershipChange, NodeId};
use seedbed_proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};

use crate::client::{Client, Role, Way};
use crate::cluster::Cluster;
use crate::history::{Outcome, Recorder, Request, value_of};
use crate::outcome::Violation;
use crate::plan::Plan;

/// How often the members are looked at.
const POLL: Duration = Duration::from_millis(20);

/// A member, when all had come to the same place.
#[derive(Clone, Debug)]
pub struct Converged {
    /// The member.
    pub node: NodeId,
    /// Every key it has, as its services would show them.
    pub state: RangeResponse,
    /// The hash of the history that it keeps, with the revisions that it covers.
    pub hash: KvHash,
    /// The digest of its whole history, whatever of it is kept.
    pub digest: Digest,
}

/// Waits until somebody leads: a plan's times begin there.
///
/// # Errors
/// The judge `converge`, if nobody does within the deadline.
pub async fn first_leader(cluster: &RefCell<Cluster>, limit: Duration) -> Result<(), Violation> {
    let led = async {
        while cluster.borrow().leader().is_none() {
            madsim::time::sleep(POLL).await;
        }
    };
    let message = || format!("no leader {limit:?} after the first start: {}", described(&cluster.borrow()));
    madsim::time::timeout(limit, led).await.map_err(|_| Violation { judge: "converge", message: message() })
}

/// What each member says of itself.
fn described(cluster: &Cluster) -> String {
    let members = cluster.statuses().into_iter().map(|(id, status)| match status {
        Some(status) => format!("member {id}: {status:?}"),
        None => format!("member {id}: not serving"),
    });
    members.collect::<Vec<_>>().join("; ")
}

/// Waits until the cluster serves a write and a read by way of every member, by each way in that the plan has used, and all
/// have applied the same log.
///
/// # Errors
/// The judge `converge`, with what each member says of itself, if the deadline passes first.
pub async fn converge(
    cluster: &RefCell<Cluster>,
    recorder: &Rc<RefCell<Recorder>>,
    plan: &Plan,
    limit: Duration,
) -> Result<Vec<Converged>, Violation> {
    let (network, roster) = (cluster.borrow().network.clone(), cluster.borrow().roster());
    // One goes directly, and one by gRPC if any client has.
    let ways = if plan.workload.grpc_clients > 0 { &[Way::Direct, Way::Grpc][..] } else { &[Way::Direct] };
    let prober = |way: &Way| {
        let (workload, network) = (&plan.workload, network.clone());
        let id = Role::Prober(*way).number(workload);
        Client::new(id, plan.seed, roster.clone(), workload, network, recorder.clone())
    };
    let work = async {
        cluster.borrow_mut().tend();
        if plan.changes_members() {
            settle(cluster).await;
        }
        let ids = cluster.borrow().ids();
        for mut client in ways.iter().map(prober) {
            for &id in &ids {
                serve(cluster, &mut client, id).await;
            }
        }
        loop {
            if agree(&cluster.borrow()) {
                break;
            }
            rest(cluster).await;
        }
    };
    if madsim::time::timeout(limit, work).await.is_err() {
        let members = described(&cluster.borrow());
        let message = format!("no agreement {limit:?} after everything was healed: {members}");
        return Err(Violation { judge: "converge", message });
    }
    let cluster = cluster.borrow();
    cluster.ids().into_iter().filter_map(|id| look(&cluster, id).transpose()).collect()
}

/// Waits until the leader knows who the members are, and carries a change through that a failed one has left half done.
async fn settle(cluster: &RefCell<Cluster>) {
    loop {
        let membership = cluster.borrow().membership();
        match membership {
            Some(membership) if membership.settled => return cluster.borrow_mut().set_members(&membership),
            Some(_) => {
                let cluster = cluster.borrow();
                if let Some(leader) = cluster.leader() {
                    // Whatever it comes to shows in the membership.
                    cluster.with_node(leader, |node| async move {
                        let _ = node.change_membership(MembershipChange::Settle).await;
                    });
                }
            }
            None => {}
        }
        rest(cluster).await;
    }
}

/// Writes by way of each member in turn until one has been answered, so that something is there to be committed; at most
/// until the deadline, which [`converge`] tells of.
pub async fn first_write(cluster: &RefCell<Cluster>, recorder: &Rc<RefCell<Recorder>>, plan: &Plan, limit: Duration) {
    let (network, roster) = (cluster.borrow().network.clone(), cluster.borrow().roster());
    let id = Role::FirstWriter.number(&plan.workload);
    let mut client = Client::new(id, plan.seed, roster, &plan.workload, network, recorder.clone());
    let ids = cluster.borrow().ids();
    let written = async {
        for &id in ids.iter().cycle() {
            if let Outcome::Ok(_) = client.ask(id, put).await {
                break;
            }
            rest(cluster).await;
        }
    };
    let _ = madsim::time::timeout(limit, written).await;
}

/// Writes by way of these members in turn until one has been answered: its revision. None, if none is within the limit.
pub async fn last_write(
    cluster: &RefCell<Cluster>,
    recorder: &Rc<RefCell<Recorder>>,
    plan: &Plan,
    members: &[NodeId],
    limit: Duration,
) -> Option<i64> {
    let (network, roster) = (cluster.borrow().network.clone(), cluster.borrow().roster());
    let id = Role::LastWriter.number(&plan.workload);
    let mut client = Client::new(id, plan.seed, roster, &plan.workload, network, recorder.clone());
    let written = async {
        for &member in members.iter().cycle() {
            if let Outcome::Ok(response) = client.ask(member, put).await {
                return Some(response.revision());
            }
            rest(cluster).await;
        }
        None
    };
    madsim::time::timeout(limit, written).await.ok().flatten()
}

/// Waits until no member has a lease any more: nobody renews them now.
///
/// # Errors
/// The judge `lease`: some member still has one when the longest that was asked for must be over.
pub async fn leases_end(cluster: &Rc<RefCell<Cluster>>, ttl_s: u64, election_ms: u64) -> Result<(), Violation> {
    // A leader that has just taken over gives all of them their time anew, and an election time-out on top. What is due is
    // ended within another one, by way of the log.
    let limit = Duration::from_secs(ttl_s.max((election_ms * 3 / 2).div_ceil(1000)))
        + 3 * Duration::from_millis(election_ms)
        + Duration::from_secs(1);
    let left = || {
        let cluster = cluster.borrow();
        let members = cluster.ids().into_iter().filter(|id| !cluster.is_out(*id));
        let mut leases = members.filter_map(|id| {
            let (leases, _) = cluster.node(id)?.store().leases();
            leases.iter().next().map(|(lease, _)| (id, lease))
        });
        leases.next()
    };
    let over = async {
        while left().is_some() {
            rest(cluster).await;
        }
    };
    if madsim::time::timeout(limit, over).await.is_ok() {
        return Ok(());
    }
    match left() {
        None => Ok(()),
        Some((member, lease)) => {
            let message =
                format!("outlived: member {member} still has lease {lease}, {limit:?} after anybody renewed it");
            Err(Violation { judge: "lease", message })
        }
    }
}

fn put(operation: u64) -> Request {
    Request::Put(PutRequest { key: "final".into(), value: value_of(operation, 8), ..PutRequest::default() })
}

/// Lets some time pass, and whoever has found out meanwhile that its disk had failed it comes back.
async fn rest(cluster: &RefCell<Cluster>) {
    madsim::time::sleep(POLL).await;
    cluster.borrow_mut().tend();
}

/// A write and a read by way of one member, tried until both are answered, or its disk turns out to be damaged.
async fn serve(cluster: &RefCell<Cluster>, client: &mut Client, id: NodeId) {
    let get = |_| Request::Range(RangeRequest { key: "final".into(), ..RangeRequest::default() });
    for served in [false, true] {
        let is_out = || cluster.borrow().is_out(id);
        while !is_out() {
            let outcome = if served { client.ask(id, get).await } else { client.ask(id, put).await };
            if matches!(outcome, Outcome::Ok(_)) {
                break;
            }
            rest(cluster).await;
        }
    }
}

/// Whether every member runs, and has applied all of the same log; but for those whose disk is damaged, and who noticed.
fn agree(cluster: &Cluster) -> bool {
    let statuses = cluster.statuses().into_iter().filter(|(id, _)| !cluster.is_out(*id));
    let statuses: Option<Vec<_>> = statuses.map(|(_, status)| status).collect();
    statuses.is_some_and(|statuses| {
        let last = statuses.iter().map(|status| status.last_index).max();
        statuses.iter().any(|status| status.leads)
            && statuses.iter().all(|status| Some(status.last_index) == last && status.applied == status.last_index)
    })
}

/// A member's end. None, if its disk is damaged, and it says so.
fn look(cluster: &Cluster, id: NodeId) -> Result<Option<Converged>, Violation> {
    if cluster.is_out(id) {
        return Ok(None);
    }
    look_at(cluster, id).map(Some).or_else(|(what, error)| {
        let message = format!("member {id}: {what} cannot be read: {error}");
        if cluster.excuses(id, &error) { Ok(None) } else { Err(Violation { judge: "converge", message }) }
    })
}

fn look_at(cluster: &Cluster, id: NodeId) -> Result<Converged, (&'static str, String)> {
    let unreadable = |what, error: ApplyError| (what, error.to_string());
    let node = cluster.node(id).ok_or(("the member", "it is down".to_owned()))?;
    let everything = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
    let state = node.store().range(&everything).map_err(|error| unreadable("its state", error))?;
    let hash = node.store().hash(0).map_err(|error| unreadable("its history", error))?;
    // The store has stood still since the hash: there was nothing to wait for in between.
    let (digest, ..) = node.store().digest();
    Ok(Converged { node: id, state, hash, digest })
}
