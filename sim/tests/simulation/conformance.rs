//! The simulated world keeps the contracts that the store relies on, like the real one.

use std::collections::BTreeMap;
use std::future::Future;

use madsim::runtime::NodeHandle;
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::Host;
use seedbed_core::runtime::conformance::{Suite, World};
use seedbed_sim::disk::SimDisk;
use seedbed_sim::network::{Network, Weather};
use seedbed_sim::runtime::{MadsimRuntime, Simulation, clock_of, create_node, kill, restart};

/// Members in fair weather, each on a node of its own.
struct SimWorld {
    network: Network,
    members: BTreeMap<NodeId, (NodeHandle, SimDisk)>,
}

impl SimWorld {
    fn new() -> Self {
        let weather = Weather { latency_us: [50, 2_000], loss_permille: 0 };
        SimWorld { network: Network::new(weather), members: BTreeMap::new() }
    }

    fn life(&self, node: NodeId) -> Host<MadsimRuntime> {
        let (home, disk) = &self.members[&node];
        Host { clock: clock_of(home.id()), disk: disk.handle(), transport: self.network.transport(node) }
    }

    fn end(&self, node: NodeId) {
        let (home, disk) = &self.members[&node];
        kill(home.id());
        self.network.reset(node);
        // Harder than the contract asks for: what was synced has to survive this too.
        disk.crash();
    }
}

impl World<MadsimRuntime> for SimWorld {
    async fn host(&mut self, node: NodeId) -> Host<MadsimRuntime> {
        self.members.insert(node, (create_node(&format!("member-{node}")), SimDisk::new(node.0, [100, 5_000])));
        self.life(node)
    }

    async fn restart(&mut self, node: NodeId) -> Host<MadsimRuntime> {
        self.end(node);
        let home = restart(self.members[&node].0.id());
        self.members.get_mut(&node).expect("it has lived before").0 = home;
        self.life(node)
    }

    async fn stop(&mut self, node: NodeId) {
        self.end(node);
    }

    async fn run<T: Send + 'static>(&mut self, node: NodeId, task: impl Future<Output = T> + Send + 'static) -> T {
        self.members[&node].0.spawn(task).await.expect("the member lives")
    }
}

#[test]
fn the_simulated_world_conforms() {
    for seed in 0..10 {
        Simulation::new(seed).expect(|| async { Suite::new(SimWorld::new()).test_all().await });
    }
}
