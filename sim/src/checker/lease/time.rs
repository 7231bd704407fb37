//! Whether leases end in time, by the clock that no fault bends.
//!
//! ```text
//!   granted ─── keep-alive asked ─── answered: 3 s ─────────────────── ended
//!                     └──────────── 3 s, less what clocks may be wrong by ──┘ not before
//! ```
//!
//! A grant counts from when it was first applied by anybody. A renewal counts from when it was asked for, since nobody knows when
//! it was carried out.

use std::fmt;

use super::log::{Followed, Life};
use super::violation;
use crate::history::{Operation, Response};
use crate::outcome::Violation;

const SECOND_NS: u64 = 1_000_000_000;

/// Judges the ends of all leases, and what was said to be left of them.
pub(super) fn check(followed: &Followed<'_>) -> Result<(), Violation> {
    for life in &followed.lives {
        never_early(followed, life)?;
    }
    followed.operations.iter().try_for_each(|operation| most(followed, operation))?;
    followed
        .told
        .iter()
        .try_for_each(|(place, life)| least(followed, &followed.operations[*place], &followed.lives[*life]))
}

/// Why a lease has not ended yet.
#[derive(Clone, Copy)]
struct Promise<'h> {
    /// From when on it has its time, in virtual nanoseconds.
    from: u64,
    /// Until when it has, if it is looked at `until`.
    end: u64,
    /// The renewal; none, if this is the grant.
    renewal: Option<&'h Operation>,
}

impl fmt::Display for Promise<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.renewal {
            Some(renewal) => renewal.fmt(f),
            None => write!(f, "its grant, at {:.3} ms,", self.from as f64 / 1e6),
        }
    }
}

/// What was promised last about a lease, of what was known `by` a time, for one that is looked at `until` another.
fn promised<'h>(followed: &Followed<'h>, life: &Life, by: u64, until: u64) -> Option<Promise<'h>> {
    let circumstances = followed.circumstances;
    let granted = circumstances.leased.get(&life.granted).filter(|granted| **granted <= by);
    let renewals = life.renewals.iter().map(|place| &followed.operations[*place]);
    let renewals = renewals.filter(|renewal| renewal.returned <= by).map(|renewal| (renewal.invoked, Some(renewal)));
    let ttl_ns = u64::try_from(life.ttl).unwrap_or(0) * SECOND_NS;
    // The clock by which it ends runs so much faster at most.
    let shortest = u128::from(ttl_ns) * 1_000_000 / (1_000_000 + u128::from(circumstances.drift_ppm));
    let end = |(from, renewal)| {
        let jumps = circumstances.jumps.iter().filter(|(at, _)| (from..=until).contains(at)).map(|(_, by)| by);
        Promise { from, end: (from + shortest as u64).saturating_sub(jumps.sum()), renewal }
    };
    granted.map(|granted| (*granted, None)).into_iter().chain(renewals).map(end).max_by_key(|promise| promise.end)
}

fn never_early(followed: &Followed<'_>, life: &Life) -> Result<(), Violation> {
    let Some((index, true)) = life.ended else { return Ok(()) };
    let Some(&ended) = followed.circumstances.leased.get(&index) else { return Ok(()) };
    // Also what was answered later: it was carried out before the end.
    match promised(followed, life, u64::MAX, ended) {
        Some(promise) if ended < promise.end => Err(violation(format!(
            "ended early: lease {}, of {} s, was ended at {:.3} ms by entry {index}, {:.3} ms before what {promise} has promised",
            life.id,
            life.ttl,
            ended as f64 / 1e6,
            (promise.end - ended) as f64 / 1e6,
        ))),
        _ => Ok(()),
    }
}

/// What was said to be left is not more than a leader may give.
fn most(followed: &Followed<'_>, operation: &Operation) -> Result<(), Violation> {
    let Some(Response::LeaseTimeToLive(response)) = operation.response() else { return Ok(()) };
    let given = i64::try_from(followed.circumstances.extension_ns.div_ceil(SECOND_NS)).unwrap_or(i64::MAX);
    if response.ttl > response.granted_ttl.saturating_add(given) {
        return Err(violation(format!("more than it was granted for is left of a lease: {operation}")));
    }
    Ok(())
}

/// Nor is it less than was promised.
fn least(followed: &Followed<'_>, operation: &Operation, life: &Life) -> Result<(), Violation> {
    let Some(Response::LeaseTimeToLive(response)) = operation.response() else { return Ok(()) };
    let Some(promise) = promised(followed, life, operation.invoked, operation.returned) else { return Ok(()) };
    // Whole seconds are told.
    let told = (u64::try_from(response.ttl).unwrap_or(0) + 1) * SECOND_NS;
    match promise.end.checked_sub(operation.returned) {
        Some(left) if response.ttl >= 0 && left > told => Err(violation(format!(
            "less is left than was promised, {:.3} s, by {promise}: {operation}",
            left as f64 / 1e9,
        ))),
        _ => Ok(()),
    }
}
