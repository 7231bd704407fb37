//! The Lock and Election services, by gRPC over HTTP/2, in virtual time.

use std::time::Duration;

use bytes::Bytes;
use madsim::time::{sleep, timeout};
use seedbed_core::grpc::Channel;
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::kv_client::KvClient;
use seedbed_proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, request_op,
};
use seedbed_proto::v3electionpb::election_client::ElectionClient;
use seedbed_proto::v3electionpb::{CampaignRequest, LeaderKey, LeaderRequest, ProclaimRequest, ResignRequest};
use seedbed_proto::v3lockpb::lock_client::LockClient;
use seedbed_proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest};
use seedbed_sim::runtime::{MadsimRuntime, Simulation, create_node};
use tonic::{Code, Status};

use crate::members::Members;

const SHORT: Duration = Duration::from_millis(500);

/// Somebody on one connection to one member.
#[derive(Clone)]
struct Client(Channel);

impl Client {
    async fn new(members: &Members, number: u32, member: u64) -> Client {
        let stream = members.network.connect(number, NodeId(member)).await.expect("it listens");
        let home = create_node(&format!("client-{number}"));
        let authority = format!("m{member}").parse().expect("it is a name");
        let channel = home.spawn(Channel::connect::<MadsimRuntime>(stream, authority)).await;
        Client(channel.expect("nobody kills it").expect("it answers"))
    }

    async fn grant(&self, ttl: i64) -> i64 {
        let request = LeaseGrantRequest { id: 0, ttl };
        LeaseClient::new(self.0.clone()).lease_grant(request).await.expect("a lease is granted").into_inner().id
    }

    async fn revoke(&self, id: i64) {
        let revoked = LeaseClient::new(self.0.clone()).lease_revoke(LeaseRevokeRequest { id }).await;
        revoked.expect("it is revoked");
    }

    async fn lock(&self, name: &'static str, lease: i64) -> Result<LockResponse, Status> {
        let request = LockRequest { name: name.into(), lease };
        Ok(LockClient::new(self.0.clone()).lock(request).await?.into_inner())
    }

    async fn unlock(&self, key: Bytes) {
        LockClient::new(self.0.clone()).unlock(UnlockRequest { key }).await.expect("it is unlocked");
    }

    fn election(&self) -> ElectionClient<Channel> {
        ElectionClient::new(self.0.clone())
    }

    async fn campaign(&self, lease: i64, value: &'static str) -> LeaderKey {
        let request = CampaignRequest { name: "e".into(), lease, value: value.into() };
        let answer = self.election().campaign(request).await.expect("it is elected").into_inner();
        answer.leader.expect("it says who")
    }

    async fn keys(&self) -> Vec<String> {
        let request = RangeRequest { key: "\0".into(), range_end: "\0".into(), ..RangeRequest::default() };
        let response = KvClient::new(self.0.clone()).range(request).await.expect("it answers").into_inner();
        response.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.key).into_owned()).collect()
    }

    /// Writes only while a lock is held.
    async fn fenced_put(&self, lock: &LockResponse, created: i64, value: &'static str) -> bool {
        let put = PutRequest { key: "fenced".into(), value: value.into(), ..PutRequest::default() };
        let compare = Compare {
            result: CompareResult::Equal as i32,
            target: CompareTarget::Create as i32,
            key: lock.key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(created)),
        };
        let success = vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }];
        let txn = TxnRequest { compare: vec![compare], success, failure: Vec::new() };
        KvClient::new(self.0.clone()).txn(txn).await.expect("it answers").into_inner().succeeded
    }
}

fn revision(lock: &LockResponse) -> i64 {
    lock.header.as_ref().expect("an answer has a header").revision
}

#[test]
fn a_lock_is_held_by_one_and_goes_to_those_who_wait_in_their_order() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let mut clients = Vec::new();
        for number in 1..=3u32 {
            clients.push(Client::new(&members, number, u64::from(number)).await);
        }
        let mut leases = Vec::new();
        for client in &clients {
            leases.push(client.grant(60).await);
        }
        let first = clients[0].lock("l", leases[0]).await.expect("nobody has it");
        assert_eq!(first.key, format!("l/{:x}", leases[0]));
        // To lock again with the same lease does nothing, by whichever member.
        let again = clients[1].lock("l", leases[0]).await.expect("it has it already");
        assert_eq!(again.key, first.key);

        let waiting: Vec<_> = [1, 2]
            .map(|nth: usize| {
                let (client, lease) = (clients[nth].clone(), leases[nth]);
                madsim::task::spawn_local(async move {
                    // One after the other.
                    sleep(SHORT * nth as u32).await;
                    client.lock("l", lease).await
                })
            })
            .into();
        let [mut second, mut third] = <[_; 2]>::try_from(waiting).expect("they are two");
        sleep(4 * SHORT).await;
        assert!(timeout(SHORT, &mut second).await.is_err(), "the first one has it still");
        clients[0].unlock(first.key.clone()).await;
        let held = timeout(SHORT, &mut second).await.expect("its turn has come").expect("it runs").expect("it has it");
        assert!(timeout(SHORT, &mut third).await.is_err(), "the second one has it now");
        // A lease that ends gives up the lock.
        clients[1].revoke(leases[1]).await;
        let last = timeout(SHORT, &mut third).await.expect("its turn has come").expect("it runs").expect("it has it");
        assert!(revision(&held) < revision(&last));
        assert_eq!(clients[0].keys().await, [String::from_utf8_lossy(&last.key)]);
    });
}

#[test]
fn what_a_former_holder_writes_is_fenced_off() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let (one, other) = (Client::new(&members, 1, 1).await, Client::new(&members, 2, 2).await);
        let (lease, others) = (one.grant(2).await, other.grant(60).await);
        let lock = one.lock("l", lease).await.expect("nobody has it");
        let created = revision(&lock);
        assert!(one.fenced_put(&lock, created, "one").await);
        // It sleeps through the end of its lease.
        let theirs = other.lock("l", others).await.expect("it comes when the lease ends");
        assert!(!one.fenced_put(&lock, created, "one").await, "it believes to hold the lock");
        assert!(other.keys().await.contains(&String::from_utf8_lossy(&theirs.key).into_owned()));
    });
}

#[test]
fn whoever_goes_away_or_loses_its_lease_waits_no_more() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let (one, other) = (Client::new(&members, 1, 1).await, Client::new(&members, 2, 2).await);
        let holder = one.lock("l", 0).await.expect("it gets a lease");
        let lease = other.grant(60).await;
        assert!(timeout(SHORT, other.lock("l", lease)).await.is_err(), "it is given up");
        sleep(SHORT).await;
        assert_eq!(one.keys().await, [String::from_utf8_lossy(&holder.key)], "nothing is left of who has gone");

        let lease = other.grant(60).await;
        let waiting = madsim::task::spawn_local({
            let other = other.clone();
            async move { other.lock("l", lease).await }
        });
        sleep(SHORT).await;
        other.revoke(lease).await;
        one.unlock(holder.key).await;
        let error = waiting.await.expect("it runs").expect_err("its lease has ended");
        assert_eq!((error.code(), error.message()), (Code::Unknown, "mutex: session is expired"));
        let error = other.lock("l", 99).await.expect_err("there is no such lease");
        assert_eq!(error.message(), "etcdserver: requested lease not found");
    });
}

#[test]
fn leaders_follow_each_other_and_observers_see_them_in_order() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let (one, other) = (Client::new(&members, 1, 1).await, Client::new(&members, 2, 2).await);
        let observer = Client::new(&members, 3, 3).await;
        let nobody = observer.election().leader(LeaderRequest { name: "e".into() }).await.expect_err("nobody leads");
        assert_eq!(nobody.message(), "election: no leader");
        let mut observed =
            observer.election().observe(LeaderRequest { name: "e".into() }).await.expect("it answers").into_inner();

        let (lease, others) = (one.grant(60).await, other.grant(60).await);
        let first = one.campaign(lease, "one").await;
        assert_eq!((&first.name[..], first.lease), (&b"e"[..], lease));
        let again = one.campaign(lease, "one again").await;
        assert_eq!((&again.key, again.rev), (&first.key, first.rev));
        let waiting = madsim::task::spawn_local({
            let other = other.clone();
            async move { other.campaign(others, "other").await }
        });
        sleep(SHORT).await;
        let proclaim = |leader: &LeaderKey, value: &'static str| {
            let request = ProclaimRequest { leader: Some(leader.clone()), value: value.into() };
            let mut election = one.election();
            async move { election.proclaim(request).await }
        };
        proclaim(&first, "louder").await.expect("it leads");
        let leader = observer.election().leader(LeaderRequest { name: "e".into() }).await.expect("somebody leads");
        assert_eq!(leader.into_inner().kv.expect("it is there").value, "louder");
        one.election().resign(ResignRequest { leader: Some(first.clone()) }).await.expect("it resigns");
        let second = waiting.await.expect("it runs");
        assert!(second.rev > first.rev);
        let refused = proclaim(&first, "still here").await.expect_err("it has resigned");
        assert_eq!(refused.message(), "election: not leader");
        let missing = one.election().resign(ResignRequest { leader: None }).await.expect_err("it does not say who");
        assert_eq!((missing.code(), missing.message()), (Code::Unknown, "\"leader\" field must be provided"));

        for value in ["one", "one again", "louder", "other"] {
            let told = timeout(SHORT, observed.message()).await.expect("it is told").expect("it goes on");
            assert_eq!(told.expect("it goes on").kv.expect("it is there").value, value);
        }
        assert!(timeout(SHORT, observed.message()).await.is_err(), "nothing else has happened");
    });
}
