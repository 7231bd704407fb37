//! openraft's configuration, every field with its reason: a default that changes under us, or that nobody has looked
//! at, is how a consensus library loses data.

use std::time::Duration;

use openraft::SnapshotPolicy;

use crate::runtime::{Mutant, Mutants, Runtime};

/// What a member's operator chooses about consensus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaftOptions {
    /// How often a leader reminds its followers.
    pub heartbeat_interval: Duration,
    /// How long a follower hears nothing of a leader before it campaigns: between one and a half times and twice this.
    pub election_timeout: Duration,
    /// Entries between two snapshots.
    pub snapshot_entries: u64,
    /// Entries that stay in the log behind a snapshot, so that a follower that lags a little needs no snapshot.
    pub keep_entries: u64,
}

/// The whole of openraft's configuration.
///
/// # Errors
/// One line that names the relation that does not hold, for instance an election time-out below the heartbeat interval.
pub fn openraft_config<R: Runtime>(options: &RaftOptions) -> Result<openraft::Config, String> {
    let millis = |duration: Duration| duration.as_millis() as u64;
    let heartbeat = millis(options.heartbeat_interval);
    let election = millis(options.election_timeout);
    // openraft takes both, and then does nothing else.
    if heartbeat == 0 {
        return Err("heartbeat interval must be at least 1 ms".to_owned());
    }
    if options.snapshot_entries == 0 {
        return Err("entries between two snapshots must be at least 1".to_owned());
    }
    // The field is deprecated, and a struct literal must name it.
    #[allow(deprecated)]
    let config = openraft::Config {
        // Only shown in logs.
        cluster_name: "seedbed".to_owned(),
        // A follower waits for the leader's lease, which is the greatest time-out, and then for a time drawn between the
        // two: together, the upper half of etcd's range of one to two time-outs.
        election_timeout_min: election / 2,
        election_timeout_max: election,
        // As the operator says; followers must hear several before they campaign.
        heartbeat_interval: heartbeat,
        // No suppression: a heartbeat also carries the commit index to followers that serve reads.
        heartbeat_min_interval: Some(0),
        // A snapshot is sent in chunks by our own network, each with this time-out.
        install_snapshot_timeout: (election * 10).max(5_000),
        // Deprecated, and without effect on our network.
        send_snapshot_timeout: 0,
        // Entries in one message: enough to batch, few enough to be sent within one heartbeat interval.
        max_payload_entries: 300,
        // Entries in one WAL write.
        max_append_entries: Some(4096),
        // How far behind a learner may be and still be made a voter. A follower gets a snapshot when the entries that it
        // needs have been purged, whatever this says.
        replication_lag_threshold: options.snapshot_entries + options.keep_entries,
        // By entries, as etcd: what bounds the log is what a restart has to apply.
        snapshot_policy: SnapshotPolicy::LogsSinceLast(options.snapshot_entries),
        // Without effect on our network, which chunks by itself.
        snapshot_max_chunk_size: 1 << 20,
        // For followers that lag a little: entries are cheaper than a snapshot.
        max_in_snapshot_log_to_keep: options.keep_entries,
        // Purging is a mark in the WAL: cheap enough to be done for each entry, pointless to do more often than a few.
        purge_batch_size: 16,
        // Back-pressure on proposals; etcd refuses beyond a gap of 5000 between commit and apply.
        api_channel_size: Some(8192),
        // Proposals in one turn of the core: as many as one WAL write takes.
        api_batch_capacity: 4096,
        // Latency first: batches form by themselves while an fsync is under way.
        api_batch_linger_ms: 0,
        // Bounded like the proposals that cause them.
        notification_channel_size: Some(8192),
        // Batches that wait to be applied: more would only grow while the store is slow.
        state_machine_channel_size: Some(1024),
        // Only for the feature `runtime-stats`, which is off.
        log_stage_capacity: None,
        // Replication need not wait for the next round of the core's loop: the leader's fsync and the followers' run
        // side by side (Raft thesis, section 10.2.1).
        broadcast_submitted_on_append: Some(true),
        // Time, heartbeats and elections run by themselves; `elect` is off for a while after a restart with leases.
        enable_tick: true,
        enable_heartbeat: true,
        enable_elect: true,
        // A leader that was removed leads until its removal has reached the others.
        removed_leader_step_down: openraft::StepDownPolicy::After(election),
        // No effect on safety; a leader without a quorum goes on sending, so that it is noticed when links heal.
        quorum_loss_probe_interval: None,
        // On, as in etcd since 3.5: a member that was cut off does not depose a healthy leader on its return.
        enable_pre_vote: Some(true),
        // After `Unreachable`. Short, since our transport reconnects by itself.
        backoff: "20ms 40ms 80ms ...500ms".to_owned(),
        // Whoever is to lead must not wait for a back-off first.
        reset_backoff_on_transfer_leader: Some(true),
        // A follower whose log went back has lost data that it acknowledged: never accept it in silence.
        allow_log_reversion: Some(false),
        // On by default, and it loses acknowledged writes: replication ships entries that the leader has not flushed.
        // After a crash the restored leader is without entries that its followers had acknowledged, and goes on to
        // fill their indexes with others, in the same term.
        enable_leader_restore: Some(R::Mutants::active(Mutant::LeaderRestore)),
    };
    config.validate().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wal::testing::TestRuntime;

    fn options(heartbeat_ms: u64, election_ms: u64) -> RaftOptions {
        RaftOptions {
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            election_timeout: Duration::from_millis(election_ms),
            snapshot_entries: 10_000,
            keep_entries: 1_000,
        }
    }

    /// Why options are refused.
    fn refusal(options: &RaftOptions) -> String {
        let line = openraft_config::<TestRuntime>(options).expect_err("nonsense");
        assert!(!line.is_empty() && !line.contains('\n'), "{line}");
        line
    }

    #[test]
    fn etcds_times_are_taken_as_they_are_and_no_leader_is_restored() {
        let config = openraft_config::<TestRuntime>(&options(100, 1000)).expect("etcd's own");
        assert_eq!((config.heartbeat_interval, config.election_timeout_max), (100, 1000));
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.allow_log_reversion, Some(false));
    }

    #[test]
    fn an_election_that_does_not_leave_time_for_heartbeats_is_refused() {
        for (heartbeat, election) in [(100, 100), (200, 100), (100, 150), (100, 200), (100, 0)] {
            let line = refusal(&options(heartbeat, election));
            assert!(line.contains("election"), "{line}");
        }
        openraft_config::<TestRuntime>(&options(100, 202)).expect("two heartbeats fit");
    }

    #[test]
    fn options_that_would_never_rest_are_refused() {
        refusal(&options(0, 1000));
        refusal(&RaftOptions { heartbeat_interval: Duration::from_micros(900), ..options(0, 1000) });
        refusal(&RaftOptions { snapshot_entries: 0, ..options(100, 1000) });
    }
}
