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
    followed.operations.iter().try_for_each(|operation| left(followed, operation))
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

/// What was said to be left is not less than was promised, nor more than a leader may give.
fn left(followed: &Followed<'_>, operation: &Operation) -> Result<(), Violation> {
    let Some(Response::LeaseTimeToLive(response)) = operation.response() else { return Ok(()) };
    if response.ttl < 0 {
        return Ok(());
    }
    let most = response.granted_ttl as u64 + followed.circumstances.extension_ns.div_ceil(SECOND_NS);
    if response.ttl as u64 > most {
        return Err(violation(format!("more than it was granted for is left of a lease: {operation}")));
    }
    // Of several lives of the number that it may be about, the shortest promise; none, if nothing was promised of one.
    let lives = followed.lives.iter().filter(|life| life.id == response.id && life.ttl == response.granted_ttl);
    let ends: Option<Vec<_>> = lives.map(|life| promised(followed, life, operation.invoked)).collect();
    let Some((end, last)) = ends.and_then(|ends| ends.into_iter().min_by_key(|(end, _)| *end)) else { return Ok(()) };
    // Whole seconds are told.
    let told = (response.ttl as u64 + 1) * SECOND_NS;
    match end.checked_sub(operation.returned) {
        Some(left) if left > told => Err(violation(format!(
            "less is left than was promised, {:.3} s, by {}: {operation}",
            left as f64 / 1e9,
            followed.operations[last]
        ))),
        _ => Ok(()),
    }
}
