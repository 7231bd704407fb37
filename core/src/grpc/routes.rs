//! Which service answers a request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::Request;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::server::NamedService;

/// What a service answers.
pub type Response = http::Response<Body>;

type Answer = BoxFuture<'static, Result<Response, Infallible>>;
type Service = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

/// The services of a member, by the first part of a method's path. A clone has the same services.
#[derive(Clone, Default)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Service>>,
}

impl Routes {
    /// These, of which each is a generated tonic server.
    ///
    /// # Panics
    /// If a clone exists already.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: tower_service::Service<Request<Incoming>, Response = Response, Error = Infallible>,
        S: NamedService + Clone + Send + Sync + 'static,
        S::Future: Send + 'static,
    {
        // A generated server is always ready: it has no need of `poll_ready`.
        let answer: Service = Box::new(move |request| Box::pin(service.clone().call(request)));
        Arc::get_mut(&mut self.services).expect("routes are complete before they are shared").insert(S::NAME, answer);
        self
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.services.keys()).finish()
    }
}

impl hyper::service::Service<Request<Incoming>> for Routes {
    type Response = Response;
    type Error = Infallible;
    type Future = Answer;

    /// Answers `UNIMPLEMENTED` where there is no such service, as a service does where it has no such method.
    fn call(&self, request: Request<Incoming>) -> Answer {
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        match service.and_then(|name| self.services.get(name)) {
            Some(answer) => answer(request),
            None => {
                let status = tonic::Status::unimplemented(format!("unknown service {}", service.unwrap_or_default()));
                Box::pin(async move { Ok(status.into_http()) })
            }
        }
    }
}
