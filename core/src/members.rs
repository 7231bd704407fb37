//! What members tell clients about themselves.
//!
//! A member publishes its name and its clients' URLs through the log when it starts, as etcd does, so that every member
//! can name all of them. They are kept beside the data, and so travel with snapshots; they have no revision.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::NodeId;
use crate::mvcc::{Batch, Store, StoreError};
use crate::raft::message::{decode, encode};
use crate::runtime::Disk;

/// What a member publishes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attributes {
    /// Its name, as its operator calls it.
    pub name: String,
    /// Where clients find it.
    pub client_urls: Vec<String>,
}

/// What a member knows of the cluster beside consensus.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// What this member publishes about itself. Nothing, if there is nothing to say.
    pub attributes: Option<Attributes>,
    /// Where the members of the cluster find each other.
    pub peer_urls: BTreeMap<NodeId, Vec<String>>,
}

impl Attributes {
    /// Keeps them with a batch of changes.
    pub(crate) fn keep<D: Disk>(&self, member: NodeId, batch: &mut Batch<D>) {
        batch.set_meta(&kept_as(member), &encode(self));
    }

    /// Whether a member has published anything, as far as this store has applied the log: it has taken part.
    pub(crate) fn known<D: Disk>(member: NodeId, store: &Store<D>) -> Result<bool, StoreError> {
        Ok(store.meta(&kept_as(member))?.is_some())
    }

    /// What a member has published, as far as this store has applied the log; empty until it has.
    pub(crate) fn of<D: Disk>(member: NodeId, store: &Store<D>) -> Result<Attributes, StoreError> {
        let kept = store.meta(&kept_as(member))?;
        // What cannot be read has been kept by a newer version: it will be published again.
        Ok(kept.and_then(|kept| decode(&kept).ok()).unwrap_or_default())
    }
}

fn kept_as(member: NodeId) -> String {
    format!("{}member/{:016x}", crate::mvcc::REPLICATED, member.0)
}
