//! Clusters of real servers, and their proxies: child processes on loopback, with their data on the disk.
//!
//! A program is whatever takes etcd's flags and answers etcd's gRPC.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt::Instant;
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::StatusRequest;
use seedbed_core::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use seedbed_core::runtime::tokio::TokioRuntime;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::medium::Medium;

/// How long a cluster has for its first leader, and a proxy for its first answer.
const PATIENCE: Duration = Duration::from_secs(30);

const POLL: Duration = Duration::from_millis(20);

/// A server's program.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    flags: Vec<String>,
}

impl Program {
    /// A program, with flags besides those that name the member and its ports.
    pub fn new(path: impl Into<PathBuf>, flags: &[&str]) -> Self {
        Program { path: path.into(), flags: flags.iter().map(|flag| (*flag).to_owned()).collect() }
    }

    /// `seedbed-server`, as built beside this program.
    ///
    /// # Errors
    /// It is not there; the message says how to build it.
    pub fn seedbed(flags: &[&str]) -> io::Result<Self> {
        Ok(Program::new(beside("seedbed-server")?, flags))
    }
}

/// A program of the workspace, as built beside this one.
///
/// # Errors
/// It is not there; the message says how to build it.
pub fn beside(name: &str) -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    // A bench is in a folder below the binaries.
    let found = own.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|it| it.is_file());
    found.ok_or_else(|| {
        let advice = "build it with `cargo build --release --workspace`";
        io::Error::new(io::ErrorKind::NotFound, format!("no {name} near {}: {advice}", own.display()))
    })
}

/// A cluster that runs. Its processes are killed, and its data removed, when it is dropped.
#[derive(Debug)]
pub struct Cluster {
    /// The members, all of which run.
    pub members: Vec<Server>,
    program: PathBuf,
    /// Dropped after the processes that write to it.
    folder: TempDir,
}

/// A process that answers clients: a member, or a proxy. It is killed when it is dropped.
#[derive(Debug)]
pub struct Server {
    /// Where it answers clients.
    pub client: SocketAddr,
    log: PathBuf,
    process: Child,
}

impl Cluster {
    /// Starts so many members with real files, and waits for a leader that all follow.
    ///
    /// # Errors
    /// What could not be started, or the last lines of the log of a member that has ended.
    pub async fn start(program: &Program, size: u64) -> io::Result<Cluster> {
        let folder = Medium::Disk.temporary()?;
        let names: Vec<String> = (1..=size).map(|n| format!("m{n}")).collect();
        let peers: Vec<String> = names.iter().map(|_| format!("http://127.0.0.1:{}", free_port())).collect();
        let all: Vec<String> = names.iter().zip(&peers).map(|(name, peer)| format!("{name}={peer}")).collect();
        let mut members = Vec::new();
        for (name, peer) in names.iter().zip(&peers) {
            let client = free_address();
            let url = format!("http://{client}");
            let mut command = Command::new(&program.path);
            command
                .args(["--name", name, "--initial-cluster", &all.join(",")])
                .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .arg("--data-dir")
                .arg(folder.path().join(name))
                .args(&program.flags);
            members.push(Server::start(command, client, folder.path().join(format!("{name}.log")))?);
        }
        let mut cluster = Cluster { members, program: program.path.clone(), folder };
        cluster.leader().await?;
        Ok(cluster)
    }

    /// Starts a proxy of all members, of their own program and with its flags at their defaults, and waits until it answers.
    ///
    /// # Errors
    /// It could not be started, or the last lines of its log if it has ended.
    pub async fn proxy(&self) -> io::Result<Server> {
        let client = free_address();
        let endpoints: Vec<String> = self.members.iter().map(|member| member.client.to_string()).collect();
        let mut command = Command::new(&self.program);
        command
            .args(["grpc-proxy", "start", "--endpoints", &endpoints.join(",")])
            .args(["--listen-addr", &client.to_string()]);
        let mut proxy = Server::start(command, client, self.folder.path().join("proxy.log"))?;
        let deadline = <TokioRuntime as AsyncRuntime>::Instant::now() + PATIENCE;
        while proxy.status().await.is_none() {
            proxy.check()?;
            if <TokioRuntime as AsyncRuntime>::Instant::now() > deadline {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("no answer of the proxy for {PATIENCE:?}"),
                ));
            }
            TokioRuntime::sleep(POLL).await;
        }
        Ok(proxy)
    }

    /// Where the leader is in the list, once all members agree on one.
    ///
    /// # Errors
    /// None is agreed upon for long, or a member has ended.
    pub async fn leader(&mut self) -> io::Result<usize> {
        let deadline = <TokioRuntime as AsyncRuntime>::Instant::now() + PATIENCE;
        loop {
            if let Some(leader) = self.agreed().await {
                return Ok(leader);
            }
            self.members.iter_mut().try_for_each(Server::check)?;
            if <TokioRuntime as AsyncRuntime>::Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("no leader for {PATIENCE:?}")));
            }
            TokioRuntime::sleep(POLL).await;
        }
    }

    async fn agreed(&self) -> Option<usize> {
        let mut ids = Vec::new();
        let mut leaders = Vec::new();
        for member in &self.members {
            let (id, leader) = member.status().await?;
            ids.push(id);
            leaders.push(leader);
        }
        let leader = *leaders.first()?;
        leaders.iter().all(|other| *other == leader).then(|| ids.iter().position(|id| *id == leader)).flatten()
    }

    /// The processor time that all members have used, in their own code and in the kernel.
    ///
    /// # Errors
    /// A member has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        self.members.iter().map(Server::cpu).sum()
    }
}

impl Server {
    fn start(mut command: Command, client: SocketAddr, log: PathBuf) -> io::Result<Server> {
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log)?);
        let process = command.spawn().map_err(|error| {
            io::Error::new(error.kind(), format!("{}: {error}", Path::new(command.get_program()).display()))
        })?;
        Ok(Server { client, log, process })
    }

    /// Opens a connection.
    ///
    /// # Errors
    /// Nobody answers there.
    pub async fn connect(&self) -> io::Result<Channel> {
        let stream = TcpStream::connect(self.client).await?;
        stream.set_nodelay(true)?;
        let authority = self.client.to_string().parse().expect("an address is an authority");
        Channel::connect::<TokioRuntime>(stream, authority).await.map_err(io::Error::other)
    }

    /// Its own id, or that of the member behind it, and that of the leader that is followed.
    async fn status(&self) -> Option<(u64, u64)> {
        let mut client = MaintenanceClient::new(self.connect().await.ok()?);
        let status = client.status(StatusRequest {}).await.ok()?.into_inner();
        Some((status.header?.member_id, status.leader))
    }

    /// The page of numbers for Prometheus.
    ///
    /// # Errors
    /// Nobody answers there, or with something else.
    pub async fn metrics(&self) -> io::Result<Metrics> {
        let mut stream = TcpStream::connect(self.client).await?;
        // Of the old version: its answers come in one piece, and not in chunks that split lines.
        let request = format!("GET /metrics HTTP/1.0\r\nHost: {}\r\n\r\n", self.client);
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        match answer.split_once("\r\n\r\n") {
            Some((head, page)) if head.split(' ').nth(1) == Some("200") => Ok(Metrics(page.to_owned())),
            _ => Err(io::Error::new(io::ErrorKind::InvalidData, format!("no metrics from {}", self.client))),
        }
    }

    /// Bytes of its memory that are in use.
    ///
    /// # Errors
    /// It has ended.
    pub fn memory(&self) -> io::Result<u64> {
        let path = format!("/proc/{}/status", self.process.id());
        let status = fs::read_to_string(&path)?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB"));
        let resident = resident.and_then(|kilobytes| kilobytes.trim().parse::<u64>().ok());
        resident.map(|kilobytes| kilobytes * 1024).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, path))
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(status) = self.process.try_wait()? else { return Ok(()) };
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        Err(io::Error::other(format!("a server has ended ({status}); its last lines:\n{}", last.join("\n"))))
    }

    /// The processor time that it has used, in its own code and in the kernel.
    ///
    /// # Errors
    /// It has ended.
    pub fn cpu(&self) -> io::Result<Duration> {
        let path = format!("/proc/{}/stat", self.process.id());
        let stat = fs::read_to_string(Path::new(&path))?;
        // The second field is the program's name, which may have spaces: count behind it.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<u64>().ok());
        let (Some(user), Some(system)) = (ticks(11), ticks(12)) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{path}: {stat}")));
        };
        let a_second = rustix::param::clock_ticks_per_second();
        Ok(Duration::from_secs_f64((user + system) as f64 / a_second as f64))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A server's numbers.
#[derive(Clone, Debug)]
pub struct Metrics(String);

impl Metrics {
    /// A number by its name, with its labels as on the page; 0 if it is not there.
    pub fn get(&self, name: &str) -> f64 {
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        self.0.lines().find_map(value).unwrap_or(0.0)
    }
}

fn free_address() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], free_port()))
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it stays free.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Other processes begin elsewhere.
    let start = (std::process::id() % u32::from(PORTS)) as u16;
    loop {
        let offset = start.wrapping_mul(37).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind(("127.0.0.1", FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_found_by_its_whole_name() {
        let page = "# HELP a A.\na_total 3\na{path=\"log\"} 2.5\na 7\n";
        let metrics = Metrics(page.to_owned());
        assert_eq!(["a", "a{path=\"log\"}", "a_total", "b"].map(|name| metrics.get(name)), [7.0, 2.5, 3.0, 0.0]);
    }
}
