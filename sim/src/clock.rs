//! The clocks of the members: each may be off, and run fast or slow, against the run's one true time.
//!
//! ```text
//! true time       t0 ─────────────────── t      the run's virtual time
//! monotonic       l0 ─────────────────── l0 + (t − t0) · (1 + drift)
//! wall            the same + base + offset      only this one may go back
//! ```
//!
//! A change of the drift begins a new straight line at the present point, so the monotonic clock never goes back.
//! Sleeps are measured by the sleeper's own clock; one under way looks at a new line first when the old one ends it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use madsim::time::TimeHandle;
use seedbed_core::runtime::Clock;

/// Where the wall clock of a member without offset begins: 2026-01-01.
const WALL_BASE: Duration = Duration::from_secs(1_767_225_600);

/// Parts in a million, the unit of drift.
const MILLION: i128 = 1_000_000;

/// The clock of one node. Clones are the same clock.
#[derive(Clone, Debug)]
pub struct SimClock {
    line: Arc<Mutex<Line>>,
}

/// The straight line that the clock follows since its last change.
#[derive(Clone, Copy, Debug)]
struct Line {
    true_ns: i128,
    local_ns: i128,
    drift_ppm: i64,
    wall_offset_ns: i128,
}

impl Line {
    fn local(&self, true_ns: u64) -> i128 {
        let passed = i128::from(true_ns) - self.true_ns;
        if self.drift_ppm == 0 {
            // Most clocks, and a division of 128 bits for each look at one is a percent of a run.
            return self.local_ns + passed;
        }
        self.local_ns + (passed * (MILLION + i128::from(self.drift_ppm))).div_euclid(MILLION)
    }
}

impl SimClock {
    /// A clock that shows true time.
    pub fn new() -> Self {
        SimClock { line: Arc::new(Mutex::new(Line { true_ns: 0, local_ns: 0, drift_ppm: 0, wall_offset_ns: 0 })) }
    }

    /// From now on, runs fast by so many parts in a million, or slow if negative. It always runs: −1,000,000 and below
    /// is taken for half speed.
    pub fn set_drift(&self, ppm: i64) {
        let now = true_now_ns();
        let mut line = self.line();
        *line = Line { true_ns: i128::from(now), local_ns: line.local(now), drift_ppm: ppm.max(-500_000), ..*line };
    }

    /// Jumps the monotonic clock forward.
    pub fn jump(&self, by: Duration) {
        self.line().local_ns += by.as_nanos() as i128;
    }

    /// Shifts the wall clock by so many milliseconds against the monotonic one: forth, or back if negative.
    pub fn shift_wall(&self, by_ms: i64) {
        self.line().wall_offset_ns += i128::from(by_ms) * 1_000_000;
    }

    /// The node's monotonic time in nanoseconds.
    pub(crate) fn now_ns(&self) -> i64 {
        self.line().local(true_now_ns()) as i64
    }

    /// The first true time at which the node's monotonic clock will show `local_ns`, if nothing changes it.
    pub(crate) fn true_ns_at(&self, local_ns: i64) -> u64 {
        let line = self.line();
        let ahead = i128::from(local_ns) - line.local_ns;
        let rate = MILLION + i128::from(line.drift_ppm);
        let passed = (ahead * MILLION + rate - 1).div_euclid(rate);
        u64::try_from(line.true_ns + passed).unwrap_or(if ahead > 0 { u64::MAX } else { 0 })
    }

    fn line(&self) -> MutexGuard<'_, Line> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for SimClock {
    fn default() -> Self {
        SimClock::new()
    }
}

impl Clock for SimClock {
    fn monotonic(&self) -> Duration {
        Duration::from_nanos(u64::try_from(self.now_ns()).unwrap_or(0))
    }

    fn wall(&self) -> Duration {
        let now = i128::from(self.now_ns()) + self.line().wall_offset_ns + WALL_BASE.as_nanos() as i128;
        Duration::from_nanos(u64::try_from(now).unwrap_or(0))
    }
}

/// The run's virtual time in nanoseconds since it began.
pub(crate) fn true_now_ns() -> u64 {
    TimeHandle::current().elapsed().as_nanos() as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Simulation;

    async fn pass(time: Duration) {
        madsim::time::sleep(time).await;
    }

    #[test]
    fn drift_changes_the_rate_and_never_turns_it_back() {
        Simulation::new(1).expect(|| async {
            let clock = SimClock::new();
            let mut last = clock.monotonic();
            for ppm in [100_000, -100_000, 0, -2_000_000] {
                clock.set_drift(ppm);
                let begin = clock.monotonic();
                assert!(begin >= last);
                let true_begin = true_now_ns();
                pass(Duration::from_secs(10)).await;
                last = clock.monotonic();
                let true_passed = i128::from(true_now_ns() - true_begin);
                let expected = true_passed * (MILLION + i128::from(ppm.max(-500_000))) / MILLION;
                assert!(((last - begin).as_nanos() as i128 - expected).abs() <= 1, "drift {ppm}");
            }
        });
    }

    #[test]
    fn the_time_of_a_deadline_is_the_first_at_which_the_clock_shows_it() {
        Simulation::new(1).expect(|| async {
            for ppm in [0, 1, -1, 333_333, -333_333] {
                let clock = SimClock::new();
                clock.set_drift(ppm);
                for ahead in [0, 1, 999_999_937] {
                    let local = clock.now_ns() + ahead;
                    let at = clock.true_ns_at(local);
                    let line = *clock.line();
                    assert!(line.local(at) >= i128::from(local), "{ppm} {ahead}");
                    if at > true_now_ns() {
                        assert!(line.local(at - 1) < i128::from(local), "{ppm} {ahead}");
                    }
                }
            }
        });
    }

    #[test]
    fn the_wall_clock_alone_may_go_back() {
        Simulation::new(1).expect(|| async {
            let clock = SimClock::new();
            let (monotonic, wall) = (clock.monotonic(), clock.wall());
            clock.shift_wall(-5_000);
            assert_eq!(clock.wall(), wall - Duration::from_secs(5));
            assert_eq!(clock.monotonic(), monotonic);
            clock.jump(Duration::from_secs(1));
            assert_eq!(clock.monotonic(), monotonic + Duration::from_secs(1));
        });
    }
}
