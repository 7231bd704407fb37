//! Calls of one request and one response, without what tonic needs for streams: for those of which there are so many that it counts.
//!
//! ```text
//!   0         1         5
//!   | 0 plain | length  | message | ...    a request or response as HTTP/2 carries it, in one piece or in several
//! ```

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Request, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Body as _, Frame, Incoming};
use prost::Message;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status, body::Body};

use super::routes::Response;

/// What comes before a message.
const PREFIX_BYTES: usize = 5;
const APPLICATION_GRPC: HeaderValue = HeaderValue::from_static("application/grpc");
/// What is no metadata of a service's to give.
const RESERVED: [&str; 4] = ["te", "grpc-status", "grpc-message", "grpc-message-type"];
const OK: HeaderValue = HeaderValue::from_static("0");

/// Has a call answered whose request is not compressed, and has so many bytes at most. Refuses what is no such request as tonic
/// does.
pub(super) async fn answer<T, U, F>(
    request: Request<Incoming>,
    bytes_max: usize,
    service: impl FnOnce(tonic::Request<T>) -> F + Send,
) -> Response
where
    T: Message + Default,
    U: Message,
    F: Future<Output = Result<tonic::Response<U>, Status>> + Send,
{
    let (mut parts, body) = request.into_parts();
    let answered = match read(body, bytes_max, &mut parts.headers).await.and_then(decode) {
        Ok(message) => {
            let metadata = MetadataMap::from_headers(parts.headers);
            service(tonic::Request::from_parts(metadata, parts.extensions, message)).await
        }
        Err(refusal) => Err(refusal),
    };
    answered.and_then(encode).unwrap_or_else(|refusal| refusal.into_http())
}

/// The message of a request. What comes in trailers goes into the headers.
async fn read(mut body: Incoming, bytes_max: usize, headers: &mut HeaderMap) -> Result<Bytes, Status> {
    // In one piece, most likely, which is none of ours to copy.
    let mut read = piece(&mut body, headers).await?.ok_or_else(|| Status::internal("Missing request message."))?;
    let mut bytes = None;
    loop {
        if bytes.is_none() && read.len() >= PREFIX_BYTES {
            bytes = Some(PREFIX_BYTES + message_bytes(&read, bytes_max)?);
        }
        if bytes.is_some_and(|bytes| read.len() >= bytes) {
            break;
        }
        let next =
            piece(&mut body, headers).await?.ok_or_else(|| Status::internal("Unexpected EOF decoding stream."))?;
        let mut both = read.try_into_mut().unwrap_or_else(|shared| {
            let mut own = BytesMut::with_capacity(bytes.unwrap_or_default().max(shared.len() + next.len()));
            own.put(shared);
            own
        });
        both.put(next);
        read = both.freeze();
    }
    // To the end: who is answered before has sent in vain, by HTTP/2's book.
    while !body.is_end_stream() && piece(&mut body, headers).await?.is_some() {}
    Ok(read.slice(PREFIX_BYTES..bytes.unwrap_or(PREFIX_BYTES)))
}

/// The next of a body that has anything in it.
async fn piece(body: &mut Incoming, headers: &mut HeaderMap) -> Result<Option<Bytes>, Status> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| Status::from_error(error.into()))?;
        match frame.into_data().map_err(Frame::into_trailers) {
            Ok(data) if data.is_empty() => {}
            Ok(data) => return Ok(Some(data)),
            Err(trailers) => headers.extend(trailers.unwrap_or_default()),
        }
    }
    Ok(None)
}

/// How many bytes come after the prefix.
fn message_bytes(mut prefix: &[u8], bytes_max: usize) -> Result<usize, Status> {
    match prefix.get_u8() {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1), \
                 while sending request"
            )));
        }
    }
    let bytes = prefix.get_u32() as usize;
    if bytes > bytes_max {
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {bytes} bytes, the limit is: {bytes_max} bytes"
        )));
    }
    Ok(bytes)
}

fn decode<T: Message + Default>(message: Bytes) -> Result<T, Status> {
    T::decode(message).map_err(|error| Status::internal(error.to_string()))
}

fn encode<T: Message>(response: tonic::Response<T>) -> Result<Response, Status> {
    let (metadata, message, _) = response.into_parts();
    let bytes = message.encoded_len();
    let length = u32::try_from(bytes).map_err(|_| {
        let line = format!("Cannot return body with more than 4GB of data but got {bytes} bytes");
        Status::new(Code::ResourceExhausted, line)
    })?;
    let mut data = BytesMut::with_capacity(PREFIX_BYTES + bytes);
    data.put_u8(0);
    data.put_u32(length);
    message.encode_raw(&mut data);
    let trailers = HeaderMap::from_iter([(Status::GRPC_STATUS, OK)]);
    let frames = [Frame::data(data.freeze()), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
    let body = StreamBody::new(stream::iter(frames));
    let mut response = http::Response::new(Body::new(body));
    let mut headers = metadata.into_headers();
    // Those of a member's answer come from its trailers, and are for the proxy.
    if headers.keys().any(|name| RESERVED.contains(&name.as_str())) {
        RESERVED.iter().for_each(|name| drop(headers.remove(*name)));
    }
    *response.headers_mut() = headers;
    response.headers_mut().insert(header::CONTENT_TYPE, APPLICATION_GRPC);
    Ok(response)
}
