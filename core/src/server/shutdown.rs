//! The signals that end the server.

use std::io;

use openraft::AsyncRuntime;
use openraft_rt::Select2;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::runtime::tokio::TokioRuntime;

/// SIGINT and SIGTERM, which from now on do not end the process by themselves.
pub(super) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Listens from now on.
    pub(super) fn listen() -> io::Result<Signals> {
        Ok(Signals { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The name of the next one.
    pub(super) async fn next(&mut self) -> &'static str {
        match TokioRuntime::select2(self.interrupt.recv(), self.terminate.recv()).await {
            Select2::First(_) => "SIGINT",
            Select2::Second(_) => "SIGTERM",
        }
    }

    /// Ends the process at once when the next one comes.
    pub(super) fn end_at_the_next(mut self) {
        drop(TokioRuntime::spawn(async move {
            let signal = self.next().await;
            tracing::warn!(signal, "ending at once");
            // What a shell says of a process that a signal has ended.
            std::process::exit(if signal == "SIGINT" { 130 } else { 143 });
        }));
    }
}
