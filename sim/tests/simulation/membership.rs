//! Members that come and go.

use std::time::Duration;

use madsim::time::{sleep, timeout};
use seedbed_core::raft::{MembershipChange, MembershipError, NodeId};
use seedbed_sim::runtime::Simulation;

use crate::members::{Members, PATIENCE};

/// Asks a member, until it has done it or says something other than that it cannot yet.
async fn change(members: &Members, leader: u64, change: MembershipChange) -> Result<(), MembershipError> {
    let changed = async {
        loop {
            match members.node(leader).change_membership(change).await {
                Err(MembershipError::InProgress | MembershipError::NotInSync { .. }) => {
                    sleep(Duration::from_millis(20)).await;
                }
                result => return result,
            }
        }
    };
    timeout(PATIENCE, changed).await.expect("it is done, or refused")
}

#[test]
fn a_learner_is_needed_by_nobody_until_it_is_promoted() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let mut members = Members::start(1, |_| {}).await;
            let client = members.client();
            client.put(1, "key", "before").await.expect("it is well");
            change(&members, 1, MembershipChange::Add(NodeId(2))).await.expect("nobody else is asked");
            client.put(1, "key", "beside a learner that does not run").await.expect("it has no vote");
            match members.node(1).change_membership(MembershipChange::Promote(NodeId(2))).await {
                Err(MembershipError::NotInSync { member: NodeId(2), matched: 0, last }) => assert!(last > 1),
                other => panic!("it has nothing yet: {other:?}"),
            }

            members.make(2);
            members.boot(2).await.expect("it is new");
            change(&members, 1, MembershipChange::Promote(NodeId(2))).await.expect("it is in sync");
            assert_eq!(members.node(1).membership().voters, [1, 2].map(NodeId).into());
            assert_eq!(client.get(2, "key").await, Ok(Some("beside a learner that does not run".into())));

            members.crash(2);
            client.put(1, "key", "by one of two").await.expect_err("one of two is no majority");
            members.boot(2).await.expect("its own disk");
            members.leader().await;
            members.agree().await;
        });
    }
}

#[test]
fn a_leader_that_is_removed_leaves_the_others_a_cluster_that_serves() {
    for seed in 0..3 {
        Simulation::new(seed).expect(|| async {
            let members = Members::start(3, |_| {}).await;
            let (client, old) = (members.client(), members.leader().await);
            client.put(old, "key", "before").await.expect("all is well");
            change(&members, old, MembershipChange::Remove(NodeId(old))).await.expect("all are there");
            let others: Vec<u64> = (1..=3).filter(|id| *id != old).collect();
            members.leader_of(&others).await;
            let written = client.put(others[0], "key", "after").await;
            assert!(written.is_ok(), "seed {seed}: {written:?}");
            // What is gone may say what it knows, and nothing that claims to be now.
            assert!(client.get(old, "key").await.is_err(), "seed {seed}");
            assert!(client.get_serializable(old, "key").await.is_ok(), "seed {seed}");
        });
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_changes_nothing() {
    use MembershipChange::{Add, Promote, Remove};
    Simulation::new(1).expect(|| async {
        let members = Members::start(3, |_| {}).await;
        let leader = members.leader().await;
        let follower = leader % 3 + 1;
        let before = members.node(leader).membership();
        assert!(before.settled && before.learners.is_empty());
        let nobody = NodeId(9);
        for (refused, why) in [
            (Add(NodeId(follower)), MembershipError::Exists(NodeId(follower))),
            (Promote(NodeId(follower)), MembershipError::NotLearner(NodeId(follower))),
            (Promote(nobody), MembershipError::NotFound(nobody)),
            (Remove(nobody), MembershipError::NotFound(nobody)),
        ] {
            assert_eq!(change(&members, leader, refused).await, Err(why));
        }
        let elsewhere = members.node(follower).change_membership(Add(nobody)).await;
        assert_eq!(elsewhere, Err(MembershipError::NotLeader { leader: Some(NodeId(leader)) }));
        assert_eq!(members.node(leader).membership(), before);
    });
    Simulation::new(1).expect(|| async {
        let alone = Members::start(1, |_| {}).await;
        assert_eq!(change(&alone, 1, Remove(NodeId(1))).await, Err(MembershipError::LastVoter(NodeId(1))));
    });
}
