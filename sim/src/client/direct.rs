//! The direct way in: encoded messages and the method's path, without HTTP.

use bytes::Bytes;
use prost::Message;
use seedbed_core::api::Context;
use seedbed_core::raft::NodeId;

use super::Answer;
use crate::history::{Outcome, Request, Response};
use crate::network::Network;
use crate::wire;

/// A client's direct way to every member.
pub(super) struct Direct {
    client: u32,
    network: Network,
}

impl Direct {
    pub(super) fn new(client: u32, network: Network) -> Self {
        Direct { client, network }
    }

    /// What the member answers; `None` if it does not serve. May wait for ever.
    pub(super) async fn call(&self, member: NodeId, context: Context, request: &Request) -> Option<Answer> {
        let (method, body) = encode(request);
        let reply = self.network.client_call(self.client, member, method, body, context).await.ok()?;
        let answer = wire::decode(reply)?;
        let outcome = match answer.result {
            Ok(body) => Outcome::Ok(decode(request, body)),
            Err((code, message)) => Outcome::of_status(code, &message),
        };
        Some(Answer { incarnation: u64::from(answer.incarnation), cached: false, outcome })
    }
}

/// The method and the encoded form of a request.
fn encode(request: &Request) -> (&'static str, Bytes) {
    match request {
        Request::Range(message) => ("/etcdserverpb.KV/Range", message.encode_to_vec().into()),
        Request::Put(message) => ("/etcdserverpb.KV/Put", message.encode_to_vec().into()),
        Request::DeleteRange(message) => ("/etcdserverpb.KV/DeleteRange", message.encode_to_vec().into()),
        Request::Txn(message) => ("/etcdserverpb.KV/Txn", message.encode_to_vec().into()),
        Request::Compact(message) => ("/etcdserverpb.KV/Compact", message.encode_to_vec().into()),
        Request::LeaseGrant(message) => ("/etcdserverpb.Lease/LeaseGrant", message.encode_to_vec().into()),
        Request::LeaseRevoke(message) => ("/etcdserverpb.Lease/LeaseRevoke", message.encode_to_vec().into()),
        Request::LeaseKeepAlive(message) => ("/etcdserverpb.Lease/LeaseKeepAlive", message.encode_to_vec().into()),
        Request::LeaseTimeToLive(message) => ("/etcdserverpb.Lease/LeaseTimeToLive", message.encode_to_vec().into()),
        Request::LeaseLeases(message) => ("/etcdserverpb.Lease/LeaseLeases", message.encode_to_vec().into()),
    }
}

/// The response to a request, from its encoded form.
fn decode(request: &Request, body: Bytes) -> Response {
    fn message<M: Message + Default>(body: Bytes) -> M {
        M::decode(body).expect("the simulated network carries bytes whole, and the services encode what they answer")
    }
    match request {
        Request::Range(_) => Response::Range(message(body)),
        Request::Put(_) => Response::Put(message(body)),
        Request::DeleteRange(_) => Response::DeleteRange(message(body)),
        Request::Txn(_) => Response::Txn(message(body)),
        Request::Compact(_) => Response::Compact(message(body)),
        Request::LeaseGrant(_) => Response::LeaseGrant(message(body)),
        Request::LeaseRevoke(_) => Response::LeaseRevoke(message(body)),
        Request::LeaseKeepAlive(_) => Response::LeaseKeepAlive(message(body)),
        Request::LeaseTimeToLive(_) => Response::LeaseTimeToLive(message(body)),
        Request::LeaseLeases(_) => Response::LeaseLeases(message(body)),
    }
}
