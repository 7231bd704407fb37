//! The testbed: one seed decides every delay, crash, partition and fsync, and every answer is judged.

#[cfg(not(madsim))]
compile_error!(
    "the simulator needs `--cfg madsim`, which .cargo/config.toml sets; a RUSTFLAGS variable overrides that file: \
     unset it, or add `--cfg madsim` to it"
);

pub mod checker;
pub mod history;
pub mod model;
pub mod outcome;
pub mod plan;
