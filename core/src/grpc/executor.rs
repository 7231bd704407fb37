//! hyper's tasks, on the runtime.

use std::fmt;
use std::marker::PhantomData;

use crate::runtime::Runtime;

/// Runs hyper's tasks on `R`.
pub struct Tasks<R>(PhantomData<fn() -> R>);

// Written by hand: derives would ask the same of `R`, which is never held.
impl<R> Clone for Tasks<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Tasks<R> {}
impl<R> Default for Tasks<R> {
    fn default() -> Self {
        Tasks(PhantomData)
    }
}
impl<R> fmt::Debug for Tasks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tasks")
    }
}

impl<R: Runtime, F> hyper::rt::Executor<F> for Tasks<R>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, task: F) {
        drop(R::spawn(task));
    }
}
