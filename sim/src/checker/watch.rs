//! Watches: ordered, unique, reliable, atomic, resumable, bookmarkable; filters, previous pairs and compaction as promised.
//!
//! The history that watches are held to comes from the requests that took effect, replayed on the model in the order that
//! the members' logs have them. What a response tells has to be exactly what the watch was to be told of the revisions that
//! it covers:
//!
//! ```text
//!   history      4: put a    5: put b, delete a    6: put c    7: put a
//!   watch of a   from 4      told 4, 5                                       its next revision is 6
//!   progress 6   nothing of a in 6..=6: true       ⇒ its next revision is 7
//!   told 7       nothing of a in 7..7 is missing   ⇒ 8
//! ```
//!
//! A response of events says that there are no more up to its header's revision, and one of progress says so of all.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;

use prost::Message;
use seedbed_core::runtime::AppliedEntry;
use seedbed_proto::etcdserverpb::watch_create_request::FilterType;
use seedbed_proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_proto::etcdserverpb::{WatchCreateRequest, WatchResponse};
use seedbed_proto::mvccpb::Event;
use seedbed_proto::mvccpb::event::EventType;

use super::past;
use crate::history::{History, Operation, Request};
use crate::model::Changed;
use crate::outcome::Violation;
use crate::watch::{Heard, StreamLog, WatchLog};

/// The judge's name.
const JUDGE: &str = "watch";
/// Stands for no watch, and for all of a stream.
const NO_WATCH: i64 = -1;

/// Judges what watches were told. `entries` are those that members applied, and `steady` the members that no snapshot has brought
/// further.
pub fn check<'a>(
    history: &History,
    entries: impl IntoIterator<Item = &'a AppliedEntry>,
    steady: &BTreeSet<u64>,
    log: &WatchLog,
) -> Result<(), Violation> {
    if log.streams.is_empty() {
        return Ok(());
    }
    let past = Past::of(history, entries)?;
    let fragment_bytes = log.fragment_bytes;
    log.streams.iter().try_for_each(|stream| Listening::new(&past, steady, stream, fragment_bytes).follow())
}

/// Everything that happened.
struct Past {
    /// In order.
    changes: Vec<Changed>,
    revision: i64,
    /// Revisions that the history was compacted at, each with the earliest time at which it can have been.
    compactions: BTreeMap<i64, u64>,
}

impl Past {
    fn of<'a>(history: &History, entries: impl IntoIterator<Item = &'a AppliedEntry>) -> Result<Past, Violation> {
        let operations: BTreeMap<u64, &Operation> =
            history.operations.iter().map(|operation| (operation.id, operation)).collect();
        let entries: Vec<&AppliedEntry> = entries.into_iter().collect();
        let mut compactions = BTreeMap::new();
        for entry in &entries {
            if let Some(operation) = operations.get(&entry.operation).filter(|_| entry.compacted)
                && let Request::Compact(compact) = &operation.request
            {
                compactions.insert(compact.revision, operation.invoked);
            }
        }
        let kv = past::led_by(JUDGE, history, entries)?;
        Ok(Past { changes: kv.changes(), revision: kv.revision(), compactions })
    }

    /// The changes of these revisions, both included.
    fn between(&self, from: i64, upto: i64) -> &[Changed] {
        let first = self.changes.partition_point(|change| change.revision < from);
        let end = self.changes.partition_point(|change| change.revision <= upto);
        &self.changes[first..end.max(first)]
    }
}

/// A watch that is under way.
struct Watch {
    request: WatchCreateRequest,
    /// The first revision that it has not been told of.
    next: i64,
    /// Whether it began with what came next, and not in the past.
    fresh: bool,
}

impl Watch {
    fn wants(&self, change: &Changed) -> bool {
        wants(&self.request, change)
    }
}

impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let WatchCreateRequest { key, range_end, start_revision, .. } = &self.request;
        let (key, end) = (key.escape_ascii(), range_end.escape_ascii());
        write!(f, "[\"{key}\", \"{end}\") asked from {start_revision}, told up to {}", self.next - 1)
    }
}

/// Whether a watch that is asked for like this is to be told of a change, wherever it begins.
pub fn wants(request: &WatchCreateRequest, change: &Changed) -> bool {
    let filter = if change.after.is_some() { FilterType::Noput } else { FilterType::Nodelete };
    covers(request, &change.key) && !request.filters.contains(&(filter as i32))
}

/// etcd's convention; no key at all is the least one.
fn covers(request: &WatchCreateRequest, key: &[u8]) -> bool {
    let first: &[u8] = if request.key.is_empty() { &[0] } else { &request.key };
    match &request.range_end[..] {
        [] => key == first,
        [0] => first <= key,
        end => first <= key && key < end,
    }
}

fn is_empty(request: &WatchCreateRequest) -> bool {
    let first: &[u8] = if request.key.is_empty() { &[0] } else { &request.key };
    !matches!(&request.range_end[..], [] | [0]) && first >= &request.range_end[..]
}

/// A request that gets an answer.
enum Asked<'a> {
    Create(&'a WatchCreateRequest),
    Cancel(i64),
}

/// One stream, followed.
struct Listening<'a> {
    past: &'a Past,
    /// Whether a snapshot has brought the member further: then it does not know what has become of which key on the way.
    leapt: bool,
    stream: &'a StreamLog,
    at: u64,
    /// What was asked and not yet answered, in order.
    asked: VecDeque<Asked<'a>>,
    /// How often progress was asked for, less the answers: one may be for several.
    progress_asked: u64,
    watches: BTreeMap<i64, Watch>,
    /// The parts of a response that is told in fragments.
    parts: Option<(i64, Vec<Event>)>,
    /// Beyond how many bytes several events are told in fragments.
    fragment_bytes: u64,
}

impl<'a> Listening<'a> {
    fn new(past: &'a Past, steady: &BTreeSet<u64>, stream: &'a StreamLog, fragment_bytes: u64) -> Self {
        let (asked, watches) = (VecDeque::new(), BTreeMap::new());
        Listening {
            past,
            leapt: !steady.contains(&stream.member),
            stream,
            at: 0,
            asked,
            progress_asked: 0,
            watches,
            parts: None,
            fragment_bytes,
        }
    }

    fn follow(mut self) -> Result<(), Violation> {
        for word in &self.stream.words {
            self.at = word.at;
            match &word.heard {
                Heard::Asked(request) => match &request.request_union {
                    Some(RequestUnion::CreateRequest(create)) => self.asked.push_back(Asked::Create(create)),
                    Some(RequestUnion::CancelRequest(cancel)) => self.asked.push_back(Asked::Cancel(cancel.watch_id)),
                    Some(RequestUnion::ProgressRequest(_)) => self.progress_asked += 1,
                    None => {}
                },
                Heard::Told(told) => self.told(told)?,
            }
        }
        Ok(())
    }

    fn told(&mut self, told: &WatchResponse) -> Result<(), Violation> {
        let revision = told.header.as_ref().map_or(0, |header| header.revision);
        self.ensure(revision <= self.past.revision, "a revision that never was", || {
            format!("{revision} of {}", self.past.revision)
        })?;
        if let Some((id, _)) = &self.parts {
            let goes_on = told.watch_id == *id && !told.created && !told.canceled && !told.events.is_empty();
            self.ensure(goes_on, "fragments are parted", || format!("those of watch {id}, by {told:?}"))?;
        }
        if told.created {
            self.created(told, revision)
        } else if told.canceled {
            self.canceled(told)
        } else if told.events.is_empty() {
            self.progress(told.watch_id, revision)
        } else {
            self.events(told)
        }
    }

    fn created(&mut self, told: &WatchResponse, revision: i64) -> Result<(), Violation> {
        let request = loop {
            match self.asked.pop_front() {
                Some(Asked::Create(request)) => break request,
                // One that had ended by itself is not canceled again.
                Some(Asked::Cancel(id)) => {
                    let ended = !self.watches.contains_key(&id);
                    self.ensure(ended, "a watch goes on that was canceled", || format!("watch {id}, at {told:?}"))?;
                }
                None => return Err(self.violation("a watch that nobody asked for", format!("{told:?}"))),
            }
        };
        let id = request.watch_id;
        let used = id != 0 && self.watches.contains_key(&id);
        let possible = !used && !is_empty(request) && request.start_revision >= 0;
        self.ensure(possible != told.canceled, "a watch is refused that could be, or the other way round", || {
            format!("{request:?}: {told:?}")
        })?;
        if told.canceled {
            return self.ensure(
                told.watch_id == NO_WATCH && !told.cancel_reason.is_empty(),
                "a refusal says too little",
                || format!("{told:?}"),
            );
        }
        let fresh = if id == 0 { !self.watches.contains_key(&told.watch_id) } else { told.watch_id == id };
        self.ensure(fresh, "a watch has another's number", || format!("{request:?}: {told:?}"))?;
        let next = if request.start_revision == 0 { revision + 1 } else { request.start_revision };
        let fresh = next > revision;
        self.watches.insert(told.watch_id, Watch { request: request.clone(), next, fresh });
        Ok(())
    }

    fn canceled(&mut self, told: &WatchResponse) -> Result<(), Violation> {
        let Some(watch) = self.watches.remove(&told.watch_id) else {
            return Err(self.violation("a watch ends that is not there", format!("{told:?}")));
        };
        match told.compact_revision {
            0 => {
                let cancel =
                    self.asked.iter().position(|asked| matches!(asked, Asked::Cancel(id) if *id == told.watch_id));
                self.ensure(cancel.is_some(), "a watch ends that nobody has canceled", || {
                    format!("{watch}: {told:?}")
                })?;
                cancel.map(|cancel| self.asked.remove(cancel));
                Ok(())
            }
            compacted => {
                let revision = told.header.as_ref().map_or(0, |header| header.revision);
                let mut untold = self.past.between(watch.next, revision).iter();
                let quiet = watch.fresh && !untold.any(|change| covers(&watch.request, &change.key));
                self.ensure(self.leapt || !quiet, "a compaction ends a watch that nothing has concerned", || {
                    format!("{watch}: {told:?}")
                })?;
                let since = self.past.compactions.get(&compacted);
                let known = since.is_some_and(|since| *since <= self.at) && watch.next < compacted;
                self.ensure(
                    known && !told.cancel_reason.is_empty(),
                    "a compaction ends a watch that needs nothing of it",
                    || format!("{watch}: {told:?}; compacted at {:?}", self.past.compactions.keys()),
                )
            }
        }
    }

    fn progress(&mut self, id: i64, revision: i64) -> Result<(), Violation> {
        if id == NO_WATCH {
            let asked = self.progress_asked > 0;
            self.progress_asked = self.progress_asked.saturating_sub(1);
            self.ensure(asked, "progress that nobody asked for", || format!("to {revision}"))?;
        } else {
            let watch = self.watches.get(&id);
            self.ensure(watch.is_some(), "progress of a watch that is not there", || format!("watch {id}"))?;
            let wanted = watch.is_some_and(|watch| watch.request.progress_notify);
            self.ensure(wanted, "progress that nobody asked for", || format!("watch {id}, to {revision}"))?;
        }
        let mut watches = std::mem::take(&mut self.watches);
        for (_, watch) in watches.iter_mut().filter(|(other, _)| [NO_WATCH, **other].contains(&id)) {
            self.ensure(revision + 1 >= watch.next, "progress before what was told, or before the start", || {
                format!("to {revision}: {watch}")
            })?;
            let missing = self.past.between(watch.next, revision).iter().find(|change| watch.wants(change));
            if let Some(missing) = missing {
                return Err(
                    self.violation("progress before an event", format!("to {revision}: {watch}, not {missing}"))
                );
            }
            watch.next = watch.next.max(revision + 1);
        }
        self.watches = watches;
        Ok(())
    }

    fn events(&mut self, told: &WatchResponse) -> Result<(), Violation> {
        let id = told.watch_id;
        let Some(mut watch) = self.watches.remove(&id) else {
            return Err(self.violation("events of a watch that is not there", format!("{told:?}")));
        };
        self.ensure(!told.fragment || watch.request.fragment, "a fragment that was not asked for", || {
            format!("{watch}")
        })?;
        let whole = told.events.len() > 1 && told.encoded_len() as u64 > self.fragment_bytes;
        self.ensure(!(whole && watch.request.fragment), "not told in fragments", || {
            format!("{watch}: {} events in {} bytes", told.events.len(), told.encoded_len())
        })?;
        let mut events = self.parts.take().map_or(Vec::new(), |(_, parts)| parts);
        events.extend(told.events.iter().cloned());
        if told.fragment {
            self.parts = Some((id, events));
        } else {
            self.whole(&mut watch, &events, told.header.as_ref().map_or(0, |header| header.revision))?;
        }
        self.watches.insert(id, watch);
        Ok(())
    }

    /// A response, with all its fragments.
    fn whole(&self, watch: &mut Watch, events: &[Event], complete: i64) -> Result<(), Violation> {
        let revision_of = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let upto = events.iter().map(revision_of).max().unwrap_or(0);
        let mut expected = self.past.between(watch.next, upto).iter().filter(|change| watch.wants(change));
        for event in events {
            let revision = revision_of(event);
            self.ensure(revision >= watch.next, "an event again, or before the start", || {
                format!("{watch}: {event:?}")
            })?;
            let Some(change) = expected.next() else {
                return Err(self.violation("an event that is none of the watch's", format!("{watch}: {event:?}")));
            };
            self.ensure(revision <= change.revision, "an event is missing", || {
                format!("{watch}: {change} before {event:?}")
            })?;
            let same = revision == change.revision && self.agrees(event, change, watch.request.prev_kv);
            self.ensure(same, "an event is not what happened", || format!("{watch}: {event:?}, not {change}"))?;
        }
        if let Some(missing) = expected.next() {
            return Err(self.violation("a revision is told in part", format!("{watch}: not {missing}")));
        }
        self.ensure(complete >= upto, "a header before its events", || {
            format!("{complete}, with events up to {upto}")
        })?;
        let missing = self.past.between(upto + 1, complete).iter().find(|change| watch.wants(change));
        if let Some(missing) = missing {
            return Err(self.violation("a header beyond an event", format!("{complete}: {watch}, not {missing}")));
        }
        watch.next = complete + 1;
        Ok(())
    }

    fn agrees(&self, event: &Event, change: &Changed, prev_kv: bool) -> bool {
        let Some(kv) = &event.kv else { return false };
        let after = match (&change.after, event.r#type()) {
            (Some(after), EventType::Put) => kv == after,
            (None, EventType::Delete) => kv.key == change.key && kv.value.is_empty() && kv.create_revision == 0,
            _ => false,
        };
        // What was before a revision that was compacted by then is not known any more.
        let mut later = self.past.compactions.range(change.revision..);
        let forgotten = later.any(|(_, since)| *since <= self.at);
        let before = if prev_kv { &change.before } else { &None };
        after && (event.prev_kv == *before || event.prev_kv.is_none() && forgotten)
    }

    fn ensure(&self, holds: bool, claim: &str, particulars: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds { Ok(()) } else { Err(self.violation(claim, particulars())) }
    }

    fn violation(&self, claim: &str, particulars: String) -> Violation {
        let StreamLog { watcher, member, .. } = self.stream;
        let ms = self.at as f64 / 1e6;
        Violation {
            judge: JUDGE,
            message: format!("{claim}: watcher {watcher} at member {member}, {ms:.3} ms: {particulars}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::slice;

    use bytes::Bytes;
    use seedbed_proto::etcdserverpb::{
        CompactionRequest, DeleteRangeRequest, PutRequest, ResponseHeader, WatchCancelRequest, WatchProgressRequest,
        WatchRequest,
    };
    use seedbed_proto::mvccpb::KeyValue;

    use super::*;
    use crate::history::{Recorder, Server};
    use crate::watch::Word;

    /// What happened: put a = 1 (2), put b = 2 (3), put a = 3 (4), delete a (5), compaction at 4.
    fn past() -> (History, Vec<AppliedEntry>) {
        let put = |key: &'static str, value: &'static str| {
            Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
        };
        let delete = Request::DeleteRange(DeleteRangeRequest { key: "a".into(), ..DeleteRangeRequest::default() });
        let compact = Request::Compact(CompactionRequest { revision: 4, physical: false });
        let requests = [put("a", "1"), put("b", "2"), put("a", "3"), delete, compact];
        let mut recorder = Recorder::new();
        let mut entries = Vec::new();
        for (index, request) in (1..).zip(requests) {
            let compacted = matches!(request, Request::Compact(_));
            let token = recorder.invoke(1, Server::default(), index, |_| request);
            entries.push(AppliedEntry {
                index,
                term: 1,
                operation: token.operation,
                revision: if compacted { 5 } else { index as i64 + 1 },
                changed: !compacted,
                compacted,
                lease: None,
                digest: 0,
            });
        }
        (recorder.finish(), entries)
    }

    fn judged(words: Vec<Heard>) -> Result<(), String> {
        let (history, entries) = past();
        let words = words.into_iter().map(|heard| Word { at: 1_500_000, heard }).collect();
        let log = WatchLog { streams: vec![StreamLog { watcher: 2, member: 3, words }], fragment_bytes: 60 };
        check(&history, &entries, &BTreeSet::from([3]), &log).map_err(|violation| violation.message)
    }

    fn asked(create: WatchCreateRequest) -> Heard {
        Heard::Asked(WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) })
    }

    /// All keys, from the beginning.
    fn all() -> WatchCreateRequest {
        WatchCreateRequest {
            range_end: "\0".into(),
            start_revision: 2,
            progress_notify: true,
            ..WatchCreateRequest::default()
        }
    }

    fn told(watch_id: i64, revision: i64) -> WatchResponse {
        let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
        WatchResponse { header, watch_id, ..WatchResponse::default() }
    }

    fn created(watch_id: i64) -> Heard {
        Heard::Told(WatchResponse { created: true, ..told(watch_id, 2) })
    }

    fn events(watch_id: i64, events: &[Event]) -> Heard {
        let revision = events.last().and_then(|event| event.kv.as_ref()).map_or(5, |kv| kv.mod_revision);
        Heard::Told(WatchResponse { events: events.to_vec(), ..told(watch_id, revision) })
    }

    fn progress(watch_id: i64, revision: i64) -> Heard {
        Heard::Told(told(watch_id, revision))
    }

    fn put(key: &'static str, value: &'static str, [created, modified, version]: [i64; 3]) -> Event {
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        let kv = KeyValue { key, value, create_revision: created, mod_revision: modified, version, lease: 0 };
        Event { r#type: EventType::Put as i32, kv: Some(kv), prev_kv: None }
    }

    fn deletion() -> Event {
        let kv = KeyValue { key: "a".into(), mod_revision: 5, ..KeyValue::default() };
        Event { r#type: EventType::Delete as i32, kv: Some(kv), prev_kv: None }
    }

    /// All that happened.
    fn story() -> [Event; 4] {
        [put("a", "1", [2, 2, 1]), put("b", "2", [3, 3, 1]), put("a", "3", [2, 4, 2]), deletion()]
    }

    /// What is said of a watch of everything that is told this.
    fn claim(heard: Vec<Heard>) -> String {
        let words = [asked(all()), created(0)].into_iter().chain(heard).collect();
        let message = judged(words).expect_err("it is broken");
        assert!(message.contains("watcher 2 at member 3, 1.500 ms"), "{message}");
        message.split(": ").next().expect("a claim").to_owned()
    }

    #[test]
    fn what_happened_is_told_in_one_piece_or_in_many() {
        let [first, second, third, fourth] = story();
        let whole = vec![asked(all()), created(0), events(0, &story()), progress(0, 5)];
        assert_eq!(judged(whole), Ok(()));
        let parts = vec![
            asked(all()),
            created(0),
            events(0, slice::from_ref(&first)),
            progress(0, 2),
            events(0, &[second, third]),
            progress(0, 4),
            events(0, &[fourth]),
        ];
        assert_eq!(judged(parts), Ok(()));
        // From the middle, of one key, without puts, and what comes later is not known yet.
        let filtered = WatchCreateRequest {
            key: "a".into(),
            start_revision: 3,
            filters: vec![FilterType::Noput as i32],
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        assert_eq!(judged(vec![asked(filtered), created(0), progress(0, 4), events(0, &[deletion()])]), Ok(()));
        let now = WatchCreateRequest { start_revision: 0, ..all() };
        assert_eq!(judged(vec![asked(now), created(0), events(0, &story()[1..])]), Ok(()));
        assert_eq!(first.kv.expect("a pair").mod_revision, 2);
    }

    #[test]
    fn what_is_missing_repeated_or_out_of_order_is_noticed() {
        let [first, second, third, fourth] = story();
        assert_eq!(claim(vec![events(0, &[first.clone(), third.clone()])]), "an event is missing");
        assert_eq!(claim(vec![events(0, slice::from_ref(&second))]), "an event is missing");
        let again = vec![events(0, slice::from_ref(&first)), events(0, slice::from_ref(&first))];
        assert_eq!(claim(again), "an event again, or before the start");
        let swapped = [first.clone(), third.clone(), second.clone()];
        assert_eq!(claim(vec![events(0, &swapped)]), "an event is missing");
        let beyond = Heard::Told(WatchResponse { events: vec![first.clone()], ..told(0, 3) });
        assert_eq!(claim(vec![beyond]), "a header beyond an event");
        let other = put("a", "2", [2, 2, 1]);
        assert_eq!(claim(vec![events(0, &[other])]), "an event is not what happened");
        assert_eq!(
            claim(vec![events(0, &[first, second, third, fourth.clone(), fourth])]),
            "an event that is none of the watch's"
        );
    }

    #[test]
    fn progress_is_a_promise() {
        let [first, ..] = story();
        let ask = || {
            Heard::Asked(WatchRequest { request_union: Some(RequestUnion::ProgressRequest(WatchProgressRequest {})) })
        };
        assert_eq!(claim(vec![ask(), progress(-1, 2)]), "progress before an event");
        assert_eq!(claim(vec![events(0, &story()), progress(-1, 5)]), "progress that nobody asked for");
        assert_eq!(claim(vec![events(0, &[first]), progress(0, 3)]), "progress before an event");
        let told = vec![events(0, &story()), progress(0, 3)];
        assert_eq!(claim(told), "progress before what was told, or before the start");
        assert_eq!(claim(vec![progress(7, 2)]), "progress of a watch that is not there");
        assert_eq!(claim(vec![events(0, &story()), progress(0, 6)]), "a revision that never was");
        let unasked = WatchCreateRequest { progress_notify: false, ..all() };
        assert!(judged(vec![asked(unasked), created(0), events(0, &story()), progress(0, 5)]).is_err());
        let future = WatchCreateRequest { start_revision: 9, ..all() };
        let early = judged(vec![asked(future), created(0), progress(0, 5)]).expect_err("it has not begun");
        assert!(early.starts_with("progress before what was told, or before the start"), "{early}");
    }

    #[test]
    fn pairs_before_are_told_where_they_are_known() {
        let before = WatchCreateRequest { prev_kv: true, ..all() };
        let [first, second, third, mut fourth] = story();
        fourth.prev_kv = third.kv.clone();
        // What was before revision 4 may be forgotten, since 4 was compacted; what was before 5 is known.
        let story = [first.clone(), second.clone(), third.clone(), fourth.clone()];
        assert_eq!(judged(vec![asked(before.clone()), created(0), events(0, &story)]), Ok(()));
        let missing = [first, second, third, Event { prev_kv: None, ..fourth.clone() }];
        assert!(judged(vec![asked(before), created(0), events(0, &missing)]).is_err());
        let unasked = [story[0].clone(), story[1].clone(), story[2].clone(), fourth];
        assert_eq!(claim(vec![events(0, &unasked)]), "an event is not what happened");
    }

    #[test]
    fn watches_end_when_they_are_canceled_or_compacted() {
        let cancel = Heard::Asked(WatchRequest {
            request_union: Some(RequestUnion::CancelRequest(WatchCancelRequest { watch_id: 0 })),
        });
        let canceled = Heard::Told(WatchResponse { canceled: true, ..told(0, 5) });
        let compacted = |compact_revision| {
            let cancel_reason = "compacted".to_owned();
            Heard::Told(WatchResponse { canceled: true, compact_revision, cancel_reason, ..told(0, 5) })
        };
        assert_eq!(judged(vec![asked(all()), created(0), cancel.clone(), canceled.clone()]), Ok(()));
        assert_eq!(judged(vec![asked(all()), created(0), compacted(4)]), Ok(()));
        assert_eq!(claim(vec![canceled.clone()]), "a watch ends that nobody has canceled");
        assert_eq!(claim(vec![compacted(3)]), "a compaction ends a watch that needs nothing of it");
        let quiet = |key: &'static str| {
            let fresh = WatchCreateRequest { key: key.into(), ..WatchCreateRequest::default() };
            judged(vec![asked(fresh), created(0), compacted(4)])
        };
        assert_eq!(quiet("b"), Ok(()));
        let ended = quiet("c").expect_err("nothing of it was compacted");
        assert!(ended.starts_with("a compaction ends a watch that nothing has concerned"), "{ended}");
        let needs_nothing = vec![events(0, &story()), compacted(4)];
        assert_eq!(claim(needs_nothing), "a compaction ends a watch that needs nothing of it");
        assert_eq!(claim(vec![cancel.clone(), canceled, events(0, &story())]), "events of a watch that is not there");
        assert_eq!(claim(vec![cancel, asked(all()), created(1)]), "a watch goes on that was canceled");
        // Going on behind a gap is not an end.
        assert_eq!(claim(vec![events(0, &story()[2..])]), "an event is missing");
    }

    #[test]
    fn fragments_follow_each_other_and_are_asked_for() {
        let fragment =
            |events: &[Event]| Heard::Told(WatchResponse { events: events.to_vec(), fragment: true, ..told(0, 5) });
        let allowed = WatchCreateRequest { fragment: true, ..all() };
        let words = |rest: Vec<Heard>| [asked(allowed.clone()), created(0)].into_iter().chain(rest).collect::<Vec<_>>();
        assert_eq!(judged(words(vec![fragment(&story()[..2]), events(0, &story()[2..])])), Ok(()));
        let parted = judged(words(vec![fragment(&story()[..2]), progress(-1, 5)])).expect_err("something between");
        assert!(parted.starts_with("fragments are parted"), "{parted}");
        assert_eq!(claim(vec![fragment(&story()[..2])]), "a fragment that was not asked for");
        let in_one = judged(words(vec![events(0, &story())])).expect_err("larger than a response is to be");
        assert!(in_one.starts_with("not told in fragments"), "{in_one}");
    }

    #[test]
    fn impossible_watches_are_refused_and_others_are_not() {
        let refused = Heard::Told(WatchResponse {
            created: true,
            canceled: true,
            cancel_reason: "why".to_owned(),
            ..told(-1, 5)
        });
        let empty = WatchCreateRequest { key: "b".into(), range_end: "a".into(), ..WatchCreateRequest::default() };
        assert_eq!(judged(vec![asked(empty.clone()), refused.clone()]), Ok(()));
        assert!(judged(vec![asked(empty), created(0)]).is_err());
        assert!(judged(vec![asked(all()), refused]).is_err());
        let numbered = WatchCreateRequest { watch_id: 4, ..all() };
        assert!(judged(vec![asked(numbered.clone()), created(5)]).is_err());
        assert!(judged(vec![asked(numbered), created(4)]).is_ok());
        assert!(judged(vec![created(0)]).is_err(), "nobody has asked");
    }
}
