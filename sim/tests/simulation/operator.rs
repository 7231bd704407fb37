//! What a member does for its operator: it forgets history by itself, tells its name, and hands leadership over.

use std::time::Duration;

use madsim::time::sleep;
use seedbed_core::auto_compaction::AutoCompaction;
use seedbed_core::raft::NodeId;
use seedbed_sim::evidence;
use seedbed_sim::runtime::Simulation;

use crate::members::{Members, PATIENCE};

const MINUTE: Duration = Duration::from_secs(60);

/// How long after a look its compaction has been applied everywhere.
const APPLIED: Duration = Duration::from_secs(5);

#[test]
fn the_history_is_cut_to_a_number_of_revisions_whoever_leads() {
    Simulation::new(1).expect(|| async {
        let mut members = Members::start(3, |options| options.auto_compaction = AutoCompaction::Revision(10)).await;
        let client = members.client();
        for n in 0..20 {
            client.put(1, "k", format!("{n}")).await.expect("the cluster is well");
        }
        let compacted = |members: &Members, id| members.node(id).store().compact_revision();
        sleep(4 * MINUTE).await;
        assert!((1..=3).all(|id| compacted(&members, id) == -1), "not before the first look");
        sleep(MINUTE + APPLIED).await;
        assert!((1..=3).all(|id| compacted(&members, id) == 11), "21 revisions, of which ten are kept");

        let old = members.leader().await;
        members.stop(old).await;
        let new = members.leader().await;
        for n in 0..5 {
            client.put(new, "k", format!("{n}")).await.expect("two of three are well");
        }
        sleep(5 * MINUTE + APPLIED).await;
        assert_eq!(compacted(&members, new), 16);
    });
}

#[test]
fn the_history_of_a_time_is_kept() {
    Simulation::new(2).expect(|| async {
        let period = AutoCompaction::Periodic(10 * MINUTE);
        let members = Members::start(1, |options| options.auto_compaction = period).await;
        let client = members.client();
        // A revision each minute: the compact revision can be read off the clock.
        for minute in 1..=30 {
            sleep(MINUTE).await;
            client.put(1, "k", format!("{minute}")).await.expect("the member is well");
            let store = members.node(1).store();
            let kept = store.revision() - store.compact_revision();
            let bounds = if minute < 10 { minute + 1..=minute + 3 } else { 9..=21 };
            assert!(bounds.contains(&kept), "{kept} revisions are kept after {minute} minutes");
        }
    });
}

#[test]
fn names_reach_every_member_and_come_back_with_a_snapshot() {
    Simulation::new(3).expect(|| async {
        let mut members = Members::start(3, |options| {
            options.raft.snapshot_entries = 20;
            options.raft.keep_entries = 5;
            options.directory.peer_urls = [(NodeId(2), vec!["http://10.0.0.2:2380".to_owned()])].into();
        })
        .await;
        let client = members.client();
        let list = members.published(3).await;
        assert!(list.iter().all(|member| member.name == format!("m{}", member.id)), "{list:?}");
        assert_eq!(list[0].client_ur_ls, ["http://10.0.0.1:2379"]);
        assert_eq!(list.iter().map(|member| member.id).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(list[1].peer_ur_ls, ["http://10.0.0.2:2380"]);
        assert!(list.iter().all(|member| !member.is_learner));

        let behind = members.leader().await % 3 + 1;
        members.stop(behind).await;
        let leader = members.leader().await;
        for n in 0..100 {
            client.put(leader, "k", format!("{n}")).await.expect("two of three are well");
        }
        assert_eq!(members.node(leader).status().revision, 101, "a name has no revision");
        members.boot(behind).await.expect("its own disk");
        members.agree().await;
        members.boot(behind).await.expect("its own disk");
        members.agree().await;
        let applied = evidence::take().applied.remove(&NodeId(behind)).expect("it has applied some");
        assert!(applied.len() < 60, "it applied {} entries itself: no snapshot was sent", applied.len());
        assert_eq!(members.published(behind).await, list);
    });
}

#[test]
fn leadership_is_handed_to_a_member_that_is_there() {
    for seed in 0..5 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(3, |_| {}).await;
            let client = members.client();
            let old = members.leader().await;
            let (dead, alive) = (old % 3 + 1, (old + 1) % 3 + 1);
            // Both others have the whole log when one of them dies: it is the silence that tells them apart.
            client.put(old, "k", "v").await.expect("the cluster is well");
            members.agree().await;
            members.crash(dead);
            sleep(Duration::from_secs(1)).await;
            let term = members.node(old).status().term;
            assert_eq!(members.node(old).hand_over(PATIENCE).await, Some(NodeId(alive)));
            assert_eq!(members.node(old).status().term, term + 1, "it was the first election");
            assert_eq!(client.put(alive, "k", "w").await, Ok(3));
            assert_eq!(members.node(old).hand_over(PATIENCE).await, None, "it does not lead");
        });
    }
}

#[test]
fn nobody_is_there_to_hand_leadership_to() {
    Simulation::new(4).expect(|| async {
        let members = Members::start(1, |_| {}).await;
        assert_eq!(members.node(1).hand_over(PATIENCE).await, None);
        assert_eq!(members.client().put(1, "k", "v").await, Ok(2), "it leads on");
    });
}
