//! Clients that watch, and what they were told.
//!
//! ```text
//!   act one   watchers ══ streams, broken and resumed ══ members
//!   act two   everything has converged ──► each opens a stream to a member that is well, and says so
//!             a last write             ──► each is told of it without asking, then that this was all: by itself, in half of
//!                                          the watches, and when it asks
//! ```

mod log;
mod watcher;

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;

use seedbed_core::raft::NodeId;

pub use self::log::{Heard, StreamLog, WatchCounts, WatchLog, Word};
use self::watcher::Watcher;
use crate::cluster::Roster;
use crate::network::Network;
use crate::outcome::Violation;
use crate::plan::Plan;

/// How often those who wait look.
const POLL: Duration = Duration::from_millis(10);

/// The watchers of a run.
pub struct Watchers {
    end: Rc<End>,
    log: Rc<RefCell<WatchLog>>,
    tasks: Vec<madsim::task::JoinHandle<()>>,
}

/// How the watchers come to an end.
#[derive(Default)]
struct End {
    /// Members that are well, once all else is done.
    members: RefCell<Vec<NodeId>>,
    /// The revision of the last write, once it is known.
    last_write: Cell<Option<i64>>,
    /// Where each watcher is; what it waits for, and of whom.
    waiting: RefCell<Vec<Waiting>>,
}

/// How far a watcher is on its way to the end.
#[derive(Clone, Debug)]
enum Waiting {
    /// It does not know yet that this is the end, or looks for a member.
    Under,
    /// It has been told by this member that it watches everything.
    Ready(NodeId),
    /// It has been told of everything.
    Done,
}

impl Watchers {
    /// Starts those of a plan. `roster` says whom a client asks.
    pub fn start(plan: &Plan, network: &Network, roster: &dyn Fn(u32) -> Roster) -> Watchers {
        let count = plan.watch.as_ref().map_or(0, |watch| watch.watchers);
        let fragment_bytes = plan.watch.as_ref().map_or(0, |watch| watch.fragment_bytes);
        let log = Rc::new(RefCell::new(WatchLog { fragment_bytes, ..WatchLog::default() }));
        let end = Rc::new(End { waiting: RefCell::new(vec![Waiting::Under; count as usize]), ..End::default() });
        let tasks = (0..count)
            .map(|nth| {
                let watcher = Watcher::new(nth, plan, network.clone(), roster, log.clone(), end.clone());
                madsim::task::spawn_local(watcher.run())
            })
            .collect();
        Watchers { end, log, tasks }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.tasks.is_empty()
    }

    /// From now on these members are well, and there will be one more write. Waits until all watch everything there.
    ///
    /// # Errors
    /// The judge `watch`: somebody does not within the limit.
    pub async fn ready(&self, members: Vec<NodeId>, limit: Duration) -> Result<(), Violation> {
        *self.end.members.borrow_mut() = members;
        self.until(limit, |waiting| !matches!(waiting, Waiting::Under)).await.map_err(|nth| {
            let message =
                format!("no watch: watcher {nth} could not watch any member for {limit:?} after everything was healed");
            Violation { judge: "watch", message }
        })
    }

    /// That write made this revision. Waits until all have been told of it.
    ///
    /// # Errors
    /// The judge `watch`: somebody has not within the limit.
    pub async fn told(&self, revision: i64, limit: Duration) -> Result<(), Violation> {
        self.end.last_write.set(Some(revision));
        self.until(limit, |waiting| matches!(waiting, Waiting::Done)).await.map_err(|nth| {
            let whom = match self.end.waiting.borrow()[nth] {
                Waiting::Ready(member) => format!("watcher {nth} at member {member}"),
                _ => format!("watcher {nth}"),
            };
            let message = format!(
                "never told: {whom} has not heard of revision {revision}, or not that this was all, {limit:?} after it was written"
            );
            Violation { judge: "watch", message }
        })
    }

    /// Ends them all. What they have heard.
    pub fn finish(self) -> WatchLog {
        self.tasks.iter().for_each(madsim::task::JoinHandle::abort);
        self.log.take()
    }

    /// Waits until all are so; the first who is not, if the limit passes.
    async fn until(&self, limit: Duration, is_so: impl Fn(&Waiting) -> bool) -> Result<(), usize> {
        let first = || self.end.waiting.borrow().iter().position(|waiting| !is_so(waiting));
        let all = async {
            while first().is_some() {
                madsim::time::sleep(POLL).await;
            }
        };
        match madsim::time::timeout(limit, all).await {
            Ok(()) => Ok(()),
            Err(_) => Err(first().unwrap_or_default()),
        }
    }
}
