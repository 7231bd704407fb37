//! Locks and elections: one holder at a time, by revision; and fences that keep all others out.
//!
//! By the clock a lock has two holders whenever a lease ends unnoticed: nothing can be promised there. By revision it has one:
//! whose key is the oldest under the lock's name.
//!
//! ```text
//!   revision  4            5            6             7             8
//!             n/1 put      n/2 put      fenced put    n/1 deleted   fenced put
//!   holder    n/1          n/1          n/1           n/2           n/2
//!             1 is told                 by 1: made    2 is told     by 1: kept out
//! ```
//!
//! 1. Whoever is told that it has a lock holds it at the revision of the answer; whoever is told of an office holds it at some
//!    revision from the creation of its key on.
//! 2. A change that was made under a fence was made by the holder, at the revision before it; so no two holders' changes mix.
//! 3. An observer is told of holders only, each as it was, in their order, and never twice of the same. Nor is anybody told that
//!    there is no holder, or that it is not the holder, unless it was so.
//!
//! That a lock is given in the end, and an observer told, is for the [last contest](crate::contend) to see.

use std::collections::BTreeMap;

use bytes::Bytes;
use seedbed_core::runtime::AppliedEntry;
use seedbed_proto::etcdserverpb::RangeRequest;
use seedbed_proto::etcdserverpb::range_request::{SortOrder, SortTarget};
use seedbed_proto::mvccpb::KeyValue;

use super::past;
use crate::contend::{ContendLog, Held, Kind, Observed, Vacant};
use crate::history::History;
use crate::model::Kv;
use crate::outcome::Violation;

const JUDGE: &str = "fencing";

/// Judges what contenders and observers were told. The history has [all](super::unasked) that has changed keys; `reached` says
/// when revisions were applied for the first time.
///
/// # Errors
/// The first violation; or the log does not lead through the revisions.
pub fn check<'a>(
    history: &History,
    entries: impl IntoIterator<Item = &'a AppliedEntry>,
    reached: &BTreeMap<i64, u64>,
    log: &ContendLog,
) -> Result<(), Violation> {
    if *log == ContendLog::default() {
        return Ok(());
    }
    let past = Past { kv: past::led_by(JUDGE, history, entries)?, reached };
    log.held.iter().try_for_each(|held| past.held(held))?;
    log.observed.iter().try_for_each(|observed| past.observed(observed))?;
    log.vacant.iter().try_for_each(|vacant| past.vacant(vacant))
}

/// Every state that the store has had.
struct Past<'a> {
    kv: Kv,
    /// When revisions were applied for the first time.
    reached: &'a BTreeMap<i64, u64>,
}

impl Past<'_> {
    /// Whose key is the oldest under a name, at a revision.
    fn holder(&self, name: &Bytes, revision: i64) -> Option<KeyValue> {
        let oldest = RangeRequest {
            key: [name, &b"/"[..]].concat().into(),
            range_end: [name, &b"0"[..]].concat().into(),
            sort_order: SortOrder::Ascend as i32,
            sort_target: SortTarget::Create as i32,
            limit: 1,
            ..RangeRequest::default()
        };
        self.kv.serializable(&oldest, revision).ok()?.kvs.into_iter().next()
    }

    /// A pair at a revision.
    fn pair(&self, key: &Bytes, revision: i64) -> Option<KeyValue> {
        let request = RangeRequest { key: key.clone(), ..RangeRequest::default() };
        self.kv.serializable(&request, revision).ok()?.kvs.into_iter().next()
    }

    /// The last revision that anybody had applied at a time.
    fn upto(&self, time: u64) -> i64 {
        let applied = self.reached.iter().filter(|(_, at)| **at <= time);
        applied.map(|(revision, _)| *revision).max().unwrap_or(0)
    }

    fn holds(&self, held: &Held, revision: i64) -> bool {
        self.holder(&held.name, revision).is_some_and(|holder| holder.key == held.key)
    }

    fn held(&self, held: &Held) -> Result<(), Violation> {
        let Held { name, key, revision, kind, .. } = held;
        let (name, key) = (name.escape_ascii(), key.escape_ascii());
        match kind {
            Kind::Lock if !self.holds(held, *revision) => {
                let holder = self.holder(&held.name, *revision);
                let holder = holder.map_or("nobody".to_owned(), |holder| holder.key.escape_ascii().to_string());
                return Err(violation(format!(
                    "two holders: \"{key}\" was told that it has the lock \"{name}\" at revision {revision}, when {holder} had it"
                )));
            }
            Kind::Office if !(*revision..=self.upto(held.told)).any(|revision| self.holds(held, revision)) => {
                return Err(violation(format!(
                    "elected by nobody: \"{key}\" of revision {revision} had not been the first of \"{name}\" when it was \
                     told so"
                )));
            }
            _ => {}
        }
        for told in &held.disowned {
            // Once it is gone it does not come back as it was created.
            let upto = self.upto(*told);
            if self.pair(&held.key, upto).is_some_and(|kv| kv.create_revision == *revision) {
                return Err(violation(format!(
                    "disowned: \"{key}\" of revision {revision} was told that it does not lead \"{name}\", and is there at \
                     revision {upto}"
                )));
            }
        }
        for attempt in &held.attempts {
            let made = self.pair(&attempt.key, attempt.revision);
            let made = made.is_some_and(|kv| kv.mod_revision == attempt.revision && kv.value == attempt.value);
            if made != attempt.made {
                return Err(violation(format!(
                    "a change under the fence of \"{key}\" at revision {} was told to be made: {}, and was made: {made}",
                    attempt.revision, attempt.made
                )));
            }
            if !attempt.made && self.pair(&held.key, attempt.revision).is_some() {
                return Err(violation(format!(
                    "kept out: \"{key}\" was there at revision {}, and its change was not made",
                    attempt.revision
                )));
            }
            if attempt.made && !self.holds(held, attempt.revision - 1) {
                return Err(violation(format!(
                    "no fence: \"{key}\" has made revision {} under the name of \"{name}\", which it did not hold",
                    attempt.revision
                )));
            }
        }
        Ok(())
    }

    fn vacant(&self, vacant: &Vacant) -> Result<(), Violation> {
        let Vacant { name, asked, told } = vacant;
        let [from, upto] = [self.upto(*asked), self.upto(*told)];
        if (from..=upto).any(|revision| self.holder(name, revision).is_none()) {
            return Ok(());
        }
        let name = name.escape_ascii();
        Err(violation(format!("somebody was told that nobody leads \"{name}\", from revision {from} to {upto}")))
    }

    fn observed(&self, observed: &Observed) -> Result<(), Violation> {
        let name = observed.name.escape_ascii();
        // By holder, and of one holder by change.
        let mut last = (0, 0);
        for (revision, told) in &observed.told {
            let shown = format!("\"{}\" of revision {}", told.key.escape_ascii(), told.mod_revision);
            let now = (told.create_revision, told.mod_revision);
            if now <= last {
                return Err(violation(format!(
                    "an observer of \"{name}\" was told of {shown} after revision {}, of a holder since {}",
                    last.1, last.0
                )));
            }
            last = now;
            if self.holder(&observed.name, *revision).as_ref() != Some(told) {
                let holder = self.holder(&observed.name, *revision);
                let holder = holder.map_or("nobody".to_owned(), |holder| {
                    format!("\"{}\" of revision {}", holder.key.escape_ascii(), holder.mod_revision)
                });
                return Err(violation(format!(
                    "an observer of \"{name}\" was told of {shown} at revision {revision}, when {holder} led"
                )));
            }
        }
        Ok(())
    }
}

fn violation(message: String) -> Violation {
    Violation { judge: JUDGE, message }
}

#[cfg(test)]
mod tests {
    use seedbed_proto::etcdserverpb::{DeleteRangeRequest, PutRequest};

    use super::*;
    use crate::contend::Attempt;
    use crate::history::{Recorder, Request, Server};

    /// As in the head of this file: revisions 2 to 6.
    fn past() -> (History, Vec<AppliedEntry>) {
        let put = |key: &'static str, value: &'static str| {
            Request::Put(PutRequest { key: key.into(), value: value.into(), ..PutRequest::default() })
        };
        let delete = Request::DeleteRange(DeleteRangeRequest { key: "n/1".into(), ..DeleteRangeRequest::default() });
        let requests = [put("n/1", "one"), put("n/2", "two"), put("fenced", "by one"), delete, put("fenced", "by two")];
        let mut recorder = Recorder::new();
        let entries = (1..)
            .zip(requests)
            .map(|(index, request)| AppliedEntry {
                index,
                term: 1,
                operation: recorder.invoke(1, Server::default(), index, |_| request).operation,
                revision: index as i64 + 1,
                changed: true,
                compacted: false,
                lease: None,
                digest: 0,
            })
            .collect();
        (recorder.finish(), entries)
    }

    fn held(kind: Kind, key: &'static str, revision: i64, made: &[i64]) -> Held {
        let value = if key == "n/1" { "by one" } else { "by two" };
        let attempt =
            |revision: &i64| Attempt { revision: *revision, made: true, key: "fenced".into(), value: value.into() };
        let attempts = made.iter().map(attempt).collect();
        Held { kind, name: "n".into(), key: key.into(), revision, told: 9, attempts, disowned: Vec::new() }
    }

    fn judged(log: ContendLog) -> Result<(), String> {
        let (history, entries) = past();
        let reached = (2..=6).map(|revision| (revision, revision as u64)).collect();
        check(&history, &entries, &reached, &log).map_err(|violation| violation.message)
    }

    fn told(key: &'static str, value: &'static str, created: i64) -> KeyValue {
        KeyValue {
            key: key.into(),
            value: value.into(),
            create_revision: created,
            mod_revision: created,
            version: 1,
            lease: 0,
        }
    }

    fn holders(held: Vec<Held>) -> Result<(), String> {
        judged(ContendLog { held, ..ContendLog::default() })
    }

    fn observers(told: Vec<(i64, KeyValue)>) -> Result<(), String> {
        judged(ContendLog { observed: vec![Observed { name: "n".into(), told }], ..ContendLog::default() })
    }

    #[test]
    fn holders_that_follow_each_other_pass() {
        holders(vec![held(Kind::Lock, "n/1", 2, &[4]), held(Kind::Lock, "n/2", 5, &[6])]).unwrap();
        holders(vec![held(Kind::Office, "n/1", 2, &[4]), held(Kind::Office, "n/2", 3, &[6])]).unwrap();
        observers(vec![(3, told("n/1", "one", 2)), (5, told("n/2", "two", 3))]).unwrap();
    }

    #[test]
    fn two_holders_are_noticed() {
        assert!(holders(vec![held(Kind::Lock, "n/2", 4, &[])]).unwrap_err().contains("when n/1 had it"));
        assert!(holders(vec![held(Kind::Lock, "n/1", 5, &[])]).unwrap_err().contains("when n/2 had it"));
        assert!(holders(vec![held(Kind::Office, "n/3", 3, &[])]).unwrap_err().contains("elected by nobody"));
        let early = Held { told: 4, ..held(Kind::Office, "n/2", 3, &[]) };
        assert!(holders(vec![early]).unwrap_err().contains("elected by nobody"));
    }

    #[test]
    fn a_fence_that_lets_through_is_noticed() {
        let written = |key, value: &'static str, revision, made| {
            let attempts = vec![Attempt { revision, made, key: "fenced".into(), value: value.into() }];
            holders(vec![Held { attempts, ..held(Kind::Office, key, 2, &[]) }])
        };
        written("n/1", "by one", 4, true).unwrap();
        written("n/1", "late", 5, false).unwrap();
        assert!(written("n/1", "by two", 6, true).unwrap_err().contains("no fence"));
        assert!(written("n/2", "by one", 4, true).unwrap_err().contains("no fence"));
        assert!(written("n/1", "lost", 4, true).unwrap_err().contains("was made: false"));
        assert!(written("n/2", "refused", 5, false).unwrap_err().contains("kept out"));
    }

    #[test]
    fn whoever_is_told_wrongly_that_it_does_not_lead_is_noticed() {
        let disowned = |key, revision, told| {
            holders(vec![Held { disowned: vec![told], ..held(Kind::Office, key, revision, &[]) }])
        };
        disowned("n/1", 2, 5).unwrap();
        assert!(disowned("n/1", 2, 4).unwrap_err().contains("disowned"));
        assert!(disowned("n/2", 3, 9).unwrap_err().contains("is there at revision 6"));
    }

    #[test]
    fn whoever_is_told_wrongly_that_nobody_leads_is_noticed() {
        let vacant = |name: &'static str, asked, told| {
            judged(ContendLog { vacant: vec![Vacant { name: name.into(), asked, told }], ..ContendLog::default() })
        };
        vacant("other", 4, 5).unwrap();
        // Nothing has happened at 1, and by 2 there is one.
        vacant("n", 1, 2).unwrap();
        assert!(vacant("n", 2, 6).unwrap_err().contains("nobody leads \"n\", from revision 2 to 6"));
    }

    #[test]
    fn an_observer_that_is_told_wrong_is_noticed() {
        let (one, two) = (told("n/1", "one", 2), told("n/2", "two", 3));
        assert!(observers(vec![(5, two.clone()), (5, one.clone())]).unwrap_err().contains("after revision 3"));
        assert!(observers(vec![(3, one.clone()), (4, one.clone())]).unwrap_err().contains("after revision 2"));
        assert!(observers(vec![(5, one.clone())]).unwrap_err().contains("when \"n/2\" of revision 3 led"));
        assert!(observers(vec![(3, KeyValue { value: "won".into(), ..one })]).unwrap_err().contains("led"));
    }
}
