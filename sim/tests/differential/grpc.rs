//! Asking a server over gRPC, down to the bytes of its answer.

use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use futures_util::stream;
use http::uri::PathAndQuery;
use openraft::AsyncRuntime;
use prost::Message;
use seedbed_core::grpc::Channel;
use seedbed_core::runtime::tokio::TokioRuntime;
use seedbed_proto::etcdserverpb::{ResponseHeader, ResponseOp, response_op};
use seedbed_sim::history::{Outcome, Request, Response};
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// How long an answer is waited for. A server gives up by itself after seven seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Messages as their bytes: a decoded message would not show a field that the protocol here does not know.
#[derive(Clone, Copy, Default)]
struct Encoded;

impl Codec for Encoded {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Encoded;
    type Decoder = Encoded;

    fn encoder(&mut self) -> Encoded {
        Encoded
    }

    fn decoder(&mut self) -> Encoded {
        Encoded
    }
}

impl Encoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        buffer.put(item);
        Ok(())
    }
}

impl Decoder for Encoded {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, buffer: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(buffer.copy_to_bytes(buffer.remaining())))
    }
}

/// What a server answers. Every error counts as an answer: that of a broken connection, or of an answer that is not of the
/// protocol, equals no other server's.
pub(crate) async fn ask(channel: &Channel, request: &Request) -> Outcome {
    let (path, encoded) = match request {
        Request::Range(range) => ("/etcdserverpb.KV/Range", range.encode_to_vec()),
        Request::Put(put) => ("/etcdserverpb.KV/Put", put.encode_to_vec()),
        Request::DeleteRange(delete) => ("/etcdserverpb.KV/DeleteRange", delete.encode_to_vec()),
        Request::Txn(txn) => ("/etcdserverpb.KV/Txn", txn.encode_to_vec()),
        Request::Compact(compact) => ("/etcdserverpb.KV/Compact", compact.encode_to_vec()),
        Request::LeaseGrant(grant) => ("/etcdserverpb.Lease/LeaseGrant", grant.encode_to_vec()),
        Request::LeaseRevoke(revoke) => ("/etcdserverpb.Lease/LeaseRevoke", revoke.encode_to_vec()),
        Request::LeaseKeepAlive(keep) => ("/etcdserverpb.Lease/LeaseKeepAlive", keep.encode_to_vec()),
        Request::LeaseTimeToLive(asked) => ("/etcdserverpb.Lease/LeaseTimeToLive", asked.encode_to_vec()),
        Request::LeaseLeases(asked) => ("/etcdserverpb.Lease/LeaseLeases", asked.encode_to_vec()),
    };
    let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(usize::MAX);
    // Always so: a channel that has broken says it in its answer.
    if let Err(error) = grpc.ready().await {
        return failed(&Status::unavailable(error.to_string()));
    }
    let message = tonic::Request::new(Bytes::from(encoded));
    let path = PathAndQuery::from_static(path);
    let answer = async {
        match request {
            // One message of a stream, and what is said to that.
            Request::LeaseKeepAlive(_) => {
                let stream = message.map(|message| stream::iter([message]));
                let mut answers = grpc.streaming(stream, path, Encoded).await?.into_inner();
                answers.message().await?.ok_or_else(|| Status::unknown("the stream has ended without an answer"))
            }
            _ => grpc.unary(message, path, Encoded).await.map(tonic::Response::into_inner),
        }
    };
    match TokioRuntime::timeout(PATIENCE, answer).await {
        Ok(Ok(answer)) => decoded(request, answer),
        Ok(Err(status)) => failed(&status),
        Err(_) => failed(&Status::deadline_exceeded(format!("no answer within {PATIENCE:?}"))),
    }
}

fn failed(status: &Status) -> Outcome {
    Outcome::Failed { code: status.code() as i32, message: status.message().to_owned() }
}

fn decoded(request: &Request, answer: Bytes) -> Outcome {
    fn whole<M: Message + Default>(answer: Bytes) -> Result<M, String> {
        let message =
            M::decode(answer.clone()).map_err(|error| format!("an answer that cannot be decoded: {error}"))?;
        if message.encode_to_vec() == answer {
            Ok(message)
        } else {
            Err("an answer with fields that the protocol here does not know".to_owned())
        }
    }
    let response = match request {
        Request::Range(_) => whole(answer).map(Response::Range),
        Request::Put(_) => whole(answer).map(Response::Put),
        Request::DeleteRange(_) => whole(answer).map(Response::DeleteRange),
        Request::Txn(_) => whole(answer).map(Response::Txn),
        Request::Compact(_) => whole(answer).map(Response::Compact),
        Request::LeaseGrant(_) => whole(answer).map(Response::LeaseGrant),
        Request::LeaseRevoke(_) => whole(answer).map(Response::LeaseRevoke),
        Request::LeaseKeepAlive(_) => whole(answer).map(Response::LeaseKeepAlive),
        Request::LeaseTimeToLive(_) => whole(answer).map(Response::LeaseTimeToLive),
        Request::LeaseLeases(_) => whole(answer).map(Response::LeaseLeases),
    };
    match response {
        Ok(response) => Outcome::Ok(response),
        Err(unreadable) => failed(&Status::unknown(unreadable)),
    }
}

/// Identifiers and terms differ between servers: of each it is only kept whether there is one.
pub(crate) fn without_identity(mut outcome: Outcome) -> Outcome {
    fn header(header: &mut Option<ResponseHeader>) {
        if let Some(header) = header {
            for number in [&mut header.cluster_id, &mut header.member_id, &mut header.raft_term] {
                *number = (*number).min(1);
            }
        }
    }
    fn inner(operations: &mut [ResponseOp]) {
        for operation in operations {
            match &mut operation.response {
                Some(response_op::Response::ResponseRange(range)) => header(&mut range.header),
                Some(response_op::Response::ResponsePut(put)) => header(&mut put.header),
                Some(response_op::Response::ResponseDeleteRange(delete)) => header(&mut delete.header),
                Some(response_op::Response::ResponseTxn(txn)) => {
                    header(&mut txn.header);
                    inner(&mut txn.responses);
                }
                None => {}
            }
        }
    }
    if let Outcome::Ok(response) = &mut outcome {
        header(response.header_mut());
        if let Response::Txn(txn) = response {
            inner(&mut txn.responses);
        }
    }
    outcome
}
