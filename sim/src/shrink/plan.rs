//! A plan that fails, made smaller for as long as it fails in the same way.
//!
//! ```text
//!   script ─► end ─► start ─► weather ─► faults ─► operations ─► members ─► fields ─► time ─┐
//!                                ▲                                                          │ until nothing is left
//!                                └───────── phases, once those take nothing more ◄──────────┘
//! ```
//!
//! First the operations that clients draw become a script, each with its time and member, so that one can be taken out
//! and the others stay where they are. Each pass offers candidates, the most daring first, and keeps the first that
//! fails. A candidate is smaller than what it was made from in something, and larger in nothing but the time by which a
//! phase moves it, and then it has less of something else: so there is an end.
//!
//! The result depends on the plan and on what fails alone, not on how many candidates are tried at a time.

use std::cmp::Reverse;

use seedbed_core::wal::WalOptions;

use super::shortest_by;
use crate::plan::{Fault, FaultKind, LinkSet, Mix, Plan, Step, Target};

/// Sizes of a log in which there is neither a snapshot nor a second segment: etcd's, and the WAL's own.
const SNAPSHOT_ENTRIES: u64 = 10_000;
const KEEP_ENTRIES: u64 = 5_000;
/// Parts of a plan's time at which its end or its start is tried.
const PARTS: u64 = 8;
/// Parts of a heartbeat interval by which a plan is moved.
const PHASES: u64 = 5;
/// A pause that is shorter is not worth a try.
const PAUSE_MS: u64 = 20;

/// A candidate with its label, which tells its maker which one it is.
pub type Candidate = (usize, Plan);

/// Where plans are tried.
pub trait Laboratory {
    /// The first of the candidates, in their order, that fails as the original does. `None` if none does, and from the
    /// moment at which no more are to be tried. All of them are valid.
    fn first(&mut self, candidates: &mut dyn Iterator<Item = Candidate>) -> Option<Candidate>;

    /// The operations of a run of this plan, as a script, in the order of their times.
    fn script(&mut self, plan: &Plan) -> Vec<Step>;

    /// A pass has left this plan.
    fn passed(&mut self, pass: &'static str, plan: &Plan);
}

/// A plan's smaller brother that fails in the same way. The plan is one that fails.
pub fn smallest(plan: &Plan, laboratory: &mut impl Laboratory) -> Plan {
    let mut shrinking = Shrinking { kept: changed(plan, keep_streams), laboratory };
    shrinking.pass("script", Shrinking::script);
    shrinking.pass("end", Shrinking::end);
    shrinking.pass("start", Shrinking::start);
    loop {
        let before = shrinking.kept.clone();
        // Where a script did not fail at first, a smaller plan's may.
        shrinking.pass("script", Shrinking::script);
        shrinking.pass("weather", Shrinking::weather);
        shrinking.pass("faults", Shrinking::faults);
        shrinking.pass("operations", Shrinking::operations);
        shrinking.pass("members", Shrinking::members);
        shrinking.pass("fields", Shrinking::fields);
        shrinking.pass("time", Shrinking::time);
        if shrinking.kept != before {
            continue;
        }
        shrinking.pass("phases", Shrinking::phases);
        if shrinking.kept == before {
            return before;
        }
    }
}

struct Shrinking<'a, L> {
    kept: Plan,
    laboratory: &'a mut L,
}

impl<L: Laboratory> Shrinking<'_, L> {
    fn pass(&mut self, name: &'static str, pass: impl FnOnce(&mut Self)) {
        let before = self.kept.clone();
        pass(self);
        if self.kept != before {
            self.laboratory.passed(name, &self.kept);
        }
    }

    /// Keeps the first candidate that fails. False if there is none.
    fn keep_first(&mut self, candidates: impl IntoIterator<Item = Plan>) -> bool {
        let kept = &self.kept;
        let mut candidates =
            candidates.into_iter().filter(|plan| plan != kept && plan.validate().is_ok()).map(|plan| (0, plan));
        let found = self.laboratory.first(&mut candidates);
        match found {
            Some((_, plan)) => {
                self.kept = plan;
                true
            }
            None => false,
        }
    }

    /// Keeps one candidate after the other, for as long as one fails.
    fn keep_all(&mut self, candidates: impl Fn(&Plan) -> Vec<Plan>) {
        while self.keep_first(candidates(&self.kept)) {}
    }

    /// Gives every operation its own place, so that it can go alone. Fewer operations are tried if all do not fail.
    fn script(&mut self) {
        if self.kept.workload.script.is_some() {
            return;
        }
        let script = self.laboratory.script(&self.kept);
        let whole = scripted(&self.kept, script);
        let shorter: Vec<Plan> = parts(&whole).map(|end_us| until(&whole, end_us)).collect();
        if !self.keep_first([whole].into_iter().chain(shorter.into_iter().rev())) {
            self.keep_all(fewer_operations);
        }
    }

    /// Leaves out what comes after the failure.
    fn end(&mut self) {
        self.keep_all(|plan| parts(plan).map(|end_us| until(plan, end_us)).collect());
    }

    /// Leaves out what is long over when the failure comes.
    fn start(&mut self) {
        self.keep_all(|plan| parts(plan).rev().map(|start_us| from(plan, start_us)).collect());
    }

    /// Makes the weather even. Each message and each fsync draws how long it takes: where all take as long, one that is
    /// taken out leaves the others as they were, and much more can be taken out.
    fn weather(&mut self) {
        let levels = |[least, most]: [u64; 2]| [least + (most - least) / 2, least, most];
        let even = |plan: &Plan| plan.network.latency_us[0] == plan.network.latency_us[1];
        let steady = |plan: &Plan| plan.disk.sync_us[0] == plan.disk.sync_us[1];
        let latencies = levels(self.kept.network.latency_us);
        let syncs = levels(self.kept.disk.sync_us);
        if self.kept.workload.grpc_clients > 0 {
            let direct = changed(&self.kept, |plan| plan.workload.grpc_clients = 0);
            self.keep_first(moved(direct));
        }
        if !even(&self.kept) || !steady(&self.kept) {
            let pairs = latencies.iter().flat_map(|latency| syncs.iter().map(move |sync| (*latency, *sync)));
            let all: Vec<Plan> = pairs
                .map(|(latency, sync)| {
                    changed(&self.kept, |plan| {
                        plan.network.latency_us = [latency; 2];
                        plan.network.loss_permille = 0;
                        plan.disk.sync_us = [sync; 2];
                    })
                })
                .collect();
            self.keep_first(all.into_iter().flat_map(moved));
        }
        if !even(&self.kept) {
            let all = latencies.map(|latency| changed(&self.kept, |plan| plan.network.latency_us = [latency; 2]));
            self.keep_first(all.into_iter().flat_map(moved));
        }
        if !steady(&self.kept) {
            let all = syncs.map(|sync| changed(&self.kept, |plan| plan.disk.sync_us = [sync; 2]));
            self.keep_first(all.into_iter().flat_map(moved));
        }
    }

    fn faults(&mut self) {
        self.elements(|plan| plan.faults.clone(), set_faults, |plan| vec![plan]);
    }

    fn operations(&mut self) {
        if self.kept.workload.script.is_some() {
            self.elements(script_of, set_script, |plan| vec![plan]);
        } else {
            self.keep_all(fewer_operations);
        }
    }

    /// Takes faults and operations out, and moves what is left a part of a heartbeat. Where a failure needs an
    /// operation to meet a heartbeat at the right moment, one without which it is late or early cannot go alone.
    fn phases(&mut self) {
        self.elements(|plan| plan.faults.clone(), set_faults, moved);
        if self.kept.workload.script.is_some() {
            self.elements(script_of, set_script, moved);
        }
    }

    /// Takes elements of one of the plan's lists out; any variant of what is left will do.
    fn elements<T: Clone>(
        &mut self,
        list: impl Fn(&Plan) -> Vec<T>,
        set: impl Fn(&mut Plan, Vec<T>),
        variants: impl Fn(Plan) -> Vec<Plan>,
    ) {
        let kept = &mut self.kept;
        let laboratory = &mut *self.laboratory;
        shortest_by(&list(kept), |candidates| {
            let mut plans = candidates
                .map(|(label, rest)| (label, changed(kept, |plan| set(plan, rest))))
                .flat_map(|(label, plan)| variants(plan).into_iter().map(move |plan| (label, plan)))
                .filter(|(_, plan)| plan.validate().is_ok());
            let (label, plan) = laboratory.first(&mut plans)?;
            let rest = list(&plan);
            *kept = plan;
            Some((label, rest))
        });
    }

    fn members(&mut self) {
        self.keep_all(|plan| {
            let fewer = [1, 3].into_iter().filter(|members| *members < plan.cluster.members);
            fewer.map(|members| fewer_members(plan, members)).collect()
        });
    }

    /// Numbers become less, sizes what they are by default, and weights nothing, one field after the other.
    fn fields(&mut self) {
        for field in FIELDS {
            self.keep_all(field);
        }
        for nth in 0..self.kept.faults.len() {
            self.keep_all(|plan| briefer(plan, nth));
        }
    }

    /// Shortens the pauses between one event and the next, the longest first.
    fn time(&mut self) {
        self.keep_all(|plan| {
            let mut times: Vec<u64> = [0].into_iter().chain(events_us(plan)).map(|us| us / 1000).collect();
            times.sort_unstable();
            let mut pauses: Vec<(u64, u64)> =
                times.windows(2).map(|pair| (pair[1] - pair[0], pair[0])).filter(|pause| pause.0 > PAUSE_MS).collect();
            pauses.sort_unstable_by_key(|(length, from)| (Reverse(*length), *from));
            let cuts =
                pauses.into_iter().flat_map(|(length, from)| [(from, length - PAUSE_MS / 2), (from, length / 2)]);
            cuts.map(|(from, by)| without(plan, from, by)).collect()
        });
    }
}

fn changed(plan: &Plan, change: impl FnOnce(&mut Plan)) -> Plan {
    let mut plan = plan.clone();
    change(&mut plan);
    plan
}

/// Each fault goes on drawing from the stream that its place in this plan gives it, wherever it comes to stand.
fn keep_streams(plan: &mut Plan) {
    for (place, fault) in plan.faults.iter_mut().enumerate() {
        fault.stream = fault.stream.or(u32::try_from(place).ok());
    }
}

/// Without the fault that brought a member, another one is asked.
fn set_faults(plan: &mut Plan, faults: Vec<Fault>) {
    plan.faults = faults;
    let mut script = plan.workload.script.take();
    for step in script.iter_mut().flatten().filter(|step| !plan.has_member(step.member)) {
        step.member = (step.member - 1) % plan.cluster.members + 1;
    }
    plan.workload.script = script;
}

fn set_script(plan: &mut Plan, script: Vec<Step>) {
    plan.workload.operations = u32::try_from(script.len()).unwrap_or(u32::MAX);
    plan.workload.script = Some(script);
}

fn script_of(plan: &Plan) -> Vec<Step> {
    plan.workload.script.clone().unwrap_or_default()
}

fn scripted(plan: &Plan, script: Vec<Step>) -> Plan {
    changed(plan, |plan| {
        plan.workload.think_ms = [0, 0];
        set_script(plan, script);
    })
}

/// The times at which something begins or ends.
fn events_us(plan: &Plan) -> impl Iterator<Item = u64> {
    let faults = plan.faults.iter().flat_map(|fault| {
        let first_ms = fault.fault.first_stage_ms().unwrap_or(0);
        [0, first_ms, first_ms + fault.for_ms].map(|after| (fault.at_ms + after) * 1000)
    });
    faults.chain(plan.workload.script.iter().flatten().map(|step| step.at_us))
}

/// Times that part a plan into pieces of equal length.
fn parts(plan: &Plan) -> impl DoubleEndedIterator<Item = u64> + use<> {
    let span_us = events_us(plan).max().unwrap_or(0);
    (1..PARTS).map(move |part| span_us * part / PARTS)
}

fn fewer_operations(plan: &Plan) -> Vec<Plan> {
    let operations = plan.workload.operations;
    let fewer = [operations / 2, operations / 4 * 3, operations / 10 * 9].into_iter().filter(|less| *less < operations);
    fewer.map(|less| changed(plan, |plan| plan.workload.operations = less)).collect()
}

/// One of the faults is over earlier.
fn briefer(plan: &Plan, nth: usize) -> Vec<Plan> {
    let less = |ms: u64| [1, ms / 4, ms / 2, ms / 4 * 3].into_iter().filter(move |less| *less < ms);
    let mut simpler: Vec<Plan> =
        less(plan.faults[nth].for_ms).map(|ms| changed(plan, |plan| plan.faults[nth].for_ms = ms)).collect();
    if let FaultKind::CrashUnflushed { target, stall_ms } = plan.faults[nth].fault {
        simpler.extend(less(stall_ms).map(|stall_ms| {
            changed(plan, |plan| plan.faults[nth].fault = FaultKind::CrashUnflushed { target, stall_ms })
        }));
    }
    simpler
}

/// Only what begins before that time.
fn until(plan: &Plan, end_us: u64) -> Plan {
    part(plan, |step| step.at_us < end_us, |fault| fault.at_ms * 1000 < end_us)
}

/// Only what is still going on at that time, or begins later.
fn from(plan: &Plan, start_us: u64) -> Plan {
    part(plan, |step| step.at_us >= start_us, |fault| (fault.at_ms + fault.for_ms) * 1000 >= start_us)
}

fn part(plan: &Plan, step: impl Fn(&Step) -> bool, fault: impl Fn(&Fault) -> bool) -> Plan {
    changed(plan, |plan| {
        plan.faults.retain(fault);
        if let Some(mut script) = plan.workload.script.take() {
            script.retain(step);
            set_script(plan, script);
        }
    })
}

/// Everything that is later comes earlier by so much; what lies in what is taken out comes at its start.
fn without(plan: &Plan, from_ms: u64, by_ms: u64) -> Plan {
    let earlier = |time: u64, unit: u64| time.saturating_sub(by_ms * unit).max(time.min(from_ms * unit));
    changed(plan, |plan| {
        for fault in &mut plan.faults {
            let begun = fault.at_ms;
            fault.at_ms = earlier(begun, 1);
            let mut proceeds = begun;
            let mut proceeded = fault.at_ms;
            if let FaultKind::CrashUnflushed { stall_ms, .. } = &mut fault.fault {
                proceeds += *stall_ms;
                proceeded = earlier(proceeds, 1).max(proceeded + 1);
                *stall_ms = proceeded - fault.at_ms;
            }
            fault.for_ms = earlier(proceeds + fault.for_ms, 1).saturating_sub(proceeded).max(1);
        }
        for step in plan.workload.script.iter_mut().flatten() {
            step.at_us = earlier(step.at_us, 1000);
        }
    })
}

/// The plan, and the plan moved by each part of a heartbeat.
fn moved(plan: Plan) -> Vec<Plan> {
    let part_ms = |phase: u64| (plan.cluster.heartbeat_ms * phase / PHASES).max(phase);
    let later = (1..PHASES).map(|phase| later(&plan, part_ms(phase))).collect::<Vec<_>>();
    [plan].into_iter().chain(later).collect()
}

/// Everything comes later by so much.
fn later(plan: &Plan, by_ms: u64) -> Plan {
    changed(plan, |plan| {
        plan.faults.iter_mut().for_each(|fault| fault.at_ms += by_ms);
        plan.workload.script.iter_mut().flatten().for_each(|step| step.at_us += by_ms * 1000);
    })
}

/// Whoever is no longer there is another one.
fn fewer_members(plan: &Plan, members: u64) -> Plan {
    let other = |member: u64| (member - 1) % members + 1;
    changed(plan, |plan| {
        plan.cluster.members = members;
        for fault in &mut plan.faults {
            match &mut fault.fault {
                FaultKind::Halves { side } => *side = half(side, 1..=members),
                FaultKind::Bridge { bridge, side } => {
                    *bridge = other(*bridge);
                    *side = half(side, (1..=members).filter(|member| member != bridge));
                }
                FaultKind::Ring { order } => order.retain(|member| *member <= members),
                FaultKind::Loss { links, .. }
                | FaultKind::Latency { links, .. }
                | FaultKind::Reorder { links, .. }
                | FaultKind::Duplicate { links, .. }
                | FaultKind::Reset { links, .. } => {
                    if let LinkSet::One { from, to } = links {
                        (*from, *to) = (other(*from), other(*to));
                    }
                }
                kind => {
                    if let Some(Target::Member(member)) = kind.target_mut() {
                        *member = other(*member);
                    }
                }
            }
        }
        let newcomers: Vec<u64> = plan.faults.iter().filter_map(|fault| fault.fault.newcomer()).collect();
        for step in plan.workload.script.iter_mut().flatten().filter(|step| !newcomers.contains(&step.member)) {
            step.member = other(step.member);
        }
    })
}

/// Those of one side who are among all; the first of them, if there is nobody on one of the sides.
fn half(side: &[u64], all: impl Iterator<Item = u64>) -> Vec<u64> {
    let all: Vec<u64> = all.collect();
    let side: Vec<u64> = side.iter().copied().filter(|member| all.contains(member)).collect();
    if side.is_empty() || side.len() == all.len() { all.into_iter().take(1).collect() } else { side }
}

/// Each gives simpler values of a field, the simplest first.
const FIELDS: [fn(&Plan) -> Vec<Plan>; 21] = [
    |plan| less(plan, plan.workload.grpc_clients, 0, |plan, clients| plan.workload.grpc_clients = clients),
    |plan| {
        less(plan, plan.workload.clients, acting(plan), |plan, clients| {
            plan.workload.clients = clients;
            plan.workload.grpc_clients = plan.workload.grpc_clients.min(clients);
        })
    },
    fewer_watchers,
    fewer_contenders,
    fewer_proxies,
    |plan| less(plan, plan.workload.keys, 1, |plan, keys| plan.workload.keys = keys),
    |plan| less(plan, plan.workload.value_bytes, 1, |plan, bytes| plan.workload.value_bytes = bytes),
    |plan| weightless(plan, |mix| &mut mix.get_serializable),
    |plan| weightless(plan, |mix| &mut mix.range),
    |plan| weightless(plan, |mix| &mut mix.txn),
    |plan| weightless(plan, |mix| &mut mix.compact),
    |plan| weightless(plan, |mix| &mut mix.delete),
    |plan| weightless(plan, |mix| &mut mix.get_log),
    |plan| weightless(plan, |mix| &mut mix.get_lease),
    |plan| weightless(plan, |mix| &mut mix.get),
    |plan| less(plan, plan.network.loss_permille, 0, |plan, permille| plan.network.loss_permille = permille),
    |plan| vec![changed(plan, |plan| plan.network.latency_us[1] = plan.network.latency_us[0])],
    |plan| vec![changed(plan, |plan| plan.disk.sync_us[1] = plan.disk.sync_us[0])],
    |plan| {
        vec![changed(plan, |plan| {
            plan.cluster.snapshot_entries = plan.cluster.snapshot_entries.max(SNAPSHOT_ENTRIES);
            plan.cluster.keep_entries = plan.cluster.keep_entries.max(KEEP_ENTRIES);
        })]
    },
    |plan| {
        let default = WalOptions::default().segment_bytes_max;
        vec![changed(plan, |plan| plan.cluster.segment_bytes = plan.cluster.segment_bytes.max(default))]
    },
    |plan| vec![changed(plan, |plan| plan.read_index_ms = None)],
];

fn fewer_contenders(plan: &Plan) -> Vec<Plan> {
    let Some(contend) = plan.contend else { return Vec::new() };
    let contenders = |plan: &mut Plan, contenders| plan.contend.iter_mut().for_each(|it| it.contenders = contenders);
    let observers = |plan: &mut Plan, observers| plan.contend.iter_mut().for_each(|it| it.observers = observers);
    let none = changed(plan, |plan| plan.contend = None);
    let fewer = less(plan, contend.contenders, 0, contenders).into_iter();
    [none].into_iter().chain(fewer).chain(less(plan, contend.observers, 0, observers)).collect()
}

fn fewer_watchers(plan: &Plan) -> Vec<Plan> {
    let Some(watch) = &plan.watch else { return Vec::new() };
    let set = |plan: &mut Plan, watchers| plan.watch.iter_mut().for_each(|watch| watch.watchers = watchers);
    let none = changed(plan, |plan| plan.watch = None);
    [none].into_iter().chain(less(plan, watch.watchers, 1, set)).collect()
}

/// None of them, if nothing happens to any; or only those to which something happens, the first of them at least.
fn fewer_proxies(plan: &Plan) -> Vec<Plan> {
    let Some(proxy) = &plan.proxy else { return Vec::new() };
    let met = plan.faults.iter().filter_map(|fault| fault.fault.proxy()).max().unwrap_or(0);
    let set = |plan: &mut Plan, proxies| plan.proxy.iter_mut().for_each(|proxy| proxy.proxies = proxies);
    let none = (met == 0).then(|| changed(plan, |plan| plan.proxy = None));
    none.into_iter().chain(less(plan, proxy.proxies, met.max(1), set)).collect()
}

fn less(plan: &Plan, value: u32, least: u32, set: fn(&mut Plan, u32)) -> Vec<Plan> {
    let values = [least, least + value.saturating_sub(least) / 2];
    let lower = values.into_iter().filter(|lower| *lower < value);
    lower.map(|lower| changed(plan, |plan| set(plan, lower))).collect()
}

fn weightless(plan: &Plan, weight: fn(&mut Mix) -> &mut u32) -> Vec<Plan> {
    vec![changed(plan, |plan| *weight(&mut plan.workload.mix) = 0)]
}

/// The greatest number of a client that does something.
fn acting(plan: &Plan) -> u32 {
    plan.workload.script.iter().flatten().map(|step| step.client).max().unwrap_or(1)
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
