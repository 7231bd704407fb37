//! The multi-version store, as etcd has it.

mod refusal;

pub use self::refusal::Refusal;
