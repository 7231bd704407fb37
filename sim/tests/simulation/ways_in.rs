//! Clients that speak gRPC over HTTP/2 beside clients that call directly: the same services, and the same faults.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use madsim::time::{TimeHandle, sleep};
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest,
    LeaseRevokeRequest, LeaseTimeToLiveRequest, PutRequest, RangeRequest, TxnRequest,
};
use seedbed_sim::ReadPath;
use seedbed_sim::client::Client;
use seedbed_sim::cluster::Roster;
use seedbed_sim::evidence;
use seedbed_sim::history::{Ask, Outcome, Recorder, Request, Response};
use seedbed_sim::network::{Address, Network};
use seedbed_sim::plan::{Mix, WorkloadPlan};
use seedbed_sim::runtime::{Simulation, create_node, pause, resume};

use crate::members::Members;

/// The client that speaks gRPC, by its number, and the one that does not.
const GRPC: u32 = 1;
const DIRECT: u32 = 2;
const TIMEOUT: Duration = Duration::from_millis(500);

struct Clients {
    grpc: Client,
    direct: Client,
    recorder: Rc<RefCell<Recorder>>,
}

impl Clients {
    fn new(network: &Network) -> Clients {
        let plan = WorkloadPlan {
            clients: 2,
            grpc_clients: 1,
            operations: 1,
            keys: 1,
            value_bytes: 8,
            think_ms: [0, 0],
            timeout_ms: TIMEOUT.as_millis() as u64,
            mix: Mix::default(),
            leases: None,
            script: None,
        };
        let recorder = Rc::new(RefCell::new(Recorder::new()));
        let roster: Roster = Rc::new(RefCell::new((1..=3).map(NodeId).collect()));
        let client = |id| Client::new(id, 1, roster.clone(), &plan, network.clone(), recorder.clone());
        Clients { grpc: client(GRPC), direct: client(DIRECT), recorder }
    }

    /// The number and the incarnation of the last operation.
    fn last(&self) -> (u64, u64) {
        let recorder = self.recorder.borrow();
        let last = recorder.history().operations.last().expect("there was one");
        (last.id, last.incarnation)
    }
}

fn put(key: &str, value: &str) -> Request {
    Request::Put(PutRequest {
        key: key.to_owned().into(),
        value: value.to_owned().into(),
        prev_kv: true,
        ..PutRequest::default()
    })
}

fn get(key: &str) -> Request {
    Request::Range(RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() })
}

async fn ask(client: &mut Client, member: u64, request: Request) -> Outcome {
    client.ask(NodeId(member), |_| request).await
}

/// The value in the response to a read.
fn value(outcome: &Outcome) -> Option<&[u8]> {
    match outcome {
        Outcome::Ok(Response::Range(range)) => range.kvs.first().map(|kv| &kv.value[..]),
        other => panic!("not a read that was answered: {other:?}"),
    }
}

#[test]
fn what_one_way_writes_the_other_way_reads() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let Clients { mut grpc, mut direct, .. } = Clients::new(&members.network);
        for member in 1..=3 {
            let written = ask(&mut grpc, member, put("key", &format!("by gRPC at {member}"))).await;
            assert!(matches!(written, Outcome::Ok(Response::Put(_))), "{written:?}");
            let read = ask(&mut direct, member, get("key")).await;
            assert_eq!(value(&read), Some(format!("by gRPC at {member}").as_bytes()));
            let written = ask(&mut direct, member, put("key", "directly")).await;
            assert!(matches!(written, Outcome::Ok(Response::Put(_))), "{written:?}");
            assert_eq!(value(&ask(&mut grpc, member, get("key")).await), Some(&b"directly"[..]));
        }
    });
}

#[test]
fn every_method_answers_the_same_by_either_way_and_so_does_every_refusal() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, mut direct, .. } = Clients::new(&members.network);
        // None of them changes what the next one finds.
        let requests = [
            get("missing"),
            Request::DeleteRange(DeleteRangeRequest { key: "missing".into(), ..Default::default() }),
            Request::Txn(TxnRequest::default()),
            Request::Compact(CompactionRequest { revision: 99, physical: false }),
            put("", "no key"),
            Request::Range(RangeRequest { key: "k".into(), revision: 99, ..RangeRequest::default() }),
            Request::LeaseGrant(LeaseGrantRequest { id: 7, ttl: i64::MAX }),
            Request::LeaseRevoke(LeaseRevokeRequest { id: 7 }),
            Request::LeaseKeepAlive(LeaseKeepAliveRequest { id: 7 }),
            Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id: 7, keys: true }),
            Request::LeaseLeases(LeaseLeasesRequest {}),
        ];
        let mut refused = 0;
        for request in requests {
            let (one, other) = (ask(&mut grpc, 1, request.clone()).await, ask(&mut direct, 1, request).await);
            assert_eq!(one, other);
            assert_ne!(one, Outcome::Unknown);
            refused += usize::from(matches!(one, Outcome::Failed { .. }));
        }
        assert_eq!(refused, 5);
    });
}

#[test]
fn an_answer_larger_than_tonic_takes_from_strangers_is_taken() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, .. } = Clients::new(&members.network);
        let large = "x".repeat(1 << 20);
        for key in ["a", "b", "c", "d", "e"] {
            let written = ask(&mut grpc, 1, put(key, &large)).await;
            assert!(matches!(written, Outcome::Ok(_)), "{key}");
        }
        let all = Request::Range(RangeRequest { key: "a".into(), range_end: "f".into(), ..RangeRequest::default() });
        match ask(&mut grpc, 1, all).await {
            Outcome::Ok(Response::Range(range)) => assert!(range.kvs.iter().all(|kv| kv.value == large)),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_number_of_an_operation_reaches_the_log_and_the_incarnation_comes_back() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(1, |_| {}).await;
        let mut clients = Clients::new(&members.network);
        for life in 0..3 {
            assert!(matches!(ask(&mut clients.grpc, 1, put("key", "value")).await, Outcome::Ok(_)));
            let (operation, incarnation) = clients.last();
            assert_eq!(incarnation, life);
            let applied = |evidence: &evidence::Evidence| evidence.applied[&NodeId(1)].last().map(|e| e.operation);
            assert_eq!(evidence::with(applied), Some(operation));
            members.crash(1);
            // The connection that the client has is reset: it finds out, and then makes another.
            assert_eq!(ask(&mut clients.grpc, 1, get("key")).await, Outcome::Unknown);
            members.boot(1).await.expect("its own disk");
            members.leader().await;
        }
    });
}

#[test]
fn a_read_goes_by_the_path_that_was_asked_for_whichever_way_it_came_in() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, mut direct, .. } = Clients::new(&members.network);
        for client in [&mut grpc, &mut direct] {
            for path in [ReadPath::ReadIndex, ReadPath::Log] {
                let reads = || members.node(1).read_counters().get(&path).map_or(0, |counters| counters.reads);
                let before = reads();
                value(&client.ask(NodeId(1), |_| Ask { request: get("key"), path }).await);
                assert_eq!(reads(), before + 1, "{path}");
            }
        }
    });
}

#[test]
fn a_cut_makes_a_client_time_out_and_the_connection_goes_on_when_it_is_healed() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, mut direct, .. } = Clients::new(&members.network);
        assert!(matches!(ask(&mut grpc, 1, put("key", "before")).await, Outcome::Ok(_)));
        let (client, member) = (Address::Client(GRPC), Address::Member(NodeId(1)));
        for link in [[(client, member)], [(member, client)]] {
            let cut = members.network.cut(link);
            assert_eq!(ask(&mut grpc, 1, put("key", "during")).await, Outcome::Unknown);
            let read = ask(&mut direct, 1, get("key")).await;
            // What the client sends is held back, or what the member answers.
            let arrived = link[0].0 == member;
            assert_eq!(value(&read), Some(if arrived { &b"during"[..] } else { &b"before"[..] }));
            assert!(members.network.heal(cut) > 0, "it met the client");
            // What was held back is sent again.
            sleep(TIMEOUT).await;
            assert!(matches!(ask(&mut grpc, 1, put("key", "before")).await, Outcome::Ok(_)));
        }
    });
}

#[test]
fn a_client_that_gives_up_waiting_for_a_paused_member_is_answered_when_that_goes_on() {
    Simulation::new(1).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, .. } = Clients::new(&members.network);
        assert!(matches!(ask(&mut grpc, 1, put("key", "before")).await, Outcome::Ok(_)));
        pause(members.home(1));
        for _ in 0..3 {
            assert_eq!(ask(&mut grpc, 1, get("key")).await, Outcome::Unknown);
        }
        resume(members.home(1));
        assert_eq!(value(&ask(&mut grpc, 1, get("key")).await), Some(&b"before"[..]));
    });
}

#[test]
fn a_crash_in_the_middle_of_an_operation_ends_it_at_once() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(1, |_| {}).await;
        let Clients { mut grpc, .. } = Clients::new(&members.network);
        assert!(matches!(ask(&mut grpc, 1, put("key", "before")).await, Outcome::Ok(_)));
        // The write cannot be acknowledged before its fsync.
        members.disk(1).set_stalled(true);
        let begin = TimeHandle::current().elapsed();
        let crash = async {
            sleep(TIMEOUT / 5).await;
            members.crash(1);
        };
        let (written, ()) = futures_util::future::join(ask(&mut grpc, 1, put("key", "during")), crash).await;
        assert_eq!(written, Outcome::Unknown);
        let passed = TimeHandle::current().elapsed() - begin;
        assert!(passed < TIMEOUT / 2, "the reset tells it: {passed:?}");
        assert_eq!(ask(&mut grpc, 1, get("key")).await, Outcome::Unknown, "nobody listens");
        members.disk(1).set_stalled(false);
        members.boot(1).await.expect("its own disk");
        members.leader().await;
        value(&ask(&mut grpc, 1, get("key")).await);
    });
}

#[test]
fn a_panic_beside_open_connections_ends_the_run_as_any_panic_does() {
    for seed in 0..4 {
        let panicked = Simulation::new(seed).run(|| async {
            let members = Members::start(1, |_| {}).await;
            let mut streams = Vec::new();
            for client in 1..=10 {
                streams.push(members.network.connect(client, NodeId(1)).await.expect("it listens"));
            }
            let doomed = create_node("doomed");
            // Some of these tasks have not begun when one panics.
            for stream in streams {
                doomed.spawn(async move {
                    sleep(TIMEOUT).await;
                    drop(stream)
                });
            }
            doomed.spawn(async { panic!("the sky fell") });
            sleep(TIMEOUT).await;
        });
        assert!(panicked.expect_err("it is never swallowed").message.contains("the sky fell"));
    }
}
