//! Links that lose, hold up, reorder, repeat or break what is sent on them.

use super::Nemesis;
use crate::cluster::Cluster;
use crate::network::FaultId;
use crate::plan::FaultKind;

/// Something happens to some of the messages.
pub(super) struct Disturbance {
    stream: u64,
    kind: FaultKind,
    fault: Option<FaultId>,
}

impl Disturbance {
    pub(super) fn new(stream: u64, kind: FaultKind) -> Self {
        Disturbance { stream, kind, fault: None }
    }
}

impl Nemesis for Disturbance {
    fn begin(&mut self, cluster: &mut Cluster) {
        let (network, stream) = (&cluster.network, self.stream);
        self.fault = Some(match self.kind {
            FaultKind::Loss { permille, links } => network.loss(links, permille),
            FaultKind::Latency { links, delay_us } => network.delay(stream, links, 1000, delay_us),
            FaultKind::Reorder { links, permille, delay_us } => network.delay(stream, links, permille, delay_us),
            FaultKind::Duplicate { links, permille, after_us } => network.duplicate(stream, links, permille, after_us),
            FaultKind::Reset { links, permille } => network.reset_some(stream, links, permille),
            ref other => panic!("not a disturbance of links: {other:?}"),
        });
    }

    fn end(&mut self, cluster: &mut Cluster) -> bool {
        self.fault.take().is_some_and(|fault| cluster.network.heal(fault) > 0)
    }
}
