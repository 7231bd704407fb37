//! The frame of the bytes: segment files, their headers, and the frames in them.
//!
//! Each byte of the log has a position, its LSN, that is never used again: a segment's base plus an offset in its file.
//! Checksums are seeded with the owner and the number of the segment, and frames carry their LSN, so that a frame that
//! ended up in the wrong place, or that lay there from before, is not taken for the right one.
//!
//! ```text
//! 000000000000002a.wal     base = LSN of its first byte
//! ├─ header    one sector: who, which, base, state of the log at this point
//! ├─ frame     whole sectors: header · records · zeros
//! ├─ frame     ...
//! └─ end       the base of 000000000000002b.wal
//! ```
//!
//! Frames fill whole sectors: a sector that was synced is never written again, so that a power cut during a later write
//! cannot tear it.

use crc32c::{crc32c, crc32c_append};

use super::record::{LogId, State, Vote};
use crate::ids::NodeId;

/// What a disk writes as a unit, and the unit of frames.
pub(super) const SECTOR: usize = 512;
/// The length of a segment's header.
pub(super) const HEADER_BYTES: u64 = SECTOR as u64;
/// The length of a frame's header.
pub(super) const FRAME_HEADER_BYTES: usize = 40;
/// The greatest length of a frame, far below what its length field can hold.
pub(super) const FRAME_BYTES_MAX: usize = 1 << 30;

const _: () = assert!(FRAME_HEADER_BYTES < SECTOR && FRAME_BYTES_MAX.is_multiple_of(SECTOR));
// A frame's length has to stand in 32 bits, padding included.
const _: () = assert!(FRAME_BYTES_MAX < u32::MAX as usize);

const MAGIC: [u8; 8] = *b"SEEDBWAL";
const VERSION: u32 = 1;
const FRAME_MAGIC: [u8; 4] = *b"SBWF";

/// The name of a segment's file.
pub(super) fn file_name(number: u64) -> String {
    format!("{number:016x}.wal")
}

/// The number of the segment with this file name.
pub(super) fn number_of(file_name: &str) -> Option<u64> {
    let number = u64::from_str_radix(file_name.strip_suffix(".wal")?, 16).ok()?;
    (self::file_name(number) == file_name).then_some(number)
}

/// Rounds a length up to whole sectors.
pub(super) fn padded(length: usize) -> usize {
    length.next_multiple_of(SECTOR)
}

/// A segment's first sector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    /// Whose log it is.
    pub(super) node: NodeId,
    /// Segments are numbered from 1, without gaps.
    pub(super) number: u64,
    /// The LSN of the first byte. All below is durable since before this segment was created.
    pub(super) base: u64,
    /// What all records below the base amount to.
    pub(super) state: State,
}

/// Why a sector is no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BadHeader {
    /// It is not what was written.
    Damaged,
    /// It is of a later format.
    Version(u32),
}

const HAS_VOTE: u64 = 1;
const VOTE_COMMITTED: u64 = 1 << 1;
const HAS_COMMITTED: u64 = 1 << 2;
const HAS_PURGED: u64 = 1 << 3;
const HAS_LAST: u64 = 1 << 4;

impl SegmentHeader {
    /// The sector.
    pub(super) fn encode(&self) -> [u8; SECTOR] {
        let State { vote, committed, purged, last } = self.state;
        let flag = |set: bool, bit: u64| if set { bit } else { 0 };
        let flags = flag(vote.is_some(), HAS_VOTE)
            | flag(vote.is_some_and(|vote| vote.committed), VOTE_COMMITTED)
            | flag(committed.is_some(), HAS_COMMITTED)
            | flag(purged.is_some(), HAS_PURGED)
            | flag(last.is_some(), HAS_LAST);
        let pair = |id: Option<LogId>| id.map_or([0, 0], |id| [id.term, id.index]);
        let [committed, purged, last] = [committed, purged, last].map(pair);
        let vote = vote.map_or([0, 0], |vote| [vote.term, vote.candidate.0]);

        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(&MAGIC);
        sector[8..12].copy_from_slice(&VERSION.to_le_bytes());
        let fields =
            [self.node.0, self.number, self.base, flags].into_iter().chain([vote, committed, purged, last].concat());
        for (place, field) in sector[16..].chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field.to_le_bytes());
        }
        let crc = Self::checksum(&sector);
        sector[12..16].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// Reads the sector.
    pub(super) fn decode(sector: &[u8]) -> Result<Self, BadHeader> {
        if sector.len() < SECTOR || sector[..8] != MAGIC || u32_at(sector, 12) != Self::checksum(&sector[..SECTOR]) {
            return Err(BadHeader::Damaged);
        }
        let version = u32_at(sector, 8);
        if version != VERSION {
            return Err(BadHeader::Version(version));
        }
        let field = |place: usize| u64_at(sector, 16 + place * 8);
        let flags = field(3);
        let id =
            |bit: u64, place: usize| (flags & bit != 0).then(|| LogId { term: field(place), index: field(place + 1) });
        let vote = (flags & HAS_VOTE != 0).then(|| Vote {
            term: field(4),
            candidate: NodeId(field(5)),
            committed: flags & VOTE_COMMITTED != 0,
        });
        let state = State { vote, committed: id(HAS_COMMITTED, 6), purged: id(HAS_PURGED, 8), last: id(HAS_LAST, 10) };
        Ok(SegmentHeader { node: NodeId(field(0)), number: field(1), base: field(2), state })
    }

    /// Of the whole sector but the checksum itself.
    fn checksum(sector: &[u8]) -> u32 {
        crc32c_append(crc32c(&sector[..12]), &sector[16..])
    }

    /// What the checksums of this segment's frames begin with.
    pub(super) fn seed(&self) -> u32 {
        crc32c_append(crc32c(&self.node.0.to_le_bytes()), &self.number.to_le_bytes())
    }
}

/// The head of a frame: one write, whole or not at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FrameHeader {
    /// The frame's own position.
    pub(super) lsn: u64,
    /// Everything below this LSN was durable when the frame was written: the frame attests it.
    pub(super) durable: u64,
    /// The length of the records, without header and padding.
    pub(super) length: u32,
    /// How many records there are.
    pub(super) records: u32,
    body: u32,
}

impl FrameHeader {
    /// Makes a frame of `buffer`, which holds room for the header and then the records: pads it and fills the header in.
    pub(super) fn seal(buffer: &mut Vec<u8>, seed: u32, lsn: u64, durable: u64, records: u32) {
        debug_assert!(durable <= lsn && lsn.is_multiple_of(SECTOR as u64));
        let length = u32::try_from(buffer.len() - FRAME_HEADER_BYTES).expect("the queue bounds a frame's length");
        buffer.resize(padded(buffer.len()), 0);
        let body = Self::body_checksum(seed, lsn, &buffer[FRAME_HEADER_BYTES..]);
        buffer[..4].copy_from_slice(&FRAME_MAGIC);
        buffer[8..16].copy_from_slice(&lsn.to_le_bytes());
        buffer[16..24].copy_from_slice(&durable.to_le_bytes());
        buffer[24..28].copy_from_slice(&length.to_le_bytes());
        buffer[28..32].copy_from_slice(&records.to_le_bytes());
        buffer[32..36].copy_from_slice(&body.to_le_bytes());
        buffer[36..40].fill(0);
        let crc = crc32c_append(seed, &buffer[8..FRAME_HEADER_BYTES]);
        buffer[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the head of the frame that is at `lsn`, if there is one.
    pub(super) fn decode(bytes: &[u8], seed: u32, lsn: u64) -> Option<Self> {
        if bytes.len() < FRAME_HEADER_BYTES
            || bytes[..4] != FRAME_MAGIC
            || u32_at(bytes, 4) != crc32c_append(seed, &bytes[8..FRAME_HEADER_BYTES])
        {
            return None;
        }
        let header = FrameHeader {
            lsn: u64_at(bytes, 8),
            durable: u64_at(bytes, 16),
            length: u32_at(bytes, 24),
            records: u32_at(bytes, 28),
            body: u32_at(bytes, 32),
        };
        (header.lsn == lsn && header.durable <= lsn).then_some(header)
    }

    /// The length of the whole frame.
    pub(super) fn frame_bytes(&self) -> usize {
        padded(FRAME_HEADER_BYTES + self.length as usize)
    }

    /// Whether `frame`, the whole frame, is what was written.
    pub(super) fn vouches_for(&self, frame: &[u8], seed: u32) -> bool {
        self.body == Self::body_checksum(seed, self.lsn, &frame[FRAME_HEADER_BYTES..])
    }

    fn body_checksum(seed: u32, lsn: u64, body: &[u8]) -> u32 {
        crc32c_append(crc32c_append(seed, &lsn.to_le_bytes()), body)
    }
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(bytes[offset..offset + 4].try_into().expect("four bytes"))
}

fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(bytes[offset..offset + 8].try_into().expect("eight bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> SegmentHeader {
        let id = |term, index| Some(LogId { term, index });
        let vote = Some(Vote { term: 9, candidate: NodeId(3), committed: true });
        let state = State { vote, committed: id(7, 20), purged: id(6, 10), last: id(8, 30) };
        SegmentHeader { node: NodeId(5), number: 42, base: 4096, state }
    }

    fn frame(seed: u32, lsn: u64) -> Vec<u8> {
        let mut buffer = vec![0; FRAME_HEADER_BYTES];
        buffer.extend_from_slice(b"records");
        FrameHeader::seal(&mut buffer, seed, lsn, 512, 1);
        buffer
    }

    #[test]
    fn only_names_that_we_give_are_segments() {
        assert_eq!(Some(42), number_of(&file_name(42)));
        assert_eq!(Some(u64::MAX), number_of(&file_name(u64::MAX)));
        for name in ["2a.wal", "000000000000002A.wal", "000000000000002a.wal.tmp", "+00000000000002a.wal", ""] {
            assert_eq!(None, number_of(name), "{name}");
        }
    }

    #[test]
    fn a_segment_header_survives_and_any_flipped_bit_is_noticed() {
        let sector = header().encode();
        assert_eq!(Ok(header()), SegmentHeader::decode(&sector));
        let empty = SegmentHeader { state: State::default(), ..header() };
        assert_eq!(Ok(empty), SegmentHeader::decode(&empty.encode()));
        for bit in 0..SECTOR * 8 {
            let mut damaged = sector;
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Err(BadHeader::Damaged), SegmentHeader::decode(&damaged), "bit {bit}");
        }
        assert_eq!(Err(BadHeader::Damaged), SegmentHeader::decode(&sector[..SECTOR - 1]));
    }

    #[test]
    fn a_frame_survives_and_any_flipped_bit_is_noticed() {
        let seed = header().seed();
        let sealed = frame(seed, 1024);
        let valid =
            |bytes: &[u8]| FrameHeader::decode(bytes, seed, 1024).is_some_and(|header| header.vouches_for(bytes, seed));
        assert!(valid(&sealed));
        for bit in 0..sealed.len() * 8 {
            let mut damaged = sealed.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(!valid(&damaged), "bit {bit}");
        }
    }

    #[test]
    fn a_frame_is_valid_in_its_own_place_only() {
        let seed = header().seed();
        let sealed = frame(seed, 1024);
        assert!(FrameHeader::decode(&sealed, seed, 1536).is_none(), "at another position");
        let elsewhere = SegmentHeader { number: 43, ..header() }.seed();
        assert!(FrameHeader::decode(&sealed, elsewhere, 1024).is_none(), "in another segment");
        let other = SegmentHeader { node: NodeId(6), ..header() }.seed();
        assert!(FrameHeader::decode(&sealed, other, 1024).is_none(), "of another member");
    }
}
