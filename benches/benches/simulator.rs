//! How many client operations a second one core simulates and judges.
//!
//! It answers what a sweep costs: plans of three members, each from the start of its cluster to its verdict, one run after
//! the other. `calm` is the price of the store, its runtime and its judges; what `everything` adds is that of faults,
//! elections and retries. The throughput counts operations that clients began, and all of them are judged.
//!
//! The plans are kept as data, so that the bench measures the same when the catalogue changes. Each is run with the same
//! few seeds, so that chance decides less.

use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seedbed_sim::plan::Plan;
use seedbed_sim::run::{Options, run};

const PLANS: [(&str, &str); 2] =
    [("calm", include_str!("../plans/calm.json")), ("everything", include_str!("../plans/everything.json"))];

const SEEDS: u64 = 4;

/// Runs a plan, and counts its operations.
fn operations(plan: &Plan) -> u64 {
    let outcome = run(plan, &Options::default()).outcome;
    assert!(outcome.violations.is_empty(), "{} {}: {:?}", plan.scenario, plan.seed, outcome.violations);
    outcome.operations.total()
}

fn whole_runs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("simulator");
    group.sample_size(10).warm_up_time(Duration::from_secs(1)).measurement_time(Duration::from_secs(12));
    for (name, json) in PLANS {
        let plan = Plan::from_json(json).expect("the plan is valid");
        let plans: Vec<Plan> = (0..SEEDS).map(|seed| Plan { seed, ..plan.clone() }).collect();
        group.throughput(Throughput::Elements(plans.iter().map(operations).sum()));
        group.bench_function(name, |bencher| bencher.iter(|| plans.iter().map(operations).sum::<u64>()));
    }
    group.finish();
}

criterion_group!(benches, whole_runs);
criterion_main!(benches);
