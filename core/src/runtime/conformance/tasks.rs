//! Checks of tasks, beyond openraft's own.

use std::future::{pending, ready};
use std::sync::Arc;

use futures_util::future::join_all;
use openraft_rt::Select2;
use tokio::sync::{Notify, mpsc, oneshot};

use super::{Suite, World};
use crate::runtime::Runtime;

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// Every check of tasks.
    pub async fn test_tasks(&mut self) {
        self.blocking_work_returns_its_value().await;
        self.select_is_biased().await;
        self.tasks_outlive_their_handles().await;
        self.channels_wake_across_tasks().await;
    }

    /// `spawn_blocking` gives back what the work returned, however much of it is under way, and runs it even if nobody
    /// waits.
    pub async fn blocking_work_returns_its_value(&mut self) {
        let (node, _host) = self.member().await;
        self.on(node, async {
            let work = (0..50_u32).map(|number| R::spawn_blocking(move || number.pow(2)));
            for (number, result) in (0..50_u32).zip(join_all(work).await) {
                assert_eq!(result.expect("the work does not panic"), number.pow(2));
            }
            let (done, end) = oneshot::channel();
            drop(R::spawn_blocking(move || done.send(())));
            end.await.expect("blocking work runs to its end");
        })
        .await;
    }

    /// Of two futures that are ready `select2` takes the first.
    pub async fn select_is_biased(&mut self) {
        let (node, _host) = self.member().await;
        self.on(node, async {
            for _ in 0..100 {
                assert_eq!(R::select2(ready(1), ready(2)).await, Select2::First(1));
                assert_eq!(R::select2(pending::<u8>(), ready(2)).await, Select2::Second(2));
            }
        })
        .await;
    }

    /// A task runs to its end though its handle has been dropped.
    pub async fn tasks_outlive_their_handles(&mut self) {
        let (node, _host) = self.member().await;
        self.on(node, async {
            let (go, gone) = oneshot::channel();
            let (done, end) = oneshot::channel();
            drop(R::spawn(async move {
                gone.await.expect("the check lets it go");
                done.send(()).expect("the check waits");
            }));
            go.send(()).expect("the task waits");
            end.await.expect("the task runs to its end");
        })
        .await;
    }

    /// `Notify`, `oneshot` and `mpsc` of tokio, which the core uses on every runtime, wake a task that waits.
    pub async fn channels_wake_across_tasks(&mut self) {
        let (node, _host) = self.member().await;
        self.on(node, async {
            let (ping, pong) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
            let (send, mut receive) = mpsc::channel(1);
            let (done, end) = oneshot::channel();
            let (their_ping, their_pong) = (ping.clone(), pong.clone());
            drop(R::spawn(async move {
                for round in 0..100 {
                    their_ping.notified().await;
                    send.send(round).await.expect("the check receives");
                    their_pong.notify_one();
                }
                done.send("done").expect("the check waits");
            }));
            for round in 0..100 {
                ping.notify_one();
                assert_eq!(receive.recv().await, Some(round));
                pong.notified().await;
            }
            assert_eq!(end.await, Ok("done"));
            assert_eq!(receive.recv().await, None);
        })
        .await;
    }
}
