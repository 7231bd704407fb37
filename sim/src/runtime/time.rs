//! Instants, sleeps and time-outs, measured by the clock of the node that asks.
//!
//! madsim's own sleep lasts a millisecond at least, and adds a timer with each poll that nothing takes back. A [`Sleep`]
//! here ends on time to the nanosecond, sets one timer, and wakes nobody once it has been dropped.

use std::future::Future;
use std::ops::{Add, AddAssign, Sub, SubAssign};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures_util::task::AtomicWaker;
use madsim::time::TimeHandle;
use openraft_rt::Instant;

use super::node;
use crate::clock::{SimClock, true_now_ns};

/// A point of a node's monotonic time. Instants of different nodes do not compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SimInstant {
    ns: i64,
}

impl SimInstant {
    /// What the clock of the current task's node shows.
    pub(super) fn now_here() -> Self {
        SimInstant { ns: node::clock_here().now_ns() }
    }
}

impl Instant for SimInstant {
    fn now() -> Self {
        SimInstant::now_here()
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

impl Add<Duration> for SimInstant {
    type Output = Self;

    fn add(self, duration: Duration) -> Self {
        SimInstant { ns: self.ns.saturating_add(nanos(duration)) }
    }
}

impl AddAssign<Duration> for SimInstant {
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl Sub<Duration> for SimInstant {
    type Output = Self;

    fn sub(self, duration: Duration) -> Self {
        SimInstant { ns: self.ns.saturating_sub(nanos(duration)) }
    }
}

impl SubAssign<Duration> for SimInstant {
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl Sub for SimInstant {
    type Output = Duration;

    /// Zero if `earlier` is later.
    fn sub(self, earlier: Self) -> Duration {
        Duration::from_nanos(u64::try_from(self.ns.saturating_sub(earlier.ns)).unwrap_or(0))
    }
}

/// Wakes `waker` when the run's time has reached `at_ns`, or at once if it has.
///
/// The waker is called from within madsim's timer: it may schedule tasks, but must not set another timer.
pub(crate) fn arm(at_ns: u64, waker: &Waker) {
    let time = TimeHandle::current();
    let now = time.elapsed();
    let deadline = time.now_instant() + Duration::from_nanos(at_ns).saturating_sub(now);
    let mut sleep = time.sleep_until(deadline);
    // Only a reset takes a deadline of less than a millisecond ahead.
    Pin::new(&mut sleep).reset(deadline);
    if Pin::new(&mut sleep).poll(&mut Context::from_waker(waker)).is_ready() {
        waker.wake_by_ref();
    }
}

/// A timer's way back to a sleep that may have been dropped, or have moved to another task.
#[derive(Debug, Default)]
struct Alarm {
    sleeper: AtomicWaker,
    rung: AtomicBool,
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.rung.store(true, Ordering::Relaxed);
        self.sleeper.wake();
    }
}

/// Waits for a point in time.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep {
    deadline: SimInstant,
    /// The clock that decides: a node's, or the run's own.
    clock: Option<SimClock>,
    alarm: Option<Arc<Alarm>>,
}

/// A deadline this far away is never reached: about 30 years.
const NEVER_NS: u64 = 1_000_000_000_000_000_000;

impl Sleep {
    /// Until the clock of the current task's node shows `deadline`.
    pub(super) fn until(deadline: SimInstant) -> Self {
        Sleep { deadline, clock: Some(node::clock_here()), alarm: None }
    }

    /// Until the run's own time, which no node's clock shows.
    pub(crate) fn until_true_ns(at_ns: u64) -> Self {
        Sleep { deadline: SimInstant { ns: i64::try_from(at_ns).unwrap_or(i64::MAX) }, clock: None, alarm: None }
    }

    fn reached(&self) -> bool {
        let now = match &self.clock {
            Some(clock) => clock.now_ns(),
            None => true_now_ns() as i64,
        };
        now >= self.deadline.ns
    }

    fn deadline_true_ns(&self) -> u64 {
        match &self.clock {
            Some(clock) => clock.true_ns_at(self.deadline.ns),
            None => self.deadline.ns as u64,
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Never ready at the first poll: a loop of sleeps that end at once would hold up virtual time for ever.
        if self.alarm.is_some() && self.reached() {
            return Poll::Ready(());
        }
        if let Some(alarm) = &self.alarm
            && !alarm.rung.load(Ordering::Relaxed)
        {
            alarm.sleeper.register(cx.waker());
            return Poll::Pending;
        }
        let alarm = Arc::new(Alarm::default());
        alarm.sleeper.register(cx.waker());
        let at_ns = self.deadline_true_ns().max(true_now_ns() + 1);
        if at_ns < NEVER_NS {
            arm(at_ns, &Waker::from(alarm.clone()));
        }
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(alarm) = &self.alarm {
            alarm.sleeper.take();
        }
    }
}

/// The time was up first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the deadline has passed")]
pub struct Elapsed;

/// A future with a deadline. At the deadline itself the future's own end goes first.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Timeout<F> {
    future: Pin<Box<F>>,
    sleep: Sleep,
}

impl<F: Future> Timeout<F> {
    pub(super) fn at(deadline: SimInstant, future: F) -> Self {
        Timeout { future: Box::pin(future), sleep: Sleep::until(deadline) }
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if let Poll::Ready(output) = self.future.as_mut().poll(cx) {
            return Poll::Ready(Ok(output));
        }
        Pin::new(&mut self.sleep).poll(cx).map(|()| Err(Elapsed))
    }
}
