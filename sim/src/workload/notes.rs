//! What clients do, noted down as the script that would have them do it again.

use std::sync::{Arc, Mutex, PoisonError};

use seedbed_core::raft::NodeId;

use crate::clock::true_now_ns;
use crate::plan::Step;

/// Where steps are noted down; clones share them, and they outlive a run that panics.
pub type Steps = Arc<Mutex<Vec<Step>>>;

/// Notes down the operations of a run, if anybody wants to have them.
#[derive(Clone, Debug)]
pub struct Notes {
    begun: u64,
    steps: Option<Steps>,
}

impl Notes {
    /// For a run whose times count from `begun`, in virtual nanoseconds.
    pub fn new(begun: u64, steps: Option<Steps>) -> Self {
        Notes { begun, steps }
    }

    /// A client begins an operation now.
    pub fn note(&self, client: u32, nth: u32, member: NodeId) {
        if let Some(steps) = &self.steps {
            let at_us = (true_now_ns() - self.begun) / 1000;
            let step = Step { at_us, client, nth, member: member.0 };
            steps.lock().unwrap_or_else(PoisonError::into_inner).push(step);
        }
    }
}
