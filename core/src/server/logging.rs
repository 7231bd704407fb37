//! What the server logs, and how: to standard error, a line or a JSON object an event.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt;

use super::options::{LogFormat, LogLevel};

/// Logs from now on.
pub(super) fn start(level: LogLevel, format: LogFormat) {
    let ours = match level {
        LogLevel::Debug => "debug",
        LogLevel::Info => "info",
        LogLevel::Warn => "warn",
        LogLevel::Error | LogLevel::Panic | LogLevel::Fatal => "error",
    };
    // Libraries speak of their inner life: what an operator has to know of it, they call a warning.
    let theirs = if matches!(level, LogLevel::Debug | LogLevel::Info) { "warn" } else { ours };
    let filter = EnvFilter::new(format!("{theirs},seedbed_core={ours}"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // Fails if there is a logger already: then that one was meant.
    let _ = match format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().flatten_event(true).finish().try_init(),
    };
}
