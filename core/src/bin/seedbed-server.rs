//! The server: a member of a real cluster.

use std::process::ExitCode;

// A request allocates a few dozen times, on one thread and often on another what is freed on this one.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    seedbed_core::server::main(std::env::args_os())
}
