//! The parts of an image, and `ImageSource`: where a base image comes from.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde::{Deserialize, Serialize};

use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::layer::VirtualLayer;
use crate::manifest_entry::{EntryPlatform, ManifestEntry};
use crate::parallel::blocking;
use crate::platform::Platform;
use crate::source::FileState;

/// A digested layer: its descriptor as the manifest lists it, and its diff ID as the config does.
///
/// Made by [`LayerReader::finish`](crate::LayerReader::finish) alone, or read from a memo whose fences hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// Media type, digest and size of the stored blob.
    pub descriptor: Descriptor,
    /// The digest of the uncompressed tar.
    pub diff_id: DiffId,
}

impl Layer {
    /// Whether the stored blob is the tar itself.
    #[must_use]
    pub fn is_uncompressed(&self) -> bool {
        self.descriptor.digest() == self.diff_id.as_digest()
    }

    /// Whether the blob is [kept by its URLs](is_foreign).
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        is_foreign(&self.descriptor)
    }

    /// The SHA-256 of its only file's bytes, where they were hashed by themselves.
    #[must_use]
    pub fn content_digest(&self) -> Option<Digest> {
        self.descriptor.annotations().as_ref()?.get(CONTENT_DIGEST)?.parse().ok()
    }

    /// Whether the blob is stored as `compression` says. A docker-archive, for one, has no compressed layers, whatever was
    /// asked for.
    #[must_use]
    pub fn is_stored_as(&self, compression: Compression) -> bool {
        self.is_uncompressed() == (compression == Compression::None)
    }
}

/// The annotation of a layer that has the SHA-256 of its only file's bytes. [`LayerReader`](crate::LayerReader) writes it where
/// that was asked for, so that it is remembered and recorded with the layer's own digests; olot and what reads its images know it
/// by this name.
pub const CONTENT_DIGEST: &str = "olot.layer.content.digest";

/// Whether a layer is one that its licence keeps from being distributed, and that whoever needs it fetches from the URLs of
/// its descriptor ("foreign" with Docker, "non-distributable" in the OCI image-spec). No registry, layout or directory has
/// to have it, and nobody sends it anywhere.
#[must_use]
pub fn is_foreign(layer: &Descriptor) -> bool {
    let named = match layer.media_type() {
        MediaType::ImageLayerNonDistributable
        | MediaType::ImageLayerNonDistributableGzip
        | MediaType::ImageLayerNonDistributableZstd => true,
        MediaType::Other(name) => name.starts_with("application/vnd.docker.image.rootfs.foreign.diff.tar"),
        _ => false,
    };
    named && layer.urls().as_ref().is_some_and(|urls| !urls.is_empty())
}

/// Whether a manifest's config is that of an image, and not an artifact's.
#[must_use]
pub fn is_config(config: &Descriptor) -> bool {
    match config.media_type() {
        MediaType::ImageConfig => true,
        other => other.as_ref() == "application/vnd.docker.container.image.v1+json",
    }
}

/// A repository on a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RepositoryName {
    /// Host, and port where one is given.
    pub registry: String,
    /// The repository's path on it.
    pub repository: String,
}

/// An image of one platform, as its source describes it.
#[derive(Debug, Clone)]
pub struct ResolvedImage {
    /// The manifest's descriptor: media type, digest and size of the bytes as they came.
    pub descriptor: Descriptor,
    /// The manifest; Docker's schema 2 has the same fields.
    pub manifest: ImageManifest,
    /// The config.
    pub config: ImageConfig,
    /// The manifest's bytes as they came.
    pub manifest_bytes: Bytes,
    /// The config's bytes as they came.
    pub config_bytes: Bytes,
}

impl ResolvedImage {
    /// The warning that the image is for another platform than the one that is wanted, in buildah's words. The image is
    /// taken all the same, as buildah does: it is all that there is under its name, and many images say nothing true of
    /// their platform.
    #[must_use]
    pub fn platform_warning(&self, wanted: &Platform, name: &str) -> Option<String> {
        let is = self.config.platform().filter(|is| !wanted.accepts(is))?;
        Some(format!(
            "image platform ({is}) does not match the expected platform ({wanted}): {name} is used as it is"
        ))
    }

    /// The same image, where the entry of an index led to it that says what the image is for: that counts where the config
    /// does not say it, as many configs have no variant. The bytes of the config stay as they are.
    #[must_use]
    pub fn listed_as(mut self, said: Option<&EntryPlatform>) -> Self {
        if let Some(said) = said {
            self.config.complete(said);
        }
        self
    }

    /// The layers from the bottom up; `name` stands for the image in errors.
    ///
    /// # Errors
    /// [`Error::Unusable`] where manifest and config do not have the same number of layers.
    pub fn layers(&self, name: &str) -> Result<Vec<Layer>> {
        let (descriptors, diff_ids) = (self.manifest.layers(), &self.config.rootfs.diff_ids);
        if descriptors.len() != diff_ids.len() {
            return Err(Error::Unusable(format!(
                "{name}: its manifest has {} layers and its config {}; the image is damaged",
                descriptors.len(),
                diff_ids.len()
            )));
        }
        let layers = descriptors.iter().cloned().zip(diff_ids.iter().cloned());
        Ok(layers.map(|(descriptor, diff_id)| Layer { descriptor, diff_id }).collect())
    }
}

/// Where the bytes of a layer are that has its digests.
#[derive(Debug, Clone)]
pub enum LayerOrigin {
    /// In a blob of this source.
    Blob(Arc<dyn ImageSource>),
    /// In the files that it was made of.
    Files {
        /// Its bytes.
        layer: VirtualLayer,
        /// How it is stored.
        compression: Compression,
        /// Whether the files' change times are those that they had when it was digested.
        state: FileState,
    },
}

/// The bytes of a blob as they arrive.
pub type BlobStream = Pin<Box<dyn Stream<Item = Result<Bytes>> + Send>>;

/// Where a base image comes from: a registry's repository or an OCI layout.
#[async_trait]
pub trait ImageSource: Send + Sync + fmt::Debug {
    /// What the source is, as a user writes it: `registry/repository:tag`, `oci:DIR:ref`.
    fn name(&self) -> String;

    /// The name of the image in full, as other programs know it: with its registry, and its tag or digest. `None` where it
    /// has none, as in a layout.
    fn image_name(&self) -> Option<String>;

    /// The name by which another process finds the blobs: with its transport, and without what depends on the working
    /// directory.
    fn locator(&self) -> String;

    /// Where the bytes of one of the image's layers are, if not in a blob of this source.
    fn origin(&self, layer: &Descriptor) -> Option<LayerOrigin> {
        let _ = layer;
        None
    }

    /// The repository, where the source is a registry: what a sink on the same registry mounts blobs from.
    fn repository(&self) -> Option<RepositoryName> {
        None
    }

    /// The entries of the index, where the name stands for one.
    async fn index(&self) -> Result<Option<Vec<ManifestEntry>>> {
        Ok(None)
    }

    /// What an image of the index is for, by its config; `None` where that does not say it either, or is none of an image.
    async fn platform_of(&self, entry: &ManifestEntry) -> Result<Option<EntryPlatform>> {
        let _ = entry;
        Ok(None)
    }

    /// Reads manifest and config of the image for `platform`, through an index where there is one; checks their
    /// digests.
    async fn resolve(&self, platform: &Platform) -> Result<ResolvedImage>;

    /// The same of an image that stands in a list elsewhere: what the list says counts where the config does not say it.
    async fn resolve_listed(&self, said: &EntryPlatform, platform: &Platform) -> Result<ResolvedImage> {
        Ok(self.resolve(platform).await?.listed_as(Some(said)))
    }

    /// The bytes of a blob from `offset` on, not verified: see [`VerifiedStream`].
    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream>;
}

/// Longer chunks are hashed on a blocking thread.
const SHORT: usize = 64 << 10;

/// A whole blob's bytes on their way through, checked against the descriptor: the stream ends with an error where
/// digest or size are other than announced.
pub struct VerifiedStream(BlobStream);

/// A blob that is being checked.
struct Verifying {
    inner: BlobStream,
    hasher: Hasher,
    what: String,
    expected: Digest,
    size: u64,
    seen: u64,
}

impl VerifiedStream {
    /// Checks `inner`, which must begin at offset 0, against `blob`; `what` names it in errors.
    #[must_use]
    pub fn new(inner: BlobStream, blob: &Descriptor, what: impl Into<String>) -> Self {
        let verifying = Verifying {
            inner,
            hasher: Hasher::new(),
            what: what.into(),
            expected: blob.digest().clone(),
            size: blob.size(),
            seen: 0,
        };
        Self(Box::pin(stream::try_unfold(verifying, Verifying::next)))
    }
}

impl Verifying {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>> {
        let Some(chunk) = self.inner.next().await.transpose()? else { return self.end().map(|()| None) };
        self.seen += chunk.len() as u64;
        if self.seen > self.size {
            return Err(self.other_size());
        }
        if chunk.len() <= SHORT {
            self.hasher.update(&chunk);
        } else {
            let (mut hasher, bytes) = (self.hasher, chunk.clone());
            self.hasher = blocking(move || {
                hasher.update(&bytes);
                hasher
            })
            .await;
        }
        Ok(Some((chunk, self)))
    }

    fn end(self) -> Result<()> {
        if self.seen != self.size {
            return Err(self.other_size());
        }
        let (what, expected, actual) = (self.what, self.expected, self.hasher.finish());
        if actual == expected { Ok(()) } else { Err(Error::DigestMismatch { what, expected, actual }) }
    }

    fn other_size(&self) -> Error {
        Error::SizeMismatch { what: self.what.clone(), expected: self.size, actual: self.seen }
    }
}

impl Stream for VerifiedStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.as_mut().poll_next(cx)
    }
}

impl fmt::Debug for VerifiedStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedStream").finish_non_exhaustive()
    }
}
