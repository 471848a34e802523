//! The largest body that a proxy before a registry takes. It is learnt from its 413: blobs then go in chunks, half as large
//! each time that is still too much. What was learnt is kept below the root directory for a week, as the limit may be
//! raised.

use std::sync::Mutex;
use std::time::Duration;

use crossdock_storage::{StateStore, canonical_json};
use serde::{Deserialize, Serialize};

use crate::client::{RegistryOptions, lock};
use crate::profile::UploadStyle;

/// Chunks are never smaller than this many bytes: a limit below it is a mistake that is better mended than gone along with.
pub(crate) const SMALLEST: u64 = 64 << 10;

/// How to raise the limit, as a part of an error.
pub(crate) const RAISE: &str = "raise the limit of the proxy (client_max_body_size in nginx, the annotation \
                                nginx.ingress.kubernetes.io/proxy-body-size of an Ingress), or push past the proxy";

/// For how long a limit is remembered.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// What is known of the limit before one registry.
#[derive(Debug)]
pub(crate) struct BodyLimit {
    registry: String,
    /// `None` where there is no root directory.
    store: Option<StateStore>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Whether the store was looked into.
    recalled: bool,
    /// Bytes of the chunks that go through, as far as is known; `None` where no limit is known.
    chunk: Option<u64>,
    /// Whether it was said, and kept.
    told: bool,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    chunk: u64,
}

impl BodyLimit {
    pub(crate) fn new(options: &RegistryOptions, registry: &str) -> Self {
        let store = options.root.as_deref().map(|root| StateStore::new(root, "limits"));
        Self { registry: registry.to_owned(), store, known: Mutex::default() }
    }

    /// Bytes of a chunk, where bodies as large as they come are known to be refused.
    pub(crate) fn chunk(&self) -> Option<u64> {
        let mut known = lock(&self.known);
        if !known.recalled {
            known.recalled = true;
            known.chunk = self.recall();
        }
        known.chunk
    }

    /// Takes note that a body of so many bytes was refused. Gives the chunks to send from here on; `None` where smaller ones
    /// are not worth while.
    pub(crate) fn refused(&self, bytes: u64, style: UploadStyle) -> Option<u64> {
        let first = match style {
            UploadStyle::Chunked { size } => size,
            _ => UploadStyle::CHUNK,
        };
        let mut known = lock(&self.known);
        let mut chunk = known.chunk.unwrap_or(first);
        // Another layer may have met the limit meanwhile, and learnt more.
        while chunk >= bytes && chunk > SMALLEST {
            chunk = (chunk / 2).max(SMALLEST);
        }
        if chunk >= bytes || chunk < SMALLEST {
            return None;
        }
        if known.chunk != Some(chunk) {
            known.told = false;
        }
        (known.chunk, known.recalled) = (Some(chunk), true);
        Some(chunk)
    }

    /// A chunk went through: says so, once for each size, and keeps it for the next pushes.
    pub(crate) fn held(&self) {
        let mut known = lock(&self.known);
        let Some(chunk) = known.chunk.filter(|_| !known.told) else { return };
        known.told = true;
        drop(known);
        tracing::warn!(
            "{}: a proxy before it refuses larger requests (413), so blobs go in chunks of {} KiB; to send them whole, raise \
             its limit (client_max_body_size in nginx)",
            self.registry,
            chunk >> 10
        );
        if let Some(store) = self.store.as_ref().filter(|_| self.recall() != Some(chunk))
            && let Err(error) = store.write(&self.name(), &canonical_json(&Kept { chunk }))
        {
            tracing::debug!(%error, "the limit of this host is not remembered");
        }
    }

    fn recall(&self) -> Option<u64> {
        let store = self.store.as_ref()?;
        drop(store.prune(WEEK));
        let kept: Kept = serde_json::from_slice(&store.read(&self.name())?).ok()?;
        (kept.chunk >= SMALLEST).then_some(kept.chunk)
    }

    fn name(&self) -> String {
        format!("{}.json", self.registry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(root: Option<&std::path::Path>) -> BodyLimit {
        let options =
            RegistryOptions { root: root.map(std::path::Path::to_path_buf), ..RegistryOptions::default() };
        BodyLimit::new(&options, "registry.example:5000")
    }

    #[test]
    fn chunks_are_halved_until_they_fit_or_are_not_worth_while() {
        let limit = new(None);
        let stream = UploadStyle::Stream { with_length: true };
        assert_eq!(limit.chunk(), None);
        assert_eq!(limit.refused(10 << 30, stream), Some(100 << 20));
        // Two more layers that were on their way already.
        assert_eq!(limit.refused(20 << 30, stream), Some(100 << 20));
        assert_eq!(limit.refused(100 << 20, stream), Some(50 << 20));
        assert_eq!(limit.refused(100 << 20, stream), Some(50 << 20));
        let mut chunk = limit.chunk().unwrap();
        while let Some(next) = limit.refused(chunk, UploadStyle::Chunked { size: chunk }) {
            assert_eq!(next, (chunk / 2).max(SMALLEST));
            chunk = next;
        }
        assert_eq!(chunk, SMALLEST, "the smallest is tried, too");
        // A size that was asked for is where it begins.
        let limit = new(None);
        assert_eq!(limit.refused(8 << 20, UploadStyle::Chunked { size: 8 << 20 }), Some(4 << 20));
        assert_eq!(limit.refused(3 << 20, UploadStyle::Chunked { size: 8 << 20 }), Some(2 << 20));
        assert_eq!(limit.refused(100, stream), None);
    }

    #[test]
    fn what_went_through_is_remembered() {
        let root = tempfile::tempdir().unwrap();
        let first = new(Some(root.path()));
        first.refused(30 << 20, UploadStyle::Stream { with_length: true });
        assert_eq!(new(Some(root.path())).chunk(), None, "nothing went through yet");
        first.held();
        assert_eq!(new(Some(root.path())).chunk(), Some(25 << 20));
        assert_eq!(new(None).chunk(), None);
    }
}
