//! Reads and writes by way of any member: what they cost, what they promise, and what they say when nobody leads.

use std::time::Duration;

use futures_util::future::{join, join_all};
use madsim::time::{sleep, timeout};
use seedbed_core::raft::NodeId;
use seedbed_core::read::ReadPath;
use seedbed_sim::runtime::{Simulation, pause, resume};

use crate::members::Members;

/// What a member waits for a leader: five seconds and two elections, and then again for an apply.
const LIMIT: Duration = Duration::from_secs(7);

const NO_LEADER: &str = "etcdserver: no leader";
const TIMED_OUT: &str = "etcdserver: request timed out";
const CONNECTION_LOST: &str = "etcdserver: request timed out, possibly due to connection lost";

/// What keeps within its limit, give or take the network.
async fn within_limit<T>(call: impl Future<Output = T>) -> T {
    timeout(LIMIT + Duration::from_millis(500), call).await.expect("an answer within the limit")
}

#[test]
fn many_readers_of_a_member_share_a_few_rounds() {
    const READERS: usize = 200;
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let members = Members::start(3, |_| {}).await;
            let client = members.client();
            let leader = members.leader().await;
            client.put(leader, "key", "value").await.expect("the cluster is well");
            for member in [leader, leader % 3 + 1] {
                members.agree().await;
                let before = members.network.stats().sent;
                let reads = join_all((0..READERS).map(|_| client.get(member, "key"))).await;
                assert!(reads.iter().all(|read| *read == Ok(Some("value".into()))), "{:?}", reads[0]);
                let between_members = members.network.stats().sent - before - 2 * READERS as u64;
                // A round is a request to each of two followers, with its reply, and by way of a follower one to the leader
                // as well; three rounds, since the readers do not arrive at one moment; a heartbeat may fall in between.
                let (round, heartbeat) = (if member == leader { 4 } else { 6 }, 4);
                let most = 3 * round + heartbeat;
                assert!((1..=most).contains(&between_members), "{between_members} messages by way of {member}");
            }
        });
    }
}

#[test]
fn a_leader_that_was_cut_off_gives_no_stale_value() {
    for seed in 0..4 {
        Simulation::new(seed).expect(|| async move {
            let members = Members::start(3, |_| {}).await;
            let client = members.client();
            let old = members.leader().await;
            client.put(old, "key", "old").await.expect("the cluster is well");
            // Whether it hears the others or not.
            let node = NodeId(old);
            let cut = if seed % 2 == 0 { members.network.isolate(node) } else { members.network.one_way(node) };
            let others: Vec<_> = (1..=3).filter(|id| *id != old).collect();
            let new = members.leader_of(&others).await;
            client.put(new, "key", "new").await.expect("two of three are enough");

            client.get_serializable(old, "key").await.expect("clients do reach it");
            let refused = within_limit(client.get(old, "key")).await.expect_err("it cannot know");
            assert_eq!(refused, TIMED_OUT);

            // One that waits when the links are healed gets what was written meanwhile.
            let waiting = client.get(old, "key");
            let healing = async {
                sleep(Duration::from_secs(1)).await;
                members.network.heal(cut);
            };
            let (read, ()) = join(within_limit(waiting), healing).await;
            assert_eq!(read, Ok(Some("new".into())));
        });
    }
}

#[test]
fn a_leader_that_was_paused_gives_no_stale_value_when_it_goes_on() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async move {
            let members = Members::start(3, |_| {}).await;
            let client = members.client();
            let old = members.leader().await;
            client.put(old, "key", "old").await.expect("the cluster is well");
            pause(members.home(old));
            let others: Vec<_> = (1..=3).filter(|id| *id != old).collect();
            let new = members.leader_of(&others).await;
            // Asked before it was overtaken, and after.
            let early = client.get(old, "key");
            let late = async {
                sleep(Duration::from_millis(10)).await;
                client.put(new, "key", "new").await.expect("two of three are enough");
                let late = join_all((0..20).map(|_| client.get(old, "key")));
                let going_on = async {
                    sleep(Duration::from_millis(10)).await;
                    resume(members.home(old));
                };
                join(late, going_on).await.0
            };
            let (early, late) = join(early, late).await;
            assert!(early == Ok(Some("old".into())) || early == Ok(Some("new".into())), "{early:?}");
            assert!(late.iter().all(|read| *read == Ok(Some("new".into()))), "{late:?}");
        });
    }
}

#[test]
fn a_change_by_way_of_a_follower_is_there_when_it_answers() {
    for seed in 0..4 {
        Simulation::new(seed).expect(|| async {
            let members = Members::start(3, |_| {}).await;
            let client = members.client();
            let follower = members.leader().await % 3 + 1;
            // The others are a quorum without it, and much faster.
            members.disk(follower).set_sync_us([20_000, 60_000]);
            let clients = (0..4).map(|number| {
                let client = client.clone();
                async move {
                    let key = format!("key/{number}");
                    for round in 0..10 {
                        let value = format!("round {round}");
                        let written = client.put(follower, &key, value.clone()).await;
                        assert!(written.is_ok(), "{written:?}");
                        assert_eq!(client.get_serializable(follower, &key).await, Ok(Some(value.into())));
                    }
                }
            });
            join_all(clients).await;
        });
    }
}

#[test]
fn without_a_leader_a_change_is_refused_in_time_and_possible_after_healing() {
    for seed in 0..4 {
        Simulation::new(seed).expect(|| async {
            let members = Members::start(3, |_| {}).await;
            let client = members.client();
            let leader = members.leader().await;
            let follower = leader % 3 + 1;
            client.put(follower, "key", "before").await.expect("the cluster is well");
            members.agree().await;
            let cuts = [1, 2].map(|id| members.network.isolate(NodeId(id)));

            let mut never_happened = Vec::new();
            // At once, while each still believes in the leader that it had; then when they have noticed.
            for pause in [0, 5] {
                sleep(Duration::from_secs(pause)).await;
                for member in 1..=3 {
                    let name = format!("lost/{pause}/{member}");
                    let refused = within_limit(client.put(member, &name, "x")).await.expect_err("no quorum");
                    let expected = [NO_LEADER, TIMED_OUT, CONNECTION_LOST];
                    assert!(expected.contains(&&refused[..]), "member {member}: {refused}");
                    never_happened.extend((refused == NO_LEADER).then_some(name));
                    let unread = within_limit(client.get(member, "key")).await.expect_err("no quorum");
                    assert_eq!(unread, TIMED_OUT, "member {member}");
                    assert_eq!(client.get_serializable(member, "key").await, Ok(Some("before".into())));
                }
            }

            for cut in cuts {
                members.network.heal(cut);
            }
            for member in 1..=3 {
                let value = format!("by way of {member}");
                within_limit(client.put(member, "key", value.clone())).await.expect("healed");
                assert_eq!(within_limit(client.get(member, "key")).await, Ok(Some(value.into())));
            }
            assert!(!never_happened.is_empty(), "after five seconds, members know that nobody leads");
            for name in never_happened {
                assert_eq!(client.get(1, &name).await, Ok(None), "{name} was refused for good");
            }
        });
    }
}

#[test]
fn no_round_is_run_once_nobody_waits_for_it() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let members = Members::start(3, |_| {}).await;
            let old = members.leader().await;
            let cut = members.network.isolate(NodeId(old));
            within_limit(members.client().get(old, "key")).await.expect_err("it cannot know");
            // The round that was under way at the end of the limit.
            sleep(LIMIT).await;
            let counted = members.node(old).read_counters();
            assert!(counted[&ReadPath::ReadIndex].rounds > 0);
            sleep(LIMIT).await;
            assert_eq!(members.node(old).read_counters(), counted);
            members.network.heal(cut);
            members.client().get(old, "key").await.expect("the links are healed");
        });
    }
}
