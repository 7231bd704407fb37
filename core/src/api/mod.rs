//! The services that clients call: tonic's service traits, implemented once, for sockets and for simulated ones.

mod cluster;
mod dispatch;
mod election;
mod error;
mod header;
mod kv;
mod leader;
mod lease;
mod lock;
mod maintenance;
mod proposals;
mod queue;
mod watch;

pub use self::cluster::ClusterService;
pub use self::dispatch::{Context, Dispatch, OperationId};
pub use self::election::ElectionService;
pub use self::error::ApiError;
pub(crate) use self::header::Headers;
pub use self::kv::KvService;
pub(crate) use self::kv::only_serializable;
pub(crate) use self::leader::{HAS_LEADER, LeaderCheck, wants_leader};
pub use self::lease::LeaseService;
pub use self::lock::LockService;
pub use self::maintenance::{ETCD_VERSION, MaintenanceService};
pub use self::proposals::Limits;
pub(crate) use self::proposals::Proposals;
pub(crate) use self::queue::Queue;
pub use self::watch::WatchService;
