//! From files to a log.
//!
//! ```text
//! list ─► drop a segment that was never finished ─► read segments in order ─► cut the tail ─► begin a new segment
//! ```
//!
//! Every segment but the last was durable as a whole before the next one was created: any damage in it is refused. In
//! the last one, frames are taken up to the first that is not valid. What is there decides by the greatest durable LSN
//! that any frame of the segment attests, behind the bad one as well, since sectors survive a crash one by one:
//!
//! - it lies beyond the bad frame: the frame was durable, its loss is no crash's doing. Refused.
//! - it does not: the frame and all behind it are the remains of unfinished writes. Cut, with a warning.
//!
//! The cut is made durable before anything else is written, and a segment that held frames is never written to again:
//! the header of the next one tells where it ends. So what was cut cannot come back after a second crash.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;

use super::error::WalError;
use super::record::{LogId, Malformed, Record, State};
use super::segment::{
    BadHeader, FRAME_HEADER_BYTES, FrameHeader, HEADER_BYTES, SECTOR, SegmentHeader, file_name, number_of,
};
use super::writer::{Directory, Sealed, Segment};
use crate::runtime::{Disk, File};

/// An entry, as it was found.
#[derive(Clone, Debug)]
pub struct RecoveredEntry {
    /// Its identity.
    pub id: LogId,
    /// Its payload: shares the memory of the segment that was read.
    pub payload: Bytes,
    file: Arc<str>,
    offset: u64,
}

impl RecoveredEntry {
    /// The refusal of a payload that makes no sense to its owner: names the segment, and the offset of its frame.
    pub fn refuse(&self, reason: impl std::fmt::Display) -> WalError {
        WalError::damaged(&self.file, self.offset, format!("entry {}: {reason}", self.id))
    }
}

/// The tail of the log was cut: remains of writes that had not been flushed when the member stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub file: String,
    /// Where it ends now.
    pub offset: u64,
    /// How many bytes were cut.
    pub bytes: u64,
}

/// What a log held when it was opened.
#[derive(Clone, Debug, Default)]
pub struct Recovered {
    /// Vote, committed, purged and last.
    pub state: State,
    /// All entries after the purged one, in order, without gaps.
    pub entries: Vec<RecoveredEntry>,
    /// What was cut, if anything.
    pub cut: Option<Cut>,
}

/// A log that is ready to be written to.
pub(super) struct Opened<D: Disk> {
    pub(super) recovered: Recovered,
    pub(super) active: Segment<D>,
    pub(super) sealed: VecDeque<Sealed>,
    /// Where the next frame goes; all below is durable.
    pub(super) end: u64,
}

/// Reads the log in a directory, which is made if need be, and makes it ready to be written to.
pub(super) async fn open<D: Disk>(directory: &Directory<D>) -> Result<Opened<D>, WalError> {
    let numbers = list(directory).await?;
    let mut replay = Replay::default();
    let mut sealed = VecDeque::new();
    let mut cut = None;

    let Some((&last, complete)) = numbers.split_last() else {
        let active = directory.create(1, 0, State::default()).await?;
        return Ok(Opened { recovered: Recovered::default(), active, sealed, end: HEADER_BYTES });
    };
    for &number in complete {
        let segment = Reading::start(directory, number, &mut replay)?;
        let read = segment.frames(&mut replay)?;
        if read.end != segment.bytes.len() {
            return Err(WalError::damaged(&segment.path, read.end as u64, "an invalid frame in a complete segment"));
        }
        replay.end = Some(segment.header.base + read.end as u64);
        sealed.push_back(Sealed { number, entries_max: read.entries_max });
    }

    let tail = Reading::start(directory, last, &mut replay)?;
    let read = tail.frames(&mut replay)?;
    let end = tail.header.base + read.end as u64;
    if read.end < tail.bytes.len() {
        let attested = tail.greatest_attested();
        if attested > end {
            let reason =
                format!("an invalid frame, though everything below {} was durable", attested - tail.header.base);
            return Err(WalError::damaged(&tail.path, read.end as u64, reason));
        }
        let bytes = (tail.bytes.len() - read.end) as u64;
        tracing::warn!(
            file = tail.path,
            offset = read.end,
            bytes,
            "cut the tail of the write-ahead log: it was never flushed"
        );
        tail.file.set_size(read.end as u64).map_err(WalError::io("cut", &tail.path))?;
        cut = Some(Cut { file: tail.path.clone(), offset: read.end as u64, bytes });
    }
    // What a killed process left in the page cache was read like everything else, and is now built upon.
    tail.file.sync().await.map_err(WalError::io("sync", &tail.path))?;
    directory.sync().await?;

    let recovered = replay.finish(cut.clone(), &directory.path_of(numbers[0]))?;
    let untouched = read.end as u64 == HEADER_BYTES && cut.is_none();
    let active = if untouched {
        let Reading { header, path, file, .. } = tail;
        Segment { file, path, number: last, base: header.base, seed: header.seed(), entries_max: None }
    } else {
        sealed.push_back(Sealed { number: last, entries_max: read.entries_max });
        directory.create(last + 1, end, recovered.state).await?
    };
    let end = active.base + HEADER_BYTES;
    Ok(Opened { recovered, active, sealed, end })
}

/// The numbers of the segments, without gaps. A last one that was never finished is removed.
async fn list<D: Disk>(directory: &Directory<D>) -> Result<Vec<u64>, WalError> {
    let Directory { disk, path, .. } = directory;
    disk.create_dir(path).map_err(WalError::io("create directory", path))?;
    let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
    disk.sync_dir(parent).await.map_err(WalError::io("sync directory", parent))?;

    let mut numbers = Vec::new();
    for name in disk.list(path).map_err(WalError::io("list", path))? {
        match number_of(&name) {
            Some(number) => numbers.push(number),
            None => tracing::warn!(directory = path, name, "not a segment of the write-ahead log"),
        }
    }
    numbers.sort_unstable();
    for pair in numbers.windows(2) {
        if pair[1] != pair[0] + 1 {
            return Err(WalError::Missing { file: directory.path_of(pair[0] + 1) });
        }
    }

    if let Some(&last) = numbers.last() {
        let (_, bytes) = read(directory, last)?;
        // Frames are written once header and name are durable. So a bad header without anything behind it was cut off
        // while the segment was created, and there has to be a segment before it, unless it is the very first.
        let unfinished = bytes.len() <= SECTOR && SegmentHeader::decode(&bytes) == Err(BadHeader::Damaged);
        if unfinished && (numbers.len() > 1 || last == 1) {
            directory.remove(last).await?;
            numbers.pop();
        }
    }
    Ok(numbers)
}

fn read<D: Disk>(directory: &Directory<D>, number: u64) -> Result<(D::File, Bytes), WalError> {
    let path = directory.path_of(number);
    let file = directory.disk.open(&path).map_err(WalError::io("open", &path))?;
    let size = file.size().map_err(WalError::io("inspect", &path))?;
    let mut bytes = vec![0; size as usize];
    file.read_at(0, &mut bytes).map_err(WalError::io("read", &path))?;
    Ok((file, bytes.into()))
}

/// A segment that is being read.
struct Reading<D: Disk> {
    path: String,
    file: D::File,
    bytes: Bytes,
    header: SegmentHeader,
}

/// How far the frames of a segment went.
struct Frames {
    /// The offset behind the last valid one.
    end: usize,
    entries_max: Option<u64>,
}

impl<D: Disk> Reading<D> {
    /// Reads a segment, and makes sure that it follows from those before it.
    fn start(directory: &Directory<D>, number: u64, replay: &mut Replay) -> Result<Self, WalError> {
        let path = directory.path_of(number);
        let (file, bytes) = read(directory, number)?;
        let header = SegmentHeader::decode(&bytes).map_err(|bad| match bad {
            BadHeader::Damaged => WalError::damaged(&path, 0, "an invalid segment header"),
            BadHeader::Version(version) => WalError::Version { file: path.clone(), version },
        })?;
        if header.node != directory.node {
            return Err(WalError::Foreign { file: path, owner: header.node, node: directory.node });
        }
        if header.number != number {
            let reason = format!("the header of segment {}", file_name(header.number));
            return Err(WalError::damaged(&path, 0, reason));
        }
        match replay.end {
            None => replay.begin(header.state),
            Some(end) if end != header.base => {
                let reason = format!("begins at {}, but the segment before ends at {end}", header.base);
                return Err(WalError::damaged(&path, 0, reason));
            }
            Some(_) if replay.state != header.state => {
                return Err(WalError::damaged(&path, 0, "begins with another state than the segment before ends with"));
            }
            Some(_) => {}
        }
        Ok(Reading { path, file, bytes, header })
    }

    /// Takes in every record up to the first invalid frame.
    fn frames(&self, replay: &mut Replay) -> Result<Frames, WalError> {
        let path: Arc<str> = self.path.as_str().into();
        let mut frames = Frames { end: SECTOR, entries_max: None };
        while let Some(header) = self.frame(frames.end) {
            let next = frames.end + header.frame_bytes();
            let Some(frame) = self.bytes.get(frames.end..next) else { break };
            if !header.vouches_for(frame, self.header.seed()) {
                break;
            }
            let offset = frames.end as u64;
            let refuse = |reason: String| WalError::damaged(&path, offset, reason);
            let body = frames.end + FRAME_HEADER_BYTES;
            let mut records = self.bytes.slice(body..body + header.length as usize);
            for _ in 0..header.records {
                let record = Record::decode(&mut records).map_err(|Malformed(reason)| refuse(reason.to_owned()))?;
                if let Record::Entry(id, _) = &record {
                    frames.entries_max = frames.entries_max.max(Some(id.index));
                }
                replay.apply(record, &path, offset).map_err(refuse)?;
            }
            if !records.is_empty() {
                return Err(refuse("more bytes than records".to_owned()));
            }
            frames.end = next;
        }
        Ok(frames)
    }

    fn frame(&self, offset: usize) -> Option<FrameHeader> {
        FrameHeader::decode(self.bytes.get(offset..)?, self.header.seed(), self.header.base + offset as u64)
    }

    /// The greatest LSN below which everything was durable, by the word of any frame whose header is whole.
    fn greatest_attested(&self) -> u64 {
        let heads = (SECTOR..self.bytes.len()).step_by(SECTOR).filter_map(|offset| self.frame(offset));
        heads.map(|header| header.durable).fold(self.header.base, u64::max)
    }
}

/// The log as far as it has been read.
#[derive(Default)]
struct Replay {
    state: State,
    entries: VecDeque<RecoveredEntry>,
    /// Entries up to this index were in segments that are gone. They have to be purged in the end, or cut away.
    gone: Option<u64>,
    /// The LSN behind the last segment that was read.
    end: Option<u64>,
}

impl Replay {
    fn begin(&mut self, state: State) {
        self.state = state;
        self.gone = state.last.map(|last| last.index);
    }

    fn apply(&mut self, record: Record<Bytes>, file: &Arc<str>, offset: u64) -> Result<(), String> {
        self.state.apply(&record).map_err(|disorder| disorder.to_string())?;
        match record {
            Record::Entry(id, payload) => {
                self.entries.push_back(RecoveredEntry { id, payload, file: file.clone(), offset });
            }
            Record::TruncateAfter(after) => {
                let index = after.map(|id| id.index);
                while self.entries.back().is_some_and(|entry| Some(entry.id.index) > index) {
                    self.entries.pop_back();
                }
                self.gone = self.gone.min(index);
                if let (Some(entry), Some(after)) = (self.entries.back(), after)
                    && entry.id != after
                {
                    return Err(format!("a cut after {after}, where {} is", entry.id));
                }
            }
            Record::PurgeUpTo(upto) => {
                while self.entries.front().is_some_and(|entry| entry.id.index <= upto.index) {
                    self.entries.pop_front();
                }
            }
            Record::Vote(_) | Record::Committed(_) => {}
        }
        Ok(())
    }

    fn finish(self, cut: Option<Cut>, first: &str) -> Result<Recovered, WalError> {
        let Replay { state, mut entries, gone, .. } = self;
        let purged = state.purged.map(|purged| purged.index);
        if gone > purged {
            let reason = format!("entries up to {} were in segments that are missing", gone.unwrap_or_default());
            return Err(WalError::damaged(first, 0, reason));
        }
        entries.retain(|entry| Some(entry.id.index) > purged);
        Ok(Recovered { state, entries: entries.into(), cut })
    }
}
