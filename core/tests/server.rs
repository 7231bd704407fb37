//! The real server, as an operator and a client know it: a process with flags, ports and a data folder.

mod servers;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use futures_util::{future, stream};
use object::{Object, ObjectSymbol};
use rustix::process::Signal;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;
use seedbed_core::proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_core::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use seedbed_core::proto::etcdserverpb::watch_client::WatchClient;
use seedbed_core::proto::etcdserverpb::{RangeRequest, StatusRequest};
use tonic::Code;

use self::servers::{Cluster, PROGRAM, Server, eventually, free_port, put, run};

/// An answer to an HTTP/1.1 request: the whole of it, head and body.
fn http(server: &Server, method: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(server.client).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: m1\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What the program says when it cannot run: the exit code, and the only line of standard error.
fn refusal(args: &[&str]) -> (Option<i32>, String) {
    let output = Command::new(PROGRAM).args(args).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.ends_with('\n') && text.lines().count() == 1, "{args:?} says {text:?}");
    (output.status.code(), text)
}

#[test]
fn one_member_keeps_its_data_over_a_restart() {
    run(async {
        let mut cluster = Cluster::start(1, &[]).await;
        cluster.published().await;
        let server = &mut cluster.servers[0];
        server.put("k", "before").await;
        let before = server.get("k").await.header.unwrap();
        let status = server.status().await;
        assert_eq!(status.leader, before.member_id);
        assert_eq!((status.version.as_str(), status.is_learner), ("3.5.0", false));
        assert!(
            status.db_size > 0 && status.db_size_in_use > 0 && status.db_size_in_use < status.db_size,
            "{status:?}"
        );
        assert!(status.raft_applied_index <= status.raft_index, "{status:?}");
        let listed = &server.members().await[0];
        assert_eq!(
            (listed.id, listed.client_ur_ls[0].as_str()),
            (before.member_id, format!("http://{}", server.client).as_str())
        );

        assert_eq!(server.stop().await.code(), Some(0));
        server.start();
        cluster.leader().await;
        let server = &cluster.servers[0];
        assert_eq!(server.value("k").await.as_deref(), Some("before"));
        let after = server.get("k").await.header.unwrap();
        assert_eq!((after.member_id, after.cluster_id, after.revision), (before.member_id, before.cluster_id, 2));
        assert!(after.raft_term > before.raft_term, "{after:?}");
    });
}

#[test]
fn a_killed_member_keeps_what_it_has_acknowledged() {
    run(async {
        let mut cluster = Cluster::start(1, &[]).await;
        cluster.servers[0].put("k", "acknowledged").await;
        cluster.servers[0].kill().await;
        cluster.servers[0].start();
        cluster.leader().await;
        assert_eq!(cluster.servers[0].value("k").await.as_deref(), Some("acknowledged"));
    });
}

#[test]
fn three_members_know_each_other_and_serve_the_same() {
    run(async {
        let cluster = Cluster::start(3, &[]).await;
        cluster.published().await;
        for (n, server) in cluster.servers.iter().enumerate() {
            server.put("k", &n.to_string()).await;
            for reader in &cluster.servers {
                let who = format!("written by {}, read by {}", server.name, reader.name);
                assert_eq!(reader.value("k").await, Some(n.to_string()), "{who}");
                let listed = server.members().await;
                let known = listed.iter().find(|member| member.name == reader.name).expect("all are published");
                assert_eq!(known.client_ur_ls, [format!("http://{}", reader.client)]);
            }
        }
    });
}

#[test]
fn a_leader_that_is_told_to_stop_hands_leadership_over() {
    run(async {
        // An election would take far longer than the time between the leader's end and the first look.
        let flags = ["--heartbeat-interval", "1000", "--election-timeout", "20000"];
        let mut cluster = Cluster::start(3, &flags).await;
        let old = cluster.leader().await;
        let (id, term) = {
            let status = cluster.servers[old].status().await;
            (status.leader, status.raft_term)
        };
        cluster.servers[old].put("k", "kept").await;
        assert_eq!(cluster.servers[old].stop().await.code(), Some(0));
        let mut leads = Vec::new();
        for server in cluster.servers.iter().filter(|server| server.runs()) {
            let status = server.status().await;
            leads.push(status.leader != id && Some(status.leader) == status.header.map(|header| header.member_id));
            assert!(status.raft_term <= term + 1, "one election, which nobody has lost");
        }
        assert!(leads.contains(&true), "nobody leads when the old leader has gone");

        let new = cluster.leader().await;
        assert_eq!(cluster.servers[new].value("k").await.as_deref(), Some("kept"));
        cluster.servers[new].put("k", "changed").await;
        cluster.servers[old].start();
        cluster.leader().await;
        assert_eq!(cluster.servers[old].value("k").await.as_deref(), Some("changed"));
    });
}

#[test]
fn a_second_signal_ends_at_once() {
    run(async {
        // One of three: nothing can be decided, so a request stays under way.
        let mut cluster = Cluster::new(3, &[]);
        let server = &mut cluster.servers[0];
        server.start();
        let channel = eventually("a connection", async || server.channel().await).await;
        let (mut kv, mut maintenance) = (KvClient::new(channel.clone()), MaintenanceClient::new(channel));
        let ending = async {
            // The answer tells that the request before it on the connection has arrived.
            maintenance.status(StatusRequest {}).await.unwrap();
            server.signal(Signal::TERM);
            eventually("the beginning of its end", async || server.log().contains("stopping").then_some(())).await;
            server.signal(Signal::TERM);
            server.ended().await
        };
        let (put, ended) = future::join(kv.put(put("k", "v")), ending).await;
        assert_eq!(ended.code(), Some(143));
        assert!(put.is_err());
    });
}

#[test]
fn pages_for_people_and_probes_are_on_the_clients_port() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let server = &cluster.servers[0];
        server.put("k", "v").await;
        let health = http(server, "GET", "/health");
        assert!(health.starts_with("HTTP/1.1 200") && health.ends_with(r#"{"health":"true"}"#), "{health}");
        let version = http(server, "GET", "/version");
        assert!(version.ends_with(r#"{"etcdserver":"3.5.0","etcdcluster":"3.5.0"}"#), "{version}");
        let metrics = http(server, "GET", "/metrics");
        let metric = |name: &str| -> f64 {
            let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
        };
        assert_eq!(metric("etcd_server_has_leader"), 1.0);
        assert_eq!(metric("etcd_server_is_leader"), 1.0);
        assert_eq!(metric("etcd_server_leader_changes_seen_total"), 1.0);
        assert_eq!(metric("etcd_debugging_mvcc_current_revision"), 2.0);
        assert!(metric("seedbed_reads_total{path=\"read-index\"}") >= 1.0, "health is a linearizable read");
        assert_eq!(metric("seedbed_read_fsyncs_total{path=\"read-index\"}"), 0.0);
        assert!(metric("etcd_disk_wal_fsync_duration_seconds_count") >= 1.0);
        assert!(metric("etcd_disk_wal_fsync_duration_seconds_sum") > 0.0);
        assert!(metric("etcd_server_proposals_applied_total") <= metric("etcd_server_proposals_committed_total"));
        assert!(http(server, "GET", "/v2/keys").starts_with("HTTP/1.1 404"));
        assert!(http(server, "POST", "/health").starts_with("HTTP/1.1 405"));
    });
}

#[test]
fn a_member_without_a_leader_is_not_healthy() {
    run(async {
        let mut cluster = Cluster::new(3, &["--heartbeat-interval", "10", "--election-timeout", "100"]);
        cluster.servers[0].start();
        eventually("its port", async || cluster.servers[0].channel().await).await;
        let health = http(&cluster.servers[0], "GET", "/health");
        assert!(health.starts_with("HTTP/1.1 503") && health.contains(r#""health":"false""#), "{health}");
        assert!(http(&cluster.servers[0], "GET", "/health?serializable=true").starts_with("HTTP/1.1 200"));
        let status = cluster.servers[0].status().await;
        assert_eq!((status.leader, status.errors), (0, vec!["etcdserver: no leader".to_owned()]));
    });
}

#[test]
fn whoever_wants_a_leader_is_told_that_there_is_none() {
    run(async {
        let mut cluster = Cluster::new(3, &["--heartbeat-interval", "10", "--election-timeout", "100"]);
        cluster.servers[0].start();
        let channel = eventually("its port", async || cluster.servers[0].channel().await).await;
        let range = RangeRequest { key: "k".into(), serializable: true, ..RangeRequest::default() };
        assert_eq!(KvClient::new(channel.clone()).range(range.clone()).await.unwrap().into_inner().count, 0);
        let refused = [
            KvClient::new(channel.clone()).range(wanting_a_leader(range)).await.map(drop),
            WatchClient::new(channel.clone()).watch(wanting_a_leader(stream::pending())).await.map(drop),
            LeaseClient::new(channel.clone()).lease_keep_alive(wanting_a_leader(stream::pending())).await.map(drop),
        ];
        for status in refused.map(Result::unwrap_err) {
            assert_eq!((status.code(), status.message()), (Code::Unavailable, "etcdserver: no leader"));
        }

        // A leader serves them, until nobody has answered it for three election time-outs.
        cluster.servers[1].start();
        let leader = cluster.leader().await;
        let channel = cluster.servers[leader].channel().await.unwrap();
        let open =
            async || LeaseClient::new(channel.clone()).lease_keep_alive(wanting_a_leader(stream::pending())).await.ok();
        let mut kept = eventually("a quorum's answer", open).await.into_inner();
        cluster.servers[1 - leader].kill().await;
        let ended = kept.message().await.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (Code::Unavailable, "etcdserver: no leader"));
    });
}

fn wanting_a_leader<T>(message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("hasleader", "true".parse().unwrap());
    request
}

#[test]
fn bad_flags_end_with_one_line_and_two() {
    let cases: [(&[&str], &str); 5] = [
        (&["--no-such-flag"], "--no-such-flag"),
        (&["--listen-client-urls", "ftp://127.0.0.1:1", "--advertise-client-urls", "http://127.0.0.1:1"], "ftp"),
        (&["--name", "a", "--initial-cluster", "b=http://127.0.0.1:1"], "couldn't find local name \"a\""),
        (&["--election-timeout", "400"], "should be at least as 5 times as --heartbeat-interval"),
        (&["--listen-peer-urls", "https://127.0.0.1:1"], "TLS"),
    ];
    for (args, reason) in cases {
        let (code, line) = refusal(args);
        assert_eq!(code, Some(2), "{args:?}");
        assert!(line.starts_with("error: ") && line.contains(reason), "{args:?}: {line}");
    }
}

#[test]
fn what_another_server_has_is_refused_with_one_line() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        let server = &cluster.servers[0];
        let quiet = ["--log-level", "error"];
        let data_dir = server.data_dir.to_str().unwrap();
        let (code, line) = refusal(&[&quiet[..], &["--data-dir", data_dir]].concat());
        assert_eq!(code, Some(1));
        assert!(line.contains("in use by another process"), "{line}");

        let other = cluster.folder.path().join("other");
        let taken = format!("http://{}", server.client);
        let args =
            ["--data-dir", other.to_str().unwrap(), "--listen-client-urls", &taken, "--advertise-client-urls", &taken];
        let (code, line) = refusal(&[&quiet[..], &args].concat());
        assert_eq!(code, Some(1));
        assert!(line.contains("listen on http://127.0.0.1"), "{line}");
    });
}

#[test]
fn the_first_start_decides_who_a_member_is() {
    run(async {
        let mut cluster = Cluster::start(1, &[]).await;
        let server = &mut cluster.servers[0];
        server.put("k", "v").await;
        let before = server.get("k").await.header.unwrap();
        server.stop().await;
        // Without any flag of the beginning, as operators restart members.
        let port = free_port();
        server.set_args(&[
            "--data-dir",
            server.data_dir.to_str().unwrap().to_owned().as_str(),
            "--listen-client-urls",
            &format!("http://{}", server.client),
            "--advertise-client-urls",
            &format!("http://{}", server.client),
            "--listen-peer-urls",
            &format!("http://127.0.0.1:{port}"),
        ]);
        server.start();
        cluster.leader().await;
        let after = cluster.servers[0].get("k").await;
        let header = after.header.unwrap();
        assert_eq!((header.cluster_id, header.member_id), (before.cluster_id, before.member_id));
        assert_eq!(after.kvs.len(), 1);
    });
}

#[test]
fn a_member_that_has_lost_its_data_folder_is_refused() {
    run(async {
        let mut cluster = Cluster::start(3, &[]).await;
        cluster.published().await;
        let server = &mut cluster.servers[2];
        server.stop().await;
        fs::remove_dir_all(&server.data_dir).unwrap();
        for _ in 0..2 {
            server.start();
            assert_eq!(server.ended().await.code(), Some(1));
            assert!(server.log().contains("this member has been in the cluster before"), "{}", server.log());
        }
    });
}

#[test]
fn the_server_is_not_made_of_the_simulator() {
    let program = fs::read(PROGRAM).unwrap();
    let program = object::File::parse(&*program).unwrap();
    let symbols: Vec<_> =
        program.symbols().filter_map(|symbol| Some((symbol.name().ok()?, symbol.is_definition()))).collect();
    assert!(symbols.iter().any(|(name, _)| name.contains("seedbed_core")), "a program without symbols proves nothing");
    let simulator = symbols.iter().find(|(name, _)| name.contains("madsim"));
    assert_eq!(simulator, None);
    // madsim takes these from libc.
    for function in ["getrandom", "clock_gettime", "gettimeofday", "pthread_attr_init", "sysconf"] {
        assert!(!symbols.contains(&(function, true)), "{function} is not libc's own");
    }
}
