//! etcd's own command line, version 3.4, against real servers: it must not notice that they are not etcd.

mod servers;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use self::servers::{Cluster, run};

/// What etcdctl has said.
struct Said {
    succeeded: bool,
    out: String,
    err: String,
}

fn etcdctl_with_input(endpoints: &str, args: &[&str], input: &str) -> Said {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg("--endpoints").arg(endpoints).args(args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = command.spawn().expect("etcdctl is installed: Debian's package is etcd-client");
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let output = process.wait_with_output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Said { succeeded: output.status.success(), out: text(output.stdout), err: text(output.stderr) }
}

/// What a command prints that succeeds.
fn etcdctl(endpoints: &str, args: &[&str]) -> String {
    let said = etcdctl_with_input(endpoints, args, "");
    assert!(said.succeeded, "etcdctl {args:?}: {}{}", said.out, said.err);
    said.out
}

/// What a command complains of that fails.
fn complaint(endpoints: &str, args: &[&str]) -> String {
    let said = etcdctl_with_input(endpoints, args, "");
    assert!(!said.succeeded, "etcdctl {args:?}: {}{}", said.out, said.err);
    said.err
}

fn json(endpoints: &str, args: &[&str]) -> serde_json::Value {
    let text = etcdctl(endpoints, &[args, &["-w", "json"]].concat());
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// All of the KV service that etcdctl has words for.
fn use_kv(endpoints: &str) {
    let ctl = |args: &[&str]| etcdctl(endpoints, args);
    assert_eq!(ctl(&["put", "k1", "one"]), "OK\n");
    assert_eq!(ctl(&["put", "k2", "two"]), "OK\n");
    assert_eq!(ctl(&["put", "k1", "uno", "--prev-kv"]), "OK\nk1\none\n");
    assert_eq!(ctl(&["put", "k1", "--ignore-value"]), "OK\n");
    assert_eq!(ctl(&["get", "k1"]), "k1\nuno\n");
    assert_eq!(ctl(&["get", "k1", "--consistency", "s"]), "k1\nuno\n");
    assert_eq!(ctl(&["get", "k", "--prefix", "--keys-only"]), "k1\n\nk2\n\n");
    assert_eq!(ctl(&["get", "k", "--prefix", "--order", "DESCEND", "--sort-by", "KEY", "--limit", "1"]), "k2\ntwo\n");
    assert_eq!(ctl(&["get", "k2", "--from-key", "--print-value-only"]), "two\n");
    assert_eq!(ctl(&["get", "k1", "k2"]), "k1\nuno\n");
    assert_eq!(ctl(&["get", "none"]), "");

    let first = json(endpoints, &["get", "k1"]);
    let (revision, pair) = (first["header"]["revision"].as_i64().unwrap(), &first["kvs"][0]);
    assert_eq!(pair["version"], 3);
    assert_eq!(pair["mod_revision"], revision);
    assert!(complaint(endpoints, &["get", "k1", "--rev", &(revision + 1).to_string()]).contains("future revision"));
    assert_eq!(ctl(&["get", "k1", "--rev", &(revision - 1).to_string(), "--print-value-only"]), "uno\n");

    let txn = |input: &str| etcdctl_with_input(endpoints, &["txn"], input);
    let swapped = txn("value(\"k1\") = \"uno\"\n\nput k1 ein\nget k2\n\nget k1\n\n");
    assert!(swapped.succeeded && swapped.out.contains("SUCCESS\n\nOK\n\nk2\ntwo\n"), "{}{}", swapped.out, swapped.err);
    let refused = txn("version(\"k1\") > \"9\"\n\nput k1 never\n\nget k1\ndel k2\n\n");
    assert!(refused.succeeded && refused.out.contains("FAILURE\n\nk1\nein\n\n1\n"), "{}{}", refused.out, refused.err);
    let twice = txn("\nput k1 a\nput k1 b\n\n\n");
    assert!(!twice.succeeded && twice.err.contains("duplicate key given in txn request"), "{}", twice.err);

    assert_eq!(ctl(&["del", "k2"]), "0\n");
    assert_eq!(ctl(&["del", "k1", "--prev-kv"]), "1\nk1\nein\n");
    let revision = json(endpoints, &["get", "k1"])["header"]["revision"].as_i64().unwrap();
    assert_eq!(ctl(&["compaction", &revision.to_string(), "--physical"]), format!("compacted revision {revision}\n"));
    let gone = complaint(endpoints, &["get", "k1", "--rev", &(revision - 1).to_string()]);
    assert!(gone.contains("required revision has been compacted"), "{gone}");
    assert!(complaint(endpoints, &["compaction", &revision.to_string()]).contains("has been compacted"));
    assert!(complaint(endpoints, &["put", "", "x"]).contains("key is not provided"));
}

/// A process that is ended with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// The first lines that a watch prints while `work` is done. It is ended then, since it would not end by itself.
fn watched(endpoints: &str, args: &[&str], lines: usize, work: impl FnOnce()) -> String {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints, "watch"]).args(args);
    let mut process =
        Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("etcdctl is installed"));
    work();
    let mut told = String::new();
    let mut out = BufReader::new(process.0.stdout.take().unwrap());
    for _ in 0..lines {
        assert!(out.read_line(&mut told).unwrap() > 0, "the watch has ended after: {told}");
    }
    told
}

/// Watches of the past, of what comes, of ranges, with what was before, and of what is compacted.
fn watch(endpoints: &str) {
    let ctl = |args: &[&str]| etcdctl(endpoints, args);
    let first = json(endpoints, &["put", "w1", "a"])["header"]["revision"].as_i64().unwrap();
    ctl(&["put", "w1", "b"]);
    ctl(&["put", "w2", "c"]);
    ctl(&["del", "w1"]);
    let from = |revision: i64| format!("--rev={revision}");
    let told = watched(endpoints, &["w1", &from(first)], 9, || ());
    assert_eq!(told, "PUT\nw1\na\nPUT\nw1\nb\nDELETE\nw1\n\n");
    let told = watched(endpoints, &["w", "--prefix", "--prev-kv", &from(first + 1)], 13, || ());
    assert_eq!(told, "PUT\nw1\na\nw1\nb\nPUT\nw2\nc\nDELETE\nw1\nb\nw1\n\n");
    let told = watched(endpoints, &["w3", "w5", &from(first + 4)], 6, || {
        ctl(&["put", "w3", "d"]);
        ctl(&["put", "w5", "e"]);
        ctl(&["put", "w4", "f"]);
    });
    assert_eq!(told, "PUT\nw3\nd\nPUT\nw4\nf\n");
    ctl(&["compaction", &(first + 5).to_string()]);
    let gone = complaint(endpoints, &["watch", "w1", &from(first)]);
    assert!(gone.contains("required revision has been compacted"), "{gone}");
    assert_eq!(ctl(&["del", "w", "--prefix"]), "4\n");
}

/// The commands that look at members.
fn look_at(cluster: &Cluster) {
    let endpoints = cluster.endpoints();
    let health = etcdctl_with_input(&endpoints, &["endpoint", "health"], "");
    let healthy =
        format!("{}{}", health.out, health.err).matches("is healthy: successfully committed proposal").count();
    assert!(health.succeeded && healthy == cluster.servers.len(), "{}{}", health.out, health.err);

    let statuses = json(&endpoints, &["endpoint", "status"]);
    let statuses = statuses.as_array().unwrap();
    assert_eq!(statuses.len(), cluster.servers.len());
    let leader = &statuses[0]["Status"]["leader"];
    let mut ids: Vec<_> = statuses.iter().map(|status| status["Status"]["header"]["member_id"].clone()).collect();
    assert!(ids.contains(leader));
    for status in statuses {
        assert_eq!(&status["Status"]["leader"], leader);
        assert_eq!(status["Status"]["version"], "3.5.0");
        assert!(status["Status"]["dbSize"].as_i64().unwrap() > 0);
        assert!(status["Status"]["raftIndex"].as_i64().unwrap() > 0);
        assert!(status["Status"]["raftTerm"].as_i64().unwrap() > 0);
    }

    let list = json(&endpoints, &["member", "list"]);
    let members = list["members"].as_array().unwrap();
    let mut listed: Vec<_> = members.iter().map(|member| member["ID"].clone()).collect();
    let by_number = |ids: &mut Vec<serde_json::Value>| ids.sort_by_key(|id| id.as_u64());
    by_number(&mut ids);
    by_number(&mut listed);
    assert_eq!(listed, ids);
    for server in &cluster.servers {
        let member = members.iter().find(|member| member["name"] == server.name.as_str());
        let member = member.unwrap_or_else(|| panic!("{} is not in {list}", server.name));
        assert_eq!(member["clientURLs"][0], format!("http://{}", server.client));
        assert!(member["peerURLs"][0].as_str().unwrap().starts_with("http://127.0.0.1:"));
    }
    let table = etcdctl(&endpoints, &["member", "list"]);
    assert_eq!(table.matches(", started, ").count(), cluster.servers.len(), "{table}");
    assert_eq!(etcdctl(&endpoints, &["alarm", "list"]), "");
    let defragmented = etcdctl(&endpoints, &["defrag"]);
    assert_eq!(defragmented.matches("Finished defragmenting").count(), cluster.servers.len(), "{defragmented}");
}

#[test]
fn one_member_is_etcd_to_etcdctl() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        cluster.published().await;
        use_kv(&cluster.endpoints());
        look_at(&cluster);
    });
}

#[test]
fn three_members_are_etcd_to_etcdctl() {
    run(async {
        let cluster = Cluster::start(3, &[]).await;
        cluster.published().await;
        // Through each of them alone, whoever leads, and through all.
        for server in &cluster.servers {
            use_kv(&server.client.to_string());
            watch(&server.client.to_string());
        }
        use_kv(&cluster.endpoints());
        look_at(&cluster);
    });
}

#[test]
fn what_does_not_exist_yet_is_refused_and_not_faked() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        for args in [
            &["lease", "grant", "10"][..],
            &["user", "list"],
            &["member", "add", "x", "--peer-urls", "http://127.0.0.1:1"],
        ] {
            let said = complaint(&cluster.endpoints(), args);
            assert!(said.contains("Unimplemented") || said.contains("unknown service"), "{args:?}: {said}");
        }
    });
}
