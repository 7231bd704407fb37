//! Whether an answer is the one that the specification gives.
//!
//! Every field counts, but for what names the server: cluster id, member id, raft term. Inside a txn's answer, where
//! clients have no use for them, headers may be missing or empty.

use std::fmt::{Debug, Display};

use seedbed_proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse, response_op,
};
use seedbed_proto::mvccpb::KeyValue;

use crate::history::{Response, Text};

type Agreement = Result<(), String>;

/// The first field in which two answers differ, in words; `None` if they agree.
pub fn difference(expected: &Response, got: &Response) -> Option<String> {
    let agreement = match (expected, got) {
        (Response::Range(expected), Response::Range(got)) => range(expected, got, false),
        (Response::Put(expected), Response::Put(got)) => put(expected, got, false),
        (Response::DeleteRange(expected), Response::DeleteRange(got)) => delete_range(expected, got, false),
        (Response::Txn(expected), Response::Txn(got)) => txn(expected, got, false),
        (Response::Compact(expected), Response::Compact(got)) => header(&expected.header, &got.header, false),
        (Response::LeaseRevoke(expected), Response::LeaseRevoke(got)) => header(&expected.header, &got.header, false),
        (Response::LeaseGrant(expected), Response::LeaseGrant(got)) => header(&expected.header, &got.header, false)
            .and_then(|()| equal("ID", &expected.id, &got.id))
            .and_then(|()| equal("TTL", &expected.ttl, &got.ttl)),
        _ => Err("the answer is of another kind than the request".to_owned()),
    };
    agreement.err()
}

fn equal<T: PartialEq + Debug>(name: &str, expected: &T, got: &T) -> Agreement {
    if expected == got { Ok(()) } else { Err(format!("{name} is {got:?}, should be {expected:?}")) }
}

fn within(place: impl Display, agreement: Agreement) -> Agreement {
    agreement.map_err(|difference| format!("{place}: {difference}"))
}

fn header(expected: &Option<ResponseHeader>, got: &Option<ResponseHeader>, inner: bool) -> Agreement {
    let expected = expected.as_ref().map_or(0, |header| header.revision);
    let got = got.as_ref().map_or(0, |header| header.revision);
    if inner && got == 0 { Ok(()) } else { equal("header.revision", &expected, &got) }
}

fn range(expected: &RangeResponse, got: &RangeResponse, inner: bool) -> Agreement {
    header(&expected.header, &got.header, inner)?;
    equal("count", &expected.count, &got.count)?;
    equal("more", &expected.more, &got.more)?;
    kvs("kvs", &expected.kvs, &got.kvs)
}

fn put(expected: &PutResponse, got: &PutResponse, inner: bool) -> Agreement {
    header(&expected.header, &got.header, inner)?;
    prev_kv(&expected.prev_kv, &got.prev_kv)
}

fn prev_kv(expected: &Option<KeyValue>, got: &Option<KeyValue>) -> Agreement {
    match (expected, got) {
        (None, None) => Ok(()),
        (Some(expected), Some(got)) => kv("prev_kv", expected, got),
        (None, Some(got)) => Err(format!("prev_kv is {}, should be none", shown(got))),
        (Some(expected), None) => Err(format!("prev_kv is none, should be {}", shown(expected))),
    }
}

fn delete_range(expected: &DeleteRangeResponse, got: &DeleteRangeResponse, inner: bool) -> Agreement {
    header(&expected.header, &got.header, inner)?;
    equal("deleted", &expected.deleted, &got.deleted)?;
    kvs("prev_kvs", &expected.prev_kvs, &got.prev_kvs)
}

fn txn(expected: &TxnResponse, got: &TxnResponse, inner: bool) -> Agreement {
    header(&expected.header, &got.header, inner)?;
    equal("succeeded", &expected.succeeded, &got.succeeded)?;
    equal("number of responses", &expected.responses.len(), &got.responses.len())?;
    for (place, (expected, got)) in expected.responses.iter().zip(&got.responses).enumerate() {
        use response_op::Response::{ResponseDeleteRange, ResponsePut, ResponseRange, ResponseTxn};
        let agreement = match (&expected.response, &got.response) {
            (None, None) => Ok(()),
            (Some(ResponseRange(expected)), Some(ResponseRange(got))) => range(expected, got, true),
            (Some(ResponsePut(expected)), Some(ResponsePut(got))) => put(expected, got, true),
            (Some(ResponseDeleteRange(expected)), Some(ResponseDeleteRange(got))) => delete_range(expected, got, true),
            (Some(ResponseTxn(expected)), Some(ResponseTxn(got))) => txn(expected, got, true),
            _ => Err("the answer is of another kind than the request".to_owned()),
        };
        within(format_args!("responses[{place}]"), agreement)?;
    }
    Ok(())
}

fn kvs(name: &str, expected: &[KeyValue], got: &[KeyValue]) -> Agreement {
    for (place, (expected, got)) in expected.iter().zip(got).enumerate() {
        within(format_args!("{name}[{place}]"), kv("kv", expected, got))?;
    }
    match (expected.get(got.len()), got.get(expected.len())) {
        (Some(missing), _) => Err(format!("{name} lacks {}", shown(missing))),
        (_, Some(extra)) => Err(format!("{name} has {} too many", shown(extra))),
        (None, None) => Ok(()),
    }
}

fn kv(name: &str, expected: &KeyValue, got: &KeyValue) -> Agreement {
    if expected == got { Ok(()) } else { Err(format!("{name} is {}, should be {}", shown(got), shown(expected))) }
}

fn shown(kv: &KeyValue) -> String {
    format!(
        "{} = {} (created {}, modified {}, version {}, lease {})",
        Text(&kv.key),
        Text(&kv.value),
        kv.create_revision,
        kv.mod_revision,
        kv.version,
        kv.lease
    )
}
