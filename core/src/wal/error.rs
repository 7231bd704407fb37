//! Why the log cannot be read or written.

use std::io;
use std::sync::Arc;

use super::record::Disorder;
use crate::ids::NodeId;

/// A failure of the write-ahead log. Once one of them stops the writer, every later call answers the same one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WalError {
    /// Bytes that were durable, or that a later part of the log builds upon, are not what was written. Nothing of this
    /// log is served: the member has to be replaced, or its disk restored.
    #[error("{file}: damaged at offset {offset}: {reason}")]
    Damaged {
        /// The segment.
        file: String,
        /// Where in the segment the first damaged frame, record or header begins.
        offset: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A segment between two others is gone.
    #[error("{file}: this segment is missing, though later ones exist")]
    Missing {
        /// The segment.
        file: String,
    },
    /// The log belongs to another member.
    #[error("{file}: written by member {owner}, opened by member {node}")]
    Foreign {
        /// The segment.
        file: String,
        /// Who wrote it.
        owner: NodeId,
        /// Who opened it.
        node: NodeId,
    },
    /// The log is written in a format of a later release.
    #[error("{file}: format version {version} is not known")]
    Version {
        /// The segment.
        file: String,
        /// The version it claims.
        version: u32,
    },
    /// The disk failed. Of what was not yet reported as flushed, nothing may be assumed.
    #[error("{file}: {operation}: {source}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The segment or directory.
        file: String,
        /// What the disk said.
        source: Arc<io::Error>,
    },
    /// The caller asked for a record that does not follow from those before it. Nothing was written.
    #[error(transparent)]
    Disorder(#[from] Disorder),
    /// More is waiting to be written than one frame may hold. Nothing was written.
    #[error("{waiting} bytes are waiting to be written: the disk does not keep up")]
    Full {
        /// The bytes in the queue, including those refused.
        waiting: usize,
    },
    /// The log was closed.
    #[error("the log is closed")]
    Closed,
}

impl WalError {
    pub(super) fn io(operation: &'static str, file: &str) -> impl FnOnce(io::Error) -> WalError {
        let file = file.to_owned();
        move |source| WalError::Io { operation, file, source: Arc::new(source) }
    }

    pub(super) fn damaged(file: &str, offset: u64, reason: impl Into<String>) -> WalError {
        WalError::Damaged { file: file.to_owned(), offset, reason: reason.into() }
    }
}

impl From<WalError> for io::Error {
    fn from(error: WalError) -> Self {
        let kind = match &error {
            WalError::Damaged { .. } | WalError::Missing { .. } | WalError::Foreign { .. } => {
                io::ErrorKind::InvalidData
            }
            WalError::Version { .. } => io::ErrorKind::Unsupported,
            WalError::Io { source, .. } => source.kind(),
            WalError::Disorder(_) => io::ErrorKind::InvalidInput,
            WalError::Full { .. } => io::ErrorKind::QuotaExceeded,
            WalError::Closed => io::ErrorKind::BrokenPipe,
        };
        io::Error::new(kind, error)
    }
}
