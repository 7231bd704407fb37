//! The last contest, when everything is well: whoever waits for a lock or an office gets it, and whoever observes hears of it.
//!
//! ```text
//!   first       takes it ────────────────── gives it up, or ends its lease, or lets it end
//!   second            waits ───────────────────┴─ takes it
//!   observer          hears of the first ──────────── hears of the second
//! ```
//!
//! Nobody looks a second time: a waiter that is not woken waits until the limit, and that is the finding. Only what a member
//! refuses, or a broken connection, begins the contest anew.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use madsim::time::timeout;
use seedbed_core::grpc::Channel;
use seedbed_proto::etcdserverpb::kv_client::KvClient;
use seedbed_proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_proto::etcdserverpb::{LeaseGrantRequest, LeaseRevokeRequest, RangeRequest};
use seedbed_proto::v3electionpb::LeaderRequest;
use seedbed_proto::v3electionpb::election_client::ElectionClient;
use tonic::Streaming;

use super::contender::{Contender, Failed, Won, answer};
use super::{ContendLog, Kind, Observed, Seat};
use crate::outcome::Violation;
use crate::rng::Draw as _;

/// For how long the second has a lease: beyond the end of the first one's.
const OUTLASTS_S: i64 = 60;
/// How long it is left to chance whether the second waits already when the first gives up.
const RACE_MS: [u64; 2] = [0, 20];

/// How the first makes room.
#[derive(Clone, Copy, Debug)]
enum Way {
    GivesUp,
    EndsItsLease,
    LetsItEnd,
}

/// How far a contest has come.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Begins,
    FirstTakes,
    ObserverHearsOfFirst,
    SecondTakes(Way),
    ObserverHearsOfSecond(Way),
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = |way: &Way| match way {
            Way::GivesUp => "the first gave it up",
            Way::EndsItsLease => "the first revoked its lease",
            Way::LetsItEnd => "the lease of the first was left to its end",
        };
        match self {
            Stage::Begins => f.write_str("no member could be asked"),
            Stage::FirstTakes => f.write_str("nobody holds it, and the first does not get it"),
            Stage::ObserverHearsOfFirst => f.write_str("the first has it, and an observer does not hear of that"),
            Stage::SecondTakes(how) => write!(f, "{}, and the second, who waits, does not get it", way(how)),
            Stage::ObserverHearsOfSecond(how) => {
                write!(f, "{}, the second has it, and an observer does not hear of that", way(how))
            }
        }
    }
}

/// The three of them.
pub(super) struct LastContest {
    pub(super) first: Contender,
    pub(super) second: Contender,
    pub(super) observer: Seat,
    pub(super) log: Rc<RefCell<ContendLog>>,
    /// How many locks and how many offices there are.
    pub(super) names: u32,
    /// For how long the first has a lease, in seconds.
    pub(super) ttl_s: u64,
}

impl LastContest {
    /// Contests a lock, and then an office.
    ///
    /// # Errors
    /// The judge `fencing`: somebody waits still after the limit.
    pub(super) async fn run(&mut self, limit: Duration) -> Result<(), Violation> {
        let limit = limit + Duration::from_secs(self.ttl_s);
        for kind in [Kind::Lock, Kind::Office] {
            let nth = self.observer.rng.between(1, u64::from(self.names));
            let stage = Cell::new(Stage::Begins);
            let contested = async {
                while self.contest(kind, nth, &stage).await.is_err() {
                    self.observer.pause([10, 200]).await;
                }
            };
            if timeout(limit, contested).await.is_err() {
                let message = format!(
                    "never given: everything has been well for {limit:?}, and the {} n{nth} has not passed from one to the \
                     next: {}",
                    if kind == Kind::Lock { "lock" } else { "office" },
                    stage.get()
                );
                return Err(Violation { judge: "fencing", message });
            }
        }
        Ok(())
    }

    async fn contest(&mut self, kind: Kind, nth: u64, stage: &Cell<Stage>) -> Result<(), Failed> {
        stage.set(Stage::Begins);
        let by_first = self.first.seat.connect().await.map_err(|_| Failed)?;
        let by_second = self.second.seat.connect().await.map_err(|_| Failed)?;
        let [for_first, for_second] =
            [grant(&by_first, self.ttl_s as i64).await?, grant(&by_second, OUTLASTS_S + self.ttl_s as i64).await?];
        let name = Bytes::from(format!("n{nth}"));
        stage.set(Stage::FirstTakes);
        let first = self.first.take(kind, &by_first, name.clone(), for_first).await?;
        let mut observing = None;
        if kind == Kind::Office {
            stage.set(Stage::ObserverHearsOfFirst);
            let mut observed = self.observe(&first).await?;
            self.hears_of(&mut observed, &first).await?;
            observing = Some(observed);
        }
        let way = match self.observer.rng.between(0, 4) {
            0 | 1 => Way::GivesUp,
            2 | 3 => Way::EndsItsLease,
            _ => Way::LetsItEnd,
        };
        let race_ms = self.observer.rng.chance(500).then(|| self.observer.rng.between(RACE_MS[0], RACE_MS[1]));
        stage.set(Stage::SecondTakes(way));
        let makes_room = async {
            match race_ms {
                Some(race_ms) => madsim::time::sleep(Duration::from_millis(race_ms)).await,
                None => both_are_there(&by_first, &first).await?,
            }
            match way {
                Way::GivesUp => self.first.release(&by_first, &first).await,
                Way::EndsItsLease => {
                    let mut leases = LeaseClient::new(by_first.clone());
                    answer(leases.lease_revoke(LeaseRevokeRequest { id: for_first })).await.map(drop)
                }
                Way::LetsItEnd => Ok(()),
            }
        };
        // Whatever has gone wrong with making room, the lease of the first ends.
        let (_, second) = join(makes_room, self.second.take(kind, &by_second, name, for_second)).await;
        let second = second?;
        if let Some(mut observed) = observing {
            stage.set(Stage::ObserverHearsOfSecond(way));
            self.hears_of(&mut observed, &second).await?;
        }
        Ok(())
    }

    async fn observe(&mut self, first: &Won) -> Result<Observing, Failed> {
        let channel = self.observer.connect().await.map_err(|_| Failed)?;
        let name = first.leader.as_ref().ok_or(Failed)?.name.clone();
        let request = LeaderRequest { name: name.clone() };
        let told = answer(ElectionClient::new(channel).observe(request)).await?;
        let mut log = self.log.borrow_mut();
        log.observed.push(Observed { name, told: Vec::new() });
        Ok(Observing { told, place: log.observed.len() - 1 })
    }

    async fn hears_of(&self, observing: &mut Observing, won: &Won) -> Result<(), Failed> {
        while let Ok(Some(leader)) = observing.told.message().await {
            let revision = leader.header.as_ref().map_or(0, |header| header.revision);
            let kv = leader.kv.unwrap_or_default();
            let heard = kv.key == won.key;
            self.log.borrow_mut().observed[observing.place].told.push((revision, kv));
            if heard {
                return Ok(());
            }
        }
        Err(Failed)
    }
}

/// A stream of leaders, and where what it says is noted.
struct Observing {
    told: Streaming<seedbed_proto::v3electionpb::LeaderResponse>,
    place: usize,
}

async fn grant(channel: &Channel, ttl: i64) -> Result<i64, Failed> {
    Ok(answer(LeaseClient::new(channel.clone()).lease_grant(LeaseGrantRequest { id: 0, ttl })).await?.id)
}

/// Resolves once somebody waits behind the first.
async fn both_are_there(channel: &Channel, first: &Won) -> Result<(), Failed> {
    let name = first.key.rsplitn(2, |byte| *byte == b'/').nth(1).unwrap_or_default();
    let request = RangeRequest {
        key: [name, &b"/"[..]].concat().into(),
        range_end: [name, &b"0"[..]].concat().into(),
        count_only: true,
        ..RangeRequest::default()
    };
    while answer(KvClient::new(channel.clone()).range(request.clone())).await?.count < 2 {
        madsim::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
