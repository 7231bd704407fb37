//! Consensus: openraft, given a log, a state machine and a network.

mod command;
mod log_store;
mod type_config;

pub use self::command::{Command, Reply, Request};
pub use self::log_store::{LogReader, LogStore};
pub use self::type_config::{NodeId, Term, TypeConfig};
