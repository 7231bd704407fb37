//! Clients that contend for locks and offices, write under their fences, and watch who holds an office.
//!
//! ```text
//!   contender   grant a lease ─ lock, or campaign ─ write under the fence, as long as it may ─ unlock, resign, or forget it
//!   observer    ══ who holds the office ══
//! ```
//!
//! In the end, when everything is well, there is a [last contest](last).

mod contender;
mod last;
mod log;
mod observer;

use std::cell::{Cell, RefCell};
use std::io;
use std::rc::Rc;
use std::time::Duration;

use madsim::runtime::NodeHandle;
use madsim::time::timeout;
use rand_pcg::Pcg64;
use seedbed_core::grpc::Channel;

use self::contender::Contender;
use self::last::LastContest;
pub use self::log::{Attempt, ContendCounts, ContendLog, Held, Kind, Observed, Vacant};
use self::observer::Observer;
use crate::client::Role;
use crate::cluster::Roster;
use crate::network::Network;
use crate::outcome::Violation;
use crate::plan::Plan;
use crate::rng::{self, Draw as _};
use crate::runtime::{MadsimRuntime, create_node};

/// How long a contender waits for a connection, and for an answer to anything but a lock.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// The contenders and observers of a run.
pub struct Contenders {
    log: Rc<RefCell<ContendLog>>,
    over: Rc<Cell<bool>>,
    contending: Vec<madsim::task::JoinHandle<()>>,
    observing: Vec<madsim::task::JoinHandle<()>>,
}

impl Contenders {
    /// Starts those of a plan. `roster` says whom a client asks.
    pub fn start(plan: &Plan, network: &Network, roster: &dyn Fn(u32) -> Roster) -> Contenders {
        let (log, over) = (Rc::new(RefCell::new(ContendLog::default())), Rc::new(Cell::new(false)));
        let (mut contending, mut observing) = (Vec::new(), Vec::new());
        if let Some(contend) = plan.contend {
            let seat = |nth| {
                let client = Role::Contender { nth }.number(&plan.workload);
                seat(nth, plan, network, &roster(client), &over)
            };
            for nth in 0..contend.contenders {
                let contender = Contender::new(seat(nth), contend, log.clone());
                contending.push(madsim::task::spawn_local(contender.run()));
            }
            for nth in contend.contenders..contend.contenders + contend.observers {
                let observer = Observer::new(seat(nth), contend.names, log.clone());
                observing.push(madsim::task::spawn_local(observer.run()));
            }
        }
        Contenders { log, over, contending, observing }
    }

    /// Waits until every contender has come to the end of what it is at. It begins nothing else.
    pub async fn rest(&mut self) {
        self.over.set(true);
        for contender in std::mem::take(&mut self.contending) {
            contender.await.expect("a contender's task is never aborted, and its panic ends the run");
        }
    }

    /// Has a lock and an office pass from one to the next, by way of members that are well, where anything is contended for.
    ///
    /// # Errors
    /// The judge `fencing`: somebody waits still after the limit.
    pub async fn last_contest(
        &self,
        plan: &Plan,
        network: &Network,
        members: &Roster,
        limit: Duration,
    ) -> Result<(), Violation> {
        let Some(contend) = plan.contend else { return Ok(()) };
        let earlier = contend.contenders + contend.observers;
        let seat = |nth| seat(earlier + nth, plan, network, members, &self.over);
        let contender = |nth| Contender::new(seat(nth), contend, self.log.clone());
        let mut contest = LastContest {
            first: contender(0),
            second: contender(1),
            observer: seat(2),
            log: self.log.clone(),
            names: contend.names,
            ttl_s: contend.ttl_s[1],
        };
        contest.run(limit).await
    }

    /// Ends the observers. What all of them have been told.
    pub fn finish(self) -> ContendLog {
        self.observing.iter().for_each(madsim::task::JoinHandle::abort);
        self.log.take()
    }
}

fn seat(nth: u32, plan: &Plan, network: &Network, roster: &Roster, over: &Rc<Cell<bool>>) -> Seat {
    Seat {
        client: Role::Contender { nth }.number(&plan.workload),
        rng: rng::stream(plan.seed, "contender", u64::from(nth)),
        network: network.clone(),
        roster: roster.clone(),
        home: create_node(&format!("x{nth}")),
        over: over.clone(),
    }
}

/// What each of them has.
struct Seat {
    client: u32,
    rng: Pcg64,
    network: Network,
    roster: Roster,
    /// Where the tasks of its connections run.
    home: NodeHandle,
    over: Rc<Cell<bool>>,
}

impl Seat {
    /// A connection to any of the members.
    async fn connect(&mut self) -> io::Result<Channel> {
        let member = *self.rng.pick(&self.roster.borrow());
        let connecting = async {
            let stream = self.network.connect(self.client, member).await?;
            let authority = format!("m{member}").parse().expect("a member's name is one of a host");
            let channel = self.home.spawn(Channel::connect::<MadsimRuntime>(stream, authority)).await;
            channel.map_err(io::Error::other)?.map_err(io::Error::other)
        };
        timeout(PATIENCE, connecting).await?
    }

    async fn pause(&mut self, [least, most]: [u64; 2]) {
        let pause = Duration::from_millis(self.rng.between(least, most));
        madsim::time::sleep(pause).await;
    }
}
