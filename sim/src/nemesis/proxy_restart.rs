//! Proxies whose processes die: with them goes what they kept, and what their clients had open.

use super::Nemesis;
use crate::cluster::Cluster;

/// A proxy dies when the fault begins, and is back at its end.
pub(super) struct ProxyRestart {
    proxy: u32,
    died: bool,
}

impl ProxyRestart {
    pub(super) fn new(proxy: u32) -> Self {
        ProxyRestart { proxy, died: false }
    }
}

impl Nemesis for ProxyRestart {
    fn begin(&mut self, cluster: &mut Cluster) {
        self.died = cluster.proxies.kill(self.proxy);
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        if self.died {
            cluster.proxies.boot(self.proxy);
        }
        self.died
    }
}
