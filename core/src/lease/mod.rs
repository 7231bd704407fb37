//! Leases: keys that go when nobody keeps them.
//!
//! ```text
//!   grant, revoke ──► log ──► Leases        what all members agree on: who was granted what, and which keys go with it
//!                      ▲
//!   Lessor ── at its ──┘                    the leader alone knows when a lease ends, by its own clock
//!     │        end
//!     └── Deadlines ◄── keep-alive          renewed without the log: in memory, once a quorum says that it still leads
//! ```
//!
//! * A lease is never ended before its time: a leader that takes over gives every lease its time anew, or what was noted of
//!   it last, and an election time-out on top.
//! * A renewal counts from when it was asked for, and is answered after that by a leader that a quorum still knew *after* it
//!   had been written down. Whoever leads later takes over later, and counts from there.
//! * What a leader decides about a lease counts in its own term only: the entry names the term.

mod deadlines;
mod lessor;
mod question;

use std::time::Duration;

pub(crate) use self::deadlines::Deadlines;
pub(crate) use self::lessor::{Lessor, LessorParts};
pub(crate) use self::question::{LeaseReply, LeaseRequest, Remaining};

/// The longest time for which a lease is granted, in seconds, as in etcd.
pub const TTL_MAX: i64 = 9_000_000_000;

/// How leases are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeaseOptions {
    /// How often what is left of a lease is noted in the log, of those that have longer left than this. Whoever leads next
    /// goes on from there. `None`: never, and the next leader gives each lease its whole time again.
    pub checkpoint_interval: Option<Duration>,
}

/// The shortest time for which a lease is granted, in seconds: one and a half election time-outs, rounded up, as in etcd.
pub(crate) fn ttl_min(election_timeout: Duration) -> i64 {
    let millis = election_timeout.as_millis() * 3 / 2;
    i64::try_from(millis.div_ceil(1000)).unwrap_or(TTL_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_lease_outlasts_an_election() {
        assert_eq!(ttl_min(Duration::from_millis(1000)), 2);
        assert_eq!(ttl_min(Duration::from_millis(600)), 1);
        assert_eq!(ttl_min(Duration::from_secs(50)), 75);
    }
}
