//! A member for tests of what it offers: alone, on the real runtime.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::{Node, NodeOptions};
use crate::raft::{NodeId, RaftOptions};
use crate::runtime::Host;
use crate::runtime::tokio::{TokioClock, TokioDisk, TokioRuntime, TokioTransport};
use crate::watch::{Session, WatchOptions};

const ALONE: NodeId = NodeId(1);
const CLUSTER: u64 = 0x5eed;

/// A cluster of one, with its data in `folder`.
pub(crate) async fn alone(folder: &Path, watch: WatchOptions) -> Node<TokioRuntime> {
    let transport = TokioTransport::bind(ALONE, CLUSTER, "127.0.0.1:0", BTreeMap::new()).await.unwrap();
    let host = Host { clock: TokioClock, disk: TokioDisk::open(folder).unwrap(), transport };
    let options = NodeOptions {
        lease_drift_ppm: None,
        cluster_id: CLUSTER,
        node: ALONE,
        initial_members: BTreeSet::from([ALONE]),
        joins: false,
        raft: RaftOptions {
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            snapshot_entries: 10_000,
            keep_entries: 1_000,
        },
        wal: Default::default(),
        store: Default::default(),
        limits: Default::default(),
        directory: Default::default(),
        auto_compaction: Default::default(),
        watch,
        lease: Default::default(),
    };
    Node::start(host, options).await.unwrap()
}

/// The watches of a stream that nobody sees.
pub(crate) fn session(node: &Node<TokioRuntime>, options: WatchOptions) -> Session<TokioRuntime> {
    Session::new(node.watch.headers.clone(), node.store.clone(), options)
}
