//! Which plans are refused, and the JSON form's way in and out.
//!
//! A refusal is one line that begins with the path of the field: `faults[2].fault.crash.target: …`. What passes can be
//! run; a fault may still find nothing to do, for instance a leader to crash while there is none.
//!
//! A plan whose times leave no room is refused as well: its cluster could not elect, replicate, answer or converge,
//! whatever the store did, and the run would blame the store.
//!
//! ```text
//!   a heartbeat interval                                            below half of the election time-out
//!   an append: there and back                                       below the heartbeat interval
//!   a vote: there and back, the voter's fsync                       below half of the election time-out
//!   a put: by way of a follower and the leader to another follower,
//!          its fsync, and the whole way back                        below the client's time-out
//!   a start or recovery, two elections, a put                       within `converge_ms`
//! ```
//!
//! What is drawn from a band counts as the lower quarter of it. If even that is too slow, hardly anything is in time. A
//! plan that passes narrowly may still need more time than it has.
//!
//! Nor may a member lose its disk beside faults that keep the others from refusing it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use seedbed_core::runtime::Mutant;
use serde::Deserialize;
use serde_json::Value;

use super::{
    ClusterPlan, ContendPlan, Fault, FaultKind, LeasePlan, LinkSet, Plan, ProxyPlan, Span, Target, VERSION, WatchPlan,
    WorkloadPlan,
};

/// Time in a plan ends here: a day, in which no sum of two times overflows.
const TIME_MS_MAX: u64 = 24 * 60 * 60 * 1000;
/// Messages lost in a thousand, in fair weather between members: of four requests, one is answered.
const LOSS_PERMILLE_MAX: u64 = 500;
/// Fsyncs one after the other from the start of a member to its first leadership, found by trying.
const STARTING_SYNCS: u64 = 10;
/// Members, clients and the rest are simulated in one process's memory.
const CLIENTS_MAX: u64 = 10_000;
const OPERATIONS_MAX: u64 = 10_000_000;
const KEYS_MAX: u64 = 1_000_000;
const WATCHERS_MAX: u64 = 1000;
const LEASES_MAX: u64 = 1_000_000;
/// A run waits in the end until all leases have ended.
const TTL_S_MAX: u64 = 60 * 60;
const WATCH_SIZE_MAX: u64 = 1 << 30;
/// A request is at most 1.5 MiB in etcd.
const VALUE_BYTES_MAX: u64 = 1 << 20;
const WRITTEN_BYTES_MAX: u64 = 256 << 20;
/// Messages lost in a thousand, of which a question and its answer come through within a score of tries.
const REFUSAL_LOSS_PERMILLE_MAX: u32 = 200;
/// As long as git's longest.
const COMMIT_CHARS_MAX: usize = 64;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
const ENTRIES_MAX: u64 = 1 << 32;
/// A clock at half its speed, or half as fast again.
const DRIFT_PPM_MAX: u64 = 500_000;
/// The greatest number of a member: the trace and the network's random streams tell members by half a word.
const MEMBER_MAX: u64 = u32::MAX as u64;
/// The bits of a sector.
const ROTTEN_BITS_MAX: u64 = 8 * 512;

/// Why a plan is refused: one line.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct PlanError {
    /// The field, as `faults[2].for_ms`; `plan` if it is all of it.
    pub path: String,
    /// What is wrong with it.
    pub reason: String,
}

impl PlanError {
    fn new(path: impl fmt::Display, reason: impl fmt::Display) -> Self {
        // Both may quote the file, and a refusal is one line whatever the file holds.
        let line = |text: String| text.chars().flat_map(escaped).collect();
        PlanError { path: line(path.to_string()), reason: line(reason.to_string()) }
    }
}

fn escaped(c: char) -> impl Iterator<Item = char> {
    let (control, plain) = if c.is_control() { (Some(c.escape_default()), None) } else { (None, Some(c)) };
    control.into_iter().flatten().chain(plain)
}

impl Plan {
    /// Reads and validates the JSON form.
    pub fn from_json(json: &str) -> Result<Plan, PlanError> {
        // A plan of another version has other fields: its version is the thing to say, so it is looked at first.
        #[derive(Deserialize)]
        struct Versioned {
            #[serde(default)]
            version: Value,
        }
        let Versioned { version } = parse(json)?;
        if !version.is_null() && version != VERSION {
            return Err(PlanError::new("version", format_args!("this is {version}, and only {VERSION} is understood")));
        }
        let plan: Plan = parse(json)?;
        plan.validate()?;
        Ok(plan)
    }

    /// The JSON form, for people to read and edit.
    pub fn to_json(&self) -> String {
        let mut json = serde_json::to_string_pretty(self).expect("a plan has only string keys and no failing fields");
        json.push('\n');
        json
    }

    /// Refuses what cannot be run.
    pub fn validate(&self) -> Result<(), PlanError> {
        ensure(self.version == VERSION, "version", || format!("{} is not {VERSION}", self.version))?;
        ensure(!self.scenario.is_empty(), "scenario", || "it is empty".to_owned())?;
        if let Some(mutant) = &self.mutant {
            Mutant::from_str(mutant).map_err(|error| PlanError::new("mutant", error))?;
        }
        if let Some(commit) = &self.commit {
            let plain = (1..=COMMIT_CHARS_MAX).contains(&commit.len()) && commit.bytes().all(|c| c.is_ascii_hexdigit());
            ensure(plain, "commit", || format!("`{commit}` is not 1 to {COMMIT_CHARS_MAX} hexadecimal digits"))?;
        }
        self.cluster.validate()?;
        band("network.latency_us", self.network.latency_us, TIME_MS_MAX * 1000)?;
        within("network.loss_permille", self.network.loss_permille, 0, 1000)?;
        band("disk.sync_us", self.disk.sync_us, TIME_MS_MAX * 1000)?;
        self.workload.validate()?;
        self.validate_script()?;
        self.watch.as_ref().map_or(Ok(()), WatchPlan::validate)?;
        self.contend.as_ref().map_or(Ok(()), ContendPlan::validate)?;
        self.proxy.as_ref().map_or(Ok(()), ProxyPlan::validate)?;
        for (place, fault) in self.faults.iter().enumerate() {
            let proxies = self.proxy.map_or(0, |proxy| proxy.proxies);
            let there_is = fault.fault.proxy().is_none_or(|proxy| (1..=proxies).contains(&proxy));
            ensure(there_is, format_args!("faults[{place}].fault"), || {
                format!("there is no such proxy: the plan has {proxies}")
            })?;
        }
        within("converge_ms", self.converge_ms, 1, TIME_MS_MAX)?;
        within("read_index_ms", self.read_index_ms.unwrap_or(1), 1, TIME_MS_MAX)?;
        let leases = self.cluster.lease_drift_ppm.is_some() || self.workload.mix.get_lease == 0;
        ensure(leases, "workload.mix.get_lease", || "the cluster has no cluster.lease_drift_ppm".to_owned())?;
        self.leaves_room()?;
        self.validate_faults()
    }

    /// Refuses times that leave no room: see the head of this module.
    fn leaves_room(&self) -> Result<(), PlanError> {
        let ClusterPlan { members, heartbeat_ms, election_ms, .. } = self.cluster;
        let (there_and_back, sync) = (2 * lower_quarter(self.network.latency_us), lower_quarter(self.disk.sync_us));
        // A member alone answers by itself, and need not be elected by others.
        let (put, elections_ms) = if members > 1 || self.changes_members() {
            (3 * there_and_back + sync, 4 * election_ms)
        } else {
            (there_and_back + sync, 0)
        };
        if members > 1 {
            within("network.loss_permille", self.network.loss_permille, 0, LOSS_PERMILLE_MAX)?;
            ensure(there_and_back < heartbeat_ms * 1000, "network.latency_us", || {
                format!(
                    "there and back takes {there_and_back} us or longer, so that hardly any append is answered within the \
                     heartbeat interval of {heartbeat_ms} ms"
                )
            })?;
            ensure(there_and_back + sync < election_ms * 1000 / 2, "disk.sync_us", || {
                format!(
                    "a vote takes {} us or longer, its message and its fsync, so that hardly any is granted within half of \
                     the election time-out of {election_ms} ms",
                    there_and_back + sync
                )
            })?;
        }
        ensure(put < self.workload.timeout_ms * 1000, "workload.timeout_ms", || {
            format!("{} ms are too short for a put, which takes {put} us or longer", self.workload.timeout_ms)
        })?;
        let converged = STARTING_SYNCS * sync + elections_ms * 1000 + put;
        ensure(converged <= self.converge_ms * 1000, "converge_ms", || {
            format!(
                "{} ms are too short: a start, elections and a put may take {} ms",
                self.converge_ms,
                converged.div_ceil(1000)
            )
        })
    }

    fn validate_script(&self) -> Result<(), PlanError> {
        let Some(script) = &self.workload.script else { return Ok(()) };
        ensure(script.len() as u64 == u64::from(self.workload.operations), "workload.script", || {
            format!("it has {} operations, and workload.operations is {}", script.len(), self.workload.operations)
        })?;
        let mut at_us = 0;
        let mut last: BTreeMap<u32, u32> = BTreeMap::new();
        for (i, step) in script.iter().enumerate() {
            let path = format!("workload.script[{i}]");
            within(format_args!("{path}.at_us"), step.at_us, 0, TIME_MS_MAX * 1000)?;
            ensure(step.at_us >= at_us, format_args!("{path}.at_us"), || {
                format!("{} is earlier than the operation before it, at {at_us}", step.at_us)
            })?;
            at_us = step.at_us;
            within(format_args!("{path}.client"), step.client, 1, u64::from(self.workload.clients))?;
            within(format_args!("{path}.nth"), step.nth, 1, OPERATIONS_MAX)?;
            ensure(self.has_member(step.member), format_args!("{path}.member"), || {
                format!(
                    "there is no member {} in a cluster of {}, numbered from 1, and none comes",
                    step.member, self.cluster.members
                )
            })?;
            if let Some(before) = last.insert(step.client, step.nth) {
                ensure(step.nth > before, format_args!("{path}.nth"), || {
                    format!("client {} has come to its operation {before} already", step.client)
                })?;
            }
        }
        Ok(())
    }

    /// Whoever has lost its disk is refused by others that know it and are heard. Beside what keeps them from it, it may be
    /// let in, here as in etcd, and the run would blame the store.
    fn validate_refusals(&self) -> Result<(), PlanError> {
        let loses = |fault: &Fault| matches!(fault.fault, FaultKind::LoseDisk { .. });
        for (i, fault) in self.faults.iter().enumerate().filter(|(_, fault)| loses(fault)) {
            let path = format!("faults[{i}].fault.lose-disk");
            ensure(self.network.loss_permille <= REFUSAL_LOSS_PERMILLE_MAX, &path, || {
                format!(
                    "a refusal gets lost where network.loss_permille is above {REFUSAL_LOSS_PERMILLE_MAX}, and it is {}",
                    self.network.loss_permille
                )
            })?;
            let until_ms = fault.until_ms().max(self.refused_by_ms(fault));
            let beside = |other: &Fault| other.at_ms <= until_ms && fault.at_ms <= other.until_ms();
            let mut others = self.faults.iter().enumerate();
            if let Some((other, _)) = others.find(|(_, other)| beside(other) && other.silences()) {
                let reason =
                    format!("the others may be down or not be heard for faults[{other}], and could not refuse it");
                return Err(PlanError::new(path, reason));
            }
        }
        Ok(())
    }

    /// When the others have answered somebody who starts half-way through a fault, and asks for an election time-out.
    fn refused_by_ms(&self, fault: &Fault) -> u64 {
        let start_us = STARTING_SYNCS * self.disk.sync_us[1];
        fault.at_ms + fault.for_ms / 2 + start_us.div_ceil(1000) + self.cluster.election_ms
    }

    fn validate_faults(&self) -> Result<(), PlanError> {
        let mut down = Downtime::default();
        let mut at_ms = 0;
        let mut newcomers = BTreeMap::new();
        for (i, fault) in self.faults.iter().enumerate() {
            let path = format!("faults[{i}]");
            within(format_args!("{path}.at_ms"), fault.at_ms, 0, TIME_MS_MAX)?;
            within(format_args!("{path}.for_ms"), fault.for_ms, 1, TIME_MS_MAX)?;
            ensure(fault.at_ms >= at_ms, format_args!("{path}.at_ms"), || {
                format!("{} is earlier than the fault before it, at {at_ms}", fault.at_ms)
            })?;
            at_ms = fault.at_ms;
            fault.validate(&path, self.cluster.members)?;
            if let Some(member) = fault.fault.newcomer()
                && let Some(other) = newcomers.insert(member, i)
            {
                let reason = format!("member {member} has come by faults[{other}]: a number is not given again");
                return Err(PlanError::new(path, reason));
            }
            if let Some((other, target)) = down.clash(fault) {
                let reason = format!("{target} is still down or stopped by faults[{other}] at {at_ms} ms");
                return Err(PlanError::new(path, reason));
            }
            if !down.spares_majority(fault, self.cluster.members) {
                let reason = format!(
                    "more than a minority of {} members would be removed, or have their disks damaged or lost: what all of \
                     a quorum have lost, nobody can bring back",
                    self.cluster.members
                );
                return Err(PlanError::new(path, reason));
            }
            down.add_nth(i, fault);
        }
        self.validate_refusals()
    }
}

impl ClusterPlan {
    fn validate(&self) -> Result<(), PlanError> {
        ensure(matches!(self.members, 1 | 3 | 5), "cluster.members", || {
            format!("a cluster has 1, 3 or 5 members, not {}", self.members)
        })?;
        within("cluster.heartbeat_ms", self.heartbeat_ms, 1, TIME_MS_MAX)?;
        within("cluster.election_ms", self.election_ms, 1, TIME_MS_MAX)?;
        ensure(self.heartbeat_ms < self.election_ms / 2, "cluster.heartbeat_ms", || {
            format!("{} is not below half of the election time-out of {}", self.heartbeat_ms, self.election_ms)
        })?;
        within("cluster.snapshot_entries", self.snapshot_entries, 1, ENTRIES_MAX)?;
        within("cluster.keep_entries", self.keep_entries, 0, ENTRIES_MAX)?;
        within("cluster.segment_bytes", self.segment_bytes, 1, SEGMENT_BYTES_MAX)?;
        within("cluster.lease_drift_ppm", self.lease_drift_ppm.unwrap_or(0), 0, DRIFT_PPM_MAX)?;
        within("cluster.lease_checkpoint_ms", self.lease_checkpoint_ms.unwrap_or(1), 1, TIME_MS_MAX)
    }
}

impl WorkloadPlan {
    fn validate(&self) -> Result<(), PlanError> {
        within("workload.clients", self.clients, 1, CLIENTS_MAX)?;
        within("workload.grpc_clients", self.grpc_clients, 0, u64::from(self.clients))?;
        within("workload.operations", self.operations, 1, OPERATIONS_MAX)?;
        within("workload.keys", self.keys, 1, KEYS_MAX)?;
        within("workload.value_bytes", self.value_bytes, 1, VALUE_BYTES_MAX)?;
        // Every member keeps what is written, and so does the history.
        let written = u64::from(self.operations) * u64::from(self.value_bytes);
        ensure(written <= WRITTEN_BYTES_MAX, "workload.value_bytes", || {
            format!("{} operations write up to {written} bytes, more than {WRITTEN_BYTES_MAX}", self.operations)
        })?;
        band("workload.think_ms", self.think_ms, TIME_MS_MAX)?;
        within("workload.timeout_ms", self.timeout_ms, 1, TIME_MS_MAX)?;
        let mix = &self.mix;
        let of_leases =
            [mix.lease_grant, mix.lease_revoke, mix.lease_keep_alive, mix.lease_time_to_live, mix.lease_list];
        let sum = mix.weights().into_iter().map(u64::from).sum::<u64>();
        ensure((1..=u64::from(u32::MAX)).contains(&sum), "workload.mix", || {
            format!("the weights add up to {sum}, which is not within 1..={}", u32::MAX)
        })?;
        let has_leases = self.leases.is_some() || of_leases.iter().all(|weight| *weight == 0);
        ensure(has_leases, "workload.mix", || "there are operations of leases, but no workload.leases".to_owned())?;
        self.leases.as_ref().map_or(Ok(()), LeasePlan::validate)
    }
}

impl LeasePlan {
    fn validate(&self) -> Result<(), PlanError> {
        within("workload.leases.numbers", self.numbers, 1, LEASES_MAX)?;
        band("workload.leases.ttl_s", self.ttl_s, TTL_S_MAX)?;
        within("workload.leases.leased_percent", self.leased_percent, 0, 100)
    }
}

impl ContendPlan {
    fn validate(&self) -> Result<(), PlanError> {
        within("contend.contenders", self.contenders, 0, WATCHERS_MAX)?;
        within("contend.observers", self.observers, 0, WATCHERS_MAX)?;
        within("contend.names", self.names, 1, WATCHERS_MAX)?;
        band("contend.ttl_s", self.ttl_s, TTL_S_MAX)?;
        band("contend.hold_ms", self.hold_ms, TIME_MS_MAX)
    }
}

impl ProxyPlan {
    fn validate(&self) -> Result<(), PlanError> {
        within("proxy.proxies", self.proxies, 1, WATCHERS_MAX)?;
        within("proxy.staleness_ms", self.staleness_ms, 1, TIME_MS_MAX)?;
        within("proxy.ranges", self.ranges, 0, KEYS_MAX)?;
        within("proxy.percent", self.percent, 0, 100)
    }
}

impl WatchPlan {
    fn validate(&self) -> Result<(), PlanError> {
        within("watch.watchers", self.watchers, 0, WATCHERS_MAX)?;
        within("watch.progress_ms", self.progress_ms, 1, TIME_MS_MAX)?;
        within("watch.fragment_bytes", self.fragment_bytes, 1, WATCH_SIZE_MAX)?;
        within("watch.piece_changes", self.piece_changes, 1, WATCH_SIZE_MAX)
    }
}

impl Fault {
    fn validate(&self, path: &str, members: u64) -> Result<(), PlanError> {
        let field = |kind: &str, name: &str| format!("{path}.fault.{kind}.{name}");
        let aimed = |kind: &str, target| aim(field(kind, "target"), target, members);
        match &self.fault {
            FaultKind::Halves { side } => half(field("halves", "side"), side, members, None),
            FaultKind::Isolate { target } => aimed("isolate", *target),
            FaultKind::OneWay { target } => aimed("one-way", *target),
            FaultKind::Bridge { bridge, side } => {
                member(field("bridge", "bridge"), *bridge, members)?;
                half(field("bridge", "side"), side, members, Some(*bridge))
            }
            FaultKind::Loss { permille, links } => {
                linked(field("loss", "links"), *links, members)?;
                within(field("loss", "permille"), *permille, 1, 1000)
            }
            FaultKind::Ring { order } => ring(field("ring", "order"), order, members),
            FaultKind::Shut { target } => aimed("shut", *target),
            FaultKind::Latency { links, delay_us } => {
                linked(field("latency", "links"), *links, members)?;
                band(field("latency", "delay_us"), *delay_us, TIME_MS_MAX * 1000)
            }
            FaultKind::Reorder { links, permille, delay_us } => {
                linked(field("reorder", "links"), *links, members)?;
                within(field("reorder", "permille"), *permille, 1, 1000)?;
                band(field("reorder", "delay_us"), *delay_us, TIME_MS_MAX * 1000)
            }
            FaultKind::Duplicate { links, permille, after_us } => {
                linked(field("duplicate", "links"), *links, members)?;
                within(field("duplicate", "permille"), *permille, 1, 1000)?;
                band(field("duplicate", "after_us"), *after_us, TIME_MS_MAX * 1000)
            }
            FaultKind::Reset { links, permille } => {
                linked(field("reset", "links"), *links, members)?;
                within(field("reset", "permille"), *permille, 1, 1000)
            }
            FaultKind::Skew { target, by_ms } => {
                aimed("skew", *target)?;
                within(field("skew", "by_ms"), by_ms.unsigned_abs(), 1, TIME_MS_MAX)
            }
            FaultKind::Jump { target, by_ms } => {
                aimed("jump", *target)?;
                within(field("jump", "by_ms"), *by_ms, 1, TIME_MS_MAX)
            }
            FaultKind::CrashAt { target, nth, .. } => {
                aimed("crash-at", *target)?;
                within(field("crash-at", "nth"), *nth, 1, u64::from(u32::MAX))
            }
            FaultKind::Transfer => ensure(members > 1, format_args!("{path}.fault.transfer"), || {
                "a cluster of one has nobody to hand over to".to_owned()
            }),
            FaultKind::Snapshot { target } => aimed("snapshot", *target),
            FaultKind::Defragment { target } => aimed("defragment", *target),
            FaultKind::Compaction { keep } => within(field("compaction", "keep"), *keep, 0, ENTRIES_MAX),
            FaultKind::SlowNode { target, run_ms, stop_ms } => {
                aimed("slow-node", *target)?;
                within(field("slow-node", "run_ms"), *run_ms, 1, TIME_MS_MAX)?;
                within(field("slow-node", "stop_ms"), *stop_ms, 1, TIME_MS_MAX)
            }
            FaultKind::FsyncDelay { target, sync_us } => {
                aimed("fsync-delay", *target)?;
                band(field("fsync-delay", "sync_us"), *sync_us, TIME_MS_MAX * 1000)
            }
            FaultKind::FsyncStall { target } => aimed("fsync-stall", *target),
            FaultKind::Crash { target } => aimed("crash", *target),
            FaultKind::Restart { target } => aimed("restart", *target),
            FaultKind::Pause { target } => aimed("pause", *target),
            FaultKind::CrashUnflushed { target, stall_ms } => {
                aimed("crash-unflushed", *target)?;
                within(field("crash-unflushed", "stall_ms"), *stall_ms, 1, TIME_MS_MAX)
            }
            FaultKind::SlowLink { target, latency_us } => {
                aimed("slow-link", *target)?;
                band(field("slow-link", "latency_us"), *latency_us, TIME_MS_MAX * 1000)
            }
            FaultKind::Drift { target, ppm } => {
                aimed("drift", *target)?;
                within(field("drift", "ppm"), ppm.unsigned_abs(), 1, DRIFT_PPM_MAX)
            }
            FaultKind::FsyncFailure { target, permille } => {
                aimed("fsync-failure", *target)?;
                within(field("fsync-failure", "permille"), *permille, 1, 1000)
            }
            FaultKind::IoError { target, reads_permille, writes_permille } => {
                aimed("io-error", *target)?;
                within(field("io-error", "reads_permille"), *reads_permille, 0, 1000)?;
                let least = u64::from(*reads_permille == 0);
                within(field("io-error", "writes_permille"), *writes_permille, least, 1000)
            }
            FaultKind::NoSpace { target } => aimed("no-space", *target),
            FaultKind::SlowDisk { target, delay_us } => {
                aimed("slow-disk", *target)?;
                band(field("slow-disk", "delay_us"), *delay_us, TIME_MS_MAX * 1000)
            }
            FaultKind::BitRot { target, bits, rest_ms, part: _ } => {
                alone(field("bit-rot", "target"), *target, members)?;
                within(field("bit-rot", "bits"), *bits, 1, ROTTEN_BITS_MAX)?;
                within(field("bit-rot", "rest_ms"), *rest_ms, 0, TIME_MS_MAX)
            }
            FaultKind::MisdirectedWrite { target, rest_ms, part: _ } => {
                alone(field("misdirected-write", "target"), *target, members)?;
                within(field("misdirected-write", "rest_ms"), *rest_ms, 0, TIME_MS_MAX)
            }
            FaultKind::LoseDisk { target } => alone(field("lose-disk", "target"), *target, members),
            FaultKind::MemberAdd { member } => new(field("member-add", "member"), *member, members),
            FaultKind::LearnerPromotion { member, learn_ms } => {
                new(field("learner-promotion", "member"), *member, members)?;
                within(field("learner-promotion", "learn_ms"), *learn_ms, 0, TIME_MS_MAX)
            }
            FaultKind::MemberRemove { target } => alone(field("member-remove", "target"), *target, members),
            FaultKind::MemberReplace { target, member } => {
                alone(field("member-replace", "target"), *target, members)?;
                new(field("member-replace", "member"), *member, members)
            }
            FaultKind::ProxyRestart { .. } | FaultKind::ProxyCut { .. } => Ok(()),
            FaultKind::ProxySlow { latency_us, .. } => {
                band(field("proxy-slow", "latency_us"), *latency_us, TIME_MS_MAX * 1000)
            }
        }
    }

    /// When all of it is over.
    fn until_ms(&self) -> u64 {
        self.at_ms + self.fault.first_stage_ms().unwrap_or(0) + self.for_ms
    }

    /// Whom the fault takes down or stops for sure.
    fn downs(&self) -> Option<Target> {
        match self.fault {
            FaultKind::Crash { target }
            | FaultKind::Restart { target }
            | FaultKind::Pause { target }
            | FaultKind::SlowNode { target, .. }
            | FaultKind::LoseDisk { target }
            | FaultKind::CrashUnflushed { target, .. } => Some(target),
            _ => self.fault.damages(),
        }
    }

    /// Whom the fault may take down: a member stops when its disk fails it, and dies at a point if it comes there.
    fn may_down(&self) -> Option<Target> {
        match self.fault {
            FaultKind::FsyncFailure { target, .. }
            | FaultKind::IoError { target, .. }
            | FaultKind::NoSpace { target }
            | FaultKind::CrashAt { target, .. }
            | FaultKind::MemberRemove { target }
            | FaultKind::MemberReplace { target, .. } => Some(target),
            _ => self.downs(),
        }
    }

    /// Whether it may keep members from being heard by others who ask them.
    fn silences(&self) -> bool {
        match self.fault {
            FaultKind::Halves { .. }
            | FaultKind::Isolate { .. }
            | FaultKind::OneWay { .. }
            | FaultKind::Bridge { .. }
            | FaultKind::Ring { .. }
            | FaultKind::SlowLink { .. }
            // Whose clock runs fast does not wait as long.
            | FaultKind::Jump { .. }
            | FaultKind::Drift { .. } => true,
            FaultKind::Loss { links, .. }
            | FaultKind::Latency { links, .. }
            | FaultKind::Reorder { links, .. }
            | FaultKind::Reset { links, .. } => links != LinkSet::Clients,
            // They take a minority at most, and whoever has lost its disk starts only while all others that run know it.
            FaultKind::LoseDisk { .. } | FaultKind::MemberRemove { .. } | FaultKind::MemberReplace { .. } => false,
            _ => self.may_down().is_some(),
        }
    }

    /// Until when it may keep them down: a member whose disk is damaged may refuse to start. One that has been removed is
    /// not needed any more.
    fn may_last_ms(&self) -> u64 {
        let stays_out = self.fault.loses().is_some() && !self.fault.changes_members();
        if stays_out { u64::MAX } else { self.until_ms() }
    }
}

/// When members are down or stopped. A process that is gone can neither crash nor stop.
#[derive(Debug, Default)]
pub(super) struct Downtime(Vec<Down>);

#[derive(Debug)]
struct Down {
    fault: usize,
    at_ms: u64,
    /// Until when it is sure, if it is.
    until_ms: Option<u64>,
    /// Until when it may be.
    may_last_ms: u64,
    target: Target,
    lost: bool,
}

impl Downtime {
    /// The fault that has surely taken down whom this one is to take down. Of the leader and of a follower nothing is
    /// sure: they are other members each time.
    fn clash(&self, fault: &Fault) -> Option<(usize, String)> {
        let target = fault.downs()?;
        let (at_ms, until_ms) = (fault.at_ms, fault.until_ms());
        let lasts = |down: &Down| down.until_ms.is_some_and(|until_ms| at_ms < until_ms);
        let mut beside = self.0.iter().filter(|down| down.at_ms < until_ms && lasts(down));
        let clash = beside.find(|down| match (down.target, target) {
            (Target::Everyone, _) | (_, Target::Everyone) => true,
            (Target::Member(one), Target::Member(other)) => one == other,
            _ => false,
        })?;
        let whom = match (clash.target, target) {
            (Target::Member(member), _) | (Target::Everyone, Target::Member(member)) => format!("member {member}"),
            (Target::Everyone, _) => "everyone".to_owned(),
            _ => "a member".to_owned(),
        };
        Some((clash.fault, whom))
    }

    /// Whether a minority of the members at most is lost for good, with this fault too. A member by number is one, however
    /// often; a leader or a follower may be another one each time.
    fn spares_majority(&self, fault: &Fault, members: u64) -> bool {
        let Some(target) = fault.fault.loses() else { return true };
        let earlier = self.0.iter().filter(|down| down.lost).map(|down| down.target);
        let (mut named, mut others) = (BTreeSet::new(), 0);
        for target in earlier.chain([target]) {
            match target {
                Target::Member(member) => drop(named.insert(member)),
                _ => others += 1,
            }
        }
        named.len() as u64 + others <= (members - 1) / 2
    }

    /// Whether the fault fits beside what is there: with at most `limit` members down at a time for sure, at most one more
    /// perhaps, and no more than a minority lost for good. Everyone at once always fits where nobody is down.
    pub(super) fn admits(&self, fault: &Fault, limit: u64, members: u64) -> bool {
        if fault.may_down().is_none() {
            return true;
        }
        let beside = |until_ms: u64, lasts: fn(&Down) -> Option<u64>| {
            let meets = |down: &&Down| down.at_ms < until_ms && lasts(down).is_some_and(|lasts| fault.at_ms < lasts);
            self.0.iter().filter(meets).count() as u64
        };
        let surely = fault.downs().is_none() || beside(fault.until_ms(), |down| down.until_ms) < limit;
        let perhaps = beside(fault.may_last_ms(), |down| Some(down.may_last_ms)) < limit + 1;
        self.clash(fault).is_none() && surely && perhaps && self.spares_majority(fault, members)
    }

    pub(super) fn add(&mut self, fault: &Fault) {
        self.add_nth(self.0.len(), fault);
    }

    fn add_nth(&mut self, nth: usize, fault: &Fault) {
        if let Some(target) = fault.may_down() {
            let until_ms = fault.downs().map(|_| fault.until_ms());
            let (may_last_ms, lost) = (fault.may_last_ms(), fault.fault.loses().is_some());
            self.0.push(Down { fault: nth, at_ms: fault.at_ms, until_ms, may_last_ms, target, lost });
        }
    }
}

fn parse<'de, T: Deserialize<'de>>(json: &'de str) -> Result<T, PlanError> {
    let mut deserializer = serde_json::Deserializer::from_str(json);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        // Where the text breaks off there is no field yet: the line and the column have to do.
        let path = error.path().to_string();
        let path = path.trim_end_matches(['.', '?']);
        PlanError::new(if path.is_empty() { "plan" } else { path }, error.inner())
    })?;
    deserializer.end().map_err(|error| PlanError::new("plan", error))?;
    Ok(value)
}

fn ensure(holds: bool, path: impl fmt::Display, reason: impl FnOnce() -> String) -> Result<(), PlanError> {
    if holds { Ok(()) } else { Err(PlanError::new(path, reason())) }
}

fn within(path: impl fmt::Display, value: impl Into<u64>, least: u64, greatest: u64) -> Result<(), PlanError> {
    let value = value.into();
    ensure((least..=greatest).contains(&value), path, || format!("{value} is not within {least}..={greatest}"))
}

fn band(path: impl fmt::Display, [least, greatest]: Span, limit: u64) -> Result<(), PlanError> {
    ensure(least <= greatest, &path, || format!("the least, {least}, is above the greatest, {greatest}"))?;
    within(path, greatest, 0, limit)
}

/// A quarter of what is drawn from the band is below this.
fn lower_quarter([least, greatest]: Span) -> u64 {
    least + (greatest - least) / 4
}

fn member(path: impl fmt::Display, member: u64, members: u64) -> Result<(), PlanError> {
    ensure((1..=members).contains(&member), path, || {
        format!("there is no member {member} in a cluster of {members}, numbered from 1")
    })
}

fn aim(path: impl fmt::Display, target: Target, members: u64) -> Result<(), PlanError> {
    match target {
        Target::Member(number) => member(path, number, members),
        Target::Follower | Target::Followers => {
            ensure(members > 1, path, || "a cluster of one has no follower".to_owned())
        }
        Target::Leader | Target::Everyone => Ok(()),
    }
}

/// Links that exist.
fn linked(path: impl fmt::Display, links: LinkSet, members: u64) -> Result<(), PlanError> {
    let LinkSet::One { from, to } = links else { return Ok(()) };
    member(format_args!("{path}.one.from"), from, members)?;
    member(format_args!("{path}.one.to"), to, members)?;
    ensure(from != to, format_args!("{path}.one.to"), || format!("member {to} has no link to itself"))
}

/// All members, each once.
fn ring(path: impl fmt::Display, order: &[u64], members: u64) -> Result<(), PlanError> {
    for number in order {
        member(&path, *number, members)?;
    }
    let unique: BTreeSet<&u64> = order.iter().collect();
    ensure(unique.len() == order.len(), &path, || "a member is named twice".to_owned())?;
    ensure(order.len() as u64 == members, &path, || format!("{} of {members} members are in it", order.len()))
}

/// The number of a member that comes.
fn new(path: impl fmt::Display, member: u64, members: u64) -> Result<(), PlanError> {
    within(path, member, members + 1, MEMBER_MAX)
}

/// A target of one member, among others that have what it has.
fn alone(path: impl fmt::Display, target: Target, members: u64) -> Result<(), PlanError> {
    let one = matches!(target, Target::Leader | Target::Follower | Target::Member(_));
    ensure(one, &path, || "several members would be lost at once".to_owned())?;
    aim(path, target, members)
}

/// One side of a partition: members that exist, each once, and neither none nor all of those who are not the bridge.
fn half(path: impl fmt::Display, side: &[u64], members: u64, bridge: Option<u64>) -> Result<(), PlanError> {
    for number in side {
        member(&path, *number, members)?;
        ensure(bridge != Some(*number), &path, || format!("member {number} is the bridge"))?;
    }
    let unique: BTreeSet<&u64> = side.iter().collect();
    ensure(unique.len() == side.len(), &path, || "a member is named twice".to_owned())?;
    let all = members - u64::from(bridge.is_some());
    ensure((1..all).contains(&(side.len() as u64)), path, || {
        format!("{} of {all} members are no half: one at least has to be on each side", side.len())
    })
}

#[cfg(test)]
#[path = "validate_tests.rs"]
mod tests;
