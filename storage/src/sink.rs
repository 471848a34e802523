//! `ImageSink`: where an image goes. Blobs in any order and in parallel, the manifest last.

use std::fmt;

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec::image::Descriptor;

use crate::digest::DiffId;
use crate::encode::{Compression, ManifestFormat};
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer};
use crate::layer::VirtualLayer;
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::ReadOptions;

/// A layer of the image that this build makes, not yet digested unless it is remembered.
#[derive(Debug, Clone)]
pub struct NewLayer {
    /// What it holds, in the words of the summary: the one file, or the instruction.
    pub title: String,
    /// Its bytes.
    pub layer: VirtualLayer,
    /// How it is stored.
    pub compression: Compression,
    /// Its digest from an earlier build, where the fences of all its files still hold.
    pub known: Option<Layer>,
}

impl NewLayer {
    /// Reads the layer for its digests alone, on a blocking thread.
    ///
    /// # Errors
    /// See [`LayerReader`](crate::LayerReader).
    pub async fn digest(&self, read: &ReadOptions, watch: &LayerWatch) -> Result<Layer> {
        crate::hash::hash_layer(self.layer.clone(), self.compression, read.clone(), watch.clone()).await
    }

    /// Whether the layer came out as it was known: documents that are written already name it.
    ///
    /// # Errors
    /// [`Error::Altered`].
    pub fn check(&self, digested: &Layer) -> Result<()> {
        self.known.as_ref().map_or(Ok(()), |known| self.compare(known, digested))
    }

    /// As [`check`](Self::check), with what is known from somewhere else.
    ///
    /// # Errors
    /// [`Error::Altered`].
    pub fn compare(&self, known: &Layer, digested: &Layer) -> Result<()> {
        let (expected, actual) = (known.descriptor.digest(), digested.descriptor.digest());
        // A docker-archive has no compressed layers, whatever they were.
        let another_form = digested.is_uncompressed() && !known.is_uncompressed();
        if known.diff_id == digested.diff_id && (expected == actual || another_form) {
            return Ok(());
        }
        let what = self.layer.described(&self.title);
        Err(Error::Altered { what, expected: Box::new(expected.clone()), actual: Box::new(actual.clone()) })
    }
}

/// What a sink may want to know before the first blob.
#[derive(Debug, Clone, Default)]
pub struct SinkPlan {
    /// The new layers.
    pub new_layers: Vec<PlannedLayer>,
    /// Layers taken over from the base.
    pub base_layers: Vec<Descriptor>,
    /// Bytes of the manifest's annotations, as the JSON that they are written as.
    pub annotations: u64,
    /// How the manifest will be written.
    pub format: ManifestFormat,
}

/// A new layer before it is read.
#[derive(Debug, Clone, Default)]
pub struct PlannedLayer {
    /// What it holds, as [`NewLayer::title`].
    pub title: String,
    /// Its length in bytes, uncompressed.
    pub bytes: u64,
    /// How it is stored: what is compressed has a size that nobody knows yet.
    pub compression: Compression,
}

/// Why an image comes to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Abort {
    /// Something went wrong. What the same command can go on with may stay.
    Failed,
    /// A signal, and little time: what the same command can go on with is noted first, and may stay.
    Interrupted,
}

/// Where an image goes.
///
/// The caller calls `prepare` once for each image, then puts blobs (several at a time), then `commit`; on any error it
/// calls `abort` and not `commit`. Of an image index the manifests are put before it is committed. A sink leaves nothing
/// behind after `abort`, but for blobs in a registry, which no manifest names and which the registry collects, and for
/// what [`Abort`] allows.
#[async_trait]
pub trait ImageSink: Send + Sync + fmt::Debug {
    /// What the sink is, as a user writes it.
    fn name(&self) -> String;

    /// How many blobs may be put at the same time; `None` for as many as the caller likes.
    fn max_parallel(&self) -> Option<usize> {
        None
    }

    /// Finds out whether there may be written at all, before there is a plan: a credential that is missing should not
    /// show only when a large context has been looked through. A caller need not ask; `prepare` does then.
    async fn admit(&self) -> Result<()> {
        Ok(())
    }

    /// Whether `take_blob` may be called once the sink has admitted, before `prepare`: where a blob that no image comes
    /// of does no harm.
    fn takes_ahead(&self) -> bool {
        false
    }

    /// Whether an image may come here without its [foreign](crate::is_foreign) layers.
    fn leaves_foreign(&self) -> bool {
        true
    }

    /// What would happen to a blob here; `None` for one whose digest is not known before it is read. The destination is
    /// asked, and nothing is written to it.
    async fn foresee(&self, blob: Option<&Descriptor>, from: Option<&dyn ImageSource>) -> Result<Outcome>;

    /// What is most likely not as it was meant of an image that comes here, such as a layer beyond what the destination
    /// is known to take. Nothing is written; the destination is asked what it is only where that may matter.
    ///
    /// # Errors
    /// Where the destination is known to refuse the image.
    async fn warnings(&self, _plan: &SinkPlan) -> Result<Vec<String>> {
        Ok(Vec::new())
    }

    /// Looks at the destination before any layer byte is read: does it answer, may we write.
    async fn prepare(&self, plan: &SinkPlan) -> Result<()>;

    /// Stores a new layer. Where its digest is known and the sink has the blob, no byte is read.
    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)>;

    /// Takes over a blob that another source has, verified on the way.
    async fn take_blob(
        &self,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome>;

    /// Stores the config.
    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome>;

    /// Stores the manifest of one image of an index, whose blobs are all there; no tag moves.
    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()>;

    /// Stores the manifest, or the index whose manifests are all there, and moves the tags: the last step, after which
    /// the image is there.
    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()>;

    /// Removes what was stored half. The futures of blobs that were on their way are dropped by then.
    async fn abort(&self, why: Abort);
}

/// Stores nothing: layers are read once for their digests. What a build without a destination does.
#[derive(Debug, Clone, Copy, Default)]
pub struct DigestSink;

#[async_trait]
impl ImageSink for DigestSink {
    fn name(&self) -> String {
        "no destination".to_owned()
    }

    async fn foresee(&self, _blob: Option<&Descriptor>, _from: Option<&dyn ImageSource>) -> Result<Outcome> {
        Ok(Outcome::Digested)
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        Ok(())
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        let digested = match &layer.known {
            Some(known) => known.clone(),
            None => {
                watch.phase(Phase::Hashing);
                layer.digest(read, watch).await?
            }
        };
        watch.finished(&Outcome::Digested, &digested.descriptor);
        Ok((digested, Outcome::Digested))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        _diff_id: Option<&DiffId>,
        _from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        watch.finished(&Outcome::Digested, blob);
        Ok(Outcome::Digested)
    }

    async fn put_config(&self, _config: &Descriptor, _bytes: Bytes) -> Result<Outcome> {
        Ok(Outcome::Digested)
    }

    async fn put_manifest(&self, _manifest: &Descriptor, _bytes: Bytes) -> Result<()> {
        Ok(())
    }

    async fn commit(&self, _manifest: &Descriptor, _bytes: Bytes) -> Result<(), Error> {
        Ok(())
    }

    async fn abort(&self, _why: Abort) {}
}
