//! Proxies between clients and members, each on a node of its own.
//!
//! ```text
//!   client ── connection ──► proxy ── a connection to one of them ──► members
//! ```
//!
//! To clients a proxy is a member with a number beyond all others; to members it is a client. In the history it has an
//! incarnation for each connection, since that is for what it promises not to go back.

use std::cell::RefCell;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::BoxFuture;
use madsim::runtime::Handle;
use madsim::task::NodeId as SimNode;
use seedbed_core::grpc::{Channel, ChannelOptions};
use seedbed_core::proxy::{Connect, Proxy, ProxyOptions};
use seedbed_core::raft::NodeId;
use seedbed_core::watch::WatchOptions;

use crate::client::Role;
use crate::cluster::{Roster, watch_options};
use crate::network::{Address, Network};
use crate::plan::{Plan, ProxyPlan};
use crate::rng::{self, Draw as _};
use crate::runtime::{MadsimRuntime, create_node, kill, restart};
use crate::service;

/// The number of a proxy, as clients know it, is beyond this.
const PROXIES: u64 = 1 << 24;

/// How long a proxy waits for a connection to a member, and then for a word of it: more than an election.
const PATIENCE: Duration = Duration::from_millis(700);

/// The proxies of a run.
pub struct Proxies {
    plan: Option<ProxyPlan>,
    watch: WatchOptions,
    network: Network,
    /// The members that they know.
    members: Vec<NodeId>,
    proxies: Vec<Place>,
}

/// One of them, dead or alive.
struct Place {
    id: NodeId,
    sim: SimNode,
    /// Its number as a client of members.
    client: u32,
    /// Connections that clients have had.
    connections: Arc<AtomicU64>,
    runs: bool,
    running: Arc<Mutex<Option<Proxy<MadsimRuntime>>>>,
}

/// Whether what has this number is a proxy.
pub fn is_proxy(member: u64) -> bool {
    member > PROXIES
}

impl Proxies {
    /// Those of a plan, none of them started.
    pub fn new(plan: &Plan, network: &Network, members: &[NodeId]) -> Proxies {
        let proxies = (0..plan.proxy.map_or(0, |proxy| proxy.proxies)).map(|nth| Place {
            id: NodeId(PROXIES + 1 + u64::from(nth)),
            sim: create_node(&format!("p{nth}")).id(),
            client: Role::Proxy { nth }.number(&plan.workload),
            connections: Arc::default(),
            runs: false,
            running: Arc::default(),
        });
        Proxies {
            plan: plan.proxy,
            watch: plan.watch.as_ref().map_or_else(WatchOptions::default, watch_options),
            network: network.clone(),
            members: members.to_vec(),
            proxies: proxies.collect(),
        }
    }

    /// Starts them all.
    pub fn start(&mut self) {
        for proxy in 1..=self.proxies.len() as u32 {
            self.boot(proxy);
        }
    }

    fn place(&self, proxy: u32) -> &Place {
        &self.proxies[proxy as usize - 1]
    }

    /// Who a proxy is to members, from 1.
    pub fn address(&self, proxy: u32) -> Address {
        Address::Client(self.place(proxy).client)
    }

    /// Whom a client asks: proxies, if its seed says so, and members otherwise.
    pub fn roster(&self, seed: u64, client: u32, members: &Roster) -> Roster {
        let Some(plan) = self.plan else { return members.clone() };
        if rng::stream(seed, "by-proxy", u64::from(client)).chance(plan.percent * 10) {
            Rc::new(RefCell::new(self.proxies.iter().map(|place| place.id).collect()))
        } else {
            members.clone()
        }
    }

    /// A proxy's process dies. False if it did not run.
    pub fn kill(&mut self, proxy: u32) -> bool {
        let network = self.network.clone();
        let place = &mut self.proxies[proxy as usize - 1];
        if !std::mem::replace(&mut place.runs, false) {
            return false;
        }
        kill(place.sim);
        network.reset(place.id);
        let gone = place.running.lock().expect("nobody panics with it").take();
        drop(gone);
        true
    }

    /// Starts a proxy that does not run.
    pub fn boot(&mut self, proxy: u32) {
        let Some(plan) = self.plan else { return };
        let (network, members, watch) = (self.network.clone(), self.members.clone(), self.watch);
        let place = &mut self.proxies[proxy as usize - 1];
        if std::mem::replace(&mut place.runs, true) {
            return;
        }
        let handle = Handle::current();
        let node = if handle.is_exit(place.sim) {
            restart(place.sim)
        } else {
            handle.get_node(place.sim).expect("the node was made by this run")
        };
        let (id, client) = (place.id, place.client);
        let (connections, running) = (place.connections.clone(), place.running.clone());
        node.spawn(async move {
            let options = ProxyOptions {
                namespace: Default::default(),
                staleness_max: Duration::from_millis(plan.staleness_ms),
                ranges_max: plan.ranges as usize,
                dial_timeout: PATIENCE,
                silence_max: PATIENCE,
                watch,
                registration: None,
                message_bytes: usize::MAX,
            };
            let proxy = Proxy::<MadsimRuntime>::start(Members { network: network.clone(), client, members }, options);
            let transport = network.transport(id);
            service::serve_proxy(&transport, &proxy, connections);
            *running.lock().expect("nobody panics with it") = Some(proxy);
        });
    }
}

/// Members, as a proxy reaches them.
struct Members {
    network: Network,
    client: u32,
    members: Vec<NodeId>,
}

impl Connect for Members {
    fn endpoints(&self) -> usize {
        self.members.len()
    }

    fn connect(&self, endpoint: usize) -> BoxFuture<'static, io::Result<Channel>> {
        let (network, client, member) = (self.network.clone(), self.client, self.members[endpoint]);
        Box::pin(async move {
            let stream = network.connect(client, member).await?;
            let authority = format!("m{member}").parse().expect("a member's name is one of a host");
            let options = ChannelOptions { silence_max: Some(PATIENCE), ..ChannelOptions::default() };
            Channel::connect_with::<MadsimRuntime>(stream, authority, options).await.map_err(io::Error::other)
        })
    }
}

/// The next number of a connection.
pub(crate) fn next_connection(connections: &AtomicU64) -> u64 {
    connections.fetch_add(1, Ordering::Relaxed)
}
