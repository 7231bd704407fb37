//! The real runtime keeps the contracts that the store is written against.

use std::collections::BTreeMap;
use std::future::Future;

use openraft::AsyncRuntime;
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::Host;
use seedbed_core::runtime::conformance::{Suite, World};
use seedbed_core::runtime::tokio::{TokioClock, TokioDisk, TokioRuntime, TokioTransport};

/// Members on this machine: each has a folder and a port.
struct Machine {
    folders: tempfile::TempDir,
    transports: BTreeMap<NodeId, TokioTransport>,
}

impl Machine {
    fn disk(&self, node: NodeId) -> TokioDisk {
        TokioDisk::open(self.folders.path().join(node.to_string())).expect("the folder can be opened")
    }

    /// Starts a member's transport and tells everybody where everybody listens.
    async fn transport(&mut self, node: NodeId) -> TokioTransport {
        self.stop(node).await;
        let transport = TokioTransport::bind(node, 0x5eed, "127.0.0.1:0", BTreeMap::new()).await;
        self.transports.insert(node, transport.expect("a free port can be had"));
        let addresses = self.transports.iter().map(|(node, transport)| (*node, transport.local_addr().to_string()));
        let addresses: BTreeMap<NodeId, String> = addresses.collect();
        self.transports.values().for_each(|transport| transport.set_peers(addresses.clone()));
        self.transports[&node].clone()
    }
}

impl World<TokioRuntime> for Machine {
    async fn host(&mut self, node: NodeId) -> Host<TokioRuntime> {
        Host { clock: TokioClock, disk: self.disk(node), transport: self.transport(node).await }
    }

    fn restart(&mut self, node: NodeId) -> impl Future<Output = Host<TokioRuntime>> {
        self.host(node)
    }

    async fn stop(&mut self, node: NodeId) {
        if let Some(transport) = self.transports.remove(&node) {
            transport.close();
        }
    }
}

fn suite(check: impl AsyncFnOnce(&mut Suite<TokioRuntime, Machine>)) {
    let folders = tempfile::tempdir().expect("a temporary folder can be made");
    TokioRuntime::new(2).block_on(async {
        check(&mut Suite::new(Machine { folders, transports: BTreeMap::new() })).await;
    });
}

#[test]
fn passes_the_suite_of_openraft() {
    openraft_rt::testing::Suite::<TokioRuntime>::test_all();
}

#[test]
fn passes_our_suite() {
    suite(async |suite| suite.test_all().await);
}
