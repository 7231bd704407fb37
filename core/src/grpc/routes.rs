//! Which service answers a request.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderName, Request};
use hyper::body::Incoming;
use prost::Message;
use tonic::Status;
use tonic::body::Body;
use tonic::server::NamedService;

use super::unary;

/// What a service answers.
pub type Response = http::Response<Body>;

type Answer = BoxFuture<'static, Result<Response, Infallible>>;
type Service = Box<dyn Fn(Request<Incoming>) -> Answer + Send + Sync>;

type Admission = dyn Fn(&HeaderMap) -> Result<(), Status> + Send + Sync;

/// What a request names that compresses its message, which only tonic knows how to answer.
static ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// The services of a member, by the first part of a method's path. A clone has the same services.
#[derive(Clone)]
pub struct Routes {
    services: Arc<BTreeMap<&'static str, Service>>,
    /// One of their methods, by its path, that is asked most.
    short_cut: Option<(&'static str, Arc<Service>)>,
    admits: Arc<Admission>,
}

impl Routes {
    /// None yet. A request is answered if `admits` lets its metadata pass.
    pub fn new(admits: impl Fn(&HeaderMap) -> Result<(), Status> + Send + Sync + 'static) -> Self {
        Routes { services: Arc::default(), short_cut: None, admits: Arc::new(admits) }
    }

    /// These, of which each is a generated tonic server.
    ///
    /// # Panics
    /// If a clone exists already.
    #[must_use]
    pub fn with<S>(mut self, service: S) -> Self
    where
        S: tower_service::Service<Request<Incoming>, Response = Response, Error = Infallible, Future = Answer>,
        S: NamedService + Clone + Send + Sync + 'static,
    {
        // A generated server is always ready: it has no need of `poll_ready`.
        let answer: Service = Box::new(move |request| service.clone().call(request));
        Arc::get_mut(&mut self.services).expect("routes are complete before they are shared").insert(S::NAME, answer);
        self
    }

    /// Has one method, at this path, answered without tonic's server, which takes longer: each request is one message of so many
    /// bytes at most, and each response another. Its service is there as well, for requests that are compressed.
    #[must_use]
    pub(crate) fn with_short_cut<T, U, F>(
        mut self,
        path: &'static str,
        bytes_max: usize,
        method: impl Fn(tonic::Request<T>) -> F + Clone + Send + Sync + 'static,
    ) -> Self
    where
        T: Message + Default + 'static,
        U: Message + 'static,
        F: Future<Output = Result<tonic::Response<U>, Status>> + Send,
    {
        let answer: Service = Box::new(move |request| {
            let method = method.clone();
            Box::pin(async move { Ok(unary::answer(request, bytes_max, method).await) })
        });
        self.short_cut = Some((path, Arc::new(answer)));
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
        let short_cut = self
            .short_cut
            .as_ref()
            .filter(|(path, _)| *path == request.uri().path() && !request.headers().contains_key(&ENCODING));
        let service = request.uri().path().strip_prefix('/').and_then(|path| path.split('/').next());
        let answer = short_cut
            .map(|(_, method)| &**method)
            .or_else(|| self.services.get(service?))
            .ok_or_else(|| Status::unimplemented(format!("unknown service {}", service.unwrap_or_default())));
        match answer.and_then(|answer| (self.admits)(request.headers()).map(|()| answer)) {
            Ok(answer) => answer(request),
            Err(status) => Box::pin(async move { Ok(status.into_http()) }),
        }
    }
}
