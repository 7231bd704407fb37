//! The way to one peer: a connection made when it is needed, and the calls that go over it.
//!
//! ```text
//!   call: slot in `calls` ─► queue ─► [task] connect ─► send, request leaves its slot ─► reply ends the call
//!                                        │ failed            │ connection ended
//!                                        ▼                   ▼
//!                                   Unreachable            Lost            (slots not sent wait for the next one)
//! ```
//!
//! The queue has numbers only: a call that is given up takes its request with it.

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use openraft::AsyncRuntime;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::frame::{self, Header};
use super::hello::{Hello, Identity, Refusal};
use super::{TransportOptions, set_up, unpoisoned};
use crate::ids::NodeId;
use crate::runtime::TransportError;
use crate::runtime::tokio::TokioRuntime;

/// Calls that may wait for the connection; more of them wait to be queued.
const QUEUE: usize = 256;

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

/// The way to one peer. It ends when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Link {
    queue: mpsc::Sender<u64>,
    about: Arc<About>,
}

/// What the callers and the task share.
struct About {
    peer: NodeId,
    address: String,
    options: TransportOptions,
    next: AtomicU64,
    calls: Mutex<BTreeMap<u64, Slot>>,
}

/// A call that is waited for.
struct Slot {
    reply: oneshot::Sender<Result<Bytes, TransportError>>,
    /// Until it is sent.
    request: Option<Bytes>,
}

/// Frees the slot of a call that nobody waits for any more.
struct Waiting {
    about: Arc<About>,
    call: u64,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        unpoisoned(&self.about.calls).remove(&self.call);
    }
}

impl Link {
    /// The way from `us` to `peer`, who listens at `address`.
    pub(super) fn start(us: Identity, peer: NodeId, address: String, options: TransportOptions) -> Link {
        let (queue, queued) = mpsc::channel(QUEUE);
        let about = Arc::new(About { peer, address, options, next: AtomicU64::new(0), calls: Mutex::default() });
        let task = Task { us, about: about.clone(), queued, delay: options.reconnect_delay.0, complaint: None };
        drop(TokioRuntime::spawn(task.run()));
        Link { queue, about }
    }

    pub(super) fn address(&self) -> &str {
        &self.about.address
    }

    /// Calls that are waited for.
    #[cfg(test)]
    pub(super) fn slots(&self) -> usize {
        unpoisoned(&self.about.calls).len()
    }

    pub(super) async fn call(self, request: Bytes) -> Result<Bytes, TransportError> {
        let peer = self.about.peer;
        if request.len() > self.about.options.frame_bytes_max {
            tracing::error!(to = %peer, bytes = request.len(), "request is longer than a frame may be: not sent");
            return Err(TransportError::Unreachable(peer));
        }
        let (reply, answer) = oneshot::channel();
        let call = self.about.next.fetch_add(1, Ordering::Relaxed);
        unpoisoned(&self.about.calls).insert(call, Slot { reply, request: Some(request) });
        let _waiting = Waiting { about: self.about, call };
        self.queue.send(call).await.map_err(|_| TransportError::Lost(peer))?;
        // The link lives on through its owner, not through calls: dropping it ends them.
        drop(self.queue);
        answer.await.unwrap_or(Err(TransportError::Lost(peer)))
    }
}

/// Makes the connections and moves the frames.
struct Task {
    us: Identity,
    about: Arc<About>,
    queued: mpsc::Receiver<u64>,
    delay: Duration,
    /// Why the last connection failed, to say it once.
    complaint: Option<String>,
}

impl Task {
    async fn run(mut self) {
        let mut not_before = <Instant as openraft::Instant>::now();
        while let Some(first) = self.queued.recv().await {
            if !self.about.waited_for(first) {
                continue;
            }
            TokioRuntime::sleep_until(not_before).await;
            let connected = TokioRuntime::timeout(self.about.options.connect_timeout, self.connect()).await;
            let failure = match connected {
                Ok(Ok(stream)) => {
                    if self.complaint.take().is_some() {
                        tracing::info!(to = %self.about.peer, address = self.about.address, "connected again");
                    }
                    let (ended, replied) = self.carry(stream, first).await;
                    if replied {
                        self.delay = self.about.options.reconnect_delay.0;
                    }
                    self.about.fail(TransportError::Lost, |slot| slot.request.is_none());
                    tracing::debug!(to = %self.about.peer, ?ended, "connection ended");
                    None
                }
                Ok(Err(refusal)) => Some(refusal.to_string()),
                Err(_) => Some(format!("no connection within {:?}", self.about.options.connect_timeout)),
            };
            if let Some(reason) = failure {
                if self.complaint.as_ref() != Some(&reason) {
                    tracing::warn!(to = %self.about.peer, address = self.about.address, reason, "no connection");
                }
                self.complaint = Some(reason);
                while self.queued.try_recv().is_ok() {}
                self.about.fail(TransportError::Unreachable, |_| true);
            }
            not_before = <Instant as openraft::Instant>::now() + self.delay;
            self.delay = (self.delay * 2).min(self.about.options.reconnect_delay.1);
        }
        self.about.fail(TransportError::Lost, |_| true);
    }

    async fn connect(&self) -> Result<TcpStream, Refusal> {
        let mut stream = TcpStream::connect(&self.about.address).await?;
        set_up(&stream, self.about.options.silence_max)?;
        Hello { from: self.us, to: self.about.peer }.write(&mut stream).await?;
        let hello = Hello::read(&mut stream).await?;
        hello.check(self.us)?;
        if hello.from.node != self.about.peer {
            return Err(Refusal::Stranger { actual: hello.from.node, expected: self.about.peer });
        }
        Ok(stream)
    }

    /// Carries calls until the connection ends or the link does. Says whether any reply came.
    async fn carry(&mut self, stream: TcpStream, first: u64) -> (io::Result<()>, bool) {
        let (reader, writer) = stream.into_split();
        let mut replied = false;
        let ended = tokio::select! {
            biased;
            ended = self.about.receive(reader, &mut replied) => ended,
            ended = self.about.send(writer, first, &mut self.queued) => ended,
        };
        (ended, replied)
    }
}

impl About {
    fn waited_for(&self, call: u64) -> bool {
        unpoisoned(&self.calls).contains_key(&call)
    }

    async fn send(&self, writer: OwnedWriteHalf, first: u64, queued: &mut mpsc::Receiver<u64>) -> io::Result<()> {
        let mut writer = BufWriter::with_capacity(64 << 10, writer);
        let mut next = Some(first);
        while let Some(call) = next {
            if let Some(request) = self.take_request(call) {
                frame::write(&mut writer, call, &request).await?;
            }
            next = match queued.try_recv() {
                Ok(call) => Some(call),
                Err(_) => {
                    writer.flush().await?;
                    queued.recv().await
                }
            };
        }
        Ok(())
    }

    /// The request of a call, which from now on may reach the peer. `None` if nobody waits for it.
    fn take_request(&self, call: u64) -> Option<Bytes> {
        unpoisoned(&self.calls).get_mut(&call)?.request.take()
    }

    async fn receive(&self, reader: OwnedReadHalf, replied: &mut bool) -> io::Result<()> {
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        while let Some(header) = Header::read(&mut reader, self.options.frame_bytes_max).await? {
            let reply = header.read_payload(&mut reader).await?;
            *replied = true;
            let slot = unpoisoned(&self.calls).remove(&header.call);
            if let Some(slot) = slot {
                // An error says that the caller has just gone.
                slot.reply.send(Ok(reply)).ok();
            }
        }
        Ok(())
    }

    /// Ends the calls that are `chosen`.
    fn fail(&self, error: fn(NodeId) -> TransportError, chosen: fn(&Slot) -> bool) {
        let failed: Vec<Slot> =
            unpoisoned(&self.calls).extract_if(.., |_, slot| chosen(slot)).map(|(_, slot)| slot).collect();
        for slot in failed {
            slot.reply.send(Err(error(self.peer))).ok();
        }
    }
}
