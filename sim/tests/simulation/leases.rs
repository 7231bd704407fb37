//! The Lease service of members that live through changes of leaders, restarts and snapshots, in virtual time.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use madsim::time::{TimeHandle, sleep};
use seedbed_core::lease::LeaseOptions;
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse, PutRequest, RangeRequest,
};
use seedbed_sim::client::Client;
use seedbed_sim::cluster::Roster;
use seedbed_sim::history::{Outcome, Recorder, Request, Response};
use seedbed_sim::network::Network;
use seedbed_sim::plan::{Mix, WorkloadPlan};
use seedbed_sim::runtime::{Simulation, pause, resume};

use crate::members::Members;

/// The time-out of elections in these tests: what a new leader gives leases on top, at most.
const ELECTION: Duration = Duration::from_secs(1);

/// Somebody with leases, who speaks gRPC.
struct Holder {
    client: Client,
}

impl Holder {
    fn new(network: &Network) -> Holder {
        let plan = WorkloadPlan {
            clients: 1,
            grpc_clients: 1,
            operations: 1,
            keys: 1,
            value_bytes: 8,
            think_ms: [0, 0],
            timeout_ms: 8_000,
            mix: Mix::default(),
            leases: None,
            script: None,
        };
        let roster: Roster = Rc::new(RefCell::new((1..=3).map(NodeId).collect()));
        let recorder = Rc::new(RefCell::new(Recorder::new()));
        Holder { client: Client::new(1, 1, roster, &plan, network.clone(), recorder) }
    }

    async fn ask(&mut self, member: u64, request: Request) -> Outcome {
        self.client.ask(NodeId(member), |_| request).await
    }

    async fn answer(&mut self, member: u64, request: Request) -> Response {
        match self.ask(member, request).await {
            Outcome::Ok(response) => response,
            other => panic!("no answer: {other:?}"),
        }
    }

    async fn grant(&mut self, member: u64, id: i64, ttl: i64) -> (i64, i64) {
        match self.answer(member, Request::LeaseGrant(LeaseGrantRequest { id, ttl })).await {
            Response::LeaseGrant(granted) => (granted.id, granted.ttl),
            other => panic!("not a grant: {other:?}"),
        }
    }

    /// Puts keys with a lease, the value being the key. The revision of the last.
    async fn put(&mut self, member: u64, keys: &[&str], lease: i64) -> i64 {
        let mut revision = 0;
        for key in keys {
            let key = bytes::Bytes::copy_from_slice(key.as_bytes());
            let put = PutRequest { value: key.clone(), key, lease, ..PutRequest::default() };
            revision = self.answer(member, Request::Put(put)).await.revision();
        }
        revision
    }

    async fn keep_alive(&mut self, member: u64, id: i64) -> i64 {
        match self.answer(member, Request::LeaseKeepAlive(LeaseKeepAliveRequest { id })).await {
            Response::LeaseKeepAlive(kept) => kept.ttl,
            other => panic!("not a keep-alive: {other:?}"),
        }
    }

    async fn time_to_live(&mut self, member: u64, id: i64) -> LeaseTimeToLiveResponse {
        match self.answer(member, Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true })).await {
            Response::LeaseTimeToLive(left) => left,
            other => panic!("not a time to live: {other:?}"),
        }
    }

    async fn list(&mut self, member: u64) -> Vec<i64> {
        match self.answer(member, Request::LeaseLeases(LeaseLeasesRequest {})).await {
            Response::LeaseLeases(list) => list.leases.iter().map(|lease| lease.id).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    /// The living keys, and the store's revision.
    async fn keys(&mut self, member: u64) -> (Vec<String>, i64) {
        let everything = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
        let response = self.answer(member, Request::Range(everything)).await;
        let revision = response.revision();
        let Response::Range(range) = response else { panic!("not a range") };
        (range.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect(), revision)
    }

    /// How long it takes until a lease has ended, asked every few milliseconds.
    async fn ended_after(&mut self, member: u64, id: i64) -> Duration {
        let begun = TimeHandle::current().elapsed();
        while self.time_to_live(member, id).await.ttl >= 0 {
            sleep(Duration::from_millis(5)).await;
        }
        TimeHandle::current().elapsed() - begun
    }
}

fn refused(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed { message, .. } => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_lease_ends_in_its_time_and_all_of_its_keys_go_in_one_revision() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let mut holder = Holder::new(&members.network);
        holder.put(1, &["stays"], 0).await;
        assert_eq!(holder.grant(1, 7, 3).await, (7, 3));
        let revision = holder.put(2, &["b", "a", "c"], 7).await;
        // A key that is put again without a lease does not go with it.
        let revision = holder.put(3, &["c"], 0).await.max(revision);
        let left = holder.time_to_live(2, 7).await;
        assert_eq!((left.ttl, left.granted_ttl, left.keys), (2, 3, vec!["a".into(), "b".into()]));
        let ended = holder.ended_after(3, 7).await;
        let range = Duration::from_millis(2_800)..Duration::from_millis(3_100);
        assert!(range.contains(&ended), "it has ended after {ended:?}");
        for member in 1..=3 {
            assert_eq!(holder.keys(member).await, (vec!["c".to_owned(), "stays".to_owned()], revision + 1));
            let left = holder.time_to_live(member, 7).await;
            assert_eq!((left.id, left.ttl, left.granted_ttl, left.keys.len()), (7, -1, 0, 0));
            assert_eq!(holder.keep_alive(member, 7).await, 0);
        }
        let late = Request::Put(PutRequest { key: "late".into(), lease: 7, ..PutRequest::default() });
        assert_eq!(refused(&holder.ask(1, late).await), "etcdserver: requested lease not found");
    });
}

#[test]
fn what_a_grant_may_be() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let mut holder = Holder::new(&members.network);
        // Elections take a second: no lease is shorter than one and a half of them, in whole seconds.
        for ttl in [-5, 0, 1] {
            let (id, granted) = holder.grant(1, 0, ttl).await;
            assert!(id > 0 && granted == 2, "lease {id} of {granted} s");
        }
        assert_eq!(holder.grant(1, -9, 9_000_000_000).await, (-9, 9_000_000_000));
        assert_eq!(holder.time_to_live(1, -9).await.ttl, 8_999_999_999);
        let too_long = Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 9_000_000_001 });
        assert_eq!(refused(&holder.ask(1, too_long).await), "etcdserver: too large lease TTL");
        let again = Request::LeaseGrant(LeaseGrantRequest { id: -9, ttl: 5 });
        assert_eq!(refused(&holder.ask(1, again).await), "etcdserver: lease already exists");
        let revoke = |id| Request::LeaseRevoke(LeaseRevokeRequest { id });
        assert_eq!(refused(&holder.ask(1, revoke(4)).await), "etcdserver: requested lease not found");
        holder.answer(1, revoke(-9)).await;
        assert_eq!(holder.list(1).await.len(), 3);
    });
}

#[test]
fn whoever_keeps_a_lease_alive_has_it_by_whichever_member() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let mut holder = Holder::new(&members.network);
        holder.grant(1, 7, 2).await;
        holder.grant(1, 8, 2).await;
        holder.put(1, &["key"], 7).await;
        for round in 0..6 {
            sleep(Duration::from_millis(1_500)).await;
            assert_eq!(holder.keep_alive(1 + round % 3, 7).await, 2);
        }
        assert_eq!(holder.list(2).await, [7], "nobody has kept the other one");
        assert_eq!(holder.keys(3).await.0, ["key"]);
    });
}

#[test]
fn a_new_leader_gives_leases_their_time_anew() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(3, |_| {}).await;
        let mut holder = Holder::new(&members.network);
        let leader = members.leader().await;
        holder.grant(leader, 7, 4).await;
        sleep(Duration::from_secs(3)).await;
        members.crash(leader);
        let other = members.leader().await;
        let begun = TimeHandle::current().elapsed();
        holder.ended_after(other, 7).await;
        let ended = TimeHandle::current().elapsed() - begun;
        let range = Duration::from_millis(4_500)..Duration::from_secs(4) + ELECTION + Duration::from_millis(500);
        assert!(range.contains(&ended), "it has ended {ended:?} after the election");
    });
}

#[test]
fn a_new_leader_goes_on_from_what_was_noted() {
    Simulation::new(1).expect(|| async {
        let checkpoint_interval = Some(Duration::from_secs(5));
        let mut members = Members::start(3, |options| options.lease = LeaseOptions { checkpoint_interval }).await;
        let mut holder = Holder::new(&members.network);
        let leader = members.leader().await;
        holder.grant(leader, 7, 60).await;
        holder.grant(leader, 8, 60).await;
        sleep(Duration::from_secs(52)).await;
        // What was noted of this one is not what is left of it any more.
        assert_eq!(holder.keep_alive(leader, 8).await, 60);
        members.crash(leader);
        let other = members.leader().await;
        let (noted, renewed) = (holder.time_to_live(other, 7).await, holder.time_to_live(other, 8).await);
        assert!((9..=11).contains(&noted.ttl), "{} s are left of 10 and an election", noted.ttl);
        assert!(renewed.ttl >= 59, "{} s are left", renewed.ttl);
    });
}

#[test]
fn a_leader_that_was_deposed_renews_nothing() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let mut holder = Holder::new(&members.network);
        let deposed = members.leader().await;
        holder.grant(deposed, 7, 2).await;
        pause(members.home(deposed));
        let others: Vec<u64> = (1..=3).filter(|member| *member != deposed).collect();
        let leader = members.leader_of(&others).await;
        holder.ended_after(leader, 7).await;
        resume(members.home(deposed));
        assert_eq!(holder.keep_alive(deposed, 7).await, 0);
    });
}

#[test]
fn restarts_and_snapshots_keep_leases_with_their_keys() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(3, |options| {
            options.raft.snapshot_entries = 20;
            options.raft.keep_entries = 0;
        })
        .await;
        let mut holder = Holder::new(&members.network);
        let leader = members.leader().await;
        let away = 1 + leader % 3;
        let third = 6 - leader - away;
        members.crash(away);
        holder.grant(leader, 7, 30).await;
        holder.put(leader, &["a", "b"], 7).await;
        // So many that the one who was away needs a snapshot.
        for _ in 0..60 {
            holder.put(leader, &["filler"], 0).await;
        }
        members.boot(away).await.expect("it starts");
        members.agree().await;
        assert!(members.node(away).store().installations() > 0, "it has got a snapshot");
        members.crash(third);
        members.boot(third).await.expect("it starts");
        members.agree().await;
        let revision = holder.keys(leader).await.1;
        holder.answer(leader, Request::LeaseRevoke(LeaseRevokeRequest { id: 7 })).await;
        for member in 1..=3 {
            assert_eq!(holder.keys(member).await, (vec!["filler".to_owned()], revision + 1), "at member {member}");
        }
        members.agree().await;
    });
}
