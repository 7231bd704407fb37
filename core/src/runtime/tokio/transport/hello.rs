//! The handshake: each end says who it is and whom it takes the other for, before anything else.

use std::io;

use bytes::{Buf, BufMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::ids::NodeId;
use crate::runtime::PROTOCOL_VERSION;

const MAGIC: [u8; 8] = *b"seedbed\n";

/// Magic and version, which keep their places for ever.
const HEAD: usize = 8 + 4;

/// Magic, version, cluster, from, to; integers little-endian.
const LENGTH: usize = HEAD + 8 + 8 + 8;

/// What is listened to, and dropped, of an end that speaks another version.
const TURNED_AWAY_BYTES_MAX: u64 = 64 << 10;

/// A member of a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) cluster: u64,
    pub(super) node: NodeId,
}

/// What an end of a new connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) from: Identity,
    pub(super) to: NodeId,
}

/// Why there is no connection between these two.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refusal {
    #[error("handshake: {0}")]
    Io(#[from] io::Error),
    #[error("it is not a member: it does not speak this protocol")]
    Foreign,
    #[error("it speaks version {0} of the protocol, not version {PROTOCOL_VERSION}")]
    Version(u32),
    #[error("it belongs to cluster {theirs:016x}, not to {ours:016x}")]
    Cluster { theirs: u64, ours: u64 },
    #[error("it is member {actual}, not {expected}")]
    Stranger { actual: NodeId, expected: NodeId },
    #[error("it takes this member for {0}")]
    Mistaken(NodeId),
}

impl Hello {
    pub(super) async fn write(self, stream: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(LENGTH);
        bytes.put_slice(&head());
        bytes.put_u64_le(self.from.cluster);
        bytes.put_u64_le(self.from.node.0);
        bytes.put_u64_le(self.to.0);
        stream.write_all(&bytes).await
    }

    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Hello, Refusal> {
        // First what every version has, since another one may be shorter.
        let mut head = [0; HEAD];
        stream.read_exact(&mut head).await?;
        let (magic, mut version) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return Err(Refusal::Foreign);
        }
        match version.get_u32_le() {
            PROTOCOL_VERSION => {}
            version => return Err(Refusal::Version(version)),
        }
        let mut rest = [0; LENGTH - HEAD];
        stream.read_exact(&mut rest).await?;
        let mut rest = &rest[..];
        let from = Identity { cluster: rest.get_u64_le(), node: NodeId(rest.get_u64_le()) };
        Ok(Hello { from, to: NodeId(rest.get_u64_le()) })
    }

    /// Tells an end that speaks another version which one is spoken here, all that it can read, and waits until it has
    /// gone: closing before it has said everything would take the answer away from it.
    pub(super) async fn turn_away(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> io::Result<()> {
        stream.write_all(&head()).await?;
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(TURNED_AWAY_BYTES_MAX), &mut tokio::io::sink()).await?;
        Ok(())
    }

    /// Whether this, said by the other end, may speak with `us`.
    pub(super) fn check(self, us: Identity) -> Result<(), Refusal> {
        if self.from.cluster != us.cluster {
            Err(Refusal::Cluster { theirs: self.from.cluster, ours: us.cluster })
        } else if self.to != us.node {
            Err(Refusal::Mistaken(self.to))
        } else {
            Ok(())
        }
    }
}

fn head() -> [u8; HEAD] {
    let mut head = [0; HEAD];
    head[..MAGIC.len()].copy_from_slice(&MAGIC);
    head[MAGIC.len()..].copy_from_slice(&PROTOCOL_VERSION.to_le_bytes());
    head
}

#[cfg(test)]
mod tests {
    use openraft::AsyncRuntime;

    use super::*;
    use crate::runtime::tokio::TokioRuntime;

    const HELLO: Hello = Hello { from: Identity { cluster: 0xfeed, node: NodeId(1) }, to: NodeId(2) };

    async fn written() -> Vec<u8> {
        let mut bytes = Vec::new();
        HELLO.write(&mut bytes).await.unwrap();
        assert_eq!(bytes.len(), LENGTH);
        bytes
    }

    #[test]
    fn a_hello_reads_back_and_other_protocols_are_told_apart() {
        TokioRuntime::new(1).block_on(async {
            let bytes = written().await;
            assert_eq!(Hello::read(&mut &bytes[..]).await.unwrap(), HELLO);
            assert!(matches!(Hello::read(&mut &bytes[..LENGTH - 1]).await, Err(Refusal::Io(_))));
            assert!(matches!(Hello::read(&mut &b"GET / HTTP/1.1\r\n"[..]).await, Err(Refusal::Foreign)));
            let mut newer = bytes.clone();
            newer[8] = 9;
            newer.truncate(HEAD);
            let refusal = Hello::read(&mut &newer[..]).await.unwrap_err();
            assert_eq!(
                refusal.to_string(),
                format!("it speaks version 9 of the protocol, not version {PROTOCOL_VERSION}")
            );
        });
    }

    #[test]
    fn only_members_of_one_cluster_who_know_each_other_speak() {
        let us = Identity { cluster: 0xfeed, node: NodeId(2) };
        assert!(HELLO.check(us).is_ok());
        let refused = HELLO.check(Identity { cluster: 0xbeef, ..us }).unwrap_err();
        assert_eq!(refused.to_string(), "it belongs to cluster 000000000000feed, not to 000000000000beef");
        let refused = HELLO.check(Identity { node: NodeId(3), ..us }).unwrap_err();
        assert_eq!(refused.to_string(), "it takes this member for 2");
    }
}
