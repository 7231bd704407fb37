//! One client that contends: for a lock or an office, again and again.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use madsim::time::timeout;
use seedbed_core::grpc::Channel;
use seedbed_proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_proto::etcdserverpb::kv_client::KvClient;
use seedbed_proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_proto::etcdserverpb::{
    Compare, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest, RequestOp, TxnRequest,
    request_op,
};
use seedbed_proto::v3electionpb::election_client::ElectionClient;
use seedbed_proto::v3electionpb::{CampaignRequest, LeaderKey, ProclaimRequest, ResignRequest};
use seedbed_proto::v3lockpb::lock_client::LockClient;
use seedbed_proto::v3lockpb::{LockRequest, UnlockRequest};

use super::{Attempt, ContendLog, Held, Kind, PATIENCE, Seat};
use crate::clock::true_now_ns;
use crate::plan::ContendPlan;
use crate::rng::Draw as _;
use crate::trace;

/// How long it waits after something has failed.
const BACKOFF_MS: [u64; 2] = [10, 200];
/// How long it waits for its turn.
const WAIT_MS: [u64; 2] = [200, 4_000];

pub(super) struct Contender {
    pub(super) seat: Seat,
    plan: ContendPlan,
    log: Rc<RefCell<ContendLog>>,
}

/// What was won.
pub(super) struct Won {
    place: usize,
    pub(super) key: Bytes,
    pub(super) leader: Option<LeaderKey>,
    lease: i64,
}

/// An answer that did not come, or says that something is not so: it begins again.
pub(super) struct Failed;

impl Contender {
    pub(super) fn new(seat: Seat, plan: ContendPlan, log: Rc<RefCell<ContendLog>>) -> Self {
        Contender { seat, plan, log }
    }

    pub(super) async fn run(mut self) {
        while !self.seat.over.get() {
            if let Ok(channel) = self.seat.connect().await
                && self.contend(&channel).await.is_ok()
            {
                continue;
            }
            self.seat.pause(BACKOFF_MS).await;
        }
    }

    async fn contend(&mut self, channel: &Channel) -> Result<(), Failed> {
        let [least, most] = self.plan.ttl_s;
        let ttl = self.seat.rng.between(least, most) as i64;
        let mut leases = LeaseClient::new(channel.clone());
        let granted = answer(leases.lease_grant(LeaseGrantRequest { id: 0, ttl })).await?;
        let name = Bytes::from(format!("n{}", self.seat.rng.between(1, u64::from(self.plan.names))));
        let [least, most] = WAIT_MS;
        let wait = Duration::from_millis(self.seat.rng.between(least, most));
        let kind = if self.seat.rng.chance(500) { Kind::Lock } else { Kind::Office };
        let Ok(Ok(won)) = timeout(wait, self.take(kind, channel, name, granted.id)).await else {
            // Whoever gives up may leave its lease behind.
            if self.seat.rng.chance(300) {
                let _ = answer(leases.lease_revoke(LeaseRevokeRequest { id: granted.id })).await;
            }
            return Err(Failed);
        };
        let worked = self.work(channel, &won).await;
        match self.seat.rng.between(0, 9) {
            0..=5 => self.release(channel, &won).await?,
            6 | 7 => drop(answer(leases.lease_revoke(LeaseRevokeRequest { id: granted.id })).await?),
            // It forgets what it holds, and whoever waits gets it when the lease ends.
            _ => {}
        }
        worked
    }

    /// Waits until it has it, for as long as it takes.
    pub(super) async fn take(&mut self, kind: Kind, channel: &Channel, name: Bytes, lease: i64) -> Result<Won, Failed> {
        match kind {
            Kind::Lock => self.lock(channel, name, lease).await,
            Kind::Office => self.campaign(channel, name, lease).await,
        }
    }

    async fn lock(&mut self, channel: &Channel, name: Bytes, lease: i64) -> Result<Won, Failed> {
        let request = LockRequest { name: name.clone(), lease };
        let locked = LockClient::new(channel.clone()).lock(request).await.map_err(|_| Failed)?.into_inner();
        let revision = locked.header.as_ref().map_or(0, |header| header.revision);
        Ok(self.won(Kind::Lock, name, locked.key, revision, None, lease))
    }

    async fn campaign(&mut self, channel: &Channel, name: Bytes, lease: i64) -> Result<Won, Failed> {
        let name = Bytes::from([&b"office-"[..], &name].concat());
        let value = self.value();
        let request = CampaignRequest { name: name.clone(), lease, value };
        let elected = ElectionClient::new(channel.clone()).campaign(request).await.map_err(|_| Failed)?.into_inner();
        let leader = elected.leader.ok_or(Failed)?;
        Ok(self.won(Kind::Office, name, leader.key.clone(), leader.rev, Some(leader), lease))
    }

    fn won(&self, kind: Kind, name: Bytes, key: Bytes, revision: i64, leader: Option<LeaderKey>, lease: i64) -> Won {
        trace::record("held", &[u64::from(self.seat.client), revision as u64, trace::digest(&key)]);
        let mut log = self.log.borrow_mut();
        let held = Held {
            kind,
            name,
            key: key.clone(),
            revision,
            told: true_now_ns(),
            attempts: Vec::new(),
            disowned: Vec::new(),
        };
        log.held.push(held);
        Won { place: log.held.len() - 1, key, leader, lease }
    }

    /// Writes under the fence, for a while, whether or not it still holds what it has won.
    async fn work(&mut self, channel: &Channel, won: &Won) -> Result<(), Failed> {
        for _ in 0..self.seat.rng.between(0, 4) {
            let attempt = match &won.leader {
                Some(leader) if self.seat.rng.chance(500) => self.proclaim(channel, won, leader).await?,
                _ => self.write(channel, won).await?,
            };
            self.log.borrow_mut().held[won.place].attempts.extend(attempt);
            self.seat.pause(self.plan.hold_ms).await;
            if self.seat.rng.chance(300) {
                let keep = LeaseKeepAliveRequest { id: won.lease };
                let mut leases = LeaseClient::new(channel.clone());
                let mut kept = answer(leases.lease_keep_alive(futures_util::stream::iter([keep]))).await?;
                let _ = timeout(PATIENCE, kept.message()).await;
            }
        }
        Ok(())
    }

    /// Puts a key if the one of the lock, or of the office, still exists.
    async fn write(&mut self, channel: &Channel, won: &Won) -> Result<Option<Attempt>, Failed> {
        let (key, value) = (Bytes::from_static(b"fenced"), self.value());
        let put = PutRequest { key: key.clone(), value: value.clone(), ..PutRequest::default() };
        let compare = Compare {
            result: CompareResult::Greater as i32,
            target: CompareTarget::Create as i32,
            key: won.key.clone(),
            range_end: Bytes::new(),
            target_union: Some(TargetUnion::CreateRevision(0)),
        };
        let success = vec![RequestOp { request: Some(request_op::Request::RequestPut(put)) }];
        let txn = TxnRequest { compare: vec![compare], success, failure: Vec::new() };
        let answered = answer(KvClient::new(channel.clone()).txn(txn)).await?;
        let revision = answered.header.as_ref().map_or(0, |header| header.revision);
        Ok(Some(Attempt { revision, made: answered.succeeded, key, value }))
    }

    /// Puts another value to what it holds. Nothing, if it is told that it does not hold it.
    async fn proclaim(&mut self, channel: &Channel, won: &Won, leader: &LeaderKey) -> Result<Option<Attempt>, Failed> {
        let value = self.value();
        let request = ProclaimRequest { leader: Some(leader.clone()), value: value.clone() };
        match timeout(PATIENCE, ElectionClient::new(channel.clone()).proclaim(request)).await {
            Ok(Ok(answered)) => {
                let revision = answered.into_inner().header.map_or(0, |header| header.revision);
                Ok(Some(Attempt { revision, made: true, key: leader.key.clone(), value }))
            }
            Ok(Err(status)) if status.message() == "election: not leader" => {
                self.log.borrow_mut().held[won.place].disowned.push(true_now_ns());
                Ok(None)
            }
            _ => Err(Failed),
        }
    }

    pub(super) async fn release(&self, channel: &Channel, won: &Won) -> Result<(), Failed> {
        match &won.leader {
            Some(leader) => {
                let request = ResignRequest { leader: Some(leader.clone()) };
                answer(ElectionClient::new(channel.clone()).resign(request)).await.map(drop)
            }
            None => {
                let request = UnlockRequest { key: won.key.clone() };
                answer(LockClient::new(channel.clone()).unlock(request)).await.map(drop)
            }
        }
    }

    /// A value that nobody else writes.
    fn value(&mut self) -> Bytes {
        format!("{}-{:x}", self.seat.client, self.seat.rng.between(0, u64::MAX)).into()
    }
}

pub(super) async fn answer<T>(
    asking: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Failed> {
    match timeout(PATIENCE, asking).await {
        Ok(Ok(answered)) => Ok(answered.into_inner()),
        _ => Err(Failed),
    }
}
