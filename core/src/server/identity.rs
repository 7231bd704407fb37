//! Who a member is, for all its lives: written into the data folder at its first start.
//!
//! A restart with other `initial-` flags, or without them, is the same member of the same cluster, as with etcd. The log
//! carries the member's number too, so that a folder cannot change hands unnoticed.

use std::collections::BTreeMap;
use std::io;

use serde::{Deserialize, Serialize};

use super::bootstrap::cluster_id;
use super::options::{ClusterState, Options};
use super::{Failure, bootstrap};
use crate::raft::NodeId;
use crate::runtime::{Disk, File};

const FILE: &str = "identity.json";
const NEW_FILE: &str = "identity.json.new";

/// A member, its cluster, and the members that it began with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) cluster_id: u64,
    pub(super) member_id: NodeId,
    /// Where the members find each other.
    pub(super) peer_urls: BTreeMap<NodeId, Vec<String>>,
}

impl Identity {
    /// What the flags say.
    ///
    /// # Errors
    /// One line, if they contradict themselves.
    fn new(options: &Options) -> Result<Identity, String> {
        let token = &options.initial_cluster_token;
        let peer_urls =
            options.initial_cluster.members(token).map_err(|reason| format!("--initial-cluster: {reason}"))?;
        let member_id = bootstrap::member_id(&options.advertise_peer_urls, token);
        Ok(Identity { cluster_id: cluster_id(peer_urls.keys()), member_id, peer_urls })
    }

    /// What the data folder says; what the flags say, in a folder without a member.
    pub(super) async fn load_or_create(disk: &impl Disk, options: &Options) -> Result<Identity, Failure> {
        if let Some(identity) = load(disk)? {
            return Ok(identity);
        }
        if options.initial_cluster_state == ClusterState::Existing {
            return Err(Failure::Usage(format!(
                "--initial-cluster-state=existing: a member cannot be added to a cluster yet, and there is none in {}",
                options.data_dir.display()
            )));
        }
        let identity = Identity::new(options).map_err(Failure::Usage)?;
        identity.save(disk).await?;
        Ok(identity)
    }

    /// Durable as a whole or not there at all.
    async fn save(&self, disk: &impl Disk) -> io::Result<()> {
        match disk.remove(NEW_FILE) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = disk.create(NEW_FILE)?;
        file.write_at(0, &serde_json::to_vec_pretty(self)?)?;
        file.sync().await?;
        disk.rename(NEW_FILE, FILE)?;
        disk.sync_dir("").await
    }
}

fn load(disk: &impl Disk) -> io::Result<Option<Identity>> {
    let file = match disk.open(FILE) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut text = vec![0; usize::try_from(file.size()?).map_err(io::Error::other)?];
    file.read_at(0, &mut text)?;
    let identity = serde_json::from_slice(&text)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, format!("{FILE} is damaged: {error}")))?;
    Ok(Some(identity))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use openraft::AsyncRuntime;

    use super::*;
    use crate::runtime::tokio::{TokioDisk, TokioRuntime};

    fn options(args: &[&str]) -> Options {
        Options::parse(std::iter::once(&"seedbed-server").chain(args).map(OsString::from)).unwrap()
    }

    fn load(disk: &TokioDisk, args: &[&str]) -> Result<Identity, Failure> {
        TokioRuntime::new(1).block_on(Identity::load_or_create(disk, &options(args)))
    }

    #[test]
    fn the_first_start_decides_who_a_member_is() {
        let folder = tempfile::tempdir().unwrap();
        let disk = TokioDisk::open(folder.path()).unwrap();
        let refused = load(&disk, &["--initial-cluster-state", "existing"]).unwrap_err();
        assert!(matches!(&refused, Failure::Usage(line) if line.contains("cannot be added")), "{refused}");
        let first = load(&disk, &[]).unwrap();
        assert_eq!((first.cluster_id, first.member_id), (0xcdf8_1819_4e3a_8c32, NodeId(0x8e9e_05c5_2164_694d)));
        let later = ["--initial-cluster-token", "other", "--initial-cluster-state", "existing"];
        assert_eq!(load(&disk, &later).unwrap(), first);
    }

    #[test]
    fn a_damaged_identity_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let disk = TokioDisk::open(folder.path()).unwrap();
        load(&disk, &[]).unwrap();
        disk.open(FILE).unwrap().set_size(20).unwrap();
        assert!(load(&disk, &[]).unwrap_err().to_string().contains("identity.json is damaged"));
    }
}
