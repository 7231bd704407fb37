//! What every implementation of the runtime has to pass.
//!
//! A [`World`] makes members of the runtime; [`Suite`] puts them to the test, one contract of the store's at a time. It
//! stands beside openraft's own suite (`openraft_rt::testing::Suite`), which covers timers and channels.
//!
//! ```text
//! Suite::new(MyWorld::default()).test_all().await;
//! ```
//!
//! Checks panic with what is wrong. They need fair weather: no crash, no fault, no lost message. They never wait for
//! time to pass unless the contract is about time; a check that hangs is ended by a [guard](GUARD).

mod clock;
mod disk;
mod storage;
mod tasks;
mod transport;

use std::future::Future;
use std::marker::PhantomData;
use std::time::Duration;

use crate::ids::NodeId;
use crate::runtime::{Host, Runtime};

/// What one part of a check may take. Far more than it needs: on real hardware others share the machine.
pub const GUARD: Duration = Duration::from_secs(60);

/// A world in which members of a runtime can be made.
pub trait World<R: Runtime> {
    /// How much slower than the runtime's timers a member's clock may be: 0.01 for one percent.
    const DRIFT: f64 = 0.0;

    /// Makes a member with an empty data folder, that reaches all others and is reached by them, those made later
    /// included. Each number is made once.
    fn host(&mut self, node: NodeId) -> impl Future<Output = Host<R>>;

    /// Gives a member that has ended in good order another life on the folder that it had. Every part of its earlier
    /// host has been dropped.
    fn restart(&mut self, node: NodeId) -> impl Future<Output = Host<R>>;

    /// Ends a member: from now on nobody answers for it.
    fn stop(&mut self, node: NodeId) -> impl Future<Output = ()>;

    /// Runs a task where a member lives. A panic of the task is passed on.
    fn run<T: Send + 'static>(
        &mut self,
        _node: NodeId,
        task: impl Future<Output = T> + Send + 'static,
    ) -> impl Future<Output = T> {
        let task = R::spawn(task);
        async { task.await.unwrap_or_else(|error| panic!("{error}")) }
    }
}

/// The checks. Each one makes the members that it needs.
#[derive(Debug)]
pub struct Suite<R, W> {
    world: W,
    members: u64,
    runtime: PhantomData<fn() -> R>,
}

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// A suite for the members of a world in which there are none yet.
    pub fn new(world: W) -> Self {
        Suite { world, members: 0, runtime: PhantomData }
    }

    /// Runs every check, in turn.
    pub async fn test_all(&mut self) {
        self.test_tasks().await;
        self.test_clock().await;
        self.test_disk().await;
        self.test_transport().await;
        self.test_storage().await;
    }

    /// Another member.
    async fn member(&mut self) -> (NodeId, Host<R>) {
        self.members += 1;
        let node = NodeId(self.members);
        (node, self.world.host(node).await)
    }

    /// Runs a part of a check where a member lives.
    async fn on<T: Send + 'static>(&mut self, node: NodeId, part: impl Future<Output = T> + Send + 'static) -> T {
        let guarded = async { R::timeout(GUARD, part).await.expect("the check has to end within its guard") };
        self.world.run(node, guarded).await
    }
}
