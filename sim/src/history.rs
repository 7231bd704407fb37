//! What clients did and saw: the input of every judge of client-visible guarantees.
//!
//! ```text
//!   invoke ──────────────── completion
//!     │    takes effect      │
//!     └──── somewhere here ──┘      Unknown: here or later, or never
//! ```
//!
//! - Times are virtual nanoseconds of one clock that no fault bends.
//! - An operation that got no definite answer is [`Outcome::Unknown`], never "did not happen".
//! - A written value begins with the number of the operation that wrote it ([`value_of`]), so that a read tells which
//!   operation it saw.
//! - The JSON form is stable: [`VERSION`] names it, and requests and responses are the hexadecimal protobuf encoding,
//!   which any client can produce.

use std::collections::BTreeSet;
use std::fmt;

use bytes::Bytes;
use seedbed_core::read::ReadPath;
use seedbed_proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest,
    LeaseGrantResponse, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseRevokeResponse, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, PutResponse,
    RangeRequest, RangeResponse, ResponseHeader, TxnRequest, TxnResponse, request_op,
};
use serde::{Deserialize, Serialize};
use tonic::Code;

/// The version of the JSON form.
pub const VERSION: u32 = 1;

/// Bytes of an operation's number at the head of the values that it writes.
const OPERATION_BYTES: usize = 8;

/// The value that an operation writes: its number, big-endian, filled up to `len` bytes (at least 8).
pub fn value_of(operation: u64, len: usize) -> Bytes {
    let mut value = operation.to_be_bytes().to_vec();
    value.resize(len.max(OPERATION_BYTES), b'.');
    value.into()
}

/// The operation that wrote a value made by [`value_of`]; `None` if the value cannot be one.
pub fn operation_of(value: &[u8]) -> Option<u64> {
    let head = value.first_chunk::<OPERATION_BYTES>()?;
    Some(u64::from_be_bytes(*head)).filter(|&operation| operation > 0)
}

/// A request to the KV service, or to the Lease service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Request {
    Range(#[serde(with = "hex")] RangeRequest),
    Put(#[serde(with = "hex")] PutRequest),
    DeleteRange(#[serde(with = "hex")] DeleteRangeRequest),
    Txn(#[serde(with = "hex")] TxnRequest),
    Compact(#[serde(with = "hex")] CompactionRequest),
    LeaseGrant(#[serde(with = "hex")] LeaseGrantRequest),
    LeaseRevoke(#[serde(with = "hex")] LeaseRevokeRequest),
    LeaseKeepAlive(#[serde(with = "hex")] LeaseKeepAliveRequest),
    LeaseTimeToLive(#[serde(with = "hex")] LeaseTimeToLiveRequest),
    LeaseLeases(#[serde(with = "hex")] LeaseLeasesRequest),
}

impl Request {
    /// Whether it might change a key.
    pub fn may_write(&self) -> bool {
        match self {
            Request::Put(_) | Request::DeleteRange(_) | Request::LeaseRevoke(_) => true,
            Request::Txn(txn) => txn_may_write(txn),
            Request::Range(_)
            | Request::Compact(_)
            | Request::LeaseGrant(_)
            | Request::LeaseKeepAlive(_)
            | Request::LeaseTimeToLive(_)
            | Request::LeaseLeases(_) => false,
        }
    }

    /// Whether it goes to the Lease service.
    pub fn is_of_leases(&self) -> bool {
        matches!(
            self,
            Request::LeaseGrant(_)
                | Request::LeaseRevoke(_)
                | Request::LeaseKeepAlive(_)
                | Request::LeaseTimeToLive(_)
                | Request::LeaseLeases(_)
        )
    }

    /// The leases that it names, in order; of a txn, those of every branch.
    pub fn leases(&self) -> BTreeSet<i64> {
        let mut leases = BTreeSet::new();
        match self {
            Request::Put(put) => leases.extend([put.lease]),
            Request::Txn(txn) => txn_leases(txn, &mut leases),
            Request::LeaseGrant(grant) => leases.extend([grant.id]),
            Request::LeaseRevoke(revoke) => leases.extend([revoke.id]),
            Request::LeaseKeepAlive(keep_alive) => leases.extend([keep_alive.id]),
            Request::LeaseTimeToLive(asked) => leases.extend([asked.id]),
            Request::Range(_) | Request::DeleteRange(_) | Request::Compact(_) | Request::LeaseLeases(_) => {}
        }
        leases.remove(&0);
        leases
    }

    /// Whether a member may answer it from its own applied state, however old: a serializable range, or a txn of
    /// nothing but serializable ranges.
    pub fn is_serializable(&self) -> bool {
        match self {
            Request::Range(range) => range.serializable,
            Request::Txn(txn) => {
                let mut requests = txn.success.iter().chain(&txn.failure).peekable();
                requests.peek().is_some()
                    && requests.all(|op| match &op.request {
                        Some(request_op::Request::RequestRange(range)) => range.serializable,
                        _ => false,
                    })
            }
            _ => false,
        }
    }
}

fn txn_leases(txn: &TxnRequest, leases: &mut BTreeSet<i64>) {
    for operation in txn.success.iter().chain(&txn.failure) {
        match &operation.request {
            Some(request_op::Request::RequestPut(put)) => leases.extend([put.lease]),
            Some(request_op::Request::RequestTxn(nested)) => txn_leases(nested, leases),
            Some(request_op::Request::RequestRange(_) | request_op::Request::RequestDeleteRange(_)) | None => {}
        }
    }
}

fn txn_may_write(txn: &TxnRequest) -> bool {
    txn.success.iter().chain(&txn.failure).any(|op| match &op.request {
        Some(request_op::Request::RequestPut(_) | request_op::Request::RequestDeleteRange(_)) => true,
        Some(request_op::Request::RequestTxn(nested)) => txn_may_write(nested),
        Some(request_op::Request::RequestRange(_)) | None => false,
    })
}

/// A request, with the read path that it asks for.
#[derive(Clone, Debug, PartialEq)]
pub struct Ask {
    /// The request.
    pub request: Request,
    /// The read path.
    pub path: ReadPath,
}

impl From<Request> for Ask {
    fn from(request: Request) -> Self {
        Ask { request, path: ReadPath::default() }
    }
}

/// The answer to a [`Request`] of the same kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs)]
pub enum Response {
    Range(#[serde(with = "hex")] RangeResponse),
    Put(#[serde(with = "hex")] PutResponse),
    DeleteRange(#[serde(with = "hex")] DeleteRangeResponse),
    Txn(#[serde(with = "hex")] TxnResponse),
    Compact(#[serde(with = "hex")] CompactionResponse),
    LeaseGrant(#[serde(with = "hex")] LeaseGrantResponse),
    LeaseRevoke(#[serde(with = "hex")] LeaseRevokeResponse),
    LeaseKeepAlive(#[serde(with = "hex")] LeaseKeepAliveResponse),
    LeaseTimeToLive(#[serde(with = "hex")] LeaseTimeToLiveResponse),
    LeaseLeases(#[serde(with = "hex")] LeaseLeasesResponse),
}

impl Response {
    /// Its header.
    pub fn header(&self) -> Option<&ResponseHeader> {
        match self {
            Response::Range(response) => response.header.as_ref(),
            Response::Put(response) => response.header.as_ref(),
            Response::DeleteRange(response) => response.header.as_ref(),
            Response::Txn(response) => response.header.as_ref(),
            Response::Compact(response) => response.header.as_ref(),
            Response::LeaseGrant(response) => response.header.as_ref(),
            Response::LeaseRevoke(response) => response.header.as_ref(),
            Response::LeaseKeepAlive(response) => response.header.as_ref(),
            Response::LeaseTimeToLive(response) => response.header.as_ref(),
            Response::LeaseLeases(response) => response.header.as_ref(),
        }
    }

    /// Its header, to be changed.
    pub fn header_mut(&mut self) -> &mut Option<ResponseHeader> {
        match self {
            Response::Range(response) => &mut response.header,
            Response::Put(response) => &mut response.header,
            Response::DeleteRange(response) => &mut response.header,
            Response::Txn(response) => &mut response.header,
            Response::Compact(response) => &mut response.header,
            Response::LeaseGrant(response) => &mut response.header,
            Response::LeaseRevoke(response) => &mut response.header,
            Response::LeaseKeepAlive(response) => &mut response.header,
            Response::LeaseTimeToLive(response) => &mut response.header,
            Response::LeaseLeases(response) => &mut response.header,
        }
    }

    /// The store's revision in its header; 0 if it has none.
    pub fn revision(&self) -> i64 {
        self.header().map_or(0, |header| header.revision)
    }
}

/// How an operation ended.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Answered.
    Ok(Response),
    /// Refused: it changed nothing, and never will.
    Failed {
        /// The gRPC status code.
        code: i32,
        /// The status message.
        message: String,
    },
    /// A time-out, a lost connection, or an error that does not say whether it happened.
    Unknown,
}

impl Outcome {
    /// The outcome that an error status stands for. Only those that the store gives *instead of* doing the work are
    /// definite: an unavailable server may have proposed the change already.
    pub fn of_status(code: Code, message: &str) -> Outcome {
        match code {
            Code::OutOfRange
            | Code::InvalidArgument
            | Code::NotFound
            | Code::FailedPrecondition
            | Code::ResourceExhausted
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented => Outcome::Failed { code: code as i32, message: message.to_owned() },
            _ => Outcome::Unknown,
        }
    }
}

/// One operation of one client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// Its number: unique in the history, greater than 0.
    pub id: u64,
    /// Who asked. A client has one operation under way at a time.
    pub client: u64,
    /// Which member was asked; 0 if nobody knows.
    pub member: u64,
    /// How often that member had been restarted.
    pub incarnation: u64,
    /// When it was invoked, in virtual nanoseconds.
    pub invoked: u64,
    /// When it ended, or when its client gave up.
    pub returned: u64,
    /// What was asked.
    pub request: Request,
    /// The read path that was asked for. Without meaning for what is not a range, or is a serializable one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub path: ReadPath,
    /// Whether a proxy has answered from what it keeps.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cached: bool,
    /// How it ended.
    pub outcome: Outcome,
}

fn is_default(path: &ReadPath) -> bool {
    *path == ReadPath::default()
}

impl Operation {
    /// By which path it was to be read, if it is a range.
    pub fn read_path(&self) -> Option<ReadPath> {
        match &self.request {
            Request::Range(range) if range.serializable => Some(ReadPath::Serializable),
            Request::Range(_) => Some(self.path),
            _ => None,
        }
    }

    /// The response, if there was one.
    pub fn response(&self) -> Option<&Response> {
        match &self.outcome {
            Outcome::Ok(response) => Some(response),
            _ => None,
        }
    }
}

/// What clients did and saw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct History {
    /// [`VERSION`] at the time of writing.
    pub version: u32,
    /// The operations, in the order of their invocation.
    pub operations: Vec<Operation>,
}

impl Default for History {
    fn default() -> Self {
        History { version: VERSION, operations: Vec::new() }
    }
}

/// A history that cannot be judged as it stands.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum InvalidHistory {
    #[error("the history's form has version {0}, this build reads version {VERSION}")]
    Version(u32),
    #[error("operation {0} returned before it was invoked")]
    Times(u64),
    #[error("the number {0} names two operations, or is 0")]
    Number(u64),
    #[error("operation {0}: its response is of another kind than its request")]
    Kind(u64),
    #[error("not a history: {0}")]
    Json(#[from] serde_json::Error),
}

impl History {
    /// Its JSON form.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a history holds only maps with string keys")
    }

    /// Reads the JSON form and checks that it can be judged.
    pub fn from_json(json: &str) -> Result<History, InvalidHistory> {
        let history: History = serde_json::from_str(json)?;
        history.validate()?;
        Ok(history)
    }

    /// Unique numbers, times in order, responses of their requests' kind.
    pub fn validate(&self) -> Result<(), InvalidHistory> {
        if self.version != VERSION {
            return Err(InvalidHistory::Version(self.version));
        }
        let mut seen = BTreeSet::new();
        for operation in &self.operations {
            if operation.returned < operation.invoked {
                return Err(InvalidHistory::Times(operation.id));
            }
            if operation.id == 0 || !seen.insert(operation.id) {
                return Err(InvalidHistory::Number(operation.id));
            }
            let same_kind = matches!(
                (&operation.request, operation.response()),
                (_, None)
                    | (Request::Range(_), Some(Response::Range(_)))
                    | (Request::Put(_), Some(Response::Put(_)))
                    | (Request::DeleteRange(_), Some(Response::DeleteRange(_)))
                    | (Request::Txn(_), Some(Response::Txn(_)))
                    | (Request::Compact(_), Some(Response::Compact(_)))
                    | (Request::LeaseGrant(_), Some(Response::LeaseGrant(_)))
                    | (Request::LeaseRevoke(_), Some(Response::LeaseRevoke(_)))
                    | (Request::LeaseKeepAlive(_), Some(Response::LeaseKeepAlive(_)))
                    | (Request::LeaseTimeToLive(_), Some(Response::LeaseTimeToLive(_)))
                    | (Request::LeaseLeases(_), Some(Response::LeaseLeases(_)))
            );
            if !same_kind {
                return Err(InvalidHistory::Kind(operation.id));
            }
        }
        Ok(())
    }
}

/// Records a history while it happens.
#[derive(Debug, Default)]
pub struct Recorder {
    history: History,
}

/// An operation under way. Dropping it leaves the operation's outcome unknown.
#[derive(Debug)]
#[must_use = "an operation that is never completed stays unknown"]
pub struct Token {
    place: usize,
    /// The operation's number.
    pub operation: u64,
}

/// Who answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Server {
    /// The member; 0 if nobody knows.
    pub member: u64,
    /// How often it had been restarted.
    pub incarnation: u64,
    /// Whether it was a proxy, which has answered from what it keeps.
    pub cached: bool,
}

impl Recorder {
    /// Nothing has happened yet.
    pub fn new() -> Recorder {
        Recorder::default()
    }

    /// A client is about to send what `ask` makes of the operation's number.
    pub fn invoke<A: Into<Ask>>(&mut self, client: u64, server: Server, now: u64, ask: impl FnOnce(u64) -> A) -> Token {
        let place = self.history.operations.len();
        let id = place as u64 + 1;
        let Ask { request, path } = ask(id).into();
        self.history.operations.push(Operation {
            id,
            client,
            member: server.member,
            incarnation: server.incarnation,
            invoked: now,
            returned: now,
            request,
            path,
            cached: false,
            outcome: Outcome::Unknown,
        });
        Token { place, operation: id }
    }

    /// What an operation asks.
    pub fn request(&self, token: &Token) -> &Request {
        &self.history.operations[token.place].request
    }

    /// By which read path an operation asks.
    pub fn path(&self, token: &Token) -> ReadPath {
        self.history.operations[token.place].path
    }

    /// The operation has ended; `server` is who answered it, where that is known better than at its invocation.
    pub fn complete(&mut self, token: Token, server: Option<Server>, outcome: Outcome, now: u64) -> &Operation {
        let operation = &mut self.history.operations[token.place];
        if let Some(server) = server {
            (operation.member, operation.incarnation) = (server.member, server.incarnation);
            operation.cached = server.cached;
        }
        operation.returned = now.max(operation.invoked);
        operation.outcome = outcome;
        operation
    }

    /// The history. What is still under way is unknown.
    pub fn finish(self) -> History {
        self.history
    }

    /// The history so far.
    pub fn history(&self) -> &History {
        &self.history
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{} (client {}", self.id, self.client)?;
        if self.member != 0 {
            write!(f, " at member {}.{}", self.member, self.incarnation)?;
        }
        let milliseconds = |ns: u64| ns as f64 / 1e6;
        write!(f, ", {:.3}..{:.3} ms) {}", milliseconds(self.invoked), milliseconds(self.returned), self.request)?;
        if !is_default(&self.path) {
            write!(f, " by {}", self.path)?;
        }
        match &self.outcome {
            Outcome::Ok(response) => write!(f, " -> {}", Shown(response)),
            Outcome::Failed { code, message } => write!(f, " -> refused with code {code}: {message}"),
            Outcome::Unknown => f.write_str(" -> unknown"),
        }
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |key: &Bytes, end: &Bytes| {
            if end.is_empty() { format!("{}", Text(key)) } else { format!("[{}, {})", Text(key), Text(end)) }
        };
        match self {
            Request::Range(range) => {
                write!(f, "range {}", keys(&range.key, &range.range_end))?;
                if range.revision > 0 {
                    write!(f, " at revision {}", range.revision)?;
                }
                if range.serializable {
                    f.write_str(" serializable")?;
                }
                Ok(())
            }
            Request::Put(put) => {
                write!(f, "put {} = {}", Text(&put.key), Text(&put.value))?;
                if put.lease == 0 { Ok(()) } else { write!(f, " with lease {}", put.lease) }
            }
            Request::DeleteRange(delete) => write!(f, "delete {}", keys(&delete.key, &delete.range_end)),
            Request::Txn(txn) => write!(
                f,
                "txn if {} compares then {} else {} operations",
                txn.compare.len(),
                txn.success.len(),
                txn.failure.len()
            ),
            Request::Compact(compact) => write!(f, "compact {}", compact.revision),
            Request::LeaseGrant(grant) => write!(f, "grant lease {} for {} s", grant.id, grant.ttl),
            Request::LeaseRevoke(revoke) => write!(f, "revoke lease {}", revoke.id),
            Request::LeaseKeepAlive(keep) => write!(f, "keep lease {} alive", keep.id),
            Request::LeaseTimeToLive(asked) => write!(f, "time to live of lease {}", asked.id),
            Request::LeaseLeases(_) => f.write_str("list leases"),
        }
    }
}

/// A response, in one line.
struct Shown<'a>(&'a Response);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "revision {}", self.0.revision())?;
        match self.0 {
            Response::Range(range) => {
                write!(f, ", {} of {} keys", range.kvs.len(), range.count)?;
                for kv in range.kvs.iter().take(4) {
                    write!(f, " {}={}@{}", Text(&kv.key), Text(&kv.value), kv.mod_revision)?;
                }
                Ok(())
            }
            Response::DeleteRange(delete) => write!(f, ", {} deleted", delete.deleted),
            Response::Txn(txn) => write!(f, ", succeeded: {}", txn.succeeded),
            Response::LeaseGrant(grant) => write!(f, ", lease {} for {} s", grant.id, grant.ttl),
            Response::LeaseKeepAlive(kept) => write!(f, ", {} s", kept.ttl),
            Response::LeaseTimeToLive(rest) => {
                write!(f, ", {} s of {}, {} keys", rest.ttl, rest.granted_ttl, rest.keys.len())
            }
            Response::LeaseLeases(list) => write!(f, ", {} leases", list.leases.len()),
            Response::Put(_) | Response::Compact(_) | Response::LeaseRevoke(_) => Ok(()),
        }
    }
}

/// Bytes for a reader: an operation's value as its number, text as text, the rest as hexadecimal.
pub(crate) struct Text<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match operation_of(self.0) {
            Some(operation) if self.0[0] == 0 => write!(f, "#{operation}"),
            _ if self.0.iter().all(|byte| byte.is_ascii_graphic()) => {
                write!(f, "\"{}\"", self.0.escape_ascii())
            }
            _ => {
                f.write_str("0x")?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

/// Protobuf messages as hexadecimal text.
mod hex {
    use prost::Message;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<M: Message, S: Serializer>(message: &M, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for byte in message.encode_to_vec() {
            text.push(char::from_digit(u32::from(byte >> 4), 16).expect("four bits are a digit"));
            text.push(char::from_digit(u32::from(byte & 15), 16).expect("four bits are a digit"));
        }
        serializer.serialize_str(&text)
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(deserializer: D) -> Result<M, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = text
            .chars()
            .map(|digit| digit.to_digit(16).map(|digit| digit as u8))
            .collect::<Option<Vec<u8>>>()
            .filter(|digits| digits.len() % 2 == 0)
            .ok_or_else(|| D::Error::custom("a protobuf message stands here as pairs of hexadecimal digits"))?;
        let bytes: Vec<u8> = digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect();
        M::decode(bytes.as_slice()).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(id: u64) -> Request {
        Request::Put(PutRequest { key: Bytes::from_static(b"k"), value: value_of(id, 12), ..Default::default() })
    }

    #[test]
    fn a_value_names_its_operation() {
        assert_eq!(operation_of(&value_of(7, 0)), Some(7));
        assert_eq!(value_of(7, 32).len(), 32);
        assert_eq!(operation_of(b"short"), None);
        assert_eq!(operation_of(&[0; 8]), None);
    }

    #[test]
    fn the_json_form_comes_back_as_it_was() {
        let mut recorder = Recorder::new();
        let first = recorder.invoke(1, Server::default(), 10, put);
        let second = recorder.invoke(2, Server { member: 3, incarnation: 1, ..Server::default() }, 11, put);
        let _lost = recorder.invoke(3, Server::default(), 12, put);
        let header = Some(ResponseHeader { revision: 2, ..Default::default() });
        let answer = Outcome::Ok(Response::Put(PutResponse { header, prev_kv: None }));
        recorder.complete(first, Some(Server { member: 1, ..Server::default() }), answer, 20);
        recorder.complete(second, None, Outcome::of_status(Code::OutOfRange, "etcdserver: x"), 30);
        let history = recorder.finish();
        let json = history.to_json();
        assert_eq!(History::from_json(&json).unwrap(), history);
        assert!(json.contains(r#""request":{"put":"0a016b120c0000000000000001"#), "{json}");
        assert_eq!(history.operations[2].outcome, Outcome::Unknown);
        assert_eq!(history.operations[1].member, 3);
    }

    #[test]
    fn a_history_that_cannot_be_judged_is_refused() {
        let mut recorder = Recorder::new();
        let _ = recorder.invoke(1, Server::default(), 10, put);
        let history = recorder.finish();
        let broken = |change: fn(&mut History)| {
            let mut history = history.clone();
            change(&mut history);
            History::from_json(&history.to_json()).unwrap_err().to_string()
        };
        assert!(broken(|h| h.version = 9).contains("version 9"));
        assert!(broken(|h| h.operations[0].returned = 1).contains("returned before"));
        assert!(broken(|h| h.operations[0].id = 0).contains("number 0"));
        assert!(broken(|h| h.operations.push(h.operations[0].clone())).contains("number 1"));
        assert!(
            broken(|h| h.operations[0].outcome = Outcome::Ok(Response::Compact(CompactionResponse::default())))
                .contains("another kind")
        );
    }

    #[test]
    fn an_unavailable_server_says_nothing_definite() {
        assert_eq!(Outcome::of_status(Code::Unavailable, "etcdserver: leader changed"), Outcome::Unknown);
        assert!(matches!(Outcome::of_status(Code::InvalidArgument, "etcdserver: x"), Outcome::Failed { code: 3, .. }));
    }
}
