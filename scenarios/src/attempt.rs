//! One run on a thread of its own, timed, with its panics caught.
//!
//! A second simulation on a thread would draw other hash keys than the first, so no thread is used twice, and none does
//! anything before the run that could draw them. A panic is a finding: it becomes a violation by the judge `panic`.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use seedbed_sim::outcome::{Operations, Outcome, Violation};
use seedbed_sim::panics::{self, Caught};
use seedbed_sim::plan::Plan;
use seedbed_sim::run::Options;

/// What runs a plan, and says how much of the processor it took: [`simulate`] outside of tests.
pub(crate) type Runner = fn(&Plan, &Options) -> (Outcome, Duration);

/// Runs a plan in the simulator.
pub(crate) fn simulate(plan: &Plan, options: &Options) -> (Outcome, Duration) {
    let run = seedbed_sim::run::run(plan, options);
    (run.outcome, run.cpu)
}

/// The judge of panics.
const PANIC: &str = "panic";
/// Unoptimised futures nest deeply.
const STACK_BYTES: usize = 16 << 20;

/// A run that has ended.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    pub(crate) outcome: Outcome,
    /// By the wall clock.
    pub(crate) wall: Duration,
    /// Of the processor.
    pub(crate) cpu: Duration,
}

/// Starts a run; `ended` is called on its thread.
pub(crate) fn start(
    runner: Runner,
    plan: Arc<Plan>,
    options: Options,
    ended: impl FnOnce(Attempt) + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    Builder::new().name(format!("{} {}", plan.scenario, plan.seed)).stack_size(STACK_BYTES).spawn(move || {
        let began = now();
        let Caught { value, panics } = panics::catch(|| runner(&plan, &options));
        let wall = now().saturating_sub(began);
        let (mut outcome, cpu) = value.unwrap_or_else(|| (without_answer(&plan), Duration::ZERO));
        // Also of a run that has answered: a panic that something has caught on the way is a panic.
        outcome.violations.extend(panics.into_iter().map(|message| Violation { judge: PANIC, message }));
        // A log is complete once nobody can write to it.
        drop(options);
        ended(Attempt { outcome, wall, cpu });
    })
}

/// Runs a plan, and waits for it.
pub(crate) fn run(runner: Runner, plan: &Plan, options: Options) -> io::Result<Attempt> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let thread = start(runner, Arc::new(plan.clone()), options, move |attempt| {
        sender.send(attempt).expect("the receiver waits for this");
    })?;
    let attempt = receiver.recv().expect("a started run ends, by a panic if need be");
    thread.join().expect("panics of a run are caught on its thread");
    Ok(attempt)
}

/// The clocks of libc are the simulator's own in this process; this one is asked of the kernel.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

fn without_answer(plan: &Plan) -> Outcome {
    Outcome {
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        violations: Vec::new(),
        trace_hash: 0,
        operations: Operations::default(),
        grpc_operations: 0,
        faults: BTreeMap::new(),
        crashes: Default::default(),
        reads: BTreeMap::new(),
        staleness: BTreeMap::new(),
        watched: Default::default(),
        contended: Default::default(),
        proxied: Default::default(),
        leases: Default::default(),
        virtual_ms: 0,
        heal_to_commit_ms: None,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalogue::CATALOGUE;

    fn plan() -> Plan {
        CATALOGUE[0].plan(5)
    }

    pub(crate) fn fine(plan: &Plan, _: &Options) -> (Outcome, Duration) {
        let outcome = Outcome { trace_hash: plan.seed + 1, virtual_ms: 1000, ..without_answer(plan) };
        (outcome, Duration::from_millis(2))
    }

    #[test]
    fn a_run_has_its_own_thread_and_its_time_is_taken() {
        fn slow(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            assert_eq!(std::thread::current().name(), Some("calm 5"));
            let until = now() + Duration::from_millis(5);
            while now() < until {}
            fine(plan, options)
        }
        let attempt = run(slow, &plan(), Options::default()).expect("a thread");
        assert_eq!(attempt.outcome.violations, []);
        assert_eq!(attempt.cpu, Duration::from_millis(2));
        assert!(attempt.wall >= Duration::from_millis(5));
    }

    #[test]
    fn a_panic_is_a_violation_with_its_message_and_place() {
        let attempt = run(|_, _| panic!("index {} is gone", 3), &plan(), Options::default()).expect("a thread");
        let [violation] = &attempt.outcome.violations[..] else { panic!("{:?}", attempt.outcome.violations) };
        assert_eq!(violation.judge, "panic");
        assert!(violation.message.starts_with("index 3 is gone (at "), "{}", violation.message);
        assert_eq!((attempt.outcome.scenario.as_str(), attempt.outcome.seed), ("calm", 5));
    }

    #[test]
    fn a_panic_that_was_caught_on_the_way_is_one_too() {
        fn caught(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            let _ = std::panic::catch_unwind(|| panic!("swallowed"));
            fine(plan, options)
        }
        let attempt = run(caught, &plan(), Options::default()).expect("a thread");
        assert_eq!(attempt.outcome.trace_hash, 6);
        assert!(attempt.outcome.violations[0].message.starts_with("swallowed"));
    }
}
