//! The watches of one stream.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::ops::RangeInclusive;
use std::task::{Context, Poll};

use prost::Message;

use super::WatchOptions;
use super::watcher::{Impossible, Watcher};
use crate::api::{ApiError, Headers};
use crate::mvcc::{ApplyError, Changes, Refusal, Store, Subscriber};
use crate::proto::etcdserverpb::watch_request::RequestUnion;
use crate::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use crate::proto::mvccpb::Event;
use crate::runtime::{Mutant, Mutants, Runtime};

/// Stands for no watch, and for all of a stream.
const NO_WATCH: i64 = -1;

/// The watches of one stream, and what is to be sent to their client. Responses are made when they are asked for.
pub(crate) struct Session<R: Runtime> {
    headers: Headers<R>,
    store: Store<R::Disk>,
    options: WatchOptions,
    // Boxed, since most streams have one, and a node of the tree has room for eleven.
    watchers: BTreeMap<i64, Box<Watcher>>,
    /// What each watch has yet to be told of, by its number.
    subscriber: Subscriber,
    /// How many of the watches want to be told of progress by themselves.
    notifying: usize,
    /// How many want to know what was there before.
    with_previous: usize,
    /// Whose turn it is, of the watches that are nearly up to date and all of them. Otherwise one that comes from the past would
    /// keep all others waiting until it is there.
    turn_of_all: bool,
    /// Where the search for a free number begins.
    next_id: i64,
    /// The rest of a response in fragments. Nothing may come between them: clients put together what follows each other.
    fragments: VecDeque<WatchResponse>,
    /// Answers to requests.
    answers: VecDeque<WatchResponse>,
    /// History that some of the watches have yet to be told of.
    delivering: Option<Delivery>,
    /// Whether the client wants to know how far all its watches are.
    progress_asked: bool,
    /// How often the store had been replaced when it was last looked at.
    installations: u64,
}

/// A piece of history on its way to the watches.
struct Delivery {
    changes: Changes,
    /// The numbers of those watches, each with the first revision that it has not been told of.
    watches: VecDeque<(i64, i64)>,
}

impl<R: Runtime> Session<R> {
    pub(crate) fn new(headers: Headers<R>, store: Store<R::Disk>, options: WatchOptions) -> Self {
        let (installations, subscriber) = (store.installations(), store.subscriber());
        Session {
            headers,
            store,
            options,
            watchers: BTreeMap::new(),
            subscriber,
            notifying: 0,
            with_previous: 0,
            turn_of_all: false,
            next_id: 0,
            fragments: VecDeque::new(),
            answers: VecDeque::new(),
            delivering: None,
            progress_asked: false,
            installations,
        }
    }

    /// Takes a request of the client.
    pub(crate) fn handle(&mut self, request: WatchRequest) {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => self.create(&request),
            Some(RequestUnion::CancelRequest(request)) => self.cancel(request.watch_id),
            Some(RequestUnion::ProgressRequest(_)) => {
                if R::Mutants::active(Mutant::WatchProgressEarly) {
                    let progress = self.response(NO_WATCH, self.store.revision());
                    self.answers.push_back(progress);
                    return;
                }
                self.progress_asked = true;
            }
            None => {}
        }
    }

    fn create(&mut self, request: &WatchCreateRequest) {
        let revision = self.store.revision();
        // In etcd's order.
        let created = Watcher::new(request, revision)
            .and_then(|watcher| Ok((self.free_id(request.watch_id).ok_or(Impossible::UsedId)?, watcher)));
        let answer = match created {
            Ok((id, watcher)) => {
                if request.watch_id == 0 {
                    self.next_id = id + 1;
                }
                self.subscriber.subscribe(id, watcher.key.clone(), watcher.range_end.clone(), watcher.start);
                self.notifying += usize::from(watcher.progress_notify);
                self.with_previous += usize::from(watcher.prev_kv);
                self.watchers.insert(id, Box::new(watcher));
                WatchResponse { created: true, ..self.response(id, revision) }
            }
            Err(impossible) => WatchResponse {
                created: true,
                canceled: true,
                cancel_reason: impossible.reason().to_owned(),
                ..self.response(NO_WATCH, revision)
            },
        };
        self.answers.push_back(answer);
    }

    /// The number that is asked for, if nobody has it, or any if none is asked for.
    fn free_id(&self, asked: i64) -> Option<i64> {
        match asked {
            0 => (self.next_id..).find(|id| !self.watchers.contains_key(id)),
            asked => Some(asked).filter(|id| !self.watchers.contains_key(id)),
        }
    }

    /// As in etcd, nothing is said of a watch that is not there.
    fn cancel(&mut self, id: i64) {
        if self.end(id) {
            let answer = WatchResponse { canceled: true, ..self.response(id, self.store.revision()) };
            self.answers.push_back(answer);
        }
    }

    /// Whether there was such a watch.
    fn end(&mut self, id: i64) -> bool {
        let Some(watcher) = self.watchers.remove(&id) else { return false };
        self.subscriber.unsubscribe(id);
        // Another may come to have its number before that is done.
        if let Some(delivery) = &mut self.delivering {
            delivery.watches.retain(|(other, _)| *other != id);
        }
        self.notifying -= usize::from(watcher.progress_notify);
        self.with_previous -= usize::from(watcher.prev_kv);
        true
    }

    /// Whether there is an answer that has not been sent. Until it is, no more is to be asked.
    pub(crate) fn owes(&self) -> bool {
        !self.answers.is_empty()
    }

    /// Resolves once there may be something to say that there was not before.
    pub(crate) fn poll_changed(&self, context: &Context<'_>) -> Poll<()> {
        self.subscriber.poll_changed(context)
    }

    /// The revision of the store at which there is something to say, if it is known.
    pub(crate) fn awaited(&self) -> Option<i64> {
        // At the last start, watches that have not begun are as far as those that have been told everything.
        let last = self.watchers.values().map(|watcher| watcher.start).max().unwrap_or(0);
        let begun = self.progress_asked.then(|| last.saturating_sub(1));
        self.subscriber.awaited().into_iter().chain(begun).min()
    }

    /// Whether some watch wants to be told of progress by itself.
    pub(crate) fn notifies(&self) -> bool {
        self.notifying > 0
    }

    /// Tells watches of progress that want it, have heard nothing for an interval, and have been told of everything.
    pub(crate) fn interval_passed(&mut self) {
        let revision = self.store.revision();
        let mut quiet = Vec::new();
        let telling: BTreeSet<i64> =
            self.delivering.iter().flat_map(|delivery| &delivery.watches).map(|(id, _)| *id).collect();
        for (id, watcher) in &mut self.watchers {
            let quietly = !watcher.told;
            if !R::Mutants::active(Mutant::WatchProgressForgotten) {
                watcher.told = false;
            }
            let in_sync = || is_in_sync::<R>(&self.subscriber, *id, watcher, revision) && !telling.contains(id);
            if watcher.progress_notify && quietly && in_sync() {
                quiet.push(*id);
            }
        }
        for id in quiet {
            let progress = self.response(id, revision);
            self.answers.push_back(progress);
        }
    }

    /// The next response, if there is anything to say now. The caller has the right to read the store.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn next_response(&mut self) -> Result<Option<WatchResponse>, ApiError> {
        if let Some(fragment) = self.fragments.pop_front() {
            return Ok(Some(fragment));
        }
        if let Some(answer) = self.answers.pop_front() {
            return Ok(Some(answer));
        }
        self.make_mistakes_of_installation();
        loop {
            if let Some(response) = self.deliver() {
                return Ok(Some(response));
            }
            let revision = self.store.revision();
            let Some(behind) = self.next_behind(revision) else { return Ok(self.progress(revision)) };
            let first = *behind.start();
            let wanting: Vec<&Watcher> = match self.with_previous {
                0 => Vec::new(),
                _ => self.watchers.values().map(|watcher| &**watcher).filter(|watcher| watcher.prev_kv).collect(),
            };
            let with_previous = |key: &[u8]| wanting.iter().any(|watcher| watcher.covers(key));
            match self.store.changes(behind, self.options.piece, with_previous) {
                Ok(changes) => {
                    let watches = self.subscriber.look(first..=changes.upto).into();
                    self.delivering = Some(Delivery { changes, watches });
                }
                Err(ApplyError::Refused(Refusal::Compacted { compacted, .. })) => {
                    if let Some(canceled) = self.compacted(compacted) {
                        return Ok(Some(canceled));
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// The revisions that some of the watches are to be told of next.
    fn next_behind(&mut self, revision: i64) -> Option<RangeInclusive<i64>> {
        let piece = i64::try_from(self.options.piece.changes).unwrap_or(i64::MAX);
        let near = if self.turn_of_all { i64::MIN } else { revision.saturating_sub(piece) };
        self.turn_of_all = !self.turn_of_all;
        self.subscriber.behind(near, revision).or_else(|| self.subscriber.behind(i64::MIN, revision))
    }

    /// The next response of the piece that is being delivered.
    fn deliver(&mut self) -> Option<WatchResponse> {
        let mut delivery = self.delivering.take()?;
        loop {
            let (id, next) = delivery.watches.pop_front()?;
            let watcher = self.watchers.get_mut(&id).expect("a watch ends with its subscription");
            let events = watcher.events(&delivery.changes.changes, next);
            if events.is_empty() {
                continue;
            }
            watcher.told = true;
            let fragments = watcher.fragment;
            let response = WatchResponse { events, ..self.response(id, delivery.changes.upto) };
            let mut parts =
                if fragments { fragmented(response, self.options.fragment_bytes) } else { [response].into() };
            let first = parts.pop_front();
            self.fragments = parts;
            self.delivering = Some(delivery);
            return first;
        }
    }

    /// Ends one of the watches that want history before `compacted`.
    fn compacted(&mut self, compacted: i64) -> Option<WatchResponse> {
        let id = self.subscriber.first_behind(compacted - 1)?;
        if R::Mutants::active(Mutant::WatchCompactionUntold) {
            self.subscriber.restart(id, compacted);
            return None;
        }
        self.end(id);
        let (_, reason) = ApiError::Compacted.code_and_message();
        Some(WatchResponse {
            canceled: true,
            compact_revision: compacted,
            cancel_reason: reason.to_owned(),
            ..self.response(id, self.store.revision())
        })
    }

    /// Tells how far all watches are, if that was asked for, and once it is the same for all.
    fn progress(&mut self, revision: i64) -> Option<WatchResponse> {
        let mut watchers = self.watchers.iter();
        if !self.progress_asked || !watchers.all(|(id, it)| is_in_sync::<R>(&self.subscriber, *id, it, revision)) {
            return None;
        }
        self.progress_asked = false;
        Some(self.response(NO_WATCH, revision))
    }

    /// The planted bugs of a snapshot that has replaced the store. In truth a watch goes on in the history that it brings, which is
    /// the same.
    fn make_mistakes_of_installation(&mut self) {
        let planted = [Mutant::WatchRestoreReplays, Mutant::WatchStartLowered];
        let installations = self.store.installations();
        if !planted.into_iter().any(R::Mutants::active) {
            return;
        }
        if std::mem::replace(&mut self.installations, installations) == installations {
            return;
        }
        let revision = self.store.revision();
        for (id, watcher) in &mut self.watchers {
            let future = watcher.start > revision;
            if R::Mutants::active(Mutant::WatchStartLowered) && future {
                watcher.start = revision + 1;
            }
            if future || R::Mutants::active(Mutant::WatchRestoreReplays) {
                self.subscriber.restart(*id, watcher.start);
            }
        }
    }

    fn response(&self, watch_id: i64, revision: i64) -> WatchResponse {
        WatchResponse { header: Some(self.headers.at(revision)), watch_id, ..WatchResponse::default() }
    }
}

/// Whether a watch has been told of everything up to `revision`. One that begins later has not begun.
fn is_in_sync<R: Runtime>(subscriber: &Subscriber, id: i64, watcher: &Watcher, revision: i64) -> bool {
    let begun = watcher.start <= revision + 1 || R::Mutants::active(Mutant::WatchProgressBelowStart);
    begun && !subscriber.is_behind(id, revision)
}

/// A response in parts that are not larger than that, if each of its events is not.
pub(crate) fn fragmented(mut response: WatchResponse, bytes_max: usize) -> VecDeque<WatchResponse> {
    if response.encoded_len() <= bytes_max {
        return [response].into();
    }
    let events = std::mem::take(&mut response.events);
    let mut parts: VecDeque<WatchResponse> = VecDeque::new();
    let least = WatchResponse { fragment: true, ..response.clone() }.encoded_len();
    let (mut part, mut bytes): (Vec<Event>, usize) = (Vec::new(), least);
    for event in events {
        let event_bytes = event.encoded_len() + prost::length_delimiter_len(event.encoded_len()) + 1;
        if !part.is_empty() && bytes + event_bytes > bytes_max {
            parts.push_back(WatchResponse { events: std::mem::take(&mut part), fragment: true, ..response.clone() });
            bytes = least;
        }
        bytes += event_bytes;
        part.push(event);
    }
    parts.push_back(WatchResponse { events: part, ..response });
    parts
}
