//! Leases: whose keys go together.

use std::collections::BTreeMap;

use bytes::Bytes;
use seedbed_proto::etcdserverpb::{
    LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveResponse, LeaseLeasesResponse, LeaseRevokeResponse,
    LeaseStatus, LeaseTimeToLiveRequest, LeaseTimeToLiveResponse, PutRequest,
};

use super::{Kv, Refusal, header};
use crate::history::{Request, Response};

/// The leases that there are, each with the seconds that it was granted for.
pub type Leases = BTreeMap<i64, i64>;

impl Kv {
    /// The empty store, which knows which leases there are: whatever grants or ends one has to be carried out here, too.
    pub fn following_leases() -> Kv {
        Kv { leases: Some(Leases::new()), ..Kv::default() }
    }

    /// The leases, if they are followed.
    pub fn leases(&self) -> Option<&Leases> {
        self.leases.as_ref()
    }

    /// The living keys of a lease at a revision, in order.
    pub fn keys_of_lease(&self, id: i64, revision: i64) -> Vec<Bytes> {
        let mut keys = Vec::new();
        let everything = Bytes::from_static(b"\0");
        self.visit(&everything, &everything, revision, |key, version| {
            if version.lease == id {
                keys.push(key.clone());
            }
        });
        keys
    }

    /// What is told of leases without changing anything.
    pub(super) fn told_of_leases(&self, request: &Request) -> Option<Response> {
        let header = header(self.revision);
        let ttl_of = |id: &i64| self.leases.as_ref().and_then(|leases| leases.get(id)).copied();
        Some(match request {
            Request::LeaseKeepAlive(keep) => {
                let ttl = ttl_of(&keep.id).unwrap_or(0);
                Response::LeaseKeepAlive(LeaseKeepAliveResponse { header, id: keep.id, ttl })
            }
            Request::LeaseTimeToLive(LeaseTimeToLiveRequest { id, keys }) => {
                let ttl = ttl_of(id);
                let keys = if *keys && ttl.is_some() { self.keys_of_lease(*id, self.revision) } else { Vec::new() };
                let (ttl, granted_ttl) = (ttl.unwrap_or(-1), ttl.unwrap_or(0));
                Response::LeaseTimeToLive(LeaseTimeToLiveResponse { header, id: *id, ttl, granted_ttl, keys })
            }
            Request::LeaseLeases(_) => {
                let leases = self.leases.iter().flatten().map(|(id, _)| LeaseStatus { id: *id }).collect();
                Response::LeaseLeases(LeaseLeasesResponse { header, leases })
            }
            _ => return None,
        })
    }

    /// Whether there may be no such lease, or, the other way round, one.
    pub(super) fn may_lack(&self, id: i64, lack: bool) -> bool {
        self.leases.as_ref().is_none_or(|leases| leases.contains_key(&id) != lack)
    }

    pub(super) fn lease_refusal(&self, put: &PutRequest) -> Option<Refusal> {
        (put.lease != 0 && self.may_lack(put.lease, true)).then_some(Refusal::LeaseNotFound)
    }

    pub(super) fn grant(&mut self, grant: &LeaseGrantRequest) -> LeaseGrantResponse {
        if let Some(leases) = &mut self.leases {
            leases.insert(grant.id, grant.ttl);
        }
        LeaseGrantResponse { header: None, id: grant.id, ttl: grant.ttl, error: String::new() }
    }

    pub(super) fn revoke(&mut self, id: i64, changed: &mut bool) -> LeaseRevokeResponse {
        for key in self.keys_of_lease(id, self.revision) {
            self.delete(key, changed);
        }
        if let Some(leases) = &mut self.leases {
            leases.remove(&id);
        }
        LeaseRevokeResponse { header: None }
    }
}
