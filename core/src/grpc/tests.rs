use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::stream;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use openraft::AsyncRuntime;
use prost::Message;
use tokio::io::DuplexStream;
use tonic::Code;
use tonic::body::Body;
use tower_service::Service;

use super::*;
use crate::node::testing::alone;
use crate::proto::etcdserverpb::kv_client::KvClient;
use crate::proto::etcdserverpb::kv_server::{Kv, KvServer};
use crate::proto::etcdserverpb::{PutRequest, RangeRequest, RangeResponse};
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
        serve_connection::<TokioRuntime, _>(far, routes, Tasks::default(), async move { stopped.stopped().await }).await
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

const RANGE: &str = "/etcdserverpb.KV/Range";

/// What comes back on a request of these pieces: headers, what is in the body, and trailers.
async fn raw(
    channel: &mut Channel,
    encoding: Option<&str>,
    pieces: Vec<Bytes>,
) -> (HeaderMap, Bytes, Option<HeaderMap>) {
    let frames = pieces.into_iter().map(|piece| Ok::<_, Infallible>(Frame::data(piece)));
    let mut request = Request::post(RANGE).header("content-type", "application/grpc").header("te", "trailers");
    if let Some(encoding) = encoding {
        request = request.header("grpc-encoding", encoding);
    }
    let request = request.body(Body::new(StreamBody::new(stream::iter(frames.collect::<Vec<_>>())))).unwrap();
    let (head, body) = channel.call(request).await.unwrap().into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned();
    (head.headers, body.to_bytes(), trailers)
}

fn framed(flag: u8, length: usize, message: &[u8]) -> Bytes {
    let length = u32::try_from(length).unwrap().to_be_bytes();
    [&[flag][..], &length, message].concat().into()
}

#[test]
fn a_short_cut_answers_and_refuses_as_tonic_does() {
    const BYTES_MAX: usize = 100;
    let folder = tempfile::tempdir().unwrap();
    TokioRuntime::new(2).block_on(async {
        let node = alone(folder.path(), Default::default()).await;
        let kv = node.kv();
        let service = || KvServer::from_arc(node.kv()).max_decoding_message_size(BYTES_MAX);
        let plain = Routes::new(|_| Ok(())).with(service());
        let short = Routes::new(|_| Ok(())).with(service()).with_short_cut(RANGE, BYTES_MAX, move |request| {
            let kv = kv.clone();
            async move { kv.range(request).await }
        });
        let ((mut plain, ..), (mut short, ..)) = (connection(plain).await, connection(short).await);

        let question = RangeRequest { key: "key".into(), ..Default::default() }.encode_to_vec();
        let whole = framed(0, question.len(), &question);
        let bytewise = whole.chunks(1).map(Bytes::copy_from_slice).collect::<Vec<_>>();
        let nothing = framed(0, 0, &[]);
        let cases = [
            ("in one piece", None, vec![whole.clone()]),
            ("byte by byte", None, bytewise),
            ("with empty pieces", None, vec![Bytes::new(), whole.slice(..7), Bytes::new(), whole.slice(7..)]),
            ("a message without a field", None, vec![nothing]),
            ("none", None, vec![]),
            ("cut off in the prefix", None, vec![whole.slice(..3)]),
            ("cut off in the message", None, vec![whole.slice(..7)]),
            ("no protobuf", None, vec![framed(0, 3, &[0xff; 3])]),
            ("too long", None, vec![framed(0, BYTES_MAX + 1, &[0; BYTES_MAX + 1])]),
            ("said to be compressed", None, vec![framed(1, question.len(), &question)]),
            ("an unknown flag", None, vec![framed(2, question.len(), &question)]),
            ("compressed", Some("gzip"), vec![framed(1, question.len(), &question)]),
            ("not compressed, as is said", Some("identity"), vec![whole]),
        ];
        for (name, encoding, pieces) in cases {
            let (headers, body, trailers) = raw(&mut plain, encoding, pieces.clone()).await;
            assert!(headers.contains_key("grpc-status") || trailers.is_some(), "{name}: {headers:?}");
            assert_eq!(raw(&mut short, encoding, pieces).await, (headers, body, trailers), "{name}");
        }
        node.stop().await.unwrap();
    });
}

#[test]
fn a_short_cut_passes_on_metadata_but_what_is_grpcs_own() {
    TokioRuntime::new(2).block_on(async {
        let routes =
            Routes::new(|_| Ok(())).with_short_cut(RANGE, 100, async |request: tonic::Request<RangeRequest>| {
                assert!(["in-head", "in-trailers"].iter().all(|name| request.metadata().contains_key(*name)));
                let mut response = tonic::Response::new(RangeResponse::default());
                for name in ["own", "grpc-status", "grpc-message", "te"] {
                    response.metadata_mut().insert(name, "0".parse().unwrap());
                }
                Ok(response)
            });
        let (mut channel, ..) = connection(routes).await;
        let trailers = HeaderMap::from_iter([("in-trailers".parse().unwrap(), "0".parse().unwrap())]);
        let frames = [Frame::data(framed(0, 0, &[])), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
        let body = Body::new(StreamBody::new(stream::iter(frames)));
        let request = Request::post(RANGE).header("in-head", "0").body(body).unwrap();
        let (head, body) = channel.call(request).await.unwrap().into_parts();
        let mut names: Vec<&str> = head.headers.keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-type", "own"]);
        assert_eq!(body.collect().await.unwrap().trailers().unwrap()["grpc-status"], "0");
    });
}

#[test]
fn what_is_answered_at_once_and_what_waits_are_both_answered() {
    let folder = tempfile::tempdir().unwrap();
    TokioRuntime::new(2).block_on(async {
        let node = alone(folder.path(), Default::default()).await;
        let (near, far) = tokio::io::duplex(4096);
        let routes = node.routes();
        drop(TokioRuntime::spawn(async move {
            serve_connection::<TokioRuntime, _>(far, routes, Tasks::at_once(), std::future::pending()).await
        }));
        let mut kv = KvClient::new(connect(near).await);
        // So many are not all answered in one turn, and none waits for a next request.
        let many = (0..500).map(|_| {
            let mut kv = kv.clone();
            async move { kv.range(RangeRequest { key: "k".into(), serializable: true, ..Default::default() }).await }
        });
        assert!(join_all(many).await.iter().all(Result::is_ok));
        // This one waits for the disk, and is larger than any buffer;
        let value = vec![0xa5; 1 << 20];
        kv.put(PutRequest { key: "k".into(), value: value.clone().into(), ..Default::default() }).await.unwrap();
        // what is said of this one is there already, and goes out in many pieces;
        let range = RangeRequest { key: "k".into(), serializable: true, ..Default::default() };
        assert_eq!(kv.range(range).await.unwrap().into_inner().kvs[0].value, value);
        // and this one is refused.
        assert_eq!(kv.put(PutRequest::default()).await.unwrap_err().code(), Code::InvalidArgument);
        node.stop().await.unwrap();
    });
}
