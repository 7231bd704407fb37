//! What a member relies on, and what it must not: over many seeds, each a disk of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::runtime::Simulation;

const SECTOR: usize = 512;

/// Runs a test on a disk for each of many seeds.
fn each_seed<F: Future<Output = T>, T: Send>(seeds: u64, test: impl Fn(SimDisk) -> F + Sync) -> Vec<T> {
    (0..seeds).map(|seed| Simulation::new(seed).expect(|| test(SimDisk::new(1, [100, 5_000])))).collect()
}

async fn pass(time: Duration) {
    // Not madsim's own, which takes a millisecond at least.
    Sleep::until_true_ns(true_now_ns() + time.as_nanos() as u64).await;
}

fn read(file: &FileHandle) -> Vec<u8> {
    let mut bytes = vec![0; file.size().expect("size") as usize];
    file.read_at(0, &mut bytes).expect("read");
    bytes
}

/// A file with a durable name.
async fn durable_file(disk: &DiskHandle, path: &str) -> FileHandle {
    let file = disk.create(path).expect("create");
    disk.sync_dir("").await.expect("sync_dir");
    file
}

fn draws(name: &str) -> Pcg64 {
    stream(seed(), name, 0)
}

#[test]
fn what_was_synced_survives_every_crash() {
    each_seed(150, |disk| async move {
        let mut rng = draws("test");
        let mut file = durable_file(&disk.handle(), "data").await;
        for _ in 0..6 {
            let mut synced = read(&file);
            // Bytes that were written, and the least size, since the last sync that returned.
            let mut touched = BTreeSet::new();
            let mut least = synced.len();
            for _ in 0..rng.between(1, 30) {
                match rng.between(0, 9) {
                    0 => {
                        let size = rng.between(0, 4000) as usize;
                        file.set_size(size as u64).expect("set_size");
                        least = least.min(size);
                    }
                    1 => {
                        file.sync().await.expect("sync");
                        synced = read(&file);
                        (touched, least) = (BTreeSet::new(), synced.len());
                    }
                    // Nobody awaits it, so it promises nothing.
                    2 => drop(file.sync()),
                    3 => file.barrier().expect("barrier"),
                    _ => {
                        let at = rng.between(0, 4000) as usize;
                        let bytes = vec![rng.between(1, 255) as u8; rng.between(1, 1200) as usize];
                        file.write_at(at as u64, &bytes).expect("write");
                        touched.extend(at..at + bytes.len());
                    }
                }
            }
            disk.crash();
            file = disk.handle().open("data").expect("the name is durable");
            let left = read(&file);
            assert!(left.len() >= least, "{} bytes left of {least} synced", left.len());
            for at in (0..least).filter(|at| !touched.contains(at)) {
                assert_eq!(left[at], synced[at], "byte {at}");
            }
            assert_eq!(disk.unsynced(), 0);
        }
    });
}

#[test]
fn a_crash_keeps_loses_and_tears_what_was_not_synced() {
    let stats = each_seed(100, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        file.write_at(0, &[1; 16 * SECTOR]).expect("write");
        file.sync().await.expect("sync");
        file.write_at(0, &[2; 16 * SECTOR]).expect("write");
        assert_eq!(disk.unsynced(), 16);
        disk.crash();
        let left = disk.durable("data").expect("the name is durable");
        // One write lies over another: nothing but these two may come out of it.
        assert!(left.iter().all(|byte| [1, 2].contains(byte)), "{left:?}");
        let stats = disk.stats();
        assert_eq!(stats.sectors_kept + stats.sectors_lost + stats.sectors_torn, 16);
        [stats.sectors_kept, stats.sectors_lost, stats.sectors_torn]
    });
    for kind in 0..3 {
        assert!(stats.iter().any(|counts| counts[kind] > 0), "{kind}");
    }
    assert!(stats.iter().any(|counts| counts[0] == 16) && stats.iter().any(|counts| counts[1] == 16));
}

#[test]
fn no_epoch_outlives_an_earlier_one() {
    let cuts = each_seed(200, |disk| async move {
        let mut rng = draws("test");
        let file = durable_file(&disk.handle(), "data").await;
        file.set_size(20 * SECTOR as u64).expect("set_size");
        file.sync().await.expect("sync");
        for epoch in 0..10_u8 {
            for sector in [epoch as usize * 2, epoch as usize * 2 + 1] {
                file.write_at((sector * SECTOR) as u64, &[epoch + 1; SECTOR]).expect("write");
            }
            file.barrier().expect("barrier");
            pass(Duration::from_micros(rng.between(0, 400))).await;
        }
        disk.crash();
        let left = disk.durable("data").expect("the name is durable");
        let sectors: Vec<_> = left.chunks(SECTOR).collect();
        let epochs: Vec<(bool, bool)> = (0..10_u8)
            .map(|epoch| {
                let own = &sectors[epoch as usize * 2..][..2];
                let whole = own.iter().all(|sector| sector.iter().all(|&byte| byte == epoch + 1));
                let none = own.iter().all(|sector| sector.iter().all(|&byte| byte == 0));
                (whole, none)
            })
            .collect();
        let whole = epochs.iter().take_while(|(whole, _)| *whole).count();
        assert!(epochs.iter().skip(whole + 1).all(|(_, none)| *none), "{epochs:?}");
        (whole, epochs.get(whole).is_some_and(|(_, none)| !none))
    });
    assert!(cuts.iter().map(|(whole, _)| whole).collect::<BTreeSet<_>>().len() > 5, "{cuts:?}");
    assert!(cuts.iter().any(|(_, partly)| *partly), "no epoch was ever cut in the middle");
}

#[test]
fn settled_epochs_survive() {
    each_seed(50, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        file.write_at(0, &[1; 3000]).expect("write");
        file.barrier().expect("barrier");
        file.write_at(1000, &[2; 10]).expect("write");
        file.settle().await.expect("settle");
        disk.crash();
        let left = disk.durable("data").expect("the name is durable");
        assert!(left.len() == 3000 && left[..1000].iter().chain(&left[1010..]).all(|&byte| byte == 1));
    });
}

#[test]
fn a_sync_covers_what_was_written_before_it_and_not_what_comes_meanwhile() {
    let later = each_seed(60, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        file.write_at(0, &[1; 100]).expect("write");
        let sync = file.sync();
        file.write_at(600, &[2; 100]).expect("write");
        let second = file.sync();
        file.write_at(1200, &[3; 100]).expect("write");
        sync.await.expect("sync");
        assert_eq!(disk.durable("data").expect("durable")[..100], [1; 100]);
        second.await.expect("sync");
        disk.crash();
        let left = disk.durable("data").expect("the name is durable");
        assert_eq!((&left[..100], &left[600..700]), (&[1; 100][..], &[2; 100][..]));
        left.len() > 700
    });
    assert!(later.contains(&true) && later.contains(&false));
}

#[test]
fn the_handles_of_a_dead_process_do_nothing() {
    each_seed(1, |disk| async move {
        let old = disk.handle();
        let file = durable_file(&old, "data").await;
        file.write_at(0, b"old").expect("write");
        file.sync().await.expect("sync");
        file.write_at(0, b"new").expect("write");
        let pending = file.sync();
        disk.crash();
        let left = disk.durable("data");
        for error in [
            file.write_at(0, b"bad").expect_err("fenced"),
            file.set_size(0).expect_err("fenced"),
            file.barrier().expect_err("fenced"),
            file.read_at(0, &mut [0]).expect_err("fenced"),
            file.sync().await.expect_err("fenced"),
            file.settle().await.expect_err("fenced"),
            pending.await.expect_err("fenced"),
            old.remove("data").expect_err("fenced"),
            old.create("more").expect_err("fenced"),
            old.sync_dir("").await.expect_err("fenced"),
        ] {
            assert!(error.to_string().contains("has died"), "{error}");
        }
        pass(Duration::from_secs(1)).await;
        assert_eq!(disk.durable("data"), left);
        assert_eq!(disk.handle().list("").expect("list"), ["data"]);
    });
}

#[test]
fn a_process_that_dies_alone_loses_nothing() {
    each_seed(1, |disk| async move {
        disk.handle().create("data").expect("create").write_at(0, b"kept").expect("write");
        disk.detach();
        let file = disk.handle().open("data").expect("open");
        assert_eq!(read(&file), b"kept");
        assert_eq!(disk.stats().crashes, 0);
    });
}

#[test]
fn names_are_lost_in_order_until_their_directory_is_synced() {
    let kept = each_seed(60, |disk| async move {
        let folder = disk.handle();
        folder.create_dir("a/b").expect("create_dir");
        folder.sync_dir("").await.expect("sync_dir");
        folder.sync_dir("a").await.expect("sync_dir");
        for name in ["1", "2", "3", "4"] {
            folder.create(&format!("a/b/{name}")).expect("create").sync().await.expect("sync");
        }
        disk.crash();
        let kept = disk.handle().list("a/b").expect("the directory is durable");
        assert_eq!(kept, ["1", "2", "3", "4"][..kept.len()]);
        kept.len()
    });
    assert_eq!(kept.into_iter().collect::<BTreeSet<_>>(), (0..=4).collect());
}

#[test]
fn a_rename_leaves_the_old_file_or_the_new_one() {
    for to in ["name", "other/name"] {
        let kinds = each_seed(60, |disk| async move {
            let folder = disk.handle();
            folder.create_dir("other").expect("create_dir");
            for (path, content) in [(to, b"old"), ("new", b"new")] {
                let file = folder.create(path).expect("create");
                file.write_at(0, content).expect("write");
                file.sync().await.expect("sync");
            }
            folder.sync_dir("").await.expect("sync_dir");
            folder.sync_dir("other").await.expect("sync_dir");
            folder.rename("new", to).expect("rename");
            disk.crash();
            let folder = disk.handle();
            let named = read(&folder.open(to).expect("the name always stands for one of them"));
            let moved = folder.open("new").is_err();
            // The new file is never lost on the way.
            assert!(named == b"new" || !moved, "{named:?}");
            (named, moved)
        });
        assert!(kinds.contains(&(b"old".to_vec(), false)), "{to}");
        assert!(kinds.contains(&(b"new".to_vec(), true)), "{to}");
    }
}

#[test]
fn a_stalled_sync_returns_only_after_the_stall() {
    each_seed(1, |disk| async move {
        let folder = disk.handle();
        let file = durable_file(&folder, "data").await;
        file.write_at(0, b"one").expect("write");
        let before = file.sync();
        disk.set_stalled(true);
        let release = disk.clone();
        madsim::task::spawn(async move {
            pass(Duration::from_secs(3)).await;
            // Removed meanwhile, and yet its sync must not hang.
            release.handle().remove("data").expect("remove");
            release.set_stalled(false);
        });
        file.write_at(3, b"two").expect("a stall holds up no write");
        let begin = true_now_ns();
        let during = file.sync();
        before.await.expect("sync");
        during.await.expect("sync");
        folder.sync_dir("").await.expect("sync_dir");
        assert!(true_now_ns() - begin >= 3_000_000_000);
    });
}

#[test]
fn after_a_failed_sync_the_pages_are_gone_and_a_retry_proves_nothing() {
    each_seed(1, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        file.write_at(0, b"old").expect("write");
        file.sync().await.expect("sync");
        file.write_at(0, b"new and longer").expect("write");
        disk.fail_syncs(1);
        assert!(file.sync().await.expect_err("it fails").to_string().contains("data"));
        assert_eq!(read(&file), b"old\0\0\0\0\0\0\0\0\0\0\0");
        file.sync().await.expect("the retry succeeds");
        disk.crash();
        assert_eq!(disk.durable("data").expect("durable")[..3], *b"old");
        assert_eq!(disk.stats().failed_syncs, 1);
    });
}

#[test]
fn faults_of_the_medium_reach_the_member() {
    each_seed(1, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        file.write_at(0, &[0; 100]).expect("write");
        file.sync().await.expect("sync");
        disk.corrupt("data", 7, 0x80).expect("corrupt");
        assert_eq!((read(&file)[7], disk.durable("data").expect("durable")[7]), (0x80, 0x80));
        assert!(disk.corrupt("data", 100, 1).is_err());

        disk.set_capacity(Some(150));
        file.write_at(0, &[1; 150]).expect("it fits");
        let error = file.write_at(150, &[1]).expect_err("it does not fit");
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);

        disk.set_broken(true);
        assert!(
            file.write_at(0, &[1]).is_err() && file.read_at(0, &mut [0]).is_err() && disk.handle().list("").is_err()
        );
        disk.set_broken(false);
        file.write_at(0, &[1]).expect("mended");
    });
}

#[test]
fn reading_past_the_end_and_missing_names_are_told_apart() {
    each_seed(1, |disk| async move {
        let folder = disk.handle();
        let file = folder.create("data").expect("create");
        file.write_at(2, b"x").expect("write");
        assert_eq!(read(&file), [0, 0, b'x']);
        assert_eq!(file.read_at(1, &mut [0; 3]).expect_err("short").kind(), io::ErrorKind::UnexpectedEof);
        assert_eq!(folder.create("data").expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(folder.open("gone").expect_err("missing").kind(), io::ErrorKind::NotFound);
        assert_eq!(folder.create("gone/data").expect_err("missing").kind(), io::ErrorKind::NotFound);
        assert_eq!(folder.list("gone").expect_err("missing").kind(), io::ErrorKind::NotFound);
        file.set_size(1).expect("cut");
        file.set_size(3).expect("grow");
        assert_eq!(read(&file), [0; 3]);
        folder.remove("data").expect("remove");
        assert_eq!(read(&file), [0; 3], "an open file outlives its name");
    });
}
