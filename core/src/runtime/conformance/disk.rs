//! Checks of [`Disk`] and [`File`].

use std::io::ErrorKind;
use std::sync::Arc;

use futures_util::future::join_all;

use super::{Suite, World};
use crate::runtime::{Disk, File, Runtime};

/// Everything that a file holds.
fn contents(file: &impl File) -> Vec<u8> {
    let size = file.size().expect("the size can be read");
    let mut bytes = vec![0xee; usize::try_from(size).expect("test files are small")];
    file.read_at(0, &mut bytes).expect("a file can be read up to its size");
    bytes
}

/// The kind of error that an operation ended with.
fn kind<T>(result: std::io::Result<T>, what: &str) -> ErrorKind {
    result.err().unwrap_or_else(|| panic!("{what} has to fail")).kind()
}

impl<R: Runtime, W: World<R>> Suite<R, W> {
    /// Every check of disks.
    pub async fn test_disk(&mut self) {
        self.names_are_listed_sorted().await;
        self.directories_nest().await;
        self.missing_and_taken_names_are_told().await;
        self.rename_replaces().await;
        self.removed_files_stay_readable().await;
        self.paths_cannot_leave_the_folder().await;
        self.many_files_are_kept_apart().await;
        self.reads_past_the_end_fail().await;
        self.gaps_and_extensions_are_zeros().await;
        self.files_behave_like_bytes().await;
        self.handles_share_the_file().await;
        self.syncs_and_writes_run_together().await;
        self.synced_files_survive_a_restart().await;
        self.barriers_settle().await;
    }

    /// A new folder is empty, called by the empty path, and lists its names in the order of their bytes.
    pub async fn names_are_listed_sorted(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            assert_eq!(disk.list("").expect("the folder exists"), Vec::<String>::new());
            for name in ["b", "a.b", "Z", "a-b", "a", "10", "9"] {
                disk.create(name).expect("the name is free");
            }
            disk.create_dir("c").expect("the name is free");
            assert_eq!(disk.list("").expect("the folder exists"), ["10", "9", "Z", "a", "a-b", "a.b", "b", "c"]);
        })
        .await;
    }

    /// A directory is made with its parents, making it again changes nothing, and each lists only what is directly in
    /// it. Neither files nor directories take each other's place.
    pub async fn directories_nest(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            disk.create_dir("a/b/c").expect("parents are made");
            disk.create("a/b/file").expect("the directory exists").write_at(0, b"x").expect("a file can be written");
            disk.create_dir("a/b").expect("a directory that exists is left alone");
            assert_eq!(disk.list("").unwrap(), ["a"]);
            assert_eq!(disk.list("a").unwrap(), ["b"]);
            assert_eq!(disk.list("a/b").unwrap(), ["c", "file"]);
            assert_eq!(disk.list("a/b/c").unwrap(), Vec::<String>::new());
            assert_eq!(contents(&disk.open("a/b/file").unwrap()), b"x");
            assert!(disk.open("a/b").is_err(), "a directory is not opened as a file");
            assert!(disk.create_dir("a/b/file").is_err(), "a directory does not replace a file");
            assert_eq!(kind(disk.create("a/b"), "creating a file over a directory"), ErrorKind::AlreadyExists);
        })
        .await;
    }

    /// `NotFound` for a name that is not there, `AlreadyExists` for one that has to be free.
    pub async fn missing_and_taken_names_are_told(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            assert_eq!(kind(disk.open("none"), "opening nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.remove("none"), "removing nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.rename("none", "other"), "renaming nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.list("none"), "listing nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.sync_dir("none").await, "syncing nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.create("none/file"), "creating in nothing"), ErrorKind::NotFound);
            assert_eq!(kind(disk.open("none/file"), "opening in nothing"), ErrorKind::NotFound);
            let file = disk.create("taken").expect("the name is free");
            file.write_at(0, b"kept").expect("a file can be written");
            assert_eq!(kind(disk.create("taken"), "creating what exists"), ErrorKind::AlreadyExists);
            assert_eq!(contents(&disk.open("taken").unwrap()), b"kept");
        })
        .await;
    }

    /// A rename takes the name from whoever has it, also in another directory. Open handles stay with their file.
    pub async fn rename_replaces(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            disk.create_dir("dir").unwrap();
            let old = disk.create("dir/current").unwrap();
            old.write_at(0, b"old").unwrap();
            let new = disk.create("next").unwrap();
            new.write_at(0, b"newer").unwrap();
            disk.rename("next", "dir/current").expect("a rename replaces");
            assert_eq!(disk.list("").unwrap(), ["dir"]);
            assert_eq!(disk.list("dir").unwrap(), ["current"]);
            assert_eq!(contents(&disk.open("dir/current").unwrap()), b"newer");
            assert_eq!(contents(&old), b"old");
            new.write_at(5, b"!").unwrap();
            assert_eq!(contents(&disk.open("dir/current").unwrap()), b"newer!", "a handle follows its file");
            disk.sync_dir("dir").await.expect("a directory can be synced");
            disk.sync_dir("").await.expect("the folder can be synced");
        })
        .await;
    }

    /// A removed file is read and written through the handles on it; its name is free for another.
    pub async fn removed_files_stay_readable(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            let removed = disk.create("file").unwrap();
            removed.write_at(0, b"before").unwrap();
            disk.remove("file").expect("a file can be removed");
            assert_eq!(disk.list("").unwrap(), Vec::<String>::new());
            assert_eq!(contents(&removed), b"before");
            let another = disk.create("file").expect("the name is free");
            assert_eq!(contents(&another), b"");
            removed.write_at(6, b" and after").unwrap();
            removed.sync().await.expect("a removed file can be synced");
            assert_eq!(contents(&removed), b"before and after");
            assert_eq!(contents(&another), b"");
        })
        .await;
    }

    /// A path that leads out of the folder is refused by every operation.
    pub async fn paths_cannot_leave_the_folder(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            disk.create_dir("dir").unwrap();
            disk.create("file").unwrap();
            for path in ["..", "../file", "dir/../../file", "dir/../..", "/file", "/"] {
                assert!(disk.create(path).is_err(), "create {path:?}");
                assert!(disk.open(path).is_err(), "open {path:?}");
                assert!(disk.create_dir(path).is_err(), "create_dir {path:?}");
                assert!(disk.list(path).is_err(), "list {path:?}");
                assert!(disk.rename("file", path).is_err(), "rename to {path:?}");
                assert!(disk.rename(path, "file").is_err(), "rename from {path:?}");
                assert!(disk.remove(path).is_err(), "remove {path:?}");
                assert!(disk.sync_dir(path).await.is_err(), "sync_dir {path:?}");
            }
            assert!(disk.create("").is_err(), "the folder is not a file");
            assert_eq!(disk.list("").unwrap(), ["dir", "file"]);
        })
        .await;
    }

    /// Hundreds of files, some of them open at once, do not get mixed up.
    pub async fn many_files_are_kept_apart(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            let name = |number: usize| format!("{number:04}");
            for number in 0..500 {
                let file = disk.create(&name(number)).expect("the name is free");
                file.write_at(0, name(number).as_bytes()).unwrap();
            }
            assert_eq!(disk.list("").unwrap(), (0..500).map(name).collect::<Vec<_>>());
            let open: Vec<_> = (0..100).map(|number| disk.open(&name(number)).expect("the file exists")).collect();
            for number in (0..500).step_by(2) {
                disk.remove(&name(number)).expect("the file exists");
            }
            for (number, file) in open.iter().enumerate() {
                assert_eq!(contents(file), name(number).as_bytes());
            }
            assert_eq!(disk.list("").unwrap(), (1..500).step_by(2).map(name).collect::<Vec<_>>());
        })
        .await;
    }

    /// A read that the file is too short for is an `UnexpectedEof`, be it all or only the last byte that is missing.
    pub async fn reads_past_the_end_fail(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let file = host.disk.create("file").unwrap();
            assert_eq!(kind(file.read_at(0, &mut [0]), "reading an empty file"), ErrorKind::UnexpectedEof);
            file.write_at(0, &[1; 1000]).unwrap();
            assert_eq!(kind(file.read_at(999, &mut [0; 2]), "reading beyond the end"), ErrorKind::UnexpectedEof);
            assert_eq!(kind(file.read_at(1000, &mut [0]), "reading at the end"), ErrorKind::UnexpectedEof);
            assert_eq!(kind(file.read_at(1 << 40, &mut [0]), "reading far away"), ErrorKind::UnexpectedEof);
            file.read_at(999, &mut [0]).expect("the last byte is there");
            file.read_at(1000, &mut []).expect("nothing can be read at the end");
        })
        .await;
    }

    /// What a write skips and what `set_size` adds reads as zeros, also where something else had been before a cut.
    pub async fn gaps_and_extensions_are_zeros(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let file = host.disk.create("file").unwrap();
            file.write_at(10_000, b"end").unwrap();
            let mut expected = vec![0; 10_000];
            expected.extend(b"end");
            assert_eq!(contents(&file), expected);

            let file = host.disk.create("cut").unwrap();
            file.write_at(0, &[7; 9000]).unwrap();
            file.set_size(1001).unwrap();
            assert_eq!(contents(&file), [7; 1001]);
            file.set_size(9000).unwrap();
            assert_eq!(contents(&file), [vec![7; 1001], vec![0; 7999]].concat());
            file.set_size(0).unwrap();
            file.write_at(2, &[5]).unwrap();
            assert_eq!(contents(&file), [0, 0, 5], "a gap over what was cut");
        })
        .await;
    }

    /// Any mix of writes, cuts, extensions and syncs leaves what it would leave in memory.
    pub async fn files_behave_like_bytes(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let file = host.disk.create("file").unwrap();
            let mut model: Vec<u8> = Vec::new();
            let mut state = 1_u64;
            // Always the same sequence: Knuth's congruential generator.
            let mut draw = |below: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                usize::try_from((state >> 33) % below).expect("below is small")
            };
            for step in 0..400_u32 {
                match draw(10) {
                    0 => file.sync().await.expect("a file can be synced"),
                    1 => {
                        let size = draw(20_000);
                        file.set_size(size as u64).unwrap();
                        model.resize(size, 0);
                    }
                    _ => {
                        let (offset, length) = (draw(16_000), draw(3000));
                        let data = vec![step.to_le_bytes()[0] | 1; length];
                        file.write_at(offset as u64, &data).unwrap();
                        if length > 0 {
                            model.resize(model.len().max(offset + length), 0);
                            model[offset..offset + length].copy_from_slice(&data);
                        }
                    }
                }
                assert_eq!(file.size().unwrap(), model.len() as u64, "step {step}");
                assert!(contents(&file) == model, "step {step}: other bytes than in memory");
                let start = draw(model.len() as u64 + 1);
                let mut part = vec![0; draw((model.len() - start) as u64 + 1)];
                file.read_at(start as u64, &mut part).unwrap();
                assert!(part == model[start..start + part.len()], "step {step}: other bytes from {start}");
            }
        })
        .await;
    }

    /// What one handle or clone of the disk does, every other sees at once, synced or not.
    pub async fn handles_share_the_file(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let first = host.disk.create("file").unwrap();
            let second = host.disk.clone().open("file").expect("clones are the same folder");
            first.write_at(0, b"one").unwrap();
            assert_eq!(contents(&second), b"one");
            second.set_size(2).unwrap();
            assert_eq!(contents(&first), b"on");
            second.sync().await.expect("any handle syncs the file");
            drop(first);
            assert_eq!(contents(&second), b"on");
        })
        .await;
    }

    /// Writes and syncs of several tasks on one file do not disturb each other, and all of them end. A sync that is
    /// given up harms nothing.
    pub async fn syncs_and_writes_run_together(&mut self) {
        const TASKS: usize = 8;
        const BLOCK: usize = 5000;
        let (node, host) = self.member().await;
        self.on(node, async move {
            let file = Arc::new(host.disk.create("file").unwrap());
            let tasks = (0..TASKS).map(|task| {
                let file = file.clone();
                R::spawn(async move {
                    for round in 0..10_u8 {
                        file.write_at((task * BLOCK) as u64, &vec![round; BLOCK]).expect("a file can be written");
                        drop(futures_util::poll!(Box::pin(file.sync())));
                        file.sync().await.expect("a file can be synced");
                    }
                    file.write_at((task * BLOCK) as u64, &vec![100; BLOCK]).expect("a file can be written");
                })
            });
            for task in join_all(tasks.collect::<Vec<_>>()).await {
                task.expect("a task does not panic");
            }
            assert!(contents(&*file) == [100; TASKS * BLOCK], "the last writes are what is read");
        })
        .await;
    }

    /// What was synced, and its names with it, is there in the member's next life.
    pub async fn synced_files_survive_a_restart(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let disk = host.disk;
            disk.create_dir("wal").unwrap();
            let file = disk.create("wal/0001.tmp").unwrap();
            file.set_size(10_000).unwrap();
            file.write_at(4000, b"synced").unwrap();
            file.sync().await.unwrap();
            disk.rename("wal/0001.tmp", "wal/0001").unwrap();
            disk.sync_dir("wal").await.unwrap();
            disk.sync_dir("").await.unwrap();
        })
        .await;
        let host = self.world.restart(node).await;
        self.on(node, async move {
            assert_eq!(host.disk.list("").unwrap(), ["wal"]);
            assert_eq!(host.disk.list("wal").unwrap(), ["0001"]);
            let file = host.disk.open("wal/0001").expect("its name was synced");
            let expected = [vec![0; 4000], b"synced".to_vec(), vec![0; 5994]].concat();
            assert!(contents(&file) == expected, "the restarted member reads what was synced");
            file.write_at(0, b"again").expect("it can be written again");
            file.sync().await.expect("it can be synced again");
        })
        .await;
    }

    /// A barrier, called where nothing can be awaited, lets later writes go on at once; what came before it is there in
    /// the member's next life once it has settled. Settling without a barrier ends at once.
    pub async fn barriers_settle(&mut self) {
        let (node, host) = self.member().await;
        self.on(node, async move {
            let file = Arc::new(host.disk.create("backend").unwrap());
            host.disk.sync_dir("").await.unwrap();
            file.settle().await.expect("there is nothing to wait for");
            for round in 0..5_u8 {
                let writer = file.clone();
                let written = R::spawn_blocking(move || {
                    writer.write_at(u64::from(round) * 100, &[round; 100])?;
                    writer.barrier()?;
                    writer.write_at(1000 + u64::from(round), &[round])?;
                    writer.barrier()
                });
                written.await.expect("the work does not panic").expect("writes and barriers succeed");
                file.settle().await.expect("barriers settle");
            }
        })
        .await;
        let host = self.world.restart(node).await;
        self.on(node, async move {
            let read = contents(&host.disk.open("backend").expect("its name was synced"));
            assert_eq!(read.len(), 1005);
            assert!(
                (0..500).all(|place| usize::from(read[place]) == place / 100),
                "the data before the first barriers"
            );
            assert_eq!(read[1000..], [0, 1, 2, 3, 4]);
        })
        .await;
    }
}
