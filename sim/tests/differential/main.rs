//! The same requests to real etcd, to the server, alone or by way of its proxy, and to the checker's model, one after the other:
//! the same answers.
//!
//! ```text
//!   generator ── a request ──► parties ──┬── etcd        a process    what it answers is right,
//!       ▲                                ├── the server  a process    but for what DEVIATIONS.md lists
//!       └── what was answered ───────────┴── the model   in here
//!
//!   a difference ──► shrunk: fewer, simpler requests, each try on new servers with empty stores
//! ```
//!
//! Every field of a response counts, and code and text of an error; of identifiers and terms only whether they are there.
//!
//! It needs etcd 3.4 and a server that was built with the same profile:
//!
//! ```sh
//! cargo build --release -p seedbed-core --features server
//! cargo test --release -p seedbed-sim --test differential -- --nocapture
//! ```
//!
//! `ETCD` is etcd's path if it is not in the search path; `DIFFERENTIAL_SEED` and `DIFFERENTIAL_REQUESTS` make another run
//! of it, and `DIFFERENTIAL_SEQUENCE` takes one sequence of it.

mod deviations;
mod generator;
mod grpc;
mod parties;
mod sequence;
mod server;
mod shown;
mod simpler;
mod watches;

use std::collections::BTreeMap;
use std::env;

use seedbed_proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RequestOp, request_op, response_op,
};
use seedbed_sim::history::{Outcome, Request, Response};
use seedbed_sim::model::Kv;

use self::generator::Generator;
use self::parties::{Model, Parties};
use self::sequence::{Failure, Sequences};
use self::server::Program;

/// Requests of a run, unless the environment says otherwise; and of one by way of a proxy.
const REQUESTS: u64 = 50_000;
const REQUESTS_BY_PROXY: u64 = 15_000;

/// Requests from which on a run has to have met every error of the KV and Lease services.
const REQUESTS_FOR_ALL_ERRORS: u64 = 25_000;

const ERRORS: [&str; 14] = [
    "etcdserver: duplicate key given in txn request",
    "etcdserver: invalid sort option",
    "etcdserver: key is not provided",
    "etcdserver: key not found",
    "etcdserver: lease already exists",
    "etcdserver: lease is provided",
    "etcdserver: mvcc: required revision has been compacted",
    "etcdserver: mvcc: required revision is a future revision",
    "etcdserver: request is too large",
    "etcdserver: requested lease not found",
    "etcdserver: too large lease TTL",
    "etcdserver: too many operations in txn request",
    "etcdserver: value is provided",
    "Error, decoded message length too large",
];

fn model() -> Model {
    let mut kv = Kv::following_leases();
    Box::new(move |request| kv.answer(request))
}

/// A number of the environment.
fn number(name: &str) -> Option<u64> {
    let value = env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name} is a number, not {value:?}")))
}

#[test]
fn kv_answers_as_etcd_does() {
    answers_as_etcd_does(Program::seedbed(), REQUESTS);
}

#[test]
fn kv_answers_as_etcd_does_by_way_of_a_proxy() {
    answers_as_etcd_does(Program::seedbed_by_proxy(), REQUESTS_BY_PROXY);
}

fn answers_as_etcd_does(ours: Program, requests: u64) {
    let seed = number("DIFFERENTIAL_SEED").unwrap_or(1);
    let requests = number("DIFFERENTIAL_REQUESTS").unwrap_or(requests);
    let mut sequences = Sequences::new(seed, ours.clone(), model);
    let mut answers = BTreeMap::<(&str, String), u64>::new();
    let mut asked = 0;
    let (first, last) = match number("DIFFERENTIAL_SEQUENCE") {
        Some(only) => (only, only),
        None => (0, u64::MAX),
    };
    let version = Program::etcd().version();
    assert!(version.contains("etcd Version: 3.4."), "etcd 3.4 is the measure, not\n{version}");
    for sequence in first..=last {
        if asked >= requests {
            break;
        }
        match sequences.play(sequence, requests - asked) {
            Ok(outcomes) => {
                asked += outcomes.len() as u64;
                for (kind, outcome) in outcomes {
                    *answers.entry((kind, summary(outcome))).or_default() += 1;
                }
            }
            Err(failure) => panic!(
                "{}\nplay it again with DIFFERENTIAL_SEED={seed} DIFFERENTIAL_SEQUENCE={sequence}",
                sequences.shrink(*failure)
            ),
        }
    }
    println!("seed {seed}, {}", ours.name);
    for ((kind, answer), count) in &answers {
        println!("{count:>6}  {kind:<12} {answer}");
    }
    if asked >= REQUESTS_FOR_ALL_ERRORS {
        for error in ERRORS {
            assert!(answers.keys().any(|(_, answer)| answer.starts_with(error)), "no request met {error:?}");
        }
    }
}

fn summary(outcome: Outcome) -> String {
    match outcome {
        Outcome::Ok(_) => "answered".to_owned(),
        Outcome::Failed { message, .. } => {
            message.split(": found").next().unwrap_or_default().chars().take(80).collect()
        }
        Outcome::Unknown => "unknown".to_owned(),
    }
}

/// Stores whose watches are compared, and those by way of a proxy.
const WATCHED_STORES: u64 = 40;
const WATCHED_STORES_BY_PROXY: u64 = 20;
/// Watches of each.
const WATCHES: usize = 15;
/// Requests before the watches, and again after them.
const WATCHED_REQUESTS: usize = 60;

#[test]
fn watches_are_told_what_etcd_tells() {
    let [events, ended, canceled] = watches_are_told_alike(Program::seedbed(), WATCHED_STORES);
    assert!(events > 2_000 && ended > 50 && canceled > 20, "little has been compared");
}

#[test]
fn watches_are_told_what_etcd_tells_by_way_of_a_proxy() {
    let [events, ended, canceled] = watches_are_told_alike(Program::seedbed_by_proxy(), WATCHED_STORES_BY_PROXY);
    assert!(events > 1_000 && ended > 25 && canceled > 10, "little has been compared");
}

/// How many events were told alike, and how many watches were refused or ended, and canceled.
fn watches_are_told_alike(ours: Program, stores: u64) -> [usize; 3] {
    let seed = number("DIFFERENTIAL_SEED").unwrap_or(1);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut events, mut ended, mut canceled) = (0, 0, 0);
    for store in 0..stores {
        runtime.block_on(async {
            let mut generator = Generator::new(seed, store);
            let mut parties = Parties::start(ours.clone(), model()).await;
            play(&mut generator, &mut parties, true).await;
            let mut request = generator.watch();
            let mut watches = parties.watch(&request).await;
            let mut created = watches::Created::new();
            for asked in 1..=WATCHES {
                let [one, other] = &mut watches;
                let answer = one.answer().await;
                assert_eq!(other.answer().await, answer, "seed {seed}, store {store}: {request:?}");
                if !answer.canceled {
                    if request.start_revision == 0 {
                        request.start_revision = parties.state().revision() + 1;
                    }
                    created.insert(answer.watch_id, (request, parties.state().compacted()));
                }
                request = generator.watch();
                if asked < WATCHES {
                    watches.iter().for_each(|watches| watches.ask(request.clone()));
                }
            }
            watches::compare(parties.state(), &created, &mut watches).await;
            // Those that need what was compacted have ended; the others are told what comes.
            created.retain(|_, (request, compacted)| request.start_revision >= *compacted);
            ended += WATCHES - created.len();
            for id in created.keys().copied().collect::<Vec<_>>() {
                if generator.cancels() {
                    created.remove(&id);
                    let [one, other] = &mut watches;
                    assert_eq!(other.cancel(id).await, one.cancel(id).await, "seed {seed}, store {store}");
                    canceled += 1;
                }
            }
            // What was before a change is looked up when it is told, which may be after a compaction.
            play(&mut generator, &mut parties, false).await;
            events += watches::compare(parties.state(), &created, &mut watches).await;
        });
    }
    println!(
        "{}, {stores} stores: {events} events told alike, {ended} watches refused or ended alike, {canceled} canceled",
        ours.name
    );
    [events, ended, canceled]
}

#[test]
fn leases_of_little_time_and_without_a_number_are_granted_alike() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let parties = Parties::start(Program::seedbed(), model()).await;
        for ttl in [i64::MIN, -1, 0, 1, 2, 3] {
            for id in [0, 9] {
                let grant = Request::LeaseGrant(LeaseGrantRequest { id, ttl });
                let granted = parties.ask_servers(&grant).await.map(|outcome| match outcome {
                    Outcome::Ok(Response::LeaseGrant(granted)) => granted,
                    other => panic!("{ttl} s: {other:?}"),
                });
                let [etcd, seedbed] = &granted;
                assert_eq!((etcd.ttl, &etcd.error, &etcd.header), (seedbed.ttl, &seedbed.error, &seedbed.header));
                assert!(granted.iter().all(|granted| granted.id > 0), "{granted:?}");
                assert!(id == 0 || granted.iter().all(|granted| granted.id == id), "{granted:?}");
                if id != 0 {
                    let revoke = Request::LeaseRevoke(LeaseRevokeRequest { id });
                    let [one, other] = parties.ask_servers(&revoke).await;
                    assert!(one == other && matches!(one, Outcome::Ok(_)), "{one:?} {other:?}");
                }
            }
        }
    });
}

async fn play(generator: &mut Generator, parties: &mut Parties, compacts: bool) {
    for _ in 0..WATCHED_REQUESTS {
        let request = generator.request();
        if !compacts && matches!(request, Request::Compact(_)) {
            continue;
        }
        let outcome = parties.ask(&request).await.unwrap_or_else(|difference| panic!("{request:?}: {difference}"));
        generator.saw(&request, &outcome);
    }
}

/// A model that forgets, in a txn, what it has deleted.
fn flawed_model() -> Model {
    let mut honest = model();
    Box::new(move |request| {
        let mut outcome = honest(request);
        if let Outcome::Ok(Response::Txn(txn)) = &mut outcome {
            for operation in &mut txn.responses {
                if let Some(response_op::Response::ResponseDeleteRange(delete)) = &mut operation.response {
                    delete.prev_kvs.clear();
                }
            }
        }
        outcome
    })
}

#[test]
fn a_difference_is_found_and_shrunk_to_what_it_takes() {
    let mut sequences = Sequences::new(1, Program::seedbed(), flawed_model);
    let failure = (0..40).find_map(|sequence| sequences.play(sequence, 1000).err()).expect("a difference");
    let Failure { requests, difference } = sequences.shrink(*failure);
    let [Request::Put(put), Request::Txn(txn)] = &requests[..] else {
        panic!("a put and a txn are all it takes, not {requests:?}");
    };
    let [RequestOp { request: Some(request_op::Request::RequestDeleteRange(delete)) }] =
        &[&txn.success[..], &txn.failure[..]].concat()[..]
    else {
        panic!("a deletion is all it takes, not {txn:?}");
    };
    assert_eq!(*delete, DeleteRangeRequest { key: put.key.clone(), prev_kv: true, ..Default::default() });
    assert_eq!(*put, PutRequest { key: put.key.clone(), ..Default::default() });
    assert_eq!(difference.who, "the model");
}
