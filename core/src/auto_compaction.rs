//! Compaction that nobody asks for: history older than a time, or than a number of revisions, is forgotten.
//!
//! ```text
//!   periodic, 60 min       a look every 6 min; the revision of 60 min ago is compacted, first after 60 min
//!   periodic, 10 h         a look every 6 min; the revision of 10 h ago is compacted, first after 10 h, then every hour
//!   revision, 1000         every 5 min the history is cut to the last 1000 revisions
//! ```
//!
//! Every member keeps the revisions that it will need, only the leader proposes: after a change of leaders the new one
//! goes on with what it has seen. Time is the runtime's, and a compaction that comes early or late breaks no promise.

use std::collections::VecDeque;
use std::time::Duration;

use openraft_rt::{Instant, Select2};

use crate::mvcc::{Refusal, Store};
use crate::proto::etcdserverpb::CompactionRequest;
use crate::raft::{Command, Proposer, Raft, Reply, Request};
use crate::runtime::Runtime;
use crate::watermark::Stop;

/// How often a periodic compaction is made, at the most.
const PERIOD_MAX: Duration = Duration::from_secs(60 * 60);

/// How often revisions are noted, within a period.
const LOOKS: u32 = 10;

/// How often the history is cut to a number of revisions.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// What history is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AutoCompaction {
    /// All of it.
    #[default]
    Off,
    /// That of so much time. Zero is off.
    Periodic(Duration),
    /// So many revisions. Zero is off.
    Revision(u64),
}

/// Starts the task that compacts, if there is anything to do. It ends when it is told to.
pub(crate) fn start<R: Runtime>(
    mode: AutoCompaction,
    raft: Raft<R>,
    store: Store<R::Disk>,
    proposer: Proposer<R>,
    stop: Stop,
) {
    let Some(mut plan) = Plan::new(mode) else { return };
    let compacting = async move {
        let started = R::Instant::now();
        loop {
            plan.note(store.revision());
            R::sleep(plan.interval()).await;
            let now = R::Instant::now() - started;
            let Some(revision) = plan.due(now, store.revision()).filter(|_| raft.is_leader()) else { continue };
            let request = Request::Compact(CompactionRequest { revision, physical: false });
            match proposer.propose(Command::new(0, request)).await {
                Ok(Reply::Compact(_)) => {
                    tracing::info!(revision, "compacted the history by itself");
                    plan.compacted(now, revision);
                }
                Ok(Reply::Refused(Refusal::Compacted { .. })) => plan.compacted(now, revision),
                Ok(_) => tracing::warn!(revision, "automatic compaction was refused"),
                Err(error) => tracing::warn!(revision, %error, "automatic compaction did not succeed"),
            }
        }
    };
    drop(R::spawn(async move {
        let _: Select2<(), ()> = R::select2(stop.stopped(), compacting).await;
    }));
}

/// What is due when: revisions noted and compactions made, by the time since the start.
#[derive(Debug)]
struct Plan {
    keep: Keep,
    /// The last revision that was compacted.
    last: i64,
}

#[derive(Debug)]
enum Keep {
    Time {
        period: Duration,
        /// The revisions at the last looks, oldest first: as many as there are in a period.
        noted: VecDeque<i64>,
        /// When the next compaction is due.
        due: Duration,
    },
    Revisions(i64),
}

impl Plan {
    fn new(mode: AutoCompaction) -> Option<Plan> {
        let keep = match mode {
            AutoCompaction::Off | AutoCompaction::Periodic(Duration::ZERO) | AutoCompaction::Revision(0) => {
                return None;
            }
            AutoCompaction::Periodic(period) => Keep::Time { period, noted: VecDeque::new(), due: period },
            AutoCompaction::Revision(revisions) => Keep::Revisions(i64::try_from(revisions).unwrap_or(i64::MAX)),
        };
        Some(Plan { keep, last: 0 })
    }

    /// The time between two looks.
    fn interval(&self) -> Duration {
        match &self.keep {
            Keep::Time { period, .. } => (*period).min(PERIOD_MAX) / LOOKS,
            Keep::Revisions(_) => REVISION_INTERVAL,
        }
    }

    /// Before each look.
    fn note(&mut self, revision: i64) {
        let interval = self.interval();
        if let Keep::Time { period, noted, .. } = &mut self.keep {
            let looks = period.as_nanos().div_ceil(interval.as_nanos().max(1));
            noted.push_back(revision);
            if noted.len() as u128 > looks {
                noted.pop_front();
            }
        }
    }

    /// What is to be compacted now.
    fn due(&self, now: Duration, revision: i64) -> Option<i64> {
        let target = match &self.keep {
            Keep::Time { noted, due, .. } => noted.front().copied().filter(|_| now >= *due)?,
            Keep::Revisions(kept) => revision.saturating_sub(*kept),
        };
        (target > self.last.max(0)).then_some(target)
    }

    fn compacted(&mut self, now: Duration, revision: i64) {
        self.last = revision;
        if let Keep::Time { period, due, .. } = &mut self.keep {
            *due = now + (*period).min(PERIOD_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// The compactions of so many hours, as (minute, revision), while a revision is made each minute.
    fn compactions(mode: AutoCompaction, hours: u32) -> Vec<(u64, i64)> {
        let mut plan = Plan::new(mode).expect("a mode that compacts");
        let mut now = Duration::ZERO;
        let revision = |now: Duration| 1 + (now.as_secs() / 60) as i64;
        let mut made = Vec::new();
        while now < hours * 60 * MINUTE {
            plan.note(revision(now));
            now += plan.interval();
            if let Some(due) = plan.due(now, revision(now)) {
                made.push((now.as_secs() / 60, due));
                plan.compacted(now, due);
            }
        }
        made
    }

    #[test]
    fn an_hour_of_history_is_kept() {
        let made = compactions(AutoCompaction::Periodic(60 * MINUTE), 4);
        assert_eq!(made, [(60, 1), (120, 61), (180, 121), (240, 181)]);
    }

    #[test]
    fn ten_hours_of_history_are_kept_and_cut_every_hour() {
        let made = compactions(AutoCompaction::Periodic(600 * MINUTE), 12);
        assert_eq!(made, [(600, 1), (660, 61), (720, 121)]);
    }

    #[test]
    fn the_last_revisions_are_kept() {
        let made = compactions(AutoCompaction::Revision(100), 2);
        assert_eq!(made, [(100, 1), (105, 6), (110, 11), (115, 16), (120, 21)]);
    }

    #[test]
    fn what_was_compacted_already_is_not_proposed_again() {
        let mut plan = Plan::new(AutoCompaction::Revision(3)).unwrap();
        assert_eq!(plan.due(MINUTE, 10), Some(7));
        plan.compacted(MINUTE, 7);
        assert_eq!(plan.due(2 * MINUTE, 10), None);
        assert_eq!(plan.due(3 * MINUTE, 11), Some(8));
    }

    #[test]
    fn zero_keeps_everything() {
        let off = [AutoCompaction::Off, AutoCompaction::Periodic(Duration::ZERO), AutoCompaction::Revision(0)];
        assert!(off.into_iter().all(|mode| Plan::new(mode).is_none()));
    }
}
