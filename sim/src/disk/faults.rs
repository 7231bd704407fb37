//! What is wrong with a disk for a while.
//!
//! A synchronous operation cannot take its time, so the time that a slow disk adds to it is owed: the next sync or barrier
//! of the disk lands later by all that is owed then.

use std::io;

use rand_pcg::Pcg64;

use super::DiskStats;
use crate::rng::{Draw, stream};

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// It only looks at sizes and the like, which are in memory.
    Inspect,
    Read,
    Write,
    /// Syncs fail by [`DiskFault::FailingSyncs`] only.
    Sync,
}

/// A fault of a disk that comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// So many syncs and barriers in a thousand fail, and the pages that they were to write back are gone from the cache.
    FailingSyncs(u32),
    /// So many operations in a thousand fail.
    Errors {
        /// Of those that read.
        reads: u32,
        /// Of those that write, and change names.
        writes: u32,
    },
    /// Nothing grows, and nothing new is made.
    Full,
    /// Every read, write and sync takes between so many microseconds longer.
    Slow([u64; 2]),
}

impl DiskFault {
    /// Whether it gives errors, which stop a member.
    pub fn stops(self) -> bool {
        !matches!(self, DiskFault::Slow(_))
    }

    /// How often it has been met.
    pub fn met(self, stats: &DiskStats) -> u64 {
        match self {
            DiskFault::FailingSyncs(_) => stats.failed_syncs,
            DiskFault::Errors { .. } => stats.io_errors,
            DiskFault::Full => stats.no_space,
            DiskFault::Slow(_) => stats.slowed,
        }
    }
}

/// The random streams of the kinds of faults: without one of them the others draw what they drew.
#[derive(Debug)]
struct Draws {
    syncs: Pcg64,
    errors: Pcg64,
    delays: Pcg64,
}

/// The faults under way.
#[derive(Debug)]
pub(super) struct Faults {
    draws: Draws,
    failing_syncs: u32,
    failing_reads: u32,
    failing_writes: u32,
    pub(super) full: bool,
    slow_us: Option<[u64; 2]>,
    owed_ns: u64,
}

impl Faults {
    pub(super) fn new(seed: u64, id: u64) -> Self {
        Faults {
            draws: Draws {
                syncs: stream(seed, "disk/fault/sync", id),
                errors: stream(seed, "disk/fault/error", id),
                delays: stream(seed, "disk/fault/delay", id),
            },
            failing_syncs: 0,
            failing_reads: 0,
            failing_writes: 0,
            full: false,
            slow_us: None,
            owed_ns: 0,
        }
    }

    /// Replaces what is under way. Of several of one kind the last counts.
    pub(super) fn set(&mut self, faults: impl IntoIterator<Item = DiskFault>) {
        (self.failing_syncs, self.failing_reads, self.failing_writes) = (0, 0, 0);
        (self.full, self.slow_us) = (false, None);
        for fault in faults {
            match fault {
                DiskFault::FailingSyncs(permille) => self.failing_syncs = permille,
                DiskFault::Errors { reads, writes } => (self.failing_reads, self.failing_writes) = (reads, writes),
                DiskFault::Full => self.full = true,
                DiskFault::Slow(delay_us) => self.slow_us = Some(delay_us),
            }
        }
    }

    /// Whether an operation fails. Nothing is drawn for one that cannot.
    pub(super) fn fails(&mut self, access: Access) -> bool {
        let (permille, draws) = match access {
            Access::Inspect => return false,
            Access::Read => (self.failing_reads, &mut self.draws.errors),
            Access::Write => (self.failing_writes, &mut self.draws.errors),
            Access::Sync => (self.failing_syncs, &mut self.draws.syncs),
        };
        permille > 0 && draws.chance(permille)
    }

    /// Owes the time that an operation takes longer, if the disk is slow.
    pub(super) fn delay(&mut self, access: Access, stats: &mut DiskStats) {
        if let Some([least, most]) = self.slow_us.filter(|_| access != Access::Inspect) {
            self.owed_ns += self.draws.delays.between(least * 1000, most.max(least) * 1000);
            stats.slowed += 1;
        }
    }

    /// What is owed, which the caller pays.
    pub(super) fn pay(&mut self) -> u64 {
        std::mem::take(&mut self.owed_ns)
    }
}

/// The disk has no room.
pub(super) fn no_space(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::StorageFull, message)
}
