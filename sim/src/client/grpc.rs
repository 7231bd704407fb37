//! The way in that everybody else has: gRPC, spoken by the generated client over HTTP/2 on a simulated connection.
//!
//! A client keeps one connection to each member that it has asked, and makes another when that has broken. A request
//! that gets no answer in time is cancelled, as gRPC cancels it: the member is told to forget it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::io;

use futures_util::stream;
use madsim::runtime::NodeHandle;
use seedbed_core::api::Context;
use seedbed_core::grpc::Channel;
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::kv_client::KvClient;
use seedbed_proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tonic::Status;
use tonic::metadata::MetadataMap;
use tower_service::Service;

use super::Answer;
use crate::history::{Outcome, Request, Response};
use crate::network::Network;
use crate::runtime::{MadsimRuntime, create_node};
use crate::wire;

/// A client's connections.
pub(super) struct Grpc {
    client: u32,
    network: Network,
    /// Where the tasks of its connections run, which end with the run.
    home: NodeHandle,
    channels: BTreeMap<NodeId, Channel>,
}

impl Grpc {
    pub(super) fn new(client: u32, network: Network) -> Self {
        let home = create_node(&format!("c{client}"));
        Grpc { client, network, home, channels: BTreeMap::new() }
    }

    /// What the member answers; `None` if there is no connection, or if it broke before the end of the answer.
    pub(super) async fn call(&mut self, member: NodeId, context: Context, request: &Request) -> Option<Answer> {
        let channel = match self.channel(member).await {
            Ok(channel) => channel,
            Err(error) => {
                tracing::debug!(client = self.client, %member, %error, "no connection");
                return None;
            }
        };
        // What a member answers may be larger than what tonic takes from a stranger.
        let mut kv = KvClient::new(channel.clone()).max_decoding_message_size(usize::MAX);
        let mut lease = LeaseClient::new(channel).max_decoding_message_size(usize::MAX);
        match request {
            Request::Range(message) => answer(kv.range(tagged(context, message)).await, Response::Range),
            Request::Put(message) => answer(kv.put(tagged(context, message)).await, Response::Put),
            Request::DeleteRange(message) => {
                answer(kv.delete_range(tagged(context, message)).await, Response::DeleteRange)
            }
            Request::Txn(message) => answer(kv.txn(tagged(context, message)).await, Response::Txn),
            Request::Compact(message) => answer(kv.compact(tagged(context, message)).await, Response::Compact),
            Request::LeaseGrant(message) => {
                answer(lease.lease_grant(tagged(context, message)).await, Response::LeaseGrant)
            }
            Request::LeaseRevoke(message) => {
                answer(lease.lease_revoke(tagged(context, message)).await, Response::LeaseRevoke)
            }
            Request::LeaseKeepAlive(message) => answer(kept_alive(&mut lease, message).await, Response::LeaseKeepAlive),
            Request::LeaseTimeToLive(message) => {
                answer(lease.lease_time_to_live(tagged(context, message)).await, Response::LeaseTimeToLive)
            }
            Request::LeaseLeases(message) => {
                answer(lease.lease_leases(tagged(context, message)).await, Response::LeaseLeases)
            }
        }
    }

    /// The connection to a member, made anew if there is none that works.
    async fn channel(&mut self, member: NodeId) -> io::Result<Channel> {
        if let Some(mut channel) = self.channels.remove(&member)
            && poll_fn(|context| channel.poll_ready(context)).await.is_ok()
        {
            self.channels.insert(member, channel.clone());
            return Ok(channel);
        }
        let stream = self.network.connect(self.client, member).await?;
        let authority = format!("m{member}").parse().expect("a member's name is one of a host");
        let connecting = self.home.spawn(Channel::connect::<MadsimRuntime>(stream, authority));
        let channel = connecting.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.channels.insert(member, channel.clone());
        Ok(channel)
    }
}

/// The answer to one keep-alive, on a stream of its own, with the metadata that the stream began with.
async fn kept_alive(
    lease: &mut LeaseClient<Channel>,
    message: &LeaseKeepAliveRequest,
) -> Result<tonic::Response<LeaseKeepAliveResponse>, Status> {
    let answered = lease.lease_keep_alive(stream::iter([*message])).await?;
    let (metadata, mut responses, extensions) = answered.into_parts();
    match responses.message().await {
        Ok(Some(response)) => Ok(tonic::Response::from_parts(metadata, response, extensions)),
        // Nothing was said about the lease: as if the connection had broken.
        Ok(None) => Err(Status::from_error("the stream has ended without an answer".into())),
        Err(mut status) => {
            // What comes in the trailers lacks who it is from.
            if let Some(incarnation) = metadata.get(wire::INCARNATION_HEADER) {
                status.metadata_mut().insert(wire::INCARNATION_HEADER, incarnation.clone());
            }
            Err(status)
        }
    }
}

fn tagged<M: Clone>(context: Context, message: &M) -> tonic::Request<M> {
    let mut request = tonic::Request::new(message.clone());
    request.metadata_mut().insert(wire::OPERATION_HEADER, context.operation.0.into());
    if let Some(path) = context.path {
        path.ask(request.metadata_mut());
    }
    request
}

fn answer<M>(result: Result<tonic::Response<M>, Status>, response: fn(M) -> Response) -> Option<Answer> {
    match result {
        Ok(answered) => {
            let incarnation = incarnation(answered.metadata())?;
            Some(Answer { incarnation, outcome: Outcome::Ok(response(answered.into_inner())) })
        }
        // A status that comes from the member has its header. One that has a source was made up here, when the
        // connection broke, perhaps after the headers: it says nothing about the operation, whatever its code.
        Err(status) => {
            let incarnation = incarnation(status.metadata())?;
            let of_member = std::error::Error::source(&status).is_none();
            of_member.then(|| Answer { incarnation, outcome: Outcome::of_status(status.code(), status.message()) })
        }
    }
}

fn incarnation(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(wire::INCARNATION_HEADER)?.to_str().ok()?.parse().ok()
}
