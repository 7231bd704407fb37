//! Segments and resets on their way.
//!
//! ```text
//!   transmit ──► timer ──► arrive ──► the other end
//!                  ▲          │ lost, or cut
//!                  └── again ◄┘ after a while
//! ```
//!
//! A timer's callback must not set another timer, so the network's own node sends what a callback has to send.

use std::io;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::time::Duration;

use super::super::{Address, Shared, State};
use super::ByteStream;
use super::connection::{Arrival, ConnectionId, Segment, Side};
use crate::clock::true_now_ns;
use crate::runtime::{Sleep, arm};
use crate::trace;

/// How long an end waits before it sends a segment again, the first time: the least that Linux waits.
const RETRY: Duration = Duration::from_millis(200);

/// How often it does. Each time it waits twice as long: it gives up after 12.6 seconds.
const ATTEMPTS: u32 = 6;

/// A segment on its way. It is the waker of the timer that ends it.
struct Flight {
    shared: Arc<Shared>,
    id: ConnectionId,
    /// Who has sent it.
    side: Side,
    round: u64,
}

impl Wake for Flight {
    fn wake(self: Arc<Self>) {
        self.shared.arrive(self.id, self.side, self.round);
    }
}

/// A reset on its way.
struct Reset {
    shared: Arc<Shared>,
    id: ConnectionId,
    /// Who is to hear of it.
    side: Side,
}

impl Wake for Reset {
    fn wake(self: Arc<Self>) {
        self.shared.arrive_reset(self.id, self.side);
    }
}

fn words(from: Address, to: Address) -> [u64; 2] {
    [from.code(), to.code()]
}

impl Shared {
    /// Sends a segment by way of its link.
    pub(super) fn transmit(self: &Arc<Self>, id: ConnectionId, side: Side, segment: Segment) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(id) else { return };
        let (from, to) = connection.way(side);
        let bytes = segment.bytes();
        trace::record("stream-send", &[from.code(), to.code(), bytes.len() as u64, trace::digest(bytes)]);
        let (fate, lost) = state.send(from, to);
        if state.reset(from, to) {
            let connection = state.connections.get_mut(id).expect("it was there just now");
            let woken = connection.fail(side, io::ErrorKind::ConnectionReset);
            drop(guard);
            woken.into_iter().flatten().for_each(Waker::wake);
            return self.send_reset(id, side.other());
        }
        let earliest_ns = true_now_ns() + fate.latency_ns.max(1);
        let connection = state.connections.get_mut(id).expect("it was there just now");
        let arrival = connection.fly(side, segment, lost, earliest_ns);
        drop(guard);
        self.fly(id, side, arrival);
    }

    fn fly(self: &Arc<Self>, id: ConnectionId, side: Side, arrivals: impl IntoIterator<Item = Arrival>) {
        for Arrival { at_ns, round } in arrivals {
            arm(at_ns, &Waker::from(Arc::new(Flight { shared: self.clone(), id, side, round })));
        }
    }

    /// A segment has come to the end of its way.
    fn arrive(self: &Arc<Self>, id: ConnectionId, side: Side, round: u64) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(id) else { return };
        let Some(lost) = connection.next_is_lost(side, round) else { return };
        let (from, to) = connection.way(side);
        // Once is enough for the counters: what was lost when it was sent has met its cut already.
        let stopped = lost || state.cut(from, to);
        let connection = state.connections.get_mut(id).expect("it was there just now");
        if stopped {
            if connection.hold(side) {
                self.postman.spawn(again(self.clone(), id, side));
            }
            return;
        }
        trace::record("stream-arrive", &words(from, to));
        let woken = match connection.land(side) {
            Some(Segment::Open) => {
                self.open(state, id, to);
                None
            }
            Some(Segment::Accepted) if connection.is_open(Side::Client) => connection.accepted(),
            Some(Segment::Bytes(bytes)) => {
                let woken = connection.deliver(side, bytes);
                if !connection.is_open(side.other()) {
                    self.refuse_segment(id, side);
                }
                woken
            }
            Some(Segment::End) => connection.deliver_end(side),
            // The client has given up, and the member does not know.
            Some(Segment::Accepted) => {
                self.refuse_segment(id, side);
                None
            }
            None => None,
        };
        state.count_delivery();
        drop(guard);
        woken.into_iter().for_each(Waker::wake);
    }

    /// A client would like a connection.
    fn open(self: &Arc<Self>, state: &mut State, id: ConnectionId, to: Address) {
        let listener = match to {
            Address::Member(node) => state.members.get(&node).and_then(|member| member.streams.clone()),
            Address::Client(_) => None,
        };
        let Some((node, handler)) = listener else {
            state.stats.refused += 1;
            return self.refuse_segment(id, Side::Client);
        };
        state.connections.get_mut(id).expect("its first segment has just arrived").accept();
        let stream = ByteStream { shared: self.clone(), id, side: Side::Member };
        self.postman.spawn(async move {
            stream.shared.transmit(id, Side::Member, Segment::Accepted);
            node.spawn(async move { handler(stream).await });
        });
    }

    /// Answers a segment that nobody takes.
    fn refuse_segment(self: &Arc<Self>, id: ConnectionId, sender: Side) {
        let shared = self.clone();
        self.postman.spawn(async move { shared.send_reset(id, sender) });
    }

    /// Tells the clients of a member that has gone.
    pub(in super::super) fn reset_clients(self: &Arc<Self>, connections: Vec<ConnectionId>) {
        for id in connections {
            self.send_reset(id, Side::Client);
        }
    }

    /// Tells an end that it has no connection.
    pub(super) fn send_reset(self: &Arc<Self>, id: ConnectionId, side: Side) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(id) else { return };
        let (from, to) = connection.way(side.other());
        trace::record("stream-reset", &words(from, to));
        let (fate, lost) = state.send(from, to);
        let connection = state.connections.get_mut(id).expect("it was there just now");
        let at_ns = connection.not_before(side.other(), true_now_ns() + fate.latency_ns.max(1));
        drop(guard);
        if !lost {
            arm(at_ns, &Waker::from(Arc::new(Reset { shared: self.clone(), id, side })));
        }
    }

    fn arrive_reset(&self, id: ConnectionId, side: Side) {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(id) else { return };
        let (from, to) = connection.way(side.other());
        if state.cut(from, to) {
            return;
        }
        trace::record("stream-broken", &words(from, to));
        let woken = state.connections.get_mut(id).expect("it was there just now").reset(side);
        drop(guard);
        woken.into_iter().flatten().for_each(Waker::wake);
    }

    /// Sends again what waits. Whether there is reason to try once more.
    fn transmit_again(self: &Arc<Self>, id: ConnectionId, side: Side) -> bool {
        let mut guard = self.lock();
        let state = &mut *guard;
        let Some(connection) = state.connections.get_mut(id) else { return false };
        if connection.attempts(side).is_none() {
            return false;
        }
        let (from, to) = connection.way(side);
        trace::record("stream-again", &words(from, to));
        let (fate, lost) = state.send(from, to);
        let earliest_ns = true_now_ns() + fate.latency_ns.max(1);
        let arrivals = state.connections.get_mut(id).expect("it was there just now").fly_again(side, lost, earliest_ns);
        drop(guard);
        self.fly(id, side, arrivals);
        lost
    }

    /// How long to wait before what waits is sent again. `None` if it is not: its sender has gone, or gives up now.
    fn patience(self: &Arc<Self>, id: ConnectionId, side: Side) -> Option<Duration> {
        let mut guard = self.lock();
        let connection = guard.connections.get_mut(id)?;
        let attempts = connection.attempts(side)?;
        if attempts < ATTEMPTS {
            return Some(RETRY * 2_u32.pow(attempts));
        }
        let (from, to) = connection.way(side);
        trace::record("stream-given-up", &words(from, to));
        let woken = connection.fail(side, io::ErrorKind::TimedOut);
        drop(guard);
        woken.into_iter().flatten().for_each(Waker::wake);
        self.send_reset(id, side.other());
        None
    }
}

/// Sends again what one end had sent and the other has not got, until it is on its way or given up.
async fn again(shared: Arc<Shared>, id: ConnectionId, side: Side) {
    while let Some(patience) = shared.patience(id, side) {
        Sleep::until_true_ns(true_now_ns() + patience.as_nanos() as u64).await;
        if !shared.transmit_again(id, side) {
            return;
        }
    }
}
