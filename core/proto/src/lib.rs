//! etcd's v3 wire protocol.
//!
//! The messages and service traits are generated at build time from the `.proto` files beside this crate, which state
//! etcd's names and field numbers: those are the contract with every etcd client.

pub mod codec;

/// Stored data: key-value pairs (package `mvccpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod mvccpb {
    tonic::include_proto!("mvccpb");
}

/// The services and their messages (package `etcdserverpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod etcdserverpb {
    tonic::include_proto!("etcdserverpb");
}

/// The Lock service and its messages (package `v3lockpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v3lockpb {
    tonic::include_proto!("v3lockpb");
}

/// The Election service and its messages (package `v3electionpb`).
#[allow(missing_docs, clippy::all, unreachable_pub)]
pub mod v3electionpb {
    tonic::include_proto!("v3electionpb");
}
