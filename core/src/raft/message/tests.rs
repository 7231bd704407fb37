//! Encoding: what is sent arrives as it was, and what is not a message is refused.

use std::collections::{BTreeMap, BTreeSet};

use openraft::vote::leader_id_std::{CommittedLeaderId, LeaderId};
use openraft::{EntryPayload, Membership};

use super::*;
use crate::members::Attributes;
use crate::mvcc::Refusal;
use crate::proto::etcdserverpb::{
    CompactionRequest, DeleteRangeRequest, PutRequest, PutResponse, RequestOp, ResponseHeader, TxnRequest, request_op,
};
use crate::raft::{LogId, Request, StoredMembership};
use crate::runtime::PROTOCOL_VERSION;
use crate::wal::testing::{Random, TestRuntime};

type Rt = TestRuntime;

fn vote(committed: bool) -> VoteOf<TypeConfig<Rt>> {
    openraft::Vote { leader_id: LeaderId { term: 300, voted_for: NodeId(2) }, committed }
}

fn id(index: u64) -> LogId<Rt> {
    openraft::LogId { leader_id: CommittedLeaderId::new(7), index }
}

fn put() -> PutRequest {
    PutRequest { key: "key".into(), value: vec![0, 1, 255].into(), prev_kv: true, ..PutRequest::default() }
}

fn changes() -> Vec<Request> {
    let delete = DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), ..DeleteRangeRequest::default() };
    let success = RequestOp { request: Some(request_op::Request::RequestPut(put())) };
    vec![
        Request::Put(put()),
        Request::DeleteRange(delete),
        Request::Txn(TxnRequest { success: vec![success], ..TxnRequest::default() }),
        Request::Compact(CompactionRequest { revision: i64::MAX, physical: true }),
        Request::Publish {
            member: NodeId(u64::MAX),
            attributes: Attributes { name: "one".to_owned(), client_urls: vec!["http://127.0.0.1:2379".to_owned()] },
        },
    ]
}

#[test]
fn a_change_alone_must_not_be_carried_out_twice() {
    let (changes, rest): (Vec<_>, Vec<_>) =
        requests().into_iter().partition(|request| matches!(request, PeerRequest::Propose(_)));
    assert!(!changes.is_empty() && !rest.is_empty());
    assert!(changes.iter().all(|request| !is_repeatable(&encode(request))));
    assert!(rest.iter().all(|request| is_repeatable(&encode(request))));
}

fn membership() -> Membership<NodeId, openraft::EmptyNode> {
    let voters = BTreeSet::from([1, 2, 3].map(NodeId));
    Membership::new_with_defaults(vec![voters.clone(), BTreeSet::from([NodeId(9)])], voters)
}

fn requests() -> Vec<PeerRequest<Rt>> {
    let commands = changes().into_iter().zip(5..).map(|(request, operation)| Command::new(operation, request));
    let mut entries = vec![
        openraft::Entry { log_id: id(3), payload: EntryPayload::Blank },
        openraft::Entry { log_id: id(4), payload: EntryPayload::Membership(membership()) },
    ];
    let normal =
        |command: Command| openraft::Entry { log_id: id(command.operation), payload: EntryPayload::Normal(command) };
    entries.extend(commands.clone().map(normal));
    let append = |entries| AppendEntriesRequest {
        vote: vote(true),
        prev_log_id: Some(id(2)),
        entries,
        leader_commit: Some(id(u64::MAX)),
    };
    let last_membership = StoredMembership::<Rt>::new(Some(id(4)), membership());
    let chunk = SnapshotChunk {
        vote: vote(true),
        meta: SnapshotMetaOf::<TypeConfig<Rt>> { last_log_id: Some(id(8)), last_membership },
        offset: 1 << 40,
        data: vec![7; 300].into(),
        last: true,
    };
    let mut requests = vec![
        PeerRequest::AppendEntries(append(Vec::new())),
        PeerRequest::AppendEntries(append(entries)),
        PeerRequest::Vote(VoteRequest::new(vote(false), Some(id(8)))),
        PeerRequest::PreVote(VoteRequest::new(vote(false), None)),
        PeerRequest::Snapshot(chunk),
        PeerRequest::TransferLeader(TransferLeaderRequest::new(vote(true), NodeId(3), Some(id(8)))),
        PeerRequest::ReadIndex,
    ];
    requests.extend(commands.map(PeerRequest::Propose));
    requests
}

fn replies() -> Vec<PeerReply<Rt>> {
    let header = Some(ResponseHeader { revision: 12, ..ResponseHeader::default() });
    let reply = Reply::Put(PutResponse { header, prev_kv: None });
    vec![
        PeerReply::AppendEntries(AppendEntriesResponse::Success),
        PeerReply::AppendEntries(AppendEntriesResponse::PartialSuccess(Some(id(3)))),
        PeerReply::AppendEntries(AppendEntriesResponse::Conflict),
        PeerReply::AppendEntries(AppendEntriesResponse::HigherVote(vote(false))),
        PeerReply::Vote(VoteResponse::new(vote(false), Some(id(8)), true)),
        PeerReply::Snapshot(None),
        PeerReply::Snapshot(Some(SnapshotResponse::new(vote(true)))),
        PeerReply::ReadIndex(u64::MAX),
        PeerReply::Propose { index: 8, reply },
        PeerReply::Propose { index: 9, reply: Reply::Refused(Refusal::KeyNotFound("key".into())) },
        PeerReply::NotLeader { leader: None },
        PeerReply::NotLeader { leader: Some(NodeId(3)) },
        PeerReply::Discarded,
        PeerReply::Failed("no space".to_owned()),
    ]
}

/// Encoded, decoded and encoded again, a message is the same; shorter, it is none; changed, it may be another, but
/// never brings the reader down.
fn judge<M: Serialize + DeserializeOwned + std::fmt::Debug>(message: &M, random: &mut Random) {
    let encoded = encode(message);
    let decoded: M = decode(&encoded).expect("a whole message");
    assert_eq!(format!("{decoded:?}"), format!("{message:?}"));
    assert_eq!(encode(&decoded), encoded);

    for length in 0..encoded.len() {
        let error = decode::<M>(&encoded[..length]).expect_err("cut short").to_string();
        assert!(error.starts_with(&format!("message of {length} bytes cannot be read: ")), "{error}");
    }
    for _ in 0..300 {
        let mut changed = encoded.to_vec();
        for _ in 0..1 + random.below(3) {
            let at = random.below(changed.len() as u64) as usize;
            changed[at] = random.draw() as u8;
        }
        let _ = decode::<M>(&changed).map(|other| encode(&other));
    }
}

#[test]
fn messages_arrive_as_they_were_and_damaged_ones_are_refused() {
    let mut random = Random(1);
    requests().iter().for_each(|request| judge(request, &mut random));
    replies().iter().for_each(|reply| judge(reply, &mut random));
}

/// A checksum of all examples of each kind.
fn layout<M: Serialize>(messages: &[M]) -> BTreeMap<u8, u32> {
    let mut layout = BTreeMap::new();
    for encoded in messages.iter().map(encode) {
        let checksum = layout.entry(encoded[0]).or_insert(0);
        *checksum = crc32c::crc32c_append(*checksum, &encoded);
    }
    layout
}

/// Members of one version must understand each other. Whoever makes this fail has changed what a message looks like, or
/// the examples of it: in the first case the version has to be raised.
#[test]
fn messages_look_as_they_do_in_this_version() {
    assert_eq!(PROTOCOL_VERSION, 1);
    let kinds = |layout: BTreeMap<u8, u32>, known: &[(u8, u32)]| {
        let seen: Vec<_> =
            layout.into_iter().filter(|(kind, _)| known.iter().any(|(known, _)| known == kind)).collect();
        assert_eq!(seen, known, "{seen:#x?}");
    };
    kinds(
        layout(&requests()),
        &[
            (0, 980294791),
            (1, 387899923),
            (2, 1632768481),
            (3, 1818818126),
            (4, 3292660793),
            (5, 1737246541),
            (6, 717370678),
        ],
    );
    kinds(
        layout(&replies()),
        &[
            (0, 975943002),
            (1, 2869904950),
            (2, 4133640051),
            (4, 431075199),
            (5, 2552489259),
            (6, 72780361),
            (7, 2260154298),
            (8, 2010772461),
        ],
    );
}

#[test]
fn noise_is_no_message() {
    let mut random = Random(2);
    for _ in 0..20_000 {
        let noise: Vec<_> = (0..random.below(80)).map(|_| random.draw() as u8).collect();
        let _ = decode::<PeerRequest<Rt>>(&noise);
        let _ = decode::<PeerReply<Rt>>(&noise);
    }
}

#[test]
fn a_length_that_nobody_could_send_is_refused_before_it_is_believed() {
    let propose = encode::<PeerRequest<Rt>>(&PeerRequest::Propose(Command::new(1, changes().remove(0))));
    // The kind of message, the operation and the kind of change; then the length of the change.
    let endless = [&propose[..3], &[0xff; 9], &[1]].concat();
    assert!(decode::<PeerRequest<Rt>>(&endless).is_err());
    let append = encode(&PeerRequest::<Rt>::AppendEntries(AppendEntriesRequest {
        vote: vote(true),
        prev_log_id: None,
        entries: Vec::new(),
        leader_commit: None,
    }));
    // It ends with the number of entries, and no commit index.
    let endless = [&append[..append.len() - 2], &[0xff; 9], &[1]].concat();
    assert!(decode::<PeerRequest<Rt>>(&endless).is_err());
}

#[test]
fn a_change_that_is_no_protobuf_is_refused() {
    let request: PeerRequest<Rt> = PeerRequest::Propose(Command::new(1, Request::Put(put())));
    let mut encoded = encode(&request).to_vec();
    // The tag of its first field: there is no wire type 7.
    encoded[4] = 0x0f;
    let error = decode::<PeerRequest<Rt>>(&encoded).expect_err("not a change").to_string();
    assert!(error.starts_with("message of "), "{error}");
}

#[test]
fn a_deeply_nested_change_is_refused() {
    let mut txn = TxnRequest::default();
    for _ in 0..2000 {
        let nested = RequestOp { request: Some(request_op::Request::RequestTxn(txn)) };
        txn = TxnRequest { success: vec![nested], ..TxnRequest::default() };
    }
    let request: PeerRequest<Rt> = PeerRequest::Propose(Command::new(1, Request::Txn(txn)));
    assert!(decode::<PeerRequest<Rt>>(&encode(&request)).is_err());
}
