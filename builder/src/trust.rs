//! Layers whose digest is taken from an image elsewhere, because somebody says that it is to be trusted: docs/records.md has the
//! rule. The image's manifest says by a key which layer is which; whoever can push it can lie.

use std::fmt;
use std::sync::Arc;

use crossdock_storage::{
    Cancel, Compression, Descriptor, Error, ImageSink, ImageSource, Layer, LayerKey, LayerWatch, NewLayer,
    Outcome, Phase, ResolvedImage, Result, VirtualLayer, blocking, check_archive,
};

/// Layers of images that are trusted.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    layers: Vec<TrustedLayer>,
    check: bool,
}

/// A layer that a manifest has a key for.
#[derive(Debug, Clone)]
struct TrustedLayer {
    key: LayerKey,
    layer: Layer,
    from: Arc<dyn ImageSource>,
}

/// Where the digest of a layer is from that was trusted.
#[derive(Clone)]
pub struct Trusted {
    /// The image.
    pub from: Arc<dyn ImageSource>,
    /// Bytes of the layer's archive, not one of which was read from its files.
    pub bytes: u64,
}

impl fmt::Debug for Trusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trusted").field("from", &self.from.name()).field("bytes", &self.bytes).finish()
    }
}

impl Trust {
    /// No layer yet. With `check`, each layer that is taken is read from where it is, and its digest and headers compared.
    #[must_use]
    pub const fn new(check: bool) -> Self {
        Self { layers: Vec::new(), check }
    }

    /// Trusts the layers of an image that `from` has; says how many of them have a key.
    ///
    /// # Errors
    /// [`Error::Unusable`] where manifest and config do not fit.
    pub fn add(&mut self, from: &Arc<dyn ImageSource>, image: &ResolvedImage) -> Result<usize> {
        let before = self.layers.len();
        for layer in image.layers(&from.name())? {
            let Some(key) = LayerKey::said(layer.descriptor.annotations().iter().flatten()) else { continue };
            self.layers.push(TrustedLayer { key, layer, from: Arc::clone(from) });
        }
        Ok(self.layers.len() - before)
    }

    /// The layer that has the key of `layer`, as far as its size and its form can be told to be right.
    fn find(&self, key: &LayerKey, layer: &VirtualLayer, compression: Compression) -> Option<&TrustedLayer> {
        self.layers.iter().find(|trusted| {
            let descriptor = &trusted.layer.descriptor;
            let sized = compression != Compression::None || descriptor.size() == layer.len();
            trusted.key.may_be(key)
                && sized
                && trusted.layer.is_stored_as(compression)
                && *descriptor.media_type() == compression.media_type()
        })
    }

    /// As [`find`](Self::find), where the key is not known yet.
    async fn find_for(&self, layer: &VirtualLayer, compression: Compression) -> Option<&TrustedLayer> {
        if self.layers.is_empty() {
            return None;
        }
        let files = layer.clone();
        let key = blocking(move || LayerKey::of(&files, compression)).await?;
        self.find(&key, layer, compression)
    }

    /// What a sink has of a layer that is trusted: nothing is written to it.
    pub(crate) async fn foresee(
        &self,
        layer: &VirtualLayer,
        compression: Compression,
        sink: &dyn ImageSink,
    ) -> Result<Option<(Layer, Outcome)>> {
        let Some(trusted) = self.find_for(layer, compression).await else { return Ok(None) };
        let descriptor = &trusted.layer.descriptor;
        let outcome = sink.foresee(Some(descriptor), Some(&*trusted.from)).await?;
        let there = matches!(outcome, Outcome::Present | Outcome::Mounted { .. });
        Ok(there.then(|| (trusted.layer.clone(), outcome)))
    }

    /// Takes the digest of a layer from an image that has its key, where the destination has the blob or its registry lets it be
    /// mounted. `None` where there is no such layer: it is read then, as any other.
    pub(crate) async fn take(
        &self,
        new: &NewLayer,
        sink: &dyn ImageSink,
        cancel: &Cancel,
        watch: &LayerWatch,
    ) -> Result<Option<(Layer, Outcome, Trusted)>> {
        let Some(trusted) = self.find_for(&new.layer, new.compression).await else { return Ok(None) };
        let TrustedLayer { layer, from, .. } = trusted;
        let was = &layer.descriptor;
        // What else is said of the blob is the other manifest's.
        let blob = Descriptor::new(was.media_type().clone(), was.size(), was.digest().clone());
        match sink.foresee(Some(&blob), Some(&**from)).await? {
            Outcome::Present | Outcome::Mounted { .. } => {}
            _ => return Ok(None),
        }
        // The key is that of the files as the plan found them.
        let _ = new.layer.check_files().await?;
        if self.check {
            watch.phase(Phase::Verifying);
            let title = new.title.trim();
            cancel.or(check_archive(&**from, layer, &new.layer, watch)).await.map_err(
                |error| match error {
                    Error::Unusable(reason) => Error::Unusable(format!("layer {title}: {reason}")),
                    error => error,
                },
            )?;
        }
        let outcome = sink.take_blob(&blob, Some(&layer.diff_id), &**from, watch).await?;
        let trusted = Trusted { from: Arc::clone(from), bytes: new.layer.len() };
        Ok(Some((Layer { descriptor: blob, diff_id: layer.diff_id.clone() }, outcome, trusted)))
    }
}
