//! The subcommands, one a file. Each prints results to `out`, and what it is doing to standard error.

pub(crate) mod list;
pub(crate) mod mutants;
pub(crate) mod replay;
pub(crate) mod run;
pub(crate) mod shrink;
