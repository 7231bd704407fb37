//! The log as a whole: crashes, damage, and what its callers are told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use openraft::async_runtime::AsyncRuntime;

use super::segment::{HEADER_BYTES, SECTOR, file_name};
use super::testing::{FakeDisk, Random, TestRuntime, Turns};
use super::*;

type TestWal = Wal<TestRuntime>;

const NODE: NodeId = NodeId(1);

fn options() -> WalOptions {
    WalOptions { segment_bytes_max: 6 * 1024, committed_delay: Duration::from_millis(1) }
}

async fn open(disk: &FakeDisk) -> Result<(TestWal, Recovered), WalError> {
    Wal::open(disk.clone(), "wal", NODE, options()).await
}

fn run<T>(future: impl Future<Output = T>) -> T {
    TestRuntime::<crate::runtime::NoMutants>::run(future)
}

fn id(term: u64, index: u64) -> LogId {
    LogId { term, index }
}

fn vote(term: u64) -> Vote {
    Vote { term, candidate: NodeId(2), committed: false }
}

fn entry(index: u64, payload: &[u8]) -> Record<&[u8]> {
    Record::Entry(id(1, index), payload)
}

/// Appends, and waits for the flush.
async fn append(wal: &TestWal, records: impl IntoIterator<Item = Record<&[u8]>>) -> Result<(), WalError> {
    let outcome = Arc::new(Mutex::new(None));
    let told = outcome.clone();
    wal.append(records, move |flushed| *told.lock().unwrap() = Some(flushed))?;
    loop {
        if let Some(flushed) = outcome.lock().unwrap().take() {
            return flushed;
        }
        Turns::new(1).await;
    }
}

/// What a log may hold, after some record.
#[derive(Clone, Debug, Default, PartialEq)]
struct Step {
    vote: Option<Vote>,
    purged: Option<LogId>,
    last: Option<LogId>,
    entries: BTreeMap<u64, (LogId, Vec<u8>)>,
}

impl Step {
    fn of(recovered: &Recovered) -> Self {
        let State { vote, purged, last, .. } = recovered.state;
        let entry = |found: &RecoveredEntry| (found.id.index, (found.id, found.payload.to_vec()));
        Step { vote, purged, last, entries: recovered.entries.iter().map(entry).collect() }
    }
}

/// What has been asked of a log, and what it has promised.
struct Model {
    /// The log after each record.
    steps: Vec<Step>,
    /// How many of the steps are promised.
    promised: Arc<AtomicUsize>,
    /// For each step, the committed index told before it.
    committed: Vec<Option<LogId>>,
    told: Option<LogId>,
    payloads: u64,
    term: u64,
}

impl Model {
    fn new() -> Self {
        let mut model = Model {
            steps: Vec::new(),
            promised: Arc::default(),
            committed: Vec::new(),
            told: None,
            payloads: 0,
            term: 1,
        };
        model.restart(&Recovered::default());
        model
    }

    /// What was found is a promise from now on.
    fn restart(&mut self, found: &Recovered) {
        self.steps = vec![Step::of(found)];
        self.promised = Arc::default();
        self.told = found.state.committed;
        self.committed = vec![self.told];
    }

    fn check(&self, found: &Recovered, context: &str) {
        let promised = self.promised.load(Ordering::SeqCst);
        let step = Step::of(found);
        let is_one = self.steps[promised..].contains(&step);
        assert!(is_one, "{context}: no log after step {promised} of {}: {step:?}", self.steps.len() - 1);
        let committed = found.state.committed;
        assert!(
            self.committed[promised] <= committed && committed <= self.told,
            "{context}: committed {committed:?}, promised {:?}, told {:?}",
            self.committed[promised],
            self.told,
        );
    }

    /// Does something at random.
    fn act(&mut self, wal: &TestWal, random: &mut Random) -> Result<(), WalError> {
        let mut step = self.steps.last().expect("there is a first").clone();
        let place = self.steps.len();
        let promised = self.promised.clone();
        let flushed = move |outcome: Result<(), WalError>| {
            if outcome.is_ok() {
                promised.fetch_max(place, Ordering::SeqCst);
            }
        };
        let last = step.last.map_or(0, |last| last.index);
        let first = step.purged.map_or(0, |purged| purged.index);
        match random.below(20) {
            0 => {
                let vote = Vote { term: self.term, candidate: NodeId(random.below(5)), committed: random.one_in(2) };
                step.vote = Some(vote);
                wal.append([Record::Vote(vote)], flushed)?;
            }
            1 => {
                self.term += 1;
                return Ok(());
            }
            2 if last > first => {
                let index = first + random.below(last - first);
                let after = if index == first { step.purged } else { Some(step.entries[&index].0) };
                if after.is_none_or(|after| Some(after) < self.told) {
                    return Ok(());
                }
                step.entries.retain(|&entry, _| entry <= index);
                step.last = after;
                wal.truncate_after(after)?;
            }
            3 => {
                let index = first + 1 + random.below(last - first + 3);
                let upto = step.entries.get(&index).map_or(id(self.term, index), |(id, _)| *id);
                step.entries.retain(|&entry, _| entry > index);
                step.purged = Some(upto);
                step.last = step.last.filter(|last| last.index >= index).or(Some(upto));
                wal.purge(upto)?;
            }
            4 | 5 => {
                wal.release(random.below(last + 2));
                return Ok(());
            }
            6..9 => {
                if let Some(last) = step.last.filter(|last| Some(*last) > self.told) {
                    self.told = Some(last);
                    wal.commit(last)?;
                }
                return Ok(());
            }
            _ => {
                let mut payloads = Vec::new();
                for _ in 0..1 + random.below(3) {
                    let length = if random.one_in(8) { random.below(3000) } else { random.below(300) };
                    self.payloads += 1;
                    payloads
                        .push([&self.payloads.to_le_bytes()[..], &vec![self.payloads as u8; length as usize]].concat());
                }
                let ids: Vec<_> = (last + 1..).map(|index| id(self.term, index)).zip(&payloads).collect();
                for (id, payload) in &ids {
                    step.entries.insert(id.index, (*id, payload.to_vec()));
                    step.last = Some(*id);
                }
                wal.append(ids.iter().map(|(id, payload)| Record::Entry(*id, payload.as_slice())), flushed)?;
            }
        }
        self.steps.push(step);
        self.committed.push(self.told);
        Ok(())
    }
}

/// Lives, power cuts and restarts of one log.
async fn lives(seed: u64) {
    let mut random = Random(seed);
    let mut disk = FakeDisk::new(random.draw());
    let mut model = Model::new();
    for life in 0..8 {
        let context = format!("seed {seed}, life {life}");
        if life < 7 {
            disk.cut_power_after(1 + random.below(80));
        }
        match open(&disk).await {
            Ok((wal, found)) => {
                model.check(&found, &context);
                model.restart(&found);
                for _ in 0..200 {
                    if model.act(&wal, &mut random).is_err() {
                        assert!(!disk.has_power(), "{context}: refused without a reason");
                        break;
                    }
                    Turns::new(random.below(6) as u32).await;
                }
                if random.one_in(3) && wal.close().await.is_ok() {
                    model.promised.store(model.steps.len() - 1, Ordering::SeqCst);
                }
            }
            Err(WalError::Io { .. }) if !disk.has_power() => {}
            Err(error) => panic!("{context}: {error}"),
        }
        disk = disk.crash();
    }
    let (_, found) = open(&disk).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    model.check(&found, &format!("seed {seed}, at last"));
}

#[test]
fn what_was_promised_survives_power_cuts_and_nothing_is_invented() {
    for seed in 0..500 {
        run(lives(seed));
    }
}

/// A log of several segments, with the state it should be found in.
async fn written(disk: &FakeDisk) -> (TestWal, Step) {
    let (wal, _) = open(disk).await.expect("a fresh disk");
    let mut step = Step { vote: Some(vote(1)), ..Step::default() };
    wal.vote(vote(1)).await.expect("the disk works");
    for index in 1..=40 {
        let payload = vec![index as u8; 400];
        append(&wal, [entry(index, &payload)]).await.expect("the disk works");
        step.entries.insert(index, (id(1, index), payload));
        step.last = Some(id(1, index));
    }
    (wal, step)
}

#[test]
fn a_flipped_bit_below_the_attested_offset_is_refused_naming_file_and_offset() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, step) = written(&disk).await;
        wal.close().await.expect("the disk works");
        let files = disk.files();
        assert!(files.len() > 3, "several segments");
        let mut random = Random(2);
        for _ in 0..2_000 {
            let (path, length) = &files[random.below(files.len() as u64) as usize];
            let bit = random.below(*length as u64 * 8) as usize;
            // Closing leaves one frame at the end that attests all before it, and holds nothing.
            let last = path == &files[files.len() - 1].0 && bit / 8 >= length - SECTOR;
            let damaged = disk.fork();
            damaged.flip(path, bit);
            match open(&damaged).await {
                Err(WalError::Damaged { file, offset, .. }) => {
                    assert!(!last && &file == path, "{file} for {path}");
                    let at = (bit / 8) as u64;
                    assert!(offset <= at && at < offset + 1024, "{offset} for {at}: not the frame it is in");
                }
                Err(error) => panic!("{error}"),
                Ok((_, found)) => {
                    assert!(last, "{path}, byte {}: served", bit / 8);
                    assert_eq!(step, Step::of(&found));
                }
            }
        }
    });
}

#[test]
fn of_a_log_that_was_not_closed_only_the_last_frame_can_rot_unnoticed() {
    run(async {
        let disk = FakeDisk::new(1);
        let (_wal, step) = written(&disk).await;
        let (path, length) = disk.files().pop().expect("there are segments");
        for sector in 1..length / SECTOR {
            let damaged = disk.crash();
            damaged.flip(&path, sector * SECTOR * 8 + 77);
            match open(&damaged).await {
                Err(WalError::Damaged { file, offset, .. }) => {
                    assert_eq!((&path, (sector * SECTOR) as u64), (&file, offset));
                }
                Err(error) => panic!("{error}"),
                Ok((_, found)) => {
                    assert_eq!(length / SECTOR - 1, sector, "only the last frame is unattested");
                    let cut = Cut { file: path.clone(), offset: (sector * SECTOR) as u64, bytes: SECTOR as u64 };
                    assert_eq!(Some(cut), found.cut);
                    let mut shorter = step.clone();
                    shorter.entries.pop_last();
                    shorter.last = Some(id(1, 39));
                    assert_eq!(shorter, Step::of(&found));
                }
            }
        }
    });
}

#[test]
fn a_missing_segment_is_refused() {
    run(async {
        let disk = FakeDisk::new(1);
        let (_wal, step) = written(&disk).await;
        let files = disk.files();
        for (place, (path, _)) in files.iter().enumerate() {
            let damaged = disk.crash();
            crate::runtime::Disk::remove(&damaged, path).expect("it is there");
            match open(&damaged).await {
                Err(WalError::Missing { file }) => assert_eq!(path, &file),
                Err(WalError::Damaged { file, .. }) => {
                    assert_eq!((0, &files[1].0), (place, &file), "the entries before it are gone");
                }
                Err(error) => panic!("{error}"),
                // Nothing but its own frames says that it was there: stated in FORMAT.md.
                Ok((_, found)) => {
                    assert_eq!(files.len() - 1, place);
                    assert!(Step::of(&found).last < step.last);
                }
            }
        }
    });
}

#[test]
fn the_log_of_another_member_is_refused() {
    run(async {
        let disk = FakeDisk::new(1);
        drop(written(&disk).await);
        let other = TestWal::open(disk, "wal", NodeId(7), options()).await;
        assert!(matches!(other, Err(WalError::Foreign { owner: NODE, node: NodeId(7), .. })), "{other:?}");
    });
}

#[test]
fn a_cut_tail_does_not_come_back() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        append(&wal, [entry(1, b"kept")]).await.expect("the disk works");
        disk.hold_syncs(true);
        // Three sectors: the first is damaged, and the rest is whole.
        wal.append([entry(2, &[7; 1200])], |_| ()).expect("the log is open");
        Turns::new(20).await;
        drop(wal);
        let path = format!("wal/{}", file_name(1));
        disk.flip(&path, (HEADER_BYTES as usize + SECTOR + 100) * 8);
        disk.hold_syncs(false);

        let (wal, found) = open(&disk).await.expect("it was never flushed");
        assert_eq!(Some(id(1, 1)), found.state.last);
        assert!(found.cut.is_some());
        append(&wal, [entry(2, b"new")]).await.expect("the disk works");
        for _ in 0..20 {
            let (_, found) = open(&disk.crash()).await.expect("nothing is damaged");
            assert_eq!(None, found.cut);
            assert_eq!((2, &b"new"[..]), (found.entries.len(), &found.entries[1].payload[..]));
        }
    });
}

#[test]
fn one_sync_serves_all_who_came_during_the_last() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        disk.hold_syncs(true);
        let flushed = Arc::new(AtomicUsize::new(0));
        for index in 1..=100 {
            let flushed = flushed.clone();
            let told = move |outcome: Result<(), WalError>| {
                outcome.expect("the disk works");
                flushed.fetch_add(1, Ordering::SeqCst);
            };
            wal.append([entry(index, b"x")], told).expect("the log is open");
            Turns::new(2).await;
        }
        assert_eq!(0, flushed.load(Ordering::SeqCst), "nothing is durable yet");
        disk.hold_syncs(false);
        Turns::new(50).await;
        assert_eq!(100, flushed.load(Ordering::SeqCst));
        let stats = wal.stats();
        assert_eq!((100, 2, 2), (stats.records, stats.batches, stats.syncs));
    });
}

#[test]
fn a_wait_with_nothing_new_syncs_nothing() {
    run(async {
        let (wal, _) = open(&FakeDisk::new(1)).await.expect("a fresh disk");
        append(&wal, [entry(1, b"x")]).await.expect("the disk works");
        let before = wal.stats();
        append(&wal, []).await.expect("the disk works");
        assert_eq!(before, wal.stats());
    });
}

#[test]
fn after_a_failed_sync_every_call_fails() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        append(&wal, [entry(1, b"x")]).await.expect("the disk works");
        disk.fail_next_sync();
        let failed = |outcome: Result<(), WalError>| matches!(outcome, Err(WalError::Io { operation: "sync", .. }));
        assert!(failed(append(&wal, [entry(2, b"y")]).await));
        assert!(failed(append(&wal, [entry(3, b"z")]).await), "though the disk would work again");
        assert!(failed(wal.vote(vote(1)).await));
        assert!(failed(wal.commit(id(1, 1))));
        assert!(failed(wal.purge(id(1, 1))));
        assert!(failed(wal.close().await));

        let (_, found) = open(&disk).await.expect("what was promised is there");
        assert_eq!(Some(id(1, 1)), found.state.last);
    });
}

#[test]
fn a_committed_index_survives_without_causing_a_sync() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        append(&wal, [entry(1, b"x"), entry(2, b"y"), entry(3, b"z")]).await.expect("the disk works");
        let before = wal.stats();
        for index in 1..=3 {
            wal.commit(id(1, index)).expect("the log is open");
        }
        Turns::new(500).await;
        let after = wal.stats();
        assert_eq!((before.records + 1, before.syncs), (after.records, after.syncs), "one record for three");
        drop(wal);
        let (_, found) = open(&disk).await.expect("the process was killed, the machine was not");
        assert_eq!(Some(id(1, 3)), found.state.committed);
    });
}

#[test]
fn segments_go_once_they_are_purged_and_released() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = written(&disk).await;
        let before = disk.files().len();
        wal.purge(id(1, 35)).expect("the log is open");
        Turns::new(50).await;
        assert_eq!(before, disk.files().len(), "the state machine may still need them");
        wal.release(12);
        Turns::new(50).await;
        let some = disk.files().len();
        assert!(1 < some && some < before);
        wal.release(40);
        Turns::new(50).await;
        assert!(disk.files().len() < some);
        assert_eq!(before - disk.files().len(), wal.stats().segments_deleted as usize);

        let (_, found) = open(&disk.crash()).await.expect("nothing is missing");
        assert_eq!((Some(vote(1)), Some(id(1, 35))), (found.state.vote, found.state.purged));
        let indexes: Vec<_> = found.entries.iter().map(|entry| entry.id.index).collect();
        assert_eq!((36..=40).collect::<Vec<_>>(), indexes);
    });
}

#[test]
fn a_dropped_log_writes_nothing() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        let before = disk.files();
        wal.append([entry(1, b"x")], |_| panic!("nobody is there")).expect("the log is open");
        drop(wal);
        Turns::new(50).await;
        assert_eq!(before, disk.files());
    });
}

#[test]
fn refused_records_leave_no_trace() {
    run(async {
        let disk = FakeDisk::new(1);
        let (wal, _) = open(&disk).await.expect("a fresh disk");
        append(&wal, [entry(1, b"x")]).await.expect("the disk works");
        let refused = append(&wal, [entry(2, b"y"), entry(4, b"hole")]).await;
        assert!(matches!(refused, Err(WalError::Disorder(Disorder::Entry { .. }))), "{refused:?}");
        append(&wal, [entry(2, b"z")]).await.expect("2 is still to come");
        wal.close().await.expect("the disk works");
        let (_, found) = open(&disk).await.expect("nothing is damaged");
        assert_eq!(&b"z"[..], &found.entries[1].payload[..]);
    });
}
