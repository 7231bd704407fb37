//! Members that a test starts, stops, crashes and asks by hand.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use madsim::runtime::NodeHandle;
use madsim::task::NodeId as SimNode;
use madsim::time::{sleep, timeout};
use prost::Message;
use seedbed_core::api::{Context, Limits};
use seedbed_core::auto_compaction::AutoCompaction;
use seedbed_core::lease::LeaseOptions;
use seedbed_core::members::{Attributes, Directory};
use seedbed_core::mvcc;
use seedbed_core::node::{Node, NodeOptions, StartError};
use seedbed_core::raft::{NodeId, RaftOptions};
use seedbed_core::runtime::{Disk, File, Host};
use seedbed_core::wal::WalOptions;
use seedbed_core::watch::WatchOptions;
use seedbed_proto::etcdserverpb::cluster_server::Cluster;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, Member as ListedMember, MemberListRequest, PutRequest, PutResponse,
    RangeRequest, RangeResponse,
};
use seedbed_sim::disk::SimDisk;
use seedbed_sim::network::{Network, Weather};
use seedbed_sim::runtime::{MadsimRuntime, clock_of, create_node, kill, restart};
use seedbed_sim::{service, wire};

/// How long a test waits for what must come, in virtual time: longer than a member takes to give up.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(5);

/// The members of a test.
pub(crate) struct Members {
    pub(crate) network: Network,
    options: NodeOptions,
    members: BTreeMap<NodeId, Member>,
}

struct Member {
    home: NodeHandle,
    disk: SimDisk,
    /// While it runs.
    node: Option<Node<MadsimRuntime>>,
    killed: bool,
    restarts: u32,
}

impl Members {
    /// Members 1 to `count`, which run and have a leader.
    pub(crate) async fn start(count: u64, adjust: impl FnOnce(&mut NodeOptions)) -> Members {
        let ids: Vec<_> = (1..=count).map(NodeId).collect();
        let mut options = NodeOptions {
            cluster_id: 0x5eed,
            node: NodeId(0),
            initial_members: ids.iter().copied().collect(),
            joins: false,
            raft: RaftOptions {
                heartbeat_interval: Duration::from_millis(100),
                election_timeout: Duration::from_millis(1000),
                snapshot_entries: 10_000,
                keep_entries: 1_000,
            },
            wal: WalOptions { segment_bytes_max: 64 << 10, ..WalOptions::default() },
            store: mvcc::Options { cache_bytes: 1 << 20, ..mvcc::Options::default() },
            limits: Limits::default(),
            lease_drift_ppm: None,
            directory: Directory::default(),
            auto_compaction: AutoCompaction::default(),
            watch: WatchOptions::default(),
            lease: LeaseOptions::default(),
        };
        adjust(&mut options);
        let network = Network::new(Weather { latency_us: [200, 1_000], loss_permille: 0 });
        let member = |id: NodeId| {
            let (home, disk) = (create_node(&format!("m{id}")), SimDisk::new(id.0, [100, 2_000]));
            (id, Member { home, disk, node: None, killed: false, restarts: 0 })
        };
        let mut members = Members { network, options, members: ids.iter().copied().map(member).collect() };
        for id in ids {
            members.boot(id.0).await.expect("a new member starts");
        }
        members.leader().await;
        members
    }

    /// Starts a member that does not run, on the disk that it has.
    pub(crate) async fn boot(&mut self, id: u64) -> Result<(), StartError> {
        let attributes = Attributes { name: format!("m{id}"), client_urls: vec![format!("http://10.0.0.{id}:2379")] };
        let directory = Directory { attributes: Some(attributes), ..self.options.directory.clone() };
        let joins = !self.options.initial_members.contains(&NodeId(id));
        let options = NodeOptions { node: NodeId(id), joins, directory, ..self.options.clone() };
        let transport = self.network.transport(NodeId(id));
        let member = self.member_mut(id);
        if std::mem::take(&mut member.killed) {
            member.home = restart(member.home.id());
            member.restarts += 1;
        }
        let life = member.restarts;
        let host = Host { clock: clock_of(member.home.id()), disk: member.disk.handle(), transport: transport.clone() };
        let starting = member.home.spawn(async move {
            let node = Node::<MadsimRuntime>::start(host, options).await?;
            service::serve(&transport, &node, life);
            Ok::<_, StartError>(node)
        });
        member.node = Some(starting.await.expect("nobody kills it meanwhile")?);
        Ok(())
    }

    /// Makes a member that does not run yet, for a cluster that has added it or is about to.
    pub(crate) fn make(&mut self, id: u64) {
        let (home, disk) = (create_node(&format!("m{id}")), SimDisk::new(id, [100, 2_000]));
        self.members.insert(NodeId(id), Member { home, disk, node: None, killed: false, restarts: 0 });
    }

    /// Ends a member as its operator does. Its process, and what it serves, live on.
    pub(crate) async fn stop(&mut self, id: u64) {
        let member = self.member_mut(id);
        let node = member.node.take().expect("it runs");
        member.home.spawn(node.stop()).await.expect("nobody kills it meanwhile").expect("its disk works");
    }

    /// The power of a member's machine goes.
    pub(crate) fn crash(&mut self, id: u64) {
        let member = self.member_mut(id);
        member.node = None;
        member.killed = true;
        kill(member.home.id());
        member.disk.crash();
        self.network.reset(NodeId(id));
    }

    /// A member that runs.
    pub(crate) fn node(&self, id: u64) -> &Node<MadsimRuntime> {
        self.members[&NodeId(id)].node.as_ref().expect("it runs")
    }

    /// The simulated node of a member, to pause and resume.
    pub(crate) fn home(&self, id: u64) -> SimNode {
        self.members[&NodeId(id)].home.id()
    }

    /// A member's disk.
    pub(crate) fn disk(&self, id: u64) -> &SimDisk {
        &self.members[&NodeId(id)].disk
    }

    /// Somebody to ask members with.
    pub(crate) fn client(&self) -> Client {
        Client { network: self.network.clone() }
    }

    /// Waits until somebody leads whom all that run follow, and says who.
    pub(crate) async fn leader(&self) -> u64 {
        let all: Vec<_> = self.running().collect();
        self.leader_of(&all).await
    }

    /// Waits until one of these leads and the others follow it.
    pub(crate) async fn leader_of(&self, side: &[u64]) -> u64 {
        let led = async {
            loop {
                let statuses: Vec<_> = side.iter().map(|id| self.node(*id).status()).collect();
                if let Some(leader) = statuses[0].leader
                    && side.contains(&leader.0)
                    && self.node(leader.0).status().leads
                    && statuses.iter().all(|status| status.leader == Some(leader) && status.term == statuses[0].term)
                {
                    return leader.0;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, led).await.expect("a leader is elected")
    }

    /// What a member lists, once it knows the names of all.
    pub(crate) async fn published(&self, id: u64) -> Vec<ListedMember> {
        let named = async {
            loop {
                let request = tonic::Request::new(MemberListRequest { linearizable: false });
                let listed = self.node(id).cluster().member_list(request).await.expect("it runs").into_inner();
                if listed.members.iter().all(|member| !member.name.is_empty()) {
                    return listed.members;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, named).await.expect("members publish themselves")
    }

    /// Waits until all members that run have applied the same log, and checks that they hold the same.
    pub(crate) async fn agree(&self) {
        let agreed = async {
            loop {
                let statuses: Vec<_> = self.running().map(|id| self.node(id).status()).collect();
                let last = statuses.iter().map(|status| status.last_index).max();
                if statuses.iter().any(|status| status.leads)
                    && statuses.iter().all(|status| Some(status.applied) == last)
                {
                    return;
                }
                sleep(POLL).await;
            }
        };
        timeout(PATIENCE, agreed).await.expect("members come to the same place");
        let hashes: Vec<_> = self.running().map(|id| self.node(id).store().hash(0).expect("readable")).collect();
        assert!(hashes.iter().all(|hash| *hash == hashes[0]), "{hashes:?}");
    }

    fn running(&self) -> impl Iterator<Item = u64> {
        self.members.iter().filter(|(_, member)| member.node.is_some()).map(|(id, _)| id.0)
    }

    fn member_mut(&mut self, id: u64) -> &mut Member {
        self.members.get_mut(&NodeId(id)).expect("one of the members")
    }
}

/// Asks members, one call at a time or many at once.
#[derive(Clone)]
pub(crate) struct Client {
    network: Network,
}

/// What a member answers, or the text of its error.
pub(crate) type Answer<T> = Result<T, String>;

impl Client {
    async fn call<M: Message + Default>(&self, member: u64, path: &str, request: &impl Message) -> Answer<M> {
        let call =
            self.network.client_call(1, NodeId(member), path, request.encode_to_vec().into(), Context::default());
        let reply = timeout(PATIENCE, call).await.map_err(|_| "no answer at all".to_owned())?;
        let answer = wire::decode(reply.map_err(|error| error.to_string())?).expect("replies arrive whole");
        answer.result.map(|body| M::decode(body).expect("replies arrive whole")).map_err(|(_, message)| message)
    }

    /// Gives the revision of the change.
    pub(crate) async fn put(&self, member: u64, key: &str, value: impl Into<Bytes>) -> Answer<i64> {
        let request = PutRequest { key: key.to_owned().into(), value: value.into(), ..PutRequest::default() };
        let response: PutResponse = self.call(member, "/etcdserverpb.KV/Put", &request).await?;
        Ok(response.header.expect("every response has one").revision)
    }

    /// A linearizable read.
    pub(crate) async fn get(&self, member: u64, key: &str) -> Answer<Option<Bytes>> {
        self.read(member, RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() }).await
    }

    /// A read of what this member has.
    pub(crate) async fn get_serializable(&self, member: u64, key: &str) -> Answer<Option<Bytes>> {
        let key = key.to_owned().into();
        self.read(member, RangeRequest { key, serializable: true, ..RangeRequest::default() }).await
    }

    async fn read(&self, member: u64, request: RangeRequest) -> Answer<Option<Bytes>> {
        let mut response = self.range(member, request).await?;
        Ok(response.kvs.pop().map(|kv| kv.value))
    }

    pub(crate) async fn range(&self, member: u64, request: RangeRequest) -> Answer<RangeResponse> {
        self.call(member, "/etcdserverpb.KV/Range", &request).await
    }

    pub(crate) async fn compact(&self, member: u64, request: CompactionRequest) -> Answer<CompactionResponse> {
        self.call(member, "/etcdserverpb.KV/Compact", &request).await
    }
}

/// Removes every file in a folder of a member that does not run.
pub(crate) async fn empty(disk: &SimDisk, dir: &str) {
    let disk = disk.handle();
    for name in disk.list(dir).expect("the folder is there") {
        disk.remove(&format!("{dir}/{name}")).expect("it was listed");
    }
    disk.sync_dir(dir).await.expect("the disk works");
}

/// A copy of every file in a folder.
pub(crate) fn backup(disk: &SimDisk, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let disk = disk.handle();
    let read = |name: String| {
        let file = disk.open(&format!("{dir}/{name}")).expect("it was listed");
        let mut bytes = vec![0; file.size().expect("the disk works") as usize];
        file.read_at(0, &mut bytes).expect("the disk works");
        (name, bytes)
    };
    disk.list(dir).expect("the folder is there").into_iter().map(read).collect()
}

/// Puts the files of a copy into an empty folder.
pub(crate) async fn restore(disk: &SimDisk, dir: &str, copy: &BTreeMap<String, Vec<u8>>) {
    let disk = disk.handle();
    for (name, bytes) in copy {
        let file = disk.create(&format!("{dir}/{name}")).expect("the folder is empty");
        file.write_at(0, bytes).expect("the disk works");
        file.sync().await.expect("the disk works");
    }
    disk.sync_dir(dir).await.expect("the disk works");
}
