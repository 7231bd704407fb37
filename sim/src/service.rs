//! What a member offers to clients, by both ways in.
//!
//! ```text
//!   direct ──► encoded message ─────────────────────► dispatch ──► the services of `core`
//!   gRPC ────► HTTP/2 on a connection ──► headers ──► Routes ────► the same
//! ```
//!
//! A client's operation and a member's incarnation are for judges, and no part of the protocol. Over gRPC they travel in
//! headers that only this file and the client know.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request};
use hyper::body::Incoming;
use hyper::service::Service;
use seedbed_core::api::OperationId;
use seedbed_core::grpc::{self, Tasks};
use seedbed_core::node::Node;
use seedbed_core::proxy::Proxy;

use crate::network::{ByteStream, ClientRequest, SimTransport};
use crate::proxies::next_connection;
use crate::runtime::MadsimRuntime;
use crate::wire;

/// Lets clients in, to the life of the member that has this number.
pub fn serve(transport: &SimTransport, node: &Node<MadsimRuntime>, incarnation: u32) {
    let services = node.dispatch();
    transport.serve_clients(Arc::new(move |request: ClientRequest| {
        let services = services.clone();
        Box::pin(async move {
            let result = services.call(&request.method, request.context, request.body).await;
            wire::encode(incarnation, result)
        })
    }));
    let service = Marked { services: node.routes(), incarnation: incarnation.into() };
    transport.serve_streams(Arc::new(move |stream: ByteStream| {
        let service = service.clone();
        Box::pin(async move {
            if let Err(error) =
                grpc::serve_connection::<MadsimRuntime, _>(stream, service, Tasks::default(), pending()).await
            {
                tracing::debug!(%error, "a connection has ended");
            }
        })
    }));
}

/// Lets clients in to a proxy. Each connection has a number, which is the incarnation that answers.
pub fn serve_proxy(transport: &SimTransport, proxy: &Proxy<MadsimRuntime>, connections: Arc<AtomicU64>) {
    let proxy = proxy.clone();
    transport.serve_streams(Arc::new(move |stream: ByteStream| {
        let number = next_connection(&connections);
        let service = Marked { services: proxy.connection(), incarnation: number.into() };
        Box::pin(async move {
            if let Err(error) =
                grpc::serve_connection::<MadsimRuntime, _>(stream, service, Proxy::tasks(), pending()).await
            {
                tracing::debug!(%error, "a connection has ended");
            }
        })
    }));
}

/// Services, with what judges need: the operation of a request, which core takes as an extension, and the incarnation
/// that answered.
#[derive(Clone)]
struct Marked<S> {
    services: S,
    incarnation: HeaderValue,
}

impl<S> Service<Request<Incoming>> for Marked<S>
where
    S: Service<Request<Incoming>, Response = grpc::Response, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = grpc::Response;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<grpc::Response, Infallible>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        let operation =
            request.headers().get(wire::OPERATION_HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
        if let Some(operation) = operation {
            request.extensions_mut().insert(OperationId(operation));
        }
        let (answer, incarnation) = (self.services.call(request), self.incarnation.clone());
        Box::pin(async move {
            let mut response = answer.await?;
            response.headers_mut().insert(wire::INCARNATION_HEADER, incarnation);
            Ok(response)
        })
    }
}
