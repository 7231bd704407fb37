//! The store: an etcd-compatible, Raft-replicated key-value store, generic over its [runtime](runtime::Runtime).
//!
//! ```text
//!           server        a process: flags, ports, signals (feature `server`)
//!             │
//!            grpc         the services on byte streams: HTTP/2 without sockets
//!             │
//!         api  proxy      the services: what a client calls; the same, between clients and members
//!        /  |   |   |  \
//!    read watch lease | node   the read paths; what changes, told; when leases end; one member, wired
//!        \  |   |   |  /
//!            raft         openraft: log store, state machine, network
//!           /    \
//!        wal      mvcc    what is promised; what is applied
//!           \    /
//!           runtime       Clock, Disk, Transport: all that differs between a server and a simulation
//! ```
//!
//! Dependencies run downwards, but that raft's peer server asks the read paths and the lessor for followers, and its state
//! machine tells the lessor what has become of leases. Nothing here knows the
//! simulator: what differs stands behind a trait of [`runtime`].

pub mod api;
pub mod auto_compaction;
mod compactor;
pub mod grpc;
pub mod ids;
pub mod lease;
pub mod members;
pub mod mvcc;
pub mod node;
pub mod proxy;
pub mod raft;
pub mod read;
pub mod runtime;
#[cfg(feature = "server")]
pub mod server;
mod signal;
pub mod wal;
pub mod watch;
mod watermark;

pub use seedbed_proto as proto;

pub use self::watermark::Watermark;
