//! Real servers for tests: processes on ports and folders of their own.

#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod proxy;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt::Instant;
use rustix::process::{Pid, Signal, kill_process};
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::cluster_client::ClusterClient;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use seedbed_core::proto::etcdserverpb::{
    Member, MemberListRequest, PutRequest, RangeRequest, RangeResponse, StatusRequest, StatusResponse,
};
use seedbed_core::runtime::tokio::TokioRuntime;
use tokio::net::TcpStream;

/// The program under test.
pub(crate) const PROGRAM: &str = env!("CARGO_BIN_EXE_seedbed-server");

/// How long a test waits for what must come before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

const POLL: Duration = Duration::from_millis(10);

/// Runs a test on a real runtime.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    TokioRuntime::new(2).block_on(test)
}

/// Waits until there is something.
pub(crate) async fn eventually<T>(what: &str, mut attempt: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = <TokioRuntime as AsyncRuntime>::Instant::now() + PATIENCE;
    loop {
        if let Some(there) = attempt().await {
            return there;
        }
        assert!(<TokioRuntime as AsyncRuntime>::Instant::now() < deadline, "in vain: {what}");
        TokioRuntime::sleep(POLL).await;
    }
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it stays free.
pub(crate) fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of other processes begin elsewhere.
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let offset = start.wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}

/// The servers of one cluster. They are killed when it is dropped.
pub(crate) struct Cluster {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) servers: Vec<Server>,
}

/// One server, running or not.
pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) client: SocketAddr,
    pub(crate) data_dir: PathBuf,
    log: PathBuf,
    args: Vec<String>,
    /// What the program is run by, for instance a tracer.
    pub(crate) wrapper: Vec<String>,
    process: Option<Child>,
}

impl Cluster {
    /// A cluster of so many members, none of them started, with these flags besides those that a member needs.
    pub(crate) fn new(size: usize, flags: &[&str]) -> Cluster {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let names: Vec<String> = (1..=size).map(|n| format!("m{n}")).collect();
        let peers: Vec<String> = names.iter().map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let members: Vec<String> = names.iter().zip(&peers).map(|(name, peer)| format!("{name}={peer}")).collect();
        let servers = names.iter().zip(&peers).map(|(name, peer)| {
            let client = SocketAddr::from(([127, 0, 0, 1], free_port()));
            let data_dir = folder.path().join(name);
            let mut args: Vec<String> = Vec::new();
            let client_url = format!("http://{client}");
            for (flag, value) in [
                ("name", name.as_str()),
                ("data-dir", data_dir.to_str().expect("temporary folders have plain names")),
                ("listen-client-urls", &client_url),
                ("advertise-client-urls", &client_url),
                ("listen-peer-urls", peer),
                ("initial-advertise-peer-urls", peer),
                ("initial-cluster", &members.join(",")),
            ] {
                args.extend([format!("--{flag}"), value.to_owned()]);
            }
            args.extend(flags.iter().map(|flag| (*flag).to_owned()));
            let log = folder.path().join(format!("{name}.log"));
            Server { name: name.clone(), client, data_dir, log, args, wrapper: Vec::new(), process: None }
        });
        let servers = servers.collect();
        Cluster { folder, servers }
    }

    /// A cluster that runs and has a leader.
    pub(crate) async fn start(size: usize, flags: &[&str]) -> Cluster {
        let mut cluster = Cluster::new(size, flags);
        cluster.servers.iter_mut().for_each(Server::start);
        cluster.leader().await;
        cluster
    }

    /// Where the leader is in the list, once all members that run agree on one.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", async || {
            let mut leaders = Vec::new();
            let mut ids = Vec::new();
            for server in &self.servers {
                let status = if server.runs() { server.try_status().await } else { None };
                let status = if server.runs() { Some(status?) } else { None };
                leaders.extend(status.as_ref().map(|status| status.leader));
                ids.push(status.and_then(|status| status.header).map(|header| header.member_id));
            }
            let leader = leaders.first().copied().filter(|leader| leaders.iter().all(|other| other == leader))?;
            ids.iter().position(|id| *id == Some(leader))
        })
        .await
    }

    /// Waits until each member knows the names of all.
    pub(crate) async fn published(&self) {
        for server in &self.servers {
            eventually("all names on every member", async || {
                let named = server.members().await.into_iter().filter(|member| !member.name.is_empty()).count();
                (named == self.servers.len()).then_some(())
            })
            .await;
        }
    }

    /// Where clients find the members, as etcdctl takes it.
    pub(crate) fn endpoints(&self) -> String {
        self.servers.iter().map(|server| server.client.to_string()).collect::<Vec<_>>().join(",")
    }
}

impl Server {
    /// Starts the process. Whether it serves is another question.
    pub(crate) fn start(&mut self) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        let log = fs::File::options().create(true).append(true).open(&self.log).expect("the log can be opened");
        let mut words =
            self.wrapper.iter().map(String::as_str).chain([PROGRAM]).chain(self.args.iter().map(String::as_str));
        let program = words.next().expect("there is a program at least");
        let mut command = Command::new(program);
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        self.process = Some(command.spawn().unwrap_or_else(|error| panic!("{program} cannot be run: {error}")));
    }

    /// Other flags for its next life.
    pub(crate) fn set_args(&mut self, args: &[&str]) {
        self.args = args.iter().map(|arg| (*arg).to_owned()).collect();
    }

    /// Whether it was started and has not been seen to end.
    pub(crate) fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// What it has logged in all its lives.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The number of its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.as_ref().expect("it runs").id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let process = self.process.as_ref().expect("it runs");
        kill_process(Pid::from_child(process), signal).expect("a child can be signalled");
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let process = self.process.as_mut().expect("it runs");
        let status = eventually(&what, async || process.try_wait().expect("a child can be awaited")).await;
        self.process = None;
        status
    }

    /// Ends it as an operator does.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }

    /// Ends it as a power cut does, but for the kernel's page cache.
    pub(crate) async fn kill(&mut self) {
        self.begin_kill();
        self.killed().await;
    }

    /// The first half of [`kill`](Server::kill), for more than one at a time.
    pub(crate) fn begin_kill(&self) {
        self.signal(Signal::KILL);
    }

    /// Waits for the end of a killed one, which until then must not have ended by itself.
    pub(crate) async fn killed(&mut self) {
        let status = self.ended().await;
        assert_eq!(status.signal(), Some(Signal::KILL.as_raw()), "{} has ended by itself: {status}", self.name);
    }

    pub(crate) async fn channel(&self) -> Option<Channel> {
        connect(self.client).await
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(eventually("a connection", async || self.channel().await).await)
    }

    async fn cluster(&self) -> ClusterClient<Channel> {
        ClusterClient::new(eventually("a connection", async || self.channel().await).await)
    }

    pub(crate) async fn try_status(&self) -> Option<StatusResponse> {
        let mut client = MaintenanceClient::new(self.channel().await?);
        Some(client.status(StatusRequest {}).await.ok()?.into_inner())
    }

    pub(crate) async fn status(&self) -> StatusResponse {
        eventually("a status", async || self.try_status().await).await
    }

    /// The members that it knows.
    pub(crate) async fn members(&self) -> Vec<Member> {
        let request = MemberListRequest { linearizable: true };
        self.cluster().await.member_list(request).await.expect("a member lists").into_inner().members
    }

    pub(crate) async fn put(&self, key: &str, value: &str) {
        let request = put(key, value);
        self.kv().await.put(request).await.expect("a cluster with a leader takes a put");
    }

    pub(crate) async fn get(&self, key: &str) -> RangeResponse {
        let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
        self.kv().await.range(request).await.expect("a cluster with a leader answers a range").into_inner()
    }

    /// The value of a key, if there is one.
    pub(crate) async fn value(&self, key: &str) -> Option<String> {
        let found = self.get(key).await;
        found.kvs.first().map(|pair| String::from_utf8_lossy(&pair.value).into_owned())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended by itself.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- log of {}\n{}", self.name, self.log());
        }
    }
}

/// A connection for clients, if there is somebody.
pub(crate) async fn connect(server: SocketAddr) -> Option<Channel> {
    Some(connect_from(server).await?.0)
}

/// A connection, and the port that the client has on it.
pub(crate) async fn connect_from(server: SocketAddr) -> Option<(Channel, u16)> {
    let stream = TcpStream::connect(server).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let port = stream.local_addr().ok()?.port();
    let authority = server.to_string().parse().expect("an address is an authority");
    Some((Channel::connect::<TokioRuntime>(stream, authority).await.ok()?, port))
}

/// A request to put a pair.
pub(crate) fn put(key: &str, value: &str) -> PutRequest {
    PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() }
}
