//! The runtime of the real server: threads, sockets, files.
//!
//! Tasks, timers and channels are those of `openraft_rt_tokio`, taken over piece by piece, since blocking work has to
//! run on tokio's pool instead of a new thread for each call. The world around a member is made of the machine's clocks
//! ([`TokioClock`]), a folder of the file system ([`TokioDisk`]) and TCP ([`TokioTransport`]).
//!
//! This folder is the only place in the core that may touch the machine. What it calls is otherwise forbidden by the
//! rules of determinism; each exception stands where it is needed, with its reason.

mod clock;
mod disk;
mod transport;

use std::fmt;
use std::future::Future;
use std::io;
use std::time::Duration;

use openraft::{AsyncRuntime, OptionalSend};

pub use self::clock::TokioClock;
pub use self::disk::{TokioDisk, TokioFile};
#[cfg(feature = "server")]
pub(crate) use self::transport::set_up as set_up_stream;
pub use self::transport::{TokioTransport, TransportOptions};
use super::{NoCrashPoints, NoMutants, NoProbe, Runtime};

type Base = openraft_rt_tokio::TokioRuntime;

/// Real threads, sockets and files.
pub struct TokioRuntime(Base);

impl fmt::Debug for TokioRuntime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokioRuntime")
    }
}

impl AsyncRuntime for TokioRuntime {
    type JoinError = <Base as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Base as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <Base as AsyncRuntime>::Sleep;
    type Instant = <Base as AsyncRuntime>::Instant;
    type TimeoutError = <Base as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Base as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Base as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Base as AsyncRuntime>::Mpsc;
    type Watch = <Base as AsyncRuntime>::Watch;
    type Oneshot = <Base as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Base as AsyncRuntime>::Mutex<T>;

    #[track_caller]
    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Base::spawn(future)
    }

    #[track_caller]
    fn sleep(duration: Duration) -> Self::Sleep {
        Base::sleep(duration)
    }

    #[track_caller]
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        Base::sleep_until(deadline)
    }

    #[track_caller]
    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Base::timeout(duration, future)
    }

    #[track_caller]
    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Base::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Base::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Base::thread_rng()
    }

    fn new(threads: usize) -> Self {
        TokioRuntime(Base::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }

    #[allow(clippy::disallowed_methods, reason = "this is the runtime's spawn_blocking")]
    fn spawn_blocking<F, T>(f: F) -> impl Future<Output = Result<T, io::Error>> + Send
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        // Not in an async block: the work begins with the call, and goes on if the future is dropped.
        let task = tokio::task::spawn_blocking(f);
        async { task.await.map_err(io::Error::other) }
    }
}

impl Runtime for TokioRuntime {
    type Clock = TokioClock;
    type Disk = TokioDisk;
    type Transport = TokioTransport;
    type Mutants = NoMutants;
    type Probe = NoProbe;
    type CrashPoints = NoCrashPoints;
}
