//! `kill -9`, two hundred times: three members are killed and started again while clients write, and nothing that was
//! acknowledged is missing afterwards.
//!
//! Who is killed after how many writes is drawn from a seed, which is printed; `KILL_NINE_SEED` sets it. Where exactly the
//! processes are by then is not: that is decided in the simulation. This is for what the simulation cannot have: the real
//! disk's page cache, the real sockets, the process that is gone between two instructions.

mod servers;

use std::collections::BTreeMap;
use std::env;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future;
use openraft::AsyncRuntime;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::RangeRequest;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::runtime::tokio::TokioRuntime;

use self::servers::{Cluster, connect, eventually, put, run};

const KILLS: usize = 200;

const MEMBERS: usize = 3;

const CLIENTS: usize = 8;

/// The seed, unless another is set.
const SEED: u64 = 9;

/// How long a client waits for an answer: longer than an election, since the outcome is unknown afterwards.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// After how many acknowledged writes a client reads one back.
const READ_BACK: u64 = 8;

/// Keys in an answer, when all are read.
const PAGE: i64 = 2000;

fn key(client: usize, write: u64) -> String {
    format!("client-{client}/{write:08}")
}

/// What a client has done.
#[derive(Default)]
struct Written {
    attempts: u64,
    /// The revisions of the acknowledged ones.
    acknowledged: BTreeMap<u64, i64>,
}

/// A client that writes each of its keys once, one after the other, to whichever member answers.
struct Client {
    number: usize,
    members: Vec<SocketAddr>,
    /// Acknowledged writes of all clients.
    acknowledged: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
}

impl Client {
    async fn run(self) -> Written {
        let mut written = Written::default();
        let mut turn = self.number;
        while !self.stop.load(Ordering::Relaxed) {
            let member = self.members[turn % MEMBERS];
            turn += 1;
            if let Some(channel) = connect(member).await {
                self.write(channel, &mut written).await;
            } else {
                TokioRuntime::sleep(Duration::from_millis(5)).await;
            }
        }
        written
    }

    /// Writes until something goes wrong.
    async fn write(&self, channel: Channel, written: &mut Written) {
        let mut kv = KvClient::new(channel);
        while !self.stop.load(Ordering::Relaxed) {
            let write = written.attempts;
            written.attempts += 1;
            let answer = TokioRuntime::timeout(ANSWER_MAX, kv.put(put(&key(self.number, write), "value"))).await;
            let Ok(Ok(answer)) = answer else { return };
            let revision = answer.into_inner().header.expect("every response has a header").revision;
            written.acknowledged.insert(write, revision);
            self.acknowledged.fetch_add(1, Ordering::Relaxed);
            if write.is_multiple_of(READ_BACK) {
                let request = RangeRequest { key: key(self.number, write).into(), ..RangeRequest::default() };
                let Ok(Ok(found)) = TokioRuntime::timeout(ANSWER_MAX, kv.range(request)).await else { return };
                let found = found.into_inner().kvs.first().map(|pair| pair.mod_revision);
                assert_eq!(found, Some(revision), "{} was acknowledged, then read", key(self.number, write));
            }
        }
    }
}

/// All keys that a member has, with their revisions, by a linearizable read each page.
async fn all_keys(channel: Channel) -> BTreeMap<String, i64> {
    let mut kv = KvClient::new(channel);
    let mut keys = BTreeMap::new();
    let mut from = vec![0];
    loop {
        let request = RangeRequest {
            key: from.into(),
            range_end: "\0".into(),
            limit: PAGE,
            keys_only: true,
            ..RangeRequest::default()
        };
        let page = kv.range(request).await.expect("a healthy cluster answers").into_inner();
        for pair in &page.kvs {
            keys.insert(String::from_utf8_lossy(&pair.key).into_owned(), pair.mod_revision);
        }
        match page.kvs.last() {
            Some(last) if page.more => from = [&last.key[..], &[0]].concat(),
            _ => return keys,
        }
    }
}

/// Holds what a member has against what a client knows.
fn check(member: &str, keys: &BTreeMap<String, i64>, client: usize, written: &Written) {
    for (write, revision) in &written.acknowledged {
        let key = key(client, *write);
        assert_eq!(keys.get(&key), Some(revision), "{member} has {key}, which was acknowledged");
    }
    assert!(written.acknowledged.values().is_sorted(), "a client's later writes have later revisions");
    let prefix = format!("client-{client}/");
    let there = keys.keys().filter_map(|key| key.strip_prefix(&prefix)).map(|write| write.parse::<u64>().unwrap());
    assert!(there.max().is_none_or(|last| last < written.attempts), "{member} has what client {client} never wrote");
}

#[test]
fn nothing_that_was_acknowledged_is_lost_by_killing() {
    let seed = env::var("KILL_NINE_SEED").map_or(SEED, |seed| seed.parse().expect("KILL_NINE_SEED is a number"));
    println!("KILL_NINE_SEED={seed}");
    let mut random = Pcg64::seed_from_u64(seed);
    run(async {
        let flags = ["--heartbeat-interval", "20", "--election-timeout", "200", "--snapshot-count", "1000"];
        let mut cluster = Cluster::start(MEMBERS, &flags).await;
        let members: Vec<SocketAddr> = cluster.servers.iter().map(|server| server.client).collect();
        let (acknowledged, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let clients = (0..CLIENTS).map(|number| {
            let (acknowledged, stop) = (acknowledged.clone(), stop.clone());
            TokioRuntime::spawn(Client { number, members: members.clone(), acknowledged, stop }.run())
        });
        let clients: Vec<_> = clients.collect();

        let mut killed = 0;
        while killed < KILLS {
            // Mostly one; sometimes a majority, or all, as when the power fails.
            let victims = [1, 1, 1, 1, 1, 1, 2, 2, MEMBERS][random.random_range(0..9)];
            let mut order: Vec<usize> = (0..MEMBERS).collect();
            order.shuffle(&mut random);
            let goal = acknowledged.load(Ordering::Relaxed) + random.random_range(1..=100);
            eventually("writes", async || (acknowledged.load(Ordering::Relaxed) >= goal).then_some(())).await;
            let victims = &order[..victims];
            victims.iter().for_each(|victim| cluster.servers[*victim].begin_kill());
            for victim in victims {
                cluster.servers[*victim].killed().await;
                cluster.servers[*victim].start();
            }
            killed += victims.len();
        }
        stop.store(true, Ordering::Relaxed);
        let written = future::join_all(clients).await;
        let written: Vec<Written> = written.into_iter().map(|written| written.expect("no client panics")).collect();

        cluster.leader().await;
        for server in &cluster.servers {
            let channel = eventually("a connection", async || connect(server.client).await).await;
            let keys = all_keys(channel).await;
            for (client, written) in written.iter().enumerate() {
                check(&server.name, &keys, client, written);
            }
        }
        let (attempts, acknowledged) =
            written.iter().fold((0, 0), |sum, written| (sum.0 + written.attempts, sum.1 + written.acknowledged.len()));
        println!("{killed} kills, {acknowledged} of {attempts} writes acknowledged, none of those lost");
        for server in &mut cluster.servers {
            assert_eq!(server.stop().await.code(), Some(0));
        }
    });
}
