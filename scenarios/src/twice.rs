//! One plan in two processes, compared event by event.
//!
//! ```text
//!   replay PLAN --twice ──┬── replay PLAN --events ── a line an event ──┐
//!                         └── replay PLAN --events ── a line an event ──┴── the first two that differ
//! ```
//!
//! What differs between processes and not between threads (addresses, hash keys, the environment) shows here. Streams
//! are compared as they come, and neither is kept.

use std::io::{self, BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};

use crate::named::NamedPlan;

/// What two streams of events came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Compared {
    /// All events are alike.
    Equal {
        /// How many there were.
        events: u64,
    },
    /// They part.
    Differs {
        /// After so many that are alike.
        events: u64,
        /// What came then in one; nothing, if it had ended.
        one: Option<String>,
        /// What came then in the other.
        other: Option<String>,
    },
}

/// Runs the plan in two processes at the same time.
pub(crate) fn compared(plan: &NamedPlan) -> io::Result<Compared> {
    let mut children = Children(Vec::new());
    let one = children.start(plan)?;
    let other = children.start(plan)?;
    let compared = compare(BufReader::new(one), BufReader::new(other))?;
    Ok(match compared {
        Compared::Equal { events: lines } => {
            children.end()?;
            // The last line is what the run came to.
            Compared::Equal { events: lines.saturating_sub(1) }
        }
        differs => differs,
    })
}

/// Reads two streams for as long as they are alike.
fn compare(mut one: impl BufRead, mut other: impl BufRead) -> io::Result<Compared> {
    let mut events = 0;
    // Kept from line to line: there are hundreds of thousands.
    let (mut first, mut second) = (Vec::new(), Vec::new());
    loop {
        let (some, more) = (line(&mut one, &mut first)?, line(&mut other, &mut second)?);
        if !some && !more {
            return Ok(Compared::Equal { events });
        }
        if first != second || some != more {
            let shown = |there: bool, line: &[u8]| there.then(|| String::from_utf8_lossy(line).trim_end().to_owned());
            return Ok(Compared::Differs { events, one: shown(some, &first), other: shown(more, &second) });
        }
        events += 1;
    }
}

/// Whether there is another line.
fn line(stream: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(stream.read_until(b'\n', line)? > 0)
}

/// Processes that end with this one's interest in them.
struct Children(Vec<Child>);

impl Children {
    fn start(&mut self, plan: &NamedPlan) -> io::Result<ChildStdout> {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["replay", "--events"]);
        if let Some(mutant) = plan.mutant {
            command.args(["--mutant", mutant.name()]);
        }
        command.arg("--").arg(&plan.what).args(plan.seed.map(|seed| seed.to_string()));
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let stdout = child.stdout.take();
        self.0.push(child);
        stdout.ok_or_else(|| io::Error::other("a child without its standard output"))
    }

    /// Waits for all. One that could not run its plan has compared nothing.
    fn end(&mut self) -> io::Result<()> {
        for mut child in self.0.drain(..) {
            let status: ExitStatus = child.wait()?;
            // 1 is a violation, of which both have told the same.
            if !matches!(status.code(), Some(0 | 1)) {
                return Err(io::Error::other(format!("a process of the two ended with {status}")));
            }
        }
        Ok(())
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_streams_are_counted() {
        assert_eq!(compare(&b""[..], &b""[..]).expect("read"), Compared::Equal { events: 0 });
        assert_eq!(compare(&b"a\nb\n"[..], &b"a\nb\n"[..]).expect("read"), Compared::Equal { events: 2 });
    }

    #[test]
    fn the_first_event_that_differs_is_shown_with_both_sides() {
        let differs = |one: &str, other: &str| compare(one.as_bytes(), other.as_bytes()).expect("read");
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            differs("0 send\n1 sync 7\n2 x\n", "0 send\n1 sync 8\n2 y\n"),
            Compared::Differs { events: 1, one: some("1 sync 7"), other: some("1 sync 8") }
        );
        assert_eq!(differs("0 a\n", "0 a\n1 b\n"), Compared::Differs { events: 1, one: None, other: some("1 b") });
        assert_eq!(differs("0 a\n1 b\n", "0 a\n"), Compared::Differs { events: 1, one: some("1 b"), other: None });
        assert_eq!(
            differs("0 a\n1 b", "0 a\n1 bc"),
            Compared::Differs { events: 1, one: some("1 b"), other: some("1 bc") }
        );
    }
}
