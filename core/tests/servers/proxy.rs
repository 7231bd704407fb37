//! A proxy of real servers, for tests: a process on a port of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;

use super::{PROGRAM, connect, eventually, free_port};

/// A proxy of a cluster. It is killed when it is dropped.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) process: Child,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Proxy {
    pub(crate) async fn start(endpoints: &str, flags: &[&str]) -> Proxy {
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let mut command = Command::new(PROGRAM);
        command.args(["grpc-proxy", "start", "--endpoints", endpoints, "--listen-addr", &address.to_string()]);
        command.args(flags).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let process = command.spawn().expect("the program can be run");
        let proxy = Proxy { address, process };
        eventually("a healthy proxy", async || proxy.page("/health").contains("200 OK").then_some(())).await;
        proxy
    }

    /// The answer to a request for a page; nothing, if there is none.
    pub(crate) fn page(&self, path: &str) -> String {
        let mut answer = String::new();
        if let Ok(mut stream) = TcpStream::connect(self.address) {
            let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n");
            let _ = stream.read_to_string(&mut answer);
        }
        answer
    }

    /// One of the numbers for Prometheus.
    pub(crate) fn number(&self, name: &str) -> u64 {
        let page = self.page("/metrics");
        let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {page}")).trim().parse().expect("a number")
    }

    pub(crate) async fn channel(&self) -> Channel {
        eventually("a connection", async || connect(self.address).await).await
    }

    pub(crate) async fn kv(&self) -> KvClient<Channel> {
        KvClient::new(self.channel().await)
    }
}
