//! Snapshots, sent and installed.

use super::*;

async fn example() -> TestStore {
    let store = open(&MemoryDisk::default()).await;
    for n in 0..40 {
        let mut batch = store.begin().await.unwrap();
        batch.put(&put(&format!("key-{}", n % 9), &"value".repeat(n % 5))).unwrap();
        if n % 6 == 0 {
            batch.delete_range(&delete(&format!("key-{}", n % 9), "")).unwrap();
        }
        batch.set_meta("applied", n.to_string().as_bytes());
        batch.set_meta(&format!("{REPLICATED}{}", n % 3), n.to_string().as_bytes());
        batch.commit().unwrap();
    }
    apply(&store, |batch| batch.compact(&compaction(20))).await.unwrap();
    store.compaction_step(3).await.unwrap();
    store
}

pub(super) fn chunks(store: &TestStore, bytes_max: usize) -> Vec<bytes::Bytes> {
    let mut snapshot = store.snapshot().unwrap();
    std::iter::from_fn(|| snapshot.next_chunk(bytes_max).unwrap()).collect()
}

pub(super) async fn install(
    store: &TestStore,
    pieces: impl IntoIterator<Item: AsRef<[u8]>>,
) -> Result<(), InstallError> {
    let mut installer = store.installer().await?;
    for piece in pieces {
        installer.feed(piece.as_ref())?;
    }
    installer.set_meta("applied", b"installed");
    installer.finish::<TokioRuntime>().await
}

/// Whether a stream could be installed.
fn check(pieces: &[bytes::Bytes]) -> Result<(), InstallError> {
    let mut check = SnapshotCheck::default();
    pieces.iter().try_for_each(|piece| check.feed(piece))?;
    check.finish()
}

fn assert_equal(store: &TestStore, expected: &TestStore) {
    assert_eq!(store.digest(), expected.digest());
    assert_eq!(store.hash(0).unwrap(), expected.hash(0).unwrap());
    assert_eq!(store.size().unwrap().row_bytes, expected.size().unwrap().row_bytes);
    for n in 0..3 {
        let name = format!("{REPLICATED}{n}");
        assert_eq!(store.meta(&name).unwrap().expect("it is in the example"), expected.meta(&name).unwrap().unwrap());
    }
    for revision in expected.compact_revision()..=expected.revision() {
        let request = RangeRequest { revision, ..range("\0", "\0") };
        assert_eq!(store.range(&request).unwrap(), expected.range(&request).unwrap());
    }
}

#[test]
fn an_installed_store_is_the_sent_one() {
    run(async {
        let sent = example().await;
        for bytes_max in [1, 100, 1 << 20] {
            let disk = MemoryDisk::default();
            let store = open(&disk).await;
            apply(&store, |batch| batch.put(&put("old", "1"))).await.unwrap();
            let mut batch = store.begin().await.unwrap();
            batch.set_meta("other", b"1");
            batch.commit().unwrap();

            let chunks = chunks(&sent, bytes_max);
            assert!(bytes_max < 100 || chunks.iter().all(|chunk| chunk.len() <= bytes_max));
            install(&store, chunks).await.unwrap();
            assert_equal(&store, &sent);
            assert_eq!(store.durable_meta("applied").unwrap().unwrap(), "installed");
            assert_eq!(store.meta("other").unwrap(), None);

            // It is durable, goes on as the sent one does, and finishes its compaction.
            let store = open(&disk.crashed(|| false)).await;
            let sent = install_copy(&sent).await;
            for store in [&store, &sent] {
                apply(store, |batch| batch.put(&put("key-3", "new"))).await.unwrap();
                while store.compaction_step(7).await.unwrap() {}
            }
            assert_equal(&store, &sent);
        }
    });
}

async fn install_copy(store: &TestStore) -> TestStore {
    let copy = open(&MemoryDisk::default()).await;
    install(&copy, chunks(store, 4096)).await.unwrap();
    copy
}

#[test]
fn pieces_may_be_cut_anywhere() {
    run(async {
        let sent = example().await;
        let stream = chunks(&sent, 300).concat();
        let store = open(&MemoryDisk::default()).await;
        install(&store, stream.chunks(7)).await.unwrap();
        assert_equal(&store, &sent);
    });
}

#[test]
fn a_snapshot_stays_what_it_was() {
    run(async {
        let store = example().await;
        let copy = install_copy(&store).await;
        let mut snapshot = store.snapshot().unwrap();
        let mut pieces = vec![snapshot.next_chunk(100).unwrap().unwrap()];
        assert_eq!(snapshot.meta("applied").unwrap(), "39");
        apply(&store, |batch| batch.delete_range(&delete("\0", "\0"))).await.unwrap();
        apply(&store, |batch| batch.compact(&compaction(store.revision()))).await.unwrap();
        while store.compaction_step(10).await.unwrap() {}
        flush(&store).await;
        drop(store);
        while let Some(piece) = snapshot.next_chunk(100).unwrap() {
            pieces.push(piece);
        }
        let installed = open(&MemoryDisk::default()).await;
        install(&installed, pieces).await.unwrap();
        assert_equal(&installed, &copy);
    });
}

#[test]
fn a_damaged_stream_changes_nothing() {
    run(async {
        let (sent, disk) = (example().await, MemoryDisk::default());
        let pieces = chunks(&sent, 300);
        let other = {
            let store = example().await;
            apply(&store, |batch| batch.put(&put("x", "1"))).await.unwrap();
            chunks(&store, 300)
        };
        assert!(pieces.len() > 5);
        let store = open(&disk).await;
        apply(&store, |batch| batch.put(&put("old", "1"))).await.unwrap();
        let before = store.hash(0).unwrap();

        let offset = |piece: usize| pieces[..piece].iter().map(|piece| piece.len() as u64).sum::<u64>();
        let mut flipped = pieces.clone();
        flipped[3] = flipped[3].iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 50)).collect();
        let without = |piece: usize| [&pieces[..piece], &pieces[piece + 1..]].concat();
        let end = pieces.len() - 1;
        for (what, stream, expected) in [
            ("flipped", flipped, offset(3)),
            ("missing header", without(0), 0),
            ("missing rows", without(3), offset(3)),
            ("missing end", without(end), offset(end)),
            ("nothing", vec![], 0),
            ("cut", vec![pieces.concat()[..offset(3) as usize + 20].to_vec().into()], offset(3)),
            ("swapped", [&pieces[..2], &[pieces[3].clone(), pieces[2].clone()], &pieces[4..]].concat(), offset(2)),
            ("mixed", [&pieces[..3], &other[3..]].concat(), offset(3)),
            ("twice", [&pieces[..], &pieces[..]].concat(), offset(end + 1)),
            ("foreign", vec!["this is not a snapshot".into()], 0),
        ] {
            let checked = check(&stream).unwrap_err();
            match install(&store, stream).await.unwrap_err() {
                // Damage is noticed with its frame or just after.
                InstallError::Damaged { offset, .. } => assert!(offset.abs_diff(expected) <= 400, "{what}: {offset}"),
                error => panic!("{what}: {error}"),
            }
            assert!(
                matches!(checked, InstallError::Damaged { offset, .. } if offset.abs_diff(expected) <= 400),
                "{what}"
            );
            assert_eq!(store.hash(0).unwrap(), before, "{what}");
        }
        drop(store);
        let store = open(&disk).await;
        assert_eq!(store.revision(), 1, "never flushed");
        check(&pieces).unwrap();
        install(&store, pieces).await.unwrap();
        assert_equal(&store, &sent);
    });
}
