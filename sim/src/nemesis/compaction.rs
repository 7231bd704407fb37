//! Compactions at any moment, as by an operator: also while members are away who need what is forgotten.

use std::cell::Cell;
use std::rc::Rc;

use seedbed_proto::etcdserverpb::CompactionRequest;

use super::Nemesis;
use crate::client::Client;
use crate::cluster::Cluster;
use crate::history::{Outcome, Request};

/// The leader is asked to compact the history, close to its end.
pub(super) struct Compaction {
    keep: u64,
    /// Who asks: an operation like any other, of which the judges know.
    client: Option<Client>,
    /// Whether the leader has said that it is done.
    done: Rc<Cell<bool>>,
}

impl Compaction {
    pub(super) fn new(keep: u64, client: Client) -> Self {
        Compaction { keep, client: Some(client), done: Rc::default() }
    }
}

impl Nemesis for Compaction {
    fn begin(&mut self, cluster: &mut Cluster) {
        let Some((leader, node)) = cluster.leader().and_then(|leader| Some((leader, cluster.node(leader)?))) else {
            return;
        };
        let revision = node.status().revision.saturating_sub_unsigned(self.keep);
        if revision > 0
            && let Some(mut client) = self.client.take()
        {
            let done = self.done.clone();
            madsim::task::spawn_local(async move {
                let compact = |_| Request::Compact(CompactionRequest { revision, physical: false });
                done.set(matches!(client.ask(leader, compact).await, Outcome::Ok(_)));
            });
        }
    }

    fn end(&mut self, _: &mut Cluster) -> bool {
        self.done.get()
    }
}
