//! Judging the judge: histories made by hand, and random ones held against the referee.

use bytes::Bytes;
use rand::{RngExt, SeedableRng};
use rand_pcg::Pcg64;
use seedbed_core::runtime::AppliedEntry;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest, RangeResponse,
    ResponseHeader, ResponseOp, response_op,
};
use seedbed_proto::mvccpb::KeyValue;

use super::*;
use crate::checker::generate::{Generated, Shape, generate};
use crate::checker::search::{Verdict, search_kv};
use crate::history::value_of;
use crate::model::Kv;
use crate::plan::Mix;

/// Writes histories like stage directions: who, from when to when, what, and how it ended.
#[derive(Default)]
struct Script {
    history: History,
    model: Kv,
}

impl Script {
    fn add(&mut self, invoked: u64, returned: u64, request: Request, outcome: Outcome) -> u64 {
        let id = self.next();
        let (client, member, incarnation) = (id, 1, 0);
        self.history.operations.push(Operation {
            id,
            client,
            member,
            incarnation,
            invoked,
            returned,
            request,
            path: Default::default(),
            cached: false,
            outcome,
        });
        id
    }

    fn next(&self) -> u64 {
        self.history.operations.len() as u64 + 1
    }

    /// An operation that takes effect now, and is answered.
    fn ok(&mut self, invoked: u64, returned: u64, request: Request) -> u64 {
        let outcome = match self.model.apply(&request) {
            Ok(response) => Outcome::Ok(response),
            Err(refusals) => refusals.iter().next().unwrap().outcome(),
        };
        self.add(invoked, returned, request, outcome)
    }

    /// An operation that takes effect now, and is not answered.
    fn late(&mut self, operation: u64) {
        self.model.apply(&self.history.operations[operation as usize - 1].request).unwrap();
    }

    fn unknown(&mut self, invoked: u64, request: Request) -> u64 {
        self.add(invoked, invoked + 10, request, Outcome::Unknown)
    }

    fn put(&self, key: &'static str) -> Request {
        Request::Put(PutRequest { key: key.into(), value: value_of(self.next(), 8), ..Default::default() })
    }

    fn change(&mut self, operation: u64, change: impl FnOnce(&mut Response)) {
        let Outcome::Ok(response) = &mut self.history.operations[operation as usize - 1].outcome else {
            panic!("it was answered")
        };
        change(response);
    }

    /// Both judges, with one voice.
    fn verdict(&self) -> Result<Checked, Violation> {
        let verdict = check(&self.history, None);
        assert_eq!(verdict.is_ok(), search_kv(&self.history, 1_000_000) == Verdict::Linearizable, "{verdict:?}");
        assert!(verdict.as_ref().is_ok_and(|checked| checked.undecided.is_none()) || verdict.is_err());
        verdict
    }

    fn legal(&self) -> Checked {
        self.verdict().unwrap()
    }

    fn illegal(&self, because: &str) {
        let message = self.verdict().unwrap_err().message;
        assert!(message.contains(because), "{message}");
    }
}

fn get(key: &'static str) -> Request {
    Request::Range(RangeRequest { key: key.into(), ..Default::default() })
}

fn get_at(key: &'static str, revision: i64) -> Request {
    Request::Range(RangeRequest { key: key.into(), revision, ..Default::default() })
}

fn delete(key: &'static str) -> Request {
    Request::DeleteRange(DeleteRangeRequest { key: key.into(), ..Default::default() })
}

fn compact(revision: i64) -> Request {
    Request::Compact(CompactionRequest { revision, physical: false })
}

fn ignoring(key: &'static str) -> Request {
    Request::Put(PutRequest { key: key.into(), ignore_value: true, ..Default::default() })
}

#[test]
fn a_read_may_see_a_write_that_has_not_returned() {
    let mut script = Script::default();
    script.ok(0, 100, script.put("a"));
    script.ok(10, 20, get("a"));
    let checked = script.legal();
    assert_eq!((checked.writes, checked.reads), (1, 1));
}

#[test]
fn a_stale_read_is_noticed() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    let stale = script.model.clone().apply(&get("a")).unwrap();
    script.ok(2, 3, script.put("a"));
    script.add(4, 5, get("a"), Outcome::Ok(stale));
    script.illegal("stale read: #3");
}

#[test]
fn a_read_that_overlaps_the_write_may_miss_it() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    let stale = script.model.clone().apply(&get("a")).unwrap();
    script.ok(2, 30, script.put("a"));
    script.add(4, 5, get("a"), Outcome::Ok(stale.clone()));
    script.legal();
    script.ok(6, 7, get("a"));
    script.add(8, 9, get("a"), Outcome::Ok(stale));
    script.illegal("stale read: #5");
}

#[test]
fn a_lost_write_is_noticed() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.model.undo();
    script.ok(2, 3, script.put("b"));
    script.illegal("revision 2 was made twice: by #1");
}

#[test]
fn a_write_that_a_read_lacks_is_noticed() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    let read = script.ok(2, 3, get("a"));
    script.change(read, |response| {
        let Response::Range(range) = response else { panic!() };
        (range.kvs, range.count) = (Vec::new(), 0);
    });
    script.illegal("count is 0, should be 1");
}

#[test]
fn revisions_agree_with_time() {
    let mut script = Script::default();
    let first = script.put("a");
    script.model.apply(&script.put("b")).unwrap();
    script.ok(0, 1, first);
    let outcome = Outcome::Ok(Response::Put(PutResponse {
        header: Some(ResponseHeader { revision: 2, ..Default::default() }),
        prev_kv: None,
    }));
    script.add(2, 3, script.put("b"), outcome);
    script.illegal("revision going back: #2");
}

#[test]
fn a_wrong_prev_kv_is_noticed() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    let Request::Put(put) = script.put("a") else { panic!() };
    let second = script.ok(2, 3, Request::Put(PutRequest { prev_kv: true, ..put }));
    script.legal();
    script.change(second, |response| {
        let Response::Put(put) = response else { panic!() };
        put.prev_kv.as_mut().unwrap().value = value_of(77, 8);
    });
    script.illegal("prev_kv is \"a\" = #77");
}

#[test]
fn a_dirty_read_is_noticed() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    // Seen, but never acknowledged and gone afterwards.
    let lost = script.unknown(2, script.put("a"));
    let before = script.model.clone();
    script.late(lost);
    script.ok(4, 5, get("a"));
    script.legal();
    script.model = before;
    script.ok(6, 7, script.put("a"));
    script.illegal("revision 3");
}

#[test]
fn wrong_count_and_more_are_noticed() {
    for (field, because) in [(0, "count is 3, should be 2"), (1, "more is false, should be true")] {
        let mut script = Script::default();
        script.ok(0, 1, script.put("a"));
        script.ok(2, 3, script.put("b"));
        let all = RangeRequest { key: "a".into(), range_end: "z".into(), limit: 1, ..Default::default() };
        let read = script.ok(4, 5, Request::Range(all));
        script.legal();
        script.change(read, |response| {
            let Response::Range(range) = response else { panic!() };
            if field == 0 { range.count = 3 } else { range.more = false }
        });
        script.illegal(because);
    }
}

#[test]
fn an_unknown_write_may_surface_late() {
    let mut script = Script::default();
    let lost = script.unknown(0, script.put("a"));
    script.ok(20, 21, get("a"));
    script.ok(22, 23, script.put("b"));
    script.late(lost);
    script.ok(24, 25, get("a"));
    assert_eq!(script.legal().surfaced, 1);
}

#[test]
fn an_unknown_write_cannot_surface_before_it_was_invoked() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("b"));
    let request = script.put("a");
    script
        .model
        .apply(&Request::Put(PutRequest { key: "a".into(), value: value_of(4, 8), ..Default::default() }))
        .unwrap();
    script.ok(2, 3, request);
    script.ok(4, 5, get("b"));
    script.unknown(10, script.put("a"));
    script.illegal("revision 3 was produced by nobody");
}

#[test]
fn an_unknown_write_that_surfaces_twice_is_noticed() {
    let mut script = Script::default();
    let lost = script.unknown(0, script.put("a"));
    script.late(lost);
    script.ok(20, 21, get("a"));
    script.late(lost);
    script.unknown(22, delete("zzz"));
    script.ok(30, 31, get("a"));
    script.illegal("took effect twice: #1");
}

#[test]
fn a_revision_that_nobody_made_is_noticed() {
    let mut script = Script::default();
    let ghost = script.put("b");
    script.ok(0, 1, script.put("a"));
    script.model.apply(&ghost).unwrap();
    script.ok(2, 3, script.put("a"));
    script.illegal("revision 3 was produced by nobody");
    script.history.operations[1].request = get("c");
    script.history.operations[1].outcome = Outcome::Unknown;
    script.legal();
}

#[test]
fn an_unknown_delete_fills_the_gap_that_fits() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 3, script.put("b"));
    let wanted = script.unknown(4, delete("b"));
    script.unknown(5, delete("a"));
    script.unknown(6, script.put("a"));
    script.late(wanted);
    script.ok(20, 21, script.put("c"));
    script.ok(22, 23, get("a"));
    script.ok(24, 25, get("b"));
    let checked = script.legal();
    assert_eq!(checked.surfaced, 1);
    let wrong = Placements { revisions: BTreeMap::from([(4, 4)]) };
    let checked = check(&script.history, Some(&wrong)).unwrap();
    assert_eq!((checked.surfaced, checked.undecided), (1, None), "evidence does not convict");
}

#[test]
fn a_compaction_is_found_between_its_neighbours() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 3, script.put("a"));
    script.ok(4, 50, compact(3));
    script.ok(5, 6, get_at("a", 2));
    script.legal();
    assert!(matches!(script.history.operations[3].outcome, Outcome::Failed { .. }));
    // Answered from the past although another reader was refused it earlier.
    script.model = Kv::new();
    for place in 0..2 {
        let request = script.history.operations[place].request.clone();
        script.model.apply(&request).unwrap();
    }
    script.ok(7, 8, get_at("a", 2));
    script.illegal("has read revision 2, which had been compacted by #3");
}

#[test]
fn a_past_read_may_stand_before_a_compaction_that_overlaps_it() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 3, script.put("a"));
    script.ok(4, 50, get_at("a", 2));
    script.ok(5, 6, compact(3));
    script.legal();
    script.history.operations[2].invoked = 7;
    script.illegal("had been compacted");
}

#[test]
fn an_unknown_compaction_takes_effect_where_it_explains_a_refusal() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 3, script.put("a"));
    let lost = script.unknown(4, compact(3));
    script.ok(20, 21, get_at("a", 2));
    script.late(lost);
    script.ok(22, 23, get_at("a", 2));
    script.legal();
    let placements = Placements { revisions: BTreeMap::from([(lost, 3)]) };
    assert_eq!(check(&script.history, Some(&placements)).unwrap().undecided, None);
    script.add(24, 25, get_at("a", 3), Refusal::Compacted.outcome());
    script.illegal("refused without a reason: #6");
}

#[test]
fn compactions_never_go_back() {
    let mut script = Script::default();
    for _ in 0..3 {
        script.ok(0, 1, script.put("a"));
    }
    script.history.operations.iter_mut().zip(0..).for_each(|(op, at)| (op.invoked, op.returned) = (at * 2, at * 2 + 1));
    script.ok(10, 11, compact(3));
    let second = script.ok(12, 13, compact(4));
    script.legal();
    script.history.operations[second as usize - 1].request = compact(3);
    script.illegal("that revision had been compacted already, by #4");
    script.history.operations[second as usize - 1].request = compact(2);
    script.illegal("compact 2");
}

#[test]
fn refusals_have_a_moment_that_explains_them() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 3, ignoring("b"));
    script.legal();
    script.add(4, 5, ignoring("a"), Refusal::KeyNotFound.outcome());
    script.illegal("refused without a reason: #3");
    // A delete that overlaps explains it, even without an answer.
    script.history.operations[2].invoked = 3;
    script.unknown(4, delete("a"));
    assert_eq!(script.legal().surfaced, 1, "it is known to have happened, though no revision shows it");
    script.history.operations[3].invoked = 6;
    script.illegal("refused without a reason: #3");
}

#[test]
fn a_future_revision_is_refused_only_before_it_was_reached() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    script.ok(2, 20, script.put("a"));
    script.add(4, 5, get_at("a", 3), Refusal::FutureRevision.outcome());
    script.legal();
    script.ok(6, 7, get("a"));
    script.add(8, 9, get_at("a", 3), Refusal::FutureRevision.outcome());
    script.illegal("refused without a reason: #5");
}

#[test]
fn a_refusal_orders_what_comes_after_it() {
    let mut script = Script::default();
    script.ok(0, 1, script.put("a"));
    let present = script.model.clone().apply(&get("a")).unwrap();
    script.ok(2, 30, delete("a"));
    script.ok(4, 5, ignoring("a"));
    script.legal();
    script.add(6, 7, get("a"), Outcome::Ok(present));
    script.illegal("stale read: #4");
}

#[test]
fn foreign_values_name_nobody() {
    // Two operations write the same value: reading it proves nothing about either.
    let mut script = Script::default();
    let value = value_of(1, 8);
    let put =
        |key: &'static str| Request::Put(PutRequest { key: key.into(), value: value.clone(), ..Default::default() });
    let first = script.unknown(0, put("a"));
    let second = script.unknown(0, put("a"));
    script.late(first);
    script.ok(20, 21, get("a"));
    script.late(second);
    script.ok(22, 23, get("a"));
    assert_eq!(script.legal().surfaced, 2);
}

/// Changes one field of one outcome; says whether anything was changed.
fn mutate(history: &mut History, rng: &mut Pcg64) -> bool {
    let place = rng.random_range(0..history.operations.len());
    let operation = &mut history.operations[place];
    match &mut operation.outcome {
        Outcome::Unknown => false,
        Outcome::Failed { .. } => {
            operation.outcome = Refusal::ALL[rng.random_range(0..3)].outcome();
            true
        }
        Outcome::Ok(response) => {
            mutate_response(response, rng);
            true
        }
    }
}

fn nudge(number: &mut i64, rng: &mut Pcg64) {
    *number += if rng.random_range(0..2) == 0 { 1 } else { -1 };
}

fn mutate_response(response: &mut Response, rng: &mut Pcg64) {
    if rng.random_range(0..3) == 0 {
        return nudge(&mut response.header_mut().as_mut().unwrap().revision, rng);
    }
    match response {
        Response::Range(range) => mutate_range(range, rng),
        Response::Put(put) => mutate_prev_kv(&mut put.prev_kv, rng),
        Response::DeleteRange(delete) => mutate_delete(delete, rng),
        Response::Txn(txn) => mutate_txn(txn, rng),
        Response::Compact(_)
        | Response::LeaseGrant(_)
        | Response::LeaseRevoke(_)
        | Response::LeaseKeepAlive(_)
        | Response::LeaseTimeToLive(_)
        | Response::LeaseLeases(_) => nudge(&mut response.header_mut().as_mut().unwrap().revision, rng),
    }
}

fn mutate_range(range: &mut RangeResponse, rng: &mut Pcg64) {
    match rng.random_range(0..4) {
        0 => range.more = !range.more,
        1 => nudge(&mut range.count, rng),
        _ => mutate_kvs(&mut range.kvs, rng),
    }
}

fn mutate_kvs(kvs: &mut Vec<KeyValue>, rng: &mut Pcg64) {
    if kvs.is_empty() {
        return kvs.push(KeyValue { key: "k0000".into(), version: 1, ..Default::default() });
    }
    let place = rng.random_range(0..kvs.len());
    match rng.random_range(0..4) {
        0 => drop(kvs.remove(place)),
        _ => mutate_kv(&mut kvs[place], rng),
    }
}

fn mutate_kv(kv: &mut KeyValue, rng: &mut Pcg64) {
    match rng.random_range(0..6) {
        0 => nudge(&mut kv.create_revision, rng),
        1 => nudge(&mut kv.mod_revision, rng),
        2 => nudge(&mut kv.version, rng),
        3 => nudge(&mut kv.lease, rng),
        4 => kv.value = value_of(rng.random_range(1..8), 16),
        _ => kv.key = "k0001".into(),
    }
}

fn mutate_prev_kv(prev_kv: &mut Option<KeyValue>, rng: &mut Pcg64) {
    match prev_kv {
        Some(kv) if rng.random_range(0..3) > 0 => mutate_kv(kv, rng),
        Some(_) => *prev_kv = None,
        None => {
            *prev_kv = Some(KeyValue { key: "k0000".into(), version: 1, value: Bytes::new(), ..Default::default() })
        }
    }
}

fn mutate_delete(delete: &mut DeleteRangeResponse, rng: &mut Pcg64) {
    match rng.random_range(0..2) {
        0 => nudge(&mut delete.deleted, rng),
        _ => mutate_kvs(&mut delete.prev_kvs, rng),
    }
}

fn mutate_txn(txn: &mut TxnResponse, rng: &mut Pcg64) {
    let inner = if txn.responses.is_empty() { 0 } else { rng.random_range(0..=txn.responses.len()) };
    match inner.checked_sub(1).map(|place| &mut txn.responses[place]) {
        None => txn.succeeded = !txn.succeeded,
        Some(ResponseOp { response: Some(response_op::Response::ResponseRange(range)) }) => mutate_range(range, rng),
        Some(ResponseOp { response: Some(response_op::Response::ResponsePut(put)) }) => {
            mutate_prev_kv(&mut put.prev_kv, rng);
        }
        Some(ResponseOp { response: Some(response_op::Response::ResponseDeleteRange(delete)) }) => {
            mutate_delete(delete, rng);
        }
        Some(ResponseOp { response: Some(response_op::Response::ResponseTxn(nested)) }) => mutate_txn(nested, rng),
        Some(ResponseOp { response: None }) => txn.succeeded = !txn.succeeded,
    }
}

/// A small history that has a bit of everything.
fn small(seed: u64) -> Generated {
    let mix = Mix { get: 3, range: 4, put: 6, delete: 3, txn: 4, compact: 2, ..Mix::default() };
    let shape = Shape {
        clients: 2 + seed % 3,
        operations: 5 + (seed % 5) as usize,
        keys: 2,
        members: 1,
        unknown_permille: [0, 150, 400][(seed % 7 % 3) as usize],
        unusual_permille: [100, 400][(seed % 2) as usize],
        latency: 12,
        mix,
    };
    generate(seed, &shape)
}

#[test]
fn both_checkers_agree_on_100_000_small_histories() {
    const HISTORIES: u64 = 100_000;
    let (mut illegal, mut unknown, mut refused) = (0, 0, 0);
    for seed in 0..HISTORIES {
        let Generated { mut history, placements, .. } = small(seed);
        let mut rng = Pcg64::seed_from_u64(!seed);
        let mutated = seed % 4 > 0 && (0..8).any(|_| mutate(&mut history, &mut rng));
        let told = || format!("seed {seed}: {}", describe(&history));
        let referee = match search_kv(&history, 500_000) {
            Verdict::Linearizable => true,
            Verdict::Illegal(_) => false,
            Verdict::Undecided => panic!("the referee gave up: {}", told()),
        };
        assert!(referee || mutated, "the generator makes legal histories: {}", told());
        illegal += u64::from(!referee);
        unknown += u64::from(history.operations.iter().any(|op| op.outcome == Outcome::Unknown));
        refused += u64::from(history.operations.iter().any(|op| matches!(op.outcome, Outcome::Failed { .. })));
        for evidence in [None, Some(&placements)] {
            let verdict = check(&history, evidence);
            if let Ok(Checked { undecided: Some(violation), .. }) = &verdict {
                panic!("undecided: {violation:?}\n{}", told());
            }
            assert_eq!(verdict.is_ok(), referee, "evidence {evidence:?}: {verdict:?}\n{}", told());
        }
    }
    assert!(illegal * 100 >= HISTORIES * 40, "only {illegal} illegal histories");
    assert!(unknown * 100 >= HISTORIES * 30, "only {unknown} histories with unknown outcomes");
    assert!(refused * 100 >= HISTORIES * 30, "only {refused} histories with refusals");
}

fn describe(history: &History) -> String {
    history.operations.iter().map(|operation| format!("\n{operation}\n    {operation:?}")).collect()
}

#[test]
fn long_histories_with_lost_answers_are_explained() {
    for seed in 0..5 {
        let shape = Shape { unusual_permille: 50, ..Shape::busy(16, 5_000) };
        let Generated { history, placements, .. } = generate(seed, &shape);
        let checked = check(&history, Some(&placements)).unwrap();
        assert_eq!(checked.undecided, None, "seed {seed}");
    }
}

#[test]
fn a_broken_answer_in_a_long_history_is_found() {
    for seed in 0..20 {
        let Generated { mut history, placements, .. } = generate(seed, &Shape::busy(16, 5_000));
        let place = 1 + history
            .operations
            .iter()
            .position(|op| {
                op.id > 2_500 && matches!(op.response(), Some(Response::Range(range)) if range.kvs.len() == 1)
            })
            .unwrap();
        let Outcome::Ok(Response::Range(range)) = &mut history.operations[place - 1].outcome else { panic!() };
        range.kvs[0].version += 1;
        let verdict = check(&history, Some(&placements));
        let found = match verdict {
            Err(violation) => violation,
            Ok(checked) => panic!("seed {seed}: {:?}", checked.undecided),
        };
        assert!(found.message.contains(&format!("#{place} ")), "seed {seed}: {}", found.message);
    }
}

#[test]
fn the_log_proposes_what_changed_something() {
    let mut script = Script::default();
    let lost = script.unknown(0, script.put("a"));
    let nothing = script.unknown(1, delete("zzz"));
    let compaction = script.unknown(2, compact(1));
    let refused = script.unknown(3, compact(1));
    let entry = |index, operation, changed, compacted| AppliedEntry {
        index,
        term: 1,
        operation,
        revision: 2,
        changed,
        compacted,
        lease: None,
        digest: 0,
    };
    let log = [
        entry(1, lost, true, false),
        entry(2, nothing, false, false),
        entry(3, compaction, false, true),
        entry(4, refused, false, false),
        entry(5, 99, true, false),
    ];
    let placements = Placements::of_log(&script.history, &log);
    assert_eq!(placements.revisions, BTreeMap::from([(lost, 2), (compaction, 2)]));
}
