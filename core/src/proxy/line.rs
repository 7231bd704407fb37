//! What is known of one range of keys: what has happened there lately, and what members have answered about it.
//!
//! ```text
//!   revision   5        6        7        8        9       10        11
//!              |— told, forgotten —|— told, kept for watches —|— quiet —|
//!                                  since                      last      quiet
//! ```
//!
//! There is one for each range, whoever wants to know of it: one watch of a member.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use prost::Message;

use super::wake::Wake;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse, ResponseHeader, WatchResponse};
use crate::proto::mvccpb::event::EventType;
use crate::proto::mvccpb::{Event, KeyValue};
use crate::watermark::Watermark;

/// How much of what was told is kept for watches that have not been told yet: a client that lags further asks the member anew.
const KEPT_EVENTS: usize = 1_000;
const KEPT_BYTES: usize = 1 << 20;

/// A range, and whether what was there before each change is wanted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LineKey {
    /// Of the key. First, so that hardly any other key has to be looked at when one is found among thousands.
    checksum: u32,
    pub(super) key: Bytes,
    pub(super) range_end: Bytes,
    pub(super) prev_kv: bool,
}

impl LineKey {
    pub(super) fn new(key: Bytes, range_end: Bytes, prev_kv: bool) -> Self {
        LineKey { checksum: crc32c::crc32c(&key), key, range_end, prev_kv }
    }
}

/// Events of one response.
#[derive(Clone, Debug)]
pub(super) struct Piece {
    /// The first revision that it tells of: none between the piece before and this one concerns the range.
    pub(super) first: i64,
    /// That of a response of it. Its revision is the last that it tells of.
    pub(super) header: ResponseHeader,
    pub(super) events: Arc<[Event]>,
    bytes: usize,
}

impl Piece {
    /// The last revision that it tells of.
    fn upto(&self) -> i64 {
        self.header.revision
    }
}

/// One range.
pub(super) struct Line {
    pub(super) id: i64,
    pub(super) range: LineKey,
    /// 1 once it is known where it begins.
    begun: Watermark,
    /// Whether anything was answered from it since it was last looked after.
    used: AtomicBool,
    /// Whether it stands in the cache's queue.
    queued: AtomicBool,
    state: Mutex<State>,
}

struct State {
    /// The revision of the last event, or the one after which the line begins; 0, if that is not known.
    last: i64,
    /// Up to this revision there is no other event, by what a member has told of progress.
    quiet: i64,
    /// Whether the member that tells now has said that it does.
    created: bool,
    /// Whether what is told of progress goes for this line, too.
    settled: bool,
    kept: VecDeque<Piece>,
    kept_events: usize,
    kept_bytes: usize,
    answers: Answers,
    watches: Vec<(Weak<Wake>, i64)>,
    /// How the member has ended it.
    ended: Option<WatchResponse>,
}

/// What members have answered about a range, as it is now.
#[derive(Default)]
struct Answers {
    /// Of a range that is one key: the pair, and the revision at which it was so at the latest.
    one: Option<(i64, Option<KeyValue>)>,
    /// Of others, by the encoded question.
    all: BTreeMap<Bytes, (i64, RangeResponse)>,
}

impl Line {
    /// `upto`: the revision from which on it is to be told; 0 for the member's own.
    pub(super) fn new(id: i64, range: LineKey, upto: i64) -> Line {
        let state = State {
            last: upto,
            quiet: 0,
            created: false,
            settled: false,
            kept: VecDeque::new(),
            kept_events: 0,
            kept_bytes: 0,
            answers: Answers::default(),
            watches: Vec::new(),
            ended: None,
        };
        let begun = Watermark::new(u64::from(upto > 0));
        Line { id, range, begun, used: AtomicBool::new(true), queued: AtomicBool::new(false), state: Mutex::new(state) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Resolves once it is known where the line begins, or it has ended.
    pub(super) async fn begun(&self) {
        self.begun.reached(1).await;
    }

    /// From which revision on a member is to tell it; 0: from the next.
    pub(super) fn resumes_at(&self) -> i64 {
        match self.lock().upto() {
            0 => 0,
            upto => upto + 1,
        }
    }

    /// A member tells it from now on, at this revision.
    pub(super) fn created(&self, revision: i64) {
        let mut state = self.lock();
        state.created = true;
        if state.last == 0 {
            state.last = revision;
            drop(state);
            self.begun.raise(1);
        }
    }

    /// The member has told everything up to a revision, if it had created the line.
    pub(super) fn settle(&self, revision: i64) {
        let mut state = self.lock();
        if state.created {
            state.settled = true;
            // One that lags behind the one before says nothing new.
            state.quiet = state.quiet.max(revision);
        }
    }

    /// The member has gone.
    pub(super) fn lost(&self) {
        let mut state = self.lock();
        (state.created, state.settled) = (false, false);
    }

    /// The member has ended it. Whom that concerns hears of it.
    pub(super) fn end(&self, response: WatchResponse) {
        let mut state = self.lock();
        state.ended = Some(response);
        state.answers = Answers::default();
        state.wake();
        drop(state);
        self.begun.raise(1);
    }

    /// How the member has ended it, if it has.
    pub(super) fn ended(&self) -> Option<WatchResponse> {
        self.lock().ended.clone()
    }

    /// The member has told events, in a response with this header.
    pub(super) fn told(&self, events: Vec<Event>, header: ResponseHeader) {
        let revision = |event: &Event| event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
        let mut state = self.lock();
        // A member that was asked to go on may not know better than to begin earlier.
        let events: Vec<Event> = events.into_iter().filter(|event| revision(event) > state.upto()).collect();
        let Some(upto) = events.last().map(revision) else { return };
        state.answers.follow(&events, upto);
        let bytes = events.iter().map(Message::encoded_len).sum();
        let header = ResponseHeader { revision: upto, ..header };
        let piece = Piece { first: state.last + 1, header, events: events.into(), bytes };
        state.last = upto;
        state.kept_events += piece.events.len();
        state.kept_bytes += bytes;
        if state.watches.is_empty() {
            state.forget(0, 0);
        } else {
            state.kept.push_back(piece);
            state.forget(KEPT_EVENTS, KEPT_BYTES);
            state.wake();
        }
    }

    /// Everything up to this revision is told of the line; 0, if it is not known where it begins.
    pub(super) fn upto(&self) -> i64 {
        self.lock().upto()
    }

    /// Whether what is told of progress goes for it.
    pub(super) fn is_settled(&self) -> bool {
        self.lock().settled
    }

    /// A watch is woken from now on, and what is told is kept for a while.
    pub(super) fn join(&self, wake: &Arc<Wake>, id: i64) {
        self.lock().watches.push((Arc::downgrade(wake), id));
    }

    /// Whether everything from `next` on is kept, or has not come yet.
    pub(super) fn reaches(&self, next: i64) -> bool {
        next >= self.lock().since()
    }

    /// It is not woken any more.
    pub(super) fn leave(&self, wake: &Arc<Wake>, id: i64) {
        let mut state = self.lock();
        if let Some(place) =
            state.watches.iter().position(|(other, its)| *its == id && other.as_ptr() == Arc::as_ptr(wake))
        {
            state.watches.swap_remove(place);
        }
    }

    /// The first piece with anything from `next` on, and whether anything comes after it. None, if there is none yet; or some of
    /// it is forgotten here.
    pub(super) fn piece(&self, next: i64) -> Result<Option<(Piece, bool)>, Forgotten> {
        let state = self.lock();
        if next < state.since() {
            return Err(Forgotten);
        }
        let from = state.kept.partition_point(|piece| piece.upto() < next);
        let more = from + 1 < state.kept.len() || state.ended.is_some();
        Ok(state.kept.get(from).map(|piece| (piece.clone(), more)))
    }

    /// The first revision from which on everything is kept.
    pub(super) fn since(&self) -> i64 {
        self.lock().since()
    }

    /// How many watches it has.
    pub(super) fn watches(&self) -> u64 {
        self.lock().watches.len() as u64
    }

    /// Whether nobody wants to know of it any more.
    pub(super) fn is_idle(&self) -> bool {
        let state = self.lock();
        state.watches.is_empty() && state.answers.is_empty()
    }

    /// Keeps what a member has answered at a revision, unless something has happened since that the answer does not have. Whether
    /// it is kept.
    pub(super) fn keep(&self, request: &RangeRequest, response: &RangeResponse, at: i64) -> bool {
        let mut state = self.lock();
        // The last event came later, or it is not known yet whether one did.
        if state.ended.is_some() || state.last == 0 || at < state.last {
            return false;
        }
        if is_one_key(request) {
            state.answers.one = Some((at, response.kvs.first().cloned()));
        } else {
            state.answers.all.insert(question(request), (at, response.clone()));
        }
        true
    }

    /// What a member would answer, and the revision at which that is so.
    pub(super) fn answer(&self, request: &RangeRequest) -> Option<(RangeResponse, i64)> {
        let state = self.lock();
        if !state.settled {
            return None;
        }
        let (response, at) = if is_one_key(request) {
            let (at, kv) = state.answers.one.as_ref()?;
            let count = i64::from(kv.is_some());
            (RangeResponse { count, kvs: kv.iter().cloned().collect(), ..RangeResponse::default() }, *at)
        } else {
            let (at, response) = state.answers.all.get(&question(request))?;
            (response.clone(), *at)
        };
        let at = state.upto().max(at);
        drop(state);
        self.used.store(true, Ordering::Relaxed);
        Some((response, at))
    }

    /// Whether it was used since this was asked last.
    pub(super) fn take_used(&self) -> bool {
        self.used.swap(false, Ordering::Relaxed)
    }

    /// It stands in the cache's queue from now on. Whether it did before.
    pub(super) fn queue(&self) -> bool {
        self.queued.swap(true, Ordering::Relaxed)
    }

    /// Forgets what members have answered: it has left the queue.
    pub(super) fn forget_answers(&self) {
        self.lock().answers = Answers::default();
        self.queued.store(false, Ordering::Relaxed);
    }
}

/// What a watch has yet to be told is not known here any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Forgotten;

impl State {
    fn upto(&self) -> i64 {
        self.last.max(self.quiet)
    }

    /// The first revision from which on everything is kept.
    fn since(&self) -> i64 {
        self.kept.front().map_or(self.last + 1, |piece| piece.first)
    }

    fn forget(&mut self, events_max: usize, bytes_max: usize) {
        while (self.kept_events > events_max || self.kept_bytes > bytes_max)
            && (self.kept.len() > 1 || events_max == 0)
            && let Some(piece) = self.kept.pop_front()
        {
            self.kept_events -= piece.events.len();
            self.kept_bytes -= piece.bytes;
        }
        if self.kept.is_empty() {
            (self.kept_events, self.kept_bytes) = (0, 0);
        }
    }

    fn wake(&mut self) {
        self.watches.retain(|(wake, id)| match wake.upgrade() {
            Some(wake) => {
                wake.mark(*id);
                true
            }
            None => false,
        });
    }
}

impl Answers {
    fn is_empty(&self) -> bool {
        self.one.is_none() && self.all.is_empty()
    }

    /// Follows events of the range, the last of them at a revision.
    fn follow(&mut self, events: &[Event], upto: i64) {
        if let Some((at, kv)) = &mut self.one
            && *at < upto
            && let Some(event) = events.last()
        {
            *at = upto;
            *kv = event.kv.clone().filter(|_| event.r#type() == EventType::Put);
        }
        self.all.retain(|_, (at, _)| *at >= upto);
    }
}

/// Whether a request is for a pair as it is, whatever options it has that change nothing for one.
fn is_one_key(request: &RangeRequest) -> bool {
    let plain = RangeRequest {
        key: request.key.clone(),
        serializable: request.serializable,
        limit: request.limit.max(0),
        ..RangeRequest::default()
    };
    *request == plain
}

/// A question, whoever is to answer it.
fn question(request: &RangeRequest) -> Bytes {
    RangeRequest { serializable: false, ..request.clone() }.encode_to_vec().into()
}
