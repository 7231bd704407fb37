//! Consensus: openraft, given a log, a state machine and a network.
//!
//! ```text
//!   propose ──► openraft ──► LogStore ──► wal          what is promised
//!                 │  ▲
//!                 │  └──── Peer / PeerServer           what members say to each other
//!                 ▼
//!              StateMachine ──► mvcc                   what is applied
//! ```
//!
//! openraft is trusted with the algorithm and nothing else: its configuration is explicit to the last field
//! ([`config`]), and what it is known to get wrong is met here, at the seam.

mod command;
mod config;
mod log_store;
mod membership;
pub(crate) mod message;
mod network;
mod proposer;
mod server;
mod snapshot;
mod state_machine;
mod type_config;
mod vote_hold;

pub use self::command::{Command, LeaseRest, Reply, Request};
pub use self::config::{RaftOptions, openraft_config};
pub use self::log_store::LogStore;
pub(crate) use self::membership::change;
pub use self::membership::{Membership, MembershipChange, MembershipError};
pub use self::message::is_repeatable;
pub use self::network::PeerNetwork;
pub use self::proposer::{ProposeError, Proposer};
pub use self::server::PeerServer;
pub use self::snapshot::SnapshotData;
pub use self::state_machine::StateMachine;
pub(crate) use self::state_machine::{defragment, flush};
pub use self::type_config::TypeConfig;
pub(crate) use self::vote_hold::VoteHold;
pub use crate::ids::{NodeId, Term};

/// openraft's handle, for a runtime.
pub type Raft<R> = openraft::Raft<TypeConfig<R>, StateMachine<R>>;

/// A place in the log: the term and the leader that proposed it, and its index.
pub(crate) type LogId<R> = openraft::type_config::alias::LogIdOf<TypeConfig<R>>;

/// The members as of a place in the log.
pub(crate) type StoredMembership<R> = openraft::type_config::alias::StoredMembershipOf<TypeConfig<R>>;
