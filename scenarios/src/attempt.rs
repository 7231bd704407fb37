//! One run on a thread of its own, timed, with its panics caught.
//!
//! A second simulation on a thread would draw other hash keys than the first, so no thread is used twice, and none does
//! anything before the run that could draw them. A panic is a finding: it becomes a violation by the judge `panic`.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;
use std::{io, panic};

use rustix::time::{ClockId, clock_gettime};
use seedbed_sim::outcome::{Operations, Outcome, Violation};
use seedbed_sim::plan::Plan;
use seedbed_sim::run::Options;

/// What runs a plan: [`seedbed_sim::run::run`] outside of tests.
pub(crate) type Runner = fn(&Plan, &Options) -> Outcome;

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
        let clocks = || [ClockId::Monotonic, ClockId::ThreadCPUTime].map(now);
        let [wall, cpu] = clocks();
        PANICS.with(|panics| *panics.borrow_mut() = Some(Vec::new()));
        let result = catch_unwind(AssertUnwindSafe(|| runner(&plan, &options)));
        let panics = PANICS.with(|panics| panics.borrow_mut().take()).unwrap_or_default();
        let [wall_end, cpu_end] = clocks();
        let mut outcome = result.unwrap_or_else(|_| without_answer(&plan));
        // Also of a run that has answered: a panic that something has caught on the way is a panic.
        outcome.violations.extend(panics.into_iter().map(|message| Violation { judge: PANIC, message }));
        ended(Attempt { outcome, wall: wall_end.saturating_sub(wall), cpu: cpu_end.saturating_sub(cpu) });
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

/// The clocks of libc are the simulator's own in this process; these are system calls.
fn now(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(time.tv_sec.try_into().unwrap_or_default(), time.tv_nsec.try_into().unwrap_or_default())
}

fn without_answer(plan: &Plan) -> Outcome {
    Outcome {
        scenario: plan.scenario.clone(),
        seed: plan.seed,
        violations: Vec::new(),
        trace_hash: 0,
        operations: Operations::default(),
        faults: BTreeMap::new(),
        virtual_ms: 0,
    }
}

thread_local! {
    /// The panics of the run on this thread; `None` on threads that have none.
    static PANICS: RefCell<Option<Vec<String>>> = const { RefCell::new(None) };
}

/// From now on, panics of runs are kept as violations instead of being printed.
pub(crate) fn record_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        let kept = PANICS.try_with(|panics| match panics.try_borrow_mut().ok()?.as_mut() {
            Some(panics) => {
                panics.push(described(info));
                Some(())
            }
            None => None,
        });
        if !matches!(kept, Ok(Some(()))) {
            print(info);
        }
    }));
}

fn described(info: &PanicHookInfo<'_>) -> String {
    let message = info.payload_as_str().unwrap_or("a panic without a message");
    match info.location() {
        Some(location) => format!("{message} (at {location})"),
        None => message.to_owned(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::catalogue::CATALOGUE;

    fn plan() -> Plan {
        CATALOGUE[0].plan(5)
    }

    pub(crate) fn fine(plan: &Plan, _: &Options) -> Outcome {
        Outcome { trace_hash: plan.seed + 1, virtual_ms: 1000, ..without_answer(plan) }
    }

    #[test]
    fn a_run_has_its_own_thread_and_its_time_is_taken() {
        fn busy(plan: &Plan, options: &Options) -> Outcome {
            assert_eq!(std::thread::current().name(), Some("calm 5"));
            let until = now(ClockId::ThreadCPUTime) + Duration::from_millis(5);
            while now(ClockId::ThreadCPUTime) < until {}
            fine(plan, options)
        }
        let attempt = run(busy, &plan(), Options::default()).expect("a thread");
        assert_eq!(attempt.outcome.violations, []);
        assert!(attempt.cpu >= Duration::from_millis(5) && attempt.wall >= Duration::from_millis(5));
    }

    #[test]
    fn a_panic_is_a_violation_with_its_message_and_place() {
        record_panics();
        let attempt = run(|_, _| panic!("index {} is gone", 3), &plan(), Options::default()).expect("a thread");
        let [violation] = &attempt.outcome.violations[..] else { panic!("{:?}", attempt.outcome.violations) };
        assert_eq!(violation.judge, "panic");
        assert!(violation.message.contains("index 3 is gone (at "), "{}", violation.message);
        assert!(violation.message.contains("attempt.rs:"), "{}", violation.message);
        assert_eq!((attempt.outcome.scenario.as_str(), attempt.outcome.seed), ("calm", 5));
    }

    #[test]
    fn a_panic_that_was_caught_on_the_way_is_one_too() {
        record_panics();
        fn caught(plan: &Plan, options: &Options) -> Outcome {
            let _ = catch_unwind(|| panic!("swallowed"));
            fine(plan, options)
        }
        let attempt = run(caught, &plan(), Options::default()).expect("a thread");
        assert_eq!(attempt.outcome.trace_hash, 6);
        assert!(attempt.outcome.violations[0].message.starts_with("swallowed"));
    }
}
