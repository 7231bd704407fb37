//! What a stream carries, what holds it back, and what ends it.

use std::time::Duration;

use madsim::runtime::NodeHandle;
use madsim::time::{sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::super::Weather;
use super::*;
use crate::clock::true_now_ns;
use crate::runtime::{Simulation, create_node, kill, pause, restart, resume};

const MEMBER: NodeId = NodeId(1);
const CLIENT: u32 = 7;
const FAIR: Weather = Weather { latency_us: [100, 900], loss_permille: 0 };
const SECOND: Duration = Duration::from_secs(1);
/// Longer than an end tries to reach the other.
const LONG: Duration = Duration::from_secs(20);

/// A member that sends back what it is sent.
struct World {
    network: Network,
    node: NodeHandle,
}

impl World {
    async fn new(weather: Weather) -> World {
        let world = World { network: Network::new(weather), node: create_node("member-1") };
        world.serve(&world.node).await;
        world
    }

    async fn serve(&self, node: &NodeHandle) {
        let transport = self.network.transport(MEMBER);
        let task = async move {
            transport.serve_streams(Arc::new(|stream| Box::pin(async move { drop(echo(stream).await) })));
        };
        node.spawn(task).await.expect("it only registers");
    }

    fn crash(&self) {
        kill(self.node.id());
        self.network.reset(MEMBER);
    }

    async fn connect(&self) -> io::Result<ByteStream> {
        self.network.connect(CLIENT, MEMBER).await
    }

    fn cut_both_ways(&self) -> super::super::FaultId {
        let (client, member) = (Address::Client(CLIENT), Address::Member(MEMBER));
        self.network.cut([(client, member), (member, client)])
    }
}

async fn echo(mut stream: ByteStream) -> io::Result<()> {
    let mut buffer = [0; 1000];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return stream.shutdown().await,
            read => stream.write_all(&buffer[..read]).await?,
        }
    }
}

/// Sends a word and awaits it back.
async fn ask(stream: &mut ByteStream) -> io::Result<()> {
    stream.write_all(b"word").await?;
    let mut back = [0; 4];
    stream.read_exact(&mut back).await?;
    assert_eq!(&back, b"word");
    Ok(())
}

fn run<F: Future<Output = T>, T: Send>(test: impl FnOnce(World) -> F + Send) -> T {
    Simulation::new(5).expect(|| async { test(World::new(FAIR).await).await })
}

#[test]
fn a_round_trip_takes_the_latency_of_the_link_each_way() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        for _ in 0..50 {
            let begin = true_now_ns();
            ask(&mut stream).await.expect("fair weather");
            let passed = true_now_ns() - begin;
            assert!((200_000..1_810_000).contains(&passed), "{passed}");
        }
        // One message to open, one to accept, and one for each word: nothing is sent that nobody wrote.
        assert_eq!(world.network.stats().sent, 102);
    });
}

#[test]
fn bytes_arrive_whole_and_in_order_though_segments_are_slow_and_lost() {
    let weather = Weather { latency_us: [10, 20_000], loss_permille: 20 };
    let lost = Simulation::new(5).expect(|| async {
        let world = World::new(weather).await;
        let stream = world.connect().await.expect("it listens");
        let (mut reader, mut writer) = tokio::io::split(stream);
        let sent: Vec<u8> = (0..200_000_u32).map(|n| (n % 251) as u8).collect();
        let expected = sent.clone();
        let writing = async move {
            for piece in sent.chunks(777) {
                writer.write_all(piece).await.expect("whoever reads goes on");
            }
            writer.shutdown().await.expect("it is still there");
        };
        let mut received = Vec::new();
        let (_, read) = futures_util::future::join(writing, reader.read_to_end(&mut received)).await;
        assert_eq!(read.expect("it ends in good order"), expected.len());
        assert!(received == expected);
        world.network.stats().lost
    });
    assert!(lost > 0);
}

#[test]
fn nobody_listens_and_the_connection_is_refused() {
    run(|world| async move {
        world.crash();
        assert_eq!(world.connect().await.expect_err("it is down").kind(), io::ErrorKind::ConnectionRefused);
        assert_eq!(world.network.stats().refused, 1);
    });
}

#[test]
fn a_cut_holds_back_what_is_sent_until_it_is_healed() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        let cut = world.network.cut([(Address::Client(CLIENT), Address::Member(MEMBER))]);
        assert!(timeout(SECOND, ask(&mut stream)).await.is_err(), "the word does not arrive");
        assert!(world.network.heal(cut) > 0);
        let mut back = [0; 4];
        timeout(SECOND, stream.read_exact(&mut back)).await.expect("it is sent again").expect("it still holds");
        ask(&mut stream).await.expect("and goes on");

        // Words that are under way when it begins are met as well.
        stream.write_all(b"word").await.expect("room");
        let cut = world.cut_both_ways();
        assert!(timeout(SECOND / 2, stream.read_exact(&mut back)).await.is_err());
        world.network.heal(cut);
        timeout(SECOND, stream.read_exact(&mut back)).await.expect("it is sent again").expect("it still holds");
    });
}

#[test]
fn a_cut_that_lasts_ends_the_connection() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        let cut = world.cut_both_ways();
        stream.write_all(b"word").await.expect("room");
        let begin = true_now_ns();
        let failed = timeout(LONG, stream.read(&mut [0; 4])).await.expect("it gives up");
        assert_eq!(failed.expect_err("nothing came back").kind(), io::ErrorKind::TimedOut);
        assert!((12..14).contains(&((true_now_ns() - begin) / 1_000_000_000)));
        assert_eq!(stream.write(b"word").await.expect_err("it has given up").kind(), io::ErrorKind::TimedOut);
        let refused = timeout(LONG, world.connect()).await.expect("it gives up");
        assert_eq!(refused.expect_err("cut").kind(), io::ErrorKind::TimedOut);
        world.network.heal(cut);
        ask(&mut world.connect().await.expect("healed")).await.expect("healed");
    });
}

#[test]
fn a_crash_resets_and_the_next_life_listens() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        ask(&mut stream).await.expect("fair weather");
        world.crash();
        let broken = timeout(SECOND, stream.read(&mut [0; 4])).await.expect("it hears of it");
        assert_eq!(broken.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
        assert!(world.connect().await.is_err());
        world.serve(&restart(world.node.id())).await;
        ask(&mut world.connect().await.expect("it listens again")).await.expect("fair weather");
    });
}

#[test]
fn a_fault_breaks_a_connection_for_both_ends() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        ask(&mut stream).await.expect("it answers");
        let fault = world.network.reset_some(0, crate::plan::LinkSet::Clients, 1000);
        let broken = ask(&mut stream).await.expect_err("the connection breaks");
        assert_eq!(broken.kind(), io::ErrorKind::ConnectionReset);
        assert!(world.network.heal(fault) > 0);
        let mut stream = world.connect().await.expect("the next one holds");
        ask(&mut stream).await.expect("it answers");
    });
}

#[test]
fn who_missed_the_reset_hears_of_it_when_it_sends() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        let cut = world.cut_both_ways();
        world.crash();
        world.serve(&restart(world.node.id())).await;
        sleep(SECOND / 10).await;
        world.network.heal(cut);
        assert!(timeout(SECOND, stream.read(&mut [0; 4])).await.is_err(), "nothing is wrong that it could know of");
        let broken = timeout(SECOND, ask(&mut stream)).await.expect("the next life knows no such connection");
        assert_eq!(broken.expect_err("reset").kind(), io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_paused_member_takes_what_it_is_sent_and_answers_when_it_goes_on() {
    run(|world| async move {
        pause(world.node.id());
        let mut stream = timeout(SECOND, world.connect()).await.expect("its kernel accepts").expect("it listens");
        assert!(timeout(SECOND, ask(&mut stream)).await.is_err(), "nobody reads");
        resume(world.node.id());
        let mut back = [0; 4];
        timeout(SECOND, stream.read_exact(&mut back)).await.expect("it goes on").expect("nothing is lost");
    });
}

#[test]
fn a_writer_waits_for_a_reader_that_does_not_read() {
    run(|world| async move {
        let mut stream = world.connect().await.expect("it listens");
        pause(world.node.id());
        let more = vec![1; WINDOW_BYTES + 1];
        assert!(timeout(SECOND, stream.write_all(&more)).await.is_err(), "there is no room for the last byte");
        resume(world.node.id());
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut back = vec![0; WINDOW_BYTES + 4];
        let read = reader.read_exact(&mut back);
        let (written, read) = futures_util::future::join(writer.write_all(b"more"), timeout(LONG, read)).await;
        written.expect("there is room again");
        read.expect("it goes on").expect("nothing is lost");
        assert!(back.ends_with(b"more"));
    });
}

#[test]
fn a_stream_that_is_dropped_resets_and_one_that_is_shut_ends() {
    let ended = |shut: bool| {
        run(|world| async move {
            let (sender, seen) = tokio::sync::oneshot::channel();
            let sender = Arc::new(std::sync::Mutex::new(Some(sender)));
            let transport = world.network.transport(MEMBER);
            let serve = async move {
                transport.serve_streams(Arc::new(move |mut stream| {
                    let sender = sender.clone();
                    Box::pin(async move {
                        let read = stream.read(&mut [0; 4]).await.map_err(|error| error.kind());
                        let sender = sender.lock().expect("one thread").take().expect("one connection");
                        sender.send(read).expect("the test waits");
                    })
                }));
            };
            world.node.spawn(serve).await.expect("it only registers");
            let mut stream = world.connect().await.expect("it listens");
            if shut {
                stream.shutdown().await.expect("it is open");
            }
            drop(stream);
            timeout(SECOND, seen).await.expect("it hears of it").expect("it says so")
        })
    };
    assert_eq!(ended(true), Ok(0));
    assert_eq!(ended(false), Err(io::ErrorKind::ConnectionReset));
}

#[test]
fn a_fault_on_one_clients_link_leaves_the_draws_of_another() {
    let latencies = |fault: bool| {
        run(|world| async move {
            let mut other = world.network.connect(CLIENT + 1, MEMBER).await.expect("it listens");
            let mut stream = world.connect().await.expect("it listens");
            if fault {
                world.cut_both_ways();
            }
            let mut latencies = Vec::new();
            for _ in 0..10 {
                let _ = timeout(Duration::from_millis(5), ask(&mut stream)).await;
                let begin = true_now_ns();
                ask(&mut other).await.expect("no fault meets it");
                // Scheduling takes a random few hundred nanoseconds.
                latencies.push((true_now_ns() - begin) / 10_000);
            }
            latencies
        })
    };
    let (fair, foul) = (latencies(false), latencies(true));
    assert!(fair.iter().zip(&foul).all(|(a, b)| a.abs_diff(*b) <= 1), "{fair:?} {foul:?}");
}
