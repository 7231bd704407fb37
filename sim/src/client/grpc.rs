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
use seedbed_core::proxy::CACHED;
use seedbed_core::raft::NodeId;
use seedbed_proto::etcdserverpb::kv_client::KvClient;
use seedbed_proto::etcdserverpb::lease_client::LeaseClient;
use seedbed_proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse};
use tokio::sync::mpsc;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};
use tower_service::Service;

use super::Answer;
use crate::history::{Outcome, Request, Response};
use crate::network::Network;
use crate::runtime::{MadsimRuntime, create_node};
use crate::wire;

/// How often a keep-alive is sent at once at most, by the number of its lease.
const MESSAGES_MAX: u64 = 3;

/// A client's connections.
pub(super) struct Grpc {
    client: u32,
    network: Network,
    /// Where the tasks of its connections run, which end with the run.
    home: NodeHandle,
    channels: BTreeMap<NodeId, Channel>,
    /// Streams of keep-alives that have answered all they were asked, on these connections.
    keeping: BTreeMap<NodeId, Keeping>,
}

/// A stream of keep-alives.
struct Keeping {
    requests: mpsc::UnboundedSender<LeaseKeepAliveRequest>,
    responses: Streaming<LeaseKeepAliveResponse>,
    /// What the stream began with.
    metadata: MetadataMap,
}

impl Grpc {
    pub(super) fn new(client: u32, network: Network) -> Self {
        let home = create_node(&format!("c{client}"));
        Grpc { client, network, home, channels: BTreeMap::new(), keeping: BTreeMap::new() }
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
            Request::LeaseKeepAlive(message) => {
                // Taken out: who gives up half-way leaves answers on it that nobody has asked for any more.
                let mut keeping = match self.keeping.remove(&member) {
                    Some(keeping) => keeping,
                    None => match Keeping::begin(&mut lease).await {
                        Ok(keeping) => keeping,
                        Err(status) => return answer(Err(status), Response::LeaseKeepAlive),
                    },
                };
                let answered = keeping.ask(message).await;
                if answered.is_ok() {
                    self.keeping.insert(member, keeping);
                }
                answer(answered, Response::LeaseKeepAlive)
            }
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
        self.keeping.remove(&member);
        let stream = self.network.connect(self.client, member).await?;
        let authority = format!("m{member}").parse().expect("a member's name is one of a host");
        let connecting = self.home.spawn(Channel::connect::<MadsimRuntime>(stream, authority));
        let channel = connecting.await.map_err(io::Error::other)?.map_err(io::Error::other)?;
        self.channels.insert(member, channel.clone());
        Ok(channel)
    }
}

impl Keeping {
    async fn begin(lease: &mut LeaseClient<Channel>) -> Result<Keeping, Status> {
        let (requests, mut receiver) = mpsc::unbounded_channel();
        let asked = stream::poll_fn(move |context| receiver.poll_recv(context));
        let (metadata, responses, _) = lease.lease_keep_alive(asked).await?.into_parts();
        Ok(Keeping { requests, responses, metadata })
    }

    /// The last answer to a keep-alive that is sent so often at once, as by a client that has waited.
    async fn ask(
        &mut self,
        message: &LeaseKeepAliveRequest,
    ) -> Result<tonic::Response<LeaseKeepAliveResponse>, Status> {
        let times = 1 + message.id.unsigned_abs() % MESSAGES_MAX;
        // If the stream has ended, so have its responses.
        for _ in 0..times {
            let _ = self.requests.send(*message);
        }
        let mut last = None;
        for _ in 0..times {
            last = Some(self.next().await?);
        }
        let response = last.expect("it is asked once or more");
        Ok(tonic::Response::from_parts(self.metadata.clone(), response, tonic::Extensions::default()))
    }

    async fn next(&mut self) -> Result<LeaseKeepAliveResponse, Status> {
        match self.responses.message().await {
            Ok(Some(response)) => Ok(response),
            // Nothing was said about the lease: as if the connection had broken.
            Ok(None) => Err(Status::from_error("the stream has ended without an answer".into())),
            Err(mut status) => {
                // What comes in the trailers lacks who it is from.
                if let Some(incarnation) = self.metadata.get(wire::INCARNATION_HEADER) {
                    status.metadata_mut().insert(wire::INCARNATION_HEADER, incarnation.clone());
                }
                Err(status)
            }
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
            let cached = answered.metadata().contains_key(CACHED);
            Some(Answer { incarnation, cached, outcome: Outcome::Ok(response(answered.into_inner())) })
        }
        // A status that comes from the member has its header. One that has a source was made up here, when the
        // connection broke, perhaps after the headers: it says nothing about the operation, whatever its code.
        Err(status) => {
            let incarnation = incarnation(status.metadata())?;
            let of_member = std::error::Error::source(&status).is_none();
            let outcome = || Outcome::of_status(status.code(), status.message());
            of_member.then(|| Answer { incarnation, cached: false, outcome: outcome() })
        }
    }
}

fn incarnation(metadata: &MetadataMap) -> Option<u64> {
    metadata.get(wire::INCARNATION_HEADER)?.to_str().ok()?.parse().ok()
}
