//! Giving back what the file has and does not need.
//!
//! Compaction frees pages inside of the file, and the file stays as long as it was. Defragmentation moves what is left
//! to the front and cuts the rest off. As in etcd, nobody reads or writes meanwhile: whoever comes waits, readers at
//! [`Store::reading`], so that no thread stands still. All that was committed is durable afterwards.

use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use openraft::AsyncRuntime;
use redb::CompactionError;

use super::error::StoreError;
use super::store::{Inner, Reading, Store, Writer};
use crate::runtime::Disk;

/// How often it is tried while somebody reads, and how long it is waited in between: in all, longer than most reads.
const TRIES: u32 = 100;
const PAUSE: Duration = Duration::from_millis(10);

impl<D: Disk> Store<D> {
    /// The right to read, until it is dropped. Waits while the file is made shorter; whoever reads without it finds the store
    /// `Busy` then. It must not be kept while waiting for the right to write.
    pub async fn reading(&self) -> Reading {
        Arc::clone(&self.inner.readers).read_owned().await
    }

    /// Makes the file as short as it can be, once `prepare` has succeeded; it is asked before each try. Nothing is
    /// committed from then until the end. Waits for `committed` when all is done and not yet durable.
    ///
    /// # Errors
    /// `Busy`, if somebody reads for too long: the stream of a snapshot, for instance. Nothing has happened then.
    pub async fn defragment<R, E, P, C>(&self, prepare: impl Fn() -> P, committed: impl Fn() -> C) -> Result<(), E>
    where
        R: AsyncRuntime,
        E: From<StoreError>,
        P: Future<Output = Result<(), E>>,
        C: Future<Output = ()>,
    {
        for _ in 0..TRIES {
            let writer = self.inner.writer().await?;
            prepare().await?;
            // Last: nobody who reads waits for the right to write.
            let nobody_reads = self.inner.readers.clone().write_owned().await;
            let inner = self.inner.clone();
            let shorten = move |writer: &mut Writer| {
                let done = inner.shorten(writer);
                drop(nobody_reads);
                done
            };
            let (mut writer, done) = self.inner.apart::<R, _>(writer, shorten).await?;
            if done {
                committed().await;
                self.inner.settle(&mut writer).await?;
                return Ok(());
            }
            drop(writer);
            R::sleep(PAUSE).await;
        }
        Err(StoreError::Busy { path: self.inner.backend.path().to_owned() }.into())
    }
}

impl<D: Disk> Inner<D> {
    /// Whether nobody was reading, so that it could be done.
    fn shorten(&self, writer: &mut Writer) -> Result<bool, StoreError> {
        // It is a reader too.
        drop(self.visible.write().unwrap_or_else(PoisonError::into_inner).view.take());
        let mut db = self.db.write().unwrap_or_else(PoisonError::into_inner);
        let done = match db.compact() {
            Ok(_) => true,
            Err(CompactionError::TransactionInProgress) => false,
            Err(error) => return Err(self.database_error(error)),
        };
        drop(db);
        if done {
            // What it has committed leaves a file that would have to be repaired after a crash.
            let meta = self.visible().meta.clone();
            self.commit_durable(self.begin_durable()?, writer, meta)?;
        }
        self.publish(|_| ())?;
        Ok(done)
    }
}
