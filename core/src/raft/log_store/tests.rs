//! openraft's suite, and what it does not ask.

use std::sync::atomic::{AtomicU64, Ordering};

use futures_util::{Stream, TryStreamExt};
use openraft::alias::{SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::async_runtime::{AsyncRuntime, Oneshot};
use openraft::storage::{EntryResponder, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{EntryPayload, StorageError};

use super::*;
use crate::proto::etcdserverpb::PutRequest;
use crate::raft::{Command, Request};
use crate::runtime::{Mutant, Mutants, NoMutants};
use crate::wal::testing::{FakeDisk, TestRuntime, Turns};

type Rt = TestRuntime;
type Config<R = Rt> = TypeConfig<R>;

const NODE: NodeId = NodeId(3);

async fn open<R: Runtime<Disk = FakeDisk>>(disk: &FakeDisk) -> LogStore<R> {
    LogStore::open(disk.clone(), "wal", NODE, WalOptions::default()).await.expect("nothing is damaged")
}

fn id<R: Runtime>(term: u64, index: u64) -> LogIdOf<Config<R>> {
    id_out::<R>(LogId { term, index })
}

fn put<R: Runtime>(term: u64, index: u64, value: &[u8]) -> Entry<R> {
    let put = PutRequest { key: b"key".as_slice().into(), value: value.to_vec().into(), ..PutRequest::default() };
    let command = Command::new(index, Request::Put(put));
    openraft::Entry { log_id: id::<R>(term, index), payload: EntryPayload::Normal(command) }
}

fn vote(term: u64, candidate: u64, committed: bool) -> VoteOf<Config> {
    let leader_id = openraft::impls::leader_id_std::LeaderId { term, voted_for: NodeId(candidate) };
    openraft::Vote { leader_id, committed }
}

/// A state machine that keeps nothing but the place it has reached.
#[derive(Clone, Debug, Default)]
struct Place {
    applied: Option<LogIdOf<Config>>,
    membership: StoredMembershipOf<Config>,
    snapshot: Arc<Mutex<Option<SnapshotMetaOf<Config>>>>,
}

impl RaftSnapshotBuilder<Config> for Place {
    type SnapshotData = ();

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<Config, ()>, io::Error> {
        let meta = SnapshotMetaOf::<Config> { last_log_id: self.applied, last_membership: self.membership.clone() };
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(SnapshotOf::<Config, ()> { meta, snapshot: () })
    }
}

impl RaftStateMachine<Config> for Place {
    type SnapshotData = ();
    type SnapshotBuilder = Place;

    async fn applied_state(&mut self) -> Result<(Option<LogIdOf<Config>>, StoredMembershipOf<Config>), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Config>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, _)) = entries.try_next().await? {
            self.applied = Some(entry.log_id);
            if let EntryPayload::Membership(membership) = entry.payload {
                self.membership = StoredMembershipOf::<Config>::new(self.applied, membership);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Place {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMetaOf<Config>, (): ()) -> Result<(), io::Error> {
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        *self.snapshot.lock().unwrap() = Some(meta.clone());
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<Config, ()>>, io::Error> {
        let meta = self.snapshot.lock().unwrap().clone();
        Ok(meta.map(|meta| SnapshotOf::<Config, ()> { meta, snapshot: () }))
    }
}

struct Builder;

impl StoreBuilder<Config, LogStore<Rt>, Place> for Builder {
    async fn build(&self) -> Result<((), LogStore<Rt>, Place), StorageError<Config>> {
        Ok(((), open(&FakeDisk::new(1)).await, Place::default()))
    }
}

#[test]
fn openrafts_suite_passes() {
    Rt::run(async { Suite::test_all(Builder).await.expect("the suite passes") });
}

#[test]
fn a_reopened_log_is_the_one_that_was_closed() {
    Rt::run(async {
        let disk = FakeDisk::new(1);
        let mut store = open::<Rt>(&disk).await;
        store.save_vote(&vote(1, 3, true)).await.expect("the disk works");
        let entries: Vec<_> = (1..=5).map(|index| put::<Rt>(1, index, &[index as u8; 100])).collect();
        store.blocking_append(entries.clone()).await.expect("the disk works");
        store.save_vote(&vote(2, 2, false)).await.expect("the disk works");
        store.truncate_after(Some(id::<Rt>(1, 4))).await.expect("5 is there");
        store.blocking_append([put::<Rt>(2, 5, b"another")]).await.expect("it follows");
        store.save_committed(Some(id::<Rt>(2, 5))).await.expect("the log is open");
        store.purge(id::<Rt>(1, 2)).await.expect("2 is there");
        store.close().await.expect("the disk works");
        assert!(store.save_vote(&vote(9, 9, false)).await.is_err(), "it is closed");
        drop(store);

        let mut store = open::<Rt>(&disk).await;
        let mut reader = store.get_log_reader().await;
        assert_eq!(Some(vote(2, 2, false)), reader.read_vote().await.expect("in memory"));
        assert_eq!(Some(id::<Rt>(2, 5)), store.read_committed().await.expect("in memory"));
        let state = store.get_log_state().await.expect("in memory");
        assert_eq!((Some(id::<Rt>(1, 2)), Some(id::<Rt>(2, 5))), (state.last_purged_log_id, state.last_log_id));
        let found = reader.try_get_log_entries(..).await.expect("in memory");
        assert_eq!([&entries[2..4], &[put::<Rt>(2, 5, b"another")]].concat(), found);
    });
}

#[test]
fn a_read_is_bounded_in_bytes_but_never_empty() {
    Rt::run(async {
        let mut store = open::<Rt>(&FakeDisk::new(1)).await;
        let large = vec![1; READ_BYTES_MAX * 2 / 5];
        let sizes = [&large[..], &large, &large, &[2; READ_BYTES_MAX * 2], &large];
        let entries = (1..).zip(sizes).map(|(index, value)| put::<Rt>(1, index, value));
        store.blocking_append(entries.collect::<Vec<_>>()).await.expect("the disk works");
        let mut reader = store.get_log_reader().await;
        let mut lengths = Vec::new();
        for start in [1, 3, 4, 5] {
            lengths.push(reader.limited_get_log_entries(start, 6).await.expect("in memory").len());
        }
        assert_eq!([2, 1, 1, 1], lengths[..]);
    });
}

#[test]
fn a_payload_that_makes_no_sense_is_refused_naming_file_and_offset() {
    Rt::run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = Wal::<Rt>::open(disk.clone(), "wal", NODE, WalOptions::default()).await.expect("a fresh disk");
        wal.append([Record::Entry(LogId { term: 1, index: 1 }, [0xff; 9].as_slice())], |_| ())
            .expect("the log is open");
        wal.close().await.expect("the disk works");
        let refused = LogStore::<Rt>::open(disk, "wal", NODE, WalOptions::default()).await.map(drop);
        let Err(WalError::Damaged { file, offset, reason }) = refused else { panic!("{refused:?}") };
        assert_eq!(("wal/0000000000000001.wal", 512), (file.as_str(), offset));
        assert!(reason.starts_with("entry 1.1: "), "{reason}");
    });
}

enum AckBeforeFsync {}

impl Mutants for AckBeforeFsync {
    fn active(mutant: Mutant) -> bool {
        mutant == Mutant::AckBeforeFsync
    }
}

/// Whether an append is reported as flushed while its sync is under way.
fn is_told_before_the_sync<M: Mutants>() -> bool {
    TestRuntime::<M>::run(async {
        let disk = FakeDisk::new(1);
        let mut store = open::<TestRuntime<M>>(&disk).await;
        disk.hold_syncs(true);
        let (tx, mut rx) = <TestRuntime<M> as AsyncRuntime>::Oneshot::channel();
        store.append([put::<TestRuntime<M>>(1, 1, b"value")], IOFlushed::signal(tx)).await.expect("the log is open");
        Turns::new(50).await;
        let mut reader = store.get_log_reader().await;
        assert_eq!(1, reader.try_get_log_entries(1..2).await.expect("in memory").len(), "readable at once");
        let told = rx.try_recv().is_ok();
        disk.hold_syncs(false);
        Turns::new(50).await;
        assert!(told || rx.await.expect("told in the end").is_ok());
        told
    })
}

#[test]
fn entries_are_flushed_after_the_sync_unless_that_bug_is_planted() {
    assert!(!is_told_before_the_sync::<NoMutants>());
    assert!(is_told_before_the_sync::<AckBeforeFsync>());
}

static VOTES: Mutex<Vec<(NodeId, u64, NodeId, bool)>> = Mutex::new(Vec::new());

enum Listener {}

impl Probe for Listener {
    fn voted(node: NodeId, term: u64, candidate: NodeId, committed: bool) {
        VOTES.lock().unwrap().push((node, term, candidate, committed));
    }
}

#[test]
fn a_vote_is_reported_and_readable_once_it_is_durable() {
    type Probed = TestRuntime<NoMutants, Listener>;
    Probed::run(async {
        let disk = FakeDisk::new(1);
        let mut store = open::<Probed>(&disk).await;
        let mut reader = store.get_log_reader().await;
        disk.hold_syncs(true);
        let mut voter = store.clone();
        let vote = openraft::Vote { leader_id: vote(7, 5, true).leader_id, committed: true };
        let voted = Probed::spawn(async move { voter.save_vote(&vote).await });
        Turns::new(50).await;
        assert_eq!(None, reader.read_vote().await.expect("in memory"));
        assert!(VOTES.lock().unwrap().is_empty());
        disk.hold_syncs(false);
        voted.await.expect("it does not panic").expect("the disk works");
        assert_eq!(Some(vote), reader.read_vote().await.expect("in memory"));
        assert_eq!([(NODE, 7, NodeId(5), true)], VOTES.lock().unwrap()[..]);
    });
}

/// How many syncs it takes to append as many entries by so many tasks.
fn syncs_for(entries: u64, appenders: u64) -> u64 {
    Rt::run(async move {
        let store = open::<Rt>(&FakeDisk::new(1)).await;
        let next = Arc::new(AtomicU64::new(1));
        let appender = || {
            let (mut store, next) = (store.clone(), next.clone());
            async move {
                for _ in 0..entries / appenders {
                    let index = next.fetch_add(1, Ordering::SeqCst);
                    store.blocking_append([put::<Rt>(1, index, &[7; 128])]).await.expect("the disk works");
                }
            }
        };
        let tasks: Vec<_> = (0..appenders).map(|_| Rt::spawn(appender())).collect();
        for task in tasks {
            task.await.expect("it does not panic");
        }
        assert_eq!(entries, store.stats().records);
        store.stats().syncs
    })
}

#[test]
fn many_appenders_share_a_sync() {
    assert_eq!(512, syncs_for(512, 1));
    assert_eq!(512 / 64, syncs_for(512, 64));
}
