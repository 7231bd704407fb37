//! Many readers, one round.
//!
//! A round finds an index that is linearizable to read at, for all who had joined before it began. The channel on which
//! readers wait is swapped *before* the round is begun, so that whoever joins later rides the next one:
//!
//! ```text
//!   readers  a b c      d e                f
//!            ──────┐    ────────────┐      ─────
//!   rounds         swap ─ find ─── wake abc
//!                                   swap ─ find ─── wake de
//! ```
//!
//! A round that fails is tried again with a fresh request, and takes those who have joined meanwhile along: they came
//! before it began.

use std::future::{Future, poll_fn};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use openraft_rt::{Instant, Select2, Watch, WatchReceiver, WatchSender};
use tokio::sync::Notify;

use super::{ReadError, ReadOptions};
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::Stop;

/// Finds an index.
pub(super) trait Round: Send + 'static {
    /// An index that is linearizable to read at for whoever asked before this was called.
    fn find(&mut self) -> impl Future<Output = Result<u64, ReadError>> + Send;
}

/// Lets whoever is ready to run go first: on a busy member, many who are about to join.
async fn let_others_run() {
    let mut have_run = false;
    poll_fn(|context| {
        if std::mem::replace(&mut have_run, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

type Index = Option<u64>;
type Sender<R> = <<R as openraft::AsyncRuntime>::Watch as Watch>::Sender<Index>;
type Receiver<R> = <<R as openraft::AsyncRuntime>::Watch as Watch>::Receiver<Index>;

/// Where readers join rounds.
pub(super) struct Rounds<R: Runtime> {
    shared: Arc<Shared<R>>,
}

/// Those who wait for the round that has not begun.
struct Gathering<R: Runtime> {
    sender: Sender<R>,
    receiver: Receiver<R>,
    /// Whether there is anybody.
    joined: bool,
}

impl<R: Runtime> Gathering<R> {
    fn new() -> Self {
        let (sender, receiver) = <R::Watch as Watch>::channel(None);
        Gathering { sender, receiver, joined: false }
    }
}

struct Shared<R: Runtime> {
    next: Mutex<Gathering<R>>,
    /// One slot: somebody waits for the next round.
    poke: Notify,
    options: ReadOptions,
    stop: Stop,
}

impl<R: Runtime> Clone for Rounds<R> {
    fn clone(&self) -> Self {
        Rounds { shared: self.shared.clone() }
    }
}

impl<R: Runtime> Rounds<R> {
    /// Starts the loop that runs the rounds. It ends when it is told to, or raft does.
    pub(super) fn start(round: impl Round, options: ReadOptions, stop: Stop) -> Self {
        let next = Mutex::new(Gathering::new());
        let shared = Arc::new(Shared { next, poke: Notify::new(), options, stop });
        drop(R::spawn(shared.clone().run(round)));
        Rounds { shared }
    }

    /// An index that is linearizable to read at for whoever calls this.
    pub(super) async fn index(&self) -> Result<u64, ReadError> {
        let mut round = self.shared.join();
        self.shared.poke.notify_one();
        let found = round.wait_until(Option::is_some);
        match R::timeout(self.shared.options.limit, found).await {
            Ok(Ok(index)) => Ok(index.expect("waited until it is some")),
            Ok(Err(_)) => Err(ReadError::Stopped),
            Err(_) => Err(ReadError::Timeout),
        }
    }
}

impl<R: Runtime> Shared<R> {
    async fn run(self: Arc<Self>, mut round: impl Round) {
        // Those who wait, by the round that they joined, with the time after which they have given up.
        let mut waiting: Vec<(R::Instant, Sender<R>)> = Vec::new();
        loop {
            if waiting.is_empty() && !self.gathering().joined {
                match R::select2(self.stop.stopped(), self.poke.notified()).await {
                    Select2::First(()) => break,
                    Select2::Second(()) => continue,
                }
            }
            let_others_run().await;
            let swapped_late = R::Mutants::active(Mutant::NotifierSwappedLate);
            if !swapped_late {
                self.swap(&mut waiting);
            }
            let found = round.find().await;
            if swapped_late {
                self.swap(&mut waiting);
            }
            match found {
                Ok(index) => {
                    for (_, readers) in waiting.drain(..) {
                        // Fails if every reader has gone.
                        let _ = readers.send(Some(index));
                    }
                }
                Err(ReadError::Stopped) => break,
                Err(_) => {
                    if let Select2::First(()) = R::select2(self.stop.stopped(), R::sleep(self.options.retry)).await {
                        break;
                    }
                }
            }
        }
        // Whoever waits, or comes later, finds the channel closed: `index` tells him why.
        self.gathering().sender = Gathering::<R>::new().sender;
    }

    fn gathering(&self) -> MutexGuard<'_, Gathering<R>> {
        self.next.lock().expect("no holder of this lock panics")
    }

    /// Waits with the others for the next round.
    fn join(&self) -> Receiver<R> {
        let mut gathering = self.gathering();
        gathering.joined = true;
        gathering.receiver.clone()
    }

    /// Closes the round that gathers, and opens the next. Forgets those who have given up.
    fn swap(&self, waiting: &mut Vec<(R::Instant, Sender<R>)>) {
        let now = R::Instant::now();
        waiting.retain(|(gives_up, _)| *gives_up > now);
        let mut gathering = self.gathering();
        if gathering.joined {
            let closed = std::mem::replace(&mut *gathering, Gathering::new());
            waiting.push((now + self.options.limit, closed.sender));
        }
    }
}
