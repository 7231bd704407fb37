//! The simulated network: requests and replies in bytes, between members and from clients to members; and connections of
//! clients to members, which are [byte streams](ByteStream).
//!
//! ```text
//! call ──request──► link a→b ──► handler, a task on b's node ──reply──► link b→a ──► call returns
//!                   latency, loss, cuts                         latency, loss, cuts
//! ```
//!
//! A message in flight is one timer: no task carries it. Each direction of each link draws from a random stream of its
//! own, the same four numbers a message, so that a fault on one link, or its absence, changes nothing on another.
//!
//! - A lost request or reply leaves the caller waiting for ever.
//! - A request to a member that does not serve is refused: the caller hears of it as it would of a reply.
//! - The handler runs on the node of the incarnation that serves. A killed node drops it, a paused one delays it, and
//!   what is sent back to a caller that has gone is dropped.

mod faults;
mod link;
mod stream;
mod transport;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Wake, Waker};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use madsim::runtime::{Handle, NodeHandle};
use seedbed_core::api::Context;
use seedbed_core::raft::{self, NodeId};
use seedbed_core::runtime::{Handler, TransportError};
use tokio::sync::oneshot;

use self::faults::Faults;
pub use self::faults::{FaultId, NetworkStats};
pub use self::link::Weather;
use self::link::{Fate, Links};
use self::stream::Connections;
pub use self::stream::{ByteStream, StreamHandler, WINDOW_BYTES};
pub use self::transport::SimTransport;
use crate::clock::true_now_ns;
use crate::runtime::{arm, at_end, create_node};
use crate::trace;

/// Who sends or receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A member of the cluster.
    Member(NodeId),
    /// A client, by its number.
    Client(u32),
}

impl Address {
    /// As one word, for the trace and for random streams. No member has a number as great as a client's word.
    fn code(self) -> u64 {
        match self {
            Address::Member(node) => node.0,
            Address::Client(client) => !u64::from(client),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Member(node) => write!(f, "member {node}"),
            Address::Client(client) => write!(f, "client {client}"),
        }
    }
}

/// What a client asks of a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientRequest {
    /// The client's number.
    pub client: u32,
    /// The method's name, such as `Range`.
    pub method: Arc<str>,
    /// The encoded request.
    pub body: Bytes,
    /// What travels beside it.
    pub context: Context,
}

/// Answers requests of clients.
pub type ClientHandler = Arc<dyn Fn(ClientRequest) -> BoxFuture<'static, Bytes> + Send + Sync>;

/// The network of a run. Clones are the same network.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

impl fmt::Debug for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Network").field("stats", &self.shared.lock().stats).finish_non_exhaustive()
    }
}

struct Shared {
    state: Mutex<State>,
    /// The node whose tasks send refusals.
    postman: NodeHandle,
}

struct State {
    links: Links,
    faults: Faults,
    members: BTreeMap<NodeId, Member>,
    connections: Connections,
    /// Requests and segments delivered, to know when to sweep.
    delivered: u64,
    stats: NetworkStats,
}

/// What a member serves.
#[derive(Clone, Default)]
struct Member {
    peers: Option<(NodeHandle, Handler)>,
    clients: Option<(NodeHandle, ClientHandler)>,
    streams: Option<(NodeHandle, StreamHandler)>,
}

type Reply = Result<Bytes, TransportError>;

/// Where the first reply to a request goes. A duplicate's reply finds it empty.
type Caller = Arc<Mutex<Option<oneshot::Sender<Reply>>>>;

#[derive(Clone)]
enum Payload {
    Peer(Bytes),
    Client(ClientRequest),
    Reply(Reply),
}

impl Payload {
    /// Whether it may arrive twice, as far as members are concerned: a connection hands bytes over once, and what a client
    /// asks for, itself or by way of a follower, is to be done once.
    fn repeatable(&self) -> bool {
        match self {
            Payload::Peer(request) => raft::is_repeatable(request),
            Payload::Client(_) => false,
            Payload::Reply(_) => true,
        }
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Payload::Peer(bytes) | Payload::Reply(Ok(bytes)) => bytes,
            Payload::Client(request) => &request.body,
            Payload::Reply(Err(_)) => &[],
        }
    }
}

impl State {
    /// Whether a cut stops a message here. If so, counts it.
    fn cut(&mut self, from: Address, to: Address) -> bool {
        let cut = self.faults.cut(from, to);
        if cut {
            self.stats.cut += 1;
            trace::record("net-cut", &[from.code(), to.code()]);
        }
        cut
    }

    /// Draws what becomes of a message that is sent now, and whether it gets lost.
    fn send(&mut self, from: Address, to: Address) -> (Fate, bool) {
        self.stats.sent += 1;
        let mut fate = self.links.draw(from, to);
        if self.cut(from, to) {
            return (fate, true);
        }
        fate.latency_ns += self.faults.delay_ns(from, to);
        let lost = self.links.loses(from, to, fate.loss) || self.faults.loses(from, to, fate.loss);
        if lost {
            self.stats.lost += 1;
            trace::record("net-lost", &[from.code(), to.code()]);
        }
        (fate, lost)
    }

    /// Whether a fault breaks what a message is sent on. If so, counts it.
    fn reset(&mut self, from: Address, to: Address) -> bool {
        let reset = self.faults.resets(from, to);
        if reset {
            self.stats.reset += 1;
            trace::record("net-broken", &[from.code(), to.code()]);
        }
        reset
    }

    /// How long after it is sent a message arrives once more, if it does. If so, counts it.
    fn again_ns(&mut self, from: Address, to: Address, fate: &Fate) -> Option<u64> {
        let again_ns = self.faults.again_ns(from, to, fate.duplicate).map(|later_ns| fate.again_ns + later_ns);
        self.stats.duplicated += u64::from(again_ns.is_some());
        again_ns
    }

    /// Something has been delivered to a node, which may have made tasks of it.
    fn count_delivery(&mut self) {
        self.delivered += 1;
        if self.delivered.is_multiple_of(SWEEP_EVERY) {
            Handle::current().metrics().num_tasks();
        }
    }
}

/// madsim keeps a note of every task that a node ever ran until somebody counts the tasks.
const SWEEP_EVERY: u64 = 4096;

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(self: &Arc<Self>, from: Address, to: Address, payload: Payload, caller: &Caller) {
        let bytes = payload.bytes();
        trace::record("net-send", &[from.code(), to.code(), bytes.len() as u64, trace::digest(bytes)]);
        let mut state = self.lock();
        let (fate, lost) = state.send(from, to);
        if lost {
            return;
        }
        let reset = state.reset(from, to);
        let again = match payload.repeatable() && !reset {
            true => state.again_ns(from, to, &fate),
            false => None,
        };
        drop(state);
        let asked = if matches!(payload, Payload::Reply(_)) { from } else { to };
        let payload = match asked {
            // The caller hears of it when it would have heard of a refusal.
            Address::Member(node) if reset => Payload::Reply(Err(TransportError::Lost(node))),
            _ => payload,
        };
        let message = Arc::new(Message { shared: self.clone(), from, to, payload, caller: caller.clone() });
        let (now, waker) = (true_now_ns(), Waker::from(message));
        // Nothing arrives in no time: a message that did would arrive while it is being sent.
        for latency_ns in [Some(fate.latency_ns), again].into_iter().flatten() {
            arm(now + latency_ns.max(1), &waker);
        }
    }

    fn request(self: &Arc<Self>, from: Address, to: NodeId, payload: Payload) -> oneshot::Receiver<Reply> {
        let (caller, reply) = oneshot::channel();
        self.send(from, Address::Member(to), payload, &Arc::new(Mutex::new(Some(caller))));
        reply
    }
}

impl Network {
    /// A network of the present run, in the same weather on every link.
    pub fn new(weather: Weather) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                links: Links::new(weather),
                faults: Faults::default(),
                members: BTreeMap::new(),
                connections: Connections::default(),
                delivered: 0,
                stats: NetworkStats::default(),
            }),
            postman: create_node("network"),
        });
        // What is served holds the network and is held by it.
        let weak = Arc::downgrade(&shared);
        at_end(move || {
            if let Some(shared) = weak.upgrade() {
                let mut state = shared.lock();
                let taken = (std::mem::take(&mut state.members), std::mem::take(&mut state.connections));
                drop(state);
                drop(taken);
            }
        });
        Network { shared }
    }

    /// A member's side of the network.
    pub fn transport(&self, node: NodeId) -> SimTransport {
        SimTransport::new(self.clone(), node)
    }

    /// Forgets what a member serves, and resets its connections: to be called when it is killed. Requests to it are
    /// refused until it serves again.
    pub fn reset(&self, node: NodeId) {
        trace::record("net-reset", &[node.0]);
        let mut state = self.shared.lock();
        let member = state.members.remove(&node);
        let broken = state.connections.crash(node);
        drop(state);
        // Outside of the lock: what the handlers own may use the network when it is dropped.
        drop(member);
        self.shared.reset_clients(broken);
    }

    /// Sends a client's request to a member and awaits the reply. May wait for ever.
    pub async fn client_call(
        &self,
        client: u32,
        to: NodeId,
        method: &str,
        body: Bytes,
        context: Context,
    ) -> Result<Bytes, TransportError> {
        let request = ClientRequest { client, method: Arc::from(method), body, context };
        let reply = self.shared.request(Address::Client(client), to, Payload::Client(request));
        first_reply(reply).await
    }

    fn serve(&self, node: NodeId, change: impl FnOnce(&mut Member)) {
        let mut state = self.shared.lock();
        let member = state.members.entry(node).or_default();
        let mut changed = member.clone();
        change(&mut changed);
        let replaced = std::mem::replace(member, changed);
        drop(state);
        drop(replaced);
    }
}

async fn first_reply(reply: oneshot::Receiver<Reply>) -> Reply {
    match reply.await {
        Ok(reply) => reply,
        // The request or its reply was lost: nobody will ever tell.
        Err(_) => std::future::pending().await,
    }
}

/// A message on its way. It is the waker of the timer that ends it.
struct Message {
    shared: Arc<Shared>,
    from: Address,
    to: Address,
    payload: Payload,
    caller: Caller,
}

impl Wake for Message {
    /// Called by madsim's timer, which must not be given another timer meanwhile: this only makes tasks ready.
    fn wake(self: Arc<Self>) {
        self.arrive();
    }
}

impl Message {
    fn arrive(&self) {
        let mut state = self.shared.lock();
        let state = &mut *state;
        if state.cut(self.from, self.to) {
            return;
        }
        trace::record("net-arrive", &[self.from.code(), self.to.code()]);
        let (Address::Member(to), false) = (self.to, matches!(self.payload, Payload::Reply(_))) else {
            return self.give_back();
        };
        let member = state.members.get(&to);
        let shared = self.shared.clone();
        let (from, here, caller) = (self.from, self.to, self.caller.clone());
        let reply = move |reply| shared.send(here, from, Payload::Reply(Ok(reply)), &caller);
        let served = match (&self.payload, from) {
            (Payload::Peer(request), Address::Member(peer)) => {
                member.and_then(|member| member.peers.as_ref()).map(|(node, handler)| {
                    let (handler, request) = (handler.clone(), request.clone());
                    node.spawn(async move { reply(handler(peer, request).await) });
                })
            }
            (Payload::Client(request), _) => {
                member.and_then(|member| member.clients.as_ref()).map(|(node, handler)| {
                    let (handler, request) = (handler.clone(), request.clone());
                    node.spawn(async move { reply(handler(request).await) });
                })
            }
            _ => unreachable!("only members call members, and replies were given back"),
        };
        match served {
            Some(()) => state.count_delivery(),
            None => {
                state.stats.refused += 1;
                trace::record("net-refused", &[self.from.code(), self.to.code()]);
                self.refuse(to);
            }
        }
    }

    /// Hands a reply to the caller, if it still waits and has none yet.
    fn give_back(&self) {
        let caller = self.caller.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(caller), Payload::Reply(reply)) = (caller, &self.payload) {
            // The caller may have given up: then nobody wants to know.
            let _ = caller.send(reply.clone());
        }
    }

    /// Sends a refusal back. A timer must not be set from within a timer, so a task does it.
    fn refuse(&self, to: NodeId) {
        let (shared, from, here, caller) = (self.shared.clone(), self.from, self.to, self.caller.clone());
        let refusal = Payload::Reply(Err(TransportError::Unreachable(to)));
        self.shared.postman.spawn(async move { shared.send(here, from, refusal, &caller) });
    }
}

#[cfg(test)]
mod tests;
