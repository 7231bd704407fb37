//! Proxies that hear nothing of the members, and are not heard: what they keep becomes old.

use super::Nemesis;
use crate::cluster::Cluster;
use crate::network::{Address, FaultId};

/// The links between a proxy and all members are cut. Clients reach the proxy.
pub(super) struct ProxyCut {
    proxy: u32,
    cut: Option<FaultId>,
}

impl ProxyCut {
    pub(super) fn new(proxy: u32) -> Self {
        ProxyCut { proxy, cut: None }
    }
}

impl Nemesis for ProxyCut {
    fn begin(&mut self, cluster: &mut Cluster) {
        let proxy = cluster.proxies.address(self.proxy);
        let members = cluster.ids().into_iter().map(Address::Member);
        let pairs = members.flat_map(|member| [(member, proxy), (proxy, member)]);
        self.cut = Some(cluster.network.cut(pairs));
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.cut.take().is_some_and(|cut| cluster.network.heal(cut) > 0)
    }
}
