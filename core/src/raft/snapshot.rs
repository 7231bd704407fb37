//! A snapshot on its way: the view that is sent, or the file that was received.

use std::collections::BTreeMap;
use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use openraft::type_config::alias::SnapshotMetaOf;

use super::message::SnapshotChunk;
use super::type_config::TypeConfig;
use crate::ids::NodeId;
use crate::mvcc::{SnapshotCheck, StoreSnapshot};
use crate::runtime::{Disk, File, Runtime};

/// The folder in which received snapshots wait to be installed.
const STAGING: &str = "snapshot";

/// How much of a received snapshot is read at once.
const READ_BYTES: usize = 256 << 10;

/// The rows of a snapshot.
pub enum SnapshotData<R: Runtime> {
    /// A view of this member's store, to be sent.
    View(StoreSnapshot<R::Disk>),
    /// A file of pieces that another member sent, to be installed.
    Received(ReceivedSnapshot<R>),
}

/// A received snapshot: a file of the bytes that were sent.
pub struct ReceivedSnapshot<R: Runtime> {
    disk: R::Disk,
    path: String,
    file: <R::Disk as Disk>::File,
    size: u64,
}

impl<R: Runtime> ReceivedSnapshot<R> {
    /// The bytes, in order, a piece at a time.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        let mut offset = 0;
        while offset < self.size {
            let piece = &mut buffer[..READ_BYTES.min((self.size - offset) as usize)];
            self.file.read_at(offset, piece)?;
            each(piece)?;
            offset += piece.len() as u64;
        }
        Ok(())
    }

    /// Gives the snapshot back if it can be installed, by what is read back from the file. For openraft an installation
    /// that fails is the end of the member, while a sender whose last piece is refused begins again.
    ///
    /// Reads all of it: to be called where that may take its time.
    ///
    /// # Errors
    /// Where it is damaged, or that the file cannot be read. The file has been removed.
    pub(crate) fn checked(self) -> io::Result<Self> {
        let mut check = SnapshotCheck::default();
        match self.read(|piece| Ok(check.feed(piece)?)).and_then(|()| Ok(check.finish()?)) {
            Ok(()) => Ok(self),
            Err(error) => {
                self.discard();
                Err(error)
            }
        }
    }

    /// Removes the file: the snapshot is installed, or will not be. One that cannot be removed now goes at the next start.
    pub(crate) fn discard(self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(path = self.path, %error, "the file of a received snapshot stays");
        }
    }
}

/// Receives snapshots, at most one of each sender at a time.
///
/// Nothing here is synced: a snapshot that is half received at a crash is received again.
pub(crate) struct Staging<R: Runtime> {
    disk: R::Disk,
    incoming: Mutex<BTreeMap<NodeId, Incoming<R>>>,
    /// Files begun: each has a name of its own, since one may still be read when its sender begins again.
    begun: AtomicU64,
}

struct Incoming<R: Runtime> {
    meta: SnapshotMetaOf<TypeConfig<R>>,
    received: ReceivedSnapshot<R>,
}

impl<R: Runtime> Staging<R> {
    /// Empties the folder of what an earlier life left.
    pub(crate) fn open(disk: R::Disk) -> io::Result<Self> {
        disk.create_dir(STAGING)?;
        for name in disk.list(STAGING)? {
            disk.remove(&format!("{STAGING}/{name}"))?;
        }
        Ok(Staging { disk, incoming: Mutex::default(), begun: AtomicU64::new(0) })
    }

    /// Takes a piece; the whole snapshot, which nobody has [`checked`](ReceivedSnapshot::checked), if it was the last.
    pub(crate) fn receive(&self, from: NodeId, chunk: &SnapshotChunk<R>) -> io::Result<Option<ReceivedSnapshot<R>>> {
        let mut incoming = self.incoming.lock().expect("no holder of this lock panics");
        if chunk.offset == 0 {
            if let Some(abandoned) = incoming.remove(&from) {
                abandoned.received.discard();
            }
            let path = format!("{STAGING}/from-{from}-{}", self.begun.fetch_add(1, Ordering::Relaxed));
            let file = self.disk.create(&path)?;
            let received = ReceivedSnapshot { disk: self.disk.clone(), path, file, size: 0 };
            incoming.insert(from, Incoming { meta: chunk.meta.clone(), received });
        }
        let follows = |it: &&mut Incoming<R>| it.received.size == chunk.offset && it.meta == chunk.meta;
        let Some(arriving) = incoming.get_mut(&from).filter(follows) else {
            return Err(io::Error::other(format!(
                "snapshot piece at offset {} of member {from} does not follow the last one",
                chunk.offset
            )));
        };
        let received = &mut arriving.received;
        received.file.write_at(received.size, &chunk.data)?;
        received.size += chunk.data.len() as u64;
        if !chunk.last {
            return Ok(None);
        }
        Ok(incoming.remove(&from).map(|whole| whole.received))
    }
}

#[cfg(test)]
mod tests;
