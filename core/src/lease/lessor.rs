//! Who ends leases, and renews them: the leader.
//!
//! Every member has a lessor. That of the leader has [`Deadlines`]; the others ask it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use openraft::ServerState;
use openraft_rt::{Instant as _, Select2, WatchReceiver};

use super::deadlines::{Renewal, seconds};
use super::{Deadlines, LeaseOptions, LeaseReply, LeaseRequest, Remaining};
use crate::mvcc::{Lease, Store};
use crate::raft::message::{PeerReply, PeerRequest, decode, encode};
use crate::raft::{Command, LeaseRest, Proposer, Reply, Request, Term};
use crate::read::{Leadership, Member, ReadError, Reads};
use crate::runtime::{Mutant, Mutants, Runtime, Transport};
use crate::watermark::{Stop, Watermark};

/// How many leases may be ending at a time: each is an entry of the log, and they go in few writes.
const ENDING_MAX: usize = 256;

/// How many leases are noted in one entry at most.
const NOTED_MAX: usize = 1000;

/// The lessor of one member. Clones are the same.
pub(crate) struct Lessor<R: Runtime> {
    parts: Arc<LessorParts<R>>,
}

impl<R: Runtime> Clone for Lessor<R> {
    fn clone(&self) -> Self {
        Lessor { parts: self.parts.clone() }
    }
}

/// What a lessor is made of.
pub(crate) struct LessorParts<R: Runtime> {
    pub(crate) member: Member<R>,
    pub(crate) store: Store<R::Disk>,
    pub(crate) applied: Watermark,
    pub(crate) reads: Arc<Reads<R>>,
    pub(crate) proposer: Proposer<R>,
    pub(crate) deadlines: Deadlines<R>,
    pub(crate) options: LeaseOptions,
    /// What a leader that takes over gives each lease on top of its time.
    pub(crate) election_timeout: Duration,
    /// How long one request may take.
    pub(crate) limit: Duration,
    /// How long to wait before looking for a leader again.
    pub(crate) retry: Duration,
}

impl<R: Runtime> Lessor<R> {
    /// Starts a lessor. It ends when it is told to.
    pub(crate) fn start(parts: LessorParts<R>, stop: Stop) -> Self {
        let lessor = Lessor { parts: Arc::new(parts) };
        let running = lessor.clone();
        drop(R::spawn(async move {
            let _: Select2<(), ()> = R::select2(stop.stopped(), running.run()).await;
        }));
        lessor
    }

    /// Renews leases, by way of the leader. For each, the seconds that it has from now on; 0 if there is no such lease.
    ///
    /// # Errors
    /// `Timeout`: no leader has done it in time. It may have been done.
    pub(crate) async fn renew(&self, ids: &[i64]) -> Result<Vec<i64>, ReadError> {
        let request = LeaseRequest::Renew(ids.to_vec());
        self.at_leader(request, |reply| match reply {
            LeaseReply::Renewed(seconds) if seconds.len() == ids.len() => Some(seconds),
            _ => None,
        })
        .await
    }

    /// What is left of a lease, by way of the leader.
    ///
    /// # Errors
    /// `Timeout`: no leader has said so in time.
    pub(crate) async fn remaining(&self, id: i64, with_keys: bool) -> Result<Remaining, ReadError> {
        let request = LeaseRequest::Remaining { id, with_keys };
        self.at_leader(request, |reply| match reply {
            LeaseReply::Remaining(remaining) => Some(remaining),
            LeaseReply::Renewed(_) => None,
        })
        .await
    }

    /// Has the leader answer, this member or another, until one has as `read` wants it, or the time is over.
    async fn at_leader<T>(
        &self,
        request: LeaseRequest,
        read: impl Fn(LeaseReply) -> Option<T> + Send + Sync,
    ) -> Result<T, ReadError> {
        let LessorParts { member, limit, retry, election_timeout, .. } = &*self.parts;
        let asking = async {
            loop {
                match member.raft.current_leader().await {
                    Some(leader) if leader == member.node => match self.answer(&request).await.map(&read) {
                        Ok(Some(done)) => return Ok(done),
                        Ok(None) | Err(ReadError::NotLeader | ReadError::Timeout | ReadError::ApplyTimeout) => {}
                        Err(error) => return Err(error),
                    },
                    Some(leader) => {
                        // A lost answer is not waited for: to ask again does no harm.
                        let message = encode(&PeerRequest::<R>::Lease(request.clone()));
                        let call = member.transport.call(leader, message);
                        let answer = R::timeout(*election_timeout, call).await.ok().and_then(Result::ok);
                        let reply = answer.and_then(|reply| decode::<PeerReply<R>>(&reply).ok());
                        let done = match reply {
                            Some(PeerReply::Lease(reply)) => read(reply),
                            _ => None,
                        };
                        if let Some(done) = done {
                            return Ok(done);
                        }
                    }
                    None => {}
                }
                R::sleep(*retry).await;
            }
        };
        R::timeout(*limit, asking).await.unwrap_or(Err(ReadError::Timeout))
    }

    /// Answers a follower, which waits no longer than an election time-out and then asks again.
    ///
    /// # Errors
    /// `NotLeader`, and those of the read path by which this member makes sure that it leads; `Timeout`.
    pub(crate) async fn answer_follower(&self, request: &LeaseRequest) -> Result<LeaseReply, ReadError> {
        R::timeout(self.parts.election_timeout, self.answer(request)).await.unwrap_or(Err(ReadError::Timeout))
    }

    /// Answers what is asked of the leader.
    ///
    /// # Errors
    /// `NotLeader`, and those of the read path by which this member makes sure that it leads.
    async fn answer(&self, request: &LeaseRequest) -> Result<LeaseReply, ReadError> {
        match request {
            LeaseRequest::Renew(ids) => self.renew_here(ids).await.map(LeaseReply::Renewed),
            LeaseRequest::Remaining { id, with_keys } => {
                self.remaining_here(*id, *with_keys).await.map(LeaseReply::Remaining)
            }
        }
    }

    async fn renew_here(&self, ids: &[i64]) -> Result<Vec<i64>, ReadError> {
        let LessorParts { deadlines, store, .. } = &*self.parts;
        let term = deadlines.term().ok_or(ReadError::NotLeader)?;
        self.note_renewals(term, ids).await?;
        // Only now: whoever leads after this has taken over after the leases were renewed, and counts from there.
        if !R::Mutants::active(Mutant::LeaseRenewedByDeposed) {
            self.leads_still(term).await?;
        }
        self.take_back_notes(term, ids).await?;
        if deadlines.term() != Some(term) {
            return Err(ReadError::NotLeader);
        }
        let (leases, _) = store.leases();
        Ok(ids.iter().map(|id| leases.get(*id).map_or(0, |lease| lease.ttl)).collect())
    }

    /// Renews leases in memory. Those that are at their end are waited for, when all others are renewed.
    async fn note_renewals(&self, term: Term, ids: &[i64]) -> Result<(), ReadError> {
        let deadlines = &self.parts.deadlines;
        let mut left = ids.to_vec();
        loop {
            let version = deadlines.version();
            let mut busy = Vec::new();
            for id in left {
                match deadlines.renew(term, id) {
                    Renewal::Renewed | Renewal::Unknown => {}
                    Renewal::Busy => busy.push(id),
                    Renewal::Over => return Err(ReadError::NotLeader),
                }
            }
            if busy.is_empty() {
                return Ok(());
            }
            left = busy;
            deadlines.changed_since(version).await;
        }
    }

    /// This member leads still, in that term, and has applied what was acknowledged before.
    async fn leads_still(&self, term: Term) -> Result<(), ReadError> {
        self.parts.reads.linearizable().await?;
        // A member that was deposed meanwhile has asked the next leader: then it knows of a later term.
        match Leadership::of(&self.parts.member).await? {
            leadership if leadership.term == term => Ok(()),
            _ => Err(ReadError::NotLeader),
        }
    }

    /// What was noted of a lease before it was renewed is not what is left of it now.
    async fn take_back_notes(&self, term: Term, ids: &[i64]) -> Result<(), ReadError> {
        let (leases, _) = self.parts.store.leases();
        let noted = |id: &i64| leases.get(*id).filter(|lease| lease.rest > 0).map(|lease| (*id, lease.granted));
        let rests: Vec<LeaseRest> =
            ids.iter().filter_map(noted).map(|(id, granted)| LeaseRest { id, granted, rest: 0 }).collect();
        if rests.is_empty() || R::Mutants::active(Mutant::LeaseRestKept) {
            return Ok(());
        }
        match self.write(Request::LeaseRests { term, rests }).await {
            Some(Reply::None) => Ok(()),
            _ => Err(ReadError::NotLeader),
        }
    }

    /// What is left of a lease. One that is at its end is waited for.
    async fn remaining_here(&self, id: i64, with_keys: bool) -> Result<Remaining, ReadError> {
        let LessorParts { deadlines, store, .. } = &*self.parts;
        let term = deadlines.term().ok_or(ReadError::NotLeader)?;
        self.leads_still(term).await?;
        loop {
            let version = deadlines.version();
            let (leases, revision) = store.leases();
            let lease = leases.get(id);
            let left = lease.and_then(|lease| deadlines.left(term, id, lease.granted));
            if deadlines.term() != Some(term) {
                return Err(ReadError::NotLeader);
            }
            let left = match (lease, left) {
                (Some(lease), Some(left)) => Some((left.as_secs() as i64, lease.ttl)),
                (None, _) => None,
                (Some(_), None) => {
                    deadlines.changed_since(version).await;
                    continue;
                }
            };
            let keys = lease.filter(|_| with_keys).map_or_else(Vec::new, |lease| lease.keys().cloned().collect());
            return Ok(Remaining { revision, left, keys });
        }
    }

    /// Writes what this member has decided to the log, if it leads: it is nobody else's to carry out.
    async fn write(&self, request: Request) -> Option<Reply> {
        let LessorParts { member, proposer, .. } = &*self.parts;
        let command = Command::new(0, request);
        if R::Mutants::active(Mutant::LeaseRevokedLate) {
            return proposer.propose(command).await.ok();
        }
        member.raft.client_write(command).await.ok().map(|written| written.data)
    }

    async fn run(self) {
        let LessorParts { member, deadlines, retry, .. } = &*self.parts;
        let mut metrics = member.raft.server_metrics();
        let ending = Arc::new(AtomicUsize::new(0));
        loop {
            let version = deadlines.version();
            let led = {
                let metrics = metrics.borrow_watched();
                (metrics.state == ServerState::Leader).then(|| metrics.vote.leader_id().term)
            };
            let next = match led {
                None => {
                    deadlines.end();
                    None
                }
                Some(term) if deadlines.term() == Some(term) => {
                    self.end_those_due(term, &ending);
                    self.note_those_due(term);
                    deadlines.next(term)
                }
                Some(_) => {
                    deadlines.end();
                    if self.take_over().await.is_ok() {
                        continue;
                    }
                    Some(R::Instant::now() + *retry)
                }
            };
            let pause = async {
                match next {
                    Some(next) => R::sleep(self.pause_until(next)).await,
                    None => std::future::pending().await,
                }
            };
            let changed = R::select2(pause, deadlines.changed_since(version));
            if let Select2::First(Err(_)) = R::select2(metrics.changed(), changed).await {
                return;
            }
        }
    }

    /// How long to sleep until there is something to do. Not for long at once: a clock may jump, of which a sleeper does not
    /// hear, and no lease is shorter than that.
    fn pause_until(&self, next: R::Instant) -> Duration {
        let now = R::Instant::now();
        // What is due already waits for others to end.
        if next > now { (next - now).min(self.parts.election_timeout) } else { self.parts.retry }
    }

    /// Begins a tenure, once everything from before it is applied.
    async fn take_over(&self) -> Result<(), ReadError> {
        let LessorParts { member, applied, deadlines, options, election_timeout, store, .. } = &*self.parts;
        let leadership = Leadership::of(member).await?;
        let reached = applied.reached(leadership.index);
        R::timeout(*election_timeout, reached).await.map_err(|_| ReadError::ApplyTimeout)?;
        deadlines.begin(leadership.term, store, options.checkpoint_interval, |lease: &Lease| {
            if R::Mutants::active(Mutant::LeaseNotExtended) {
                return *election_timeout;
            }
            seconds(lease.remaining()) + *election_timeout
        });
        Ok(())
    }

    fn end_those_due(&self, term: Term, ending: &Arc<AtomicUsize>) {
        let room = ENDING_MAX.saturating_sub(ending.load(Ordering::Relaxed));
        for (id, granted) in self.parts.deadlines.due(term, room) {
            ending.fetch_add(1, Ordering::Relaxed);
            let (lessor, ending) = (self.clone(), ending.clone());
            drop(R::spawn(async move {
                let ended = lessor.write(Request::LeaseExpire { id, granted, term }).await;
                ending.fetch_sub(1, Ordering::Relaxed);
                if ended.is_none() {
                    // Its outcome is not known. If it comes to be applied, the lease is gone; if not, it is due again.
                    R::sleep(lessor.parts.retry).await;
                }
                lessor.parts.deadlines.not_ended(term, id, granted);
            }));
        }
    }

    fn note_those_due(&self, term: Term) {
        let rests = self.parts.deadlines.to_note(term, NOTED_MAX);
        if rests.is_empty() {
            return;
        }
        let lessor = self.clone();
        drop(R::spawn(async move {
            // Without it, the next leader gives these leases more than they would have had.
            let _ = lessor.write(Request::LeaseRests { term, rests: rests.clone() }).await;
            lessor.parts.deadlines.noted(term, &rests);
        }));
    }
}
