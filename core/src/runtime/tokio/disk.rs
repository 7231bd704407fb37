//! A folder of the file system.
//!
//! Invariants:
//!
//! - One process at a time has the folder: the folder itself is locked until the last handle on it or on one of its
//!   files is gone. The kernel releases the lock of a process that died.
//! - After a failed sync every later sync of that file fails too, through any handle. The kernel tells of a lost page
//!   only once and then counts it as clean, so that a second sync would succeed and prove nothing. To be sure that no
//!   sync slips between the failure and the memory of it, the syncs of a file run one at a time:
//!
//! ```text
//!     sync A:  lock ── fdatasync ── EIO ── remember ── unlock
//!     sync B:             wait ································ lock ── remembered: fail
//! ```
//! - A path cannot leave the folder by its names. Symbolic links are followed, as an operator may have put the WAL on
//!   another device with one.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, DirBuilder, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::AsyncRuntime;

use super::TokioRuntime;
use crate::runtime::{Disk, File};

/// A data folder.
#[derive(Clone)]
pub struct TokioDisk {
    root: Arc<Root>,
}

struct Root {
    path: PathBuf,
    /// The folder itself, locked for as long as it is open.
    _locked: fs::File,
    healths: Mutex<BTreeMap<Inode, Arc<Health>>>,
}

/// A file by its identity, whatever it is called: device and inode.
type Inode = (u64, u64);

/// How a sync of the file has failed, if one has. Locked while one is under way.
type Health = Mutex<Option<Failure>>;

#[derive(Clone)]
struct Failure {
    kind: io::ErrorKind,
    message: String,
}

impl TokioDisk {
    /// Opens a data folder, making it if there is none. `WouldBlock` if it is in use.
    pub fn open(folder: impl AsRef<Path>) -> io::Result<TokioDisk> {
        let path = std::path::absolute(folder.as_ref()).map_err(|error| about("resolve", folder.as_ref(), error))?;
        make_root(&path).map_err(|error| about("create", &path, error))?;
        let locked = fs::File::open(&path).map_err(|error| about("open", &path, error))?;
        locked.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("data folder {} is in use by another process", path.display()),
            ),
            TryLockError::Error(error) => about("lock", &path, error),
        })?;
        Ok(TokioDisk { root: Arc::new(Root { path, _locked: locked, healths: Mutex::default() }) })
    }

    /// The real path of a file in the folder.
    fn file(&self, path: &str) -> io::Result<PathBuf> {
        if path.split('/').all(|name| !matches!(name, "" | "." | "..")) {
            Ok(self.root.path.join(path))
        } else {
            let message = format!("{path:?} is not a path inside of the data folder");
            Err(io::Error::new(io::ErrorKind::InvalidInput, message))
        }
    }

    /// The real path of a directory in the folder. The folder itself is called by the empty path.
    fn dir(&self, path: &str) -> io::Result<PathBuf> {
        if path.is_empty() { Ok(self.root.path.clone()) } else { self.file(path) }
    }

    fn handle(&self, path: PathBuf, file: fs::File, new: bool) -> io::Result<TokioFile> {
        let metadata = file.metadata().map_err(|error| about("inspect", &path, error))?;
        if !metadata.is_file() {
            return Err(about("open", &path, io::Error::from(io::ErrorKind::InvalidInput)));
        }
        let health = self.root.health((metadata.dev(), metadata.ino()), new);
        Ok(TokioFile { open: Arc::new(Open { file, path, health, _root: self.root.clone() }) })
    }
}

impl Root {
    /// The memory of a file's failed sync, shared by all handles on it. A new file begins without the memory of the
    /// one that had its inode before.
    fn health(&self, inode: Inode, new: bool) -> Arc<Health> {
        let mut healths = unpoisoned(&self.healths);
        if new {
            healths.remove(&inode);
        }
        // Of a file that nobody has open, only a failure is worth keeping.
        healths.retain(|_, health| Arc::strong_count(health) > 1 || unpoisoned(health).is_some());
        healths.entry(inode).or_default().clone()
    }
}

impl fmt::Debug for TokioDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokioDisk").field(&self.root.path).finish()
    }
}

impl Disk for TokioDisk {
    type File = TokioFile;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let path = self.dir(path)?;
        DirBuilder::new().recursive(true).mode(0o700).create(&path).map_err(|error| about("create", &path, error))
    }

    fn create(&self, path: &str) -> io::Result<TokioFile> {
        let path = self.file(path)?;
        let opened = fs::File::options().read(true).write(true).create_new(true).open(&path);
        let file = opened.map_err(|error| about("create", &path, error))?;
        self.handle(path, file, true)
    }

    fn open(&self, path: &str) -> io::Result<TokioFile> {
        let path = self.file(path)?;
        let opened = fs::File::options().read(true).write(true).open(&path);
        let file = opened.map_err(|error| about("open", &path, error))?;
        self.handle(path, file, false)
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let path = self.dir(dir)?;
        let names = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&path)? {
                let name = entry?.file_name().into_string().map_err(|name| {
                    io::Error::new(io::ErrorKind::InvalidData, format!("the name {name:?} is not UTF-8"))
                })?;
                names.push(name);
            }
            names.sort();
            Ok(names)
        };
        names().map_err(|error| about("list", &path, error))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let (from, to) = (self.file(from)?, self.file(to)?);
        fs::rename(&from, &to).map_err(|error| {
            io::Error::new(error.kind(), format!("rename {} to {}: {error}", from.display(), to.display()))
        })
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let path = self.file(path)?;
        fs::remove_file(&path).map_err(|error| about("remove", &path, error))
    }

    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>> + Send {
        let (path, root) = (self.dir(dir), self.root.clone());
        in_background(move || {
            let path = path?;
            let synced = sync_dir(&path).map_err(|error| about("sync", &path, error));
            // Until here the folder stays locked, though the caller may have given up.
            drop(root);
            synced
        })
    }
}

/// An open file of a [`TokioDisk`].
pub struct TokioFile {
    open: Arc<Open>,
}

struct Open {
    file: fs::File,
    path: PathBuf,
    health: Arc<Health>,
    /// Keeps the folder locked.
    _root: Arc<Root>,
}

impl Open {
    fn sync(&self) -> io::Result<()> {
        // Data, and of the metadata what is needed to read it back: the size.
        self.sync_with(|| self.file.sync_data())
    }

    fn sync_with(&self, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let mut health = unpoisoned(&self.health);
        if let Some(failure) = &*health {
            let message = format!("an earlier sync has failed, nothing is known of what it lost: {}", failure.message);
            return Err(io::Error::new(failure.kind, message));
        }
        let synced = sync().map_err(|error| about("sync", &self.path, error));
        if let Err(error) = &synced {
            tracing::error!(%error, "sync failed: the file cannot be trusted to reach the medium any more");
            *health = Some(Failure { kind: error.kind(), message: error.to_string() });
        }
        synced
    }
}

impl fmt::Debug for TokioFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TokioFile").field(&self.open.path).finish()
    }
}

impl File for TokioFile {
    fn size(&self) -> io::Result<u64> {
        let metadata = self.open.file.metadata().map_err(|error| about("inspect", &self.open.path, error))?;
        Ok(metadata.len())
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.open.file.set_len(size).map_err(|error| about(&format!("set size {size} of"), &self.open.path, error))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let length = buf.len();
        let read = self.open.file.read_exact_at(buf, offset);
        read.map_err(|error| about(&format!("read {length} bytes at {offset} of"), &self.open.path, error))
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let length = data.len();
        let written = self.open.file.write_all_at(data, offset);
        written.map_err(|error| about(&format!("write {length} bytes at {offset} of"), &self.open.path, error))
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send {
        let open = self.open.clone();
        in_background(move || open.sync())
    }

    fn barrier(&self) -> io::Result<()> {
        self.open.sync()
    }

    /// Nothing is left to wait for: the barrier has synced.
    async fn settle(&self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins with the call, not with the first poll, and goes on if the future is dropped.
fn in_background(
    work: impl FnOnce() -> io::Result<()> + Send + 'static,
) -> impl Future<Output = io::Result<()>> + Send {
    let work = TokioRuntime::spawn_blocking(work);
    async { work.await? }
}

/// Makes the data folder, and its name durable, parents included. Only its owner may look into it.
fn make_root(root: &Path) -> io::Result<()> {
    let missing: Vec<&Path> = root.ancestors().take_while(|dir| !dir.exists()).collect();
    DirBuilder::new().recursive(true).mode(0o700).create(root)?;
    missing.into_iter().filter_map(Path::parent).try_for_each(sync_dir)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}

/// The same error, saying what was done to which file.
fn about(operation: &str, path: &Path, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{operation} {}: {error}", path.display()))
}

/// A panic of another thread leaves these plain values whole.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk() -> (tempfile::TempDir, TokioDisk) {
        let folder = tempfile::tempdir().unwrap();
        let disk = TokioDisk::open(folder.path().join("a/member")).unwrap();
        (folder, disk)
    }

    #[test]
    fn a_second_process_is_refused_until_the_last_handle_is_gone() {
        let (folder, disk) = disk();
        let path = folder.path().join("a/member");
        let file = disk.create("log").unwrap();
        drop(disk);
        let refused = TokioDisk::open(&path).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        assert!(refused.to_string().contains("a/member is in use"), "{refused}");
        drop(file);
        assert_eq!(TokioDisk::open(&path).unwrap().list("").unwrap(), ["log"]);
    }

    #[test]
    fn errors_name_the_file_and_the_operation() {
        let (_folder, disk) = disk();
        let missing = disk.open("wal/0001").unwrap_err();
        assert!(missing.to_string().contains("open ") && missing.to_string().contains("/wal/0001"), "{missing}");
        let file = disk.create("log").unwrap();
        let short = file.read_at(7, &mut [0; 3]).unwrap_err();
        assert!(short.to_string().contains("read 3 bytes at 7 of "), "{short}");
    }

    #[test]
    fn a_failed_sync_is_never_forgotten() {
        let (_folder, disk) = disk();
        let file = disk.create("log").unwrap();
        let other = disk.create("other").unwrap();
        assert!(file.barrier().is_ok());
        let failed = file.open.sync_with(|| Err(io::Error::from(io::ErrorKind::StorageFull))).unwrap_err();
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(failed.to_string().contains("/log"), "{failed}");

        let again = file.barrier().unwrap_err();
        assert_eq!(again.kind(), io::ErrorKind::StorageFull);
        assert!(again.to_string().contains("earlier sync"), "{again}");
        drop(file);
        assert!(disk.open("log").unwrap().barrier().is_err(), "a new handle knows of it too");
        assert!(other.barrier().is_ok(), "other files are not touched by it");

        disk.remove("log").unwrap();
        assert!(disk.create("log").unwrap().barrier().is_ok(), "a new file of the name is another file");
    }

    #[test]
    fn memories_of_closed_healthy_files_are_dropped() {
        let (_folder, disk) = disk();
        for name in 0..20 {
            drop(disk.create(&name.to_string()).unwrap());
        }
        assert_eq!(unpoisoned(&disk.root.healths).len(), 1);
    }
}
