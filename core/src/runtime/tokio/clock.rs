//! The machine's clocks.

use std::time::Duration;

use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::runtime::Clock;

/// Counts on while the machine is suspended: a lease that ended meanwhile has ended. Timers do not count that time.
#[cfg(target_os = "linux")]
const MONOTONIC: ClockId = ClockId::Boottime;
#[cfg(not(target_os = "linux"))]
const MONOTONIC: ClockId = ClockId::Monotonic;

/// The machine's clocks.
#[derive(Clone, Copy, Debug, Default)]
pub struct TokioClock;

impl Clock for TokioClock {
    fn monotonic(&self) -> Duration {
        since_origin(clock_gettime(MONOTONIC))
    }

    fn wall(&self) -> Duration {
        since_origin(clock_gettime(ClockId::Realtime))
    }
}

/// A clock set before its origin reads as zero.
fn since_origin(time: Timespec) -> Duration {
    let nanoseconds = u32::try_from(time.tv_nsec).unwrap_or(0);
    u64::try_from(time.tv_sec).map_or(Duration::ZERO, |seconds| Duration::new(seconds, nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_clock_set_before_1970_reads_as_zero() {
        assert_eq!(since_origin(Timespec { tv_sec: -1, tv_nsec: 999_999_999 }), Duration::ZERO);
        assert_eq!(since_origin(Timespec { tv_sec: 1, tv_nsec: 5 }), Duration::new(1, 5));
    }
}
