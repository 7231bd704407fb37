//! One client that watches who holds an office.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use madsim::time::timeout;
use seedbed_proto::v3electionpb::LeaderRequest;
use seedbed_proto::v3electionpb::election_client::ElectionClient;

use super::{ContendLog, Observed, PATIENCE, Seat};
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
            self.observe().await;
            self.seat.pause(BACKOFF_MS).await;
        }
    }

    /// Follows one stream until it breaks, or has been silent for long.
    async fn observe(&mut self) {
        let Ok(channel) = self.seat.connect().await else { return };
        let name = Bytes::from(format!("office-n{}", self.seat.rng.between(1, u64::from(self.names))));
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
            let revision = leader.header.as_ref().map_or(0, |header| header.revision);
            let kv = leader.kv.unwrap_or_default();
            trace::record("observed", &[u64::from(self.seat.client), revision as u64, kv.mod_revision as u64]);
            self.log.borrow_mut().observed[place].told.push((revision, kv));
        }
    }
}
