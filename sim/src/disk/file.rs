//! One file: what the page cache shows, what the medium holds, and what is on its way between the two.
//!
//! ```text
//! write_at ─► image        the page cache, read back at once
//!              │ dirty sectors
//!   sync ──────┤ capture: a copy of the dirty sectors, and the size
//!              ▼
//!            flights       in order; each reaches the medium at its due time
//!              │
//!              ▼
//!            durable       what a crash leaves, but for the sectors that it keeps or tears on top
//! ```
//!
//! Flights end in the order they began, so that a sync that has returned covers every sync before it. A *barrier* is a
//! flight that nobody needs to await, behind which a crash keeps nothing of what came later unless it is whole itself:
//!
//! ```text
//! flights:  a  b|  c|  d, dirty      ( | a barrier )
//! stages:   0      1    2            a crash cuts at one of them: whole before it, nothing behind it,
//!                                    and in the cut one each sector is kept, lost or torn
//! ```

use std::collections::{BTreeSet, VecDeque};

use rand_pcg::Pcg64;

use super::DiskStats;
use super::damage::Write;
use super::sectors::{SECTOR, Sectors};
use crate::rng::Draw;

/// What a device is asked to write at once, at most.
const PAGE: usize = 8 * SECTOR;

/// A part of a file as it was when it was captured.
#[derive(Debug)]
struct Extent {
    offset: usize,
    data: Vec<u8>,
}

/// What one sync is to make durable.
#[derive(Debug)]
struct Change {
    /// The least size since the change before: all that lay beyond it is gone, even if the file has grown again.
    cut_to: Option<usize>,
    size: usize,
    extents: Vec<Extent>,
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    due_ns: u64,
    barrier: bool,
    change: Change,
}

/// One file.
#[derive(Debug, Default)]
pub(super) struct FileData {
    image: Vec<u8>,
    durable: Vec<u8>,
    dirty: Sectors,
    cut_to: Option<usize>,
    /// The size in the last capture.
    captured_size: usize,
    flights: VecDeque<Flight>,
    /// The last flight that began, and the last that reached the medium. Tickets count from 1.
    begun: u64,
    landed: u64,
    last_barrier: u64,
    /// The bytes that the last flight brought which brought any.
    last_landed: Vec<(usize, usize)>,
    /// Sectors on the medium that do not hold what was written there last.
    damaged: BTreeSet<usize>,
}

impl FileData {
    pub(super) fn size(&self) -> usize {
        self.image.len()
    }

    pub(super) fn image(&self) -> &[u8] {
        &self.image
    }

    pub(super) fn durable(&self) -> &[u8] {
        &self.durable
    }

    pub(super) fn last_barrier(&self) -> u64 {
        self.last_barrier
    }

    /// Whether a flight has reached the medium.
    pub(super) fn landed(&self, ticket: u64) -> bool {
        ticket <= self.landed
    }

    /// When a flight is to reach the medium.
    pub(super) fn due_ns(&self, ticket: u64) -> u64 {
        self.flights.iter().find(|flight| flight.ticket == ticket).map_or(0, |flight| flight.due_ns)
    }

    /// Sectors whose latest content is not on the medium yet, plus one for an unsynced size.
    pub(super) fn unsynced(&self) -> u64 {
        let flying: usize = self
            .flights
            .iter()
            .flat_map(|flight| &flight.change.extents)
            .map(|extent| extent.data.len().div_ceil(SECTOR))
            .sum();
        (self.dirty.len() + flying) as u64 + u64::from(self.size_unsynced() || self.durable.len() != self.image.len())
    }

    fn size_unsynced(&self) -> bool {
        self.cut_to.is_some() || self.captured_size != self.image.len()
    }

    pub(super) fn write(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        let end = offset + data.len();
        if self.image.len() < end {
            self.image.resize(end, 0);
        }
        self.image[offset..end].copy_from_slice(data);
        self.dirty.insert_bytes(offset, end);
    }

    pub(super) fn set_size(&mut self, size: usize) {
        if size < self.image.len() {
            self.cut_to = Some(self.cut_to.map_or(size, |cut| cut.min(size)));
            self.dirty.truncate(size.div_ceil(SECTOR));
        }
        self.image.resize(size, 0);
    }

    /// Begins to write back all that is dirty. Returns the flight's ticket.
    pub(super) fn capture(&mut self, barrier: bool, due_ns: u64) -> u64 {
        let change = self.take_dirty();
        // A later flight covers the earlier ones, so it cannot land before them.
        let due_ns = self.flights.back().map_or(due_ns, |last| due_ns.max(last.due_ns));
        self.begun += 1;
        if barrier {
            self.last_barrier = self.begun;
        }
        self.flights.push_back(Flight { ticket: self.begun, due_ns, barrier, change });
        self.begun
    }

    fn take_dirty(&mut self) -> Change {
        let image = &self.image;
        let extents = self
            .dirty
            .take_runs()
            .filter_map(|(from, to)| {
                let (from, to) = (from * SECTOR, (to * SECTOR).min(image.len()));
                (from < to).then(|| Extent { offset: from, data: image[from..to].to_vec() })
            })
            .collect();
        self.captured_size = self.image.len();
        Change { cut_to: self.cut_to.take(), size: self.image.len(), extents }
    }

    /// Whether a flight is to land.
    pub(super) fn is_due(&self, now_ns: u64) -> bool {
        self.flights.front().is_some_and(|flight| flight.due_ns <= now_ns)
    }

    /// Lands the first flight. Returns the bytes that reached the medium.
    pub(super) fn land(&mut self) -> u64 {
        let Some(flight) = self.flights.pop_front() else { return 0 };
        self.apply(&flight.change);
        self.landed = flight.ticket;
        let extents = &flight.change.extents;
        if !extents.is_empty() {
            self.last_landed =
                extents.iter().map(|extent| (extent.offset, extent.offset + extent.data.len())).collect();
        }
        extents.iter().map(|extent| extent.data.len() as u64).sum()
    }

    /// Holds back all flights for ever, or lets them land at times of `due` that do not decrease.
    pub(super) fn reschedule(&mut self, mut due: impl FnMut() -> u64) {
        let mut last = 0;
        for flight in &mut self.flights {
            last = due().max(last);
            flight.due_ns = last;
        }
    }

    fn apply(&mut self, change: &Change) {
        if let Some(cut) = change.cut_to {
            self.durable.truncate(cut);
        }
        self.durable.resize(change.size, 0);
        for extent in &change.extents {
            let end = extent.offset + extent.data.len();
            self.durable[extent.offset..end].copy_from_slice(&extent.data);
            self.damaged.retain(|sector| !(extent.offset..end).contains(&(sector * SECTOR)));
        }
        let size = self.durable.len();
        self.damaged.retain(|sector| sector * SECTOR < size);
    }

    /// A sync failed: the dirty pages are clean now, and hold again what was written back before.
    pub(super) fn drop_cache(&mut self) {
        let lost = self.take_dirty();
        let old_size = self.durable.len().min(lost.cut_to.unwrap_or(usize::MAX));
        for extent in &lost.extents {
            let end = extent.offset + extent.data.len();
            let old = self.durable.get(extent.offset..end.min(old_size)).unwrap_or(&[]);
            self.image[extent.offset..extent.offset + old.len()].copy_from_slice(old);
            self.image[extent.offset + old.len()..end].fill(0);
            for flying in self.flights.iter().flat_map(|flight| &flight.change.extents) {
                let from = flying.offset.max(extent.offset);
                let to = (flying.offset + flying.data.len()).min(end);
                if from < to {
                    self.image[from..to].copy_from_slice(&flying.data[from - flying.offset..to - flying.offset]);
                }
            }
        }
        // The size stays as it is in the cache, and goes with the next sync.
        self.cut_to = lost.cut_to;
        self.captured_size = usize::MAX;
    }

    /// Loses power: see the head of this file.
    pub(super) fn crash(&mut self, rng: &mut Pcg64, stats: &mut DiskStats) {
        let flights = std::mem::take(&mut self.flights);
        let rest = self.take_dirty();
        let barriers = flights.iter().filter(|flight| flight.barrier).count() as u64;
        let cut = rng.between(0, barriers);
        let chances = Chances { keep: *rng.pick(&[0, 250, 500, 750, 1000]), tear: *rng.pick(&[0, 100, 300]) };
        let mut stage = 0;
        let changes = flights.into_iter().map(|flight| (flight.change, flight.barrier)).chain([(rest, false)]);
        for (change, closes_stage) in changes {
            match stage {
                _ if stage < cut => self.apply(&change),
                _ if stage == cut => self.apply_partly(&change, chances, rng, stats),
                _ => stats.sectors_lost += change.extents.iter().map(Extent::sectors).sum::<u64>(),
            }
            stage += u64::from(closes_stage);
        }
        self.image.clone_from(&self.durable);
        self.captured_size = self.image.len();
        self.landed = self.begun;
    }

    fn apply_partly(&mut self, change: &Change, chances: Chances, rng: &mut Pcg64, stats: &mut DiskStats) {
        let old_size = self.durable.len();
        if rng.chance(chances.keep) {
            self.durable.truncate(change.cut_to.unwrap_or(usize::MAX));
            self.durable.resize(change.size, 0);
        } else if change.size > old_size && rng.chance(300) {
            let size = rng.between(old_size as u64, change.size as u64);
            self.durable.resize(size as usize, 0);
        }
        for extent in &change.extents {
            for (number, new) in extent.data.chunks(SECTOR).enumerate() {
                let from = extent.offset + number * SECTOR;
                let to = (from + new.len()).min(self.durable.len());
                let tear = rng.chance(chances.tear);
                let keep = rng.chance(chances.keep);
                if from >= to {
                    stats.sectors_lost += 1;
                    continue;
                }
                let (old, new) = (&mut self.durable[from..to], &new[..to - from]);
                // Whatever of it arrives, a crash has done it.
                if tear || keep {
                    self.damaged.remove(&(from / SECTOR));
                }
                match (tear, keep) {
                    _ if old == new => stats.sectors_kept += 1,
                    (true, _) => {
                        // Only a sector that nobody has ever synced may hold what nobody wrote.
                        tear_sector(old, new, from >= old_size, rng);
                        stats.sectors_torn += 1;
                    }
                    (false, true) => {
                        old.copy_from_slice(new);
                        stats.sectors_kept += 1;
                    }
                    (false, false) => stats.sectors_lost += 1,
                }
            }
        }
    }

    /// The bytes of a sector of the medium.
    pub(super) fn sector(&self, number: usize) -> (usize, usize) {
        (number * SECTOR, ((number + 1) * SECTOR).min(self.durable.len()))
    }

    /// Whether any of these bytes came with the last flight.
    pub(super) fn is_last(&self, from: usize, to: usize) -> bool {
        self.last_landed.iter().any(|&(last_from, last_to)| from < last_to && last_from < to)
    }

    /// Whether these bytes of the medium are zeros.
    pub(super) fn is_blank(&self, from: usize, to: usize) -> bool {
        self.durable[from..to].iter().all(|byte| *byte == 0)
    }

    /// One of the writes that the next flight is to bring.
    pub(super) fn next_write(&self, nth: impl FnOnce(usize) -> usize) -> Option<Write> {
        let extents = &self.flights.front()?.change.extents;
        // A run of dirty sectors may be many writes.
        let writes: Vec<_> = extents.iter().flat_map(Extent::by_page).collect();
        let (offset, new) = if writes.is_empty() { return None } else { writes[nth(writes.len())] };
        let old = self.durable.get(offset..).unwrap_or(&[]);
        let mut old = old[..old.len().min(new.len())].to_vec();
        old.resize(new.len(), 0);
        Some(Write { offset, new: new.to_vec(), old })
    }

    /// Puts bytes on the medium, and nowhere else, that nobody has written there.
    pub(super) fn put(&mut self, offset: usize, bytes: &[u8]) {
        let to = (offset + bytes.len()).min(self.durable.len());
        if offset < to {
            self.durable[offset..to].copy_from_slice(&bytes[..to - offset]);
            self.damage(offset, to);
        }
    }

    /// From now on, these bytes are known not to be what was written.
    pub(super) fn damage(&mut self, from: usize, to: usize) {
        self.damaged.extend(from / SECTOR..to.div_ceil(SECTOR));
    }

    /// Whether a read of these bytes meets damage: the cache may know better.
    pub(super) fn meets_damage(&self, from: usize, to: usize) -> bool {
        self.damaged.range(from / SECTOR..to.div_ceil(SECTOR)).any(|&sector| {
            let (from, to) = self.sector(sector);
            self.image.get(from..to) == self.durable.get(from..to)
        })
    }

    /// Flips bits of one byte on the medium, and in the cache unless it holds something newer.
    pub(super) fn flip(&mut self, offset: usize, mask: u8) -> bool {
        if self.image.get(offset) == self.durable.get(offset)
            && let Some(byte) = self.image.get_mut(offset)
        {
            *byte ^= mask;
        }
        self.durable.get_mut(offset).map(|byte| *byte ^= mask).is_some()
    }
}

impl Extent {
    /// Its parts, cut where pages of the file begin.
    fn by_page(&self) -> impl Iterator<Item = (usize, &[u8])> {
        let mut offset = self.offset;
        std::iter::from_fn(move || {
            let rest = self.data.get(offset - self.offset..).filter(|rest| !rest.is_empty())?;
            let part = &rest[..rest.len().min(PAGE - offset % PAGE)];
            offset += part.len();
            Some((offset - part.len(), part))
        })
    }

    fn sectors(&self) -> u64 {
        self.data.len().div_ceil(SECTOR) as u64
    }
}

/// How likely a sector is to reach the medium in a crash, and to reach it in part, in a thousand.
#[derive(Clone, Copy)]
struct Chances {
    keep: u32,
    tear: u32,
}

/// Writes a part of `new` over `old`, up to some byte or from it on; or noise where they differ.
fn tear_sector(old: &mut [u8], new: &[u8], noise: bool, rng: &mut Pcg64) {
    let kind = rng.between(0, 3);
    let at = rng.between(0, old.len() as u64) as usize;
    match kind {
        0 if noise => {
            for (old, new) in old.iter_mut().zip(new).filter(|(old, new)| *old != *new) {
                *old = new.wrapping_add(rng.between(0, 255) as u8);
            }
        }
        1 => old[at..].copy_from_slice(&new[at..]),
        _ => old[..at].copy_from_slice(&new[..at]),
    }
}
