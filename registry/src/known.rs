//! Blobs that earlier pushes put into a registry, and the repository each is in: what can be mounted need not be sent.
//! One small file for each registry below the root directory. Nothing depends on it.

use crossdock_storage::{Digest, StateStore, canonical_json, from_json};
use serde::{Deserialize, Serialize};

use crate::client::RegistryOptions;

/// Blobs remembered for a registry, the latest ones.
const KEPT: usize = 1000;

/// What is remembered of one registry.
#[derive(Debug)]
pub(crate) struct KnownBlobs {
    store: StateStore,
    name: String,
}

#[derive(Default, Serialize, Deserialize)]
struct Known {
    /// The latest last.
    blobs: Vec<(Digest, String)>,
}

impl KnownBlobs {
    /// `None` where there is no root directory.
    pub(crate) fn new(options: &RegistryOptions, registry: &str) -> Option<Self> {
        let store = StateStore::new(options.root.as_deref()?, "blobs");
        Some(Self { store, name: format!("{registry}.json") })
    }

    /// A repository other than `here` that had the blob once.
    pub(crate) fn elsewhere(&self, digest: &Digest, here: &str) -> Option<String> {
        self.read().blobs.into_iter().rev().find(|(d, r)| d == digest && r != here).map(|(_, r)| r)
    }

    /// Remembers that `repository` has these blobs.
    pub(crate) fn remember<'a>(&self, repository: &str, digests: impl Iterator<Item = &'a Digest>) {
        let changed = self.store.change(&self.name, |old| {
            let mut known = parse(old);
            for digest in digests {
                known.blobs.retain(|(d, r)| (d, r.as_str()) != (digest, repository));
                known.blobs.push((digest.clone(), repository.to_owned()));
            }
            let surplus = known.blobs.len().saturating_sub(KEPT);
            known.blobs.drain(..surplus);
            canonical_json(&known)
        });
        if let Err(error) = changed {
            tracing::debug!(%error, "the blobs of this push are not remembered");
        }
    }

    fn read(&self) -> Known {
        parse(self.store.read(&self.name))
    }
}

fn parse(bytes: Option<Vec<u8>>) -> Known {
    from_json(&bytes.unwrap_or_default()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crossdock_storage::Hasher;

    use super::*;

    #[test]
    fn pushes_at_once_are_all_remembered() {
        let root = tempfile::tempdir().unwrap();
        let options = RegistryOptions { root: Some(root.path().to_owned()), ..RegistryOptions::default() };
        let digests: Vec<_> = (0..12_u8).map(|n| Hasher::digest(&[n])).collect();
        std::thread::scope(|scope| {
            for digest in &digests {
                let known = KnownBlobs::new(&options, "registry.example").unwrap();
                scope.spawn(move || known.remember("a/b", std::iter::once(digest)));
            }
        });
        let known = KnownBlobs::new(&options, "registry.example").unwrap();
        for digest in &digests {
            assert_eq!(known.elsewhere(digest, "c/d").as_deref(), Some("a/b"));
        }
        assert_eq!(std::fs::read_dir(root.path().join("blobs")).unwrap().count(), 1, "no lock stays");
    }
}
