//! Names: which of them a crash leaves.
//!
//! A directory keeps its changes in order until a sync of it commits them. A crash keeps the first few of the uncommitted
//! ones, by the seed, and undoes the rest. A file that moves to another directory is never lost between the two: its old
//! name goes only when its new one is there, as in the one journal of a real file system.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex};

use super::file::FileData;

/// A directory's place in [`Names`].
pub(super) type DirId = usize;

/// The root.
pub(super) const ROOT: DirId = 0;

/// A file, whatever its names.
#[derive(Debug)]
pub(super) struct FileNode {
    pub(super) ino: u64,
    /// The name it was made under, for errors.
    pub(super) path: String,
    pub(super) data: Mutex<FileData>,
}

/// What a name stands for.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    File(Arc<FileNode>),
    Dir(DirId),
}

#[derive(Debug)]
enum Change {
    Link(String, Entry),
    Unlink(String),
    Rename(String, String),
    /// The file has moved to another directory, by the change of this number there.
    MovedAway(String, DirId, u64),
}

#[derive(Debug)]
struct Flight {
    ticket: u64,
    upto: u64,
    due_ns: u64,
}

#[derive(Debug, Default)]
struct Directory {
    live: BTreeMap<String, Entry>,
    durable: BTreeMap<String, Entry>,
    /// Not committed yet, with their numbers, which grow across all directories.
    changes: VecDeque<(u64, Change)>,
    flights: VecDeque<Flight>,
    begun: u64,
    landed: u64,
}

/// All directories of a disk.
#[derive(Debug)]
pub(super) struct Names {
    dirs: Vec<Directory>,
    changes: u64,
}

impl Names {
    pub(super) fn new() -> Self {
        Names { dirs: vec![Directory::default()], changes: 0 }
    }

    /// What a path stands for. `None` if any part of it does not exist.
    pub(super) fn find(&self, path: &str) -> Option<Entry> {
        parts(path).try_fold(Entry::Dir(ROOT), |at, name| match at {
            Entry::Dir(dir) => self.dirs[dir].live.get(name).cloned(),
            Entry::File(_) => None,
        })
    }

    pub(super) fn get(&self, dir: DirId, name: &str) -> Option<&Entry> {
        self.dirs[dir].live.get(name)
    }

    pub(super) fn list(&self, dir: DirId) -> Vec<String> {
        self.dirs[dir].live.keys().cloned().collect()
    }

    pub(super) fn make_dir(&mut self, parent: DirId, name: &str) -> DirId {
        self.dirs.push(Directory::default());
        let dir = self.dirs.len() - 1;
        self.link(parent, name, Entry::Dir(dir));
        dir
    }

    pub(super) fn link(&mut self, dir: DirId, name: &str, entry: Entry) {
        self.dirs[dir].live.insert(name.to_owned(), entry.clone());
        self.change(dir, Change::Link(name.to_owned(), entry));
    }

    pub(super) fn unlink(&mut self, dir: DirId, name: &str) {
        self.dirs[dir].live.remove(name);
        self.change(dir, Change::Unlink(name.to_owned()));
    }

    pub(super) fn rename(&mut self, (from, from_name): (DirId, &str), (to, to_name): (DirId, &str)) {
        let Some(entry) = self.dirs[from].live.remove(from_name) else { return };
        if from == to {
            self.dirs[to].live.insert(to_name.to_owned(), entry);
            self.change(to, Change::Rename(from_name.to_owned(), to_name.to_owned()));
        } else {
            self.link(to, to_name, entry);
            let arrival = self.changes;
            self.change(from, Change::MovedAway(from_name.to_owned(), to, arrival));
        }
    }

    fn change(&mut self, dir: DirId, change: Change) {
        self.changes += 1;
        self.dirs[dir].changes.push_back((self.changes, change));
    }

    /// Begins to write back the names of a directory. Returns the flight's ticket.
    pub(super) fn capture(&mut self, dir: DirId, due_ns: u64) -> u64 {
        let upto = self.changes;
        let dir = &mut self.dirs[dir];
        let due_ns = dir.flights.back().map_or(due_ns, |last| due_ns.max(last.due_ns));
        dir.begun += 1;
        dir.flights.push_back(Flight { ticket: dir.begun, upto, due_ns });
        dir.begun
    }

    pub(super) fn landed(&self, dir: DirId, ticket: u64) -> bool {
        ticket <= self.dirs[dir].landed
    }

    pub(super) fn due_ns(&self, dir: DirId, ticket: u64) -> u64 {
        self.dirs[dir].flights.iter().find(|flight| flight.ticket == ticket).map_or(0, |flight| flight.due_ns)
    }

    pub(super) fn advance(&mut self, now_ns: u64) {
        for dir in 0..self.dirs.len() {
            while self.dirs[dir].flights.front().is_some_and(|flight| flight.due_ns <= now_ns) {
                let flight = self.dirs[dir].flights.pop_front().expect("the front was just looked at");
                self.commit(dir, flight.upto);
                self.dirs[dir].landed = flight.ticket;
            }
        }
    }

    pub(super) fn reschedule(&mut self, mut due: impl FnMut() -> u64) {
        for dir in &mut self.dirs {
            let mut last = 0;
            for flight in &mut dir.flights {
                last = due().max(last);
                flight.due_ns = last;
            }
        }
    }

    /// Makes the changes of a directory durable, up to the one of this number.
    fn commit(&mut self, dir: DirId, upto: u64) {
        while self.dirs[dir].changes.front().is_some_and(|(number, _)| *number <= upto) {
            let Some((_, change)) = self.dirs[dir].changes.pop_front() else { return };
            let durable = &mut self.dirs[dir].durable;
            match change {
                Change::Link(name, entry) => {
                    durable.insert(name, entry);
                }
                Change::Unlink(name) => {
                    durable.remove(&name);
                }
                Change::Rename(from, to) => {
                    if let Some(entry) = durable.remove(&from) {
                        durable.insert(to, entry);
                    }
                }
                Change::MovedAway(name, to, arrival) => {
                    durable.remove(&name);
                    self.commit(to, arrival);
                }
            }
        }
    }

    /// Changes of names that are not durable.
    pub(super) fn unsynced(&self) -> u64 {
        self.dirs.iter().map(|dir| dir.changes.len() as u64).sum()
    }

    /// Loses power: `keep` says, for a number of uncommitted changes, how many of the first are kept. Returns how many
    /// were undone.
    pub(super) fn crash(&mut self, mut keep: impl FnMut(u64) -> u64) -> u64 {
        for dir in 0..self.dirs.len() {
            let uncommitted = self.dirs[dir].changes.len() as u64;
            if uncommitted > 0 {
                let kept = keep(uncommitted) as usize;
                // Fewer may be left than were counted: a move commits the directory that it went to.
                if let Some((upto, _)) = kept.checked_sub(1).and_then(|last| self.dirs[dir].changes.get(last)) {
                    self.commit(dir, *upto);
                }
            }
        }
        let lost = self.unsynced();
        for dir in &mut self.dirs {
            dir.live.clone_from(&dir.durable);
            dir.changes.clear();
            dir.flights.clear();
            dir.landed = dir.begun;
        }
        lost
    }

    /// Every file that has a name, in a fixed order.
    pub(super) fn files(&self) -> Vec<Arc<FileNode>> {
        let mut files = Vec::new();
        let mut dirs = vec![ROOT];
        while let Some(dir) = dirs.pop() {
            for entry in self.dirs[dir].live.values() {
                match entry {
                    Entry::File(file) => files.push(file.clone()),
                    Entry::Dir(dir) => dirs.push(*dir),
                }
            }
        }
        files
    }
}

/// The names in a path.
pub(super) fn parts(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|name| !name.is_empty() && *name != ".")
}
