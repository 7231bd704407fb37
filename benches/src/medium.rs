//! Where a bench's files are.
//!
//! Both media go through the same system calls and threads. So [`Medium::Disk`] tells what a user waits for, and
//! [`Medium::Memory`] how much of that is not the disk.

use std::fmt;
use std::io;
use std::path::Path;

use seedbed_core::runtime::tokio::TokioDisk;
use tempfile::TempDir;

/// What the files of a bench are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Medium {
    /// The disk that the build is on: a sync is a real one.
    Disk,
    /// A file system in memory: a sync costs a system call, and no waiting.
    Memory,
}

impl Medium {
    /// Both of them.
    pub const ALL: [Medium; 2] = [Medium::Memory, Medium::Disk];

    fn parent(self) -> &'static Path {
        match self {
            // Not the system's folder for temporary files, which may be in memory.
            Medium::Disk => Path::new(env!("CARGO_MANIFEST_DIR")),
            Medium::Memory => Path::new("/dev/shm"),
        }
    }

    /// A new folder, which is removed when it is dropped.
    ///
    /// # Errors
    /// The file system's.
    pub fn temporary(self) -> io::Result<TempDir> {
        let parent = self.parent();
        tempfile::Builder::new().prefix(".bench-").tempdir_in(parent).map_err(|error| {
            io::Error::new(error.kind(), format!("no folder for the bench in {}: {error}", parent.display()))
        })
    }

    /// A new data folder.
    ///
    /// # Errors
    /// The file system's.
    pub fn folder(self) -> io::Result<Folder> {
        let temporary = self.temporary()?;
        let disk = TokioDisk::open(temporary.path())?;
        Ok(Folder { disk, _temporary: temporary })
    }
}

impl fmt::Display for Medium {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Medium::Disk => "disk",
            Medium::Memory => "memory",
        })
    }
}

/// A data folder that is removed when it is dropped.
#[derive(Debug)]
pub struct Folder {
    /// The folder, as a member has it.
    pub disk: TokioDisk,
    _temporary: TempDir,
}

#[cfg(test)]
mod tests {
    use seedbed_core::runtime::Disk;

    use super::*;

    #[test]
    fn a_folder_is_usable_and_leaves_nothing_behind() {
        for medium in Medium::ALL {
            let folder = medium.folder().unwrap();
            let path = folder._temporary.path().to_owned();
            folder.disk.create("file").unwrap();
            assert!(path.starts_with(medium.parent()) && path.join("file").exists());
            drop(folder);
            assert!(!path.exists());
        }
    }
}
