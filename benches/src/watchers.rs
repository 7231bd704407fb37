//! Watchers of a real server: each wants every event of its key, once and in order.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::stream;
use seedbed_core::grpc::Channel;
use seedbed_core::proto::etcdserverpb::watch_client::WatchClient;
use seedbed_core::proto::etcdserverpb::watch_request::RequestUnion;
use seedbed_core::proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};
use tokio::sync::{Notify, mpsc};
use tonic::Status;

/// What all watchers have been told.
#[derive(Debug, Default)]
pub struct Told {
    /// Watches that are there.
    pub created: AtomicU64,
    /// Events, of all watches.
    pub events: AtomicU64,
    /// The first thing that should not have been.
    wrong: OnceLock<String>,
    changed: Notify,
}

impl Told {
    /// Waits until one of the counts is as high as this.
    ///
    /// # Errors
    /// A stream or a watch has ended, or an event came twice or too late.
    pub async fn until(&self, count: &AtomicU64, wanted: u64) -> io::Result<()> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(wrong) = self.wrong.get() {
                return Err(io::Error::other(wrong.clone()));
            }
            if count.load(Ordering::Acquire) >= wanted {
                return Ok(());
            }
            changed.await;
        }
    }

    /// Whether a response is what it should be, of watches that have been told up to these revisions.
    fn hear(&self, response: &WatchResponse, revisions: &mut [i64]) -> Result<(), String> {
        let id = response.watch_id;
        if response.canceled {
            return Err(format!("watch {id} was cancelled: {}", response.cancel_reason));
        }
        let Some(last) = usize::try_from(id).ok().and_then(|id| revisions.get_mut(id)) else {
            return Err(format!("nobody asked for watch {id}"));
        };
        for event in &response.events {
            let revision = event.kv.as_ref().map_or(0, |kv| kv.mod_revision);
            if revision <= *last {
                return Err(format!("watch {id} was told of revision {revision} after {last}"));
            }
            *last = revision;
        }
        self.created.fetch_add(u64::from(response.created), Ordering::AcqRel);
        self.events.fetch_add(response.events.len() as u64, Ordering::AcqRel);
        Ok(())
    }
}

/// One stream with a watch of each of these keys, until it ends: with the server, or with the first thing that is wrong.
pub async fn listen(channel: Channel, keys: Vec<Bytes>, told: Arc<Told>) {
    if let Err(error) = follow(channel, keys, &told).await {
        // Of several, the first is told.
        let _ = told.wrong.set(format!("a stream of watches has ended: {}", error.message()));
    }
    told.changed.notify_waiters();
}

async fn follow(channel: Channel, keys: Vec<Bytes>, told: &Told) -> Result<(), Status> {
    // Ids are given in the order of the requests.
    let mut revisions = vec![0; keys.len()];
    let (requests, mut receiver) = mpsc::unbounded_channel();
    for key in keys {
        let create = WatchCreateRequest { key, ..WatchCreateRequest::default() };
        let request = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.send(request).expect("the receiver is here");
    }
    let sent = stream::poll_fn(move |context| receiver.poll_recv(context));
    let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
    let mut responses = client.watch(sent).await?.into_inner();
    while let Some(response) = responses.message().await? {
        told.hear(&response, &mut revisions).map_err(Status::data_loss)?;
        told.changed.notify_waiters();
    }
    // It lives as long as the stream: without it, the server would be told that nothing more is asked.
    drop(requests);
    Err(Status::aborted("the server has closed it"))
}

#[cfg(test)]
mod tests {
    use seedbed_core::proto::mvccpb::{Event, KeyValue};

    use super::*;

    fn response(watch_id: i64, revisions: &[i64]) -> WatchResponse {
        let event = |&mod_revision: &i64| Event {
            kv: Some(KeyValue { mod_revision, ..KeyValue::default() }),
            ..Event::default()
        };
        WatchResponse { watch_id, events: revisions.iter().map(event).collect(), ..WatchResponse::default() }
    }

    #[test]
    fn an_event_that_is_not_newer_than_the_one_before_is_wrong() {
        let (told, mut revisions) = (Told::default(), [0; 2]);
        assert!(told.hear(&response(0, &[2, 3]), &mut revisions).is_ok());
        assert!(told.hear(&response(1, &[2]), &mut revisions).is_ok());
        assert!(told.hear(&response(0, &[3]), &mut revisions).is_err());
        assert!(told.hear(&response(2, &[4]), &mut revisions).is_err());
        assert_eq!(told.events.load(Ordering::Acquire), 3);
    }
}
