//! Standard output and standard error, whose readers may go at any time.
//!
//! Whoever pipes results into `head` has seen enough, but the verdict is the exit code's all the same: a sweep ends early,
//! and what was found until then counts.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Results. Once their reader has gone, what is written is dropped, and `gone` is set.
pub(crate) struct Output<W> {
    inner: W,
    gone: Arc<AtomicBool>,
}

impl<W: Write> Output<W> {
    /// Results that go to `inner`.
    pub(crate) fn new(inner: W, gone: Arc<AtomicBool>) -> Self {
        Output { inner, gone }
    }

    fn or_gone<T>(&self, result: io::Result<T>, instead: T) -> io::Result<T> {
        match result {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.gone.store(true, Ordering::Relaxed);
                Ok(instead)
            }
            other => other,
        }
    }
}

impl<W: Write> Write for Output<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes);
        self.or_gone(written, bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = self.inner.flush();
        self.or_gone(flushed, ())
    }
}

/// A line on standard error, for a person. If nobody can read it, nobody has to.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_noted_and_no_error() {
        let gone = Arc::new(AtomicBool::new(false));
        let mut out = Output::new(Closed, gone.clone());
        writeln!(out, "a line").unwrap();
        out.flush().unwrap();
        assert!(gone.load(Ordering::Relaxed));
    }
}
