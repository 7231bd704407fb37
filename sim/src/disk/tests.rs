//! What a member relies on, and what it must not: over many seeds, each a disk of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use seedbed_core::runtime::{Disk, File};

use super::*;
use crate::plan::Part;
use crate::runtime::{Simulation, Sleep};

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
        assert_eq!(disk.stats().stalled_syncs, 2);
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

/// A file of the log with so many frames of a sector, each synced by itself.
async fn frames(disk: &SimDisk, count: u8) -> FileHandle {
    let folder = disk.handle();
    folder.create_dir("wal").expect("create_dir");
    let file = folder.create("wal/1").expect("create");
    for nth in 0..count {
        file.write_at(u64::from(nth) * SECTOR as u64, &[nth + 1; SECTOR]).expect("write");
        file.sync().await.expect("sync");
    }
    folder.sync_dir("").await.expect("sync_dir");
    folder.sync_dir("wal").await.expect("sync_dir");
    file
}

#[test]
fn operations_fail_as_often_as_they_are_to_and_change_nothing() {
    each_seed(3, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        disk.set_faults([DiskFault::Errors { reads: 0, writes: 300 }]);
        let mut failed = 0;
        for at in 0..500 {
            match file.write_at(at, &[1]) {
                Ok(()) => {}
                Err(error) => {
                    assert!(disk.caused(&error.to_string()), "{error}");
                    failed += 1;
                }
            }
            file.size().expect("looked up in memory");
        }
        assert!((100..200).contains(&failed), "{failed}");
        assert_eq!(read(&file).iter().filter(|byte| **byte == 1).count(), 500 - failed as usize);
        assert_eq!((disk.stats().io_errors, disk.stats().errors()), (failed, failed));
        disk.set_faults([DiskFault::Errors { reads: 1000, writes: 0 }]);
        assert!(file.read_at(0, &mut [0]).is_err() && disk.handle().open("data").is_err());
        file.write_at(0, &[1]).expect("it only reads badly");
        file.sync().await.expect("and syncs");
        disk.set_faults([]);
        file.read_at(0, &mut [0]).expect("mended");
    });
}

#[test]
fn what_one_kind_of_fault_draws_does_not_change_what_another_draws() {
    let errors = DiskFault::Errors { reads: 0, writes: 300 };
    let failures = |faults: Vec<DiskFault>| {
        Simulation::new(5).expect(|| async move {
            let disk = SimDisk::new(1, [100, 200]);
            let file = durable_file(&disk.handle(), "data").await;
            disk.set_faults(faults);
            let mut failed = Vec::new();
            for at in 0..100 {
                failed.push(file.write_at(at, &[1]).is_err());
                let _ = file.sync().await;
            }
            failed
        })
    };
    let alone = failures(vec![errors]);
    assert!(alone.contains(&true) && alone.contains(&false));
    assert_eq!(failures(vec![errors, DiskFault::Slow([100, 900])]), alone);
    assert_eq!(failures(vec![DiskFault::FailingSyncs(500), errors]), alone);
}

#[test]
fn syncs_fail_as_often_as_they_are_to() {
    each_seed(3, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        disk.set_faults([DiskFault::FailingSyncs(400)]);
        let mut failed = 0;
        for round in 1..=100 {
            file.write_at(0, &[round]).expect("write");
            let before = disk.durable("data").expect("durable").first().copied().unwrap_or(0);
            let outcome = file.sync().await;
            // What a failed one was to save is not to be seen any more either.
            assert_eq!(read(&file)[0], if outcome.is_ok() { round } else { before });
            failed += u64::from(outcome.is_err());
        }
        assert!((20..60).contains(&failed) && disk.stats().failed_syncs == failed, "{failed}");
    });
}

#[test]
fn a_full_disk_takes_what_needs_no_room() {
    each_seed(1, |disk| async move {
        let folder = disk.handle();
        let file = durable_file(&folder, "data").await;
        file.write_at(0, &[0; 100]).expect("write");
        disk.set_faults([DiskFault::Full]);
        for error in [
            file.write_at(50, &[1; 51]).expect_err("it grows"),
            file.set_size(101).expect_err("it grows"),
            folder.create("more").map(drop).expect_err("it is new"),
            folder.create_dir("folder").expect_err("it is new"),
        ] {
            assert_eq!(error.kind(), io::ErrorKind::StorageFull);
            assert!(disk.caused(&error.to_string()), "{error}");
        }
        file.write_at(50, &[1; 50]).expect("it has its room");
        file.set_size(10).expect("it shrinks");
        file.sync().await.expect("sync");
        assert_eq!(disk.stats().no_space, 4);
        disk.set_faults([]);
        file.write_at(10, &[1]).expect("there is room again");
    });
}

#[test]
fn on_a_slow_disk_a_sync_pays_for_all_before_it() {
    each_seed(1, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        disk.set_faults([DiskFault::Slow([10_000, 10_000])]);
        for at in 0..9 {
            file.write_at(at, &[1]).expect("a write does not wait");
        }
        let begin = true_now_ns();
        file.sync().await.expect("sync");
        let took = true_now_ns() - begin;
        assert!((100_000_000..106_000_000).contains(&took), "{took}");
        let begin = true_now_ns();
        file.sync().await.expect("sync");
        assert!(true_now_ns() - begin < 20_000_000, "it has been paid for");
        assert_eq!(disk.stats().slowed, 11);
    });
}

#[test]
fn bits_rot_anywhere_but_in_the_last_write_of_a_log_and_are_met_when_read() {
    let sectors = each_seed(60, |disk| async move {
        let file = frames(&disk, 5).await;
        assert!(disk.rot(Part::Log, 1) && !disk.rot(Part::Store, 1));
        let content = read(&file);
        let rotten: Vec<_> =
            (0..content.len()).filter(|at| content[*at] != (at / SECTOR) as u8 + 1).map(|at| at / SECTOR).collect();
        assert_eq!((rotten.len(), disk.stats().damage_met), (1, 1));
        disk.crash();
        let file = disk.handle().open("wal/1").expect("the name is durable");
        assert_eq!((read(&file), disk.stats().damage_met), (content, 2));
        file.write_at((rotten[0] * SECTOR) as u64, &[9; SECTOR]).expect("write");
        file.sync().await.expect("sync");
        read(&file);
        assert_eq!(disk.stats().damage_met, 2, "it was written anew");
        rotten[0]
    });
    assert_eq!(sectors.into_iter().collect::<BTreeSet<_>>(), (0..4).collect());
}

#[test]
fn a_write_that_goes_astray_is_found_in_another_place_when_the_next_has_landed() {
    let moved = each_seed(60, |disk| async move {
        let file = frames(&disk, 5).await;
        disk.misdirect(Part::Log);
        let frame = |nth: u8| (u64::from(nth) * SECTOR as u64, [nth + 1; SECTOR]);
        for nth in 5..7 {
            let (at, bytes) = frame(nth);
            file.write_at(at, &bytes).expect("write");
            file.sync().await.expect("sync");
        }
        let content = read(&file);
        assert!((0..7).all(|nth| content[frame(nth).0 as usize..][..SECTOR] == frame(nth).1), "the cache has it all");
        assert_eq!(disk.stats().damaged, 1);
        disk.crash();
        let file = disk.handle().open("wal/1").expect("the name is durable");
        let left = read(&file);
        let sector = |nth: usize| left.get(nth * SECTOR..).map_or(0, |sector| sector[0]);
        assert_eq!((sector(5), sector(6)), (0, 7), "its place is as before, and the next is where it belongs");
        assert!(disk.stats().damage_met > 0);
        (0..5).find(|nth| sector(*nth) == 6)
    });
    assert!(moved.iter().flatten().collect::<BTreeSet<_>>().len() > 2, "{moved:?}");
}

#[test]
fn the_last_write_before_a_crash_is_where_it_belongs() {
    each_seed(20, |disk| async move {
        let file = frames(&disk, 5).await;
        disk.misdirect(Part::Log);
        file.write_at(5 * SECTOR as u64, &[6; SECTOR]).expect("write");
        file.sync().await.expect("sync");
        disk.crash();
        let content = disk.durable("wal/1").expect("the name is durable");
        assert!((0..6).all(|nth| content[nth * SECTOR] == nth as u8 + 1), "nothing could tell it from a torn one");
        assert_eq!(disk.stats().damaged, 0);
    });
}

#[test]
fn what_crashes_did_is_counted_by_crash() {
    let sums = each_seed(40, |disk| async move {
        let file = durable_file(&disk.handle(), "data").await;
        disk.crash();
        assert_eq!(disk.stats().damage_by_crash, CrashDamage { crashes: 1, ..CrashDamage::default() });
        drop(file);
        let folder = disk.handle();
        let file = folder.open("data").expect("the name is durable");
        file.write_at(0, &[1; 8 * SECTOR]).expect("write");
        folder.create("new").expect("create");
        disk.crash();
        let CrashDamage { crashes, unsynced, lost, torn, names_lost } = disk.stats().damage_by_crash;
        assert_eq!((crashes, unsynced), (2, 1));
        assert_eq!(names_lost == 1, disk.handle().open("new").is_err());
        [lost, torn, names_lost]
    });
    for kind in 0..3 {
        let many = sums.iter().filter(|counts| counts[kind] == 1).count();
        assert!((1..40).contains(&many), "{kind}: {many}");
    }
}
