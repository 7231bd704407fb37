use futures_util::FutureExt;
use openraft::AsyncRuntime;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Notify;

use super::hello::Hello;
use super::*;
use crate::runtime::tokio::TokioRuntime;

const CLUSTER: u64 = 0xc1;
const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);

fn run(test: impl Future<Output = ()> + Send) {
    let guarded = async { TokioRuntime::timeout(Duration::from_secs(60), test).await.expect("the test hangs") };
    TokioRuntime::new(2).block_on(guarded);
}

/// A member that answers with what it is sent.
async fn echo(node: NodeId, cluster: u64, options: TransportOptions) -> TokioTransport {
    let peers = BTreeMap::new();
    let transport = TokioTransport::bind_with(node, cluster, "127.0.0.1:0", peers, options).await.unwrap();
    transport.serve(Arc::new(|_, request| async move { request }.boxed()));
    transport
}

fn know(transport: &TokioTransport, node: NodeId, peer: &TokioTransport) {
    transport.set_peers(BTreeMap::from([(node, peer.local_addr().to_string())]));
}

fn slots(transport: &TokioTransport) -> usize {
    unpoisoned(&transport.shared.links).iter().flat_map(BTreeMap::values).map(Link::slots).sum()
}

#[test]
fn members_of_another_cluster_and_wrong_addresses_are_refused() {
    run(async {
        let options = TransportOptions::default();
        let (one, foreign) = (echo(ONE, CLUSTER, options).await, echo(TWO, CLUSTER + 1, options).await);
        know(&one, TWO, &foreign);
        assert_eq!(one.call(TWO, Bytes::new()).await, Err(TransportError::Unreachable(TWO)));
        let three = echo(NodeId(3), CLUSTER, options).await;
        know(&one, TWO, &three);
        assert_eq!(one.call(TWO, Bytes::new()).await, Err(TransportError::Unreachable(TWO)));
        know(&one, NodeId(3), &three);
        assert_eq!(one.call(NodeId(3), Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"hi")));
        assert_eq!(one.call(TWO, Bytes::new()).await, Err(TransportError::Unreachable(TWO)), "not a member any more");
    });
}

#[test]
fn a_member_is_found_at_each_of_its_addresses_until_it_is_closed() {
    run(async {
        let options = TransportOptions::default();
        let (one, two) = (echo(ONE, CLUSTER, options).await, echo(TWO, CLUSTER, options).await);
        let addresses = [two.local_addr(), two.listen_also("127.0.0.1:0").await.unwrap()];
        let at = |address: &SocketAddr| one.set_peers(BTreeMap::from([(TWO, address.to_string())]));
        for address in &addresses {
            at(address);
            assert_eq!(one.call(TWO, Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"hi")));
        }
        two.close();
        for address in &addresses {
            // The other one first, so that this is a new connection.
            one.set_peers(BTreeMap::new());
            at(address);
            assert!(one.call(TWO, Bytes::new()).await.is_err());
        }
    });
}

/// Both ends of a connection learn that the other speaks another version, whoever has called whom.
#[test]
fn members_that_speak_another_version_are_told_so() {
    run(async {
        let one = echo(ONE, CLUSTER, TransportOptions::default()).await;
        let two = echo(TWO, CLUSTER, TransportOptions::default()).await;
        let mut ours = Vec::new();
        Hello { from: Identity { cluster: CLUSTER, node: ONE }, to: TWO }.write(&mut ours).await.unwrap();
        let mut newer = ours.clone();
        newer[8] = 9;
        // What else a newer member says may be longer.
        newer.extend([0xff; 100]);

        let mut stream = TcpStream::connect(two.local_addr()).await.unwrap();
        stream.write_all(&newer).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, ours[..12], "the version is all that both can read");

        let socket = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        one.set_peers(BTreeMap::from([(TWO, socket.local_addr().unwrap().to_string())]));
        let answering = TokioRuntime::spawn(async move {
            let (mut stream, _) = socket.accept().await.unwrap();
            stream.write_all(&newer).await.unwrap();
            stream
        });
        assert_eq!(one.call(TWO, Bytes::new()).await, Err(TransportError::Unreachable(TWO)));
        answering.await.unwrap();
        know(&one, TWO, &two);
        assert_eq!(one.call(TWO, Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"hi")));
    });
}

#[test]
fn a_member_that_does_not_serve_yet_is_unreachable_until_it_does() {
    run(async {
        let one = echo(ONE, CLUSTER, TransportOptions::default()).await;
        let two = TokioTransport::bind(TWO, CLUSTER, "127.0.0.1:0", BTreeMap::new()).await.unwrap();
        know(&one, TWO, &two);
        assert_eq!(one.call(TWO, Bytes::new()).await, Err(TransportError::Unreachable(TWO)));
        two.serve(Arc::new(|from, _| async move { Bytes::from(from.to_string()) }.boxed()));
        assert_eq!(one.call(TWO, Bytes::new()).await, Ok(Bytes::from_static(b"1")));
    });
}

#[test]
fn a_call_ends_with_its_connection_and_the_next_one_makes_another() {
    run(async {
        let one = echo(ONE, CLUSTER, TransportOptions::default()).await;
        let two = echo(TWO, CLUSTER, TransportOptions::default()).await;
        let asked = Arc::new(Notify::new());
        let notify = asked.clone();
        two.serve(Arc::new(move |_, _| {
            notify.notify_one();
            std::future::pending().boxed()
        }));
        know(&one, TWO, &two);
        let caller = one.clone();
        let call = TokioRuntime::spawn(async move { caller.call(TWO, Bytes::new()).await });
        asked.notified().await;
        drop(two);
        assert_eq!(call.await.unwrap(), Err(TransportError::Lost(TWO)));

        let two = echo(TWO, CLUSTER, TransportOptions::default()).await;
        know(&one, TWO, &two);
        assert_eq!(one.call(TWO, Bytes::from_static(b"again")).await, Ok(Bytes::from_static(b"again")));
    });
}

#[test]
fn a_call_that_is_given_up_leaves_no_slot_behind() {
    run(async {
        let one = echo(ONE, CLUSTER, TransportOptions::default()).await;
        let two = echo(TWO, CLUSTER, TransportOptions::default()).await;
        two.serve(Arc::new(move |_, _| std::future::pending().boxed()));
        know(&one, TWO, &two);
        for _ in 0..3 {
            let mut call = Box::pin(one.call(TWO, Bytes::new()));
            assert!(futures_util::poll!(&mut call).is_pending());
            assert_eq!(slots(&one), 1);
            drop(call);
            assert_eq!(slots(&one), 0);
        }
        two.serve(Arc::new(|_, request| async move { request }.boxed()));
        assert_eq!(one.call(TWO, Bytes::new()).await, Ok(Bytes::new()));
        assert_eq!(slots(&one), 0);
    });
}

#[test]
fn a_request_too_long_for_a_frame_is_not_sent() {
    run(async {
        let options = TransportOptions { frame_bytes_max: 1000, ..TransportOptions::default() };
        let (one, two) = (echo(ONE, CLUSTER, options).await, echo(TWO, CLUSTER, options).await);
        know(&one, TWO, &two);
        assert_eq!(one.call(TWO, Bytes::from(vec![0; 1001])).await, Err(TransportError::Unreachable(TWO)));
        assert_eq!(one.call(TWO, Bytes::from(vec![0; 1000])).await, Ok(Bytes::from(vec![0; 1000])));
    });
}

/// More requests than may be answered at once wait for their turn, and all get it.
#[test]
fn requests_beyond_the_budget_wait() {
    run(async {
        let options =
            TransportOptions { frame_bytes_max: 1000, answering_bytes_max: 1000, ..TransportOptions::default() };
        let (one, two) = (echo(ONE, CLUSTER, options).await, echo(TWO, CLUSTER, options).await);
        know(&one, TWO, &two);
        let calls = (0..2000_u32).map(|call| one.call(TWO, Bytes::from(call.to_le_bytes().to_vec())));
        let replies = futures_util::future::join_all(calls).await;
        for (call, reply) in (0..2000_u32).zip(replies) {
            assert_eq!(reply, Ok(Bytes::from(call.to_le_bytes().to_vec())));
        }
    });
}

#[test]
fn bad_input_costs_its_sender_the_connection_and_nobody_else_anything() {
    run(async {
        let (one, two) = (
            echo(ONE, CLUSTER, TransportOptions::default()).await,
            echo(TWO, CLUSTER, TransportOptions::default()).await,
        );
        know(&one, TWO, &two);
        let hello = Hello { from: Identity { cluster: CLUSTER, node: NodeId(3) }, to: TWO };
        let mut greeting = Vec::new();
        hello.write(&mut greeting).await.unwrap();
        let mut frame = Vec::new();
        frame::write(&mut frame, 1, b"request").await.unwrap();
        frame[20] ^= 1;
        let after_hello = |bytes: &[u8]| [&greeting, bytes].concat();
        let inputs = [
            b"GET / HTTP/1.1\r\nHost: two\r\n\r\n\r\n\r\n\r\n\r\n".to_vec(),
            greeting[..20].to_vec(),
            after_hello(&[0xff; 16]),
            after_hello(&frame),
            after_hello(&frame[..10]),
        ];
        for input in inputs {
            let mut stream = TcpStream::connect(two.local_addr()).await.unwrap();
            stream.write_all(&input).await.unwrap();
            stream.shutdown().await.unwrap();
            // It ends, orderly or not, with nothing said but a hello.
            let mut answer = Vec::new();
            let _ = stream.read_to_end(&mut answer).await;
            assert!(answer.len() <= greeting.len(), "{input:?} got {answer:?}");
            assert_eq!(one.call(TWO, Bytes::from_static(b"hi")).await, Ok(Bytes::from_static(b"hi")));
        }
    });
}

#[test]
fn closing_ends_calls_both_ways_though_the_handler_holds_the_transport() {
    run(async {
        let one = echo(ONE, CLUSTER, TransportOptions::default()).await;
        let two = echo(TWO, CLUSTER, TransportOptions::default()).await;
        let (held, asked) = (two.clone(), Arc::new(Notify::new()));
        let notify = asked.clone();
        two.serve(Arc::new(move |_, request| {
            let held = held.clone();
            notify.notify_one();
            async move { held.call(ONE, request).await.unwrap_or_default() }.boxed()
        }));
        one.serve(Arc::new(|_, _| std::future::pending().boxed()));
        know(&one, TWO, &two);
        know(&two, ONE, &one);
        let caller = one.clone();
        let call = TokioRuntime::spawn(async move { caller.call(TWO, Bytes::new()).await });
        asked.notified().await;
        let shared = Arc::downgrade(&two.shared);
        two.close();
        know(&two, ONE, &one);
        assert_eq!(two.call(ONE, Bytes::new()).await, Err(TransportError::Unreachable(ONE)));
        drop(two);
        // The reply of the handler, whose own call has ended, may still have come through.
        assert!(matches!(call.await.unwrap(), Err(TransportError::Lost(TWO)) | Ok(_)));
        assert!(one.call(TWO, Bytes::new()).await.is_err());
        while shared.strong_count() > 0 {
            TokioRuntime::sleep(Duration::from_millis(1)).await;
        }
    });
}
