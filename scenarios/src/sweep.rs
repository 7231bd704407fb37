//! Many runs side by side, handed over in the order of their jobs.
//!
//! ```text
//!   jobs ─► queue ─► at most `threads` attempts at a time ─► waiting for a second attempt? ─► in order ─► each()
//! ```
//!
//! Of a verified job two attempts are made, on two threads and at the same time if there is room. If they differ in
//! anything, the run was not a function of its plan: a violation by the judge `determinism`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use seedbed_sim::outcome::{Outcome, Violation};
use seedbed_sim::plan::Plan;
use seedbed_sim::run::Options;

use crate::attempt::{self, Attempt, Runner};

/// The judge of runs that differ from themselves.
pub(crate) const DETERMINISM: &str = "determinism";

/// A plan that is to be run.
pub(crate) struct Job {
    pub(crate) plan: Plan,
    /// The regression that it is, if it is one.
    pub(crate) regression: Option<&'static str>,
    /// Whether to run it twice, and compare.
    pub(crate) verify: bool,
}

/// A job that is done.
pub(crate) struct Finished {
    pub(crate) plan: Arc<Plan>,
    /// The regression that it is, if it is one.
    pub(crate) regression: Option<&'static str>,
    pub(crate) outcome: Outcome,
    /// Of the first attempt.
    pub(crate) wall: Duration,
    /// Of the first attempt.
    pub(crate) cpu: Duration,
    /// Whether it was run twice.
    pub(crate) verified: bool,
}

impl Finished {
    /// Whether any guarantee was broken.
    pub(crate) fn violated(&self) -> bool {
        !self.outcome.violations.is_empty()
    }
}

/// A job of which attempts are under way.
struct Started {
    plan: Arc<Plan>,
    regression: Option<&'static str>,
    attempts: Vec<Option<Attempt>>,
}

/// Runs the jobs, `threads` at a time, and calls `each` in their order. Ends early when `stop` is set or `each` breaks:
/// then nothing new is begun. After a stop, what is finished is still handed over.
pub(crate) fn sweep(
    jobs: impl IntoIterator<Item = Job>,
    runner: Runner,
    threads: usize,
    stop: &AtomicBool,
    mut each: impl FnMut(Finished) -> io::Result<ControlFlow<()>>,
) -> io::Result<()> {
    let mut jobs = jobs.into_iter().enumerate();
    let (sender, receiver) = mpsc::channel();
    let mut queue: VecDeque<(usize, usize)> = VecDeque::new();
    let mut started: BTreeMap<usize, Started> = BTreeMap::new();
    let mut running = BTreeMap::new();
    let mut finished: BTreeMap<usize, Finished> = BTreeMap::new();
    let mut next = 0;
    let mut broken = false;
    loop {
        while running.len() < threads && !broken && !stop.load(Ordering::Relaxed) {
            if queue.is_empty() {
                let Some((nth, Job { plan, regression, verify })) = jobs.next() else { break };
                let attempts = vec![None; if verify { 2 } else { 1 }];
                queue.extend((0..attempts.len()).map(|attempt| (nth, attempt)));
                started.insert(nth, Started { plan: Arc::new(plan), regression, attempts });
            }
            let Some(at) = queue.pop_front() else { break };
            let sender = sender.clone();
            // Nobody receives it if the sweep has failed meanwhile.
            let ended = move |attempt| drop(sender.send((at, attempt)));
            running.insert(at, attempt::start(runner, started[&at.0].plan.clone(), Options::default(), ended)?);
        }
        if running.is_empty() {
            break;
        }
        let (at, attempt) = receiver.recv().expect("a sender is kept here");
        running.remove(&at).expect("it ran").join().expect("panics of a run are caught on its thread");
        let job = started.get_mut(&at.0).expect("it was started");
        job.attempts[at.1] = Some(attempt);
        if job.attempts.iter().all(Option::is_some) {
            let job = started.remove(&at.0).expect("it was just there");
            finished.insert(at.0, compared(job));
        }
        while !broken && let Some(job) = finished.remove(&next) {
            next += 1;
            broken = each(job)?.is_break();
        }
    }
    for job in finished.into_values() {
        if broken || each(job)?.is_break() {
            break;
        }
    }
    Ok(())
}

fn compared(job: Started) -> Finished {
    let mut attempts = job.attempts.into_iter().flatten();
    let Attempt { mut outcome, wall, cpu } = attempts.next().expect("every job has an attempt");
    let second = attempts.next();
    let verified = second.is_some();
    if let Some(second) = second
        && second.outcome != outcome
    {
        let (one, other) = (outcome.trace_hash, second.outcome.trace_hash);
        let message = if one == other {
            format!("the same plan came to another outcome the second time, with the same trace hash {one:016x}")
        } else {
            format!("the same plan had the trace hash {one:016x} in one thread and {other:016x} in another")
        };
        outcome.violations.push(Violation { judge: DETERMINISM, message });
    }
    Finished { plan: job.plan, regression: job.regression, outcome, wall, cpu, verified }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::attempt::tests::fine;
    use crate::catalogue::CATALOGUE;

    fn jobs(verify: bool) -> impl Iterator<Item = Job> {
        (0..20).map(move |seed| Job { plan: CATALOGUE[0].plan(seed), regression: None, verify })
    }

    fn seeds(runner: Runner, threads: usize, verify: bool) -> Vec<u64> {
        let mut seen = Vec::new();
        sweep(jobs(verify), runner, threads, &AtomicBool::new(false), |job| {
            assert!(!job.violated(), "{:?}", job.outcome.violations);
            assert_eq!(job.verified, verify);
            seen.push(job.plan.seed);
            Ok(ControlFlow::Continue(()))
        })
        .expect("threads");
        seen
    }

    #[test]
    fn runs_are_handed_over_in_order_whichever_ends_first() {
        fn uneven(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            // The earlier the seed, the longer it takes.
            let sum = (0..(20 - plan.seed) * 200_000).fold(0u64, |sum, i| std::hint::black_box(sum ^ i));
            std::hint::black_box(sum);
            fine(plan, options)
        }
        for threads in [1, 4, 64] {
            for verify in [false, true] {
                assert_eq!(seeds(uneven, threads, verify), (0..20).collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn a_run_that_differs_from_itself_is_a_violation() {
        fn moody(plan: &Plan, options: &Options) -> (Outcome, Duration) {
            static RUNS: AtomicU64 = AtomicU64::new(0);
            let (outcome, cpu) = fine(plan, options);
            (Outcome { trace_hash: RUNS.fetch_add(1, Ordering::Relaxed), ..outcome }, cpu)
        }
        let mut judges = Vec::new();
        sweep(jobs(true).take(1), moody, 2, &AtomicBool::new(false), |job| {
            judges.extend(job.outcome.violations.into_iter().map(|violation| (violation.judge, violation.message)));
            Ok(ControlFlow::Continue(()))
        })
        .expect("threads");
        let [("determinism", message)] = &judges[..] else { panic!("{judges:?}") };
        assert!(message.contains("0000000000000000") && message.contains("0000000000000001"), "{message}");
    }

    #[test]
    fn a_break_ends_it_and_a_stop_keeps_what_is_finished() {
        let mut seen = 0;
        sweep(jobs(false), fine, 4, &AtomicBool::new(false), |_| {
            seen += 1;
            Ok(if seen == 3 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })
        .expect("threads");
        assert_eq!(seen, 3);

        let (stop, mut seen) = (AtomicBool::new(false), 0);
        sweep(jobs(true), fine, 1, &stop, |_| {
            seen += 1;
            stop.store(seen == 5, Ordering::Relaxed);
            Ok(ControlFlow::Continue(()))
        })
        .expect("threads");
        assert_eq!(seen, 5);
    }
}
