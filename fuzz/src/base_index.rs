//! A layer of a base image, from its stored bytes to the tree that a COPY is planned upon.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_builder::{Ahead, FileTree, base_tree};
use crossdock_storage::{
    BlobStream, Descriptor, Detail, DiffId, Error, Hasher, ImageSource, IndexKind, IndexStore, Layer,
    LayerIndex, LayerWatch, MediaType, Platform, ResolvedImage, Result,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::packing;

/// The longest path, and the longest target of a link, that an index takes.
const MAX_PATH: usize = 4096;

/// Indexes layers.
pub struct Layers {
    runtime: Runtime,
    root: TempDir,
}

impl Layers {
    pub fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build();
        Self { runtime: runtime.expect("a runtime"), root: TempDir::new().expect("a directory") }
    }

    /// Indexes the layer that `input` stands for, twice: the two must agree, within the limits that are documented, and
    /// with what the store gives back. Then an image of the layer and the layer again becomes a tree.
    pub fn run(&self, input: &[u8]) {
        let Some(blob) = packing::stored(input) else { return };
        let descriptor = Descriptor::new(MediaType::ImageLayer, blob.len() as u64, Hasher::digest(&blob));
        let source: Arc<dyn ImageSource> = Arc::new(Blob(blob.into()));
        let read = |diff_id: DiffId, detail| {
            let layer = Layer { descriptor: descriptor.clone(), diff_id };
            self.runtime.block_on(LayerIndex::read(&*source, &layer, detail, &LayerWatch::silent()))
        };
        // Nobody knows the diff ID yet; a layer in which nothing else is wrong tells it.
        let wrong = DiffId::of_tar(Hasher::digest(b"nobody has this"));
        let diff_id = match read(wrong.clone(), Detail::Names) {
            Ok(_) => panic!("a layer with a wrong diff ID was taken"),
            Err(Error::DigestMismatch { expected, actual, .. }) if expected == *wrong.as_digest() => {
                DiffId::of_tar(actual)
            }
            Err(error) => return told(&error),
        };
        let names = read(diff_id.clone(), Detail::Names).expect("it was read before");
        let contents = match read(diff_id.clone(), Detail::Contents) {
            // Who takes files out fills the holes of sparse ones, and that has a limit of its own.
            Err(error @ Error::Limit { .. }) if names.entries.iter().any(|entry| entry.pieces.is_some()) => {
                return told(&error);
            }
            contents => contents.expect("it was read before"),
        };
        assert!(contents.has(Detail::Contents));
        let mut without = contents.clone();
        for (entry, named) in without.entries.iter_mut().zip(&names.entries) {
            entry.digest.clone_from(&named.digest);
            for (piece, named) in entry.pieces.iter_mut().flatten().zip(named.pieces.iter().flatten()) {
                piece.digest.clone_from(&named.digest);
            }
        }
        assert_eq!(without, names, "how much is asked for changes what there is");
        for entry in &contents.entries {
            assert!(entry.path.as_bytes().len() <= MAX_PATH && entry.mode <= 0o7777, "{entry:?}");
            match &entry.kind {
                IndexKind::Symlink(target) => assert!(target.len() <= MAX_PATH),
                IndexKind::HardLink(target) => assert!(target.as_bytes().len() <= MAX_PATH),
                IndexKind::File(_) => {}
                _ => assert!(entry.offset.is_none() && entry.content.is_none(), "{entry:?}"),
            }
        }
        let store = IndexStore::new(self.root.path());
        store.remember(&diff_id, &contents).expect("it can be written");
        assert_eq!(store.recall(&diff_id).as_ref(), Some(&contents), "what is remembered is what was read");
        self.tree(&source, &descriptor, &diff_id, &store);
    }

    fn tree(&self, source: &Arc<dyn ImageSource>, layer: &Descriptor, diff_id: &DiffId, store: &IndexStore) {
        let descriptor = json!({"mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": layer.digest(), "size": 2});
        let manifest = json!({"schemaVersion": 2, "config": descriptor, "layers": [layer, layer]});
        let config = json!({"rootfs": {"type": "layers", "diff_ids": [diff_id, diff_id]}});
        let image = ResolvedImage {
            descriptor: serde_json::from_value(descriptor).expect("a descriptor"),
            manifest: serde_json::from_value(manifest).expect("a manifest"),
            config: serde_json::from_value(config).expect("a config"),
            manifest_bytes: Bytes::new(),
            config_bytes: Bytes::new(),
        };
        let tree = |store| {
            let tree =
                self.runtime.block_on(base_tree(source, &image, Detail::Contents, store, &Ahead::nowhere()));
            tree.unwrap_or_else(|error| panic!("{error}: {error:?}"))
        };
        let fresh: FileTree = tree(None);
        assert_eq!(fresh.root(), tree(Some(store)).root(), "the remembered index gives the same tree");
        let index = store.recall(diff_id).expect("it was remembered");
        for entry in &index.entries {
            // A link may lead to nothing or in a circle; it must come to an end.
            if let Ok(found) = fresh.lookup(&entry.path, true) {
                assert!(found.path.as_bytes().len() <= MAX_PATH, "{found:?}");
            }
        }
    }
}

/// An error can be told, with all that is behind it.
pub(crate) fn told(error: &(dyn std::error::Error + 'static)) {
    let mut next = Some(error);
    while let Some(error) = next {
        assert!(!error.to_string().is_empty());
        next = error.source();
    }
}

/// An image of one layer.
#[derive(Debug)]
struct Blob(Bytes);

#[async_trait]
impl ImageSource for Blob {
    fn name(&self) -> String {
        "fuzz.example/base:1".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage> {
        unreachable!("only the blob is asked for")
    }

    async fn blob(&self, _blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        assert_eq!(offset, 0, "a layer is indexed from its beginning");
        let chunks: Vec<_> = self.0.chunks(16 << 10).map(|chunk| Ok(self.0.slice_ref(chunk))).collect();
        Ok(Box::pin(futures_util::stream::iter(chunks)))
    }
}
