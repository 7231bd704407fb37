//! The nodes of a run: what each task of one shares without holding it.
//!
//! A node keeps its clock and its random stream when it is killed and restarted.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;

use madsim::runtime::{Handle, NodeHandle};
use madsim::task::NodeId;
use rand::TryRng;
use rand_pcg::Pcg64;

use crate::clock::SimClock;
use crate::rng::stream;
use crate::trace;

#[derive(Debug)]
struct Node {
    name: Arc<str>,
    rng: Pcg64,
    clock: SimClock,
}

#[derive(Debug, Default)]
struct Nodes {
    seed: u64,
    nodes: BTreeMap<NodeId, Node>,
}

impl Nodes {
    /// A node that was not made by [`create_node`], such as the one that runs the test itself, is made up when first met.
    fn get(&mut self, id: NodeId) -> &mut Node {
        self.nodes.entry(id).or_insert_with(|| Node {
            name: Arc::from("-"),
            rng: stream(self.seed, "node/-", 0),
            clock: SimClock::new(),
        })
    }
}

thread_local! {
    static NODES: RefCell<Nodes> = RefCell::default();
}

/// Begins a run without nodes.
pub(super) fn reset(seed: u64) {
    NODES.set(Nodes { seed, nodes: BTreeMap::new() });
}

/// The seed of this thread's run.
pub fn seed() -> u64 {
    NODES.with_borrow(|nodes| nodes.seed)
}

/// Makes a node, which runs tasks and can be killed, restarted, paused and resumed through madsim's `Handle`. The name
/// tells its random stream, so two nodes of a run must not share one.
pub fn create_node(name: &str) -> NodeHandle {
    let handle = Handle::current().create_node().name(name).build();
    NODES.with_borrow_mut(|nodes| {
        let rng = stream(nodes.seed, &format!("node/{name}"), 0);
        nodes.nodes.insert(handle.id(), Node { name: Arc::from(name), rng, clock: SimClock::new() });
    });
    handle
}

/// Kills a node: its tasks never run again, and are dropped as soon as the caller awaits anything.
pub fn kill(id: NodeId) {
    record("kill", id);
    Handle::current().kill(id);
}

/// Gives a killed node another life. Tasks of it are spawned on the handle returned: an earlier one still means the dead.
pub fn restart(id: NodeId) -> NodeHandle {
    record("restart", id);
    Handle::current().restart(id);
    Handle::current().get_node(id).expect("a node that was restarted exists")
}

/// Stops a node's tasks where they are (SIGSTOP). Time goes on without it.
pub fn pause(id: NodeId) {
    record("pause", id);
    Handle::current().pause(id);
}

/// Lets a paused node go on. What it waited for meanwhile is there.
pub fn resume(id: NodeId) {
    record("resume", id);
    Handle::current().resume(id);
}

fn record(tag: &'static str, id: NodeId) {
    trace::record(tag, &[trace::digest(name_of(id).as_bytes())]);
}

/// Kills every node made by [`create_node`]. Their tasks are dropped as soon as the caller awaits anything.
pub fn kill_all() {
    let named: Vec<_> = NODES
        .with_borrow(|nodes| nodes.nodes.iter().filter(|(_, node)| &*node.name != "-").map(|(&id, _)| id).collect());
    for id in named {
        Handle::current().kill(id);
    }
}

/// The node's clock.
pub fn clock_of(id: NodeId) -> SimClock {
    NODES.with_borrow_mut(|nodes| nodes.get(id).clock.clone())
}

/// The name of a node made by [`create_node`], `-` for any other.
pub fn name_of(id: NodeId) -> Arc<str> {
    NODES.with_borrow_mut(|nodes| nodes.get(id).name.clone())
}

/// The clock of the current task's node.
pub(super) fn clock_here() -> SimClock {
    clock_of(madsim::plugin::node())
}

/// The random stream of a node.
#[derive(Clone, Copy, Debug)]
pub struct NodeRng(NodeId);

impl NodeRng {
    /// The stream of the current task's node.
    pub(super) fn here() -> Self {
        NodeRng(madsim::plugin::node())
    }

    fn draw<T>(self, draw: impl FnOnce(&mut Pcg64) -> Result<T, Infallible>) -> Result<T, Infallible> {
        NODES.with_borrow_mut(|nodes| draw(&mut nodes.get(self.0).rng))
    }
}

impl TryRng for NodeRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        self.draw(Pcg64::try_next_u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        self.draw(Pcg64::try_next_u64)
    }

    fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
        self.draw(|rng| rng.try_fill_bytes(dst))
    }
}
