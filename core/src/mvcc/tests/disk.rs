//! A disk in memory that can crash and fail.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use crate::runtime::{Disk, File};

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<Contents>>);

/// Names count as durable at once: the store's use of them is tested by counting syncs of folders.
#[derive(Debug, Default)]
struct Contents {
    dirs: BTreeSet<String>,
    files: BTreeMap<String, MemoryFile>,
    synced_dirs: BTreeSet<String>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct MemoryFile(Arc<Mutex<Image>>);

#[derive(Debug, Default)]
struct Image {
    current: Vec<u8>,
    durable: Vec<u8>,
    /// What was done since the last barrier.
    pending: Vec<Change>,
    failing: Option<Failing>,
    /// Whether syncs take until this is over.
    held: bool,
    waiting: bool,
    operations: u64,
}

#[derive(Clone, Debug)]
enum Change {
    Write(u64, Vec<u8>),
    Size(u64),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Failing {
    Barrier,
    Settle,
    Write,
    Read,
    /// Every write and barrier, from this operation on.
    From(u64),
}

impl Change {
    fn apply(&self, image: &mut Vec<u8>) {
        match self {
            Change::Write(offset, data) => {
                let (start, end) = (*offset as usize, *offset as usize + data.len());
                image.resize(image.len().max(end), 0);
                image[start..end].copy_from_slice(data);
            }
            Change::Size(size) => image.resize(*size as usize, 0),
        }
    }
}

impl MemoryDisk {
    fn lock(&self) -> MutexGuard<'_, Contents> {
        self.0.lock().unwrap()
    }

    /// The disk after a crash in which each change since the last barrier was kept or lost.
    pub(super) fn crashed(&self, mut keep: impl FnMut() -> bool) -> MemoryDisk {
        let contents = self.lock();
        let files = contents.files.iter().map(|(path, file)| {
            let image = file.0.lock().unwrap();
            let mut durable = image.durable.clone();
            for change in image.pending.iter().filter(|_| keep()) {
                change.apply(&mut durable);
            }
            let image = Image { current: durable.clone(), durable, ..Image::default() };
            (path.clone(), MemoryFile(Arc::new(Mutex::new(image))))
        });
        let contents =
            Contents { dirs: contents.dirs.clone(), files: files.collect(), synced_dirs: contents.synced_dirs.clone() };
        MemoryDisk(Arc::new(Mutex::new(contents)))
    }

    pub(super) fn fail(&self, path: &str, failing: Failing) {
        self.lock().files[path].0.lock().unwrap().failing = Some(failing);
    }

    /// Lets syncs of a file take until they are released.
    pub(super) fn hold(&self, path: &str, held: bool) {
        self.lock().files[path].0.lock().unwrap().held = held;
    }

    /// Whether anyone has waited for a sync of a file that is held.
    pub(super) fn waiting(&self, path: &str) -> bool {
        self.lock().files[path].0.lock().unwrap().waiting
    }

    /// How often a file was written to, resized or synced.
    pub(super) fn operations(&self, path: &str) -> u64 {
        self.lock().files[path].0.lock().unwrap().operations
    }

    /// The folders that have been synced since the last call.
    pub(super) fn take_synced_dirs(&self) -> BTreeSet<String> {
        std::mem::take(&mut self.lock().synced_dirs)
    }

    pub(super) fn flip(&self, path: &str, find: &[u8]) {
        let file = self.lock().files[path].clone();
        let mut image = file.0.lock().unwrap();
        let mut found = 0;
        for at in 0..image.current.len() - find.len() {
            if image.current[at..].starts_with(find) {
                image.current[at] ^= 1;
                found += 1;
            }
        }
        assert!(found > 0);
        image.durable = image.current.clone();
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.lock().dirs.insert(path.to_owned());
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<MemoryFile> {
        let mut contents = self.lock();
        assert!(path.rsplit_once('/').is_none_or(|(dir, _)| contents.dirs.contains(dir)), "{path} has no folder");
        if contents.files.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        Ok(contents.files.entry(path.to_owned()).or_default().clone())
    }

    fn open(&self, path: &str) -> io::Result<MemoryFile> {
        self.lock().files.get(path).cloned().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let prefix = format!("{dir}/");
        Ok(self.lock().files.keys().filter_map(|path| path.strip_prefix(&prefix)).map(str::to_owned).collect())
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut contents = self.lock();
        let file = contents.files.remove(from).ok_or(io::ErrorKind::NotFound)?;
        contents.files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.lock().files.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        self.lock().synced_dirs.insert(dir.to_owned());
        Ok(())
    }
}

impl MemoryFile {
    fn image(&self, failing: Failing) -> io::Result<MutexGuard<'_, Image>> {
        let image = self.0.lock().unwrap();
        let over = matches!(image.failing, Some(Failing::From(nth)) if image.operations >= nth);
        let broken = image.failing == Some(failing) || over && matches!(failing, Failing::Write | Failing::Barrier);
        if broken { Err(io::Error::other("the disk is broken")) } else { Ok(image) }
    }

    fn change(&self, change: Change) -> io::Result<()> {
        let mut image = self.image(Failing::Write)?;
        image.operations += 1;
        change.apply(&mut image.current);
        image.pending.push(change);
        Ok(())
    }
}

impl File for MemoryFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().current.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.change(Change::Size(size))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let image = self.image(Failing::Read)?;
        let offset = offset as usize;
        let read = image.current.get(offset..offset + buf.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(read);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.change(Change::Write(offset, data.to_vec()))
    }

    async fn sync(&self) -> io::Result<()> {
        self.barrier()?;
        self.settle().await
    }

    fn barrier(&self) -> io::Result<()> {
        let mut image = self.image(Failing::Barrier)?;
        image.operations += 1;
        let Image { pending, durable, .. } = &mut *image;
        for change in pending.drain(..) {
            change.apply(durable);
        }
        Ok(())
    }

    async fn settle(&self) -> io::Result<()> {
        poll_fn(|context| {
            let mut image = self.image(Failing::Settle)?;
            image.waiting |= image.held;
            if image.held {
                context.waker().wake_by_ref();
                return Poll::Pending;
            }
            Poll::Ready(Ok(()))
        })
        .await
    }
}
