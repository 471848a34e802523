//! The journal of uploads: what another process needs to go on where this one was killed. One small file for each layer
//! on its way, below the root directory; it may hold a token of the registry's, so only its owner can read it.
//!
//! Nothing depends on it: an entry that is old, damaged or of an upload that the registry has forgotten is dropped, and
//! the layer is sent from its start. A layer of which a file was written just now has none, for a further write might
//! not show in the file's times.

use std::sync::Mutex;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_storage::{
    Checkpoint, Checkpoints, Compression, Hasher, StateLock, StateStore, VirtualLayer, is_settled,
    layer_identity,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::{RegistryOptions, lock};
use crate::resume::Partial;

/// Entries that nobody came back for are dropped after this time.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checkpoints of an entry: a registry may have less than was sent, by what it had in memory.
const CHECKPOINTS: usize = 16;

/// One layer's place in the journal, ours alone until it is dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    store: StateStore,
    name: String,
    lock: Option<StateLock>,
    every: Duration,
    registry: String,
    repository: String,
    layer: String,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    registry: String,
    repository: String,
    layer: String,
    upload: String,
    /// Offsets, each with the state of the hash there.
    checkpoints: Vec<(u64, String)>,
}

impl Journal {
    /// The place of `layer` on its way to a repository; `None` where there is no directory for it, where another process
    /// has it, or where the layer's files are too new.
    pub(crate) fn open(
        options: &RegistryOptions,
        registry: &str,
        repository: &str,
        layer: &VirtualLayer,
    ) -> Option<Self> {
        let store = StateStore::new(options.root.as_deref()?, "uploads");
        if !is_settled(layer, SystemTime::now()) {
            return None;
        }
        drop(store.prune(WEEK));
        let layer = layer_identity(layer, Compression::None);
        let digest = Hasher::digest(format!("{registry}\n{repository}\n{layer}").as_bytes());
        let name = format!("{}.json", digest.digest());
        let lock = Some(store.lock(&name)?);
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Some(Self { store, name, lock, every: options.journal_every, registry, repository, layer })
    }

    /// The upload that an earlier process left behind.
    pub(crate) fn recall(&self) -> Option<Partial> {
        let entry: Entry = serde_json::from_slice(&self.store.read(&self.name)?).ok()?;
        let ours = entry.version == 1
            && (&entry.registry, &entry.repository, &entry.layer)
                == (&self.registry, &self.repository, &self.layer);
        if !ours {
            return None;
        }
        let checkpoints = Checkpoints::default();
        for (offset, state) in &entry.checkpoints {
            checkpoints.keep(Checkpoint::from_state(*offset, &STANDARD.decode(state).ok()?)?);
        }
        Some(Partial { upload: Url::parse(&entry.upload).ok()?, offset: 0, unsure: false, checkpoints })
    }

    /// Writes how far the layer is, until it is dropped. The pauses double: what is written stays a few kilobytes for a
    /// layer of any size, and bytes that the registry has beyond the last note are hashed again but not sent again.
    pub(crate) async fn keep(&self, upload: &Mutex<Url>, checkpoints: &Checkpoints) {
        let mut pause = self.every;
        loop {
            tokio::time::sleep(pause).await;
            pause *= 2;
            let entry = Entry {
                version: 1,
                registry: self.registry.clone(),
                repository: self.repository.clone(),
                layer: self.layer.clone(),
                upload: lock(upload).to_string(),
                checkpoints: checkpoints
                    .last(CHECKPOINTS)
                    .iter()
                    .map(|c| (c.offset(), STANDARD.encode(c.state())))
                    .collect(),
            };
            // Some kilobytes, and never after `remove`: so not on another thread.
            if let Err(error) = self.store.write(&self.name, &crossdock_storage::canonical_json(&entry)) {
                tracing::warn!(%error, "the push goes on, but cannot be continued if it is killed");
                return std::future::pending().await;
            }
        }
    }

    /// Forgets the upload: it is a blob, or it is gone.
    pub(crate) fn remove(&self) {
        self.store.remove(&self.name);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            self.store.unlock(&self.name, lock);
        }
    }
}
