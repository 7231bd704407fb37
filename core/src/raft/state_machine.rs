//! openraft's state machine: the multi-version store.
//!
//! One store transaction for each batch of entries, and the applied index goes with the data in it. The transaction is
//! not durable by itself: what a crash takes back is applied again from the WAL, which keeps everything above the
//! applied index of the last durable commit. A snapshot begins with such a commit.

use std::io;
use std::time::Duration;

use futures_util::{Stream, TryStreamExt};
use openraft::storage::{EntryResponder, RaftStateMachine, Snapshot};
use openraft::type_config::alias::{SnapshotMetaOf, SnapshotOf};
use openraft::{EntryPayload, RaftSnapshotBuilder};
use serde::{Deserialize, Serialize};

use super::command::{LeaseRest, Reply, Request};
use super::log_store::LogStore;
use super::message::{decode, encode};
use super::snapshot::SnapshotData;
use super::type_config::TypeConfig;
use super::{LogId, StoredMembership};
use crate::compactor::Compactor;
use crate::ids::{NodeId, Term};
use crate::lease::Deadlines;
use crate::mvcc::{ApplyError, Batch, Refusal, Store, StoreError};
use crate::proto::etcdserverpb::LeaseRevokeRequest;
use crate::runtime::{AppliedEntry, Change, CrashPoint, CrashPoints, LeaseChange, Mutant, Mutants, Probe, Runtime};
use crate::watermark::Watermark;

/// How much of a view is copied at once.
const PIECE_BYTES: usize = 256 << 10;

/// The name under which the store keeps how far it has applied the log.
const APPLIED: &str = "applied";

/// How far the store has applied the log, and the members as of there.
#[derive(Debug, Serialize, Deserialize)]
#[serde(bound = "")]
struct Progress<R: Runtime> {
    log_id: Option<LogId<R>>,
    membership: StoredMembership<R>,
    /// Where the last snapshot that was installed ended. The log need not reach as far: it was replaced as well.
    installed: Option<LogId<R>>,
}

impl<R: Runtime> Clone for Progress<R> {
    fn clone(&self) -> Self {
        Progress { log_id: self.log_id, membership: self.membership.clone(), installed: self.installed }
    }
}

impl<R: Runtime> Default for Progress<R> {
    fn default() -> Self {
        Progress { log_id: None, membership: StoredMembership::<R>::default(), installed: None }
    }
}

impl<R: Runtime> Progress<R> {
    fn read(encoded: Option<bytes::Bytes>) -> io::Result<Self> {
        match encoded {
            None => Ok(Progress::default()),
            Some(encoded) => decode(&encoded).map_err(io::Error::other),
        }
    }

    fn index(&self) -> u64 {
        self.log_id.as_ref().map_or(0, |log_id| log_id.index())
    }
}

/// The store, as raft sees it.
pub struct StateMachine<R: Runtime> {
    node: NodeId,
    store: Store<R::Disk>,
    log: LogStore<R>,
    applied: Watermark,
    progress: Progress<R>,
    compactor: Compactor<R>,
    deadlines: Deadlines<R>,
}

impl<R: Runtime> StateMachine<R> {
    /// The state machine of the member `node`, over a store and the log that fills it.
    pub(crate) fn new(
        node: NodeId,
        store: Store<R::Disk>,
        log: LogStore<R>,
        compactor: Compactor<R>,
        deadlines: Deadlines<R>,
    ) -> io::Result<Self> {
        let progress = Progress::<R>::read(store.meta(APPLIED)?)?;
        let applied = Watermark::new(progress.index());
        Ok(StateMachine { node, store, log, applied, progress, compactor, deadlines })
    }

    /// The index of the last applied entry.
    pub(crate) fn last_applied(&self) -> Option<u64> {
        self.progress.log_id.as_ref().map(|log_id| log_id.index())
    }

    /// The index of the last applied entry that only the log can have brought: none, if a snapshot was installed last.
    pub(crate) fn replayed(&self) -> Option<u64> {
        let Progress { log_id, installed, .. } = &self.progress;
        log_id.as_ref().filter(|_| log_id != installed).map(|log_id| log_id.index())
    }

    /// How far the log has been applied.
    pub fn applied(&self) -> Watermark {
        self.applied.clone()
    }

    fn snapshot_of(store: &Store<R::Disk>) -> io::Result<SnapshotOf<TypeConfig<R>, SnapshotData<R>>> {
        let view = store.snapshot()?;
        let progress = Progress::<R>::read(view.meta(APPLIED))?;
        let meta =
            SnapshotMetaOf::<TypeConfig<R>> { last_log_id: progress.log_id, last_membership: progress.membership };
        Ok(Snapshot { meta, snapshot: SnapshotData::View(view) })
    }
}

/// Makes everything applied durable, and tells the log how far it may now forget.
///
/// The log goes first: an entry may be committed, and applied here, before this member's own log has flushed it. A store
/// that is ahead of its log after a crash cannot be told from one whose log was lost.
///
/// # Errors
/// The store's or the log's: it is unusable from then on.
pub(crate) async fn flush<R: Runtime>(store: &Store<R::Disk>, log: &LogStore<R>) -> io::Result<()> {
    store.flush_after::<R, io::Error>(async { Ok(log.barrier().await?) }).await?;
    log.release(Progress::<R>::read(store.durable_meta(APPLIED)?)?.index());
    Ok(())
}

/// Makes the store's file as short as it can be, and with it everything applied durable, as [`flush`] does.
///
/// # Errors
/// The store's or the log's.
pub(crate) async fn defragment<R: Runtime>(store: &Store<R::Disk>, log: &LogStore<R>) -> io::Result<()> {
    let committed = || R::CrashPoints::reached(CrashPoint::Defragment);
    store.defragment::<R, io::Error, _, _>(|| async { Ok(log.barrier().await?) }, committed).await?;
    log.release(Progress::<R>::read(store.durable_meta(APPLIED)?)?.index());
    Ok(())
}

impl<R: Runtime> RaftStateMachine<TypeConfig<R>> for StateMachine<R> {
    type SnapshotData = SnapshotData<R>;
    type SnapshotBuilder = SnapshotBuilder<R>;

    async fn applied_state(&mut self) -> Result<(Option<LogId<R>>, StoredMembership<R>), io::Error> {
        Ok((self.progress.log_id, self.progress.membership.clone()))
    }

    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig<R>>, io::Error>> + Unpin + Send,
    {
        let entries: Vec<_> = entries.try_collect().await?;
        let mut batch = self.store.begin().await?;
        if R::Mutants::active(Mutant::AppliedIndexApart) {
            let last = entries.last().map(|(entry, _)| entry.log_id);
            let ahead = Progress::<R> { log_id: last, ..self.progress.clone() };
            batch.set_meta(APPLIED, &encode(&ahead));
            batch.commit()?;
            // Whoever makes the store durable now, for a snapshot, makes the index durable without the data.
            R::sleep(Duration::from_millis(2)).await;
            batch = self.store.begin().await?;
        }
        let mut applying = Applying::<R>::new(batch, self.progress.clone(), entries.len());
        for (entry, responder) in entries {
            applying.entry(entry, responder)?;
        }
        let Applying { mut batch, progress, replies, events, unasked } = applying;
        batch.set_meta(APPLIED, &encode(&progress));
        batch.commit()?;
        R::CrashPoints::reached(CrashPoint::Apply).await;

        self.progress = progress;
        for event in &events {
            R::Probe::applied(self.node, *event);
        }
        for (index, change) in unasked {
            R::Probe::unasked(self.node, index, change);
        }
        // Before anybody is told that a lease is granted: it is to be kept from then on.
        self.deadlines.follow(&self.store, events.iter().filter_map(|event| event.lease));
        self.applied.raise(self.progress.index());
        if events.iter().any(|event| event.compacted) {
            self.compactor.poke();
        }
        for (responder, reply) in replies {
            responder.send(reply);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<R> {
        SnapshotBuilder { store: self.store.clone(), log: self.log.clone() }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig<R>>,
        mut snapshot: SnapshotData<R>,
    ) -> Result<(), io::Error> {
        let mut installer = self.store.installer().await?;
        match &mut snapshot {
            SnapshotData::Received(received) => received.read(|piece| Ok(installer.feed(piece)?))?,
            SnapshotData::View(view) => {
                while let Some(piece) = view.next_chunk(PIECE_BYTES)? {
                    installer.feed(&piece)?;
                }
            }
        }
        // A tail of the log that conflicts with the snapshot has been cut: that has to last, or it would be found beside
        // the snapshot after a crash.
        self.log.barrier().await?;
        let progress = Progress::<R> {
            log_id: meta.last_log_id,
            membership: meta.last_membership.clone(),
            installed: meta.last_log_id,
        };
        installer.set_meta(APPLIED, &encode(&progress));
        R::CrashPoints::reached(CrashPoint::SnapshotInstall).await;
        installer.finish::<R>().await?;
        if let SnapshotData::Received(received) = snapshot {
            received.discard();
        }
        self.progress = progress;
        self.log.release(self.progress.index());
        self.applied.raise(self.progress.index());
        self.compactor.poke();
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig<R>, SnapshotData<R>>>, io::Error> {
        let reading = self.store.reading().await;
        let snapshot = Self::snapshot_of(&self.store)?;
        drop(reading);
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

type Responder<R> = openraft::storage::ApplyResponder<TypeConfig<R>>;
type Entry<R> = openraft::type_config::alias::EntryOf<TypeConfig<R>>;

/// A batch of entries that is being applied: nothing of it is seen, and nothing answered, before it is committed.
struct Applying<R: Runtime> {
    batch: Batch<R::Disk>,
    progress: Progress<R>,
    replies: Vec<(Responder<R>, Reply)>,
    events: Vec<AppliedEntry>,
    /// What entries without a client operation have changed, if anybody listens.
    unasked: Vec<(u64, Change)>,
}

impl<R: Runtime> Applying<R> {
    fn new(batch: Batch<R::Disk>, progress: Progress<R>, entries: usize) -> Self {
        let (replies, events) = (Vec::with_capacity(entries), Vec::with_capacity(entries));
        Applying { batch, progress, replies, events, unasked: Vec::new() }
    }

    fn entry(&mut self, entry: Entry<R>, responder: Option<Responder<R>>) -> Result<(), StoreError> {
        let before = self.batch.revision();
        let (mut operation, mut lease, mut change) = (0, None, None);
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::None,
            EntryPayload::Normal(command) => {
                operation = command.operation;
                let term = entry.log_id.committed_leader_id().term;
                let reply = self.command(&command.request, term, entry.log_id.index())?;
                lease = lease_change(&command.request, &reply);
                if R::Probe::LISTENS && operation == 0 {
                    change = changes(&command.request);
                }
                reply
            }
            EntryPayload::Membership(membership) => {
                self.progress.membership = StoredMembership::<R>::new(Some(entry.log_id), membership);
                Reply::None
            }
        };
        let changed = self.batch.revision() != before;
        if let Some(change) = change.filter(|_| changed || lease.is_some()) {
            self.unasked.push((entry.log_id.index(), change));
        }
        self.events.push(AppliedEntry {
            index: entry.log_id.index(),
            term: entry.log_id.committed_leader_id().term,
            operation,
            revision: self.batch.revision(),
            changed,
            compacted: matches!(reply, Reply::Compact(_)),
            lease,
            digest: self.batch.digest().0,
        });
        self.progress.log_id = Some(entry.log_id);
        self.replies.extend(responder.map(|responder| (responder, reply)));
        Ok(())
    }

    fn command(&mut self, request: &Request, entry: Term, index: u64) -> Result<Reply, StoreError> {
        let result = match request {
            Request::Put(request) => self.batch.put(request).map(Reply::Put),
            Request::DeleteRange(request) => self.batch.delete_range(request).map(Reply::DeleteRange),
            Request::Txn(request) => self.batch.txn(request).map(Reply::Txn),
            Request::Compact(request) => self.batch.compact(request).map(Reply::Compact),
            Request::Range(_) => Ok(Reply::None),
            Request::LeaseGrant(request) => self.batch.grant_lease(request, index).map(Reply::LeaseGrant),
            Request::LeaseRevoke(request) => self.batch.revoke_lease(request.id, None).map(Reply::LeaseRevoke),
            Request::LeaseExpire { term, .. } | Request::LeaseRests { term, .. }
                if *term != entry && !R::Mutants::active(Mutant::LeaseRevokedLate) =>
            {
                Err(Refusal::LaterTerm { decided: *term, entry }.into())
            }
            Request::LeaseExpire { id, granted, .. } => {
                self.batch.revoke_lease(*id, Some(*granted)).map(Reply::LeaseRevoke)
            }
            Request::LeaseRests { rests, .. } => {
                for LeaseRest { id, granted, rest } in rests {
                    self.batch.note_lease_rest(*id, *granted, *rest);
                }
                Ok(Reply::None)
            }
            Request::Publish { member, attributes } => {
                attributes.keep(*member, &mut self.batch);
                Ok(Reply::None)
            }
        };
        match result {
            Ok(reply) => Ok(reply),
            Err(ApplyError::Refused(refusal)) => Ok(Reply::Refused(refusal)),
            Err(ApplyError::Store(error)) => Err(error),
        }
    }
}

/// What an entry did to a lease, by its request and what that was answered.
fn lease_change(request: &Request, reply: &Reply) -> Option<LeaseChange> {
    match (request, reply) {
        (Request::LeaseGrant(request), Reply::LeaseGrant(_)) => Some(LeaseChange::Granted(request.id)),
        (Request::LeaseRevoke(request), Reply::LeaseRevoke(_)) => Some(LeaseChange::Revoked(request.id)),
        (Request::LeaseExpire { id, .. }, Reply::LeaseRevoke(_)) => Some(LeaseChange::Expired(*id)),
        (Request::LeaseRests { .. }, Reply::None) => Some(LeaseChange::Noted),
        _ => None,
    }
}

/// What an entry asks for, if it may change a key or a lease.
fn changes(request: &Request) -> Option<Change> {
    Some(match request {
        Request::Put(request) => Change::Put(request.clone()),
        Request::DeleteRange(request) => Change::DeleteRange(request.clone()),
        Request::Txn(request) => Change::Txn(request.clone()),
        Request::LeaseGrant(request) => Change::LeaseGrant(*request),
        Request::LeaseRevoke(request) => Change::LeaseRevoke(*request),
        Request::LeaseExpire { id, .. } => Change::LeaseRevoke(LeaseRevokeRequest { id: *id }),
        Request::Compact(_) | Request::Publish { .. } | Request::Range(_) | Request::LeaseRests { .. } => return None,
    })
}

/// Builds snapshots: a durable commit, and a view of the store.
pub struct SnapshotBuilder<R: Runtime> {
    store: Store<R::Disk>,
    log: LogStore<R>,
}

impl<R: Runtime> RaftSnapshotBuilder<TypeConfig<R>> for SnapshotBuilder<R> {
    type SnapshotData = SnapshotData<R>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig<R>, SnapshotData<R>>, io::Error> {
        let reading = self.store.reading().await;
        let snapshot = StateMachine::snapshot_of(&self.store)?;
        drop(reading);
        R::CrashPoints::reached(CrashPoint::SnapshotBuild).await;
        // After the view is taken: openraft may purge the log up to the view, so that must be durable first.
        flush(&self.store, &self.log).await?;
        Ok(snapshot)
    }
}
