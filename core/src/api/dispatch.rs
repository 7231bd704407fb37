//! Calling a service by its method's path, with encoded messages: what gRPC does, without HTTP.

use bytes::Bytes;
use prost::Message;
use tonic::{Code, Status};

use super::kv::KvService;
use crate::proto::etcdserverpb::kv_server::Kv;
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

impl<R: Runtime> KvService<R> {
    /// Calls the method at `path` (for instance `/etcdserverpb.KV/Put`) with an encoded request.
    ///
    /// # Errors
    /// The method's; `Unimplemented` if there is no such method, `InvalidArgument` if the request cannot be decoded.
    pub async fn dispatch(&self, path: &str, context: Context, request: Bytes) -> Result<Bytes, Status> {
        match path {
            "/etcdserverpb.KV/Range" => self.range(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Put" => self.put(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/DeleteRange" => self.delete_range(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Txn" => self.txn(decode(context, request)?).await.map(encode),
            "/etcdserverpb.KV/Compact" => self.compact(decode(context, request)?).await.map(encode),
            _ => Err(Status::new(Code::Unimplemented, format!("no method is called {path}"))),
        }
    }
}
