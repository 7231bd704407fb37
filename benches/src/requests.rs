//! Requests on a key space of [`KEYS`] keys of one width, so that their order is that of their numbers.

use seedbed_core::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use seedbed_core::proto::etcdserverpb::request_op::Request;
use seedbed_core::proto::etcdserverpb::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest};

/// How many keys there are.
pub const KEYS: u64 = 10_000;

/// The length of a value.
pub const VALUE_BYTES: usize = 128;

/// The name of a key; numbers beyond the last begin again.
pub fn key(number: u64) -> Vec<u8> {
    format!("bench/{:08}", number % KEYS).into_bytes()
}

/// A key far from the one before, and every key once before one comes again.
pub fn scattered(nth: u64) -> u64 {
    // Odd and no multiple of 5, so that it shares no factor with KEYS.
    nth.wrapping_mul(7_919) % KEYS
}

/// Puts a value.
pub fn put(number: u64) -> PutRequest {
    PutRequest { key: key(number).into(), value: vec![b'v'; VALUE_BYTES].into(), ..Default::default() }
}

/// Reads a key and those after it, `keys` in all.
pub fn range(first: u64, keys: u64) -> RangeRequest {
    let first = first % (KEYS - keys);
    RangeRequest { key: key(first).into(), range_end: key(first + keys).into(), ..Default::default() }
}

/// Puts a value if the key exists.
pub fn put_if_there(number: u64) -> TxnRequest {
    let there = Compare {
        result: CompareResult::Greater.into(),
        target: CompareTarget::Version.into(),
        key: key(number).into(),
        target_union: Some(TargetUnion::Version(0)),
        ..Default::default()
    };
    let put = RequestOp { request: Some(Request::RequestPut(put(number))) };
    TxnRequest { compare: vec![there], success: vec![put], failure: Vec::new() }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn scattered_keys_are_all_keys() {
        let numbers: BTreeSet<u64> = (0..KEYS).map(scattered).collect();
        assert_eq!(numbers.len() as u64, KEYS);
    }

    #[test]
    fn a_range_has_as_many_keys_as_asked() {
        for first in [0, 17, KEYS - 1] {
            let request = range(first, 100);
            let inside =
                (0..KEYS).map(key).filter(|key| (&request.key[..]..&request.range_end[..]).contains(&&key[..]));
            assert_eq!(inside.count(), 100);
        }
    }
}
