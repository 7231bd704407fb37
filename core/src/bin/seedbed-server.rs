//! The server: a member of a real cluster.

use std::process::ExitCode;

fn main() -> ExitCode {
    seedbed_core::server::main(std::env::args_os())
}
