//! One member, wired: disk to log and store, both to raft, raft to the services.

mod hand_over;
mod newcomer;
mod publish;
#[cfg(test)]
pub(crate) mod testing;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::errors::{InitializeError, RaftError};
use openraft::{EmptyNode, ServerState};
use openraft_rt::{Select2, WatchReceiver};

use crate::api::{
    ClusterService, Dispatch, ElectionService, Headers, KvService, LeaderCheck, LeaseService, Limits, LockService,
    MaintenanceService, Proposals, Queue, WatchService,
};
use crate::auto_compaction::{self, AutoCompaction};
use crate::compactor::Compactor;
use crate::grpc::Routes;
use crate::lease::{Deadlines, LeaseOptions, Lessor, LessorParts, ttl_min};
use crate::members::{Attributes, Directory};
use crate::mvcc::{self, Store, StoreError};
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::etcdserverpb::watch_server::WatchServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use crate::raft::{
    LogStore, Membership, MembershipChange, MembershipError, NodeId, PeerNetwork, PeerServer, Proposer, Raft,
    RaftOptions, StateMachine, Term, VoteHold, openraft_config,
};
use crate::read::{
    Counters, GivenUp, LeaseRead, LeaseReadOptions, Member, ReadCounters, ReadIndex, ReadOptions, Reads,
};
use crate::runtime::{Host, Planted, Runtime, Transport};
use crate::wal::{WalError, WalOptions, WalStats};
use crate::watch::WatchOptions;
use crate::watermark::{Stop, Watermark};

/// The folder of the log, within the member's data folder.
const WAL_DIR: &str = "wal";
/// The folder of the store.
const STORE_DIR: &str = "store";

/// What a message may have beyond the limit of a request, as etcd has it: one that is a little too large is refused by its
/// service, with etcd's error.
const MESSAGE_OVERHEAD_BYTES: usize = 512 << 10;

/// What makes a member this one.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// The cluster's number, in every response header.
    pub cluster_id: u64,
    /// This member's number.
    pub node: NodeId,
    /// Who is in the cluster when this member is first started, itself among them. Without effect afterwards.
    pub initial_members: BTreeSet<NodeId>,
    /// Whether the cluster exists by then, and has added this member or is about to. A member that joins forms no cluster
    /// with those that it is told of, but waits to hear of a leader. Without effect afterwards.
    pub joins: bool,
    /// Consensus.
    pub raft: RaftOptions,
    /// The log's files.
    pub wal: WalOptions,
    /// The store's file.
    pub store: mvcc::Options,
    /// What clients may ask for.
    pub limits: Limits,
    /// Offers lease reads, and declares that no member's clock runs faster or slower against true time than by so many
    /// parts in a million. Must be the same on every member. `None`: no lease reads, and no wait before a restarted
    /// member votes.
    pub lease_drift_ppm: Option<u32>,
    /// Names and addresses, for clients who ask.
    pub directory: Directory,
    /// What history is compacted without being asked to.
    pub auto_compaction: AutoCompaction,
    /// How watches are served.
    pub watch: WatchOptions,
    /// How leases are kept.
    pub lease: LeaseOptions,
}

/// A member could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An option, or a combination of them, makes no sense.
    #[error("bad option: {0}")]
    Options(String),
    /// The log cannot be read.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The data folder cannot be read.
    #[error("data folder: {0}")]
    Io(#[from] io::Error),
    /// The store has applied entries that the log does not have: the log, and the vote in it, have been lost. A member
    /// without its vote must not take part under its old number, or it may vote twice in a term.
    #[error("the log ends at {}, but the store has applied entry {applied}: the log has been lost", match last {
        Some(last) => format!("entry {last}"),
        None => "nothing".to_owned(),
    })]
    LogLost {
        /// The last entry of the log, if there is any.
        last: Option<u64>,
        /// The last entry that the store has applied.
        applied: u64,
    },
    /// The store has not applied what the log has already forgotten, which it was told to forget once the store had made it
    /// durable: the store's file has been lost, or is an earlier one.
    #[error(
        "store/store.redb has applied {}, but the log begins behind entry {purged}: the store has been lost",
        match applied {
            Some(applied) => format!("entry {applied}"),
            None => "nothing".to_owned(),
        }
    )]
    StoreLost {
        /// The last entry that the store has applied, if there is any.
        applied: Option<u64>,
        /// The last entry that the log has purged.
        purged: u64,
    },
    /// The disk is empty, and another member has heard of this one before: its disk, with the vote on it, has been lost.
    #[error(
        "this member has been in the cluster before, as member {0:x} knows, and its data folder has been lost: without the \
         vote in it, it must not take part again"
    )]
    DiskLost(u64),
    /// openraft refused what it found in the log and the store.
    #[error("raft: {0}")]
    Raft(String),
}

/// What a member says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The term it is in.
    pub term: Term,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// Whether it believes to lead itself.
    pub leads: bool,
    /// The last entry of its log.
    pub last_index: u64,
    /// The last entry that it knows to be committed.
    pub committed: u64,
    /// The last entry that it has applied.
    pub applied: u64,
    /// The store's revision.
    pub revision: i64,
    /// Why it has stopped, if it has.
    pub failure: Option<String>,
}

/// A running member. Dropping it does not stop it: its tasks run on until [`stop`](Node::stop).
pub struct Node<R: Runtime> {
    node: NodeId,
    raft: Raft<R>,
    store: Store<R::Disk>,
    log: LogStore<R>,
    applied: Watermark,
    kv: Arc<KvService<R>>,
    counters: Arc<Counters>,
    cluster: Arc<ClusterService<R>>,
    maintenance: Arc<MaintenanceService<R>>,
    watch: Arc<WatchService<R>>,
    lease: Arc<LeaseService<R>>,
    leader: LeaderCheck<R>,
    /// Ends the streams of clients.
    end_streams: Stop,
    stop: Stop,
}

impl<R: Runtime> Clone for Node<R> {
    fn clone(&self) -> Self {
        Node {
            node: self.node,
            raft: self.raft.clone(),
            store: self.store.clone(),
            log: self.log.clone(),
            applied: self.applied.clone(),
            kv: self.kv.clone(),
            counters: self.counters.clone(),
            cluster: self.cluster.clone(),
            maintenance: self.maintenance.clone(),
            watch: self.watch.clone(),
            lease: self.lease.clone(),
            leader: self.leader.clone(),
            end_streams: self.end_streams.clone(),
            stop: self.stop.clone(),
        }
    }
}

impl<R: Runtime> Node<R> {
    /// Recovers a member from its disk, or makes a new one, and lets it take part.
    pub async fn start(host: Host<R>, options: NodeOptions) -> Result<Self, StartError> {
        let config = Arc::new(openraft_config::<R>(&options.raft).map_err(StartError::Options)?);
        let log = LogStore::<R>::open(host.disk.clone(), WAL_DIR, options.node, options.wal).await?;
        let store_options = mvcc::Options { planted: Planted::of::<R::Mutants>(), ..options.store };
        let store = Store::<R::Disk>::open(&host.disk, STORE_DIR, store_options).await?;
        let stop = Stop::default();
        let compactor = Compactor::start(store.clone(), stop.clone());
        let deadlines = Deadlines::<R>::default();
        let state_machine =
            StateMachine::new(options.node, store.clone(), log.clone(), compactor.clone(), deadlines.clone())?;
        // A snapshot takes the store beyond the log, but never before the vote for its sender is durable.
        let covered = if log.has_vote() { state_machine.replayed() } else { state_machine.last_applied() };
        if let Some(applied) = covered.filter(|applied| Some(*applied) > log.last_index()) {
            stop.stop();
            return Err(StartError::LogLost { last: log.last_index(), applied });
        }
        if let Some(purged) = log.purged_index().filter(|purged| state_machine.last_applied() < Some(*purged)) {
            stop.stop();
            return Err(StartError::StoreLost { applied: state_machine.last_applied(), purged });
        }
        let applied = state_machine.applied();
        let (counters, given_up) = (Arc::new(Counters::default()), GivenUp::default());
        let network = PeerNetwork::<R>::new(host.transport.clone(), counters.clone(), given_up.clone());
        let raft = Raft::<R>::build(options.node, config, network, log.clone(), state_machine)
            .await
            .map_err(|error| StartError::Raft(error.to_string()))?;

        let election = options.raft.election_timeout;
        // etcd's: five seconds, and two elections on top.
        let limit = Duration::from_secs(5) + 2 * election;
        let proposer = Proposer::new(
            options.node,
            raft.clone(),
            host.transport.clone(),
            applied.clone(),
            counters.clone(),
            limit,
            options.raft.heartbeat_interval,
        );

        let member = Member {
            node: options.node,
            raft: raft.clone(),
            transport: host.transport.clone(),
            counters: counters.clone(),
        };
        let times = ReadOptions { limit, round_limit: election, retry: options.raft.heartbeat_interval };
        let read_index = ReadIndex::start(member.clone(), times, stop.clone());
        let lease = options.lease_drift_ppm.map(|drift_ppm| LeaseReadOptions { lease: election, drift_ppm });
        let lease_read = lease
            .map(|lease| LeaseRead::start(member.clone(), read_index.clone(), lease, given_up, times, stop.clone()));
        let reads = Arc::new(Reads {
            read_index,
            lease: lease_read,
            proposer: proposer.clone(),
            applied: applied.clone(),
            counters: counters.clone(),
            limit,
        });
        let lessor = Lessor::start(
            LessorParts {
                member,
                store: store.clone(),
                applied: applied.clone(),
                reads: reads.clone(),
                proposer: proposer.clone(),
                deadlines,
                options: options.lease,
                election_timeout: election,
                limit,
                retry: options.raft.heartbeat_interval,
            },
            stop.clone(),
        );
        // Whoever has no vote has never heard of a leader, and who votes alone and for himself has promised others nothing.
        let alone = raft.voter_ids().eq([options.node]) && log.voted_for().is_none_or(|leader| leader == options.node);
        let votes = match lease {
            Some(lease) if log.has_vote() && !alone => VoteHold::begin(lease.lease),
            _ => VoteHold::none(),
        };
        let holds_votes = votes.until().is_some();
        if let Some(until) = votes.until() {
            raft.runtime_config().elect(false);
            let (raft, stop) = (raft.clone(), stop.clone());
            drop(R::spawn(async move {
                if let Select2::Second(()) = R::select2(stop.stopped(), R::sleep_until(until)).await {
                    raft.runtime_config().elect(true);
                }
            }));
        }
        let server = PeerServer::open(
            raft.clone(),
            reads.clone(),
            lessor.clone(),
            log.clone(),
            store.clone(),
            votes,
            host.disk.clone(),
        )
        .map(Arc::new)?;
        host.transport.serve(server.clone().handler());
        if !log.has_vote() {
            let others = options.initial_members.iter().copied().filter(|member| *member != options.node);
            if let Some(NodeId(other)) = newcomer::known_by::<R>(others, &host.transport, election).await {
                stop.stop();
                return Err(StartError::DiskLost(other));
            }
        }
        server.admit();
        raft.run();

        if !options.joins {
            let members: BTreeMap<NodeId, EmptyNode> =
                options.initial_members.iter().map(|member| (*member, EmptyNode::new())).collect();
            match raft.initialize(members).await {
                Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => {}
                Err(error) => return Err(StartError::Raft(error.to_string())),
            }
        }
        if raft.voter_ids().eq([options.node]) && !holds_votes {
            // Nobody else can campaign, and a restarted leader does not lead on: without this it would only sit out an
            // election time-out.
            raft.trigger().elect(false).await.map_err(|error| StartError::Raft(error.to_string()))?;
        }
        if let Some(attributes) = options.directory.attributes {
            let (log, proposer, retry) = (log.clone(), proposer.clone(), options.raft.heartbeat_interval);
            drop(R::spawn(publish::publish(options.node, attributes, log, proposer, retry, stop.clone())));
        }
        auto_compaction::start(options.auto_compaction, raft.clone(), store.clone(), proposer.clone(), stop.clone());
        let headers = Headers { cluster_id: options.cluster_id, node: options.node, raft: raft.clone() };
        let cluster = Arc::new(ClusterService {
            headers: headers.clone(),
            store: store.clone(),
            reads: reads.clone(),
            peer_urls: options.directory.peer_urls,
        });
        let end_streams = Stop::default();
        let leader = LeaderCheck { headers: headers.clone(), election_timeout: election };
        let watch = Arc::new(WatchService {
            headers: headers.clone(),
            store: store.clone(),
            options: options.watch,
            leader: leader.clone(),
            stop: end_streams.clone(),
        });
        let proposals =
            Proposals { raft: raft.clone(), applied: applied.clone(), proposer, limits: options.limits.clone() };
        let lease = Arc::new(LeaseService {
            headers: headers.clone(),
            store: store.clone(),
            proposals: proposals.clone(),
            reads: reads.clone(),
            lessor,
            ttl_min: ttl_min(election),
            leader: leader.clone(),
            stop: end_streams.clone(),
        });
        let maintenance =
            Arc::new(MaintenanceService { headers, store: store.clone(), log: log.clone(), applied: applied.clone() });
        let kv = Arc::new(KvService {
            cluster_id: options.cluster_id,
            node: options.node,
            raft: raft.clone(),
            store: store.clone(),
            proposals,
            reads,
            compactor,
            request_timeout: limit,
        });
        Ok(Node {
            node: options.node,
            raft,
            store,
            log,
            applied,
            kv,
            cluster,
            maintenance,
            watch,
            lease,
            leader,
            counters,
            end_streams,
            stop,
        })
    }

    /// The member's number.
    pub fn id(&self) -> NodeId {
        self.node
    }

    /// openraft's handle.
    #[cfg(feature = "server")]
    pub(crate) fn raft(&self) -> &Raft<R> {
        &self.raft
    }

    /// The KV service, as this member offers it.
    pub fn kv(&self) -> Arc<KvService<R>> {
        self.kv.clone()
    }

    /// The Cluster service, as this member offers it.
    pub fn cluster(&self) -> Arc<ClusterService<R>> {
        self.cluster.clone()
    }

    /// All services that this member offers to clients.
    pub fn routes(&self) -> Routes {
        let bytes_max = self.kv.proposals.limits.request_bytes.saturating_add(MESSAGE_OVERHEAD_BYTES);
        let election = ElectionService { queue: self.queue(), leader: self.leader.clone() };
        let leader = self.leader.clone();
        Routes::new(move |metadata| Ok(leader.admit(metadata)?))
            .with(KvServer::from_arc(self.kv()).max_decoding_message_size(bytes_max))
            .with(ClusterServer::from_arc(self.cluster.clone()))
            .with(MaintenanceServer::from_arc(self.maintenance.clone()))
            .with(WatchServer::from_arc(self.watch.clone()).max_decoding_message_size(bytes_max))
            .with(LeaseServer::from_arc(self.lease.clone()))
            .with(LockServer::new(LockService { queue: self.queue() }).max_decoding_message_size(bytes_max))
            .with(ElectionServer::new(election).max_decoding_message_size(bytes_max))
    }

    fn queue(&self) -> Queue<R> {
        let (kv, lease) = (self.kv.clone(), self.lease.clone());
        Queue { kv, lease, store: self.store.clone(), stop: self.end_streams.clone() }
    }

    /// The services whose methods can be called without HTTP.
    pub fn dispatch(&self) -> Dispatch<R> {
        Dispatch { kv: self.kv.clone(), lease: self.lease.clone() }
    }

    /// Ends the streams of all watches and keep-alives, and those that are opened later: they would never end by themselves.
    pub fn end_streams(&self) {
        self.end_streams.stop();
    }

    /// The member's store, for those who may look without asking raft: judges, metrics.
    pub fn store(&self) -> &Store<R::Disk> {
        &self.store
    }

    /// How far it has applied the log.
    pub fn applied(&self) -> &Watermark {
        &self.applied
    }

    /// What reads have cost this member, by path.
    pub fn read_counters(&self) -> ReadCounters {
        self.counters.snapshot(self.log.stats().syncs_for_reads)
    }

    /// Asks for a snapshot of what is applied, out of turn. Whether it is built is for raft to say: not while another is.
    pub async fn snapshot(&self) -> bool {
        self.raft.trigger().snapshot().await.is_ok()
    }

    /// Makes the store's file as short as it can be. Nobody reads or writes meanwhile.
    ///
    /// # Errors
    /// Somebody reads for too long, and nothing has happened; or the disk's, and the member has failed.
    pub async fn defragment(&self) -> io::Result<()> {
        crate::raft::defragment(&self.store, &self.log).await
    }

    /// Changes who takes part, if this member leads, and waits until that is committed, for as long as it takes: whoever
    /// gives up waiting does not know whether it was done.
    pub async fn change_membership(&self, change: MembershipChange) -> Result<(), MembershipError> {
        if let MembershipChange::Add(member) = change
            && !self.membership().contains(member)
            && self.knows(member).map_err(|_| MembershipError::Stopped)?
        {
            return Err(MembershipError::Used(member));
        }
        crate::raft::change(&self.raft, change).await
    }

    /// Who takes part, as this member knows it.
    pub fn membership(&self) -> Membership {
        Membership::of(&self.raft)
    }

    /// Whether it has heard, through the log, of a member's first start: under that number nobody may start anew.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn knows(&self, member: NodeId) -> Result<bool, StoreError> {
        Attributes::known(member, &self.store)
    }

    /// The index that the last snapshot reaches; 0 if there is none.
    pub fn snapshot_index(&self) -> u64 {
        let metrics = self.raft.metrics();
        metrics.borrow_watched().snapshot.as_ref().map_or(0, |log_id| log_id.index())
    }

    /// What the member says about itself.
    pub fn status(&self) -> Status {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Status {
            term: metrics.current_term,
            leader: metrics.current_leader,
            leads: metrics.state == ServerState::Leader,
            last_index: metrics.last_log_index.unwrap_or(0),
            committed: metrics.local_committed.map_or(0, |committed| committed.index()),
            applied: self.applied.get(),
            revision: self.store.revision(),
            failure: metrics.running_state.as_ref().err().map(|error| self.because(error.to_string())),
        }
    }

    /// Why raft has stopped, in its own words and in the store's: it may notice that the state machine has gone before it
    /// hears what had happened there.
    fn because(&self, stopped: String) -> String {
        match self.store.failure() {
            Some(cause) if !stopped.contains(&cause) => format!("{stopped}: {}: {cause}", self.store.path()),
            _ => stopped,
        }
    }

    /// What its log has done since the member was started.
    pub fn wal_stats(&self) -> WalStats {
        self.log.stats()
    }

    /// Resolves once the member has stopped by itself, which is to say that it has failed: why.
    pub async fn failed(&self) -> String {
        let failed = self.raft.metrics().wait_until(|metrics| metrics.running_state.is_err()).await;
        match failed {
            Ok(metrics) => {
                metrics.running_state.err().map_or_else(String::new, |failure| self.because(failure.to_string()))
            }
            Err(_) => "raft has ended".to_owned(),
        }
    }

    /// Ends the member, and makes durable what it has applied.
    pub async fn stop(self) -> io::Result<()> {
        self.stop.stop();
        self.end_streams();
        // The error says that the core's task had panicked, which its owner has seen.
        let _ = self.raft.shutdown().await;
        crate::raft::flush(&self.store, &self.log).await?;
        Ok(self.log.close().await?)
    }
}
