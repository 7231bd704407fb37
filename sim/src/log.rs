//! What a run says: one line an event, the same bytes for the same seed.
//!
//! ```text
//!      1.204377 member-2  seed=42  INFO seedbed_core::raft: became leader term=3
//! ```
//!
//! Each line begins with the virtual time in seconds, the node and the seed. There is no wall clock and no thread in it,
//! and no span: madsim's spans number tasks across the whole process. For the same reason what madsim itself says is left
//! out. A run that nobody listens to has no subscriber at all, and `tracing` costs it one load an event.

use std::fmt;

use madsim::runtime::Handle;
use madsim::time::TimeHandle;
use tracing::{Event, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::registry::LookupSpan;

use crate::runtime::name_of;

/// A subscriber for the run of `seed`. `filter` is in the notation of `RUST_LOG`, such as `info,seedbed_core=debug`.
pub fn subscriber<W>(seed: u64, filter: &str, writer: W) -> Result<impl Subscriber + Send + Sync, ParseError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::builder().parse(filter)?.add_directive("madsim=off".parse()?);
    Ok(tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .event_format(Line { seed })
        .with_writer(writer)
        .finish())
}

/// The form of a line.
struct Line {
    seed: u64,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        match TimeHandle::try_current() {
            Some(time) => {
                let now = time.elapsed();
                write!(line, "{:>6}.{:06} ", now.as_secs(), now.subsec_micros())?;
            }
            None => write!(line, "{:>13} ", "-")?,
        }
        let node = Handle::try_current().map(|_| name_of(madsim::plugin::node()));
        write!(line, "{:<9} seed={} ", node.as_deref().unwrap_or("-"), self.seed)?;
        write!(line, "{:>5} {}: ", metadata.level().as_str(), metadata.target())?;
        context.field_format().format_fields(line.by_ref(), event)?;
        writeln!(line)
    }
}
