use bytes::Bytes;
use seedbed_core::runtime::LeaseChange;
use seedbed_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest, LeaseLeasesResponse,
    LeaseRevokeRequest, LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest, ResponseHeader,
};

use super::*;
use crate::history::{Outcome, Recorder, Request, Response, Server, Token};
use crate::model::{Kv, Refusal};

const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A history that is made with its log: the model answers, and tests change what it has said.
struct Script {
    recorder: Recorder,
    kv: Kv,
    circumstances: Circumstances,
    now: u64,
}

impl Script {
    fn new() -> Script {
        let circumstances = Circumstances { ttl_min: 1, extension_ns: SECOND, ..Circumstances::default() };
        Script { recorder: Recorder::new(), kv: Kv::following_leases(), circumstances, now: 0 }
    }

    fn at(&mut self, ms: u64) -> &mut Script {
        self.now = ms * MS;
        self
    }

    fn invoke(&mut self, request: Request) -> Token {
        self.recorder.invoke(1, Server::default(), self.now, |_| request)
    }

    /// Answers a millisecond later.
    fn complete(&mut self, token: Token, outcome: Outcome) {
        self.now += MS;
        self.recorder.complete(token, None, outcome, self.now);
    }

    fn entry(&mut self, operation: u64, request: &Request, lease: Option<LeaseChange>) -> Result<Response, Outcome> {
        let before = self.kv.revision();
        let applied = self.kv.apply(request).map_err(|refusals| refusals.first().expect("there is one").outcome());
        let index = self.circumstances.applied.len() as u64 + 1;
        let entry = AppliedEntry {
            index,
            term: 1,
            operation,
            revision: self.kv.revision(),
            changed: self.kv.revision() != before,
            compacted: false,
            lease: lease.filter(|_| applied.is_ok()),
            digest: 0,
        };
        self.circumstances.applied.insert(index, entry);
        if let Some(LeaseChange::Granted(_) | LeaseChange::Expired(_)) = entry.lease {
            self.circumstances.leased.insert(index, self.now);
        }
        applied
    }

    /// Goes through the log, and is answered a millisecond later.
    fn logged(&mut self, request: Request) {
        let lease = match &request {
            Request::LeaseGrant(grant) => Some(LeaseChange::Granted(grant.id)),
            Request::LeaseRevoke(revoke) => Some(LeaseChange::Revoked(revoke.id)),
            _ => None,
        };
        let token = self.invoke(request.clone());
        let answered = self.entry(token.operation, &request, lease);
        self.complete(token, answered.map_or_else(|refused| refused, Outcome::Ok));
    }

    fn grant(&mut self, id: i64, ttl: i64) {
        self.logged(Request::LeaseGrant(LeaseGrantRequest { id, ttl }));
    }

    fn put(&mut self, key: &'static str, lease: i64) {
        self.logged(Request::Put(PutRequest { key: Bytes::from_static(key.as_bytes()), lease, ..Default::default() }));
    }

    /// A member ends a lease now.
    fn expires(&mut self, id: i64) {
        let revoke = Request::LeaseRevoke(LeaseRevokeRequest { id });
        self.entry(0, &revoke, Some(LeaseChange::Expired(id))).expect("there is such a lease");
        self.circumstances.unasked.insert(self.circumstances.applied.len() as u64, revoke);
    }

    fn header(&self) -> Option<ResponseHeader> {
        Some(ResponseHeader { revision: self.kv.revision(), ..ResponseHeader::default() })
    }

    fn keep_alive(&mut self, id: i64, ttl: i64) {
        let token = self.invoke(Request::LeaseKeepAlive(LeaseKeepAliveRequest { id }));
        let header = self.header();
        self.complete(token, Outcome::Ok(Response::LeaseKeepAlive(LeaseKeepAliveResponse { header, id, ttl })));
    }

    fn left(&mut self, id: i64, [ttl, granted_ttl]: [i64; 2], keys: &[&'static str]) {
        let token = self.invoke(Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys: true }));
        let keys = keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect();
        let response = LeaseTimeToLiveResponse { header: self.header(), id, ttl, granted_ttl, keys };
        self.complete(token, Outcome::Ok(Response::LeaseTimeToLive(response)));
    }

    fn list(&mut self, ids: &[i64]) {
        let token = self.invoke(Request::LeaseLeases(LeaseLeasesRequest {}));
        let leases = ids.iter().map(|id| LeaseStatus { id: *id }).collect();
        let header = self.header();
        self.complete(token, Outcome::Ok(Response::LeaseLeases(LeaseLeasesResponse { header, leases })));
    }

    fn judged(self) -> Result<LeaseCounts, String> {
        check(&self.recorder.finish(), &self.circumstances).map_err(|violation| violation.message)
    }
}

/// A lease of three seconds with two keys, kept once, and ended at five seconds.
fn kept_once() -> Script {
    let mut script = Script::new();
    script.at(100).grant(1, 3);
    script.put("b", 1);
    script.put("a", 1);
    script.at(1_000).left(1, [2, 3], &["a", "b"]);
    script.at(2_000).keep_alive(1, 3);
    script.list(&[1]);
    script.at(5_050).expires(1);
    script
}

#[test]
fn what_happens_as_it_should_passes() {
    let mut script = kept_once();
    script.at(5_100).keep_alive(1, 0);
    script.left(1, [-1, 0], &[]);
    script.list(&[]);
    script.put("c", 1);
    script.grant(1, 2);
    script.grant(1, 2);
    let counts = script.judged().unwrap();
    assert_eq!((counts.granted, counts.expired, counts.keys, counts.renewed), (2, 1, 2, 1));
}

#[test]
fn a_lease_that_ends_early_is_noticed() {
    let mut script = kept_once();
    let expired = *script.circumstances.leased.keys().next_back().expect("one has");
    script.circumstances.leased.insert(expired, 4_999 * MS);
    script.now = 5_200 * MS;
    assert!(script.judged().unwrap_err().contains("ended early: lease 1, of 3 s, was ended at 4999.000 ms"));
}

#[test]
fn wrong_clocks_are_allowed_for_as_far_as_they_are_declared() {
    fn early(ms: u64, adjust: impl Fn(&mut Circumstances)) -> Result<LeaseCounts, String> {
        let mut script = kept_once();
        adjust(&mut script.circumstances);
        let expired = *script.circumstances.leased.keys().next_back().expect("one has");
        script.circumstances.leased.insert(expired, ms * MS);
        script.judged()
    }
    // Of three seconds from 2,000 ms on, at 1.25 times true speed, 2.4 are left.
    early(4_400, |it| it.drift_ppm = 250_000).unwrap();
    assert!(early(4_399, |it| it.drift_ppm = 250_000).unwrap_err().contains("ended early"));
    early(4_500, |it| it.jumps = vec![(3 * SECOND, SECOND / 2)]).unwrap();
    assert!(early(4_499, |it| it.jumps = vec![(3 * SECOND, SECOND / 2)]).unwrap_err().contains("ended early"));
    // One that came before the time began, or after its end, has taken nothing of it.
    for at in [SECOND, 6 * SECOND] {
        assert!(early(4_999, |it| it.jumps = vec![(at, SECOND / 2)]).unwrap_err().contains("ended early"));
    }
}

#[test]
fn a_grant_that_nobody_was_told_of_counts_from_its_entry() {
    let ended_at = |ms: u64| {
        let mut script = Script::new();
        let grant = Request::LeaseGrant(LeaseGrantRequest { id: 1, ttl: 3 });
        script.at(100).entry(0, &grant, Some(LeaseChange::Granted(1))).expect("there is none of that number");
        script.circumstances.unasked.insert(1, grant);
        script.at(ms).expires(1);
        script.judged()
    };
    ended_at(3_100).unwrap();
    let error = ended_at(3_099).unwrap_err();
    assert!(error.contains("before what its grant, at 100.000 ms, has promised"), "{error}");
}

#[test]
fn a_renewal_counts_whichever_came_back_first_its_answer_or_the_end() {
    let mut script = Script::new();
    script.at(0).grant(1, 2);
    script.at(1_500);
    let kept = script.invoke(Request::LeaseKeepAlive(LeaseKeepAliveRequest { id: 1 }));
    script.at(2_100).expires(1);
    let response = LeaseKeepAliveResponse {
        header: Some(ResponseHeader { revision: 1, ..ResponseHeader::default() }),
        id: 1,
        ttl: 2,
    };
    script.complete(kept, Outcome::Ok(Response::LeaseKeepAlive(response)));
    assert!(script.judged().unwrap_err().contains("ended early"));
}

#[test]
fn a_renewal_of_which_life_nobody_knows_promises_neither_anything() {
    let mut script = Script::new();
    script.at(0).grant(1, 2);
    script.at(1_900);
    let kept = script.invoke(Request::LeaseKeepAlive(LeaseKeepAliveRequest { id: 1 }));
    script.at(2_100).expires(1);
    script.grant(1, 2);
    let response = LeaseKeepAliveResponse {
        header: Some(ResponseHeader { revision: 1, ..ResponseHeader::default() }),
        id: 1,
        ttl: 2,
    };
    script.complete(kept, Outcome::Ok(Response::LeaseKeepAlive(response)));
    script.judged().unwrap();
}

#[test]
fn keys_that_stay_or_go_one_by_one_are_noticed() {
    let mut script = kept_once();
    let last = script.circumstances.applied.values_mut().last().expect("there is one");
    last.revision += 1;
    assert!(script.judged().unwrap_err().contains("leads to revision 4, and the store says 5"));
}

#[test]
fn a_lie_about_what_is_left_is_noticed() {
    let lie = |answer: fn(&mut Script)| {
        let mut script = kept_once();
        script.at(5_100);
        answer(&mut script);
        script.judged().unwrap_err()
    };
    for explained in [
        lie(|script| script.left(1, [1, 3], &["a", "b"])),
        lie(|script| script.keep_alive(1, 3)),
        lie(|script| script.list(&[1])),
    ] {
        assert!(explained.contains("no moment explains it"), "{explained}");
    }
    let lie = |answer: fn(&mut Script)| {
        let mut script = Script::new();
        script.at(100).grant(1, 3);
        script.put("a", 1);
        script.at(200);
        answer(&mut script);
        script.judged()
    };
    lie(|script| script.left(1, [2, 3], &["a"])).unwrap();
    lie(|script| script.left(1, [4, 3], &["a"])).unwrap();
    assert!(lie(|script| script.left(1, [1, 3], &["a"])).unwrap_err().contains("less is left than was promised"));
    assert!(lie(|script| script.left(1, [5, 3], &["a"])).unwrap_err().contains("more than it was granted for"));
    for explained in [
        lie(|script| script.left(1, [2, 4], &["a"])),
        lie(|script| script.left(1, [2, 3], &[])),
        lie(|script| script.left(1, [-1, 0], &[])),
        lie(|script| script.keep_alive(1, 0)),
        lie(|script| script.keep_alive(1, 4)),
        lie(|script| script.list(&[])),
        lie(|script| script.list(&[1, 2])),
    ] {
        assert!(explained.unwrap_err().contains("no moment explains it"));
    }
}

#[test]
fn a_put_without_its_lease_and_a_refusal_with_it_are_noticed() {
    let mut script = Script::new();
    let put = Request::Put(PutRequest { key: "a".into(), lease: 1, ..Default::default() });
    let token = script.invoke(put.clone());
    let refused = script.entry(token.operation, &put, None).unwrap_err();
    assert_eq!(refused, Refusal::LeaseNotFound.outcome());
    let header = Some(ResponseHeader { revision: 2, ..ResponseHeader::default() });
    script.complete(
        token,
        Outcome::Ok(Response::Put(seedbed_proto::etcdserverpb::PutResponse { header, prev_kv: None })),
    );
    assert!(script.judged().unwrap_err().contains("should have been refused"));

    let mut script = Script::new();
    script.grant(1, 3);
    let token = script.invoke(put.clone());
    script.entry(token.operation, &put, None).unwrap();
    script.complete(token, Refusal::LeaseNotFound.outcome());
    assert!(script.judged().unwrap_err().contains("there was no such reason"));
}

#[test]
fn an_order_that_goes_back_in_time_is_noticed() {
    let mut script = Script::new();
    script.at(100).grant(1, 3);
    script.at(200).grant(2, 3);
    let [first, second] = [1, 2].map(|index| script.circumstances.applied[&index]);
    script.circumstances.applied.insert(1, AppliedEntry { index: 1, ..second });
    script.circumstances.applied.insert(2, AppliedEntry { index: 2, ..first });
    assert!(script.judged().unwrap_err().contains("the log goes back"));
}

/// A request that is refused, in a way that leaves nothing in the log.
fn refused(mut script: Script, request: Request, reason: Refusal) -> Result<LeaseCounts, String> {
    let token = script.invoke(request);
    script.complete(token, reason.outcome());
    script.judged()
}

#[test]
fn a_refusal_that_is_not_in_the_log_needs_a_moment_at_which_it_was_right() {
    let revoke = |id| Request::LeaseRevoke(LeaseRevokeRequest { id });
    let put = |lease| Request::Put(PutRequest { key: "k".into(), lease, ..Default::default() });
    let granted = || {
        let mut script = Script::new();
        script.at(0).grant(1, 9);
        script.at(5);
        script
    };
    for request in [revoke(1), put(1)] {
        let error = refused(granted(), request, Refusal::LeaseNotFound).unwrap_err();
        assert!(error.contains("at no moment was there that reason"), "{error}");
    }
    for request in [revoke(2), put(2)] {
        refused(granted(), request, Refusal::LeaseNotFound).unwrap();
    }
    let grant = |id| Request::LeaseGrant(LeaseGrantRequest { id, ttl: 9 });
    refused(granted(), grant(1), Refusal::LeaseExists).unwrap();
    assert!(refused(granted(), grant(2), Refusal::LeaseExists).unwrap_err().contains("at no moment"));
}

#[test]
fn a_refusal_beside_the_end_of_its_lease_may_come_before_or_after() {
    let mut script = Script::new();
    script.at(0).grant(1, 9);
    let put = Request::Put(PutRequest { key: "k".into(), lease: 1, ..Default::default() });
    let beside = script.invoke(put.clone());
    script.logged(Request::LeaseRevoke(LeaseRevokeRequest { id: 1 }));
    script.complete(beside, Refusal::LeaseNotFound.outcome());
    script.judged().unwrap();
}
