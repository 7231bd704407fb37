//! The rolling hash over everything that happens in a run, in order.
//!
//! Two runs of one seed must have the same hash: it is how a run proves that it can be replayed. Every event carries the
//! virtual time, and the scheduler advances that by a random amount with each poll of a task, so the hash covers the
//! order of scheduling too. The run's thread owns the trace.
//!
//! The last events are kept, so that two traces that part can be compared where they do. Whoever wants all of them has
//! them written to a [`Stream`], one a line.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use madsim::time::TimeHandle;

/// How many of the last events are kept, unless [`keep`] is told otherwise.
const KEPT: usize = 64;

/// One event of the trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its place in the trace, from 0.
    pub number: u64,
    /// Virtual time, in nanoseconds.
    pub at_ns: u64,
    /// What happened.
    pub tag: &'static str,
    /// The first words of its payload.
    pub words: [u64; 4],
    /// The trace's hash after it.
    pub hash: u64,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { number, at_ns, tag, words, hash } = self;
        write!(f, "{number} {}.{:09} {tag} {words:x?} {hash:016x}", at_ns / 1_000_000_000, at_ns % 1_000_000_000)
    }
}

/// Where all events of a run go, one a line; clones share it. What cannot be written is dropped, and all that follows.
#[derive(Clone)]
pub struct Stream(Arc<Mutex<Option<Box<dyn Write + Send>>>>);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl Stream {
    /// A stream into `writer`.
    pub fn new(writer: impl Write + Send + 'static) -> Self {
        Stream(Arc::new(Mutex::new(Some(Box::new(writer)))))
    }

    /// Adds a line.
    pub fn line(&self, line: impl fmt::Display) {
        self.then(|writer| writeln!(writer, "{line}"));
    }

    /// Has everything written that is still under way.
    pub fn flush(&self) {
        self.then(|writer| writer.flush());
    }

    fn then(&self, write: impl FnOnce(&mut dyn Write) -> io::Result<()>) {
        let mut writer = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Whoever reads a stream may have seen enough.
        if writer.as_mut().is_some_and(|writer| write(writer).is_err()) {
            *writer = None;
        }
    }
}

struct Trace {
    hash: Hash,
    events: u64,
    recent: VecDeque<Event>,
    keep: usize,
    stream: Option<Stream>,
}

thread_local! {
    static TRACE: RefCell<Trace> = const {
        RefCell::new(Trace { hash: Hash::NEW, events: 0, recent: VecDeque::new(), keep: KEPT, stream: None })
    };
}

/// Adds an event.
pub fn record(tag: &'static str, words: &[u64]) {
    let at_ns = now_ns();
    TRACE.with_borrow_mut(|trace| {
        trace.hash.bytes(tag.as_bytes());
        trace.hash.word(at_ns);
        trace.hash.word(words.len() as u64);
        for &word in words {
            trace.hash.word(word);
        }
        if trace.keep > 0 || trace.stream.is_some() {
            let mut first = [0; 4];
            for (kept, word) in first.iter_mut().zip(words) {
                *kept = *word;
            }
            let event = Event { number: trace.events, at_ns, tag, words: first, hash: trace.hash.value() };
            if let Some(stream) = &trace.stream {
                stream.line(event);
            }
            if trace.recent.len() == trace.keep {
                trace.recent.pop_front();
            }
            if trace.keep > 0 {
                trace.recent.push_back(event);
            }
        }
        trace.events += 1;
    });
}

/// The hash of everything so far.
pub fn hash() -> u64 {
    TRACE.with_borrow(|trace| trace.hash.value())
}

/// How many events there have been.
pub fn events() -> u64 {
    TRACE.with_borrow(|trace| trace.events)
}

/// The last events, the oldest first.
pub fn recent() -> Vec<Event> {
    TRACE.with_borrow(|trace| trace.recent.iter().copied().collect())
}

/// How many of the last events to keep from now on.
pub fn keep(events: usize) {
    TRACE.with_borrow_mut(|trace| {
        trace.keep = events;
        let surplus = trace.recent.len().saturating_sub(events);
        trace.recent.drain(..surplus);
    });
}

/// Has every event from now on written to a stream, or to none.
pub fn stream(stream: Option<Stream>) {
    TRACE.with_borrow_mut(|trace| trace.stream = stream);
}

/// Begins a new trace.
pub(crate) fn reset() {
    TRACE.with_borrow_mut(|trace| {
        let stream = trace.stream.take();
        *trace = Trace { hash: Hash::NEW, events: 0, recent: VecDeque::new(), keep: trace.keep, stream };
    });
}

/// A digest of bytes, for an event's payload.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut hash = Hash::NEW;
    hash.bytes(bytes);
    hash.value()
}

/// Virtual time since the run began, in nanoseconds; 0 outside of a run.
fn now_ns() -> u64 {
    TimeHandle::try_current().map_or(0, |time| time.elapsed().as_nanos() as u64)
}

/// 128 bits of state, mixed by folded multiplication: quick rather than secure, since nobody forges a trace.
struct Hash {
    low: u64,
    high: u64,
}

impl Hash {
    const NEW: Hash = Hash { low: 0x243f_6a88_85a3_08d3, high: 0x1319_8a2e_0370_7344 };

    fn pair(&mut self, a: u64, b: u64) {
        let product = u128::from(a ^ self.low) * u128::from(b ^ 0xa409_3822_299f_31d1);
        // The sum keeps the state alive when one factor happens to be zero.
        self.high = (self.high.rotate_left(29) ^ (product >> 64) as u64).wrapping_add(b);
        self.low = (self.low.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ product as u64).wrapping_add(self.high);
    }

    fn word(&mut self, word: u64) {
        self.pair(word, 0x082e_fa98_ec4e_6c89);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        let word = |bytes: &[u8]| {
            let mut word = [0; 8];
            word[..bytes.len()].copy_from_slice(bytes);
            u64::from_le_bytes(word)
        };
        let mut chunks = bytes.chunks_exact(16);
        for chunk in &mut chunks {
            self.pair(word(&chunk[..8]), word(&chunk[8..]));
        }
        let rest = chunks.remainder();
        let (first, second) = rest.split_at(rest.len().min(8));
        self.pair(word(first) ^ bytes.len() as u64, word(second));
    }

    fn value(&self) -> u64 {
        let product = u128::from(self.low ^ 0x4528_21e6_38d0_1377) * u128::from(self.high ^ 0xbe54_66cf_34e9_0c6c);
        (product as u64) ^ (product >> 64) as u64 ^ self.low
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_tells_order_tag_and_payload_apart() {
        let run = |events: &[(&'static str, &[u64])]| {
            reset();
            events.iter().for_each(|(tag, words)| record(tag, words));
            hash()
        };
        let mut hashes = vec![
            run(&[]),
            run(&[("a", &[1])]),
            run(&[("b", &[1])]),
            run(&[("a", &[1, 0])]),
            run(&[("a", &[1]), ("b", &[2])]),
            run(&[("b", &[2]), ("a", &[1])]),
        ];
        assert_eq!(hashes[5], run(&[("b", &[2]), ("a", &[1])]));
        hashes.sort_unstable();
        hashes.dedup();
        assert_eq!(hashes.len(), 6);
    }

    #[test]
    fn a_digest_depends_on_every_byte_and_on_the_length() {
        let bytes = vec![0_u8; 100];
        let mut digests: Vec<_> = (0..=100).map(|len| digest(&bytes[..len])).collect();
        for at in 0..100 {
            let mut changed = bytes.clone();
            changed[at] = 1;
            digests.push(digest(&changed));
        }
        digests.sort_unstable();
        digests.dedup();
        assert_eq!(digests.len(), 201);
    }

    #[test]
    fn the_last_events_are_kept() {
        reset();
        keep(2);
        (0..5).for_each(|word| record("event", &[word]));
        assert_eq!(recent().iter().map(|event| event.words[0]).collect::<Vec<_>>(), [3, 4]);
        assert_eq!((events(), recent()[1].hash), (5, hash()));
        keep(KEPT);
    }

    #[test]
    fn a_stream_has_every_event_until_it_breaks_and_changes_no_hash() {
        #[derive(Clone, Default)]
        struct Written(Arc<Mutex<Vec<u8>>>);

        impl Write for Written {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                let mut written = self.0.lock().expect("nobody panics");
                if written.len() > 150 {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                written.extend_from_slice(bytes);
                Ok(bytes.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }

        let run = || {
            reset();
            (0..20).for_each(|word| record("event", &[word]));
            hash()
        };
        let silent = run();
        let written = Written::default();
        stream(Some(Stream::new(written.clone())));
        assert_eq!(run(), silent);
        stream(None);
        let lines = String::from_utf8(written.0.lock().expect("nobody panics").clone()).expect("text");
        assert!(lines.starts_with("0 0.000000000 event [0, 0, 0, 0] ") && lines.contains("\n1 0.000000000 event [1,"));
        assert!(lines.lines().count() < 10, "{lines}");
    }
}
