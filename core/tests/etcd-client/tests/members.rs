//! The crate `etcd-client` against a cluster of three: it must not notice that it is not etcd's.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use etcd_client::{
    Client, CompactionOptions, Compare, CompareOp, EventType, GetOptions, LeaseGrantOptions, LeaseTimeToLiveOptions,
    LockOptions, PutOptions, ResignOptions, Txn, TxnOp, WatchOptions,
};
use tempfile::TempDir;

/// How long a test waits for what must come before it fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Three members. They are killed when it is dropped.
struct Cluster {
    processes: Vec<Child>,
    clients: Vec<String>,
    /// Dropped after the processes that write to it.
    _folder: TempDir,
}

impl Cluster {
    async fn start() -> Cluster {
        let program = std::env::var("SEEDBED_SERVER").expect("SEEDBED_SERVER is the path of the server's program");
        let folder = tempfile::tempdir().expect("a folder");
        let ports: Vec<[u16; 2]> = (0..3).map(|_| [free_port(), free_port()]).collect();
        let peer = |nth: usize| format!("http://127.0.0.1:{}", ports[nth][1]);
        let all: Vec<String> = (0..3).map(|nth| format!("m{nth}={}", peer(nth))).collect();
        let mut cluster = Cluster { processes: Vec::new(), clients: Vec::new(), _folder: folder };
        for (nth, [client, _]) in ports.iter().enumerate() {
            let url = format!("http://127.0.0.1:{client}");
            let process = Command::new(&program)
                .args(["--name", &format!("m{nth}"), "--initial-cluster", &all.join(",")])
                .args(["--listen-client-urls", &url, "--advertise-client-urls", &url])
                .args(["--listen-peer-urls", &peer(nth), "--initial-advertise-peer-urls", &peer(nth)])
                .arg("--data-dir")
                .arg(cluster._folder.path().join(nth.to_string()))
                .args(["--log-level", "warn"])
                .stdin(Stdio::null())
                .spawn()
                .expect("the server starts");
            cluster.processes.push(process);
            cluster.clients.push(url);
        }
        cluster
    }

    /// A client of all members, once they serve.
    async fn client(&self) -> Client {
        let served = async {
            loop {
                if let Ok(mut client) = Client::connect(&self.clients, None).await
                    && client.put("served", "yes", None).await.is_ok()
                {
                    return client;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        tokio::time::timeout(PATIENCE, served).await.expect("the cluster serves")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill().and_then(|()| process.wait());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

#[tokio::test]
async fn keys_watches_leases_locks_and_elections() {
    let cluster = Cluster::start().await;
    let mut client = cluster.client().await;
    keys(&mut client).await;
    watches(&mut client).await;
    leases(&mut client).await;
    locks(&mut client).await;
    elections(&mut client).await;
}

async fn keys(client: &mut Client) {
    let put = client.put("k1", "one", None).await.unwrap();
    let first = put.header().unwrap().revision();
    let again = client.put("k1", "uno", Some(PutOptions::new().with_prev_key())).await.unwrap();
    assert_eq!(again.prev_key().unwrap().value(), b"one");
    client.put("k2", "two", None).await.unwrap();
    let all = client.get("k", Some(GetOptions::new().with_prefix())).await.unwrap();
    let pairs: Vec<_> = all.kvs().iter().map(|kv| (kv.key_str().unwrap(), kv.value_str().unwrap())).collect();
    assert_eq!(pairs, [("k1", "uno"), ("k2", "two")]);
    let past = client.get("k1", Some(GetOptions::new().with_revision(first))).await.unwrap();
    assert_eq!(past.kvs()[0].value(), b"one");

    let txn = Txn::new()
        .when([Compare::value("k1", CompareOp::Equal, "uno")])
        .and_then([TxnOp::put("k1", "ein", None), TxnOp::get("k2", None)])
        .or_else([TxnOp::delete("k2", None)]);
    let answered = client.txn(txn.clone()).await.unwrap();
    assert!(answered.succeeded() && answered.op_responses().len() == 2);
    assert!(!client.txn(txn).await.unwrap().succeeded());
    assert_eq!(client.delete("k2", None).await.unwrap().deleted(), 0, "the second txn has deleted it");

    let last = client.put("k1", "again", None).await.unwrap().header().unwrap().revision();
    client.compact(last, Some(CompactionOptions::new().with_physical())).await.unwrap();
    let gone = client.get("k1", Some(GetOptions::new().with_revision(first))).await.unwrap_err();
    assert!(gone.to_string().contains("required revision has been compacted"), "{gone}");
}

async fn watches(client: &mut Client) {
    let from = client.put("w1", "a", None).await.unwrap().header().unwrap().revision();
    let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(from);
    let mut stream = client.watch("w", Some(options)).await.unwrap();
    client.put("w2", "b", None).await.unwrap();
    client.delete("w1", None).await.unwrap();
    let mut told = Vec::new();
    while told.len() < 3 {
        let response = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
        for event in response.events() {
            let kv = event.kv().unwrap();
            told.push((event.event_type(), kv.key_str().unwrap().to_owned(), event.prev_kv().is_some()));
        }
    }
    let expected = [(EventType::Put, "w1", false), (EventType::Put, "w2", false), (EventType::Delete, "w1", true)];
    assert_eq!(told, expected.map(|(kind, key, before)| (kind, key.to_owned(), before)));
    stream.request_progress().await.unwrap();
    let progress = tokio::time::timeout(PATIENCE, stream.message()).await.unwrap().unwrap().unwrap();
    assert!(progress.events().is_empty() && progress.header().unwrap().revision() >= from + 2);
    stream.cancel(progress.watch_id().max(0)).await.unwrap();
}

async fn leases(client: &mut Client) {
    let granted = client.lease_grant(60, Some(LeaseGrantOptions::new().with_id(77))).await.unwrap();
    assert_eq!((granted.id(), granted.ttl()), (77, 60));
    client.put("leased", "x", Some(PutOptions::new().with_lease(77))).await.unwrap();
    let (mut keeper, mut kept) = client.lease_keep_alive(77).await.unwrap();
    keeper.keep_alive().await.unwrap();
    assert_eq!(kept.message().await.unwrap().unwrap().ttl(), 60);
    let left = client.lease_time_to_live(77, Some(LeaseTimeToLiveOptions::new().with_keys())).await.unwrap();
    assert!((50..=60).contains(&left.ttl()), "{}", left.ttl());
    assert_eq!((left.granted_ttl(), left.keys()), (60, &[b"leased".to_vec()][..]));
    let listed = client.leases().await.unwrap();
    assert!(listed.leases().iter().any(|lease| lease.id() == 77));
    client.lease_revoke(77).await.unwrap();
    assert!(client.get("leased", None).await.unwrap().kvs().is_empty());
    assert_eq!(client.lease_time_to_live(77, None).await.unwrap().ttl(), -1);
}

async fn locks(client: &mut Client) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let held = client.lock("mine", Some(LockOptions::new().with_lease(lease))).await.unwrap();
    assert_eq!(held.key(), format!("mine/{lease:x}").as_bytes());
    let mut other = client.clone();
    let waiting = tokio::spawn(async move { other.lock("mine", None).await.unwrap().key().to_vec() });
    client.unlock(held.key()).await.unwrap();
    let theirs = tokio::time::timeout(PATIENCE, waiting).await.unwrap().unwrap();
    assert!(theirs.starts_with(b"mine/") && theirs != held.key());
    client.unlock(theirs).await.unwrap();
}

async fn elections(client: &mut Client) {
    let lease = client.lease_grant(60, None).await.unwrap().id();
    let elected = client.campaign("post", "one", lease).await.unwrap();
    let leader = elected.leader().unwrap();
    assert_eq!((leader.name(), leader.lease()), (&b"post"[..], lease));
    let mut observed = client.observe("post").await.unwrap();
    let told = tokio::time::timeout(PATIENCE, observed.message()).await.unwrap().unwrap().unwrap();
    assert_eq!(told.kv().unwrap().value(), b"one");
    assert_eq!(client.leader("post").await.unwrap().kv().unwrap().value(), b"one");
    client.resign(Some(ResignOptions::new().with_leader(leader.clone()))).await.unwrap();
    let nobody = client.leader("post").await.unwrap_err();
    assert!(nobody.to_string().contains("election: no leader"), "{nobody}");
}
