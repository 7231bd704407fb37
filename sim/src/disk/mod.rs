//! A member's simulated disk: POSIX with its traps, and a power switch.
//!
//! [`SimDisk`] is the medium: it outlives the member. [`DiskHandle`] is the folder as one incarnation of the member has
//! it. What the member wrote and did not sync is at the mercy of [`SimDisk::crash`]: each sector is kept, lost or torn by
//! the disk's own random stream, and so are names. The writes before a [`barrier`](File::barrier) that is whole on the
//! medium are whole; behind the one that is not, nothing is.
//!
//! A killed member's futures are dropped when madsim gets to them, and their drop code may still write. So a crash closes
//! an *epoch*: every handle of an earlier one fails and changes nothing.
//!
//! Nothing here runs by itself. What a sync is to make durable is due at some virtual time, and counts as durable from
//! then on, whether or not anybody awaits it.

mod directory;
mod file;
mod sectors;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_pcg::Pcg64;
use seedbed_core::runtime::{Disk, File};
use tokio::sync::Notify;

use self::directory::{DirId, Entry, FileNode, Names, ROOT, parts};
use self::file::FileData;
use crate::clock::true_now_ns;
use crate::rng::{Draw, stream};
use crate::runtime::{Sleep, seed};
use crate::trace;

/// When a flight lands that waits for the end of a stall.
const STALLED: u64 = u64::MAX;

/// Linux's number for an input/output error.
const EIO: &str = "input/output error";

/// What a disk has done and suffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Writes to the page cache.
    pub writes: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Syncs, barriers and directory syncs that began.
    pub syncs: u64,
    /// Bytes that reached the medium by one.
    pub synced_bytes: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Other operations that failed for a fault of the disk.
    pub failed_operations: u64,
    /// Crashes.
    pub crashes: u64,
    /// Unsynced sectors that a crash left as they were written.
    pub sectors_kept: u64,
    /// Unsynced sectors that a crash left as they were before.
    pub sectors_lost: u64,
    /// Unsynced sectors that a crash left half written.
    pub sectors_torn: u64,
    /// Unsynced changes of names that a crash undid.
    pub names_lost: u64,
}

/// The medium of one member. Clones are the same disk.
#[derive(Clone, Debug)]
pub struct SimDisk {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    id: u64,
    state: Mutex<State>,
    /// A stall has ended.
    released: Notify,
}

#[derive(Debug)]
struct State {
    epoch: u64,
    names: Names,
    inos: u64,
    /// Bytes of all files.
    used: u64,
    sync_us: [u64; 2],
    stalled: bool,
    failing_syncs: u32,
    broken: bool,
    capacity: Option<u64>,
    delays: Pcg64,
    crashes: Pcg64,
    stats: DiskStats,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn data(file: &FileNode) -> MutexGuard<'_, FileData> {
    file.data.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    /// When a sync that begins now lands.
    fn due_ns(&mut self, now_ns: u64) -> u64 {
        let [least, most] = self.sync_us;
        let delay = self.delays.between(least * 1000, most.max(least) * 1000);
        if self.stalled { STALLED } else { now_ns + delay }
    }

    /// Lands what is due in this file.
    fn advance(&mut self, file: &mut FileData, now_ns: u64) {
        self.stats.synced_bytes += file.advance(now_ns);
    }

    fn advance_all(&mut self, now_ns: u64) {
        self.names.advance(now_ns);
        for file in self.names.files() {
            self.advance(&mut data(&file), now_ns);
        }
    }

    fn sync_fails(&mut self) -> bool {
        let fails = self.broken || self.failing_syncs > 0;
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        self.stats.syncs += 1;
        self.stats.failed_syncs += u64::from(fails);
        fails
    }

    fn reserve(&mut self, bytes: u64, id: u64, path: &str) -> io::Result<()> {
        if self.capacity.is_some_and(|capacity| self.used + bytes > capacity) {
            self.stats.failed_operations += 1;
            return Err(io::Error::new(
                io::ErrorKind::StorageFull,
                format!("disk {id}: {path}: no space for {bytes} more bytes"),
            ));
        }
        self.used += bytes;
        Ok(())
    }
}

impl SimDisk {
    /// An empty disk of the present run. `id`, the member's number, tells its random streams. A sync takes between
    /// `sync_us` microseconds.
    pub fn new(id: u64, sync_us: [u64; 2]) -> Self {
        let state = State {
            epoch: 1,
            names: Names::new(),
            inos: 0,
            used: 0,
            sync_us,
            stalled: false,
            failing_syncs: 0,
            broken: false,
            capacity: None,
            delays: stream(seed(), "disk/delay", id),
            crashes: stream(seed(), "disk/crash", id),
            stats: DiskStats::default(),
        };
        SimDisk { shared: Arc::new(Shared { id, state: Mutex::new(state), released: Notify::new() }) }
    }

    /// The folder, for the present incarnation of the member: it works until the next [`crash`](SimDisk::crash) or
    /// [`detach`](SimDisk::detach).
    pub fn handle(&self) -> DiskHandle {
        DiskHandle { epoch: self.shared.lock().epoch, shared: self.shared.clone() }
    }

    /// The machine loses power: handles stop working, and what was not synced is kept, lost or torn.
    pub fn crash(&self) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        state.advance_all(true_now_ns());
        state.epoch += 1;
        state.stats.crashes += 1;
        let crashes = &mut state.crashes;
        state.stats.names_lost += state.names.crash(|changes| crashes.between(0, changes));
        state.used = 0;
        for file in state.names.files() {
            let mut file = data(&file);
            file.crash(&mut state.crashes, &mut state.stats);
            state.used += file.size() as u64;
        }
        let DiskStats { sectors_kept, sectors_lost, sectors_torn, names_lost, .. } = state.stats;
        trace::record("disk-crash", &[self.shared.id, sectors_kept, sectors_lost, sectors_torn, names_lost]);
    }

    /// The process dies and the machine lives on: handles stop working, and nothing is lost.
    pub fn detach(&self) {
        self.shared.lock().epoch += 1;
        trace::record("disk-detach", &[self.shared.id]);
    }

    /// From now on, a sync takes between so many microseconds.
    pub fn set_sync_us(&self, sync_us: [u64; 2]) {
        self.shared.lock().sync_us = sync_us;
    }

    /// While stalled, no sync ends. Those under way when the stall ends take their time anew.
    pub fn set_stalled(&self, stalled: bool) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if state.stalled == stalled {
            return;
        }
        let now = true_now_ns();
        state.advance_all(now);
        state.stalled = stalled;
        let [least, most] = state.sync_us;
        let delays = &mut state.delays;
        let mut due = || if stalled { STALLED } else { now + delays.between(least * 1000, most.max(least) * 1000) };
        state.names.reschedule(&mut due);
        for file in state.names.files() {
            data(&file).reschedule(&mut due);
        }
        self.shared.released.notify_waiters();
    }

    /// The next so many syncs and barriers fail, and the pages that they were to write back are gone from the cache.
    pub fn fail_syncs(&self, syncs: u32) {
        self.shared.lock().failing_syncs = syncs;
    }

    /// While broken, every operation on the disk fails.
    pub fn set_broken(&self, broken: bool) {
        self.shared.lock().broken = broken;
    }

    /// The most bytes that all files together may have. A write beyond fails.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.shared.lock().capacity = bytes;
    }

    /// Flips the bits of `mask` in one byte on the medium. `NotFound` if no file has that byte there.
    pub fn corrupt(&self, path: &str, offset: u64, mask: u8) -> io::Result<()> {
        let mut state = self.shared.lock();
        state.advance_all(true_now_ns());
        match state.names.find(path) {
            Some(Entry::File(file)) if data(&file).corrupt(offset as usize, mask) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{path} has no byte {offset} on the medium"))),
        }
    }

    /// What the medium holds of a file that has this name in the cache.
    pub fn durable(&self, path: &str) -> Option<Vec<u8>> {
        let mut state = self.shared.lock();
        state.advance_all(true_now_ns());
        match state.names.find(path) {
            Some(Entry::File(file)) => Some(data(&file).durable().to_vec()),
            _ => None,
        }
    }

    /// How much a crash could lose now: sectors, sizes and changes of names that are not durable.
    pub fn unsynced(&self) -> u64 {
        let mut state = self.shared.lock();
        state.advance_all(true_now_ns());
        state.names.unsynced() + state.names.files().iter().map(|file| data(file).unsynced()).sum::<u64>()
    }

    /// What the disk has done so far.
    pub fn stats(&self) -> DiskStats {
        self.shared.lock().stats
    }
}

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
            Flying::File(file) => {
                let mut file = data(file);
                state.advance(&mut file, now);
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

impl Shared {
    /// Fails if the handle's process has died.
    fn alive(&self, state: &State, epoch: u64) -> io::Result<()> {
        if state.epoch != epoch {
            return Err(io::Error::other(format!("disk {}: the process that opened it has died", self.id)));
        }
        Ok(())
    }

    /// The state, for an operation on `path` by a handle of `epoch`.
    fn enter(&self, epoch: u64, path: &str) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        self.alive(&state, epoch)?;
        if state.broken {
            state.stats.failed_operations += 1;
            return Err(io::Error::other(format!("disk {}: {path}: {EIO}", self.id)));
        }
        Ok(state)
    }

    fn missing(&self, path: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("disk {}: {path}: not found", self.id))
    }

    /// The directory that holds the last name of a path, and that name.
    fn parent<'a>(&self, state: &State, path: &'a str) -> io::Result<(DirId, &'a str)> {
        let name = parts(path).last().filter(|name| *name != "..").ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, format!("disk {}: `{path}` names no file", self.id))
        })?;
        let above = path.trim_end_matches(['/', '.']).strip_suffix(name).unwrap_or("");
        match state.names.find(above) {
            Some(Entry::Dir(dir)) => Ok((dir, name)),
            _ => Err(self.missing(above)),
        }
    }
}

/// A member's data folder, as one incarnation of it has it.
#[derive(Clone, Debug)]
pub struct DiskHandle {
    shared: Arc<Shared>,
    epoch: u64,
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
        let mut state = self.shared.enter(self.epoch, path)?;
        self.trace("create-dir", path);
        let mut at = ROOT;
        for name in parts(path) {
            at = match state.names.get(at, name) {
                Some(Entry::Dir(dir)) => *dir,
                Some(Entry::File(_)) => {
                    let message = format!("disk {}: {path}: `{name}` is a file", self.shared.id);
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, message));
                }
                None => state.names.make_dir(at, name),
            };
        }
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<FileHandle> {
        let mut state = self.shared.enter(self.epoch, path)?;
        self.trace("create", path);
        let (dir, name) = self.shared.parent(&state, path)?;
        if state.names.get(dir, name).is_some() {
            let message = format!("disk {}: {path}: the name is taken", self.shared.id);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        state.inos += 1;
        let file = Arc::new(FileNode { ino: state.inos, path: path.to_owned(), data: Mutex::default() });
        state.names.link(dir, name, Entry::File(file.clone()));
        Ok(self.file(file))
    }

    fn open(&self, path: &str) -> io::Result<FileHandle> {
        let state = self.shared.enter(self.epoch, path)?;
        self.trace("open", path);
        match state.names.find(path) {
            Some(Entry::File(file)) => Ok(self.file(file)),
            Some(Entry::Dir(_)) => {
                let message = format!("disk {}: {path}: is a directory", self.shared.id);
                Err(io::Error::new(io::ErrorKind::IsADirectory, message))
            }
            None => Err(self.shared.missing(path)),
        }
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let state = self.shared.enter(self.epoch, dir)?;
        match state.names.find(dir) {
            Some(Entry::Dir(id)) => Ok(state.names.list(id)),
            _ => Err(self.shared.missing(dir)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.shared.enter(self.epoch, from)?;
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
        let mut state = self.shared.enter(self.epoch, path)?;
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
        let mut state = self.shared.enter(self.epoch, path)?;
        self.trace("sync-dir", path);
        let Some(Entry::Dir(dir)) = state.names.find(path) else { return Err(self.shared.missing(path)) };
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
    fn enter(&self) -> io::Result<MutexGuard<'_, State>> {
        self.shared.enter(self.epoch, &self.file.path)
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
        let mut state = self.enter()?;
        let mut file = data(&self.file);
        trace::record(tag, &[self.shared.id, self.file.ino]);
        if state.sync_fails() {
            file.drop_cache();
            let message = format!("disk {}: {}: sync: {EIO}", self.shared.id, self.file.path);
            return Err(io::Error::other(message));
        }
        let now = true_now_ns();
        state.advance(&mut file, now);
        let due_ns = state.due_ns(now);
        Ok(file.capture(barrier, due_ns))
    }

    fn wait(&self, ticket: u64) -> Wait {
        Wait { shared: self.shared.clone(), epoch: self.epoch, flying: Flying::File(self.file.clone()), ticket }
    }
}

impl File for FileHandle {
    fn size(&self) -> io::Result<u64> {
        let _state = self.enter()?;
        Ok(data(&self.file).size() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        let mut state = self.enter()?;
        trace::record("set-size", &[self.shared.id, self.file.ino, size]);
        let place = self.place(size, 0)?;
        let mut file = data(&self.file);
        let old = file.size() as u64;
        state.reserve(size.saturating_sub(old), self.shared.id, &self.file.path)?;
        state.used = state.used.saturating_sub(old.saturating_sub(size));
        state.advance(&mut file, true_now_ns());
        file.set_size(place);
        Ok(())
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let _state = self.enter()?;
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
        Ok(())
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.enter()?;
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

#[cfg(test)]
mod tests;
