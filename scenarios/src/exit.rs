//! How the process ends.

use std::io;
use std::process::ExitCode;

use crate::output::note;

/// The end of a command that did what it was asked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Every guarantee held; every planted bug was found.
    Success,
    /// A guarantee was broken, a hash was another, or a planted bug survived.
    Violation,
    /// Ctrl-C, and nothing was wrong until then.
    Interrupted,
}

/// Why a command could not do what it was asked to: one line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The flags, or a file that they name.
    #[error("{0}")]
    Usage(String),
    /// A file that could not be written, a thread that could not be started.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(match exit {
            Exit::Success => 0,
            Exit::Violation => 1,
            Exit::Interrupted => 130,
        })
    }
}

/// Prints the one line of a failure.
pub(crate) fn reported(result: Result<Exit, Failure>) -> ExitCode {
    match result {
        Ok(exit) => exit.into(),
        Err(failure) => {
            note(&format!("error: {failure}"));
            ExitCode::from(2)
        }
    }
}
