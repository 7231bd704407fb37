use std::time::Duration;

use openraft::AsyncRuntime;
use tokio::io::DuplexStream;
use tonic::Code;

use super::*;
use crate::node::testing::alone;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::{PutRequest, RangeRequest};
use crate::runtime::tokio::TokioRuntime;
use crate::watermark::Stop;

async fn connect(near: DuplexStream) -> Channel {
    Channel::connect::<TokioRuntime>(near, "member.test".parse().unwrap()).await.unwrap()
}

/// A served connection: its client, and what ends it.
async fn connection(routes: Routes) -> (Channel, Stop, tokio::task::JoinHandle<Result<(), hyper::Error>>) {
    let (near, far) = tokio::io::duplex(4096);
    let stop = Stop::default();
    let stopped = stop.clone();
    let serving = TokioRuntime::spawn(async move {
        serve_connection::<TokioRuntime, _>(far, routes, async move { stopped.stopped().await }).await
    });
    (connect(near).await, stop, serving)
}

#[test]
fn a_client_puts_and_reads_over_a_stream() {
    let folder = tempfile::tempdir().unwrap();
    TokioRuntime::new(2).block_on(async {
        let node = alone(folder.path(), Default::default()).await;
        let (channel, stop, serving) = connection(node.routes()).await;
        let mut kv = KvClient::new(channel);
        // Larger than the stream's buffer and HTTP/2's first window: flow control has to work both ways.
        let value = vec![0xa5; 1 << 20];
        let put = PutRequest { key: "k".into(), value: value.clone().into(), ..Default::default() };
        assert_eq!(kv.put(put).await.unwrap().into_inner().header.unwrap().revision, 2);
        let range = RangeRequest { key: "k".into(), ..Default::default() };
        let found = kv.range(range).await.unwrap().into_inner();
        assert_eq!(found.kvs[0].value, value);

        let refused = kv.put(PutRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::InvalidArgument, "etcdserver: key is not provided"));
        let huge = PutRequest { key: "k".into(), value: vec![0; 2 << 20].into(), ..Default::default() };
        assert_eq!(kv.put(huge).await.unwrap_err().code(), Code::OutOfRange, "beyond what is decoded at all");

        stop.stop();
        // It ends: with an error if the client, told to go, has closed its end before the last word.
        let _ = serving.await.unwrap();
        assert!(kv.range(RangeRequest { key: "k".into(), ..Default::default() }).await.is_err());
        node.stop().await.unwrap();
    });
}

#[test]
fn what_no_service_offers_is_unimplemented() {
    TokioRuntime::new(2).block_on(async {
        let (channel, ..) = connection(Routes::new(|_| Ok(()))).await;
        let refused = KvClient::new(channel).put(PutRequest::default()).await.unwrap_err();
        assert_eq!((refused.code(), refused.message()), (Code::Unimplemented, "unknown service etcdserverpb.KV"));
    });
}

#[test]
fn a_server_that_is_silent_beyond_what_is_allowed_is_given_up() {
    TokioRuntime::new(2).block_on(async {
        // Nobody reads at the other end, which stays open.
        let (near, _far) = tokio::io::duplex(1 << 20);
        let options = ChannelOptions { silence_max: Some(Duration::from_millis(20)), ..ChannelOptions::default() };
        let channel =
            Channel::connect_with::<TokioRuntime>(near, "member.test".parse().unwrap(), options).await.unwrap();
        let mut kv = KvClient::new(channel);
        kv.put(PutRequest { key: "k".into(), ..Default::default() }).await.unwrap_err();
        kv.put(PutRequest { key: "k".into(), ..Default::default() }).await.unwrap_err();
    });
}
