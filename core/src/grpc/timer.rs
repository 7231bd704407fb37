//! hyper's timer, on the runtime.

#![allow(clippy::disallowed_types, reason = "hyper counts in it; in the simulation it is simulated as well")]

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hyper::rt::Sleep;

use crate::runtime::Runtime;

/// Wakes hyper on `R`.
pub(super) struct Timer<R>(PhantomData<fn() -> R>);

// Written by hand: derives would ask the same of `R`, which is never held.
impl<R> Default for Timer<R> {
    fn default() -> Self {
        Timer(PhantomData)
    }
}
impl<R> fmt::Debug for Timer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Timer")
    }
}

impl<R: Runtime> hyper::rt::Timer for Timer<R> {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        Box::pin(Sleeping(Mutex::new(Box::pin(R::sleep(duration)))))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn Sleep>> {
        self.sleep(deadline.saturating_duration_since(self.now()))
    }
}

/// A sleep of the runtime, which may not be `Sync`, as hyper's have to be.
struct Sleeping(Mutex<BoxFuture<'static, ()>>);

impl Future for Sleeping {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner).as_mut().poll(context)
    }
}

impl Sleep for Sleeping {}
