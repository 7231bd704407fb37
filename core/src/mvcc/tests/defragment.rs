//! The file, made shorter.

use std::future::ready;

use super::disk::Failing;
use super::*;

const PATH: &str = "member/data/store.redb";

/// A store with little in it and a long file.
async fn long(disk: &MemoryDisk) -> TestStore {
    let store = open(disk).await;
    for n in 0..30 {
        apply(&store, |batch| batch.put(&put(&format!("key-{n}"), &"v".repeat(20_000)))).await.unwrap();
        flush(&store).await;
    }
    apply(&store, |batch| batch.delete_range(&delete("key-1", "key-3"))).await.unwrap();
    apply(&store, |batch| batch.compact(&compaction(store.revision()))).await.unwrap();
    while store.compaction_step(100).await.unwrap() {}
    flush(&store).await;
    store
}

async fn defragment(store: &TestStore) -> Result<(), StoreError> {
    store.defragment::<TokioRuntime, StoreError, _, _>(|| ready(Ok(())), || ready(())).await
}

fn everything(store: &TestStore) -> (Digest, KvHash, RangeResponse) {
    (store.digest().0, store.hash(0).unwrap(), store.range(&range("\0", "\0")).unwrap())
}

#[test]
fn the_file_is_shorter_and_everything_is_there_and_durable() {
    run(async {
        let disk = MemoryDisk::default();
        let store = long(&disk).await;
        apply(&store, |batch| {
            batch.set_meta("applied", b"all");
            batch.put(&put("last", "not flushed"))
        })
        .await
        .unwrap();
        let (before, size) = (everything(&store), store.size().unwrap());
        defragment(&store).await.unwrap();
        let shorter = store.size().unwrap();
        assert!(shorter.file_bytes < size.file_bytes * 3 / 4, "{size:?} became {shorter:?}");
        assert_eq!(shorter.row_bytes, size.row_bytes);
        assert_eq!(everything(&store), before);
        assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "all");
        assert_eq!(everything(&open(&disk.crashed(|| false)).await), before);

        // It goes on as usual.
        apply(&store, |batch| batch.put(&put("more", "of it"))).await.unwrap();
        flush(&store).await;
        let after = everything(&store);
        assert_eq!(everything(&open(&disk.crashed(|| false)).await), after);
    });
}

/// At every point, with any part of what was not synced on the medium.
#[test]
fn a_crash_on_the_way_loses_nothing() {
    run(async {
        let mut random = 1u32;
        for nth in 0.. {
            let disk = MemoryDisk::default();
            let store = long(&disk).await;
            let before = everything(&store);
            disk.fail(PATH, Failing::From(disk.operations(PATH) + nth));
            let ended = defragment(&store).await.is_ok();
            for lost in [0, 40, 100] {
                let crashed = disk.crashed(|| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (random >> 16) % 100 >= lost
                });
                assert_eq!(everything(&open(&crashed).await), before, "after {nth} operations");
            }
            if ended {
                assert!(nth > 5, "it takes more than {nth} operations");
                break;
            }
            assert!(store.range(&range("key-1", "")).is_err() && store.begin().await.is_err(), "nothing is believed");
        }
    });
}

#[test]
fn whoever_reads_on_is_not_disturbed() {
    run(async {
        let store = long(&MemoryDisk::default()).await;
        let before = everything(&store);
        let mut snapshot = store.snapshot().unwrap();
        assert!(matches!(defragment(&store).await, Err(StoreError::Busy { .. })));
        assert_eq!(everything(&store), before);
        while snapshot.next_chunk(100_000).unwrap().is_some() {}
        drop(snapshot);
        defragment(&store).await.unwrap();
        assert_eq!(everything(&store), before);
    });
}
