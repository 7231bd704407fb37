//! What survives, and what happens when the disk fails.

use super::disk::Failing;
use super::*;
use crate::runtime::{Disk, File};

const PATH: &str = "member/data/store.redb";

async fn commit(store: &TestStore, n: u64) {
    let mut batch = store.begin().await.unwrap();
    batch.put(&put(&format!("key-{}", n % 7), &"v".repeat(n as usize % 50))).unwrap();
    batch.put(&put("n", &n.to_string())).unwrap();
    batch.set_meta("applied", n.to_string().as_bytes());
    batch.commit().unwrap();
}

/// How many batches there have been, by the data and by the value kept with it, which must agree.
fn count(store: &TestStore) -> u64 {
    let Some(applied) = store.meta("applied").unwrap() else { return 0 };
    let kv = store.range(&range("n", "")).unwrap().kvs.remove(0);
    assert_eq!(kv.value, applied);
    let count = String::from_utf8(applied.to_vec()).unwrap().parse().unwrap();
    assert_eq!(store.revision(), 1 + 2 * count as i64);
    count
}

#[test]
fn a_dropped_store_is_what_was_flushed() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        for n in 1..=10 {
            commit(&store, n).await;
        }
        assert_eq!(store.durable_meta("applied").unwrap(), None);
        flush(&store).await;
        assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "10");
        let digest = store.digest();
        for n in 11..=20 {
            commit(&store, n).await;
        }
        assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "10");
        let operations = disk.operations(PATH);
        drop(store);
        assert_eq!(disk.operations(PATH), operations, "dropping writes nothing");

        let store = open(&disk).await;
        assert_eq!((count(&store), store.digest()), (10, digest));
        assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "10");
    });
}

#[test]
fn a_flush_of_nothing_new_costs_nothing() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        commit(&store, 1).await;
        flush(&store).await;
        let operations = disk.operations(PATH);
        flush(&store).await;
        assert_eq!(disk.operations(PATH), operations);
    });
}

#[test]
fn names_are_made_durable() {
    run(async {
        let disk = MemoryDisk::default();
        open(&disk).await;
        let expected = ["", "member", "member/data"].map(str::to_owned);
        assert_eq!(disk.take_synced_dirs().into_iter().collect::<Vec<_>>(), expected);
        // Whoever made the file may have died before its name was durable.
        open(&disk).await;
        assert_eq!(disk.take_synced_dirs().into_iter().collect::<Vec<_>>(), expected);
    });
}

/// At every point, with any part of what was not synced on the medium: the state of the last flush, whole.
#[test]
fn crashes() {
    run(async {
        let disk = MemoryDisk::default();
        // A small cache, so that what is not durable spills to the file.
        let options = Options { cache_bytes: 16 << 10, ..Options::default() };
        let store = Store::open(&disk, "member/data", options).await.unwrap();
        let (mut flushed, mut random) = (0, 1u32);
        for n in 1..=120 {
            commit(&store, n).await;
            if n % 25 == 0 {
                let mut batch = store.begin().await.unwrap();
                batch.compact(&compaction(store.revision() - 9)).unwrap();
                batch.commit().unwrap();
            }
            if n % 3 == 0 {
                store.compaction_step(5).await.unwrap();
            }
            if n % 10 == 4 {
                flush(&store).await;
                flushed = n;
            }
            for lost in [0, 40, 100] {
                let crashed = disk.crashed(|| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (random >> 16) % 100 >= lost
                });
                let reopened = open(&crashed).await;
                assert_eq!(count(&reopened), flushed, "after {n} batches");
                reopened.hash(0).unwrap();
            }
        }
    });
}

#[test]
fn a_growth_that_a_crash_cut_short_is_no_damage() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        commit(&store, 1).await;
        flush(&store).await;
        drop(store);
        for torn in [1, 511, 512, 4095, 4096, 4097, 70_000] {
            let file = disk.open(PATH).unwrap();
            file.set_size(file.size().unwrap() + torn).unwrap();
            file.barrier().unwrap();
            let store = open(&disk).await;
            assert_eq!(count(&store), 1, "{torn} bytes longer");
            commit(&store, 2).await;
            assert_eq!(count(&store), 2);
        }
    });
}

/// etcd #17780 and #19179: the revision went back, and a tombstone was lost, when a compaction was cut short.
#[test]
fn a_compaction_is_resumed() {
    run(async {
        let (disk, mut expected) = (MemoryDisk::default(), None);
        let store = open(&disk).await;
        for key in ["a", "b", "c"] {
            apply(&store, |batch| batch.put(&put(key, "1"))).await.unwrap();
        }
        for key in ["a", "b", "c"] {
            apply(&store, |batch| batch.delete_range(&delete(key, ""))).await.unwrap();
        }
        // Deletes all rows but the tombstone at the compact revision.
        apply(&store, |batch| batch.compact(&compaction(7))).await.unwrap();
        let mut store = store;
        for step in 0.. {
            flush(&store).await;
            drop(store);
            store = open(&disk).await;
            let hash = store.hash(0).unwrap();
            assert_eq!((store.revision(), store.compact_revision()), (7, 7));
            assert_eq!(*expected.get_or_insert(hash), hash, "after {step} steps");
            if !store.compaction_step(1).await.unwrap() {
                assert_eq!(step, 4, "five rows are deleted");
                break;
            }
        }
        flush(&store).await;
        let store = open(&disk).await;
        assert!(!store.is_compacting().await.unwrap());
        // The lone tombstone is still known, and given up in its turn.
        apply(&store, |batch| batch.put(&put("d", "1"))).await.unwrap();
        apply(&store, |batch| batch.compact(&compaction(8))).await.unwrap();
        assert!(store.is_compacting().await.unwrap());
    });
}

#[test]
fn a_failed_sync_is_final() {
    run(async {
        for failing in [Failing::Barrier, Failing::Settle, Failing::Write] {
            let disk = MemoryDisk::default();
            let store = open(&disk).await;
            commit(&store, 1).await;
            flush(&store).await;
            commit(&store, 2).await;
            disk.fail(PATH, failing);
            store.flush::<TokioRuntime>().await.unwrap_err();
            let named = |error: String| assert!(error.contains("the disk is broken"), "{failing:?}: {error}");
            named(store.flush::<TokioRuntime>().await.unwrap_err().to_string());
            named(store.begin().await.unwrap_err().to_string());
            named(store.range(&range("n", "")).unwrap_err().to_string());
            named(store.meta("applied").unwrap_err().to_string());
            named(store.durable_meta("applied").unwrap_err().to_string());
            named(store.snapshot().unwrap_err().to_string());
            named(store.hash(0).unwrap_err().to_string());
            drop(store);

            // What could not be synced has gone.
            let store = open(&disk.crashed(|| false)).await;
            let kept = count(&store);
            assert!(kept == 1 || failing == Failing::Settle && kept == 2, "{failing:?}: {kept}");
        }
    });
}

#[test]
fn damage_is_an_error_that_names_the_file() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        let needle = "a value that is nowhere else";
        apply(&store, |batch| batch.put(&put("key", needle))).await.unwrap();
        flush(&store).await;
        drop(store);
        disk.flip(PATH, needle.as_bytes());
        let error =
            Store::open(&disk, "member/data", Options { verify: true, ..Options::default() }).await.unwrap_err();
        assert!(error.to_string().starts_with(PATH), "{error}");
    });
}

#[test]
fn writers_take_turns() {
    run(async {
        let store = open(&MemoryDisk::default()).await;
        let batch = store.begin().await.unwrap();
        let mut second = std::pin::pin!(store.begin());
        assert!(futures_util::poll!(second.as_mut()).is_pending());
        drop(batch);
        assert!(futures_util::poll!(second.as_mut()).is_ready());
    });
}

/// The database reuses pages as soon as it believes a commit durable, so nobody may write before it is.
#[test]
fn writers_wait_for_a_flush_and_readers_do_not() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        commit(&store, 1).await;
        disk.hold(PATH, true);
        {
            let mut flush = std::pin::pin!(store.flush::<TokioRuntime>());
            while !disk.waiting(PATH) {
                assert!(futures_util::poll!(flush.as_mut()).is_pending());
                tokio::task::yield_now().await;
            }
            assert_eq!(count(&store), 1);
            assert_eq!(store.durable_meta("applied").unwrap(), None);
        }
        // Whoever asked for the flush has given up; the commit is under way all the same.
        let mut next = std::pin::pin!(store.begin());
        assert!(futures_util::poll!(next.as_mut()).is_pending());
        disk.hold(PATH, false);
        next.await.unwrap();
        assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "1");
    });
}

#[test]
fn tasks_may_use_the_store() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    run(async {
        let disk = MemoryDisk::default();
        let store = sendable(Store::open(&disk, "", Options::default())).await.unwrap();
        sendable(sendable(store.begin()).await.unwrap()).commit().unwrap();
        sendable(store.flush::<TokioRuntime>()).await.unwrap();
        sendable(store.compaction_step(1)).await.unwrap();
        let mut installer = sendable(sendable(store.installer()).await.unwrap());
        let mut snapshot = sendable(store.snapshot().unwrap());
        while let Some(chunk) = snapshot.next_chunk(100).unwrap() {
            installer.feed(&chunk).unwrap();
        }
        sendable(installer.finish::<TokioRuntime>()).await.unwrap();
    });
}

#[test]
fn the_size_of_rows_is_known_without_reading_them() {
    run(async {
        let disk = MemoryDisk::default();
        let store = open(&disk).await;
        assert_eq!(store.size().unwrap().row_bytes, 0);
        apply(&store, |batch| batch.put(&put("k", "value"))).await.unwrap();
        let one = store.size().unwrap();
        apply(&store, |batch| batch.put(&put("k", "other"))).await.unwrap();
        let two = store.size().unwrap();
        assert_eq!(two.row_bytes, 2 * one.row_bytes);
        assert!(one.row_bytes > 0 && two.row_bytes < two.file_bytes);
        flush(&store).await;
        drop(store);
        let store = open(&disk).await;
        assert_eq!(store.size().unwrap().row_bytes, two.row_bytes);
        apply(&store, |batch| batch.compact(&compaction(3))).await.unwrap();
        while store.compaction_step(10).await.unwrap() {}
        assert_eq!(store.size().unwrap().row_bytes, one.row_bytes);
    });
}
