//! TCP between members.
//!
//! ```text
//!   caller                                                       answerer
//!   TokioTransport::call ──► Link ══ connection: hello, hello ══► Listener ──► Handler
//!                             ▲       ── request 7 ──►             │ a task for each request
//!                             └────── ◄── reply 7 ── ──────────────┘
//! ```
//!
//! A [`Link`] to each peer keeps at most one connection, over which any number of calls go in one direction; calls in
//! the other direction take the connection that the peer makes. Both ends begin with a [`Hello`](hello::Hello) and
//! refuse each other unless they agree on protocol, cluster and who is who.
//!
//! Invariants:
//!
//! - A connection is made when it is needed, and at a bounded rate. The kernel gives one up whose peer is silent
//!   ([`TransportOptions::silence_max`]), so that a healed network is noticed within seconds, however long it was broken.
//! - A call's slot lives as long as the call's future, or until it is answered.
//! - Nothing that a socket delivers panics, and none of it is allocated for before it has arrived, beyond a small
//!   buffer. Frames, requests being answered and connections are bounded.
//!
//! Members are not authenticated: whoever can reach the port and knows the cluster's id can speak as one.

mod frame;
mod hello;
mod link;
mod listener;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;

use self::hello::Identity;
use self::link::Link;
use crate::ids::NodeId;
use crate::runtime::{Handler, Transport, TransportError};

/// Bounds of a [`TokioTransport`]. The members of a cluster must agree on `frame_bytes_max`.
#[derive(Clone, Copy, Debug)]
pub struct TransportOptions {
    /// The longest request or reply. 64 MiB.
    pub frame_bytes_max: usize,
    /// The most that the requests of one connection may take up while they are answered. No less than a frame.
    pub answering_bytes_max: usize,
    /// Connections that other members may have open. 256.
    pub connections_max: usize,
    /// How long making a connection may take, hellos included. 3 s.
    pub connect_timeout: Duration,
    /// The pause after a failed connection, and the most that it doubles to. 20 ms to 500 ms.
    pub reconnect_delay: (Duration, Duration),
    /// How long a peer's machine may leave data unacknowledged before its connection is given up. 5 s.
    pub silence_max: Duration,
}

impl Default for TransportOptions {
    fn default() -> Self {
        TransportOptions {
            frame_bytes_max: 64 << 20,
            answering_bytes_max: 128 << 20,
            connections_max: 256,
            connect_timeout: Duration::from_secs(3),
            reconnect_delay: (Duration::from_millis(20), Duration::from_millis(500)),
            silence_max: Duration::from_secs(5),
        }
    }
}

/// A member's connections to the others. Clones are the same. It ends when it is [closed](TokioTransport::close), or when
/// the last clone is dropped; one that the handler holds counts too.
#[derive(Clone)]
pub struct TokioTransport {
    shared: Arc<Shared>,
}

struct Shared {
    identity: Identity,
    options: TransportOptions,
    address: SocketAddr,
    handler: Arc<Mutex<Option<Handler>>>,
    /// `None` once closed.
    links: Mutex<Option<BTreeMap<NodeId, Link>>>,
    listening: Mutex<Vec<AbortHandle>>,
}

impl Shared {
    fn stop_listening(&self) {
        unpoisoned(&self.listening).drain(..).for_each(|listening| listening.abort());
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.stop_listening();
    }
}

impl TokioTransport {
    /// Listens for the other members of a cluster on an address, and knows where they listen. Members are refused until
    /// [`serve`](Transport::serve) is called.
    pub async fn bind(
        node: NodeId,
        cluster_id: u64,
        listen_addr: &str,
        peers: BTreeMap<NodeId, String>,
    ) -> io::Result<Self> {
        Self::bind_with(node, cluster_id, listen_addr, peers, TransportOptions::default()).await
    }

    /// [`bind`](TokioTransport::bind), with other bounds.
    pub async fn bind_with(
        node: NodeId,
        cluster_id: u64,
        listen_addr: &str,
        peers: BTreeMap<NodeId, String>,
        options: TransportOptions,
    ) -> io::Result<Self> {
        let (socket, address) = listen(listen_addr).await?;
        let identity = Identity { cluster: cluster_id, node };
        let handler = Arc::new(Mutex::new(None));
        let listening = listener::start(socket, identity, options, handler.clone());
        let (links, listening) = (Mutex::new(Some(BTreeMap::new())), Mutex::new(vec![listening]));
        let shared = Shared { identity, options, address, handler, links, listening };
        let transport = TokioTransport { shared: Arc::new(shared) };
        transport.set_peers(peers);
        Ok(transport)
    }

    /// Listens on another address as well, and returns it; it names the port if any was asked for.
    pub async fn listen_also(&self, listen_addr: &str) -> io::Result<SocketAddr> {
        let (socket, address) = listen(listen_addr).await?;
        let Shared { identity, options, handler, .. } = &*self.shared;
        let listening = listener::start(socket, *identity, *options, handler.clone());
        unpoisoned(&self.shared.listening).push(listening);
        Ok(address)
    }

    /// The first address that it listens on, which the others can connect to; it names the port if any was asked for.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.address
    }

    /// Says anew where the other members listen, as `host:port`. Calls under way to members that are gone or have
    /// moved are lost.
    pub fn set_peers(&self, peers: BTreeMap<NodeId, String>) {
        let mut links = unpoisoned(&self.shared.links);
        let Some(links) = &mut *links else { return };
        links.retain(|node, link| peers.get(node).is_some_and(|address| address == link.address()));
        for (node, address) in peers {
            links.entry(node).or_insert_with(|| Link::start(self.shared.identity, node, address, self.shared.options));
        }
    }

    /// Ends it for good: closes the port, loses the calls that are under way and drops the handler. Requests being
    /// answered go on.
    pub fn close(&self) {
        self.shared.stop_listening();
        unpoisoned(&self.shared.links).take();
        let handler = unpoisoned(&self.shared.handler).take();
        // It may hold the last clone but this one, and whatever else.
        drop(handler);
    }
}

impl fmt::Debug for TokioTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokioTransport")
            .field("node", &self.shared.identity.node)
            .field("address", &self.shared.address)
            .finish()
    }
}

impl Transport for TokioTransport {
    async fn call(&self, to: NodeId, request: Bytes) -> Result<Bytes, TransportError> {
        let link = unpoisoned(&self.shared.links).as_ref().and_then(|links| links.get(&to).cloned());
        link.ok_or(TransportError::Unreachable(to))?.call(request).await
    }

    fn serve(&self, handler: Handler) {
        *unpoisoned(&self.shared.handler) = Some(handler);
    }
}

async fn listen(address: &str) -> io::Result<(TcpListener, SocketAddr)> {
    let about = |error: io::Error| io::Error::new(error.kind(), format!("listen on {address}: {error}"));
    let socket = TcpListener::bind(address).await.map_err(about)?;
    let bound = socket.local_addr().map_err(about)?;
    Ok((socket, bound))
}

/// What both ends ask of the kernel for a connection, and servers for those of their clients. `silence_max` is how long
/// the other machine may be silent while data or a probe is on its way to it.
pub(crate) fn set_up(stream: &TcpStream, silence_max: Duration) -> io::Result<()> {
    // Requests are written whole: waiting to fill a packet only delays them.
    stream.set_nodelay(true)?;
    // Idle connections are probed, and those with data under way give up in the same time: without this, a connection
    // through a broken network is found dead after a quarter of an hour, or resumes with a pause of minutes.
    use rustix::net::sockopt;
    let (probes, interval) = (4, (silence_max / 5).max(Duration::from_secs(1)));
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, interval)?;
    sockopt::set_tcp_keepintvl(stream, interval)?;
    sockopt::set_tcp_keepcnt(stream, probes)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(stream, u32::try_from(silence_max.as_millis()).unwrap_or(u32::MAX))?;
    Ok(())
}

/// Nothing here is left half-changed by a panic.
fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
