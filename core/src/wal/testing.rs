//! A runtime and a disk for tests: nothing in them depends on the machine, and everything on a seed.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::future::Future;
use std::io;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use openraft::OptionalSend;
use openraft::async_runtime::AsyncRuntime;

use super::segment::SECTOR;
use crate::ids::NodeId;
use crate::runtime::{
    Clock, Disk, File, Handler, Mutants, NoCrashPoints, NoMutants, NoProbe, Probe, Runtime, Transport, TransportError,
};

type Base = openraft_rt_tokio::TokioRuntime;

/// One thread, and no time: a sleep ends once the other tasks have had a few turns.
pub(crate) struct TestRuntime<M = NoMutants, P = NoProbe> {
    tokio: tokio::runtime::Runtime,
    types: PhantomData<fn() -> (M, P)>,
}

impl<M, P> fmt::Debug for TestRuntime<M, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestRuntime")
    }
}

/// Ends after some turns.
pub(crate) struct Turns(u32);

impl Turns {
    /// Lets every task that can run have its turn.
    pub(crate) fn new(turns: u32) -> Self {
        Turns(turns)
    }
}

impl Future for Turns {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.0 == 0 {
            return Poll::Ready(());
        }
        self.0 -= 1;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<M: Mutants, P: Probe> AsyncRuntime for TestRuntime<M, P> {
    type JoinError = <Base as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <Base as AsyncRuntime>::JoinHandle<T>;
    type Sleep = Turns;
    type Instant = <Base as AsyncRuntime>::Instant;
    type TimeoutError = <Base as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <Base as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <Base as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <Base as AsyncRuntime>::Mpsc;
    type Watch = <Base as AsyncRuntime>::Watch;
    type Oneshot = <Base as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <Base as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        Base::spawn(future)
    }

    fn sleep(_: Duration) -> Turns {
        Turns(100)
    }

    fn sleep_until(_: Self::Instant) -> Turns {
        Turns(100)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        Base::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        Base::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        Base::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        Base::thread_rng()
    }

    fn new(_: usize) -> Self {
        let tokio = tokio::runtime::Builder::new_current_thread().build().expect("a runtime without drivers");
        TestRuntime { tokio, types: PhantomData }
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.tokio.block_on(future)
    }
}

impl<M: Mutants, P: Probe> Runtime for TestRuntime<M, P> {
    type Clock = NoClock;
    type Disk = FakeDisk;
    type Transport = NoTransport;
    type Mutants = M;
    type Probe = P;
    type CrashPoints = NoCrashPoints;
}

#[derive(Clone, Debug)]
pub(crate) enum NoClock {}

impl Clock for NoClock {
    fn monotonic(&self) -> Duration {
        match *self {}
    }

    fn wall(&self) -> Duration {
        match *self {}
    }
}

#[derive(Clone, Debug)]
pub(crate) enum NoTransport {}

impl Transport for NoTransport {
    async fn call(&self, _: NodeId, _: Bytes) -> Result<Bytes, TransportError> {
        match *self {}
    }

    fn serve(&self, _: Handler) {
        match *self {}
    }
}

/// Random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.draw() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A disk in memory, with a page cache that a power cut destroys by the sector.
#[derive(Clone)]
pub(crate) struct FakeDisk {
    machine: Arc<Mutex<Machine>>,
}

#[derive(Clone)]
struct Machine {
    random: Random,
    directories: BTreeSet<String>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    files: Vec<Contents>,
    /// Operations that may still be done before the power goes.
    power: Option<u64>,
    /// Whether syncs wait.
    held: bool,
    fail_next_sync: bool,
}

#[derive(Clone, Default)]
struct Contents {
    cache: Vec<u8>,
    durable: Vec<u8>,
    /// The sectors whose cache differs, and when they were written.
    dirty: BTreeMap<usize, u64>,
    resized: Option<u64>,
    clock: u64,
}

impl fmt::Debug for FakeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FakeDisk")
    }
}

impl FakeDisk {
    pub(crate) fn new(seed: u64) -> Self {
        FakeDisk::of(Machine {
            random: Random(seed),
            directories: BTreeSet::from([String::new()]),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            files: Vec::new(),
            power: None,
            held: false,
            fail_next_sync: false,
        })
    }

    fn of(machine: Machine) -> Self {
        FakeDisk { machine: Arc::new(Mutex::new(machine)) }
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().expect("nothing panics while it holds the disk")
    }

    /// Another disk with the same contents.
    pub(crate) fn fork(&self) -> Self {
        FakeDisk::of(self.lock().clone())
    }

    /// The power goes during the operation after `operations` more.
    pub(crate) fn cut_power_after(&self, operations: u64) {
        self.lock().power = Some(operations);
    }

    pub(crate) fn has_power(&self) -> bool {
        self.lock().power != Some(0)
    }

    /// Lets syncs wait until they are let go.
    pub(crate) fn hold_syncs(&self, held: bool) {
        self.lock().held = held;
    }

    /// The next sync fails, and the cache is gone.
    pub(crate) fn fail_next_sync(&self) {
        self.lock().fail_next_sync = true;
    }

    /// What is left of the disk when the power goes now.
    pub(crate) fn crash(&self) -> FakeDisk {
        let mut machine = self.lock().clone();
        let Machine { random, names, durable_names, files, .. } = &mut machine;
        let all: BTreeSet<String> = names.keys().chain(durable_names.keys()).cloned().collect();
        let mut survivors = BTreeMap::new();
        for name in all {
            let (volatile, durable) = (names.get(&name), durable_names.get(&name));
            if let Some(&file) = if volatile == durable || random.one_in(2) { volatile } else { durable } {
                survivors.insert(name, file);
            }
        }
        for file in files.iter_mut() {
            file.crash(random);
        }
        machine.names = survivors.clone();
        machine.durable_names = survivors;
        machine.power = None;
        machine.held = false;
        machine.fail_next_sync = false;
        FakeDisk::of(machine)
    }

    /// Every file and its length.
    pub(crate) fn files(&self) -> Vec<(String, usize)> {
        let machine = self.lock();
        machine.names.iter().map(|(name, &file)| (name.clone(), machine.files[file].cache.len())).collect()
    }

    /// Flips a bit of a file, as rot does.
    pub(crate) fn flip(&self, path: &str, bit: usize) {
        let mut machine = self.lock();
        let file = machine.names[path];
        let Contents { cache, durable, .. } = &mut machine.files[file];
        for bytes in [cache, durable] {
            if let Some(byte) = bytes.get_mut(bit / 8) {
                *byte ^= 1 << (bit % 8);
            }
        }
    }
}

impl Contents {
    fn touch(&mut self, from: usize, to: usize) {
        self.clock += 1;
        for sector in from / SECTOR..to.div_ceil(SECTOR) {
            self.dirty.insert(sector, self.clock);
        }
    }

    fn resize(&mut self, size: usize) {
        if size != self.cache.len() {
            self.cache.resize(size, 0);
            self.clock += 1;
            self.resized = Some(self.clock);
            self.dirty.retain(|&sector, _| sector * SECTOR < size);
        }
    }

    fn sync(&mut self, upto: u64) {
        if self.resized.is_some_and(|at| at <= upto) {
            self.resized = None;
        }
        // A size that grew since is not covered, but its zeros harm nobody.
        self.durable.resize(self.cache.len(), 0);
        let Contents { cache, durable, dirty, .. } = self;
        dirty.retain(|&sector, &mut at| {
            if at <= upto {
                let range = sector * SECTOR..((sector + 1) * SECTOR).min(cache.len());
                durable[range.clone()].copy_from_slice(&cache[range]);
            }
            at > upto
        });
    }

    fn lose(&mut self) {
        self.cache = self.durable.clone();
        self.dirty.clear();
        self.resized = None;
    }

    fn crash(&mut self, random: &mut Random) {
        if self.resized.is_some() {
            let (old, new) = (self.durable.len(), self.cache.len());
            let size = match random.below(3) {
                0 => old,
                1 => new,
                _ => old.min(new) + random.below(old.abs_diff(new) as u64 + 1) as usize,
            };
            self.durable.resize(size, 0);
        }
        for &sector in self.dirty.keys() {
            let start = sector * SECTOR;
            let end = (start + SECTOR).min(self.cache.len()).min(self.durable.len());
            if start >= end {
                continue;
            }
            match random.below(8) {
                0..3 => self.durable[start..end].copy_from_slice(&self.cache[start..end]),
                3..6 => {}
                6 => {
                    let torn = start + random.below((end - start) as u64 + 1) as usize;
                    self.durable[start..torn].copy_from_slice(&self.cache[start..torn]);
                }
                _ => self.durable[start..end].fill_with(|| random.draw() as u8),
            }
        }
        self.lose();
    }
}

impl Machine {
    /// Counts an operation that changes something. Whether one that the power cut interrupts takes place is open.
    fn step(&mut self, operation: impl FnOnce(&mut Self)) -> io::Result<()> {
        let last = match &mut self.power {
            None => false,
            Some(0) => return Err(power_is_off()),
            Some(left) => {
                *left -= 1;
                *left == 0
            }
        };
        if !last || self.random.one_in(2) {
            operation(self);
        }
        if last { Err(power_is_off()) } else { Ok(()) }
    }
}

fn power_is_off() -> io::Error {
    io::Error::other("the power is off")
}

fn not_found(path: &str) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no {path}"))
}

impl Disk for FakeDisk {
    type File = FakeFile;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.lock().directories.insert(path.to_owned());
        Ok(())
    }

    fn create(&self, path: &str) -> io::Result<FakeFile> {
        let mut machine = self.lock();
        if machine.names.contains_key(path) {
            return Err(io::ErrorKind::AlreadyExists.into());
        }
        let index = machine.files.len();
        machine.files.push(Contents::default());
        machine.step(|machine| {
            machine.names.insert(path.to_owned(), index);
        })?;
        Ok(FakeFile { disk: self.clone(), index })
    }

    fn open(&self, path: &str) -> io::Result<FakeFile> {
        let index = *self.lock().names.get(path).ok_or_else(|| not_found(path))?;
        Ok(FakeFile { disk: self.clone(), index })
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let machine = self.lock();
        if !machine.directories.contains(dir) {
            return Err(not_found(dir));
        }
        let inside = |name: &String| name.strip_prefix(dir)?.strip_prefix('/').map(str::to_owned);
        Ok(machine.names.keys().filter_map(inside).collect())
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<()> {
        unreachable!("the log renames nothing")
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        let mut machine = self.lock();
        if !machine.names.contains_key(path) {
            return Err(not_found(path));
        }
        machine.step(|machine| {
            machine.names.remove(path);
        })
    }

    async fn sync_dir(&self, dir: &str) -> io::Result<()> {
        let turns = self.lock().random.below(3) as u32;
        Turns(turns).await;
        let mut machine = self.lock();
        if !machine.directories.contains(dir) {
            return Err(not_found(dir));
        }
        machine.step(|machine| machine.durable_names = machine.names.clone())
    }
}

#[derive(Debug)]
pub(crate) struct FakeFile {
    disk: FakeDisk,
    index: usize,
}

impl File for FakeFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.disk.lock().files[self.index].cache.len() as u64)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.disk.lock().step(|machine| machine.files[self.index].resize(size as usize))
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let machine = self.disk.lock();
        let range = offset as usize..offset as usize + buf.len();
        let bytes = machine.files[self.index].cache.get(range).ok_or(io::ErrorKind::UnexpectedEof)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.disk.lock().step(|machine| {
            let file = &mut machine.files[self.index];
            let (from, to) = (offset as usize, offset as usize + data.len());
            file.resize(file.cache.len().max(to));
            file.cache[from..to].copy_from_slice(data);
            file.touch(from, to);
        })
    }

    async fn sync(&self) -> io::Result<()> {
        let (turns, upto) = {
            let mut machine = self.disk.lock();
            (machine.random.below(4) as u32, machine.files[self.index].clock)
        };
        Turns(turns).await;
        while self.disk.lock().held {
            Turns(1).await;
        }
        let mut machine = self.disk.lock();
        if std::mem::take(&mut machine.fail_next_sync) {
            machine.files[self.index].lose();
            return Err(io::Error::other("the sync failed"));
        }
        machine.step(|machine| machine.files[self.index].sync(upto))
    }

    fn barrier(&self) -> io::Result<()> {
        unreachable!("the log can await")
    }

    async fn settle(&self) -> io::Result<()> {
        unreachable!("the log can await")
    }
}
