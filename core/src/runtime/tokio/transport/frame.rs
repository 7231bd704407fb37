//! One request or reply on a connection.
//!
//! ```text
//!   length u32 │ checksum u32 │ call u64 │ payload (length bytes)       little-endian
//! ```
//!
//! The checksum is the CRC-32C of call and payload: TCP's own misses one corruption in 65,536 that reaches it.

use std::io;

use bytes::{Buf, BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

const HEADER: usize = 4 + 4 + 8;

/// What is allocated for a payload before any of it has arrived.
const FIRST_BYTES: usize = 64 << 10;

/// What comes before a payload.
#[derive(Clone, Copy, Debug)]
pub(super) struct Header {
    /// The payload's bytes, at most what was allowed when reading.
    pub(super) length: usize,
    /// Which call a payload belongs to: chosen by the caller, given back with the reply.
    pub(super) call: u64,
    checksum: u32,
}

fn checksum(call: u64, payload: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&call.to_le_bytes()), payload)
}

impl Header {
    /// Reads up to the payload. `None` if the connection ended between two frames.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), bytes_max: usize) -> io::Result<Option<Header>> {
        let mut header = [0; HEADER];
        if stream.read(&mut header[..1]).await? == 0 {
            return Ok(None);
        }
        stream.read_exact(&mut header[1..]).await?;
        let mut fields = &header[..];
        let (length, checksum, call) = (fields.get_u32_le(), fields.get_u32_le(), fields.get_u64_le());
        match usize::try_from(length) {
            Ok(length) if length <= bytes_max => Ok(Some(Header { length, call, checksum })),
            _ => Err(invalid(format!("a frame of {length} bytes is longer than the {bytes_max} allowed"))),
        }
    }

    /// Reads the payload. Memory grows with what arrives, whatever the header says.
    pub(super) async fn read_payload(self, stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Bytes> {
        let mut payload = Vec::with_capacity(self.length.min(FIRST_BYTES));
        stream.take(self.length as u64).read_to_end(&mut payload).await?;
        if payload.len() < self.length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if checksum(self.call, &payload) != self.checksum {
            return Err(invalid(format!("a frame of {} bytes does not match its checksum", self.length)));
        }
        Ok(payload.into())
    }
}

/// Writes a frame, without flushing. The payload is no longer than `u32::MAX`.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), call: u64, payload: &[u8]) -> io::Result<()> {
    let length = u32::try_from(payload.len()).map_err(|_| invalid("a payload of 4 GiB".to_owned()))?;
    let mut header = Vec::with_capacity(HEADER);
    header.put_u32_le(length);
    header.put_u32_le(checksum(call, payload));
    header.put_u64_le(call);
    stream.write_all(&header).await?;
    stream.write_all(payload).await
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use openraft::AsyncRuntime;

    use super::*;
    use crate::runtime::tokio::TokioRuntime;

    async fn read(mut bytes: &[u8]) -> io::Result<Option<(u64, Bytes)>> {
        let Some(header) = Header::read(&mut bytes, 1 << 20).await? else { return Ok(None) };
        Ok(Some((header.call, header.read_payload(&mut bytes).await?)))
    }

    #[test]
    fn frames_read_back_and_every_damage_is_an_error() {
        TokioRuntime::new(1).block_on(async {
            let payload = vec![0xa5; 300];
            let mut bytes = Vec::new();
            write(&mut bytes, 7, &payload).await.unwrap();
            assert_eq!(read(&bytes).await.unwrap(), Some((7, Bytes::from(payload))));
            assert_eq!(read(&[]).await.unwrap(), None);
            for cut in 1..bytes.len() {
                assert_eq!(read(&bytes[..cut]).await.unwrap_err().kind(), io::ErrorKind::UnexpectedEof, "cut at {cut}");
            }
            for place in 0..bytes.len() {
                let mut damaged = bytes.clone();
                damaged[place] ^= 4;
                assert!(read(&damaged).await.is_err(), "byte {place} changed");
            }
        });
    }

    #[test]
    fn a_header_that_lies_about_its_length_costs_nothing() {
        TokioRuntime::new(1).block_on(async {
            let header = [0xff; HEADER];
            let refused = Header::read(&mut &header[..], 1 << 20).await.unwrap_err();
            assert_eq!(refused.to_string(), "a frame of 4294967295 bytes is longer than the 1048576 allowed");
        });
    }
}
