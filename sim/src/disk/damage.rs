//! What the medium does to data at rest: bits that flip, and a write that lands elsewhere.
//!
//! Both hit only what a log can tell from a write that a crash has cut short. The last write that a file's sync has brought
//! is no such thing (see "What cannot be noticed" in the format of the write-ahead log): in a log it is spared, until another
//! has landed behind it.
//!
//! A write is found to have gone astray when the next one of its file lands. In between nobody could have told: the page
//! cache shows what was written.
//!
//! ```text
//!   frames     a b c d          a write: c
//!   medium     a b . d          once d has landed: the place of c is as before,
//!   elsewhere  . c .            and c lies over something else, in this file or in another
//! ```

use std::sync::Arc;

use rand_pcg::Pcg64;

use super::directory::FileNode;
use super::file::FileData;
use super::sectors::SECTOR;
use super::{SimDisk, State, data};
use crate::clock::true_now_ns;
use crate::plan::Part;
use crate::rng::{Draw, stream};
use crate::trace;

/// How often a place is drawn before it is given up.
const TRIES: u32 = 100;

/// Bytes on their way to the medium, and what was in their place.
#[derive(Debug)]
pub(super) struct Write {
    pub(super) offset: usize,
    pub(super) new: Vec<u8>,
    pub(super) old: Vec<u8>,
}

/// Where writes go astray.
#[derive(Debug)]
pub(super) struct Damage {
    draws: Pcg64,
    /// The next write to a file of this part goes astray.
    armed: Option<Part>,
    /// Which one, and the file's number, if it has landed already.
    astray: Option<(u64, Write)>,
}

impl Damage {
    pub(super) fn new(seed: u64, id: u64) -> Self {
        Damage { draws: stream(seed, "disk/damage", id), armed: None, astray: None }
    }

    /// A write that has not been found astray by now is where it belongs.
    pub(super) fn forget(&mut self) {
        self.astray = None;
    }
}

impl Part {
    fn holds(self, file: &FileNode) -> bool {
        file.path.starts_with(match self {
            Part::Log => "wal/",
            Part::Store => "store/",
        })
    }
}

impl SimDisk {
    /// Flips so many bits of one sector of a durable file. False if there is nothing that may rot.
    pub fn rot(&self, part: Part, bits: u32) -> bool {
        let mut state = self.shared.lock();
        let state = &mut *state;
        state.advance_all(true_now_ns());
        let files: Vec<_> = state.names.files().into_iter().filter(|file| part.holds(file)).collect();
        let sectors = |file: &Arc<FileNode>| data(file).durable().len().div_ceil(SECTOR) as u64;
        let all: u64 = files.iter().map(sectors).sum();
        for _ in 0..TRIES {
            let Some(mut nth) = all.checked_sub(1).map(|last| state.damage.draws.between(0, last)) else { break };
            for file in &files {
                if let Some(rest) = nth.checked_sub(sectors(file)) {
                    nth = rest;
                    continue;
                }
                let mut rotten = data(file);
                let (from, to) = rotten.sector(nth as usize);
                // Where there has never been anything, nothing rots.
                if rotten.is_blank(from, to) || part == Part::Log && rotten.is_last(from, to) {
                    break;
                }
                for _ in 0..bits {
                    let at = state.damage.draws.between(from as u64, to as u64 - 1);
                    rotten.flip(at as usize, 1 << state.damage.draws.between(0, 7));
                }
                rotten.damage(from, to);
                state.stats.damaged += 1;
                tracing::info!(disk = self.shared.id, file = file.path, offset = from, bits, "bits rot");
                trace::record("rot", &[self.shared.id, file.ino, from as u64]);
                return true;
            }
        }
        false
    }

    /// From now on, the next write that lands in a file of this part and may do so goes astray.
    pub fn misdirect(&self, part: Part) {
        self.shared.lock().damage.armed = Some(part);
    }

    /// Writes land where they belong again. One that has gone astray stays there.
    pub fn direct(&self) {
        let mut state = self.shared.lock();
        (state.damage.armed, state.damage.astray) = (None, None);
    }
}

impl State {
    /// A write of `file` is about to land: the one before may have gone astray, or this one may be about to.
    pub(super) fn misdirect(&mut self, node: &FileNode, file: &mut FileData) {
        if !self.damage.armed.is_some_and(|part| part.holds(node)) {
            return;
        }
        if let Some((_, write)) = self.damage.astray.take_if(|(ino, _)| *ino == node.ino)
            && self.put_elsewhere(node, file, &write)
        {
            file.put(write.offset, &write.old);
            self.stats.damaged += 1;
            self.damage.armed = None;
            tracing::info!(file = node.path, offset = write.offset, "a write has gone astray");
            trace::record("astray", &[node.ino, write.offset as u64]);
            return;
        }
        let nth = |writes: usize| self.damage.draws.between(0, writes as u64 - 1) as usize;
        self.damage.astray = file.next_write(nth).map(|write| (node.ino, write));
    }

    /// Puts a write where it does not belong, if there is room for it.
    fn put_elsewhere(&mut self, node: &FileNode, file: &mut FileData, write: &Write) -> bool {
        let len = write.new.len();
        let others: Vec<_> = self.names.files().into_iter().filter(|other| other.ino != node.ino).collect();
        for _ in 0..TRIES {
            let draws = &mut self.damage.draws;
            let other = (!others.is_empty() && draws.chance(400)).then(|| draws.pick(&others));
            let mut put = |file: &mut FileData, may: &dyn Fn(&FileData, usize) -> bool| {
                let Some(room) = file.durable().len().checked_sub(len) else { return false };
                let at = draws.between(0, (room / SECTOR) as u64) as usize * SECTOR;
                let may = may(file, at);
                if may {
                    file.put(at, &write.new);
                }
                may
            };
            let done = match other {
                None => put(file, &|_, at| at != write.offset),
                Some(other) => {
                    let log = Part::Log.holds(other);
                    put(&mut data(other), &|other, at| !log || !other.is_last(at, at + len))
                }
            };
            if done {
                return true;
            }
        }
        false
    }
}
