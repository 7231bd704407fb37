//! What clients and members say to each other beyond the protocol: the operation that a request belongs to, and which life
//! of the member answered. Over gRPC both are headers. A direct reply is the gRPC status and the message, behind that:
//!
//! ```text
//!   incarnation  4 bytes, big-endian
//!   status code  4 bytes, big-endian; 0 is success
//!   the rest     the encoded response, or the text of the error
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tonic::{Code, Status};

/// The header of a gRPC request with the number of its operation.
pub const OPERATION_HEADER: &str = "seedbed-operation";

/// The header of a gRPC response with how often the member had been restarted.
pub const INCARNATION_HEADER: &str = "seedbed-incarnation";

/// What a member answered directly.
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
