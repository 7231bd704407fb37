//! What the answers of a read path are worth while things go wrong.

use seedbed_core::read::ReadPath;

/// What the judges of the testbed hold a path to, in every run of every scenario, `read-paths` above all. Beyond the
/// declared drift, `lease-hazard` counts the stale reads.
pub fn under_fault(path: ReadPath) -> &'static str {
    match path {
        ReadPath::Serializable => "may be stale",
        ReadPath::ReadIndex | ReadPath::Log => "linearizable",
        ReadPath::Lease => "linearizable within the declared drift",
    }
}
