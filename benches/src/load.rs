//! Clients of a real cluster in a closed loop: each asks, waits for the answer, and asks again.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft_rt::Instant as _;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::proto::etcdserverpb::{PutRequest, RangeRequest};
use seedbed_core::read::ReadPath;
use seedbed_core::runtime::tokio::TokioRuntime;

use crate::servers::{Cluster, Server};

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

/// Keys that there are.
pub const KEYS: u64 = 1_000;

/// Bytes of a value.
pub const VALUE_BYTES: usize = 128;

/// What a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// To put one of the keys.
    Put,
    /// One of the keys, which has been put.
    Read(ReadPath),
}

/// Which of the first so many keys a client asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// One after the other, shared out among the clients: together they ask for every key.
    InTurn(u64),
    /// Whichever is drawn.
    Drawn(u64),
}

/// When clients stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// Each has asked so often.
    Rounds(u64),
    /// So much time has passed.
    Passed(Duration),
}

/// A client.
#[derive(Clone)]
pub struct Caller {
    kv: KvClient<Channel>,
    ask: Ask,
    keys: Keys,
    key: u64,
    /// How far it is from one of its keys to the next.
    stride: u64,
    random: Pcg64,
}

/// What a load came to.
#[derive(Clone, Debug, Default)]
pub struct Answered {
    /// From the first question to the last answer.
    pub took: Duration,
    /// How long each answer took, the quickest first.
    pub latencies: Vec<Duration>,
    /// Errors, and reads that did not find their key.
    pub failed: u64,
}

impl Caller {
    /// So many clients of these servers, in turn, on at most so many connections.
    ///
    /// # Errors
    /// A server cannot be reached.
    pub async fn many(servers: &[Server], count: u64, connections: u64, ask: Ask) -> io::Result<Vec<Caller>> {
        let mut channels = Vec::new();
        for server in servers.iter().cycle().take(connections.min(count) as usize) {
            channels.push(server.connect().await?);
        }
        let kv = channels.iter().cycle().map(|channel| KvClient::new(channel.clone()));
        let caller = |(key, kv)| Caller {
            kv,
            ask,
            keys: Keys::InTurn(KEYS),
            key,
            stride: count,
            random: Pcg64::seed_from_u64(key),
        };
        Ok((0..count).zip(kv).map(caller).collect())
    }

    /// The same client, on the same connection, for other keys than all of [`KEYS`] in turn.
    pub fn among(&self, keys: Keys) -> Caller {
        Caller { keys, ..self.clone() }
    }

    /// The number of its next key.
    fn next(&mut self) -> u64 {
        match self.keys {
            Keys::InTurn(of) => {
                let next = self.key % of;
                self.key += self.stride;
                next
            }
            Keys::Drawn(of) => self.random.random_range(0..of),
        }
    }

    /// Asks once. Whether the answer is what it should be.
    async fn call(&mut self) -> bool {
        let key = key(self.next());
        match self.ask {
            Ask::Put => {
                let request = PutRequest { key, value: vec![b'v'; VALUE_BYTES].into(), ..PutRequest::default() };
                self.kv.put(request).await.is_ok()
            }
            Ask::Read(path) => {
                let serializable = path == ReadPath::Serializable;
                let mut request = tonic::Request::new(RangeRequest { key, serializable, ..RangeRequest::default() });
                // The others are asked for as any client of etcd does.
                if matches!(path, ReadPath::Log | ReadPath::Lease) {
                    path.ask(request.metadata_mut());
                }
                self.kv.range(request).await.is_ok_and(|answer| answer.get_ref().kvs.len() == 1)
            }
        }
    }
}

fn key(number: u64) -> bytes::Bytes {
    format!("key-{number:04}").into()
}

/// Lets all of them ask at the same time.
pub async fn run(callers: &[Caller], until: Until) -> Answered {
    let begun = Instant::now();
    let tasks: Vec<_> = callers
        .iter()
        .cloned()
        .map(|mut caller| {
            TokioRuntime::spawn(async move {
                let (mut latencies, mut failed) = (Vec::new(), 0);
                let mut now = Instant::now();
                loop {
                    let done = match until {
                        Until::Rounds(rounds) => latencies.len() as u64 >= rounds,
                        Until::Passed(limit) => now - begun >= limit,
                    };
                    if done {
                        return (latencies, failed);
                    }
                    failed += u64::from(!caller.call().await);
                    let answered = Instant::now();
                    latencies.push(answered - now);
                    now = answered;
                }
            })
        })
        .collect();
    let mut all = Answered::default();
    for task in tasks {
        let (latencies, failed) = task.await.expect("clients do not panic");
        all.latencies.extend(latencies);
        all.failed += failed;
    }
    all.took = begun.elapsed();
    all.latencies.sort_unstable();
    all
}

impl Answered {
    /// Answers a second.
    pub fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.took.as_secs_f64()
    }

    /// So many of a thousand answers came no later; zero without answers.
    pub fn permille(&self, permille: usize) -> Duration {
        let last = self.latencies.len().saturating_sub(1);
        self.latencies.get(last * permille / 1000).copied().unwrap_or_default()
    }

    /// The mean time of an answer.
    pub fn mean(&self) -> Duration {
        self.latencies.iter().sum::<Duration>().div_f64(self.latencies.len().max(1) as f64)
    }
}

/// Puts the first so many keys, and waits until every member has them.
///
/// # Errors
/// A member cannot be reached, or does not answer as it should.
pub async fn fill(cluster: &Cluster, keys: u64) -> io::Result<()> {
    const WRITERS: u64 = 20;
    let asking = async |count, ask| {
        let callers = Caller::many(&cluster.members, count, count, ask).await?;
        io::Result::Ok(callers.iter().map(|caller| caller.among(Keys::InTurn(keys))).collect::<Vec<_>>())
    };
    let put = run(&asking(WRITERS, Ask::Put).await?, Until::Rounds(keys.div_ceil(WRITERS))).await;
    // A linearizable read waits until its member has applied what was written before.
    let readers = asking(cluster.members.len() as u64, Ask::Read(ReadPath::ReadIndex)).await?;
    let read = run(&readers, Until::Rounds(1)).await;
    match put.failed + read.failed {
        0 => Ok(()),
        failed => Err(io::Error::other(format!("{failed} of the first requests to the cluster have failed"))),
    }
}

/// Writes under way at a steady pace, until it is dropped.
pub struct Background {
    shared: Arc<Progress>,
    begun: Instant,
}

#[derive(Default)]
struct Progress {
    stopped: AtomicBool,
    written: AtomicU64,
}

impl Background {
    /// Begins to write so often a second. A cluster that does not keep up gets less.
    ///
    /// # Errors
    /// A member cannot be reached.
    pub async fn start(members: &[Server], a_second: u32) -> io::Result<Self> {
        const WRITERS: u32 = 8;
        let shared = Arc::new(Progress::default());
        let begun = Instant::now();
        for mut writer in Caller::many(members, u64::from(WRITERS), u64::from(WRITERS), Ask::Put).await? {
            let progress = shared.clone();
            drop(TokioRuntime::spawn(async move {
                let pace = Duration::from_secs(1) * WRITERS / a_second;
                let mut next = begun;
                while !progress.stopped.load(Ordering::Relaxed) {
                    TokioRuntime::sleep_until(next).await;
                    if writer.call().await {
                        progress.written.fetch_add(1, Ordering::Relaxed);
                    }
                    // Whoever is late does not catch up.
                    next = std::cmp::max(next + pace, Instant::now());
                }
            }));
        }
        Ok(Background { shared, begun })
    }

    /// Writes a second so far.
    pub fn rate(&self) -> f64 {
        self.shared.written.load(Ordering::Relaxed) as f64 / self.begun.elapsed().as_secs_f64()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_thousand_answers_ten_take_longer_than_the_99th_percentile() {
        let latencies: Vec<_> = (1..=1000).map(Duration::from_micros).collect();
        let answered = Answered { took: Duration::from_millis(500), latencies, failed: 0 };
        assert_eq!(answered.permille(990), Duration::from_micros(990));
        assert_eq!(answered.rate(), 2000.0);
        assert_eq!(Answered::default().permille(990), Duration::ZERO);
    }
}
