//! A member's side of the network.

use bytes::Bytes;
use madsim::runtime::{Handle, NodeHandle};
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::{Handler, Transport, TransportError};

use super::{Address, ClientHandler, Network, Payload, StreamHandler, first_reply};

/// A member's connections.
#[derive(Clone, Debug)]
pub struct SimTransport {
    network: Network,
    node: NodeId,
}

impl SimTransport {
    pub(super) fn new(network: Network, node: NodeId) -> Self {
        SimTransport { network, node }
    }

    /// Answers requests of clients with `handler` from now on, on the node of the task that says so.
    pub fn serve_clients(&self, handler: ClientHandler) {
        let here = node_here();
        self.network.serve(self.node, |member| member.clients = Some((here, handler)));
    }

    /// Accepts connections of clients from now on, each served by `handler` on the node of the task that says so.
    pub fn serve_streams(&self, handler: StreamHandler) {
        let here = node_here();
        self.network.serve(self.node, |member| member.streams = Some((here, handler)));
    }
}

impl Transport for SimTransport {
    async fn call(&self, to: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let reply = self.network.shared.request(Address::Member(self.node), to, Payload::Peer(request));
        first_reply(reply).await
    }

    /// The handler runs on the node of the task that says so.
    fn serve(&self, handler: Handler) {
        let here = node_here();
        self.network.serve(self.node, |member| member.peers = Some((here, handler)));
    }
}

/// The present incarnation of the current task's node.
fn node_here() -> NodeHandle {
    Handle::current().get_node(madsim::plugin::node()).expect("a task runs on a node of its runtime")
}
