//! etcd's pages on the clients' port.
//!
//! | path | |
//! |---|---|
//! | `/health` | 200 and `{"health":"true"}`, once a read has gone through consensus; else 503 and why. `?serializable=true` asks this member alone |
//! | `/version` | the etcd that this server is compatible with |
//! | `/metrics` | numbers, for Prometheus |

use std::sync::Arc;

use futures_util::future::{self, BoxFuture};
use http::{Method, StatusCode, Uri, header};
use http_body_util::Full;
use tonic::body::Body;

use super::clients::Pages;
use super::metrics::Metrics;
use crate::api::{ETCD_VERSION, KvService};
use crate::grpc::Response;
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::runtime::tokio::TokioRuntime;

pub(super) const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
pub(super) const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Those of a member.
pub(super) struct MemberPages {
    pub(super) kv: Arc<KvService<TokioRuntime>>,
    pub(super) metrics: Metrics,
}

impl Pages for MemberPages {
    fn answer(self: Arc<Self>, method: Method, uri: Uri) -> BoxFuture<'static, Response> {
        if let Some(refusal) = no_page(&method, uri.path(), &["/health", "/version", "/metrics"]) {
            return Box::pin(future::ready(refusal));
        }
        Box::pin(async move {
            match uri.path() {
                "/health" => self.health(uri.query().is_some_and(|query| query.contains("serializable=true"))).await,
                "/version" => version(),
                _ => page(StatusCode::OK, PROMETHEUS, self.metrics.render()),
            }
        })
    }
}

impl MemberPages {
    /// A member is healthy if it can answer a read, whatever that finds.
    async fn health(&self, serializable: bool) -> Response {
        let request = RangeRequest { key: "health".into(), limit: 1, serializable, ..RangeRequest::default() };
        match self.kv.range(tonic::Request::new(request)).await {
            Ok(_) => page(StatusCode::OK, JSON, r#"{"health":"true"}"#.to_owned()),
            Err(status) => {
                let answer = serde_json::json!({ "health": "false", "reason": status.message() });
                page(StatusCode::SERVICE_UNAVAILABLE, JSON, answer.to_string())
            }
        }
    }
}

/// The refusal of a request that asks for none of these pages, or otherwise than by reading.
pub(super) fn no_page(method: &Method, path: &str, pages: &[&str]) -> Option<Response> {
    if !pages.contains(&path) {
        return Some(page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()));
    }
    if method != Method::GET && method != Method::HEAD {
        return Some(page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned()));
    }
    None
}

/// The page that says which etcd this is compatible with.
pub(super) fn version() -> Response {
    let version = format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_VERSION}"}}"#);
    page(StatusCode::OK, JSON, version)
}

pub(super) fn page(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = http::Response::new(Body::new(Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
