//! Checks of [`Transport`].

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, join_all, pending};
use openraft_rt::Select2;
use tokio::sync::{Notify, oneshot};

use super::{Suite, World};
use crate::ids::NodeId;
use crate::runtime::{Handler, Host, Runtime, Transport};

/// How long a call that must not be answered is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Gives the request back.
fn echo(_: NodeId, request: Bytes) -> BoxFuture<'static, Bytes> {
    async move { request }.boxed()
}

/// Has requests answered where they are sent to.
fn serve<R: Runtime>(
    host: &Host<R>,
    handler: impl Fn(NodeId, Bytes) -> BoxFuture<'static, Bytes> + Send + Sync + 'static,
) {
    host.transport.serve(Arc::new(handler) as Handler);
}

/// A request or reply that tells its number.
fn numbered(number: u32) -> Bytes {
    Bytes::copy_from_slice(&number.to_le_bytes())
}

/// Two members, the second of which is called by the first.
struct Pair<R: Runtime> {
    one: NodeId,
    asker: Host<R>,
    two: NodeId,
    answerer: Host<R>,
}

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// Every check of the transport.
    pub async fn test_transport(&mut self) {
        self.replies_reach_their_askers().await;
        self.replies_in_any_order_find_their_calls().await;
        self.large_and_empty_messages_arrive_whole().await;
        self.handlers_are_replaced().await;
        self.slow_answers_hold_nothing_up().await;
        self.calls_go_both_ways_at_once().await;
        self.handlers_end_though_the_asker_has_gone().await;
        self.calls_can_be_given_up().await;
        self.unknown_members_do_not_answer().await;
        self.stopped_members_do_not_answer().await;
    }

    async fn pair(&mut self) -> Pair<R> {
        let (one, asker) = self.member().await;
        let (two, answerer) = self.member().await;
        Pair { one, asker, two, answerer }
    }

    /// A reply reaches the one who asked, and the handler is told who that is.
    pub async fn replies_reach_their_askers(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        let (three, other) = self.member().await;
        let answer =
            |from: NodeId, request: Bytes| async move { [request, numbered(from.0 as u32)].concat().into() }.boxed();
        self.on(two, async move { serve(&answerer, answer) }).await;
        for (node, host) in [(one, asker), (three, other)] {
            self.on(node, async move {
                for call in 0..10 {
                    let reply = host.transport.call(two, numbered(call)).await.expect("a member that serves answers");
                    assert_eq!(reply, [numbered(call), numbered(node.0 as u32)].concat());
                }
            })
            .await;
        }
    }

    /// Of a hundred calls under way each gets its own reply, though they are answered last come, first served.
    pub async fn replies_in_any_order_find_their_calls(&mut self) {
        const CALLS: u32 = 100;
        let Pair { one, asker, two, answerer } = self.pair().await;
        let waiting: Mutex<Vec<(Bytes, oneshot::Sender<Bytes>)>> = Mutex::default();
        let handler = move |_: NodeId, request: Bytes| -> BoxFuture<'static, Bytes> {
            let (reply, answer) = oneshot::channel();
            let mut waiting = waiting.lock().expect("no handler panics");
            waiting.push((request, reply));
            if waiting.len() == CALLS as usize {
                for (request, reply) in waiting.drain(..).rev() {
                    reply.send(request).expect("the handler is polled to its end");
                }
            }
            answer.map(|answer| answer.expect("every request is answered")).boxed()
        };
        self.on(two, async move { serve(&answerer, handler) }).await;
        self.on(one, async move {
            let calls = (0..CALLS).map(|call| asker.transport.call(two, numbered(call)));
            for (call, reply) in (0..CALLS).zip(join_all(calls).await) {
                assert_eq!(reply, Ok(numbered(call)));
            }
        })
        .await;
    }

    /// Empty messages and those of 8 MiB, as of a snapshot's part, arrive whole, among others.
    pub async fn large_and_empty_messages_arrive_whole(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        self.on(two, async move { serve(&answerer, echo) }).await;
        self.on(one, async move {
            let large: Bytes = (0..2_u32 << 20).flat_map(u32::to_le_bytes).collect();
            for request in [Bytes::new(), large.clone(), Bytes::from_static(b"small")] {
                let (first, second) = futures_util::join!(
                    asker.transport.call(two, request.clone()),
                    asker.transport.call(two, numbered(1)),
                );
                assert!(first.expect("a member that serves answers") == request, "{} bytes", request.len());
                assert_eq!(second, Ok(numbered(1)));
            }
        })
        .await;
    }

    /// A later handler answers instead of an earlier one.
    pub async fn handlers_are_replaced(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        for round in 0..3 {
            let (asker, answerer) = (asker.clone(), answerer.clone());
            let handler = move |_, _| async move { numbered(round) }.boxed();
            self.on(two, async move { serve(&answerer, handler) }).await;
            self.on(one, async move {
                assert_eq!(asker.transport.call(two, Bytes::new()).await, Ok(numbered(round)));
            })
            .await;
        }
    }

    /// A request that is not answered keeps no other from being answered.
    pub async fn slow_answers_hold_nothing_up(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        let handler =
            |_, request: Bytes| async move { if request.is_empty() { pending().await } else { request } }.boxed();
        self.on(two, async move { serve(&answerer, handler) }).await;
        self.on(one, async move {
            let stuck = join_all((0..20).map(|_| asker.transport.call(two, Bytes::new())));
            let quick = async {
                for call in 0..20 {
                    assert_eq!(asker.transport.call(two, numbered(call)).await, Ok(numbered(call)));
                }
            };
            let ended = R::select2(stuck, quick).await;
            assert!(matches!(ended, Select2::Second(())), "only what is answered ends");
        })
        .await;
    }

    /// Two members call each other at the same time, and while they answer.
    pub async fn calls_go_both_ways_at_once(&mut self) {
        const CALLS: u32 = 50;
        let Pair { one, asker, two, answerer } = self.pair().await;
        for (node, host) in [(one, asker.clone()), (two, answerer.clone())] {
            self.on(node, async move {
                let transport = host.transport.clone();
                // An empty request is answered after a question back, which is not empty.
                serve(&host, move |from, request: Bytes| {
                    let transport = transport.clone();
                    async move {
                        if !request.is_empty() {
                            return request;
                        }
                        transport.call(from, numbered(7)).await.expect("a member that serves answers")
                    }
                    .boxed()
                });
            })
            .await;
        }
        let (done, end) = oneshot::channel();
        let there = async move {
            let calls = (0..CALLS).map(|_| answerer.transport.call(one, Bytes::new()));
            done.send(join_all(calls).await).expect("the check waits");
        };
        self.on(two, async move { drop(R::spawn(there)) }).await;
        self.on(one, async move {
            let calls = (0..CALLS).map(|_| asker.transport.call(two, Bytes::new()));
            let replies = join_all(calls).await.into_iter().chain(end.await.expect("the other member calls too"));
            for reply in replies {
                assert_eq!(reply, Ok(numbered(7)));
            }
        })
        .await;
    }

    /// A handler's future is polled to its end though nobody waits for the reply any more.
    pub async fn handlers_end_though_the_asker_has_gone(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (done, end) = oneshot::channel();
        let done = Mutex::new(Some(done));
        let (their_begun, their_go) = (begun.clone(), go.clone());
        let handler = move |_: NodeId, _: Bytes| {
            let (begun, go) = (their_begun.clone(), their_go.clone());
            // Taken along, so that it is dropped, and the check hears of it, if the future is.
            let done = done.lock().expect("no handler panics").take().expect("there is one request");
            async move {
                begun.notify_one();
                go.notified().await;
                done.send(()).expect("the check waits");
                Bytes::new()
            }
            .boxed()
        };
        self.on(two, async move { serve(&answerer, handler) }).await;
        self.on(one, async move {
            let given_up = R::select2(asker.transport.call(two, Bytes::new()), begun.notified()).await;
            assert!(matches!(given_up, Select2::Second(())), "the handler has not answered yet");
            go.notify_one();
            end.await.expect("the handler ends");
        })
        .await;
    }

    /// Calls that are given up, before or after they were sent, leave the transport as able as before.
    pub async fn calls_can_be_given_up(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        self.on(two, async move { serve(&answerer, echo) }).await;
        self.on(one, async move {
            for call in 0..1000 {
                let mut given_up = Box::pin(asker.transport.call(two, numbered(call)));
                drop(futures_util::poll!(&mut given_up));
                drop(given_up);
                if call % 100 == 0 {
                    assert_eq!(asker.transport.call(two, numbered(call)).await, Ok(numbered(call)));
                }
            }
        })
        .await;
    }

    /// A call to a member that does not exist is never answered: it fails or waits.
    pub async fn unknown_members_do_not_answer(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            serve(&host, echo);
            let call = host.transport.call(NodeId(u64::MAX), numbered(1));
            let ended = R::timeout(PATIENCE, call).await;
            assert!(!matches!(ended, Ok(Ok(_))), "nobody can have answered");
        })
        .await;
    }

    /// A call to a member that has ended is never answered, be it under way at the end or made later.
    pub async fn stopped_members_do_not_answer(&mut self) {
        let Pair { one, asker, two, answerer } = self.pair().await;
        let handler =
            |_, request: Bytes| async move { if request.is_empty() { pending().await } else { request } }.boxed();
        self.on(two, async move { serve(&answerer, handler) }).await;
        let caller = asker.clone();
        let (done, end) = oneshot::channel();
        self.on(one, async move {
            assert_eq!(caller.transport.call(two, numbered(1)).await, Ok(numbered(1)));
            drop(R::spawn(async move {
                let ended = R::timeout(PATIENCE, caller.transport.call(two, Bytes::new())).await;
                done.send(!matches!(ended, Ok(Ok(_)))).expect("the check waits");
            }));
        })
        .await;
        self.world.stop(two).await;
        self.on(one, async move {
            assert_eq!(end.await, Ok(true), "the handler never answers");
            let ended = R::timeout(PATIENCE, asker.transport.call(two, numbered(2))).await;
            assert!(!matches!(ended, Ok(Ok(_))), "the member has ended");
        })
        .await;
    }
}
