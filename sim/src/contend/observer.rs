//! One client that watches who holds an office.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use madsim::time::timeout;
use seedbed_core::grpc::Channel;
use seedbed_proto::mvccpb::KeyValue;
use seedbed_proto::v3electionpb::election_client::ElectionClient;
use seedbed_proto::v3electionpb::{LeaderRequest, LeaderResponse};

use super::{ContendLog, Observed, PATIENCE, Seat, Vacant};
use crate::clock::true_now_ns;
use crate::rng::Draw as _;
use crate::trace;

const BACKOFF_MS: [u64; 2] = [10, 200];

pub(super) struct Observer {
    seat: Seat,
    names: u32,
    log: Rc<RefCell<ContendLog>>,
}

impl Observer {
    pub(super) fn new(seat: Seat, names: u32, log: Rc<RefCell<ContendLog>>) -> Self {
        Observer { seat, names, log }
    }

    /// It is ended from outside.
    pub(super) async fn run(mut self) {
        loop {
            if let Ok(channel) = self.seat.connect().await {
                let name = Bytes::from(format!("office-n{}", self.seat.rng.between(1, u64::from(self.names))));
                if self.seat.rng.chance(300) {
                    self.ask(channel, name).await;
                } else {
                    self.observe(channel, name).await;
                }
            }
            self.seat.pause(BACKOFF_MS).await;
        }
    }

    /// Asks once who leads.
    async fn ask(&self, channel: Channel, name: Bytes) {
        let asked = true_now_ns();
        let request = LeaderRequest { name: name.clone() };
        let answer = timeout(PATIENCE, ElectionClient::new(channel).leader(request)).await;
        let told = true_now_ns();
        let mut log = self.log.borrow_mut();
        match answer {
            Ok(Ok(leader)) => log.observed.push(Observed { name, told: vec![self.heard(leader.into_inner())] }),
            Ok(Err(status)) if status.message() == "election: no leader" => {
                trace::record("vacant", &[u64::from(self.seat.client), told]);
                log.vacant.push(Vacant { name, asked, told });
            }
            _ => {}
        }
    }

    /// The revision of an answer, and who leads.
    fn heard(&self, leader: LeaderResponse) -> (i64, KeyValue) {
        let revision = leader.header.as_ref().map_or(0, |header| header.revision);
        let kv = leader.kv.unwrap_or_default();
        trace::record("observed", &[u64::from(self.seat.client), revision as u64, kv.mod_revision as u64]);
        (revision, kv)
    }

    /// Follows one stream until it breaks, or has been silent for long.
    async fn observe(&self, channel: Channel, name: Bytes) {
        let opening = async {
            let request = LeaderRequest { name: name.clone() };
            ElectionClient::new(channel).observe(request).await.map(tonic::Response::into_inner)
        };
        let Ok(Ok(mut told)) = timeout(PATIENCE, opening).await else { return };
        let place = {
            let mut log = self.log.borrow_mut();
            log.observed.push(Observed { name, told: Vec::new() });
            log.observed.len() - 1
        };
        while let Ok(Ok(Some(leader))) = timeout(2 * PATIENCE, told.message()).await {
            let heard = self.heard(leader);
            self.log.borrow_mut().observed[place].told.push(heard);
        }
    }
}
