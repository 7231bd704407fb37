//! What the log consists of, and what follows from it.
//!
//! A [`Record`] is one change of a member's durable raft state; a [`State`] is what all changes up to a point amount to,
//! entries aside. The writer and the recovery apply records through the same [`State::apply`], so that a log which was
//! accepted when written is accepted when read.
//!
//! ```text
//! record          vote       committed   purged   last
//! vote T1 n1      T1 n1      -           -        -
//! entry 1.1       T1 n1      -           -        1.1
//! entry 1.2       T1 n1      -           -        1.2
//! committed 1.1   T1 n1      1.1         -        1.2
//! truncate 1.1    T1 n1      1.1         -        1.1      a conflict: 1.2 was never committed
//! entry 2.2       T1 n1      1.1         -        2.2
//! purge 1.1       T1 n1      1.1         1.1      2.2
//! ```

use std::fmt;

use bytes::{Buf, Bytes};

use crate::ids::{NodeId, Term};

/// The identity of an entry. Ordered by term, then index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogId {
    /// The term it was proposed in.
    pub term: Term,
    /// Its place in the log.
    pub index: u64,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.term, self.index)
    }
}

/// A member's vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The term voted in.
    pub term: Term,
    /// Who the vote is for.
    pub candidate: NodeId,
    /// Whether a quorum had granted it.
    pub committed: bool,
}

/// One change of a member's durable raft state. `P` holds an entry's payload, whose meaning is the caller's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Record<P> {
    /// An entry, one index after the last.
    Entry(LogId, P),
    /// A vote, instead of the one before.
    Vote(Vote),
    /// Entries up to this one are known to be committed.
    Committed(LogId),
    /// Entries after this one never happened; all of them, if there is no such one.
    TruncateAfter(Option<LogId>),
    /// Entries up to this one are in a snapshot, and are not needed any more.
    PurgeUpTo(LogId),
}

/// A record does not follow from those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disorder {
    /// An entry would leave a hole, overwrite another one, or go back in term.
    #[error("entry {entry} does not follow the last entry {last}")]
    Entry {
        /// The entry.
        entry: LogId,
        /// The last one in the log.
        last: LogId,
    },
    /// A truncation would reach entries that are purged, or one that is not there.
    #[error(
        "the log cannot be cut after {}: purged up to {}, last is {}",
        or_none(after),
        or_none(purged),
        or_none(last)
    )]
    Truncation {
        /// Where to cut.
        after: Option<LogId>,
        /// The last purged entry.
        purged: Option<LogId>,
        /// The last entry.
        last: Option<LogId>,
    },
}

fn or_none(id: &Option<LogId>) -> String {
    id.map_or_else(|| "none".to_owned(), |id| id.to_string())
}

/// What a member has to remember beside its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry known to be committed.
    pub committed: Option<LogId>,
    /// The last entry that is not needed any more.
    pub purged: Option<LogId>,
    /// The last entry, or the last purged one if there is none after it.
    pub last: Option<LogId>,
}

impl State {
    /// Takes a record in, or refuses it and stays as it was.
    pub(super) fn apply<P>(&mut self, record: &Record<P>) -> Result<(), Disorder> {
        match *record {
            Record::Entry(entry, _) => {
                if let Some(last) = self.last
                    && (last.index.checked_add(1) != Some(entry.index) || entry.term < last.term)
                {
                    return Err(Disorder::Entry { entry, last });
                }
                self.last = Some(entry);
            }
            Record::Vote(vote) => self.vote = Some(vote),
            Record::Committed(id) => self.committed = Some(id),
            Record::TruncateAfter(after) => {
                let index = after.map(|id| id.index);
                if index > self.last.map(|id| id.index) || index < self.purged.map(|id| id.index) {
                    return Err(Disorder::Truncation { after, purged: self.purged, last: self.last });
                }
                self.last = after;
            }
            Record::PurgeUpTo(upto) => {
                if self.purged.is_none_or(|purged| purged.index < upto.index) {
                    self.purged = Some(upto);
                }
                if self.last.is_none_or(|last| last.index < upto.index) {
                    self.last = Some(upto);
                }
            }
        }
        Ok(())
    }
}

const ENTRY: u8 = 1;
const VOTE: u8 = 2;
const COMMITTED: u8 = 3;
const TRUNCATE_AFTER: u8 = 4;
const PURGE_UP_TO: u8 = 5;

impl Record<&[u8]> {
    /// Appends the encoding, whose layout is in FORMAT.md.
    ///
    /// # Panics
    ///
    /// If a payload is longer than `u32::MAX`; the queue refuses such long before.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Record::Entry(id, payload) => {
                let length = u32::try_from(payload.len()).expect("a payload fits into a frame");
                out.push(ENTRY);
                encode_id(id, out);
                out.extend_from_slice(&length.to_le_bytes());
                out.extend_from_slice(payload);
            }
            Record::Vote(vote) => {
                out.push(VOTE);
                out.extend_from_slice(&vote.term.to_le_bytes());
                out.extend_from_slice(&vote.candidate.0.to_le_bytes());
                out.push(u8::from(vote.committed));
            }
            Record::Committed(id) => {
                out.push(COMMITTED);
                encode_id(id, out);
            }
            Record::TruncateAfter(after) => {
                out.push(TRUNCATE_AFTER);
                out.push(u8::from(after.is_some()));
                encode_id(after.unwrap_or(LogId { term: 0, index: 0 }), out);
            }
            Record::PurgeUpTo(id) => {
                out.push(PURGE_UP_TO);
                encode_id(id, out);
            }
        }
    }

    /// The greatest length that [`encode`](Record::encode) adds to a payload's.
    pub(super) const OVERHEAD_MAX: usize = 1 + 16 + 4;
}

impl Record<Bytes> {
    /// Takes one record from the front of `bytes`; an entry's payload shares their memory.
    pub(super) fn decode(bytes: &mut Bytes) -> Result<Self, Malformed> {
        match take(bytes, Bytes::try_get_u8)? {
            ENTRY => {
                let id = decode_id(bytes)?;
                let length = take(bytes, Bytes::try_get_u32_le)? as usize;
                if length > bytes.len() {
                    return Err(Malformed("an entry ends beyond its frame"));
                }
                Ok(Record::Entry(id, bytes.split_to(length)))
            }
            VOTE => {
                let term = take(bytes, Bytes::try_get_u64_le)?;
                let candidate = NodeId(take(bytes, Bytes::try_get_u64_le)?);
                Ok(Record::Vote(Vote { term, candidate, committed: decode_bool(bytes)? }))
            }
            COMMITTED => Ok(Record::Committed(decode_id(bytes)?)),
            TRUNCATE_AFTER => {
                let some = decode_bool(bytes)?;
                let id = decode_id(bytes)?;
                Ok(Record::TruncateAfter(some.then_some(id)))
            }
            PURGE_UP_TO => Ok(Record::PurgeUpTo(decode_id(bytes)?)),
            _ => Err(Malformed("a record of an unknown kind")),
        }
    }
}

/// Bytes with a right checksum that are no record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed(pub(super) &'static str);

fn take<T, E>(bytes: &mut Bytes, get: impl FnOnce(&mut Bytes) -> Result<T, E>) -> Result<T, Malformed> {
    get(bytes).map_err(|_| Malformed("a record ends beyond its frame"))
}

fn encode_id(id: LogId, out: &mut Vec<u8>) {
    out.extend_from_slice(&id.term.to_le_bytes());
    out.extend_from_slice(&id.index.to_le_bytes());
}

fn decode_id(bytes: &mut Bytes) -> Result<LogId, Malformed> {
    Ok(LogId { term: take(bytes, Bytes::try_get_u64_le)?, index: take(bytes, Bytes::try_get_u64_le)? })
}

fn decode_bool(bytes: &mut Bytes) -> Result<bool, Malformed> {
    match take(bytes, Bytes::try_get_u8)? {
        0 => Ok(false),
        1 => Ok(true),
        _ => Err(Malformed("a flag that is neither 0 nor 1")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(term: u64, index: u64) -> LogId {
        LogId { term, index }
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let records: [Record<&[u8]>; 7] = [
            Record::Entry(id(1, 2), b"payload"),
            Record::Entry(id(u64::MAX, u64::MAX), b""),
            Record::Vote(Vote { term: 3, candidate: NodeId(4), committed: true }),
            Record::Committed(id(5, 6)),
            Record::TruncateAfter(None),
            Record::TruncateAfter(Some(id(7, 8))),
            Record::PurgeUpTo(id(9, 10)),
        ];
        let mut encoded = Vec::new();
        for record in &records {
            let before = encoded.len();
            record.encode(&mut encoded);
            let payload = if let Record::Entry(_, payload) = record { payload.len() } else { 0 };
            assert!(encoded.len() - before <= payload + Record::OVERHEAD_MAX);
        }
        let mut bytes = Bytes::from(encoded);
        for record in records {
            let decoded = Record::decode(&mut bytes).expect("it was just encoded");
            match (record, decoded) {
                (Record::Entry(id, payload), Record::Entry(decoded, bytes)) => {
                    assert_eq!((id, payload), (decoded, &bytes[..]));
                }
                (Record::Vote(vote), Record::Vote(decoded)) => assert_eq!(vote, decoded),
                (Record::Committed(id), Record::Committed(decoded))
                | (Record::PurgeUpTo(id), Record::PurgeUpTo(decoded)) => assert_eq!(id, decoded),
                (Record::TruncateAfter(after), Record::TruncateAfter(decoded)) => assert_eq!(after, decoded),
                (record, decoded) => panic!("{record:?} became {decoded:?}"),
            }
        }
        assert!(bytes.is_empty());
    }

    #[test]
    fn a_record_cut_anywhere_is_malformed() {
        let mut encoded = Vec::new();
        Record::Entry(id(1, 2), b"payload".as_slice()).encode(&mut encoded);
        for length in 0..encoded.len() {
            let mut cut = Bytes::copy_from_slice(&encoded[..length]);
            assert!(Record::decode(&mut cut).is_err(), "{length} bytes of {} were accepted", encoded.len());
        }
    }

    #[test]
    fn holes_overwrites_and_older_terms_are_refused() {
        let mut state = State::default();
        let entry = |term, index| Record::Entry(id(term, index), ());
        // A log may begin anywhere: a member that was sent a snapshot begins after it.
        state.apply(&entry(2, 5)).expect("the first entry");
        for wrong in [entry(2, 5), entry(2, 7), entry(1, 6)] {
            let before = state;
            state.apply(&wrong).expect_err("it does not follow");
            assert_eq!(before, state);
        }
        state.apply(&Record::<()>::PurgeUpTo(id(2, 9))).expect("a purge may run ahead of the log");
        assert_eq!(Some(id(2, 9)), state.last);
        state.apply(&Record::<()>::TruncateAfter(Some(id(2, 8)))).expect_err("8 is purged");
        state.apply(&Record::<()>::TruncateAfter(None)).expect_err("9 is purged");
        state.apply(&Record::<()>::TruncateAfter(Some(id(2, 10)))).expect_err("10 was never there");
        state.apply(&entry(2, 10)).expect("it follows the purged one");
    }
}
