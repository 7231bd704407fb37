//! Which way a read goes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use tonic::metadata::MetadataMap;

/// The name of the request metadata that asks for another path than ReadIndex, with a path's name as its value.
const METADATA: &str = "seedbed-read-path";

/// A read path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ReadPath {
    /// The member's own state, however old. A range asks for it by its own field, as in etcd.
    Serializable,
    /// Linearizable, by a quorum's word that the leader still leads. What etcd does since 3.1.
    #[default]
    ReadIndex,
    /// Linearizable, by an entry in the log. What etcd 3.0 did.
    Log,
    /// Linearizable as long as clocks drift no more than was declared.
    Lease,
}

impl ReadPath {
    /// Every path.
    pub const ALL: [ReadPath; 4] = [ReadPath::Serializable, ReadPath::ReadIndex, ReadPath::Log, ReadPath::Lease];

    /// The name, in metadata, plans and metrics.
    pub fn name(self) -> &'static str {
        match self {
            ReadPath::Serializable => "serializable",
            ReadPath::ReadIndex => "read-index",
            ReadPath::Log => "log",
            ReadPath::Lease => "lease",
        }
    }

    /// The path that a request's metadata or extensions ask for; `None` if they leave it open.
    ///
    /// # Errors
    /// If the metadata names no path.
    pub fn of<M>(request: &tonic::Request<M>) -> Result<Option<ReadPath>, UnknownReadPath> {
        if let Some(path) = request.extensions().get() {
            return Ok(Some(*path));
        }
        let Some(name) = request.metadata().get(METADATA) else { return Ok(None) };
        let name = name.to_str().map_err(|_| UnknownReadPath("not printable".to_owned()))?;
        name.parse().map(Some)
    }

    /// Asks for this path in a request's metadata.
    pub fn ask(self, metadata: &mut MetadataMap) {
        metadata.insert(METADATA, tonic::metadata::MetadataValue::from_static(self.name()));
    }
}

impl fmt::Display for ReadPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// There is no read path of that name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no read path is called `{0}`: there are serializable, read-index, log and lease")]
pub struct UnknownReadPath(pub String);

impl FromStr for ReadPath {
    type Err = UnknownReadPath;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        ReadPath::ALL.into_iter().find(|path| path.name() == name).ok_or_else(|| UnknownReadPath(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metadata_names_a_path_or_nothing() {
        let mut request = tonic::Request::new(());
        assert_eq!(ReadPath::of(&request), Ok(None));
        for path in ReadPath::ALL {
            path.ask(request.metadata_mut());
            assert_eq!(ReadPath::of(&request), Ok(Some(path)));
        }
        request.metadata_mut().insert(METADATA, "guess".parse().expect("it is printable"));
        assert_eq!(ReadPath::of(&request), Err(UnknownReadPath("guess".to_owned())));
    }
}
