//! The services that clients call: tonic's service traits, implemented once, for sockets and for simulated ones.

mod dispatch;
mod error;
mod kv;

pub use self::dispatch::{Context, OperationId};
pub use self::error::ApiError;
pub use self::kv::{KvService, Limits};
