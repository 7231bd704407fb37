//! The simulated runtime: madsim's tasks and timers behind openraft's `AsyncRuntime`, and the simulated world behind
//! the store's [`Runtime`].
//!
//! A run owns a fresh thread ([`Simulation`]), so all that belongs to the run and to no value of it (the nodes, their
//! clocks and random streams, the trace, the evidence, the planted bug) lives in the thread's locals. Each task belongs to
//! a node, which decides its clock and its random stream, and which can be killed or paused as a whole.

mod channel;
mod node;
mod simulation;
mod task;
mod time;
mod watch;

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::OptionalSend;
use openraft_rt::AsyncRuntime;
use seedbed_core::runtime::Runtime;

pub use self::channel::{SimMpsc, SimMutex, SimOneshot};
pub use self::node::{NodeRng, clock_of, create_node, kill, kill_all, name_of, pause, restart, resume, seed};
pub(crate) use self::simulation::at_end;
pub use self::simulation::{Panicked, Simulation};
pub use self::task::{Cancelled, JoinHandle};
pub(crate) use self::time::arm;
pub use self::time::{Elapsed, SimInstant, Sleep, Timeout};
pub use self::watch::SimWatch;
use crate::clock::SimClock;
use crate::crash_points::SimCrashPoints;
use crate::disk::DiskHandle;
use crate::evidence::SimProbe;
use crate::mutant::SimMutants;
use crate::network::SimTransport;
use crate::trace;

/// The runtime of a simulated member.
///
/// As a value it is a whole simulation with its own virtual time, which openraft's conformance suite asks for; the
/// store's code only ever names it as a type.
pub struct MadsimRuntime {
    inner: madsim::runtime::Runtime,
}

impl fmt::Debug for MadsimRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MadsimRuntime")
    }
}

impl MadsimRuntime {
    /// A runtime whose every choice follows from the seed, provided that it is the first on its thread.
    pub fn with_seed(seed: u64) -> Self {
        node::reset(seed);
        trace::reset();
        MadsimRuntime { inner: madsim::runtime::Runtime::with_seed_and_config(seed, madsim::Config::default()) }
    }
}

impl Runtime for MadsimRuntime {
    type Clock = SimClock;
    type Disk = DiskHandle;
    type Transport = SimTransport;
    type Mutants = SimMutants;
    type Probe = SimProbe;
    type CrashPoints = SimCrashPoints;
}

impl AsyncRuntime for MadsimRuntime {
    type JoinError = Cancelled;
    type JoinHandle<T: OptionalSend + 'static> = JoinHandle<T>;
    type Sleep = Sleep;
    type Instant = SimInstant;
    type TimeoutError = Elapsed;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = Timeout<T>;
    type ThreadLocalRng = NodeRng;
    type Mpsc = SimMpsc;
    type Watch = SimWatch;
    type Oneshot = SimOneshot;
    type Mutex<T: OptionalSend + 'static> = SimMutex<T>;

    #[track_caller]
    fn spawn<T>(future: T) -> JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        trace::record("spawn", &[]);
        JoinHandle(madsim::task::spawn(future))
    }

    fn sleep(duration: Duration) -> Sleep {
        Sleep::until(SimInstant::now_here() + duration)
    }

    fn sleep_until(deadline: SimInstant) -> Sleep {
        Sleep::until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Timeout<F> {
        Timeout::at(SimInstant::now_here() + duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: SimInstant, future: F) -> Timeout<F> {
        Timeout::at(deadline, future)
    }

    /// Never: a panic ends the run.
    fn is_panic(_: &Cancelled) -> bool {
        false
    }

    fn thread_rng() -> NodeRng {
        NodeRng::here()
    }

    /// The simulation has one thread, whatever is asked for, and the seed 0.
    fn new(_threads: usize) -> Self {
        MadsimRuntime::with_seed(0)
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.inner.block_on(future)
    }

    /// Runs it at once: virtual time stands still meanwhile, so it blocks nobody.
    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let result = f();
        async move { Ok(result) }
    }
}
