//! The store in the simulated world, without the catalogue: members that a test drives by hand, and runs of plans of its own.
//!
//! One program, since building one takes longer than its tests do.

mod conformance;
mod determinism;
mod disk_faults;
mod faults;
mod lease_reads;
mod leases;
mod locks;
mod members;
mod membership;
mod node;
mod operator;
mod plans;
mod reads_and_writes;
mod runtime;
mod ways_in;
