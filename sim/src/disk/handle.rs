//! The disk as one incarnation of its member uses it.
//!
//! Every operation passes the fence first: a handle of a process that has died fails and changes nothing. What a sync
//! covers is captured when it is called, not when it is first polled.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use seedbed_core::runtime::{Disk, File};

use super::directory::{DirId, Entry, FileNode, ROOT};
use super::{Access, EIO, STALLED, Shared, State, data};
use crate::clock::true_now_ns;
use crate::runtime::Sleep;
use crate::trace;

/// What a flight belongs to.
#[derive(Debug)]
enum Flying {
    File(Arc<FileNode>),
    Dir(DirId),
}

/// A sync under way.
struct Wait {
    shared: Arc<Shared>,
    epoch: u64,
    flying: Flying,
    ticket: u64,
}

enum Progress {
    Landed,
    Due(u64),
    Stalled,
}

impl Wait {
    async fn landed(self) -> io::Result<()> {
        loop {
            let released = self.shared.released.notified();
            match self.progress()? {
                Progress::Landed => return Ok(()),
                Progress::Due(at_ns) => Sleep::until_true_ns(at_ns).await,
                Progress::Stalled => released.await,
            }
        }
    }

    fn progress(&self) -> io::Result<Progress> {
        let now = true_now_ns();
        let mut state = self.shared.lock();
        self.shared.alive(&state, self.epoch)?;
        let (landed, due_ns) = match &self.flying {
            Flying::File(node) => {
                let mut file = data(node);
                state.advance(node, &mut file, now);
                // The end of a stall frees the files that have a name; one that was removed meanwhile frees itself.
                if !state.stalled && file.due_ns(self.ticket) == STALLED {
                    let due_ns = state.due_ns(now);
                    file.reschedule(|| due_ns);
                }
                (file.landed(self.ticket), file.due_ns(self.ticket))
            }
            Flying::Dir(dir) => {
                state.names.advance(now);
                (state.names.landed(*dir, self.ticket), state.names.due_ns(*dir, self.ticket))
            }
        };
        if landed {
            trace::record("synced", &[self.shared.id, self.ticket]);
            return Ok(Progress::Landed);
        }
        Ok(if due_ns == STALLED { Progress::Stalled } else { Progress::Due(due_ns) })
    }
}

/// A member's data folder, as one incarnation of it has it.
#[derive(Clone, Debug)]
pub struct DiskHandle {
    pub(super) shared: Arc<Shared>,
    pub(super) epoch: u64,
}

impl DiskHandle {
    fn file(&self, file: Arc<FileNode>) -> FileHandle {
        FileHandle { shared: self.shared.clone(), epoch: self.epoch, file }
    }

    fn trace(&self, tag: &'static str, path: &str) {
        trace::record(tag, &[self.shared.id, trace::digest(path.as_bytes())]);
    }
}

impl Disk for DiskHandle {
    type File = FileHandle;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        let mut state = self.shared.enter(self.epoch, path, Access::Write)?;
        self.trace("create-dir", path);
        let mut at = ROOT;
        for name in self.shared.names(path)? {
            at = match state.names.get(at, name) {
                Some(Entry::Dir(dir)) => *dir,
                Some(Entry::File(_)) => {
                    let message = format!("disk {}: {path}: `{name}` is a file", self.shared.id);
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
                }
                None => {
                    state.reserve_name(self.shared.id, path)?;
                    state.names.make_dir(at, name)
                }
            };
        }
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<FileHandle> {
        let mut state = self.shared.enter(self.epoch, path, Access::Write)?;
        self.trace("create", path);
        let (dir, name) = self.shared.parent(&state, path)?;
        if state.names.get(dir, name).is_some() {
            let message = format!("disk {}: {path}: the name is taken", self.shared.id);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        state.reserve_name(self.shared.id, path)?;
        state.inos += 1;
        let file = Arc::new(FileNode { ino: state.inos, path: path.to_owned(), data: Mutex::default() });
        state.names.link(dir, name, Entry::File(file.clone()));
        Ok(self.file(file))
    }

    fn open(&self, path: &str) -> io::Result<FileHandle> {
        let state = self.shared.enter(self.epoch, path, Access::Read)?;
        self.trace("open", path);
        match self.shared.find(&state, path)? {
            Entry::File(file) => Ok(self.file(file)),
            Entry::Dir(_) => {
                let message = format!("disk {}: {path}: is a directory", self.shared.id);
                Err(io::Error::new(io::ErrorKind::IsADirectory, message))
            }
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.shared.enter(self.epoch, dir, Access::Read)?;
        match self.shared.find(&state, dir)? {
            Entry::Dir(id) => Ok(state.names.list(id)),
            Entry::File(_) => Err(self.shared.missing(dir)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.enter(self.epoch, from, Access::Write)?;
        self.trace("rename-from", from);
        self.trace("rename-to", to);
        let (old, new) = (self.shared.parent(&state, from)?, self.shared.parent(&state, to)?);
        match (state.names.get(old.0, old.1), state.names.get(new.0, new.1)) {
            (Some(Entry::File(_)), None) => {}
            (Some(Entry::File(file)), Some(Entry::File(replaced))) if file.ino == replaced.ino => return Ok(()),
            (Some(Entry::File(_)), Some(Entry::File(replaced))) => {
                let freed = data(replaced).size() as u64;
                state.used = state.used.saturating_sub(freed);
            }
            (None, _) => return Err(self.shared.missing(from)),
            (Some(Entry::Dir(_)), _) | (_, Some(Entry::Dir(_))) => {
                let message = format!("disk {}: {from} to {to}: is a directory", self.shared.id);
                return Err(io::Error::new(io::ErrorKind::IsADirectory, message));
            }
        }
        state.names.rename(old, new);
        Ok(())
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut state = self.shared.enter(self.epoch, path, Access::Write)?;
        self.trace("remove", path);
        let (dir, name) = self.shared.parent(&state, path)?;
        match state.names.get(dir, name) {
            Some(Entry::File(file)) => {
                let freed = data(file).size() as u64;
                state.used = state.used.saturating_sub(freed);
                state.names.unlink(dir, name);
                Ok(())
            }
            Some(Entry::Dir(_)) => {
                let message = format!("disk {}: {path}: is a directory", self.shared.id);
                Err(io::Error::new(io::ErrorKind::IsADirectory, message))
            }
            None => Err(self.shared.missing(path)),
        }
    }

    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>> + Send {
        let wait = self.begin_sync_dir(dir);
        async move { wait?.landed().await }
    }
}

impl DiskHandle {
    fn begin_sync_dir(&self, path: &str) -> io::Result<Wait> {
        let mut state = self.shared.enter(self.epoch, path, Access::Sync)?;
        self.trace("sync-dir", path);
        let Entry::Dir(dir) = self.shared.find(&state, path)? else { return Err(self.shared.missing(path)) };
        if state.sync_fails() {
            return Err(io::Error::other(format!("disk {}: {path}: sync: {EIO}", self.shared.id)));
        }
        let now = true_now_ns();
        state.names.advance(now);
        let due_ns = state.due_ns(now);
        let ticket = state.names.capture(dir, due_ns);
        Ok(Wait { shared: self.shared.clone(), epoch: self.epoch, flying: Flying::Dir(dir), ticket })
    }
}

/// An open file of one incarnation of a member.
#[derive(Debug)]
pub struct FileHandle {
    shared: Arc<Shared>,
    epoch: u64,
    file: Arc<FileNode>,
}

impl FileHandle {
    fn enter(&self, access: Access) -> io::Result<MutexGuard<'_, State>> {
        self.shared.enter(self.epoch, &self.file.path, access)
    }

    /// An offset that memory can hold.
    fn place(&self, offset: u64, len: usize) -> io::Result<usize> {
        usize::try_from(offset).ok().filter(|offset| offset.checked_add(len).is_some()).ok_or_else(|| {
            let message = format!("disk {}: {} at {offset}: beyond any file", self.shared.id, self.file.path);
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })
    }

    /// Captures what is dirty. Gives the flight's ticket.
    fn begin_sync(&self, tag: &'static str, barrier: bool) -> io::Result<u64> {
        let mut state = self.enter(Access::Sync)?;
        let mut file = data(&self.file);
        trace::record(tag, &[self.shared.id, self.file.ino]);
        if state.sync_fails() {
            file.drop_cache();
            let message = format!("disk {}: {}: sync: {EIO}", self.shared.id, self.file.path);
            return Err(io::Error::other(message));
        }
        let now = true_now_ns();
        state.advance(&self.file, &mut file, now);
        let due_ns = state.due_ns(now);
        Ok(file.capture(barrier, due_ns))
    }

    fn wait(&self, ticket: u64) -> Wait {
        Wait { shared: self.shared.clone(), epoch: self.epoch, flying: Flying::File(self.file.clone()), ticket }
    }
}

impl File for FileHandle {
    fn size(&self) -> io::Result<u64> {
        let _state = self.enter(Access::Inspect)?;
        Ok(data(&self.file).size() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.enter(Access::Write)?;
        trace::record("set-size", &[self.shared.id, self.file.ino, size]);
        let place = self.place(size, 0)?;
        let mut file = data(&self.file);
        let old = file.size() as u64;
        state.reserve(size.saturating_sub(old), self.shared.id, &self.file.path)?;
        state.used = state.used.saturating_sub(old.saturating_sub(size));
        state.advance(&self.file, &mut file, true_now_ns());
        file.set_size(place);
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let mut state = self.enter(Access::Read)?;
        trace::record("read", &[self.shared.id, self.file.ino, offset, buf.len() as u64]);
        let from = self.place(offset, buf.len())?;
        let file = data(&self.file);
        let Some(bytes) = file.image().get(from..from + buf.len()) else {
            let message = format!(
                "disk {}: {}: {} bytes at {offset} of {}",
                self.shared.id,
                self.file.path,
                buf.len(),
                file.size()
            );
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, message));
        };
        buf.copy_from_slice(bytes);
        state.stats.damage_met += u64::from(file.meets_damage(from, from + buf.len()));
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.enter(Access::Write)?;
        trace::record("write", &[self.shared.id, self.file.ino, offset, bytes.len() as u64, trace::digest(bytes)]);
        let from = self.place(offset, bytes.len())?;
        let mut file = data(&self.file);
        let growth = (from + bytes.len()).saturating_sub(file.size()) as u64;
        state.reserve(growth, self.shared.id, &self.file.path)?;
        state.stats.writes += 1;
        state.stats.written_bytes += bytes.len() as u64;
        file.write(from, bytes);
        Ok(())
    }

    fn sync(&self) -> impl Future<Output = io::Result<()>> + Send {
        let wait = self.begin_sync("sync", false).map(|ticket| self.wait(ticket));
        async move { wait?.landed().await }
    }

    fn barrier(&self) -> io::Result<()> {
        self.begin_sync("barrier", true).map(drop)
    }

    fn settle(&self) -> impl Future<Output = io::Result<()>> + Send {
        let ticket = data(&self.file).last_barrier();
        let wait = self.wait(ticket);
        async move { wait.landed().await }
    }
}
