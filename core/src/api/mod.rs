//! The services that clients call: tonic's service traits, implemented once, for sockets and for simulated ones.

mod cluster;
mod dispatch;
mod error;
mod header;
mod kv;
mod maintenance;
mod watch;

pub use self::cluster::ClusterService;
pub use self::dispatch::{Context, OperationId};
pub use self::error::ApiError;
pub(crate) use self::header::Headers;
pub use self::kv::{KvService, Limits};
pub use self::maintenance::{ETCD_VERSION, MaintenanceService};
pub use self::watch::WatchService;
