//! The responses of a stream, one after the other.

use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use tonic::Status;

/// What makes the responses of a stream. Nothing runs but what the client's reading drives: the next one is made when HTTP/2 has
/// taken the last.
pub(crate) trait Responses: Sized + Send + 'static {
    /// A response.
    type Response: Send + 'static;

    /// The next response; none, at the end. May wait for ever.
    ///
    /// # Errors
    /// What ends the stream.
    fn next(&mut self) -> impl Future<Output = Result<Option<Self::Response>, Status>> + Send;

    /// The stream of them.
    fn into_stream(self) -> BoxStream<'static, Result<Self::Response, Status>> {
        // In a box, since it is moved for each response.
        let responses = stream::unfold(Some(Box::new(self)), |making| async {
            let mut making = making?;
            match making.next().await {
                Ok(Some(response)) => Some((Ok(response), Some(making))),
                Ok(None) => None,
                Err(status) => Some((Err(status), None)),
            }
        });
        responses.boxed()
    }
}
