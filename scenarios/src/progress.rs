//! What is shown while runs go on: a bar on a terminal, a line for each finished scenario elsewhere.

use std::io::IsTerminal;

use indicatif::{ProgressBar, ProgressStyle};

use crate::output::note;

/// Shown on standard error, so that standard output holds results only.
pub(crate) enum Progress {
    Bar(ProgressBar),
    Lines,
    Silent,
}

impl Progress {
    /// For so many steps; `silent` where each step prints a line of its own.
    pub(crate) fn new(steps: u64, silent: bool) -> Self {
        if silent {
            Progress::Silent
        } else if std::io::stderr().is_terminal() {
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg} ({elapsed}, {eta} to go)")
                .expect("the template is a constant");
            Progress::Bar(ProgressBar::new(steps).with_style(style))
        } else {
            Progress::Lines
        }
    }

    /// A step has ended.
    pub(crate) fn step(&self, doing: &str) {
        if let Progress::Bar(bar) = self {
            bar.set_message(doing.to_owned());
            bar.inc(1);
        }
    }

    /// Something worth a line of its own.
    pub(crate) fn line(&self, line: &str) {
        match self {
            Progress::Bar(bar) => bar.suspend(|| note(line)),
            Progress::Lines => note(line),
            Progress::Silent => {}
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Progress::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}
