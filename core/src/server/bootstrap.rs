//! Who the members of a new cluster are, and what they are numbered.
//!
//! Numbers are etcd's: a member's from its peer URLs and the cluster's token, the cluster's from its members' numbers.
//! Members that are given the same flags agree on all of them without a word.

use std::collections::BTreeMap;

use sha1::{Digest, Sha1};

use super::url::Url;
use crate::raft::NodeId;

/// The members of a new cluster, by name, with their peer URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct InitialCluster(pub(super) BTreeMap<String, Vec<Url>>);

impl InitialCluster {
    /// Reads `name=url,name=url`. A member with several URLs is named several times.
    ///
    /// # Errors
    /// One line that says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<InitialCluster, String> {
        let mut members: BTreeMap<String, Vec<Url>> = BTreeMap::new();
        for member in text.split(',') {
            match member.trim().split_once('=') {
                Some((name, url)) if !name.is_empty() => {
                    members.entry(name.to_owned()).or_default().push(Url::parse(url)?);
                }
                _ => return Err(format!("{member:?} does not have the form name=url")),
            }
        }
        Ok(InitialCluster(members))
    }

    /// The members' numbers, with their URLs.
    ///
    /// # Errors
    /// If two members have one number, which is to say the same URLs.
    pub(super) fn members(&self, token: &str) -> Result<BTreeMap<NodeId, Vec<String>>, String> {
        let mut members = BTreeMap::new();
        for (name, urls) in &self.0 {
            if members.insert(member_id(urls, token), texts(urls)).is_some() {
                return Err(format!("member {name:?} has the same URLs as another"));
            }
        }
        Ok(members)
    }
}

/// A member's number, from where the others find it.
pub(super) fn member_id(peer_urls: &[Url], token: &str) -> NodeId {
    let mut hash = Sha1::new();
    for url in texts(peer_urls) {
        hash.update(url);
    }
    hash.update(token);
    NodeId(first_eight_bytes(hash))
}

/// A cluster's number, from its first members'.
pub(super) fn cluster_id<'a>(members: impl Iterator<Item = &'a NodeId>) -> u64 {
    let mut hash = Sha1::new();
    for member in members {
        hash.update(member.0.to_be_bytes());
    }
    first_eight_bytes(hash)
}

fn first_eight_bytes(hash: Sha1) -> u64 {
    let digest = hash.finalize();
    let (first, _) = digest.split_first_chunk().expect("a SHA-1 has 20 bytes");
    u64::from_be_bytes(*first)
}

/// The URLs as text, in order.
fn texts(urls: &[Url]) -> Vec<String> {
    let mut texts: Vec<String> = urls.iter().map(Url::to_string).collect();
    texts.sort();
    texts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_that_etcd_gives() {
        // What an etcd without flags has always called itself.
        let alone = InitialCluster::parse("default=http://localhost:2380").unwrap();
        let members = alone.members("etcd-cluster").unwrap();
        assert_eq!(members.keys().copied().collect::<Vec<_>>(), [NodeId(0x8e9e_05c5_2164_694d)]);
        assert_eq!(cluster_id(members.keys()), 0xcdf8_1819_4e3a_8c32);
    }

    #[test]
    fn numbers_depend_on_urls_and_token_and_not_on_their_order_or_on_names() {
        let id = |text, token| InitialCluster::parse(text).unwrap().members(token).unwrap();
        let both = id("a=http://h:1,a=http://h:2", "t");
        assert_eq!(both, id("b=http://h:2,b=http://h:1", "t"));
        assert_ne!(both, id("a=http://h:1,a=http://h:2", "u"));
        assert_ne!(both.keys().next(), id("a=http://h:1", "t").keys().next());
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "a", "=http://h:1", "a=", "a=h:1", "a=http://h:1,", "a=http://h:1,b"] {
            let line = InitialCluster::parse(text).expect_err(text);
            assert!(!line.is_empty() && !line.contains('\n'), "{line}");
        }
        let twins = InitialCluster::parse("a=http://h:1,b=http://h:1").unwrap();
        assert!(twins.members("t").unwrap_err().contains("same URLs"));
    }
}
