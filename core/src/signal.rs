//! Waking one task, which waits for several things.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::task::AtomicWaker;

/// Rings for one task at a time. If that does not wait, it finds out when it does.
#[derive(Debug, Default)]
pub(crate) struct Signal {
    rung: AtomicBool,
    waiting: AtomicWaker,
}

impl Signal {
    /// Wakes the task, or keeps it from waiting the next time.
    pub(crate) fn ring(&self) {
        // Whoever rang before has woken it.
        if !self.rung.swap(true, Ordering::AcqRel) {
            self.waiting.wake();
        }
    }

    /// Resolves if it has rung since this has resolved last. The task that asked last is the one that is woken.
    pub(crate) fn poll_rung(&self, context: &Context<'_>) -> Poll<()> {
        if !self.take() {
            self.waiting.register(context.waker());
            // It may have rung between.
            if !self.take() {
                return Poll::Pending;
            }
        }
        Poll::Ready(())
    }

    /// As [`Signal::poll_rung`]. Nothing is lost if it is dropped before.
    pub(crate) async fn rung(&self) {
        std::future::poll_fn(|context| self.poll_rung(context)).await;
    }

    fn take(&self) -> bool {
        self.rung.load(Ordering::Acquire) && self.rung.swap(false, Ordering::AcqRel)
    }
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.ring();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.ring();
    }
}

/// Polls something only when that has asked for it, in a task that is woken for other things as well: looking after each of them
/// every time costs a lock or more.
pub(crate) struct Doze {
    signal: Arc<Signal>,
    waker: Waker,
}

impl Default for Doze {
    fn default() -> Self {
        let signal = Arc::<Signal>::default();
        // For the first time.
        signal.ring();
        Doze { waker: Waker::from(signal.clone()), signal }
    }
}

impl fmt::Debug for Doze {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Doze").field("signal", &self.signal).finish_non_exhaustive()
    }
}

impl Doze {
    /// Polls what is always the same thing, if it has not been polled yet, was ready, or has asked for it since.
    pub(crate) fn poll<T>(&self, context: &Context<'_>, poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Poll<T> {
        // In any case: what is polled may not be ready, and ring later.
        self.signal.waiting.register(context.waker());
        if !self.signal.take() {
            return Poll::Pending;
        }
        let polled = poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // For the next time: nobody waits now.
            self.signal.rung.store(true, Ordering::Release);
        }
        polled
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use futures_util::FutureExt;

    use super::*;

    #[derive(Default)]
    struct Woken(AtomicU32);

    impl Woken {
        fn times(&self) -> u32 {
            self.0.load(Ordering::Relaxed)
        }
    }

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_ring_wakes_once_and_is_kept_for_who_does_not_wait_yet() {
        let signal = Signal::default();
        signal.ring();
        signal.ring();
        assert!(signal.rung().now_or_never().is_some());
        assert!(signal.rung().now_or_never().is_none());
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        assert!(signal.poll_rung(&Context::from_waker(&waker)).is_pending());
        signal.ring();
        signal.ring();
        assert_eq!(woken.times(), 1);
        assert!(signal.poll_rung(&Context::from_waker(&waker)).is_ready());
    }

    #[test]
    fn what_dozes_is_polled_at_first_when_it_has_asked_and_after_it_was_ready() {
        let (doze, inner) = (Doze::default(), Signal::default());
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(woken.clone());
        let context = Context::from_waker(&waker);
        let polls = AtomicU32::new(0);
        let poll = || {
            doze.poll(&context, |context| {
                polls.fetch_add(1, Ordering::Relaxed);
                inner.poll_rung(context)
            })
        };
        assert!(poll().is_pending());
        inner.ring();
        assert_eq!(woken.times(), 1);
        assert!(poll().is_ready());
        assert!(poll().is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 3);
        assert!(poll().is_pending());
        assert_eq!(polls.load(Ordering::Relaxed), 3);
        inner.ring();
        assert_eq!(woken.times(), 2);
    }
}
