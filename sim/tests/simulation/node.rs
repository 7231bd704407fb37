//! One member's lives: what it has after a stop, a crash, a loss of half its disk, or an absence.

use std::cell::{Cell, RefCell};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::{join, join_all};
use madsim::time::{sleep, timeout};
use seedbed_core::node::{NodeOptions, StartError};
use seedbed_core::raft::NodeId;
use seedbed_core::runtime::{Disk, File};
use seedbed_proto::etcdserverpb::{CompactionRequest, RangeRequest};
use seedbed_sim::disk::SimDisk;
use seedbed_sim::evidence;
use seedbed_sim::network::Weather;
use seedbed_sim::runtime::Simulation;

use crate::members::{Client, Members, PATIENCE, backup, empty, restore};

/// Snapshots often, and hardly a log behind them.
fn short_log(options: &mut NodeOptions) {
    options.raft.snapshot_entries = 20;
    options.raft.keep_entries = 5;
}

fn key(n: u64) -> String {
    format!("key/{n:04}")
}

/// Values that tell the key and the write.
fn value(n: u64, write: u64) -> Bytes {
    format!("{n} written {write}").into()
}

async fn fill(client: &Client, member: u64, keys: std::ops::Range<u64>, write: u64) {
    for n in keys {
        client.put(member, &key(n), value(n, write)).await.expect("the cluster is well");
    }
}

async fn has(client: &Client, member: u64, keys: std::ops::Range<u64>, write: u64) {
    for n in keys {
        assert_eq!(client.get(member, &key(n)).await, Ok(Some(value(n, write))), "{}", key(n));
    }
}

#[test]
fn a_sole_voter_that_was_stopped_starts_again_with_everything() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(1, |_| {}).await;
            let client = members.client();
            fill(&client, 1, 0..40, 1).await;
            for life in 2..4 {
                let last = members.node(1).status();
                members.stop(1).await;
                members.boot(1).await.expect("its own disk");
                has(&client, 1, 0..40, life - 1).await;
                assert_eq!(members.node(1).status().revision, last.revision);
                assert_eq!(client.put(1, &key(0), value(0, life)).await, Ok(last.revision + 1));
                fill(&client, 1, 1..40, life).await;
            }
        });
    }
}

#[test]
fn what_was_acknowledged_before_a_stop_under_load_is_there_after_it() {
    for seed in 0..4 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(1, |options| {
                short_log(options);
                // So that pages are written between flushes as well.
                options.store.cache_bytes = 64 << 10;
            })
            .await;
            // Slow enough that changes pile up behind the store's flushes.
            members.disk(1).set_sync_us([3_000, 10_000]);
            let client = members.client();
            let (acknowledged, over) = (RefCell::new(Vec::new()), Cell::new(false));
            let writers = (0..8_u64).map(|writer| {
                let (client, acknowledged, over) = (&client, &acknowledged, &over);
                async move {
                    let value = Bytes::from(vec![writer as u8; 2000]);
                    for n in 0.. {
                        let name = key(writer * 1000 + n);
                        match client.put(1, &name, value.clone()).await {
                            Ok(_) => acknowledged.borrow_mut().push((name, value.clone())),
                            Err(_) => sleep(Duration::from_millis(1)).await,
                        }
                        if over.get() {
                            return;
                        }
                    }
                }
            });
            let operator = async {
                for quiet in [0, 50, 0, 50] {
                    sleep(Duration::from_millis(40)).await;
                    members.stop(1).await;
                    let left = members.disk(1).stats();
                    sleep(Duration::from_millis(quiet)).await;
                    assert_eq!(members.disk(1).stats(), left, "a member that has stopped leaves its disk alone");
                    members.boot(1).await.expect("its own disk");
                }
                sleep(Duration::from_millis(40)).await;
                over.set(true);
            };
            join(join_all(writers), operator).await;
            members.stop(1).await;
            members.boot(1).await.expect("its own disk");
            assert!(acknowledged.borrow().len() > 40, "{}", acknowledged.borrow().len());
            for (name, value) in acknowledged.take() {
                assert_eq!(client.get(1, &name).await, Ok(Some(value)), "{name}");
            }
        });
    }
}

#[test]
fn a_sole_voter_that_crashes_right_after_an_acknowledged_put_still_has_it() {
    for seed in 0..5 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(1, short_log).await;
            let client = members.client();
            for n in 0..12 {
                // Lives of different lengths, some of which end behind a snapshot.
                fill(&client, 1, n..n * n, 0).await;
                client.put(1, &key(n), value(n, 1)).await.expect("the member is well");
                members.crash(1);
                members.boot(1).await.expect("a crash costs nothing that was promised");
                has(&client, 1, n..n + 1, 1).await;
                fill(&client, 1, 0..n + 1, 1).await;
            }
            has(&client, 1, 0..12, 1).await;
        });
    }
}

#[test]
fn a_member_whose_log_was_removed_is_refused() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(1, |_| {}).await;
        fill(&members.client(), 1, 0..10, 1).await;
        let reached = members.node(1).status().applied;
        members.stop(1).await;
        empty(members.disk(1), "wal").await;
        // The refusal itself makes nothing that a second start would take for a log.
        for _ in 0..2 {
            match members.boot(1).await {
                Err(error @ StartError::LogLost { last: None, applied }) => {
                    assert_eq!(applied, reached);
                    assert!(error.to_string().contains(&reached.to_string()), "{error}");
                }
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_member_whose_log_was_put_back_to_an_earlier_one_is_refused() {
    Simulation::new(2).expect(|| async {
        let mut members = Members::start(1, |_| {}).await;
        let client = members.client();
        fill(&client, 1, 0..10, 1).await;
        let earlier = members.node(1).status().last_index;
        members.stop(1).await;
        let copy = backup(members.disk(1), "wal");
        members.boot(1).await.expect("its own disk");
        fill(&client, 1, 0..10, 2).await;
        let reached = members.node(1).status().applied;
        members.stop(1).await;
        empty(members.disk(1), "wal").await;
        restore(members.disk(1), "wal", &copy).await;
        match members.boot(1).await {
            Err(error @ StartError::LogLost { last: Some(last), applied }) => {
                assert_eq!((last, applied), (earlier, reached));
                let line = error.to_string();
                assert!(line.contains(&last.to_string()) && line.contains(&applied.to_string()), "{line}");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_member_that_lost_its_log_after_a_snapshot_is_refused() {
    Simulation::new(3).expect(|| async {
        let (mut members, follower, _) = behind(|_| {}, 1).await;
        members.boot(follower).await.expect("its own disk");
        members.agree().await;
        let reached = members.node(follower).status().applied;
        members.stop(follower).await;
        empty(members.disk(follower), "wal").await;
        match members.boot(follower).await {
            Err(StartError::LogLost { last: None, applied }) => assert_eq!(applied, reached),
            other => panic!("its vote is lost: {other:?}"),
        }
    });
}

#[test]
fn a_member_that_lost_its_whole_disk_is_refused_as_long_as_another_knows_it() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(3, |_| {}).await;
            fill(&members.client(), 1, 0..10, 1).await;
            members.published(1).await;
            members.stop(3).await;
            for folder in ["wal", "store"] {
                empty(members.disk(3), folder).await;
            }
            // The refusal itself makes nothing that a second start would take for a member's past.
            for _ in 0..2 {
                match members.boot(3).await {
                    Err(StartError::DiskLost(1 | 2)) => {}
                    other => panic!("its vote is lost: {other:?}"),
                }
            }
            members.leader().await;
            fill(&members.client(), 1, 0..10, 2).await;
        });
    }
}

#[test]
fn a_member_whose_store_was_removed_has_everything_from_its_log() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(1, |_| {}).await;
            let client = members.client();
            fill(&client, 1, 0..40, 1).await;
            fill(&client, 1, 10..20, 2).await;
            let before = members.node(1).store().hash(0).expect("readable");
            members.stop(1).await;
            empty(members.disk(1), "store").await;
            members.boot(1).await.expect("the log is whole");
            has(&client, 1, 0..10, 1).await;
            has(&client, 1, 10..20, 2).await;
            assert_eq!(members.node(1).store().hash(0).expect("readable"), before);
        });
    }
}

#[test]
fn a_member_whose_store_was_removed_is_refused_if_its_log_does_not_reach_back() {
    Simulation::new(4).expect(|| async {
        let mut members = Members::start(1, short_log).await;
        fill(&members.client(), 1, 0..100, 1).await;
        members.stop(1).await;
        empty(members.disk(1), "store").await;
        for _ in 0..2 {
            match members.boot(1).await {
                Err(StartError::StoreLost { applied: None, .. }) => {}
                other => panic!("{other:?}"),
            }
        }
    });
}

#[test]
fn a_physical_compaction_by_way_of_a_follower_returns_when_its_rows_are_gone() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(3, |_| {}).await;
            let client = members.client();
            let follower = members.leader().await % 3 + 1;
            // More rows than one step removes.
            for write in 1..=12 {
                let puts = (0..40).map(|n| {
                    let client = client.clone();
                    async move { client.put(follower, &key(n), value(n, write)).await.expect("the cluster is well") }
                });
                join_all(puts).await;
            }
            for _ in 0..2 {
                let revision = members.node(follower).store().revision();
                let request = CompactionRequest { revision, physical: true };
                let compacted = timeout(Duration::from_secs(2), client.compact(follower, request));
                compacted.await.expect("in good time").expect("a revision that can be compacted");
                assert!(!members.node(follower).store().is_compacting().await.expect("the store works"));
                let earlier = RangeRequest { key: key(0).into(), revision: revision - 1, ..RangeRequest::default() };
                let gone = client.range(follower, earlier).await.expect_err("compacted");
                assert_eq!(gone, "etcdserver: mvcc: required revision has been compacted");
                // In another life of the member, too.
                members.stop(follower).await;
                members.boot(follower).await.expect("its own disk");
                members.leader().await;
                fill(&client, follower, 0..10, 13).await;
            }
            members.agree().await;
        });
    }
}

/// A follower that crashed before the log that it needs was purged by the leader. Gives the leader as well.
async fn behind(adjust: impl FnOnce(&mut NodeOptions), bytes: usize) -> (Members, u64, u64) {
    let members = Members::start(3, |options| {
        short_log(options);
        adjust(options);
    });
    let mut members = members.await;
    let client = members.client();
    let leader = members.leader().await;
    let follower = leader % 3 + 1;
    fill(&client, leader, 0..5, 1).await;
    members.crash(follower);
    for n in 5..100 {
        client.put(leader, &key(n), vec![n as u8; bytes]).await.expect("two of three are enough");
    }
    (members, follower, leader)
}

/// The place in the log of each entry that a member has applied by itself.
fn applied_one_by_one(member: u64) -> Vec<u64> {
    let of = |evidence: &evidence::Evidence| {
        evidence.applied.get(&NodeId(member)).into_iter().flatten().map(|entry| entry.index).collect()
    };
    evidence::with(of)
}

#[test]
fn a_follower_that_was_away_for_longer_than_the_log_gets_a_snapshot() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let (mut members, follower, leader) = behind(|_| {}, 100).await;
            let before = applied_one_by_one(follower).into_iter().max().expect("it has applied some");
            let last = members.node(leader).status().last_index;
            members.boot(follower).await.expect("its own disk");
            members.agree().await;
            let since: Vec<_> = applied_one_by_one(follower).into_iter().filter(|index| *index > before).collect();
            assert!(since.len() < 60, "it applied {since:?} of {} to {last} itself: no snapshot was sent", before + 1);
            // It takes part: with it, one of the others is not needed.
            members.crash(follower % 3 + 1);
            let client = members.client();
            let leader = members.leader().await;
            client.put(leader, "after", "word").await.expect("two of three are enough");
            assert_eq!(client.get(follower, "after").await, Ok(Some("word".into())));
            // What the snapshot brought outlives a crash.
            members.crash(follower);
            members.boot(follower).await.expect("its own disk");
            members.leader().await;
            members.agree().await;
        });
    }
}

/// The bytes of a snapshot that has begun to arrive.
fn arrived(disk: &SimDisk) -> u64 {
    let disk = disk.handle();
    let size = |name: &String| disk.open(&format!("snapshot/{name}")).expect("listed").size().expect("the disk works");
    disk.list("snapshot").expect("a member makes the folder").iter().map(size).sum()
}

#[test]
fn a_follower_that_crashes_while_it_receives_a_snapshot_gets_it_again() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async move {
            let (mut members, follower, _) = behind(|_| {}, 20_000).await;
            // Nearly 2 MB, in eight pieces, each as slow as this.
            members.network.set_weather(Weather { latency_us: [3_000, 4_000], loss_permille: 0 });
            for pieces in [1, 4, 8] {
                members.boot(follower).await.expect("a snapshot that is half there harms nobody");
                assert_eq!(arrived(members.disk(follower)), 0, "what an earlier life left is gone");
                let receiving = async {
                    while arrived(members.disk(follower)) <= (pieces - 1) * (256 << 10) {
                        sleep(Duration::from_millis(1)).await;
                    }
                };
                timeout(PATIENCE, receiving).await.expect("a snapshot is sent");
                sleep(Duration::from_millis(seed)).await;
                members.crash(follower);
            }
            members.boot(follower).await.expect("a snapshot that is half there harms nobody");
            members.agree().await;
            assert_eq!(arrived(members.disk(follower)), 0, "what was installed is gone");
        });
    }
}

#[test]
fn a_follower_whose_snapshot_is_damaged_while_it_arrives_gets_it_again() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async move {
            let (mut members, follower, _) = behind(|_| {}, 20_000).await;
            // Nearly 2 MB, in eight pieces, each as slow as this.
            members.network.set_weather(Weather { latency_us: [3_000, 4_000], loss_permille: 0 });
            members.boot(follower).await.expect("its own disk");
            let disk = members.disk(follower).handle();
            let staged = || disk.list("snapshot").expect("a member makes the folder");
            let half = async {
                while arrived(members.disk(follower)) <= 4 * (256 << 10) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, half).await.expect("a snapshot is sent");
            let damaged = staged();
            let file = disk.open(&format!("snapshot/{}", damaged[0])).expect("listed");
            file.write_at(300_000 * (1 + seed), b"rot").expect("the disk works");

            let again = async {
                while staged().iter().all(|name| damaged.contains(name)) {
                    sleep(Duration::from_millis(1)).await;
                }
            };
            timeout(PATIENCE, again).await.expect("it is sent again");
            members.agree().await;
            assert_eq!(arrived(members.disk(follower)), 0, "what was installed is gone, and what was damaged");
        });
    }
}
