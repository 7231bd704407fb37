//! Leases: which there are, and whose keys they take with them.

use bytes::Bytes;

use super::*;
use crate::proto::etcdserverpb::LeaseGrantRequest;

fn grant(id: i64, ttl: i64) -> LeaseGrantRequest {
    LeaseGrantRequest { id, ttl }
}

fn leased(key: &str, lease: i64) -> PutRequest {
    PutRequest { lease, ..put(key, "v") }
}

/// Lease 7, granted at 3, with `a` and `c`; lease 8, granted at 4, without keys; `b` without a lease. Revision 4.
async fn example(disk: &MemoryDisk) -> TestStore {
    let store = open(disk).await;
    apply(&store, |batch| batch.grant_lease(&grant(7, 60), 3)).await.unwrap();
    apply(&store, |batch| batch.grant_lease(&grant(8, 10), 4)).await.unwrap();
    for (key, lease) in [("c", 7), ("a", 7), ("b", 0)] {
        apply(&store, |batch| batch.put(&leased(key, lease))).await.unwrap();
    }
    store
}

/// Number, time, grant, rest and keys of each.
fn shown(store: &TestStore) -> Vec<(i64, i64, u64, i64, Vec<Bytes>)> {
    let (leases, revision) = store.leases();
    assert_eq!(revision, store.revision());
    leases.iter().map(|(id, it)| (id, it.ttl, it.granted, it.rest, it.keys().cloned().collect())).collect()
}

fn expected(rest: i64) -> Vec<(i64, i64, u64, i64, Vec<Bytes>)> {
    vec![(7, 60, 3, rest, vec!["a".into(), "c".into()]), (8, 10, 4, 0, vec![])]
}

#[test]
fn an_end_takes_all_keys_in_one_revision() {
    run(async {
        let store = example(&MemoryDisk::default()).await;
        assert_eq!(shown(&store), expected(0));
        let revoked = apply(&store, |batch| batch.revoke_lease(7, None)).await.unwrap();
        assert_eq!((revoked.header.unwrap().revision, store.revision()), (5, 5));
        // Without keys nothing changes but that it is gone.
        apply(&store, |batch| batch.revoke_lease(8, None)).await.unwrap();
        assert_eq!((store.revision(), shown(&store)), (5, vec![]));
        let everything = store.range(&range("\0", "\0")).unwrap();
        assert_eq!(everything.kvs.iter().map(|kv| &kv.key[..]).collect::<Vec<_>>(), [b"b"]);
        for refused in [
            apply(&store, |batch| batch.revoke_lease(7, None)).await.unwrap_err(),
            apply(&store, |batch| batch.put(&leased("a", 7))).await.map(|_| ()).unwrap_err(),
        ] {
            assert_eq!(refused, Refusal::LeaseNotFound(7));
        }
    });
}

#[test]
fn what_a_leader_decides_means_one_lease_of_its_number() {
    run(async {
        let store = example(&MemoryDisk::default()).await;
        let again = apply(&store, |batch| batch.grant_lease(&grant(7, 60), 9)).await.unwrap_err();
        assert_eq!(again, Refusal::LeaseExists(7));
        apply(&store, |batch| batch.revoke_lease(7, None)).await.unwrap();
        apply(&store, |batch| batch.grant_lease(&grant(7, 60), 9)).await.unwrap();
        apply(&store, |batch| batch.put(&leased("a", 7))).await.unwrap();
        // The end of the first one, decided before it was revoked, and a note of what was left of it.
        let late = apply(&store, |batch| batch.revoke_lease(7, Some(3))).await.unwrap_err();
        assert_eq!(late, Refusal::LeaseNotFound(7));
        let note = |granted, rest| {
            move |batch: &mut Batch<MemoryDisk>| {
                batch.note_lease_rest(7, granted, rest);
                Ok::<(), ApplyError>(())
            }
        };
        apply(&store, note(3, 1)).await.unwrap();
        assert_eq!(shown(&store)[0], (7, 60, 9, 0, vec!["a".into()]));
        apply(&store, note(9, 20)).await.unwrap();
        assert_eq!(shown(&store)[0], (7, 60, 9, 20, vec!["a".into()]));
        apply(&store, |batch| batch.revoke_lease(7, Some(9))).await.unwrap();
        assert_eq!(shown(&store).len(), 1);
    });
}

#[test]
fn a_request_that_is_refused_leaves_leases_as_they_were() {
    run(async {
        let store = example(&MemoryDisk::default()).await;
        let mut batch = store.begin().await.unwrap();
        batch.put(&leased("a", 8)).unwrap();
        drop(batch);
        assert_eq!(shown(&store), expected(0));
    });
}

#[test]
fn leases_and_their_keys_survive_a_restart_and_a_snapshot() {
    run(async {
        let disk = MemoryDisk::default();
        let store = example(&disk).await;
        let note = |batch: &mut Batch<MemoryDisk>| {
            batch.note_lease_rest(7, 3, 20);
            Ok::<(), ApplyError>(())
        };
        apply(&store, note).await.unwrap();
        flush(&store).await;
        let mut view = store.snapshot().unwrap();
        drop(store);
        let reopened = open(&disk).await;
        assert_eq!(shown(&reopened), expected(20));

        let other = open(&MemoryDisk::default()).await;
        apply(&other, |batch| batch.grant_lease(&grant(99, 60), 1)).await.unwrap();
        let mut installer = other.installer().await.unwrap();
        // In pieces that are smaller than a lease.
        while let Some(chunk) = view.next_chunk(1).unwrap() {
            installer.feed(&chunk).unwrap();
        }
        installer.finish::<TokioRuntime>().await.unwrap();
        assert_eq!(shown(&other), expected(20));
        assert_eq!(other.digest(), reopened.digest());
    });
}
