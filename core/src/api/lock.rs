//! The Lock service.
//!
//! A lock is a place in a [queue](super::queue) whose turn has come. By itself it excludes nobody: a lease may end while its
//! holder does not notice. What a holder writes is fenced by a condition on the lock's key.

use tonic::{Status, async_trait};

use super::error::ApiError;
use super::queue::Queue;
use crate::proto::etcdserverpb::DeleteRangeRequest;
use crate::proto::v3lockpb::lock_server::Lock;
use crate::proto::v3lockpb::{LockRequest, LockResponse, UnlockRequest, UnlockResponse};
use crate::runtime::{Mutant, Mutants, Runtime};

/// Locks, from this member.
pub struct LockService<R: Runtime> {
    pub(crate) queue: Queue<R>,
}

#[async_trait]
impl<R: Runtime> Lock for LockService<R> {
    /// Waits for as long as it takes. A client that goes away gives its place up. To lock again with the same lease does
    /// nothing.
    async fn lock(&self, request: tonic::Request<LockRequest>) -> Result<tonic::Response<LockResponse>, Status> {
        let LockRequest { name, lease } = request.into_inner();
        let lease = self.queue.session(lease).await?;
        let place = self.queue.join(&name, lease, bytes::Bytes::new()).await?;
        let (queue, waiting) = (self.queue.clone(), place.clone());
        let waits = async move {
            queue.turn(&name, waiting.created).await?;
            // The lease may have ended meanwhile, and the place with it.
            match queue.place(&waiting).await? {
                (header, true) => Ok(LockResponse { header, key: waiting.key }),
                (header, false) if R::Mutants::active(Mutant::LockWithoutPlace) => {
                    Ok(LockResponse { header, key: waiting.key })
                }
                (_, false) => Err(ApiError::SessionExpired),
            }
        };
        Ok(tonic::Response::new(self.queue.wait_at(place, waits).await?))
    }

    async fn unlock(&self, request: tonic::Request<UnlockRequest>) -> Result<tonic::Response<UnlockResponse>, Status> {
        let key = request.into_inner().key;
        let delete = DeleteRangeRequest { key, ..DeleteRangeRequest::default() };
        let header = self.queue.kv.delete(tonic::Request::new(delete)).await?.header;
        Ok(tonic::Response::new(UnlockResponse { header }))
    }
}
