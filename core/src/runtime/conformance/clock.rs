//! Checks of [`Clock`].

use std::time::Duration;

use super::{Suite, World};
use crate::runtime::{Clock, Runtime};

/// The first moment of 2020, since the Unix epoch.
const YEAR_2020: Duration = Duration::from_secs(1_577_836_800);

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// Every check of clocks.
    pub async fn test_clock(&mut self) {
        self.monotonic_never_goes_back().await;
        self.monotonic_advances_with_sleep().await;
        self.wall_is_in_this_age().await;
    }

    /// The monotonic clock never goes backwards, in whichever task and through whichever clone it is read.
    pub async fn monotonic_never_goes_back(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let mut last = host.clock.monotonic();
            for _ in 0..100 {
                let clock = host.clock.clone();
                let reading = R::spawn(async move { [clock.monotonic(), clock.monotonic()] });
                let here = host.clock.monotonic();
                assert!(here >= last, "{here:?} after {last:?}");
                let [first, second] = reading.await.expect("reading a clock does not panic");
                assert!(first >= last && second >= first, "{first:?}, {second:?} after {last:?}");
                last = host.clock.monotonic();
                assert!(last >= here && last >= second, "{last:?} after {here:?} and {second:?}");
            }
        })
        .await;
    }

    /// Across a sleep the monotonic clock advances by the sleep or more, less the drift that the world declares.
    pub async fn monotonic_advances_with_sleep(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            for sleep in [1, 5, 20, 100].map(Duration::from_millis) {
                let before = host.clock.monotonic();
                R::sleep(sleep).await;
                let advanced = host.clock.monotonic() - before;
                let least = sleep.mul_f64(1.0 - W::DRIFT);
                assert!(advanced >= least, "{advanced:?} in a sleep of {sleep:?}");
            }
        })
        .await;
    }

    /// The wall clock tells a time that people would believe.
    pub async fn wall_is_in_this_age(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let wall = host.clock.wall();
            assert!(wall > YEAR_2020, "{wall:?} since the epoch");
        })
        .await;
    }
}
