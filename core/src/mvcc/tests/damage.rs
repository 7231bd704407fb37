//! A file that is not what was written: noticed when it is opened, or when what is damaged is read.

use super::*;
use crate::runtime::{Disk, File};

const PATH: &str = "member/data/store.redb";

/// What the store's file holds after each of three flushes, which are three durable commits.
async fn flushed() -> (MemoryDisk, [KvHash; 3]) {
    let disk = MemoryDisk::default();
    let store = open(&disk).await;
    let mut hashes = Vec::new();
    for round in 0..3 {
        for n in 0..40 {
            apply(&store, |batch| batch.put(&put(&format!("key-{n}"), &format!("{round}: {}", "v".repeat(n)))))
                .await
                .unwrap();
        }
        flush(&store).await;
        hashes.push(store.hash(0).unwrap());
    }
    drop(store);
    (disk, hashes.try_into().unwrap())
}

fn flip(disk: &MemoryDisk, offset: u64, mask: u8) {
    let file = disk.open(PATH).unwrap();
    let mut byte = [0];
    file.read_at(offset, &mut byte).unwrap();
    file.write_at(offset, &[byte[0] ^ mask]).unwrap();
    file.barrier().unwrap();
}

/// What becomes of a store with a bit flipped while it was closed: refused, as it was, or as it was at an earlier flush.
async fn reopened(disk: &MemoryDisk, offset: u64, mask: u8, hashes: &[KvHash; 3]) -> Option<usize> {
    let damaged = disk.crashed(|| false);
    flip(&damaged, offset, mask);
    match Store::open(&damaged, "member/data", Options { cache_bytes: 1 << 20, ..Options::default() }).await {
        Ok(store) => {
            let hash = store.hash(0).unwrap();
            let found = hashes.iter().position(|known| *known == hash);
            assert!(found.is_some(), "byte {offset}, bits {mask:#x}: {hash:?}");
            apply(&store, |batch| batch.put(&put("more", "1"))).await.unwrap();
            flush(&store).await;
            found
        }
        Err(error) => {
            assert!(error.to_string().starts_with(PATH), "{error}");
            None
        }
    }
}

#[test]
fn any_bit_of_the_databases_header() {
    run(async {
        let (disk, hashes) = flushed().await;
        let (mut refused, mut earlier) = (0, 0);
        for offset in 0..400 {
            for bit in 0..8 {
                match reopened(&disk, offset, 1 << bit, &hashes).await {
                    None => refused += 1,
                    Some(2) => {}
                    Some(_) => earlier += 1,
                }
            }
        }
        // An earlier one is what the log makes up for, or refuses.
        assert!(refused > 500 && earlier < 20, "{refused} refused, {earlier} earlier");
    });
}

#[test]
fn a_bit_of_any_sector() {
    run(async {
        let (disk, hashes) = flushed().await;
        let size = disk.open(PATH).unwrap().size().unwrap();
        let mut refused = 0;
        for sector in 1..size / 512 {
            let mut bytes = [0; 512];
            disk.open(PATH).unwrap().read_at(sector * 512, &mut bytes).unwrap();
            if bytes.iter().any(|byte| *byte != 0) {
                let offset = sector * 512 + (sector * 37) % 512;
                match reopened(&disk, offset, 1 << (sector % 8), &hashes).await {
                    None => refused += 1,
                    found => assert_eq!(found, Some(2), "byte {offset}"),
                }
            }
        }
        assert!(refused > 10, "{refused} refused");
    });
}

#[test]
fn damage_that_comes_while_it_is_open_is_not_served() {
    run(async {
        let (disk, _) = flushed().await;
        let store = open(&disk).await;
        let needle = "a value that is nowhere else";
        apply(&store, |batch| batch.put(&put("key", needle))).await.unwrap();
        // So many that it is not in the root, which stays in memory.
        for n in 0..100 {
            apply(&store, |batch| batch.put(&put(&format!("key-{n}"), &"v".repeat(200)))).await.unwrap();
        }
        flush(&store).await;
        drop(store);
        // Hardly any cache, so that reads go to the file.
        let options = Options { cache_bytes: 0, ..Options::default() };
        let store = Store::open(&disk, "member/data", options).await.unwrap();
        let read = || store.range(&range("key", ""));
        assert_eq!(read().unwrap().kvs[0].value, needle.as_bytes());
        disk.flip(PATH, needle.as_bytes());
        let error = read().unwrap_err().to_string();
        assert!(error.starts_with(PATH) && error.contains("the page at byte"), "{error}");
        // It stays so.
        let error = store.begin().await.map(drop).unwrap_err().to_string();
        assert!(error.starts_with(PATH) && error.contains("the page at byte"), "{error}");
    });
}
