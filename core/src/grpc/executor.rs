//! hyper's tasks, on the runtime.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use futures_util::FutureExt;

use crate::runtime::Runtime;

/// How many tasks are run at once in one turn of a connection: it has others beside it.
const AT_ONCE_MAX: u32 = 64;

/// Runs hyper's tasks on `R`.
pub struct Tasks<R> {
    /// How many more are run at once in this turn; without it, none ever are.
    at_once: Option<Arc<AtomicU32>>,
    runtime: PhantomData<fn() -> R>,
}

impl<R> Tasks<R> {
    /// Runs most of them as far as they go before anything else, and spares them a task if that is to their end: for services of
    /// which most requests have nothing to wait for, and take no longer than a task does. A connection answers one such at a time.
    pub fn at_once() -> Self {
        Tasks { at_once: Some(Arc::default()), runtime: PhantomData }
    }

    /// The connection whose tasks they are has its turn. Without turns none is run at once.
    pub(crate) fn begin_turn(&self) {
        if let Some(left) = &self.at_once {
            left.store(AT_ONCE_MAX, Ordering::Relaxed);
        }
    }

    fn is_at_once(&self) -> bool {
        let less = |left: u32| left.checked_sub(1);
        self.at_once.as_ref().is_some_and(|left| left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok())
    }
}

// Written by hand: derives would ask the same of `R`, which is never held.
impl<R> Clone for Tasks<R> {
    fn clone(&self) -> Self {
        Tasks { at_once: self.at_once.clone(), runtime: PhantomData }
    }
}
impl<R> Default for Tasks<R> {
    fn default() -> Self {
        Tasks { at_once: None, runtime: PhantomData }
    }
}
impl<R> fmt::Debug for Tasks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tasks").field("at_once", &self.at_once).finish()
    }
}

impl<R: Runtime, F> hyper::rt::Executor<F> for Tasks<R>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        if !self.is_at_once() {
            return drop(R::spawn(task));
        }
        let mut task = Box::pin(task);
        // Whatever wakes what waits: it is asked again at first thing by a task of its own.
        if task.as_mut().now_or_never().is_none() {
            drop(R::spawn(task));
        }
    }
}
