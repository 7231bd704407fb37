//! openraft's own suite for logs and state machines, on this runtime's disk.

use std::sync::atomic::{AtomicU64, Ordering};

use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite as LogSuite};

use super::{Suite, World};
use crate::compactor::Compactor;
use crate::lease::Deadlines;
use crate::mvcc::{self, Store};
use crate::raft::{LogStore, NodeId, StateMachine, TypeConfig};
use crate::runtime::{Disk, Host, Runtime};
use crate::wal::WalOptions;
use crate::watermark::Stop;

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// The log store and the state machine are what openraft expects of them, on this runtime.
    pub async fn test_storage(&mut self) {
        let (node, Host { disk, .. }) = self.member().await;
        let stores = Stores::<R> { node, disk, made: AtomicU64::new(0) };
        self.on(node, async move {
            LogSuite::test_all(stores).await.unwrap_or_else(|error| panic!("openraft's suite: {error}"));
        })
        .await;
    }
}

/// Makes empty stores, each in a folder of its own.
struct Stores<R: Runtime> {
    node: NodeId,
    disk: R::Disk,
    made: AtomicU64,
}

impl<R: Runtime> StoreBuilder<TypeConfig<R>, LogStore<R>, StateMachine<R>> for Stores<R> {
    async fn build(&self) -> Result<((), LogStore<R>, StateMachine<R>), StorageError<TypeConfig<R>>> {
        let folder = format!("stores-{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.disk.create_dir(&folder).expect("a folder can be made on a sound disk");
        let (wal, store) = (format!("{folder}/wal"), format!("{folder}/store"));
        let log = LogStore::open(self.disk.clone(), &wal, self.node, WalOptions::default());
        let log = log.await.expect("an empty log opens");
        let store = Store::open(&self.disk, &store, mvcc::Options::default()).await.expect("an empty store opens");
        let machine = StateMachine::new(
            self.node,
            store.clone(),
            log.clone(),
            Compactor::start(store, Stop::default()),
            Deadlines::default(),
        );
        Ok(((), log, machine.expect("an empty store has no progress to misread")))
    }
}
