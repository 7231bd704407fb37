//! Leases: strictly serializable, with all that touches their keys, in the order of the log; and never ended early.
//!
//! Most of what concerns a lease has no revision: a grant, a renewal, the end of one without keys. The log orders it:
//!
//! ```text
//!   index   7          8            9           10           11              what applied entries say
//!           grant 1    put a (1)    put b       1 expires    put c (1)
//!   model   {1}        {1: a}       {1: a}      {}, a gone   refused         what the model makes of them, answer for answer
//!                 └─ keep-alive: yes ─┘   └──── keep-alive: no ──            what has no entry takes the earliest place that
//!                                                                            explains it
//! ```
//!
//! 1. The [model](crate::model::Kv::following_leases), run in the order of the log, gives every answer and every revision.
//! 2. The order agrees with real time, swept as in [`linearizable`](super::linearizable): what is invoked after something has
//!    returned stands after it. An expiry is a server's own operation: it stands where it was applied.
//! 3. No lease ends at its end before the time that its grant or a renewal has promised, by true time, but for how far the plan's
//!    clocks may drift, and have jumped meanwhile. That goes for leases of contenders, too.
//!
//! An order that is not the log's might explain a history, too. The store has no other: where the log does not, something is
//! wrong with it.

mod log;
mod time;

use std::collections::BTreeMap;

use seedbed_core::runtime::AppliedEntry;

use self::log::Followed;
use crate::history::{History, Request};
use crate::outcome::Violation;

const JUDGE: &str = "lease";

/// What the judge has to know beside the history.
#[derive(Clone, Debug, Default)]
pub struct Circumstances {
    /// Everything that was applied, by index.
    pub applied: BTreeMap<u64, AppliedEntry>,
    /// What entries without a client operation have changed, by index.
    pub unasked: BTreeMap<u64, Request>,
    /// When entries that granted leases, or ended them at their end, were applied for the first time, by index.
    pub leased: BTreeMap<u64, u64>,
    /// The shortest time for which a lease is granted, in seconds.
    pub ttl_min: i64,
    /// What a leader that takes over may give a lease on top of its time, in nanoseconds.
    pub extension_ns: u64,
    /// How much faster than true time a clock may run, in parts in a million.
    pub drift_ppm: u64,
    /// When clocks have jumped forward, and how far, in nanoseconds.
    pub jumps: Vec<(u64, u64)>,
}

/// What was judged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct LeaseCounts {
    /// Leases granted.
    pub granted: u64,
    /// Leases revoked.
    pub revoked: u64,
    /// Leases that ended at their end.
    pub expired: u64,
    /// Keys that went with a lease.
    pub keys: u64,
    /// Renewals answered.
    pub renewed: u64,
    /// Entries that noted what was left of leases, or took that back.
    pub noted: u64,
}

/// Judges what concerns leases.
///
/// # Errors
/// The first violation.
pub fn check(history: &History, circumstances: &Circumstances) -> Result<LeaseCounts, Violation> {
    let mut followed = Followed::follow(history, circumstances)?;
    followed.sweep()?;
    time::check(&followed)?;
    Ok(followed.counts)
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests;
