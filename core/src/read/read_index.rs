//! Linearizable reads without a log entry (Raft thesis, section 6.4; etcd 3.1).
//!
//! The leader notes its commit index, confirms with a quorum that it still leads, and the member that serves the read
//! waits until it has applied that index. Nothing is written and nothing is synced.
//!
//! Any number of readers of a member share one round. The channel on which readers wait is swapped *before* the round is
//! begun, so that whoever joins later rides the next one:
//!
//! ```text
//!   readers  a b c      d e                f
//!            ──────┐    ────────────┐      ─────
//!   rounds         swap ─ confirm ─ wake abc
//!                                   swap ─ confirm ─ wake de
//! ```
//!
//! A round that fails is tried again with a fresh request, and takes those who have joined meanwhile along: they came
//! before it began.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use openraft_rt::{Instant, Select2, Watch, WatchReceiver, WatchSender};
use tokio::sync::Notify;

use crate::raft::message::{PeerReply, PeerRequest, decode, encode};
use crate::raft::{NodeId, Raft};
use crate::runtime::{Mutant, Mutants, Runtime, Transport};
use crate::watermark::{Stop, Watermark};

/// A read could not be made linearizable. Nothing has happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader confirmed an index in time.
    #[error("no leader confirmed the read in time")]
    Timeout,
    /// The index was confirmed, but this member did not apply it in time.
    #[error("the member did not apply the read index in time")]
    ApplyTimeout,
    /// This member does not lead.
    #[error("this member is not the leader")]
    NotLeader,
    /// This member is stopping.
    #[error("the member is stopping")]
    Stopped,
}

type Index = Option<u64>;
type Sender<R> = <<R as openraft::AsyncRuntime>::Watch as Watch>::Sender<Index>;
type Receiver<R> = <<R as openraft::AsyncRuntime>::Watch as Watch>::Receiver<Index>;

/// The ReadIndex path of one member.
pub struct ReadIndex<R: Runtime> {
    shared: Arc<Shared<R>>,
}

struct Shared<R: Runtime> {
    node: NodeId,
    raft: Raft<R>,
    transport: R::Transport,
    applied: Watermark,
    /// The channel of the round that has not begun.
    next: Mutex<(Sender<R>, Receiver<R>)>,
    /// One slot: somebody waits for the next round.
    poke: Notify,
    options: ReadOptions,
    stop: Stop,
}

/// Times of the ReadIndex path.
#[derive(Clone, Copy, Debug)]
pub struct ReadOptions {
    /// How long a reader waits for an index, and again for its apply.
    pub limit: Duration,
    /// How long one round may take before it is tried again.
    pub round_limit: Duration,
    /// How long to wait after a round that failed at once.
    pub retry: Duration,
}

impl<R: Runtime> Clone for ReadIndex<R> {
    fn clone(&self) -> Self {
        ReadIndex { shared: self.shared.clone() }
    }
}

impl<R: Runtime> ReadIndex<R> {
    /// Starts the loop that runs the rounds. It ends when it is told to, or raft does.
    pub(crate) fn start(
        node: NodeId,
        raft: Raft<R>,
        transport: R::Transport,
        applied: Watermark,
        options: ReadOptions,
        stop: Stop,
    ) -> Self {
        let next = Mutex::new(<R::Watch as Watch>::channel(None));
        let shared = Arc::new(Shared { node, raft, transport, applied, next, poke: Notify::new(), options, stop });
        drop(R::spawn(shared.clone().rounds()));
        ReadIndex { shared }
    }

    /// Resolves once a read of this member's applied state is linearizable.
    pub async fn ready(&self) -> Result<(), ReadError> {
        let index = self.index().await?;
        if R::Mutants::active(Mutant::ReadWithoutApplyWait) {
            return Ok(());
        }
        let reached = self.shared.applied.reached(index);
        R::timeout(self.shared.options.limit, reached).await.map_err(|_| ReadError::ApplyTimeout)
    }

    /// An index that is linearizable to read at, for a follower that asks this member as its leader.
    pub(crate) async fn index_if_leader(&self) -> Result<u64, ReadError> {
        if !self.shared.raft.is_leader() {
            return Err(ReadError::NotLeader);
        }
        self.index().await
    }

    async fn index(&self) -> Result<u64, ReadError> {
        let mut round = self.shared.next.lock().expect("no holder of this lock panics").1.clone();
        self.shared.poke.notify_one();
        let confirmed = round.wait_until(Option::is_some);
        match R::timeout(self.shared.options.limit, confirmed).await {
            Ok(Ok(index)) => Ok(index.expect("waited until it is some")),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Timeout),
        }
    }
}

impl<R: Runtime> Shared<R> {
    async fn rounds(self: Arc<Self>) {
        // Those who wait, by the round that they joined, with the time after which they have given up.
        let mut waiting: Vec<(R::Instant, Sender<R>)> = Vec::new();
        loop {
            if waiting.is_empty()
                && let Select2::First(()) = R::select2(self.stop.stopped(), self.poke.notified()).await
            {
                break;
            }
            let joined = std::mem::replace(
                &mut *self.next.lock().expect("no holder of this lock panics"),
                <R::Watch as Watch>::channel(None),
            );
            let now = R::Instant::now();
            waiting.retain(|(gives_up, _)| *gives_up > now);
            waiting.push((now + self.options.limit, joined.0));
            match self.round().await {
                Ok(index) => {
                    for (_, readers) in waiting.drain(..) {
                        // Fails if every reader has gone.
                        let _ = readers.send(Some(index));
                    }
                }
                Err(ReadError::Stopped) => break,
                Err(_) => R::sleep(self.options.retry).await,
            }
        }
        // Whoever waits, or comes later, finds the channel closed: `index` tells him why.
        self.next.lock().expect("no holder of this lock panics").0 = <R::Watch as Watch>::channel(None).0;
    }

    /// One round: by this member's raft if it leads, by a request to the leader if not.
    async fn round(&self) -> Result<u64, ReadError> {
        match self.raft.current_leader().await {
            Some(leader) if leader == self.node => self.confirm().await,
            Some(leader) => self.ask(leader).await,
            None => Err(ReadError::NotLeader),
        }
    }

    async fn confirm(&self) -> Result<u64, ReadError> {
        // An age of zero: only acknowledgements of requests sent from now on count.
        let option = LinearizerOption::new(Some(Duration::ZERO), true).with_wait_timeout(self.options.round_limit);
        match self.raft.get_read_linearizer(option).await {
            Ok(linearizer) => Ok(linearizer.read_log_id().index()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_))) => Err(ReadError::NotLeader),
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => Err(ReadError::Timeout),
            Err(RaftError::Fatal(_)) => Err(ReadError::Stopped),
        }
    }

    async fn ask(&self, leader: NodeId) -> Result<u64, ReadError> {
        let request: PeerRequest<R> = PeerRequest::ReadIndex;
        let call = self.transport.call(leader, encode(&request));
        match R::timeout(self.options.round_limit, call).await {
            Ok(Ok(reply)) => match decode::<PeerReply<R>>(&reply) {
                Ok(PeerReply::ReadIndex(index)) => Ok(index),
                _ => Err(ReadError::NotLeader),
            },
            _ => Err(ReadError::Timeout),
        }
    }
}
