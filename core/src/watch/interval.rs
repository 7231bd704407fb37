//! Moments at which a stream looks after its watches.

use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use rand::Rng as _;

/// Of an interval, the part by which one may be longer, so that clients that came at once are not all told at once.
const JITTER_PARTS: u32 = 10;

/// Moments, each an interval after the one before, or somewhat later.
pub(crate) struct Interval<R: AsyncRuntime> {
    least: Duration,
    next: R::Instant,
}

impl<R: AsyncRuntime> Interval<R> {
    pub(crate) fn new(least: Duration) -> Self {
        Interval { least, next: R::Instant::now() + jittered::<R>(least) }
    }

    /// Whether the next moment has come. If so, it is the one after that from now on.
    pub(crate) fn has_passed(&mut self) -> bool {
        let now = R::Instant::now();
        let passed = self.next <= now;
        if passed {
            self.next = now + jittered::<R>(self.least);
        }
        passed
    }

    /// Resolves at the next moment. Nothing is lost if it is dropped before.
    pub(crate) async fn passed(&mut self) {
        R::sleep_until(self.next).await;
        self.next = R::Instant::now() + jittered::<R>(self.least);
    }
}

fn jittered<R: AsyncRuntime>(least: Duration) -> Duration {
    let part = f64::from(R::thread_rng().next_u32()) / f64::from(u32::MAX);
    least + (least / JITTER_PARTS).mul_f64(part)
}
