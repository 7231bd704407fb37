//! How the store fails.

use std::io;

use super::Refusal;

/// The store cannot go on: its file failed it, or is not what it was.
///
/// After an I/O error nothing that the file says may be believed, so every later operation fails too, with
/// [`StoreError::Failed`], until the store is opened again.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// An operation on the store's folder failed.
    #[error("cannot {operation} {path}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file or folder.
        path: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The database refused an operation.
    #[error("{path}: {source}")]
    Database {
        /// The database's file.
        path: String,
        /// Its reason.
        source: Box<redb::Error>,
    },
    /// An earlier operation on the file failed, so that this one was not tried.
    #[error("{path} has failed and must be opened again: {cause}")]
    Failed {
        /// The database's file.
        path: String,
        /// The failure.
        cause: String,
    },
    /// The file holds something that the store never wrote.
    #[error("{path} is damaged: {what}")]
    Damaged {
        /// The database's file.
        path: String,
        /// Where, and what is wrong.
        what: String,
    },
    /// Somebody reads while the file is to be made shorter, for longer than could be waited for; or the other way round.
    /// Nothing has happened.
    #[error("{path} is in use, by a snapshot that is sent or by a defragmentation: try again later")]
    Busy {
        /// The database's file.
        path: String,
    },
}

/// Why a request was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The request cannot be answered as it stands. Nothing was changed, and every member answers alike.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This member cannot go on.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a snapshot was not installed. The state is what it was before.
#[derive(Debug, thiserror::Error)]
pub enum InstallError {
    /// The stream is not a whole snapshot.
    #[error("the snapshot is damaged at byte {offset}: {what}")]
    Damaged {
        /// Bytes of the stream before the damaged part.
        offset: u64,
        /// What is wrong.
        what: String,
    },
    /// This member cannot go on.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// openraft takes every failure of a state machine as an I/O error, and stops.
impl From<StoreError> for io::Error {
    fn from(error: StoreError) -> Self {
        io::Error::other(error)
    }
}

impl From<InstallError> for io::Error {
    fn from(error: InstallError) -> Self {
        io::Error::other(error)
    }
}
