//! What was said on streams of watches: the input of their judge.

use seedbed_proto::etcdserverpb::{WatchRequest, WatchResponse};
use serde::Serialize;

/// All streams of a run, in the order in which they were opened.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchLog {
    /// The streams.
    pub streams: Vec<StreamLog>,
    /// Beyond how many bytes a response of several events is told in fragments, where that was asked for.
    pub fragment_bytes: u64,
}

/// One stream, from one member.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamLog {
    /// The watcher, from 0.
    pub watcher: u32,
    /// The member.
    pub member: u64,
    /// What was said, in the order in which the watcher said and heard it.
    pub words: Vec<Word>,
}

/// Something that was said.
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// When, in virtual nanoseconds.
    pub at: u64,
    /// By whom, and what.
    pub heard: Heard,
}

/// One message of a stream.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// The watcher has asked.
    Asked(WatchRequest),
    /// The member has told.
    Told(WatchResponse),
}

/// How much was watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WatchCounts {
    /// Streams that were opened.
    pub streams: u64,
    /// Watches that were created.
    pub watches: u64,
    /// Events that were told.
    pub events: u64,
    /// How often progress was told.
    pub progress: u64,
    /// Watches that were ended since their history was compacted.
    pub compacted: u64,
}

impl WatchLog {
    /// How much was watched.
    pub fn counts(&self) -> WatchCounts {
        let mut counts = WatchCounts { streams: self.streams.len() as u64, ..WatchCounts::default() };
        for word in self.streams.iter().flat_map(|stream| &stream.words) {
            let Heard::Told(told) = &word.heard else { continue };
            counts.watches += u64::from(told.created && !told.canceled);
            counts.events += told.events.len() as u64;
            counts.progress += u64::from(!told.created && !told.canceled && told.events.is_empty());
            counts.compacted += u64::from(told.compact_revision != 0);
        }
        counts
    }
}
