//! etcd's own command line, version 3.4, against real servers: it must not notice that they are not etcd.

mod servers;

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdout, Command, Stdio};

use self::servers::proxy::Proxy;
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

impl Running {
    /// Ends it as Ctrl-C does: it gives up what it holds.
    fn interrupt(mut self) {
        let process = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(process, rustix::process::Signal::INT).expect("it runs");
        self.0.wait().expect("it ends");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill().and_then(|()| self.0.wait());
    }
}

/// A command that does not end by itself.
fn started(endpoints: &str, args: &[&str]) -> (Running, BufReader<ChildStdout>) {
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").args(["--endpoints", endpoints]).args(args);
    let mut process =
        Running(command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("etcdctl is installed"));
    let out = BufReader::new(process.0.stdout.take().unwrap());
    (process, out)
}

/// The next lines that a command prints.
fn lines(out: &mut BufReader<ChildStdout>, count: usize) -> String {
    let mut told = String::new();
    for _ in 0..count {
        assert!(out.read_line(&mut told).unwrap() > 0, "the command has ended after: {told}");
    }
    told
}

/// The first lines that a watch prints while `work` is done. It is ended then, since it would not end by itself.
fn watched(endpoints: &str, args: &[&str], count: usize, work: impl FnOnce()) -> String {
    let (_process, mut out) = started(endpoints, &[&["watch"], args].concat());
    work();
    lines(&mut out, count)
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

/// Leases with keys, as far as they end by themselves.
fn lease(endpoints: &str) {
    let ctl = |args: &[&str]| etcdctl(endpoints, args);
    let granted = json(endpoints, &["lease", "grant", "600"]);
    assert_eq!(granted["TTL"].as_i64().or(granted["ttl"].as_i64()), Some(600), "{granted}");
    let id = format!("{:016x}", granted["ID"].as_i64().or(granted["id"].as_i64()).unwrap());
    let option = format!("--lease={id}");
    assert_eq!(ctl(&["put", "l1", "a", &option]), "OK\n");
    assert_eq!(ctl(&["put", "l2", "b", &option]), "OK\n");
    assert_eq!(ctl(&["put", "l3", "c"]), "OK\n");
    let left = ctl(&["lease", "timetolive", &id, "--keys"]);
    assert!(left.starts_with(&format!("lease {id} granted with TTL(600s), remaining(")), "{left}");
    assert!(left.ends_with("attached keys([l1 l2])\n"), "{left}");
    assert!(ctl(&["lease", "list"]).contains(&id));
    let kept = ctl(&["lease", "keep-alive", &id, "--once"]);
    assert_eq!(kept, format!("lease {id} keepalived with TTL(600)\n"));
    assert_eq!(ctl(&["lease", "revoke", &id]), format!("lease {id} revoked\n"));
    assert_eq!(ctl(&["get", "l", "--prefix"]), "l3\nc\n");
    assert_eq!(ctl(&["lease", "timetolive", &id]), format!("lease {id} already expired\n"));
    assert!(!ctl(&["lease", "list"]).contains(&id));
    assert!(complaint(endpoints, &["lease", "revoke", &id]).contains("requested lease not found"));
    assert!(complaint(endpoints, &["put", "l4", "d", &option]).contains("requested lease not found"));
    // However long this takes, the watch begins before the end.
    let granted = json(endpoints, &["lease", "grant", "1"]);
    let id = format!("{:016x}", granted["ID"].as_i64().or(granted["id"].as_i64()).unwrap());
    let put = json(endpoints, &["put", "l1", "a", &format!("--lease={id}")]);
    let from = put["header"]["revision"].as_i64().unwrap() + 1;
    let told = watched(endpoints, &["l1", &format!("--rev={from}")], 2, || ());
    assert_eq!(told, "DELETE\nl1\n");
    assert_eq!(ctl(&["del", "l3"]), "1\n");
}

/// Locks and elections.
fn lock_and_elect(endpoints: &str) {
    let (holder, mut out) = started(endpoints, &["lock", "mine"]);
    assert!(lines(&mut out, 1).starts_with("mine/"));
    let (waiting, mut turn) = started(endpoints, &["lock", "mine", "echo", "held"]);
    // It does not get the lock before the holder has gone.
    holder.interrupt();
    assert_eq!(lines(&mut turn, 1), "held\n");
    drop(waiting);

    let (_listener, mut heard) = started(endpoints, &["elect", "--listen", "post"]);
    let (first, mut out) = started(endpoints, &["elect", "post", "one"]);
    let told = lines(&mut out, 2);
    assert!(told.starts_with("post/") && told.ends_with("\none\n"), "{told}");
    assert_eq!(lines(&mut heard, 2), told);
    let (_second, mut out) = started(endpoints, &["elect", "post", "two"]);
    first.interrupt();
    let told = lines(&mut out, 2);
    assert!(told.starts_with("post/") && told.ends_with("\ntwo\n"), "{told}");
    assert_eq!(lines(&mut heard, 2), told);
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
        watch(&cluster.endpoints());
        lease(&cluster.endpoints());
        lock_and_elect(&cluster.endpoints());
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
            lease(&server.client.to_string());
        }
        use_kv(&cluster.endpoints());
        lock_and_elect(&cluster.endpoints());
        look_at(&cluster);
    });
}

#[test]
fn a_proxy_is_etcd_to_etcdctl() {
    run(async {
        let cluster = Cluster::start(3, &[]).await;
        cluster.published().await;
        for flags in [&[][..], &["--namespace", "ns/"]] {
            let proxy = Proxy::start(&cluster.endpoints(), flags).await;
            let endpoint = proxy.address.to_string();
            use_kv(&endpoint);
            watch(&endpoint);
            lease(&endpoint);
            lock_and_elect(&endpoint);
        }
    });
}

#[test]
fn what_does_not_exist_yet_is_refused_and_not_faked() {
    run(async {
        let cluster = Cluster::start(1, &[]).await;
        for args in [&["user", "list"][..], &["member", "add", "x", "--peer-urls", "http://127.0.0.1:1"]] {
            let said = complaint(&cluster.endpoints(), args);
            assert!(said.contains("Unimplemented") || said.contains("unknown service"), "{args:?}: {said}");
        }
    });
}
