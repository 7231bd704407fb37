//! A member of a cluster of one, as a child process on loopback.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;
use std::{env, fs, io, process};

use openraft::AsyncRuntime;
use seedbed_core::grpc::Channel;
use seedbed_core::runtime::tokio::TokioRuntime;
use seedbed_proto::etcdserverpb::RangeRequest;
use seedbed_sim::history::{Outcome, Request};
use tempfile::TempDir;
use tokio::net::TcpStream;

use crate::grpc::ask;

/// How often a server is asked whether it listens, and how long is waited in between.
const KNOCKS: u32 = 1000;
const BETWEEN_KNOCKS: Duration = Duration::from_millis(5);

/// How often a server is started anew, if another process took the port that it was to have.
const STARTS: u32 = 3;

/// A member that is alone waits some ticks before it leads; and the least time of a lease follows from these.
const TICKS: [&str; 2] = ["--heartbeat-interval=10", "--election-timeout=100"];

/// A program that takes etcd's flags.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// What differences call it.
    pub(crate) name: &'static str,
    path: PathBuf,
    arguments: &'static [&'static str],
    /// Whether it is asked by way of its proxy.
    by_proxy: bool,
}

impl Program {
    /// Real etcd: the `ETCD` of the environment, or that of the search path.
    pub(crate) fn etcd() -> Program {
        let path = env::var_os("ETCD").map_or_else(|| "etcd".into(), PathBuf::from);
        let arguments = &["--logger=zap", "--log-outputs=stderr", "--log-level=warn"];
        Program { name: "etcd", path, arguments, by_proxy: false }
    }

    /// What it says about its version.
    ///
    /// # Panics
    /// If it cannot be run.
    pub(crate) fn version(&self) -> String {
        let output = Command::new(&self.path).arg("--version").output();
        let output = output.unwrap_or_else(|error| panic!("cannot run {}: {error}", self.path.display()));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Ours, of the profile that this test was built with.
    pub(crate) fn seedbed() -> Program {
        let test = env::current_exe().expect("a running program has a path");
        // target/PROFILE/deps/differential-HASH
        let folder = test.ancestors().nth(2).expect("tests are built into a folder of the profile's");
        Program { name: "the server", path: folder.join("seedbed-server"), arguments: &[], by_proxy: false }
    }

    /// Ours, asked by way of its proxy.
    pub(crate) fn seedbed_by_proxy() -> Program {
        Program { name: "the proxy", by_proxy: true, ..Program::seedbed() }
    }
}

/// A running server with an empty store. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) channel: Channel,
    _processes: Vec<Process>,
    /// Its data, and what it has said.
    folder: TempDir,
}

impl Server {
    /// Starts a server and connects to it.
    ///
    /// # Panics
    /// If it cannot be started: nothing can be compared without it.
    pub(crate) async fn start(program: Program) -> Server {
        for _ in 0..STARTS {
            if let Some(server) = Server::try_start(&program).await {
                return server;
            }
        }
        panic!("{} ended {STARTS} times before it listened", program.path.display());
    }

    /// `None` if it ended before it listened.
    async fn try_start(program: &Program) -> Option<Server> {
        let folder = folder().expect("a folder for a server's data");
        let [client, peer] = [free_port(), free_port()].map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut member = Command::new(&program.path);
        member
            // Both take flags from variables, too.
            .env_clear()
            .args(program.arguments)
            .args(TICKS)
            .args(["--name", "one", "--data-dir"])
            .arg(folder.path().join("data"))
            .arg(format!("--listen-client-urls=http://{client}"))
            .arg(format!("--advertise-client-urls=http://{client}"))
            .arg(format!("--listen-peer-urls=http://{peer}"))
            .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
            .arg(format!("--initial-cluster=one=http://{peer}"));
        let (process, mut channel) = listening(member, client, &folder).await?;
        let mut processes = vec![process];
        if program.by_proxy {
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
            let mut proxy = Command::new(&program.path);
            proxy.env_clear().args(["grpc-proxy", "start"]);
            proxy.arg(format!("--endpoints={client}")).arg(format!("--listen-addr={address}"));
            let (process, by_proxy) = listening(proxy, address, &folder).await?;
            processes.push(process);
            channel = by_proxy;
        }
        // Ours listens before it has a leader, and answers serializable reads without one.
        let linearizable = Request::Range(RangeRequest { key: "ready".into(), ..RangeRequest::default() });
        match ask(&channel, &linearizable).await {
            Outcome::Ok(_) => Some(Server { channel, _processes: processes, folder }),
            refused => panic!("{} is not ready: {refused:?}; it said:\n{}", program.path.display(), said(&folder)),
        }
    }

    /// The end of what it has said, for a reader who looks for the cause of a difference.
    pub(crate) fn said(&self) -> String {
        said(&self.folder)
    }
}

/// Starts a program that is to listen on an address, and connects to it. `None` if it ended before it listened.
async fn listening(mut command: Command, address: SocketAddr, folder: &TempDir) -> Option<(Process, Channel)> {
    let log = File::options().append(true).create(true).open(log_path(folder)).expect("a file for what it says");
    let name = command.get_program().to_owned();
    let process = command
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a second handle on the log"))
        .stderr(log)
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {}: {error}", name.display()));
    let mut process = Process(process);
    let Some(stream) = connect(&mut process, address).await else {
        eprintln!("{} did not listen on {address}; it said:\n{}", name.display(), said(folder));
        return None;
    };
    let authority = address.to_string().parse().expect("an address is an authority");
    let channel = Channel::connect::<TokioRuntime>(stream, authority).await.expect("a connection that was accepted");
    Some((process, channel))
}

/// A child process, which does not outlive this.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// In memory where the system has such a folder: what is compared does not depend on the disk.
fn folder() -> io::Result<TempDir> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { env::temp_dir() };
    tempfile::Builder::new().prefix("differential-").tempdir_in(parent)
}

fn log_path(folder: &TempDir) -> PathBuf {
    folder.path().join("log")
}

fn said(folder: &TempDir) -> String {
    let log = fs::read(log_path(folder)).unwrap_or_default();
    String::from_utf8_lossy(&log[log.len().saturating_sub(4000)..]).into_owned()
}

/// A port that nobody listens on, below those that the kernel gives to outgoing connections: it stays free.
fn free_port() -> u16 {
    const FIRST: u16 = 10_000;
    const PORTS: u16 = 20_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Tests of other processes begin elsewhere.
    let start = (process::id() % u32::from(PORTS)) as u16;
    loop {
        let offset = start.wrapping_mul(53).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, FIRST + offset)).is_ok() {
            return FIRST + offset;
        }
    }
}

/// `None` if the server ends, or does not listen in time.
async fn connect(process: &mut Process, address: SocketAddr) -> Option<TcpStream> {
    for _ in 0..KNOCKS {
        if let Ok(stream) = TcpStream::connect(address).await {
            stream.set_nodelay(true).expect("an option that every TCP socket has");
            return Some(stream);
        }
        if process.0.try_wait().expect("the state of a child process").is_some() {
            return None;
        }
        TokioRuntime::sleep(BETWEEN_KNOCKS).await;
    }
    None
}
