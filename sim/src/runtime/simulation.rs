//! One run: a seed, a thread, an end.

use std::cell::RefCell;
use std::future::Future;
use std::time::Duration;

use openraft_rt::AsyncRuntime;
use tracing::Dispatch;

use super::{MadsimRuntime, kill_all};
use crate::panics::{self, Caught};

/// Debug builds of raft's futures are large, and a task's poll nests many of them.
const STACK_BYTES: usize = 16 << 20;

thread_local! {
    static AT_END: RefCell<Vec<Box<dyn FnOnce()>>> = const { RefCell::new(Vec::new()) };
}

/// Has this done at the end of the run, once all tasks are dropped: to break circles that would keep a run's memory.
pub(crate) fn at_end(action: impl FnOnce() + 'static) {
    AT_END.with_borrow_mut(|actions| actions.push(Box::new(action)));
}

/// A run of one seed. It has a thread of its own, since the second simulation on a thread draws differently.
#[derive(Debug)]
#[must_use = "a simulation does nothing until it is run"]
pub struct Simulation {
    seed: u64,
    log: Option<Dispatch>,
}

/// Something in the run panicked: in a node's task, that is a finding.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the run of seed {seed} panicked: {message}")]
pub struct Panicked {
    /// The run's seed.
    pub seed: u64,
    /// What the panic said, and where.
    pub message: String,
}

impl Simulation {
    /// A run that logs nothing.
    pub fn new(seed: u64) -> Self {
        Simulation { seed, log: None }
    }

    /// Sends what the run logs to `subscriber`, such as one of [`log::subscriber`](crate::log::subscriber).
    pub fn log(mut self, subscriber: impl Into<Dispatch>) -> Self {
        self.log = Some(subscriber.into());
        self
    }

    /// Runs what `body` makes, on the thread where it is made, and then drops all tasks of all nodes.
    pub fn run<T: Send, F: Future<Output = T>>(self, body: impl FnOnce() -> F + Send) -> Result<T, Panicked> {
        let Simulation { seed, log } = self;
        let run = move || {
            let block_on = move || {
                MadsimRuntime::with_seed(seed).block_on(async {
                    let output = body().await;
                    kill_all();
                    // madsim drops the tasks of a killed node when they are next scheduled, not with the runtime.
                    madsim::time::sleep(Duration::from_millis(1)).await;
                    AT_END.take().into_iter().for_each(|action| action());
                    output
                })
            };
            match log {
                Some(log) => tracing::dispatcher::with_default(&log, block_on),
                None => block_on(),
            }
        };
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().name(format!("seed-{seed}")).stack_size(STACK_BYTES);
            let thread = thread
                .spawn_scoped(scope, || panics::catch(run))
                .map_err(|error| Panicked { seed, message: format!("no thread for the run: {error}") })?;
            match thread.join().expect("panics are caught on their thread") {
                // Also a panic that something has caught on the way ends the run.
                Caught { value: Some(value), panics } if panics.is_empty() => Ok(value),
                Caught { panics, .. } => Err(Panicked { seed, message: panics.join("; then ") }),
            }
        })
    }

    /// Like [`run`](Simulation::run), for tests: panics if the run did.
    pub fn expect<T: Send, F: Future<Output = T>>(self, body: impl FnOnce() -> F + Send) -> T {
        self.run(body).unwrap_or_else(|panicked| panic!("{panicked}"))
    }
}
