//! Answers that are kept for reads that any member may answer from its own state.
//!
//! ```text
//!   a read ── kept, and known to be right until lately? ── yes ──► answered here
//!                                                      └─ no ───► a member is asked, once for all who ask at a time
//! ```
//!
//! - What is kept follows its [line](super::line): an event changes it or drops it, whoever has caused it. An answer that was
//!   overtaken by an event is not kept, and a line begins with what follows the answer; so none is brought back.
//! - It is *fresh* for a while after each probe: a linearizable read of a member says which revision the cluster was at, and what
//!   is kept counts once it has been told that far. It is never staler than that while. Where nobody asks, nobody probes.
//! - It is as of the revision that the answer names, which is none before what the client has seen.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use openraft_rt::{Instant as _, Select2};
use prost::Message;
use tokio::sync::Notify;
use tonic::Status;

use super::feed::Feed;
use super::line::{Line, LineKey};
use super::upstream::{Upstream, sent_on};
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{RangeRequest, RangeResponse};
use crate::runtime::{Mutant, Mutants, Runtime};
use crate::watermark::{Stop, Watermark};

/// Of the time for which what is kept counts, the part after which it is probed again.
const PROBES: u32 = 2;
/// After so many probes, what nobody has used since the last time is forgotten.
const PROBES_TO_SWEEP: u32 = 32;

/// What a cache has done.
#[derive(Debug, Default)]
pub(super) struct Counters {
    /// Reads answered here.
    pub(super) hits: AtomicU64,
    /// Bytes of these answers.
    pub(super) hit_bytes: AtomicU64,
    /// Reads that a member was asked for,
    pub(super) misses: AtomicU64,
    /// and those that had their answers from another one's question.
    pub(super) coalesced: AtomicU64,
    /// Probes.
    pub(super) probes: AtomicU64,
}

/// How a proxy's cache is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CacheOptions {
    /// For how long what is kept counts after a probe: it is never staler.
    pub(super) staleness_max: Duration,
    /// Ranges of which answers are kept at most; 0: none are.
    pub(super) ranges_max: usize,
}

/// The cache of a proxy. Clones are the same.
pub(super) struct Cache<R: Runtime> {
    shared: Arc<Shared<R>>,
}

impl<R: Runtime> Clone for Cache<R> {
    fn clone(&self) -> Self {
        Cache { shared: self.shared.clone() }
    }
}

struct Shared<R: Runtime> {
    upstream: Upstream<R>,
    feed: Feed<R>,
    options: CacheOptions,
    /// When the last probe was begun that has confirmed what is kept, and the revision that it has found.
    confirmed: Mutex<Option<(R::Instant, i64)>>,
    /// Whether anybody has asked since the last probe.
    used: AtomicBool,
    use_begins: Notify,
    /// Questions that a member is being asked.
    asking: Mutex<BTreeMap<Bytes, Arc<Asking>>>,
    /// Lines with answers, in turn to be forgotten.
    kept: Mutex<VecDeque<Arc<Line>>>,
    counters: Counters,
}

/// A question that a member is being asked, for all who ask the same meanwhile.
#[derive(Default)]
struct Asking {
    answer: OnceLock<Result<Arc<RangeResponse>, Status>>,
    /// 1 once there is an answer.
    answered: Watermark,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<R: Runtime> Cache<R> {
    /// Starts a cache, whose task ends when it is told to.
    pub(super) fn start(upstream: Upstream<R>, feed: Feed<R>, options: CacheOptions, stop: Stop) -> Self {
        let cache = Cache {
            shared: Arc::new(Shared {
                upstream,
                feed,
                options,
                confirmed: Mutex::new(None),
                used: AtomicBool::new(false),
                use_begins: Notify::new(),
                asking: Mutex::default(),
                kept: Mutex::default(),
                counters: Counters::default(),
            }),
        };
        let running = cache.clone();
        drop(R::spawn(async move {
            let _: Select2<(), ()> = R::select2(stop.stopped(), running.run()).await;
        }));
        cache
    }

    pub(super) fn counters(&self) -> &Counters {
        &self.shared.counters
    }

    /// How many ranges there are answers of.
    pub(super) fn ranges(&self) -> usize {
        lock(&self.shared.kept).len()
    }

    /// The answer to a serializable read of the present, if it is kept, at no revision before `seen`.
    pub(super) fn hit(&self, request: &RangeRequest, seen: i64) -> Option<RangeResponse> {
        let Shared { feed, counters, .. } = &*self.shared;
        self.note_use();
        let (mut response, at) = self.kept(request).filter(|(_, at)| *at >= not_before::<R>(seen))?;
        response.header = Some(feed.header(at));
        counters.hits.fetch_add(1, Ordering::Relaxed);
        counters.hit_bytes.fetch_add(response.encoded_len() as u64, Ordering::Relaxed);
        Some(response)
    }

    /// Answers a serializable read of the present that was no hit, by a member or from what is kept in a moment, at no revision
    /// before `seen`; and whether it is from what is kept.
    ///
    /// # Errors
    /// What the member says, or that there is none to be asked.
    pub(super) async fn read(&self, request: &RangeRequest, seen: i64) -> Result<(RangeResponse, bool), Status> {
        let Shared { feed, options, .. } = &*self.shared;
        let seen = not_before::<R>(seen);
        if self.kept(request).is_some() {
            // The client has seen more, most likely: so will this.
            let reached = R::timeout(options.staleness_max, feed.reach(seen)).await;
            if let Some(hit) = reached.ok().and_then(|()| self.hit(request, seen)) {
                return Ok((hit, true));
            }
        }
        let response = self.ask_once(request).await?;
        if revision(&response) >= seen {
            return Ok((RangeResponse::clone(&response), false));
        }
        // A member that lags behind the one that the client has heard before.
        Ok((self.ask(&RangeRequest { serializable: false, ..request.clone() }).await?, false))
    }

    /// What is kept, if it counts, and the revision at which it is so.
    fn kept(&self, request: &RangeRequest) -> Option<(RangeResponse, i64)> {
        let Shared { feed, options, confirmed, .. } = &*self.shared;
        let (confirmed, least) = (*lock(confirmed))?;
        let over = confirmed + options.staleness_max <= R::Instant::now();
        if over && !R::Mutants::active(Mutant::ProxyNeverStale) {
            return None;
        }
        // What is told of a line by a member that lags may be less than what was confirmed.
        feed.find(&line_key(request))?.answer(request).filter(|(_, at)| *at >= least)
    }

    /// Has a member answer, once for all who ask the same meanwhile.
    async fn ask_once(&self, request: &RangeRequest) -> Result<Arc<RangeResponse>, Status> {
        let counters = &self.shared.counters;
        let question = Bytes::from(request.encode_to_vec());
        let asking = {
            let mut under_way = lock(&self.shared.asking);
            match under_way.get(&question) {
                Some(asking) => {
                    counters.coalesced.fetch_add(1, Ordering::Relaxed);
                    asking.clone()
                }
                None => {
                    counters.misses.fetch_add(1, Ordering::Relaxed);
                    let asking = Arc::<Asking>::default();
                    under_way.insert(question.clone(), asking.clone());
                    let (cache, request, answering) = (self.clone(), request.clone(), asking.clone());
                    // No part of the task that asks, which may be dropped while others wait.
                    drop(R::spawn(async move {
                        let answer = cache.ask(&request).await.map(Arc::new);
                        if let Ok(response) = &answer {
                            cache.keep(&request, response);
                        }
                        lock(&cache.shared.asking).remove(&question);
                        let _ = answering.answer.set(answer);
                        answering.answered.raise(1);
                    }));
                    asking
                }
            }
        };
        asking.answered.reached(1).await;
        asking.answer.get().expect("it is answered").clone()
    }

    async fn ask(&self, request: &RangeRequest) -> Result<RangeResponse, Status> {
        let link = self.shared.upstream.link().await?;
        let mut kv = KvClient::new(link).max_decoding_message_size(usize::MAX);
        Ok(sent_on(kv.range(request.clone()).await)?.into_inner())
    }

    fn keep(&self, request: &RangeRequest, response: &RangeResponse) {
        let Shared { feed, options, kept, .. } = &*self.shared;
        let at = revision(response);
        if options.ranges_max == 0 || at == 0 {
            return;
        }
        let planted = R::Mutants::active(Mutant::ProxyKeepsOvertaken);
        let line = feed.line(line_key(request), if planted { 0 } else { at });
        if !line.keep(request, response, if planted { i64::MAX } else { at }) {
            return feed.release(&line);
        }
        if !line.is_settled() {
            let _ = feed.ask();
        }
        let forgotten = {
            let mut kept = lock(kept);
            if !line.queue() {
                kept.push_back(line);
            }
            if kept.len() > options.ranges_max { next_to_forget(&mut kept) } else { None }
        };
        if let Some(line) = forgotten {
            self.forget(&line);
        }
    }

    fn forget(&self, line: &Arc<Line>) {
        line.forget_answers();
        self.shared.feed.release(line);
    }

    fn note_use(&self) {
        if !self.shared.used.swap(true, Ordering::Relaxed) {
            self.shared.use_begins.notify_one();
        }
    }

    async fn run(self) {
        let Shared { options, confirmed, used, use_begins, kept, counters, .. } = &*self.shared;
        for probe in 1.. {
            if !used.swap(false, Ordering::Relaxed) {
                use_begins.notified().await;
                used.store(false, Ordering::Relaxed);
            }
            let begun = R::Instant::now();
            counters.probes.fetch_add(1, Ordering::Relaxed);
            if let Ok(Ok(revision)) = R::timeout(options.staleness_max, self.probe()).await {
                *lock(confirmed) = Some((begun, revision));
            }
            if probe % PROBES_TO_SWEEP == 0 {
                let unused: Vec<Arc<Line>> = {
                    let mut kept = lock(kept);
                    let (used, unused) = kept.drain(..).partition(|line| line.take_used());
                    *kept = used;
                    unused.into_iter().collect::<VecDeque<_>>().into()
                };
                unused.iter().for_each(|line| self.forget(line));
            }
            R::sleep_until(begun + options.staleness_max / PROBES).await;
        }
    }

    /// Has everything told that the cluster has by now. The revision that it is at.
    async fn probe(&self) -> Result<i64, Status> {
        let request = RangeRequest { key: Bytes::from_static(b"\0"), count_only: true, ..RangeRequest::default() };
        let response = self.ask(&request).await?;
        self.shared.feed.reach(revision(&response)).await;
        Ok(revision(&response))
    }
}

/// The first revision at which a client may be answered that has seen one.
fn not_before<R: Runtime>(seen: i64) -> i64 {
    if R::Mutants::active(Mutant::ProxyForgetsSeen) { 0 } else { seen }
}

fn line_key(request: &RangeRequest) -> LineKey {
    LineKey::new(request.key.clone(), request.range_end.clone(), false)
}

fn revision(response: &RangeResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// The next line that was not used since it was last looked after.
fn next_to_forget(kept: &mut VecDeque<Arc<Line>>) -> Option<Arc<Line>> {
    for _ in 0..kept.len() {
        let line = kept.pop_front()?;
        if !line.take_used() {
            return Some(line);
        }
        kept.push_back(line);
    }
    kept.pop_front()
}
