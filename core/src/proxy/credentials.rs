//! Requests that carry credentials: who asks may be allowed more or less than others, so these go to a member as they are, and
//! share nothing.

use std::future::ready;

use futures_util::{Stream, StreamExt};
use http::HeaderName;
use tonic::Streaming;
use tonic::metadata::MetadataMap;

/// Where clients put them.
const CREDENTIALS: [&str; 2] = ["token", "authorization"];

/// Whether a request carries any.
pub(super) fn are_in(metadata: &MetadataMap) -> bool {
    metadata.as_ref().keys().any(have)
}

/// Whether there are some under this name.
pub(super) fn have(name: &HeaderName) -> bool {
    CREDENTIALS.contains(&name.as_str())
}

/// A client's stream of requests, for a member, each changed before. What breaks it ends it.
pub(super) fn sent_on<T: Send + 'static>(
    request: tonic::Request<Streaming<T>>,
    mut change: impl FnMut(&mut T) + Send + 'static,
) -> tonic::Request<impl Stream<Item = T> + Send + 'static> {
    let (metadata, _, requests) = request.into_parts();
    let requests = requests.scan((), |(), request| ready(request.ok())).map(move |mut request| {
        change(&mut request);
        request
    });
    tonic::Request::from_parts(metadata, tonic::Extensions::default(), requests)
}
