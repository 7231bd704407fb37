//! etcd's pages on the clients' port.
//!
//! | path | |
//! |---|---|
//! | `/health` | 200 and `{"health":"true"}`, once a read has gone through consensus; else 503 and why. `?serializable=true` asks this member alone |
//! | `/version` | the etcd that this server is compatible with |
//! | `/metrics` | numbers, for Prometheus |

use std::sync::Arc;

use http::{Method, StatusCode, Uri, header};
use http_body_util::Full;
use tonic::body::Body;

use super::metrics::Metrics;
use crate::api::{ETCD_VERSION, KvService};
use crate::grpc::Response;
use crate::proto::etcdserverpb::RangeRequest;
use crate::proto::etcdserverpb::kv_server::Kv;
use crate::runtime::tokio::TokioRuntime;

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Answers requests that are not gRPC.
pub(super) struct Pages {
    pub(super) kv: Arc<KvService<TokioRuntime>>,
    pub(super) metrics: Metrics,
}

impl Pages {
    /// The page at a path.
    pub(super) async fn answer(&self, method: &Method, uri: &Uri) -> Response {
        if !matches!(uri.path(), "/health" | "/version" | "/metrics") {
            return page(StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned());
        }
        if method != Method::GET && method != Method::HEAD {
            return page(StatusCode::METHOD_NOT_ALLOWED, TEXT, "Method Not Allowed\n".to_owned());
        }
        match uri.path() {
            "/health" => self.health(uri.query().is_some_and(|query| query.contains("serializable=true"))).await,
            "/version" => {
                let version = format!(r#"{{"etcdserver":"{ETCD_VERSION}","etcdcluster":"{ETCD_VERSION}"}}"#);
                page(StatusCode::OK, JSON, version)
            }
            _ => page(StatusCode::OK, PROMETHEUS, self.metrics.render()),
        }
    }

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

fn page(status: StatusCode, kind: &'static str, text: String) -> Response {
    let mut response = http::Response::new(Body::new(Full::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}
