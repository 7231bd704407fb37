//! The judges, one guarantee a file.
//!
//! | Judge | Guarantee | Input |
//! |---|---|---|
//! | [`linearizable`] | strict serializability of the KV service | client history |
//! | [`refusal`] | a refusal that follows from the request alone is given when it has to be, and only then | client history |
//! | [`serializable`] | a serializable read is a state the store had, and a member never goes back | client history |
//! | [`durable`] | no acknowledged write is lost, all members end alike | client history, final states |
//! | [`replicas`] | members agree at equal revision and equal log index | hashes, applied entries |
//! | [`watch`] | watches: ordered, unique, reliable, atomic, resumable, bookmarkable | what they were told, client history, applied entries |
//! | [`lease`] | leases and the keys that go with them are strictly serializable, and end in time and not before | client history, applied entries |
//! | [`fencing`] | a lock or an office has one holder at each revision, who alone writes under its fence; observers see leaders in order | what contenders were told, applied entries |
//! | [`proxied`] | what a proxy keeps is not staler than it says, and nobody is taken back | client history, applied entries |
//! | [`read_latency`] | a ReadIndex read waits for nobody's disk | client history |
//! | [`lease_hazard`] | none: it takes lease reads for serializable ones where clocks drift beyond what was declared | client history |
//! | [`staleness`] | none: it counts the stale reads of each path | client history |
//! | [`election`] | at most one leader a term, at most one vote a term | leaders, votes |
//!
//! [`search`] is the referee: it decides linearizability for any model by search, on small histories, and every other
//! verdict on them is held against it. [`generate`] makes histories to judge. [`unasked`] makes operations of what no
//! client operation has asked for.

pub mod durable;
pub mod election;
pub mod fencing;
pub mod generate;
pub mod lease;
pub mod lease_hazard;
pub mod linearizable;
mod past;
pub mod proxied;
pub mod read_latency;
pub mod refusal;
pub mod replicas;
pub mod search;
pub mod serializable;
pub mod staleness;
pub mod unasked;
pub mod watch;
