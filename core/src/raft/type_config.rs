//! The types that openraft is instantiated with.

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;

use super::command::{Command, Reply};
use crate::ids::{NodeId, Term};
use crate::runtime::Runtime;

/// openraft's types, for a runtime.
pub struct TypeConfig<R>(PhantomData<fn() -> R>);

// Written by hand: derives would ask the same of `R`, which is never held.
impl<R> Clone for TypeConfig<R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for TypeConfig<R> {}
impl<R> Default for TypeConfig<R> {
    fn default() -> Self {
        TypeConfig(PhantomData)
    }
}
impl<R> fmt::Debug for TypeConfig<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TypeConfig")
    }
}
impl<R> PartialEq for TypeConfig<R> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}
impl<R> Eq for TypeConfig<R> {}
impl<R> PartialOrd for TypeConfig<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<R> Ord for TypeConfig<R> {
    fn cmp(&self, _: &Self) -> Ordering {
        Ordering::Equal
    }
}

impl<R: Runtime> openraft::RaftTypeConfig for TypeConfig<R> {
    type D = Command;
    type R = Reply;
    type NodeId = NodeId;
    type Node = openraft::EmptyNode;
    type Term = Term;
    // At most one leader a term, as in the Raft paper: `raft_term` names a leader to clients.
    type LeaderId = openraft::impls::leader_id_std::LeaderId<Term, NodeId>;
    type Vote = openraft::impls::Vote<Self::LeaderId>;
    type Payload = openraft::EntryPayload<Command, NodeId, openraft::EmptyNode>;
    type Entry = openraft::Entry<<Self::LeaderId as openraft::vote::RaftLeaderId>::Committed, Self::Payload>;
    type AsyncRuntime = R;
    type Responder<T>
        = openraft::impls::OneshotResponder<Self, T>
    where
        T: Send + 'static;
    type Batch<T>
        = openraft::impls::InlineBatch<T>
    where
        T: Send + 'static;
    type ErrorSource = openraft::AnyError;
}
