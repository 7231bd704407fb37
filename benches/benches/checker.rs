//! How long judging a history takes, against its length and its concurrency. 5 % of the writes have no known outcome.

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seedbed_sim::checker::generate::{Generated, Shape, generate};
use seedbed_sim::checker::linearizable::check;

fn judged(bencher: &mut criterion::Bencher<'_>, Generated { history, placements, .. }: &Generated) {
    bencher.iter(|| {
        let checked = check(black_box(history), Some(placements)).expect("the history is legal");
        assert_eq!(checked.undecided, None);
        checked
    });
}

fn by_length(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checker/length");
    group.sample_size(10).measurement_time(Duration::from_secs(10));
    for operations in [1_000, 10_000, 100_000, 1_000_000] {
        let generated = generate(1, &Shape::busy(64, operations));
        group.throughput(Throughput::Elements(operations as u64));
        group.bench_with_input(BenchmarkId::from_parameter(operations), &generated, judged);
    }
    group.finish();
}

fn by_concurrency(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("checker/concurrency");
    group.sample_size(10).measurement_time(Duration::from_secs(5));
    for clients in [1, 4, 16, 64] {
        let generated = generate(1, &Shape::busy(clients, 100_000));
        group.throughput(Throughput::Elements(100_000));
        group.bench_with_input(BenchmarkId::from_parameter(clients), &generated, judged);
    }
    group.finish();
}

criterion_group!(benches, by_length, by_concurrency);
criterion_main!(benches);
