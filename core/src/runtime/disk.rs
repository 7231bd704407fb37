//! A member's data folder.
//!
//! The model is POSIX's, with its traps left in: a write reaches the page cache and returns; only a sync puts it on the
//! medium; a name (created, renamed, removed) is durable only once its directory has been synced; after a failed sync
//! nothing may be assumed of the unsynced pages, and retrying the sync proves nothing.
//!
//! Paths are relative to the folder, with `/` between names.

use std::fmt::Debug;
use std::future::Future;
use std::io;

/// A folder of files. Cheap to clone; clones are the same folder.
pub trait Disk: Clone + Debug + Send + Sync + 'static {
    /// An open file.
    type File: File;

    /// Makes a directory and its parents; one that exists is left alone.
    fn create_dir(&self, path: &str) -> io::Result<()>;

    /// Makes an empty file and opens it. `AlreadyExists` if the name is taken.
    fn create(&self, path: &str) -> io::Result<Self::File>;

    /// Opens a file for reading and writing. `NotFound` if there is none.
    fn open(&self, path: &str) -> io::Result<Self::File>;

    /// The names of the files and directories directly in a directory, sorted. `NotFound` if there is no such directory.
    fn list(&self, dir: &str) -> io::Result<Vec<String>>;

    /// Gives a file another name, replacing what has it. Atomic: afterwards, and after a crash, the new name is either
    /// the old file or the new one.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Open handles stay readable. `NotFound` if there is none.
    fn remove(&self, path: &str) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>> + Send;
}

/// An open file, read and written at offsets. Shared freely between tasks: no operation moves a cursor.
pub trait File: Debug + Send + Sync + 'static {
    /// The length in bytes.
    fn size(&self) -> io::Result<u64>;

    /// Cuts the file, or extends it with zeros.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Fills `buf` from `offset`. `UnexpectedEof` if the file ends before.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;

    /// Writes all of `data` at `offset`, extending the file as needed. Returns when the page cache has it.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes durable every write and size that returned before this call was made. Writes made meanwhile go on, and
    /// are not covered.
    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send;

    /// For a caller that cannot await: orders every write before it ahead of every write after it on the medium.
    /// The writes may count as durable only after [`settle`](File::settle). May block the thread.
    fn barrier(&self) -> io::Result<()>;

    /// Resolves once every write before the last [`barrier`](File::barrier) is durable.
    fn settle(&self) -> impl Future<Output = io::Result<()>> + Send;
}
