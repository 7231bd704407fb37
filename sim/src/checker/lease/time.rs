//! Whether leases end in time, by the clock that no fault bends.
//!
//! ```text
//!   grant ───── keep-alive asked ─── answered: 3 s ─────────────────── ended
//!                     └──────────── 3 s, less what clocks may be wrong by ──┘ not before
//! ```
//!
//! A renewal counts from when it was asked for, since nobody knows when it was carried out.

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

/// Until when a lease was promised, in virtual nanoseconds, by what had been answered by then.
fn promised(followed: &Followed<'_>, life: &Life, by: u64) -> Option<(u64, usize)> {
    let answered = |place: &&usize| followed.operations[**place].returned <= by;
    let places = life.grantee.iter().chain(&life.renewals).filter(answered);
    let last = places.max_by_key(|place| followed.operations[**place].invoked)?;
    let ttl_ns = u64::try_from(life.ttl).unwrap_or(0) * SECOND_NS;
    // The clock by which it ends runs so much faster at most.
    let shortest = u128::from(ttl_ns) * 1_000_000 / (1_000_000 + u128::from(followed.circumstances.drift_ppm));
    let end = followed.operations[*last].invoked + shortest as u64;
    Some((end.saturating_sub(followed.circumstances.jumps_ns), *last))
}

fn never_early(followed: &Followed<'_>, life: &Life) -> Result<(), Violation> {
    let Some((index, true)) = life.ended else { return Ok(()) };
    let Some(&ended) = followed.circumstances.expired.get(&index) else { return Ok(()) };
    // Also what was answered later: it was carried out before the end.
    match promised(followed, life, u64::MAX) {
        Some((end, last)) if ended < end => Err(violation(format!(
            "ended early: lease {}, of {} s, was ended at {:.3} ms by entry {index}, {:.3} ms before what {} has promised",
            life.id,
            life.ttl,
            ended as f64 / 1e6,
            (end - ended) as f64 / 1e6,
            followed.operations[last]
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
    let Some((end, last)) = promised(followed, life, operation.invoked) else { return Ok(()) };
    // Whole seconds are told.
    let told = (u64::try_from(response.ttl).unwrap_or(0) + 1) * SECOND_NS;
    match end.checked_sub(operation.returned) {
        Some(left) if response.ttl >= 0 && left > told => Err(violation(format!(
            "less is left than was promised, {:.3} s, by {}: {operation}",
            left as f64 / 1e9,
            followed.operations[last]
        ))),
        _ => Ok(()),
    }
}
