//! A number that only grows, for those who wait until it has reached theirs; and an end, for those who run until then.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use tokio::sync::Notify;

use crate::signal::Doze;

/// How far something has come, for instance the log's application. Clones are the same mark.
#[derive(Clone, Debug, Default)]
pub struct Watermark {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    value: AtomicU64,
    raised: Notify,
}

impl Watermark {
    /// Begins at `value`.
    pub fn new(value: u64) -> Self {
        Watermark { shared: Arc::new(Shared { value: AtomicU64::new(value), raised: Notify::new() }) }
    }

    /// How far it has come.
    pub fn get(&self) -> u64 {
        self.shared.value.load(Ordering::Acquire)
    }

    /// It has come to `value`. A lesser one than before changes nothing.
    pub fn raise(&self, value: u64) {
        if self.shared.value.fetch_max(value, Ordering::AcqRel) < value {
            self.shared.raised.notify_waiters();
        }
    }

    /// Resolves once it has come to `value`.
    pub async fn reached(&self, value: u64) {
        while self.get() < value {
            let mut raised = std::pin::pin!(self.shared.raised.notified());
            // Counts as a waiter from here on, so that a raise between the next look and the await is not missed.
            raised.as_mut().enable();
            if self.get() < value {
                raised.await;
            }
        }
    }
}

/// Tells background tasks to end. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Stop(Watermark);

impl Stop {
    /// From now on.
    pub(crate) fn stop(&self) {
        self.0.raise(1);
    }

    /// Whether it is time to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.0.get() > 0
    }

    /// Resolves once it is time to end.
    pub(crate) async fn stopped(&self) {
        self.0.reached(1).await;
    }

    /// To be asked again and again by one task.
    pub(crate) fn watch(&self) -> StopWatch {
        let stop = self.clone();
        let stopped = Box::pin(async move { stop.stopped().await });
        StopWatch { stop: self.clone(), stopped, doze: Doze::default() }
    }
}

/// An end as one task sees it that waits for other things as well: all who wait stand in one list, and coming and going at each of
/// these costs more than they do.
pub(crate) struct StopWatch {
    stop: Stop,
    stopped: BoxFuture<'static, ()>,
    doze: Doze,
}

impl fmt::Debug for StopWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopWatch").field("stop", &self.stop).finish_non_exhaustive()
    }
}

impl StopWatch {
    /// Whether it is time to end.
    pub(crate) fn is_stopped(&self) -> bool {
        self.stop.is_stopped()
    }

    /// Resolves once it is time to end.
    pub(crate) fn poll_stopped(&mut self, context: &Context<'_>) -> Poll<()> {
        if self.is_stopped() {
            return Poll::Ready(());
        }
        self.doze.poll(context, |context| self.stopped.as_mut().poll(context))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[test]
    fn waiters_are_woken_when_their_value_is_reached_and_not_before() {
        let mark = Watermark::new(3);
        assert!(mark.reached(3).now_or_never().is_some());
        let mut waiting = Box::pin(mark.reached(5));
        assert!(waiting.as_mut().now_or_never().is_none());
        mark.raise(4);
        mark.raise(2);
        assert_eq!(mark.get(), 4);
        assert!(waiting.as_mut().now_or_never().is_none());
        mark.raise(6);
        assert!(waiting.now_or_never().is_some());
    }

    #[test]
    fn a_stop_is_seen_by_who_watches_it_before_and_after() {
        let stop = Stop::default();
        let mut watch = stop.watch();
        let mut stopped = || std::future::poll_fn(|context| watch.poll_stopped(context)).now_or_never();
        assert_eq!((stopped(), stopped()), (None, None));
        stop.stop();
        assert_eq!((stopped(), stopped()), (Some(()), Some(())));
    }
}
