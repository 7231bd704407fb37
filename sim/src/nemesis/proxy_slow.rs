//! Proxies to which members' messages are long under way: what changes they hear late.

use super::Nemesis;
use crate::cluster::Cluster;
use crate::plan::Span;

/// What members send to a proxy takes its time.
pub(super) struct ProxySlow {
    proxy: u32,
    latency_us: Span,
    /// How many messages had been slow on the way to it before.
    before: u64,
}

impl ProxySlow {
    pub(super) fn new(proxy: u32, latency_us: Span) -> Self {
        ProxySlow { proxy, latency_us, before: 0 }
    }
}

impl Nemesis for ProxySlow {
    fn begin(&mut self, cluster: &mut Cluster) {
        let proxy = cluster.proxies.address(self.proxy);
        self.before = cluster.network.weathered(proxy);
        cluster.slow_links_to(proxy, Some(self.latency_us));
    }

    /// It has had an effect if something was sent to it meanwhile.
    fn end(&mut self, cluster: &mut Cluster) -> bool {
        let proxy = cluster.proxies.address(self.proxy);
        cluster.slow_links_to(proxy, None);
        cluster.network.weathered(proxy) > self.before
    }
}
