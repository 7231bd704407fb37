//! The abstract runtime: everything that differs between the server and the simulation.
//!
//! openraft's `AsyncRuntime` (tasks, timers, channels) is the base; [`Clock`], [`Disk`] and [`Transport`] are added as
//! values, since one process may hold several members. Each trait is small enough to fake on a screen, and every
//! implementation passes the suite in `conformance`.

mod clock;
#[cfg(feature = "conformance")]
pub mod conformance;
mod crash_point;
mod disk;
mod mutants;
mod probe;
#[cfg(feature = "tokio-runtime")]
pub mod tokio;
mod transport;

use openraft::AsyncRuntime;

pub use self::clock::Clock;
pub use self::crash_point::{CrashPoint, CrashPoints, NoCrashPoints};
pub use self::disk::{Disk, File};
pub use self::mutants::{Mutant, Mutants, NoMutants, Planted};
pub use self::probe::{AppliedEntry, Change, LeaseChange, NoProbe, Probe};
pub use self::transport::{Handler, PROTOCOL_VERSION, Transport, TransportError};

/// A runtime of the store: a way to run tasks, and the types of the world around a member.
pub trait Runtime: AsyncRuntime + Send + Sync {
    /// Time as the member sees it.
    type Clock: Clock;
    /// The member's data folder.
    type Disk: Disk;
    /// The way to the other members.
    type Transport: Transport;
    /// The planted bugs that are switched on. [`NoMutants`] in every runtime but the simulator's.
    type Mutants: Mutants;
    /// Who watches from inside. [`NoProbe`] in every runtime but the simulator's.
    type Probe: Probe;
    /// Where a member may be made to die. [`NoCrashPoints`] in every runtime but the simulator's.
    type CrashPoints: CrashPoints;
}

/// The world that one member lives in.
#[derive(Debug)]
pub struct Host<R: Runtime> {
    /// Time as the member sees it.
    pub clock: R::Clock,
    /// The member's data folder.
    pub disk: R::Disk,
    /// The way to the other members.
    pub transport: R::Transport,
}

impl<R: Runtime> Clone for Host<R> {
    fn clone(&self) -> Self {
        Host { clock: self.clock.clone(), disk: self.disk.clone(), transport: self.transport.clone() }
    }
}
