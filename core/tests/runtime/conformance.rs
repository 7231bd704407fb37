//! The suite that judges runtimes is judged: each contract is broken on purpose, and the check of it must notice.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use openraft::{AsyncRuntime, OptionalSend};
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::conformance::{Suite, World};
use seedbed_core::runtime::tokio::{TokioClock, TokioDisk, TokioFile, TokioRuntime, TokioTransport};
use seedbed_core::runtime::{
    Clock, Disk, File, Handler, Host, NoCrashPoints, NoMutants, NoProbe, Runtime, Transport, TransportError,
};

/// What is wrong with the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    ClockGoesBack,
    ClockIsSlow,
    WallIsUnset,
    ListUnsorted,
    CreateTakesOver,
    OpenCreates,
    RenameKeeps,
    PathEscapes,
    ReadPadsWithZeros,
    CutIsIgnored,
    WriteSplitsWrongly,
    SyncFailsTogether,
    ReplyFromBefore,
    AskerUnknown,
    LargeIsCut,
    FirstHandlerStays,
    AnswersWithoutMember,
    HandlerDies,
}

#[derive(Debug)]
struct Faulty;

/// tokio's tasks and timers, unchanged.
impl AsyncRuntime for Faulty {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = <TokioRuntime as AsyncRuntime>::ThreadLocalRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(deadline: Self::Instant, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        TokioRuntime::thread_rng()
    }

    fn new(_threads: usize) -> Self {
        Faulty
    }

    fn block_on<F: Future<Output = T>, T>(&mut self, future: F) -> T {
        TokioRuntime::new(2).block_on(future)
    }
}

impl Runtime for Faulty {
    type Clock = FaultyClock;
    type Disk = FaultyDisk;
    type Transport = FaultyTransport;
    type Mutants = NoMutants;
    type Probe = NoProbe;
    type CrashPoints = NoCrashPoints;
}

#[derive(Clone, Debug)]
struct FaultyClock {
    fault: Fault,
    readings: Arc<AtomicU64>,
    origin: Duration,
}

impl Clock for FaultyClock {
    fn monotonic(&self) -> Duration {
        let passed = TokioClock.monotonic() - self.origin;
        match self.fault {
            Fault::ClockGoesBack if self.readings.fetch_add(1, Ordering::Relaxed) % 64 == 63 => passed / 2,
            Fault::ClockIsSlow => passed / 2,
            _ => passed,
        }
    }

    fn wall(&self) -> Duration {
        if self.fault == Fault::WallIsUnset { self.monotonic() } else { TokioClock.wall() }
    }
}

#[derive(Clone, Debug)]
struct FaultyDisk {
    fault: Fault,
    real: TokioDisk,
}

impl FaultyDisk {
    fn file(&self, real: TokioFile) -> FaultyFile {
        FaultyFile { fault: self.fault, syncs: Arc::default(), real }
    }

    fn path<'a>(&self, path: &'a str) -> &'a str {
        if self.fault == Fault::PathEscapes { path.trim_start_matches('/') } else { path }
    }
}

impl Disk for FaultyDisk {
    type File = FaultyFile;

    fn create_dir(&self, path: &str) -> io::Result<()> {
        self.real.create_dir(path)
    }

    fn create(&self, path: &str) -> io::Result<FaultyFile> {
        if self.fault == Fault::CreateTakesOver && self.real.remove(path).is_ok() {
            return self.create(path);
        }
        self.real.create(path).map(|real| self.file(real))
    }

    fn open(&self, path: &str) -> io::Result<FaultyFile> {
        let path = self.path(path);
        let opened = self.real.open(path);
        let opened = if self.fault == Fault::OpenCreates { opened.or_else(|_| self.real.create(path)) } else { opened };
        opened.map(|real| self.file(real))
    }

    fn list(&self, dir: &str) -> io::Result<Vec<String>> {
        let mut names = self.real.list(dir)?;
        if self.fault == Fault::ListUnsorted {
            names.sort_by_key(|name| name.to_lowercase());
        }
        Ok(names)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        if self.fault == Fault::RenameKeeps && self.real.open(to).is_ok() {
            return self.real.remove(from);
        }
        self.real.rename(from, to)
    }

    fn remove(&self, path: &str) -> io::Result<()> {
        self.real.remove(path)
    }

    fn sync_dir(&self, dir: &str) -> impl Future<Output = io::Result<()>> + Send {
        self.real.sync_dir(dir)
    }
}

#[derive(Debug)]
struct FaultyFile {
    fault: Fault,
    syncs: Arc<AtomicU64>,
    real: TokioFile,
}

impl File for FaultyFile {
    fn size(&self) -> io::Result<u64> {
        self.real.size()
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        if self.fault == Fault::CutIsIgnored && size < self.real.size()? { Ok(()) } else { self.real.set_size(size) }
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let read = self.real.read_at(offset, buf);
        if self.fault == Fault::ReadPadsWithZeros { read.or(Ok(())) } else { read }
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        // A write across a sector's border stops there.
        let end = usize::try_from(512 - offset % 512).unwrap_or(0).min(data.len());
        let data = if self.fault == Fault::WriteSplitsWrongly { &data[..end] } else { data };
        self.real.write_at(offset, data)
    }

    async fn sync(&self) -> io::Result<()> {
        let before = self.syncs.fetch_add(1, Ordering::SeqCst);
        let synced = self.real.sync().await;
        let together = before > 0;
        self.syncs.fetch_sub(1, Ordering::SeqCst);
        if together && self.fault == Fault::SyncFailsTogether { Err(io::Error::other("busy")) } else { synced }
    }

    fn barrier(&self) -> io::Result<()> {
        self.real.barrier()
    }

    fn settle(&self) -> impl Future<Output = io::Result<()>> + Send {
        self.real.settle()
    }
}

#[derive(Clone, Debug)]
struct FaultyTransport {
    fault: Fault,
    served: Arc<AtomicU64>,
    before: Arc<std::sync::Mutex<Option<Bytes>>>,
    real: TokioTransport,
}

impl Transport for FaultyTransport {
    async fn call(&self, to: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let reply = self.real.call(to, request.clone()).await;
        match self.fault {
            Fault::ReplyFromBefore => {
                let reply = reply?;
                Ok(self.before.lock().expect("nobody panics").replace(reply.clone()).unwrap_or(reply))
            }
            Fault::LargeIsCut => reply.map(|reply| reply.slice(..reply.len().min(1 << 20))),
            Fault::AnswersWithoutMember => reply.or(Ok(request)),
            _ => reply,
        }
    }

    fn serve(&self, handler: Handler) {
        match self.fault {
            Fault::FirstHandlerStays if self.served.fetch_add(1, Ordering::Relaxed) > 0 => {}
            Fault::AskerUnknown => self.real.serve(Arc::new(move |_, request| handler(NodeId(0), request))),
            Fault::HandlerDies => self.real.serve(Arc::new(move |from, request| {
                // Given up as soon as it would wait.
                let answer = handler(from, request);
                async move { answer.now_or_never().unwrap_or_default() }.boxed()
            })),
            _ => self.real.serve(handler),
        }
    }
}

struct FaultyWorld {
    fault: Fault,
    folders: tempfile::TempDir,
    transports: BTreeMap<NodeId, TokioTransport>,
}

impl World<Faulty> for FaultyWorld {
    async fn host(&mut self, node: NodeId) -> Host<Faulty> {
        let real = TokioTransport::bind(node, 1, "127.0.0.1:0", BTreeMap::new()).await.expect("a free port can be had");
        self.transports.insert(node, real.clone());
        let addresses = self.transports.iter().map(|(node, transport)| (*node, transport.local_addr().to_string()));
        let addresses: BTreeMap<NodeId, String> = addresses.collect();
        self.transports.values().for_each(|transport| transport.set_peers(addresses.clone()));
        let disk = TokioDisk::open(self.folders.path().join(node.to_string())).expect("the folder can be opened");
        let fault = self.fault;
        Host {
            clock: FaultyClock { fault, readings: Arc::default(), origin: TokioClock.monotonic() },
            disk: FaultyDisk { fault, real: disk },
            transport: FaultyTransport { fault, served: Arc::default(), before: Arc::default(), real },
        }
    }

    fn restart(&mut self, node: NodeId) -> impl Future<Output = Host<Faulty>> {
        self.host(node)
    }

    async fn stop(&mut self, node: NodeId) {
        self.transports[&node].close();
    }
}

/// Whether a part of the suite finds anything wrong with a world.
fn noticed(fault: Fault, part: impl AsyncFnOnce(&mut Suite<Faulty, FaultyWorld>)) -> bool {
    let folders = tempfile::tempdir().expect("a temporary folder can be made");
    let run = || {
        Faulty.block_on(async {
            part(&mut Suite::new(FaultyWorld { fault, folders, transports: BTreeMap::new() })).await;
        })
    };
    catch_unwind(AssertUnwindSafe(run)).is_err()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    assert!(!noticed(Fault::None, async |suite| suite.test_all().await));
}

macro_rules! noticed_by {
    ($($test:ident: $fault:ident by $check:ident;)*) => {
        $(
            #[test]
            fn $test() {
                assert!(noticed(Fault::$fault, async |suite| suite.$check().await));
            }
        )*
    };
}

noticed_by! {
    a_clock_that_goes_back: ClockGoesBack by monotonic_never_goes_back;
    a_clock_that_is_slow: ClockIsSlow by monotonic_advances_with_sleep;
    a_wall_clock_that_is_unset: WallIsUnset by wall_is_in_this_age;
    names_in_another_order: ListUnsorted by names_are_listed_sorted;
    create_over_a_file: CreateTakesOver by missing_and_taken_names_are_told;
    open_that_creates: OpenCreates by missing_and_taken_names_are_told;
    rename_that_keeps_the_old_file: RenameKeeps by rename_replaces;
    absolute_paths_that_are_taken: PathEscapes by paths_cannot_leave_the_folder;
    reads_past_the_end: ReadPadsWithZeros by reads_past_the_end_fail;
    a_cut_that_is_ignored: CutIsIgnored by gaps_and_extensions_are_zeros;
    a_write_that_stops_at_a_sector: WriteSplitsWrongly by files_behave_like_bytes;
    syncs_that_disturb_each_other: SyncFailsTogether by syncs_and_writes_run_together;
    replies_that_are_mixed_up: ReplyFromBefore by replies_in_any_order_find_their_calls;
    an_asker_who_is_not_told: AskerUnknown by replies_reach_their_askers;
    a_large_reply_that_is_cut: LargeIsCut by large_and_empty_messages_arrive_whole;
    a_handler_that_is_not_replaced: FirstHandlerStays by handlers_are_replaced;
    an_answer_for_an_unknown_member: AnswersWithoutMember by unknown_members_do_not_answer;
    an_answer_for_a_stopped_member: AnswersWithoutMember by stopped_members_do_not_answer;
    a_handler_that_is_given_up: HandlerDies by handlers_end_though_the_asker_has_gone;
}
