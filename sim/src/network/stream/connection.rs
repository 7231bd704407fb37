//! A connection, as its ends and the wire between them hold it.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use seedbed_core::raft::NodeId;
use tokio::io::ReadBuf;

use super::super::Address;
use super::WINDOW_BYTES;

/// A connection's number: connections are counted from 1, in the order of their opening.
pub(in super::super) type ConnectionId = u64;

/// An end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    Client,
    Member,
}

impl Side {
    pub(super) fn other(self) -> Side {
        match self {
            Side::Client => Side::Member,
            Side::Member => Side::Client,
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Segment {
    /// The client would like a connection.
    Open,
    /// The member has one.
    Accepted,
    /// Never empty.
    Bytes(Bytes),
    /// Nothing follows.
    End,
}

impl Segment {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Segment::Bytes(bytes) => bytes,
            Segment::Open | Segment::Accepted | Segment::End => &[],
        }
    }
}

/// Whether an end takes and sends segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Socket {
    Open,
    /// Closed in good order: what it has sent is still brought to its destination.
    Lingering,
    Gone,
}

struct End {
    address: Address,
    socket: Socket,
    /// Whether somebody has its stream.
    owned: bool,
    /// Whether the other end is known to be there.
    connected: bool,
    /// Whether it has said that nothing follows.
    shut: bool,
    /// Why there is nothing more to read and no use in writing.
    failure: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

struct Flying {
    segment: Segment,
    /// It will not arrive, and has to be sent again.
    lost: bool,
}

/// One direction, from the end that writes.
#[derive(Default)]
struct Pipe {
    /// Sent and not arrived, in order.
    flying: VecDeque<Flying>,
    /// Arrived and not read.
    arrived: VecDeque<Bytes>,
    /// Bytes in both.
    bytes: usize,
    ended: bool,
    /// When the last segment that is on its way arrives.
    last_ns: u64,
    /// How often segments have been held back: timers of an earlier round mean nothing.
    round: u64,
    /// Whether what flies waits to be sent again.
    held: bool,
    /// How often in a row it has been sent again.
    attempts: u32,
}

/// A connection.
pub(in super::super) struct Connection {
    ends: [End; 2],
    pipes: [Pipe; 2],
}

/// When a segment arrives, and in which round of its pipe.
#[derive(Clone, Copy, Debug)]
pub(super) struct Arrival {
    pub(super) at_ns: u64,
    pub(super) round: u64,
}

impl Connection {
    /// One that a client opens.
    pub(super) fn new(client: Address, member: Address) -> Connection {
        let end = |address, socket, owned| End {
            address,
            socket,
            owned,
            connected: false,
            shut: false,
            failure: None,
            reader: None,
            writer: None,
        };
        let ends = [end(client, Socket::Open, true), end(member, Socket::Gone, false)];
        Connection { ends, pipes: Default::default() }
    }

    fn end(&mut self, side: Side) -> &mut End {
        &mut self.ends[side as usize]
    }

    /// The direction that `side` writes.
    fn pipe(&mut self, side: Side) -> &mut Pipe {
        &mut self.pipes[side as usize]
    }

    /// From whom, and to whom, `side` writes.
    pub(super) fn way(&self, side: Side) -> (Address, Address) {
        (self.ends[side as usize].address, self.ends[side.other() as usize].address)
    }

    /// Whether the end takes what arrives.
    pub(super) fn is_open(&self, side: Side) -> bool {
        self.ends[side as usize].socket == Socket::Open
    }

    /// The member takes the connection.
    pub(super) fn accept(&mut self) {
        let member = self.end(Side::Member);
        (member.socket, member.owned, member.connected) = (Socket::Open, true, true);
    }

    /// The client knows that the member has taken it.
    pub(super) fn accepted(&mut self) -> Option<Waker> {
        let client = self.end(Side::Client);
        client.connected = true;
        client.reader.take()
    }

    pub(super) fn poll_connected(&mut self, context: &Context<'_>) -> (Poll<io::Result<()>>, Option<Waker>) {
        let client = self.end(Side::Client);
        let polled = match client.failure {
            Some(failure) => Poll::Ready(Err(failure.into())),
            None if client.connected => Poll::Ready(Ok(())),
            None => {
                client.reader = Some(context.waker().clone());
                Poll::Pending
            }
        };
        (polled, None)
    }

    /// Reads what has arrived. The waker is the writer's, for whom there is room again.
    pub(super) fn poll_read(
        &mut self,
        side: Side,
        context: &Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> (Poll<io::Result<()>>, Option<Waker>) {
        let pipe = self.pipe(side.other());
        let mut read = 0;
        while buffer.remaining() > 0
            && let Some(bytes) = pipe.arrived.front_mut()
        {
            let taken = bytes.len().min(buffer.remaining());
            buffer.put_slice(&bytes[..taken]);
            bytes.advance(taken);
            read += taken;
            if bytes.is_empty() {
                pipe.arrived.pop_front();
            }
        }
        pipe.bytes -= read;
        if read > 0 {
            return (Poll::Ready(Ok(())), self.end(side.other()).writer.take());
        }
        let ended = pipe.ended;
        let end = self.end(side);
        let polled = match end.failure {
            Some(failure) => Poll::Ready(Err(failure.into())),
            None if ended => Poll::Ready(Ok(())),
            None => {
                end.reader = Some(context.waker().clone());
                Poll::Pending
            }
        };
        (polled, None)
    }

    /// How many bytes may be written: at least one.
    pub(super) fn poll_room(&mut self, side: Side, context: &Context<'_>) -> Poll<io::Result<usize>> {
        let room = WINDOW_BYTES - self.pipe(side).bytes;
        let end = self.end(side);
        match end.failure {
            Some(failure) => Poll::Ready(Err(failure.into())),
            None if end.shut => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            None if room == 0 => {
                end.writer = Some(context.waker().clone());
                Poll::Pending
            }
            None => Poll::Ready(Ok(room)),
        }
    }

    /// Nothing will follow. Whether that is news.
    pub(super) fn shut(&mut self, side: Side) -> io::Result<bool> {
        let end = self.end(side);
        match end.failure {
            Some(failure) => Err(failure.into()),
            None => Ok(!std::mem::replace(&mut end.shut, true)),
        }
    }

    /// Puts a segment on its way: when it arrives, unless it waits behind one that has to be sent again.
    pub(super) fn fly(&mut self, side: Side, segment: Segment, lost: bool, earliest_ns: u64) -> Option<Arrival> {
        let pipe = self.pipe(side);
        pipe.bytes += segment.bytes().len();
        pipe.flying.push_back(Flying { segment, lost });
        if pipe.held {
            return None;
        }
        pipe.last_ns = earliest_ns.max(pipe.last_ns + 1);
        Some(Arrival { at_ns: pipe.last_ns, round: pipe.round })
    }

    /// The next to arrive in that round: whether it was lost on the way. `None` if the round is over.
    pub(super) fn next_is_lost(&mut self, side: Side, round: u64) -> Option<bool> {
        let pipe = self.pipe(side);
        if pipe.round != round {
            return None;
        }
        pipe.flying.front().map(|flying| flying.lost)
    }

    /// The next has not arrived: it and all behind it wait until it is sent again. False if there is nobody to send it.
    pub(super) fn hold(&mut self, side: Side) -> bool {
        let gone = self.end(side).socket == Socket::Gone;
        let pipe = self.pipe(side);
        pipe.round += 1;
        pipe.held = true;
        if gone {
            pipe.drop_flying();
        }
        !gone
    }

    /// How often in a row what waits has been sent again; `None` if there is nobody to send it any more.
    pub(super) fn attempts(&mut self, side: Side) -> Option<u32> {
        let attempts = self.pipe(side).attempts;
        (self.end(side).socket != Socket::Gone).then_some(attempts)
    }

    /// Sends again what waits. When each of it arrives, unless the first is `lost` once more.
    pub(super) fn fly_again(&mut self, side: Side, lost: bool, earliest_ns: u64) -> Vec<Arrival> {
        let pipe = self.pipe(side);
        pipe.attempts += 1;
        if lost {
            return Vec::new();
        }
        pipe.held = false;
        let mut arrivals = Vec::with_capacity(pipe.flying.len());
        for flying in &mut pipe.flying {
            flying.lost = false;
            pipe.last_ns = earliest_ns.max(pipe.last_ns + 1);
            arrivals.push(Arrival { at_ns: pipe.last_ns, round: pipe.round });
        }
        arrivals
    }

    /// The next arrives.
    pub(super) fn land(&mut self, side: Side) -> Option<Segment> {
        let pipe = self.pipe(side);
        pipe.attempts = 0;
        pipe.flying.pop_front().map(|flying| flying.segment)
    }

    /// Gives bytes to the end that reads them, if it takes any.
    pub(super) fn deliver(&mut self, side: Side, bytes: Bytes) -> Option<Waker> {
        let reading = self.is_open(side.other());
        let pipe = self.pipe(side);
        if !reading {
            pipe.bytes -= bytes.len();
            return self.end(side).writer.take();
        }
        pipe.arrived.push_back(bytes);
        self.end(side.other()).reader.take()
    }

    /// The end that reads knows that nothing follows.
    pub(super) fn deliver_end(&mut self, side: Side) -> Option<Waker> {
        self.pipe(side).ended = true;
        self.end(side.other()).reader.take()
    }

    /// When a message beside the stream that `side` sends may arrive: not before what it has sent.
    pub(super) fn not_before(&mut self, side: Side, earliest_ns: u64) -> u64 {
        earliest_ns.max(self.pipe(side).last_ns + 1)
    }

    /// The end has lost its connection: refused, if it never had one. Whom to tell.
    pub(super) fn reset(&mut self, side: Side) -> [Option<Waker>; 2] {
        let connected = self.end(side).connected;
        self.fail(side, if connected { io::ErrorKind::ConnectionReset } else { io::ErrorKind::ConnectionRefused })
    }

    /// The end gives its connection up. Whom to tell.
    pub(super) fn fail(&mut self, side: Side, failure: io::ErrorKind) -> [Option<Waker>; 2] {
        let open = self.is_open(side);
        self.go(side);
        if !open {
            return [None, None];
        }
        let end = self.end(side);
        end.failure = Some(failure);
        [end.reader.take(), end.writer.take()]
    }

    /// The end is no longer there. What it has sent still arrives, if it need not be sent again.
    pub(super) fn go(&mut self, side: Side) {
        self.end(side).socket = Socket::Gone;
        let pipe = self.pipe(side);
        if pipe.held {
            pipe.drop_flying();
        }
    }
}

impl Pipe {
    fn drop_flying(&mut self) {
        self.bytes -= self.flying.drain(..).map(|flying| flying.segment.bytes().len()).sum::<usize>();
    }
}

/// What the end of a stream leaves behind.
pub(super) struct Left {
    /// Whether the other end has to be told.
    pub(super) resets: bool,
    /// The connection, if nobody has it any more: dropped outside of the network's lock.
    _connection: Option<Connection>,
}

/// The connections of a network.
#[derive(Default)]
pub(in super::super) struct Connections {
    begun: ConnectionId,
    connections: BTreeMap<ConnectionId, Connection>,
}

impl Connections {
    pub(super) fn add(&mut self, connection: Connection) -> ConnectionId {
        self.begun += 1;
        self.connections.insert(self.begun, connection);
        self.begun
    }

    pub(super) fn get_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        self.connections.get_mut(&id)
    }

    /// The stream of that end is dropped.
    pub(super) fn leave(&mut self, id: ConnectionId, side: Side) -> Left {
        let Some(connection) = self.connections.get_mut(&id) else {
            return Left { resets: false, _connection: None };
        };
        let lingers = connection.end(side).shut;
        let resets = connection.is_open(side) && !lingers;
        if resets {
            connection.go(side);
        } else if connection.is_open(side) {
            connection.end(side).socket = Socket::Lingering;
        }
        connection.end(side).owned = false;
        if connection.end(side.other()).owned {
            return Left { resets, _connection: None };
        }
        Left { resets: false, _connection: self.connections.remove(&id) }
    }

    /// A member is no longer there: the connections that it had, of clients who do not know.
    pub(in super::super) fn crash(&mut self, node: NodeId) -> Vec<ConnectionId> {
        let mut broken = Vec::new();
        for (&id, connection) in &mut self.connections {
            let member = connection.end(Side::Member);
            if member.address != Address::Member(node) || member.socket == Socket::Gone {
                continue;
            }
            connection.go(Side::Member);
            if connection.is_open(Side::Client) {
                broken.push(id);
            }
        }
        broken
    }
}
