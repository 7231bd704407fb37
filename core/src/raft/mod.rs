//! Consensus: openraft, given a log, a state machine and a network.

mod command;
mod type_config;

pub use self::command::{Command, Reply, Request};
pub use self::type_config::{NodeId, Term, TypeConfig};
