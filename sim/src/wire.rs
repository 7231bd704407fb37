//! The reply of a member to a simulated client: the gRPC status and the message, and which life of the member answered.
//!
//! ```text
//!   incarnation  4 bytes, big-endian
//!   status code  4 bytes, big-endian; 0 is success
//!   the rest     the encoded response, or the text of the error
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tonic::{Code, Status};

/// What a member answered.
#[derive(Clone, Debug)]
pub struct Answer {
    /// How often the member had been restarted.
    pub incarnation: u32,
    /// The encoded response, or the error.
    pub result: Result<Bytes, (Code, String)>,
}

/// Encodes what the services returned.
pub fn encode(incarnation: u32, result: Result<Bytes, Status>) -> Bytes {
    let (code, payload) = match &result {
        Ok(response) => (Code::Ok, &response[..]),
        Err(status) => (status.code(), status.message().as_bytes()),
    };
    let mut encoded = BytesMut::with_capacity(8 + payload.len());
    encoded.put_u32(incarnation);
    encoded.put_i32(code as i32);
    encoded.put_slice(payload);
    encoded.freeze()
}

/// Decodes a reply; `None` if it is cut short.
pub fn decode(mut encoded: Bytes) -> Option<Answer> {
    let incarnation = encoded.try_get_u32().ok()?;
    let result = match Code::from_i32(encoded.try_get_i32().ok()?) {
        Code::Ok => Ok(encoded),
        code => Err((code, String::from_utf8_lossy(&encoded).into_owned())),
    };
    Some(Answer { incarnation, result })
}
