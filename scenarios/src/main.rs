//! The command line `seedbed`.
//!
//! ```text
//!   catalogue ──► Job (a plan) ──► sweep ──► Finished ──► rows, JSON lines, reports/out
//!                                    └── attempt: one run on a thread of its own
//! ```

mod attempt;
mod catalogue;
mod cli;
mod commands;
mod commit;
mod exit;
mod named;
mod output;
mod progress;
mod record;
mod regressions;
mod seeds;
mod sweep;
mod twice;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    exit::reported(cli::main(std::env::args_os()))
}
