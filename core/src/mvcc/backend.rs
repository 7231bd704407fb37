//! The database's file, over a member's disk.
//!
//! The database writes and syncs without awaiting. A sync of its is a [barrier](File::barrier) here, after which it
//! believes its writes durable; whoever made it sync awaits [`Backend::settle`] before anything is built on that.
//!
//! The first failure is final. After a failed sync the pages that it should have saved may be gone, though the file
//! still serves older ones, so no later success means anything. The same switch keeps a database that is merely dropped
//! from writing: what was not made durable is the log's to repeat.
//!
//! A page that is read is held against what it was when it was last seen ([`PageSums`]): damage that comes while the
//! database is open is a failure like any other, which names the page.

use std::fmt;
use std::io;
use std::sync::{Arc, OnceLock};

use redb::StorageBackend;

use super::error::StoreError;
use super::page_sums::{PAGE_BYTES, PageSums};
use crate::runtime::File;

/// A file, and why it may not be used any more.
pub(crate) struct Backend<F> {
    file: F,
    path: String,
    failure: OnceLock<String>,
    sums: PageSums,
}

impl<F: File> Backend<F> {
    pub(crate) fn new(file: F, path: String) -> Arc<Self> {
        Arc::new(Backend { file, path, failure: OnceLock::new(), sums: PageSums::default() })
    }

    /// Cuts a growth of the file that a crash has left half done: the database only ever makes it whole pages long, and
    /// refuses any other length. Nothing durable lies beyond the last whole page.
    pub(crate) fn trim(&self) -> Result<(), StoreError> {
        let io_error = |operation| {
            let path = self.path.clone();
            move |source| StoreError::Io { operation, path, source }
        };
        let size = self.file.size().map_err(io_error("size"))?;
        let beyond = size % PAGE_BYTES as u64;
        if beyond > 0 {
            tracing::warn!(path = self.path, size, "the file ends within a page, as after a crash: cut");
            self.file.set_size(size - beyond).map_err(io_error("resize"))?;
        }
        Ok(())
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// Bytes of the file.
    pub(crate) fn size(&self) -> Result<u64, StoreError> {
        self.check()?;
        self.file.size().map_err(|source| StoreError::Io { operation: "inspect", path: self.path.clone(), source })
    }

    /// Fails if anything has failed before.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.failure.get() {
            None => Ok(()),
            Some(cause) => Err(StoreError::Failed { path: self.path.clone(), cause: cause.clone() }),
        }
    }

    /// What has failed first, if anything has.
    pub(crate) fn failure(&self) -> Option<&str> {
        self.failure.get().map(String::as_str)
    }

    /// Makes every later operation fail. Only the first cause is kept.
    pub(crate) fn fail(&self, cause: impl fmt::Display) {
        self.failure.get_or_init(|| cause.to_string());
    }

    /// Waits until all that was synced is durable.
    pub(crate) async fn settle(&self) -> Result<(), StoreError> {
        self.check()?;
        self.file.settle().await.map_err(|source| {
            self.fail(format_args!("sync failed: {source}"));
            StoreError::Io { operation: "sync", path: self.path.clone(), source }
        })
    }

    /// A database error as the store's, with the cause that the database itself does not remember.
    pub(crate) fn database_error(&self, error: impl Into<redb::Error>) -> StoreError {
        match (self.failure.get(), error.into()) {
            (Some(cause), redb::Error::PreviousIo) => {
                StoreError::Failed { path: self.path.clone(), cause: cause.clone() }
            }
            (_, source) => {
                self.fail(&source);
                StoreError::Database { path: self.path.clone(), source: Box::new(source) }
            }
        }
    }

    pub(crate) fn damaged(&self, what: impl fmt::Display) -> StoreError {
        self.fail(&what);
        StoreError::Damaged { path: self.path.clone(), what: what.to_string() }
    }

    fn guarded<T>(&self, operation: &str, offset: Option<u64>, run: impl FnOnce(&F) -> io::Result<T>) -> io::Result<T> {
        if let Some(cause) = self.failure.get() {
            return Err(io::Error::other(cause.clone()));
        }
        run(&self.file).inspect_err(|error| match offset {
            Some(offset) => self.fail(format_args!("{operation} at byte {offset} failed: {error}")),
            None => self.fail(format_args!("{operation} failed: {error}")),
        })
    }
}

impl<F> fmt::Debug for Backend<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backend").field("path", &self.path).field("failure", &self.failure).finish()
    }
}

/// The database's handle on its file. Locks are left unsupported: the data folder belongs to one member.
#[derive(Debug)]
pub(crate) struct Handle<F>(pub(crate) Arc<Backend<F>>);

impl<F: File> StorageBackend for Handle<F> {
    fn len(&self) -> io::Result<u64> {
        self.0.guarded("size", None, F::size)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.guarded("read", Some(offset), |file| {
            file.read_at(offset, out)?;
            self.0.sums.read(offset, out)
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.guarded("resize", None, |file| file.set_size(len))?;
        self.0.sums.resize(len);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.guarded("sync", None, F::barrier)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.guarded("write", Some(offset), |file| file.write_at(offset, data))?;
        self.0.sums.written(offset, data);
        Ok(())
    }
}
