//! The port that other members call.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::io::{AsyncWriteExt, BufReader, BufWriter};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{AbortHandle, JoinSet};

use super::frame::{self, Header};
use super::hello::{Hello, Identity, Refusal};
use super::{TransportOptions, set_up, unpoisoned};
use crate::ids::NodeId;
use crate::runtime::Handler;
use crate::runtime::tokio::TokioRuntime;

/// Replies that may wait for the connection; more of them wait to be queued.
const QUEUE: usize = 256;

/// What a request costs beside its bytes, so that empty ones are bounded too.
const REQUEST_BYTES: usize = 4 << 10;

/// Where the handler is, once there is one.
pub(super) type HandlerCell = Arc<Mutex<Option<Handler>>>;

/// Accepts connections until aborted, which ends them as well. Requests being answered go on.
pub(super) fn start(socket: TcpListener, us: Identity, options: TransportOptions, handler: HandlerCell) -> AbortHandle {
    let listener = Listener { us, options, handler };
    TokioRuntime::spawn(listener.accept(socket)).abort_handle()
}

#[derive(Clone)]
struct Listener {
    us: Identity,
    options: TransportOptions,
    handler: HandlerCell,
}

impl Listener {
    async fn accept(self, socket: TcpListener) {
        // Dropped with this future, and the connections with it.
        let mut connections = JoinSet::new();
        loop {
            if connections.len() >= self.options.connections_max {
                connections.join_next().await;
            }
            let accepted = tokio::select! {
                biased;
                Some(_) = connections.join_next() => continue,
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => drop(connections.spawn(self.clone().attend(stream, address))),
                Err(error) => {
                    // Out of file descriptors, most likely: it would fail again at once.
                    tracing::warn!(%error, "cannot accept a connection");
                    TokioRuntime::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn attend(self, mut stream: TcpStream, address: SocketAddr) {
        let peer = match TokioRuntime::timeout(self.options.connect_timeout, self.greet(&mut stream)).await {
            Ok(Ok(Some(peer))) => peer,
            Ok(Ok(None)) => return,
            Ok(Err(refusal)) => return tracing::warn!(%address, reason = %refusal, "connection refused"),
            Err(_) => return tracing::warn!(%address, reason = "it is silent", "connection refused"),
        };
        let (reader, writer) = stream.into_split();
        let (replies, replied) = mpsc::channel(QUEUE);
        let ended = tokio::select! {
            biased;
            ended = self.answer(peer, reader, replies) => ended,
            ended = send(writer, replied) => ended,
        };
        match ended {
            Ok(()) => tracing::debug!(from = %peer, %address, "connection ended"),
            Err(error) => tracing::info!(from = %peer, %address, %error, "connection ended"),
        }
    }

    /// Who is there; `None` if there is nobody yet to answer.
    async fn greet(&self, stream: &mut TcpStream) -> Result<Option<NodeId>, Refusal> {
        set_up(stream, self.options.silence_max)?;
        let hello = match Hello::read(stream).await {
            Err(refusal @ Refusal::Version(_)) => {
                Hello::turn_away(stream).await?;
                return Err(refusal);
            }
            read => read?,
        };
        if unpoisoned(&self.handler).is_none() {
            return Ok(None);
        }
        // Said even to those who are refused: it tells them why.
        Hello { from: self.us, to: hello.from.node }.write(stream).await?;
        hello.check(self.us)?;
        Ok(Some(hello.from.node))
    }

    /// Reads requests and has each answered in a task of its own, which outlives the connection.
    async fn answer(&self, peer: NodeId, reader: OwnedReadHalf, replies: mpsc::Sender<Reply>) -> io::Result<()> {
        let answering = Arc::new(Semaphore::new(self.options.answering_bytes_max));
        let mut reader = BufReader::with_capacity(64 << 10, reader);
        while let Some(header) = Header::read(&mut reader, self.options.frame_bytes_max).await? {
            // A frame is never longer than all of it, or it would wait for ever.
            let bytes = (header.length + REQUEST_BYTES).min(self.options.answering_bytes_max);
            let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
            let permit = answering.clone().acquire_many_owned(bytes).await.map_err(io::Error::other)?;
            let request = header.read_payload(&mut reader).await?;
            let Some(handler) = unpoisoned(&self.handler).clone() else { continue };
            let (replies, bytes_max) = (replies.clone(), self.options.frame_bytes_max);
            drop(TokioRuntime::spawn(async move {
                let reply = handler(peer, request).await;
                if reply.len() > bytes_max {
                    tracing::error!(to = %peer, bytes = reply.len(), "reply is longer than a frame may be: not sent");
                } else {
                    // An error says that the connection has ended.
                    replies.send((header.call, reply)).await.ok();
                }
                drop(permit);
            }));
        }
        Ok(())
    }
}

type Reply = (u64, bytes::Bytes);

async fn send(writer: OwnedWriteHalf, mut replies: mpsc::Receiver<Reply>) -> io::Result<()> {
    let mut writer = BufWriter::with_capacity(64 << 10, writer);
    let mut next = replies.recv().await;
    while let Some((call, reply)) = next {
        frame::write(&mut writer, call, &reply).await?;
        next = match replies.try_recv() {
            Ok(reply) => Some(reply),
            Err(_) => {
                writer.flush().await?;
                replies.recv().await
            }
        };
    }
    Ok(())
}
