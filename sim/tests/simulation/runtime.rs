//! The simulated runtime is one that openraft can live on, and one that repeats itself.

use std::time::Duration;

use openraft_rt::AsyncRuntime;
use openraft_rt::testing::Suite;
use seedbed_sim::runtime::MadsimRuntime;

/// A fresh thread: a second simulation on a thread draws differently.
fn on_fresh_thread<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        std::thread::Builder::new().spawn_scoped(scope, test).expect("a thread").join().expect("no panic")
    })
}

#[test]
fn openrafts_suite_passes() {
    on_fresh_thread(Suite::<MadsimRuntime>::test_all);
}

#[test]
fn a_sleep_ends_on_time_and_a_dropped_one_wakes_nobody() {
    use openraft_rt::Instant;
    use seedbed_sim::runtime::{SimInstant, Simulation};

    Simulation::new(1).expect(|| async {
        let begin = SimInstant::now();
        MadsimRuntime::sleep(Duration::from_micros(30)).await;
        let passed = begin.elapsed();
        assert!(passed >= Duration::from_micros(30) && passed < Duration::from_micros(32), "{passed:?}");

        // Polls that a time-out does not need must not set timers that outlive it.
        let (sender, receiver) = tokio::sync::oneshot::channel::<()>();
        let waited = MadsimRuntime::timeout(Duration::from_secs(1), receiver);
        drop(sender);
        assert!(waited.await.expect("the sender is gone at once").is_err());
    });
}
