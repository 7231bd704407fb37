//! What is acknowledged is durable, seen from outside: the kernel is asked to, before the client is told.
//!
//! strace writes down what a member does to its log and to its clients' sockets, in the order in which it did it. For each
//! put there must be, in this order:
//!
//! ```text
//!   the end of a write of the log that has the put's key in it
//!   the beginning, and later the successful end, of an fdatasync of that file
//!   the beginning of the reply on the client's connection
//! ```

mod servers;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use futures_util::future;
use seedbed_core::proto::etcdserverpb::kv_client::KvClient;

use self::servers::{Cluster, Server, connect_from, eventually, put, run};

/// Clients at a time, each with a connection of its own.
const CLIENTS: usize = 16;

/// Puts of a client, one after the other.
const PUTS: usize = 25;

/// What strace was told to write down.
const CALLS: &str = "trace=pwrite64,fdatasync,write,writev,sendto,sendmsg";

/// A put's key: of one length, so that none is within another.
fn key(client: usize, put: usize) -> String {
    format!("client-{client:03}-put-{put:03}.")
}

/// Something that the member did.
#[derive(Debug)]
enum Event {
    Wrote {
        file: String,
        bytes: Vec<u8>,
    },
    SyncBegan {
        thread: u32,
        file: String,
    },
    Synced {
        thread: u32,
    },
    /// The beginning of something sent to a client, with the client's port.
    Sends {
        port: u16,
        bytes: Vec<u8>,
    },
}

/// Reads a trace, of `strace -f -yy`.
fn events(trace: &str) -> Vec<Event> {
    let mut events = Vec::new();
    // What a thread has begun, while others did something else.
    let mut unfinished: BTreeMap<u32, &str> = BTreeMap::new();
    for line in trace.lines() {
        let (thread, call) = line.split_once(' ').expect("a line begins with a thread");
        let thread = thread.parse().expect("a thread is a number");
        let call = call.trim_start();
        if let Some(begun) = call.strip_suffix(" <unfinished ...>") {
            began(thread, begun, &mut events);
            unfinished.insert(thread, begun);
        } else if call.starts_with("<... ") {
            let begun = unfinished.remove(&thread).expect("what is resumed was begun");
            ended(thread, begun, call, &mut events);
        } else if call.contains('(') {
            began(thread, call, &mut events);
            ended(thread, call, call, &mut events);
        }
    }
    events
}

fn began(thread: u32, call: &str, events: &mut Vec<Event>) {
    let (name, arguments) = call.split_once('(').expect("a call has arguments");
    let (_, target) = descriptor(arguments);
    match (name, target.strip_prefix("TCP:[")) {
        ("fdatasync", _) => events.push(Event::SyncBegan { thread, file: target.to_owned() }),
        ("write" | "writev" | "sendto" | "sendmsg", Some(ends)) => {
            let port = ends.rsplit(':').next().and_then(|port| port.trim_end_matches(']').parse().ok());
            events.push(Event::Sends { port: port.expect("a connection has ports"), bytes: strings(arguments) });
        }
        _ => {}
    }
}

fn ended(thread: u32, begun: &str, end: &str, events: &mut Vec<Event>) {
    let (name, arguments) = begun.split_once('(').expect("a call has arguments");
    let (_, result) = end.rsplit_once(" = ").unwrap_or_else(|| panic!("a call has a result: {end}"));
    match name {
        "pwrite64" => {
            assert!(!result.starts_with('-'), "{end}");
            let file = descriptor(arguments).1.to_owned();
            events.push(Event::Wrote { file, bytes: strings(arguments) });
        }
        "fdatasync" => {
            assert!(result.starts_with('0'), "{end}");
            events.push(Event::Synced { thread });
        }
        _ => {}
    }
}

/// `12</path/of/a/file>, …` or `12<TCP:[127.0.0.1:2379->127.0.0.1:5000]>, …`: the number, and what is in the brackets.
fn descriptor(arguments: &str) -> (&str, &str) {
    let (number, rest) = arguments.split_once('<').unwrap_or((arguments, ""));
    let end = rest.find(">, ").or_else(|| rest.rfind(">)")).or_else(|| rest.rfind('>')).unwrap_or(rest.len());
    (number, &rest[..end])
}

/// The bytes of all the string literals of a call, as C writes them.
fn strings(arguments: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = arguments.bytes().peekable();
    let mut inside = false;
    while let Some(byte) = rest.next() {
        match byte {
            b'"' => inside = !inside,
            _ if !inside => {}
            b'\\' => match rest.next().expect("an escape is whole") {
                digit @ b'0'..=b'7' => {
                    let mut value = u32::from(digit - b'0');
                    for _ in 0..2 {
                        let Some(digit) = rest.next_if(|digit| (b'0'..=b'7').contains(digit)) else { break };
                        value = value * 8 + u32::from(digit - b'0');
                    }
                    bytes.push(value as u8);
                }
                b'n' => bytes.push(b'\n'),
                b't' => bytes.push(b'\t'),
                b'r' => bytes.push(b'\r'),
                b'v' => bytes.push(11),
                b'f' => bytes.push(12),
                other => bytes.push(other),
            },
            byte => bytes.push(byte),
        }
    }
    bytes
}

/// Whether a sequence of HTTP/2 frames has the beginning of a response in it.
fn has_response(mut frames: &[u8]) -> bool {
    const HEAD: usize = 9;
    const HEADERS: u8 = 1;
    const END_STREAM: u8 = 1;
    while let [a, b, c, kind, flags, ..] = *frames {
        // Trailers are headers too, and end the stream.
        if kind == HEADERS && flags & END_STREAM == 0 {
            return true;
        }
        let length = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        frames = frames.get(HEAD + length..).unwrap_or_default();
    }
    false
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// Holds a trace against the puts of clients, by the clients' ports. Returns how many syncs there were for how many
/// replies.
fn check(events: &[Event], clients: &BTreeMap<u16, usize>) -> (usize, usize) {
    let is_log = |file: &str| Path::new(file).parent().is_some_and(|folder| folder.ends_with("wal"));
    // Of each client: replies so far.
    let mut replies = [0; CLIENTS];
    // What is written and not synced, what a thread's sync will make durable, and what is.
    let mut written: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    let mut syncing: BTreeMap<u32, Vec<u8>> = BTreeMap::new();
    let mut durable: Vec<u8> = Vec::new();
    let mut syncs = 0;
    for event in events {
        match event {
            Event::Wrote { file, bytes } if is_log(file) => written.entry(file).or_default().extend(bytes),
            Event::SyncBegan { thread, file } if is_log(file) => {
                syncing.insert(*thread, written.remove(file.as_str()).unwrap_or_default());
            }
            Event::Synced { thread } => {
                if let Some(bytes) = syncing.remove(thread) {
                    durable.extend(bytes);
                    syncs += 1;
                }
            }
            Event::Sends { port, bytes } if has_response(bytes) => {
                let Some(client) = clients.get(port) else { continue };
                let key = key(*client, replies[*client]);
                assert!(
                    contains(&durable, key.as_bytes()),
                    "the reply to the put of {key} began before it was durable"
                );
                replies[*client] += 1;
            }
            _ => {}
        }
    }
    (syncs, replies.iter().sum())
}

/// Puts one key after the other. Returns the port that the client had.
async fn write(server: &Server, client: usize) -> u16 {
    let (channel, port) = eventually("a connection", async || connect_from(server.client).await).await;
    let mut kv = KvClient::new(channel);
    for n in 0..PUTS {
        kv.put(put(&key(client, n), "value")).await.expect("a put succeeds");
    }
    port
}

#[test]
fn an_fdatasync_stands_between_the_write_of_the_log_and_the_reply() {
    run(async {
        let mut cluster = Cluster::new(1, &[]);
        let trace = cluster.folder.path().join("trace");
        let server = &mut cluster.servers[0];
        // -D keeps the server our own child, to be signalled; -s is enough for the largest group of puts.
        let tracer = ["strace", "-D", "-f", "-yy", "-s", "1000000", "-e", CALLS, "-o", trace.to_str().unwrap()];
        server.wrapper = tracer.iter().map(|word| (*word).to_owned()).collect();
        server.start();
        cluster.leader().await;
        let server = &cluster.servers[0];
        let ports = future::join_all((0..CLIENTS).map(|client| write(server, client))).await;
        assert_eq!(cluster.servers[0].stop().await.code(), Some(0));

        // The tracer has a last word after its tracee's.
        let text = eventually("the end of the trace", async || {
            let text = String::from_utf8_lossy(&fs::read(&trace).unwrap()).into_owned();
            text.lines().last().is_some_and(|line| line.contains("+++ exited with 0 +++")).then_some(text)
        })
        .await;
        let clients = ports.into_iter().zip(0..).collect();
        let (syncs, replies) = check(&events(&text), &clients);
        assert_eq!(replies, CLIENTS * PUTS, "the trace has every reply");
        assert!(syncs < replies, "{syncs} syncs for {replies} puts: they share them");
        println!("{syncs} syncs for {replies} puts");
    });
}

#[test]
fn the_check_notices_a_reply_that_is_too_early() {
    const WRITE: &str = r#"7 pwrite64(9</d/wal/1.log>, "\1client-000-put-000.\0", 30, 512) = 30"#;
    const SYNC: &str = "8 fdatasync(9</d/wal/1.log>) = 0";
    const REPLY: &str = r#"9 writev(12<TCP:[127.0.0.1:2379->127.0.0.1:4000]>, [{iov_base="\0\0\1\1\4\0\0\0\1\210", iov_len=10}], 1) = 10"#;
    let check = |lines: &[&str]| check(&events(&lines.join("\n")), &BTreeMap::from([(4000, 0)]));
    assert_eq!(check(&[WRITE, SYNC, REPLY]), (1, 1));
    let early: [&[&str]; 3] = [
        &[WRITE, REPLY, SYNC],
        &[SYNC, WRITE, REPLY],
        &[WRITE, "8 fdatasync(9</d/wal/1.log> <unfinished ...>", REPLY, "8 <... fdatasync resumed>) = 0"],
    ];
    for lines in early {
        let noticed = std::panic::catch_unwind(|| check(lines));
        assert!(noticed.is_err(), "{lines:?}");
    }
}
