//! Calling a service by its method's path, with encoded messages: what gRPC does, without HTTP.

use std::sync::Arc;

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use super::kv::KvService;
use super::lease::LeaseService;
use crate::proto::etcdserverpb::LeaseKeepAliveRequest;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::proto::etcdserverpb::lease_server::Lease;
use crate::read::ReadPath;
use crate::runtime::Runtime;

/// The client operation that a request belongs to, as an extension of the request. Only a simulated client sets it; it
/// travels in the log entry, so that a judge can find out whether an operation without an answer took effect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OperationId(pub u64);

impl OperationId {
    /// The operation of `request`, or 0.
    pub fn of<M>(request: &tonic::Request<M>) -> OperationId {
        request.extensions().get().copied().unwrap_or_default()
    }
}

/// What travels beside a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Context {
    /// The client operation that it belongs to.
    pub operation: OperationId,
    /// The read path that it asks for.
    pub path: Option<ReadPath>,
}

fn decode<M: Message + Default>(context: Context, encoded: Bytes) -> Result<tonic::Request<M>, Status> {
    let message = M::decode(encoded).map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
    let mut request = tonic::Request::new(message);
    request.extensions_mut().insert(context.operation);
    if let Some(path) = context.path {
        request.extensions_mut().insert(path);
    }
    Ok(request)
}

fn encode<M: Message>(response: tonic::Response<M>) -> Bytes {
    response.into_inner().encode_to_vec().into()
}

/// The services whose methods can be called without HTTP.
pub struct Dispatch<R: Runtime> {
    pub(crate) kv: Arc<KvService<R>>,
    pub(crate) lease: Arc<LeaseService<R>>,
}

impl<R: Runtime> Clone for Dispatch<R> {
    fn clone(&self) -> Self {
        Dispatch { kv: self.kv.clone(), lease: self.lease.clone() }
    }
}

impl<R: Runtime> Dispatch<R> {
    /// Calls the method at `path` (for instance `/etcdserverpb.KV/Put`) with an encoded request. A keep-alive is one message
    /// of its stream.
    ///
    /// # Errors
    /// The method's; `Unimplemented` if there is no such method, `InvalidArgument` if the request cannot be decoded.
    pub async fn call(&self, path: &str, context: Context, request: Bytes) -> Result<Bytes, Status> {
        let Dispatch { kv, lease } = self;
        match path {
            "/etcdserverpb.KV/Range" => kv.range(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Put" => kv.put(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/DeleteRange" => kv.delete_range(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Txn" => kv.txn(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Compact" => kv.compact(decode(context, request)?).await.map(encode),
            "/etcdserverpb.Lease/LeaseGrant" => lease.lease_grant(decode(context, request)?).await.map(encode),
            "/etcdserverpb.Lease/LeaseRevoke" => lease.lease_revoke(decode(context, request)?).await.map(encode),
            "/etcdserverpb.Lease/LeaseKeepAlive" => {
                let request: tonic::Request<LeaseKeepAliveRequest> = decode(context, request)?;
                let response = lease.keep_alive(request.into_inner().id).await?;
                Ok(encode(tonic::Response::new(response)))
            }
            "/etcdserverpb.Lease/LeaseTimeToLive" => {
                lease.lease_time_to_live(decode(context, request)?).await.map(encode)
            }
            "/etcdserverpb.Lease/LeaseLeases" => lease.lease_leases(decode(context, request)?).await.map(encode),
            _ => Err(Status::new(Code::Unimplemented, format!("no method is called {path}"))),
        }
    }
}
