//! What arrives, what does not, and who hears of it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::FutureExt;
use openraft_rt::AsyncRuntime;
use seedbed_core::api::OperationId;
use seedbed_core::runtime::Transport;

use super::*;
use crate::plan::LinkSet;
use crate::runtime::{MadsimRuntime, Simulation, kill, pause, restart, resume};

const FAIR: Weather = Weather { latency_us: [100, 900], loss_permille: 0 };

/// Three members, each on a node of its own, that answer with their number and what they were asked.
struct World {
    network: Network,
    nodes: BTreeMap<NodeId, NodeHandle>,
    handled: Arc<AtomicU64>,
}

impl World {
    async fn new() -> World {
        let members = [1, 2, 3].map(NodeId);
        let nodes = members.map(|id| (id, create_node(&format!("member-{id}")))).into();
        let world = World { network: Network::new(FAIR), nodes, handled: Arc::default() };
        for id in members {
            world.serve(id, &world.nodes[&id]).await;
        }
        world
    }

    async fn serve(&self, id: NodeId, node: &NodeHandle) {
        let (transport, handled) = (self.network.transport(id), self.handled.clone());
        let task = async move {
            let peers = handled.clone();
            transport.serve(Arc::new(move |from, request| {
                peers.fetch_add(1, Ordering::Relaxed);
                async move { Bytes::from(format!("{id} to {from}: {}", String::from_utf8_lossy(&request))) }.boxed()
            }));
            transport.serve_clients(Arc::new(move |request| {
                handled.fetch_add(1, Ordering::Relaxed);
                let ClientRequest {
                    client, method, context: Context { operation: OperationId(operation), .. }, ..
                } = request;
                async move { Bytes::from(format!("{id} to client {client}: {method} #{operation}")) }.boxed()
            }));
        };
        node.spawn(task).await.expect("it only registers");
    }

    /// The reply, or `None` if there is none within a second.
    async fn call(&self, from: u64, to: u64) -> Option<Reply> {
        let transport = self.network.transport(NodeId(from));
        MadsimRuntime::timeout(Duration::from_secs(1), transport.call(NodeId(to), Bytes::from_static(b"hello")))
            .await
            .ok()
    }

    /// Who gets an answer from whom.
    async fn reach(&self) -> Vec<(u64, u64)> {
        let mut pairs = Vec::new();
        for (from, to) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
            if matches!(self.call(from, to).await, Some(Ok(_))) {
                pairs.push((from, to));
            }
        }
        pairs
    }
}

fn run<F: Future<Output = T>, T: Send>(test: impl FnOnce(World) -> F + Send) -> T {
    Simulation::new(5).expect(|| async { test(World::new().await).await })
}

#[test]
fn a_call_takes_one_latency_each_way() {
    run(|world| async move {
        for _ in 0..50 {
            let begin = true_now_ns();
            assert_eq!(world.call(1, 2).await, Some(Ok(Bytes::from_static(b"2 to 1: hello"))));
            let passed = true_now_ns() - begin;
            assert!((200_000..1_810_000).contains(&passed), "{passed}");
        }
        assert_eq!(world.network.stats(), NetworkStats { sent: 100, ..NetworkStats::default() });
    });
}

#[test]
fn clients_reach_members_by_method_and_operation() {
    run(|world| async move {
        let reply = world
            .network
            .client_call(7, NodeId(3), "Range", Bytes::new(), Context { operation: OperationId(42), path: None })
            .await;
        assert_eq!(reply, Ok(Bytes::from_static(b"3 to client 7: Range #42")));
    });
}

#[test]
fn partitions_stop_what_they_should_and_heal() {
    run(|world| async move {
        let all = world.reach().await;
        assert_eq!(all.len(), 6);
        let network = &world.network;
        let cases: [(FaultId, &[(u64, u64)]); 4] = [
            (network.halves(&[NodeId(1)]), &[(2, 3), (3, 2)]),
            (network.isolate(NodeId(3)), &[]),
            (network.one_way(NodeId(3)), &[]),
            (network.bridge(NodeId(2), &[NodeId(1)]), &[]),
        ];
        let halves = cases[0].0;
        for (fault, _) in &cases[1..] {
            network.heal(*fault);
        }
        assert_eq!(world.reach().await, cases[0].1);
        // Two faults at once: healing one leaves the other.
        let isolated = network.isolate(NodeId(3));
        assert_eq!(world.reach().await, []);
        assert!(network.heal(halves) > 0);
        assert_eq!(world.reach().await, [(1, 2), (2, 1)]);
        network.heal(isolated);
        let bridge = network.bridge(NodeId(2), &[NodeId(1)]);
        assert_eq!(world.reach().await, [(1, 2), (2, 1), (2, 3), (3, 2)]);
        assert!(
            network.client_call(1, NodeId(1), "Range", Bytes::new(), Context::default()).await.is_ok(),
            "clients keep their links"
        );
        network.heal(bridge);
        assert_eq!(world.reach().await, all);
    });
}

#[test]
fn a_one_way_cut_stops_replies_and_not_requests() {
    run(|world| async move {
        let fault = world.network.one_way(NodeId(3));
        assert_eq!(world.call(1, 3).await, None);
        assert_eq!(world.handled.load(Ordering::Relaxed), 1, "the request arrived");
        assert_eq!(world.call(3, 1).await, None);
        assert_eq!(world.handled.load(Ordering::Relaxed), 1, "the request did not");
        assert_eq!(world.network.heal(fault), 2);
    });
}

#[test]
fn loss_is_between_members_only() {
    run(|world| async move {
        let fault = world.network.loss(LinkSet::Members, 300);
        let mut answered = 0;
        for _ in 0..100 {
            answered += u64::from(world.call(1, 2).await.is_some());
            assert!(world.network.client_call(1, NodeId(2), "Range", Bytes::new(), Context::default()).await.is_ok());
        }
        // Both ways: 0.7 squared.
        assert!((35..65).contains(&answered), "{answered}");
        assert_eq!(world.network.heal(fault), 100 - answered);
    });
}

#[test]
fn a_duplicate_is_handled_twice_and_answered_once() {
    run(|world| async move {
        let fault = world.network.duplicate(0, LinkSet::Members, 1000, [0, 0]);
        assert!(matches!(world.call(1, 2).await, Some(Ok(_))));
        madsim::time::sleep(Duration::from_millis(10)).await;
        assert_eq!(world.handled.load(Ordering::Relaxed), 2);
        assert_eq!((world.network.stats().duplicated, world.network.heal(fault)), (3, 3));
    });
}

#[test]
fn in_a_ring_each_hears_the_two_beside_it() {
    Simulation::new(5).expect(|| async {
        let members = [1, 2, 3, 4, 5].map(NodeId);
        let network = Network::new(FAIR);
        let fault = network.ring(&[1, 3, 5, 2, 4].map(NodeId));
        let mut heard = Vec::new();
        for from in members {
            for to in members.into_iter().filter(|to| *to > from) {
                let cut = |from, to| network.shared.lock().faults.cut(Address::Member(from), Address::Member(to));
                assert_eq!(cut(from, to), cut(to, from));
                heard.extend((!cut(from, to)).then_some((from.0, to.0)));
            }
        }
        assert_eq!(heard, [(1, 3), (1, 4), (2, 4), (2, 5), (3, 5)]);
        assert_eq!(network.heal(fault), 5 * 3);
    });
}

#[test]
fn a_member_that_is_shut_hears_members_and_no_client() {
    run(|world| async move {
        let fault = world.network.shut(NodeId(2));
        assert_eq!(world.reach().await.len(), 6);
        let ask = |to| {
            let call = world.network.client_call(1, NodeId(to), "Range", Bytes::new(), Context::default());
            MadsimRuntime::timeout(Duration::from_secs(1), call)
        };
        assert!(ask(1).await.is_ok());
        assert!(ask(2).await.is_err());
        assert_eq!(world.network.heal(fault), 1);
        assert!(ask(2).await.is_ok());
    });
}

#[test]
fn a_message_that_is_held_up_is_overtaken() {
    run(|world| async move {
        let link = LinkSet::One { from: 1, to: 2 };
        let fault = world.network.delay(0, link, 500, [20_000, 30_000]);
        let (mut held_up, mut prompt) = (0, 0);
        for _ in 0..100 {
            let begin = true_now_ns();
            assert!(matches!(world.call(1, 2).await, Some(Ok(_))));
            let passed = true_now_ns() - begin;
            assert!((200_000..1_810_000).contains(&passed) || (20_200_000..31_810_000).contains(&passed), "{passed}");
            if passed > 2_000_000 { held_up += 1 } else { prompt += 1 }
        }
        assert!(held_up > 30 && prompt > 30, "{held_up} held up, {prompt} prompt");
        assert_eq!(world.network.heal(fault), held_up);
    });
}

#[test]
fn a_fault_doubles_what_may_be_done_twice_and_no_proposal() {
    run(|world| async move {
        let fault = world.network.duplicate(0, LinkSet::One { from: 1, to: 2 }, 1000, [0, 5_000]);
        let transport = world.network.transport(NodeId(1));
        let mut handled = 0;
        // By their first byte, they are of any kind; 6 is a proposal.
        for kind in 0..10 {
            assert!(transport.call(NodeId(2), Bytes::from(vec![kind])).await.is_ok());
            madsim::time::sleep(Duration::from_millis(10)).await;
            handled += if kind == 6 { 1 } else { 2 };
            assert_eq!(world.handled.load(Ordering::Relaxed), handled, "{kind}");
        }
        assert_eq!(world.network.heal(fault), 9);
    });
}

#[test]
fn a_call_whose_connection_breaks_is_lost_and_may_have_been_handled() {
    run(|world| async move {
        let request = world.network.reset_some(0, LinkSet::One { from: 1, to: 2 }, 1000);
        assert_eq!(world.call(1, 2).await, Some(Err(TransportError::Lost(NodeId(2)))));
        assert_eq!(world.handled.load(Ordering::Relaxed), 0);
        assert_eq!(world.network.heal(request), 1);
        let reply = world.network.reset_some(0, LinkSet::One { from: 2, to: 1 }, 1000);
        assert_eq!(world.call(1, 2).await, Some(Err(TransportError::Lost(NodeId(2)))));
        assert_eq!(world.handled.load(Ordering::Relaxed), 1);
        assert_eq!(world.network.heal(reply), 1);
        assert!(matches!(world.call(1, 2).await, Some(Ok(_))));
    });
}

#[test]
fn what_a_fault_draws_does_not_change_what_another_draws() {
    let delayed = |resets: bool| {
        run(move |world| async move {
            if resets {
                world.network.reset_some(0, LinkSet::One { from: 3, to: 1 }, 500);
                let _ = world.call(3, 1).await;
            }
            world.network.delay(1, LinkSet::One { from: 1, to: 2 }, 500, [10_000, 20_000]);
            let mut times = Vec::new();
            for _ in 0..20 {
                let begin = true_now_ns();
                let _ = world.call(1, 2).await;
                times.push(true_now_ns() - begin);
            }
            times
        })
    };
    assert_eq!(delayed(false), delayed(true));
}

#[test]
fn a_dead_member_refuses_and_the_next_life_answers() {
    run(|world| async move {
        let id = world.nodes[&NodeId(2)].id();
        let in_flight = {
            let transport = world.network.transport(NodeId(1));
            MadsimRuntime::spawn(MadsimRuntime::timeout(Duration::from_secs(1), async move {
                transport.call(NodeId(2), Bytes::new()).await
            }))
        };
        // The request has not arrived yet: it takes a hundred microseconds at least.
        madsim::task::yield_now().await;
        kill(id);
        world.network.reset(NodeId(2));
        assert_eq!(in_flight.await.expect("no panic"), Ok(Err(TransportError::Unreachable(NodeId(2)))));
        assert_eq!(world.network.stats().refused, 1);
        world.serve(NodeId(2), &restart(id)).await;
        assert!(matches!(world.call(1, 2).await, Some(Ok(_))));
    });
}

#[test]
fn nobody_answers_for_a_killed_handler() {
    run(|world| async move {
        let (transport, node) = (world.network.transport(NodeId(2)), world.nodes[&NodeId(2)].clone());
        let slow = async move {
            transport.serve(Arc::new(|_, request| {
                async move {
                    MadsimRuntime::sleep(Duration::from_millis(100)).await;
                    request
                }
                .boxed()
            }));
        };
        node.spawn(slow).await.expect("it only registers");
        let killer = async {
            madsim::time::sleep(Duration::from_millis(50)).await;
            kill(node.id());
            world.network.reset(NodeId(2));
            world.serve(NodeId(2), &restart(node.id())).await;
        };
        let (reply, ()) = futures_util::future::join(world.call(1, 2), killer).await;
        assert_eq!(reply, None, "the caller waits for ever");
    });
}

#[test]
fn a_paused_member_answers_when_it_goes_on() {
    run(|world| async move {
        let id = world.nodes[&NodeId(2)].id();
        pause(id);
        let begin = true_now_ns();
        let resumer = async {
            madsim::time::sleep(Duration::from_millis(500)).await;
            resume(id);
        };
        let (reply, ()) = futures_util::future::join(world.call(1, 2), resumer).await;
        assert!(matches!(reply, Some(Ok(_))), "{reply:?}");
        assert!(true_now_ns() - begin >= 500_000_000);
    });
}

#[test]
fn a_fault_on_one_link_leaves_the_draws_of_another() {
    let latencies = |fault: bool| {
        run(|world| async move {
            if fault {
                let between = |from, to| (Address::Member(NodeId(from)), Address::Member(NodeId(to)));
                world.network.cut([between(1, 3)]);
            }
            let mut latencies = Vec::new();
            for _ in 0..10 {
                let _ = world.call(1, 3).await;
                let begin = true_now_ns();
                let _ = world.call(1, 2).await;
                // Scheduling takes a random few hundred nanoseconds.
                latencies.push((true_now_ns() - begin) / 10_000);
            }
            latencies
        })
    };
    let (fair, foul) = (latencies(false), latencies(true));
    assert!(fair.iter().zip(&foul).all(|(a, b)| a.abs_diff(*b) <= 1), "{fair:?} {foul:?}");
}
