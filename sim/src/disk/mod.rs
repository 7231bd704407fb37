//! A member's simulated disk: POSIX with its traps, and a power switch.
//!
//! [`SimDisk`] is the medium: it outlives the member. [`DiskHandle`] is the folder as one incarnation of the member has
//! it. What the member wrote and did not sync is at the mercy of [`SimDisk::crash`]: each sector is kept, lost or torn by
//! the disk's own random stream, and so are names. The writes before a [`barrier`](seedbed_core::runtime::File::barrier) that is whole on the
//! medium are whole; behind the one that is not, nothing is.
//!
//! A killed member's futures are dropped when madsim gets to them, and their drop code may still write. So a crash closes
//! an *epoch*: every handle of an earlier one fails and changes nothing.
//!
//! Nothing here runs by itself. What a sync is to make durable is due at some virtual time, and counts as durable from
//! then on, whether or not anybody awaits it.

mod damage;
mod directory;
mod faults;
mod file;
mod handle;
mod sectors;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand_pcg::Pcg64;
use tokio::sync::Notify;

use self::damage::Damage;
use self::directory::{DirId, Entry, FileNode, Names, parse};
pub use self::faults::DiskFault;
use self::faults::{Access, Faults, no_space};
use self::file::FileData;
pub use self::handle::{DiskHandle, FileHandle};
use crate::clock::true_now_ns;
use crate::rng::{Draw, stream};
use crate::runtime::seed;
use crate::trace;

/// When a flight lands that waits for the end of a stall.
const STALLED: u64 = u64::MAX;

/// Linux's number for an input/output error.
const EIO: &str = "input/output error";

/// What an error says that comes from a full disk.
const ENOSPC: &str = "no space";

/// What a disk has done and suffered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Writes to the page cache.
    pub writes: u64,
    /// Bytes of those.
    pub written_bytes: u64,
    /// Syncs, barriers and directory syncs that began.
    pub syncs: u64,
    /// Syncs that a stall held up.
    pub stalled_syncs: u64,
    /// Bytes that reached the medium by one.
    pub synced_bytes: u64,
    /// Syncs that failed.
    pub failed_syncs: u64,
    /// Other operations that failed for a fault of the disk.
    pub failed_operations: u64,
    /// Those among them that failed with an input/output error.
    pub io_errors: u64,
    /// Those among them that found no space.
    pub no_space: u64,
    /// Operations that a slow disk has made longer.
    pub slowed: u64,
    /// Rots and misdirected writes.
    pub damaged: u64,
    /// Reads that met what they left behind.
    pub damage_met: u64,
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
    /// What crashes did, by crash.
    pub damage_by_crash: CrashDamage,
}

/// How many crashes did what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CrashDamage {
    /// All of them.
    pub crashes: u64,
    /// Those that found anything unsynced.
    pub unsynced: u64,
    /// Those that lost a sector.
    pub lost: u64,
    /// Those that tore a sector.
    pub torn: u64,
    /// Those that undid a change of a name.
    pub names_lost: u64,
}

impl std::ops::AddAssign for CrashDamage {
    fn add_assign(&mut self, other: Self) {
        let CrashDamage { crashes, unsynced, lost, torn, names_lost } = other;
        self.crashes += crashes;
        self.unsynced += unsynced;
        self.lost += lost;
        self.torn += torn;
        self.names_lost += names_lost;
    }
}

impl DiskStats {
    /// How many errors faults of the disk have caused.
    pub fn errors(&self) -> u64 {
        self.failed_syncs + self.failed_operations
    }
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
    faults: Faults,
    damage: Damage,
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
        let delay = self.delays.between(least * 1000, most.max(least) * 1000) + self.faults.pay();
        self.stats.stalled_syncs += u64::from(self.stalled);
        if self.stalled { STALLED } else { now_ns + delay }
    }

    /// Lands what is due in this file.
    fn advance(&mut self, node: &FileNode, file: &mut FileData, now_ns: u64) {
        while file.is_due(now_ns) {
            self.misdirect(node, file);
            self.stats.synced_bytes += file.land();
        }
    }

    fn advance_all(&mut self, now_ns: u64) {
        self.names.advance(now_ns);
        for file in self.names.files() {
            self.advance(&file, &mut data(&file), now_ns);
        }
    }

    fn sync_fails(&mut self) -> bool {
        let fails = self.broken || self.failing_syncs > 0 || self.faults.fails(Access::Sync);
        self.failing_syncs = self.failing_syncs.saturating_sub(1);
        self.stats.syncs += 1;
        self.stats.failed_syncs += u64::from(fails);
        fails
    }

    fn reserve(&mut self, bytes: u64, id: u64, path: &str) -> io::Result<()> {
        if self.capacity.is_some_and(|capacity| self.used + bytes > capacity) || self.faults.full && bytes > 0 {
            return Err(self.no_space(format!("disk {id}: {path}: {ENOSPC} for {bytes} more bytes")));
        }
        self.used += bytes;
        Ok(())
    }

    /// Fails if the disk is full: something new is to be made.
    fn reserve_name(&mut self, id: u64, path: &str) -> io::Result<()> {
        if self.faults.full {
            return Err(self.no_space(format!("disk {id}: {path}: {ENOSPC} for another file")));
        }
        Ok(())
    }

    fn no_space(&mut self, message: String) -> io::Error {
        self.stats.failed_operations += 1;
        self.stats.no_space += 1;
        no_space(message)
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
            faults: Faults::new(seed(), id),
            damage: Damage::new(seed(), id),
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
        state.damage.forget();
        state.epoch += 1;
        state.stats.crashes += 1;
        let before = state.stats;
        let crashes = &mut state.crashes;
        state.stats.names_lost += state.names.crash(|changes| crashes.between(0, changes));
        state.used = 0;
        for file in state.names.files() {
            let mut file = data(&file);
            file.crash(&mut state.crashes, &mut state.stats);
            state.used += file.size() as u64;
        }
        let DiskStats { sectors_kept, sectors_lost, sectors_torn, names_lost, .. } = state.stats;
        let more = |now: u64, before: u64| u64::from(now > before);
        state.stats.damage_by_crash += CrashDamage {
            crashes: 1,
            unsynced: more(
                sectors_kept + sectors_lost + sectors_torn + names_lost,
                before.sectors_kept + before.sectors_lost + before.sectors_torn + before.names_lost,
            ),
            lost: more(sectors_lost, before.sectors_lost),
            torn: more(sectors_torn, before.sectors_torn),
            names_lost: more(names_lost, before.names_lost),
        };
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
        let (delays, held_up) = (&mut state.delays, &mut state.stats.stalled_syncs);
        let mut due = || {
            *held_up += u64::from(stalled);
            if stalled { STALLED } else { now + delays.between(least * 1000, most.max(least) * 1000) }
        };
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

    /// What is wrong from now on; nothing, if there is nothing in it. Of several of one kind the last counts.
    pub fn set_faults(&self, faults: impl IntoIterator<Item = DiskFault>) {
        self.shared.lock().faults.set(faults);
    }

    /// Whether an error's text is that of a fault of this disk.
    pub fn caused(&self, error: &str) -> bool {
        error.contains(&format!("disk {}: ", self.shared.id)) && (error.contains(EIO) || error.contains(ENOSPC))
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
        match self.shared.find(&state, path)? {
            Entry::File(file) if data(&file).flip(offset as usize, mask) => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::NotFound, format!("{path} has no byte {offset} on the medium"))),
        }
    }

    /// What the medium holds of a file that has this name in the cache.
    pub fn durable(&self, path: &str) -> Option<Vec<u8>> {
        let mut state = self.shared.lock();
        state.advance_all(true_now_ns());
        match self.shared.find(&state, path) {
            Ok(Entry::File(file)) => Some(data(&file).durable().to_vec()),
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

impl Shared {
    /// Fails if the handle's process has died.
    fn alive(&self, state: &State, epoch: u64) -> io::Result<()> {
        if state.epoch != epoch {
            return Err(io::Error::other(format!("disk {}: the process that opened it has died", self.id)));
        }
        Ok(())
    }

    /// The state, for an operation on `path` by a handle of `epoch`.
    fn enter(&self, epoch: u64, path: &str, access: Access) -> io::Result<MutexGuard<'_, State>> {
        let mut guard = self.lock();
        self.alive(&guard, epoch)?;
        let state = &mut *guard;
        state.faults.delay(access, &mut state.stats);
        // A sync fails by itself, when its pages are known.
        if state.broken || access != Access::Sync && state.faults.fails(access) {
            trace::record("disk-error", &[self.id, trace::digest(path.as_bytes())]);
            state.stats.failed_operations += 1;
            state.stats.io_errors += 1;
            return Err(io::Error::other(format!("disk {}: {path}: {EIO}", self.id)));
        }
        Ok(guard)
    }

    fn missing(&self, path: &str) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("disk {}: {path}: not found", self.id))
    }

    fn names<'a>(&self, path: &'a str) -> io::Result<Vec<&'a str>> {
        parse(path).ok_or_else(|| {
            let message = format!("disk {}: `{path}` is not a path inside of the folder", self.id);
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })
    }

    /// What a path stands for.
    fn find(&self, state: &State, path: &str) -> io::Result<Entry> {
        state.names.find(&self.names(path)?).ok_or_else(|| self.missing(path))
    }

    /// The directory that holds the last name of a path, and that name.
    fn parent<'a>(&self, state: &State, path: &'a str) -> io::Result<(DirId, &'a str)> {
        let names = self.names(path)?;
        let Some((&name, above)) = names.split_last() else {
            let message = format!("disk {}: the folder itself is not a file", self.id);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        };
        match state.names.find(above) {
            Some(Entry::Dir(dir)) => Ok((dir, name)),
            _ => Err(self.missing(path)),
        }
    }
}

#[cfg(test)]
mod tests;
