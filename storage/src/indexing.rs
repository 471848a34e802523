//! A layer that is indexed as its stored bytes come by: from a stream of its own, or on their way to a destination.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_spec::image::Descriptor;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;

use crate::decode;
use crate::delegate::Delegate;
use crate::error::{Error, Result};
use crate::image::{BlobStream, ImageSource, Layer};
use crate::index::{Detail, LayerIndex, read_layer};

/// Takes a layer's bytes in order. The tar is read, and its diff ID verified, on a blocking thread.
pub(crate) struct Indexing {
    what: String,
    sender: mpsc::Sender<Result<Bytes>>,
    reading: JoinHandle<Result<LayerIndex>>,
    taken: u64,
}

impl Indexing {
    /// Begins with the first byte of `layer`, which `source` has.
    pub(crate) fn begin(source: &dyn ImageSource, layer: &Layer, detail: Detail) -> Self {
        let what = format!("layer {} of {}", layer.descriptor.digest(), source.name());
        let (sender, receiver) = decode::channel();
        let (diff_id, stored, named) = (layer.diff_id.clone(), layer.descriptor.size(), what.clone());
        let reading = tokio::task::spawn_blocking(move || {
            let archive = decode::decoder(receiver, stored, &named)?;
            read_layer(archive, detail, stored, &diff_id, &named)
        });
        Self { what, sender, reading, taken: 0 }
    }

    /// The layer's name in errors.
    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    /// Bytes that were taken.
    pub(crate) const fn taken(&self) -> u64 {
        self.taken
    }

    /// Takes the next bytes; `false` where no more are wanted, as the layer is none that can be used. What is given up
    /// on the way has taken nothing: an upload that breaks may drop it at any time.
    pub(crate) async fn take(&mut self, chunk: Bytes) -> bool {
        let len = chunk.len() as u64;
        let wanted = self.sender.send(Ok(chunk)).await.is_ok();
        self.taken += len;
        wanted
    }

    /// The index, after the last byte.
    pub(crate) async fn finish(self) -> Result<LayerIndex> {
        drop(self.sender);
        self.reading.await.map_err(|_| Error::Interrupted)?
    }
}

/// A source of which one layer is indexed while somebody reads it for another purpose: it crosses the network once.
///
/// Who reads may begin again, or go on somewhere, as often as need be.
pub struct IndexedSource {
    inner: Arc<dyn ImageSource>,
    layer: Layer,
    detail: Detail,
    /// `None` before the first byte, and once some were read past it.
    indexing: Arc<Mutex<Option<Indexing>>>,
}

impl IndexedSource {
    /// `layer` of `inner`, not yet read.
    #[must_use]
    pub fn new(inner: Arc<dyn ImageSource>, layer: Layer, detail: Detail) -> Self {
        Self { inner, layer, detail, indexing: Arc::default() }
    }

    /// The layer's index, where all of its bytes were read.
    ///
    /// # Errors
    /// As [`LayerIndex::read`]; the digest of the stored bytes is verified by none but who read them.
    pub async fn index(&self) -> Result<Option<LayerIndex>> {
        match self.indexing.lock().await.take() {
            Some(indexing) if indexing.taken == self.layer.descriptor.size() => {
                indexing.finish().await.map(Some)
            }
            _ => Ok(None),
        }
    }
}

#[async_trait]
impl Delegate for IndexedSource {
    fn inner(&self) -> &dyn ImageSource {
        &*self.inner
    }

    async fn read_blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let stream = self.inner.blob(blob, offset).await?;
        if blob.digest() != self.layer.descriptor.digest() {
            return Ok(stream);
        }
        if offset == 0 {
            let begin = || Indexing::begin(&*self.inner, &self.layer, self.detail);
            self.indexing.lock().await.get_or_insert_with(begin);
        }
        let mut end = offset;
        let indexing = Arc::clone(&self.indexing);
        let passing = stream.then(move |chunk| {
            let begin = end;
            end += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            let indexing = Arc::clone(&indexing);
            async move {
                let chunk = chunk?;
                pass(&mut *indexing.lock().await, begin, &chunk).await;
                Ok(chunk)
            }
        });
        Ok(Box::pin(passing))
    }
}

/// What passes at `begin` is indexed, but for what was before.
async fn pass(indexing: &mut Option<Indexing>, begin: u64, chunk: &Bytes) {
    let Some(open) = indexing else { return };
    match open.taken.checked_sub(begin).map(usize::try_from) {
        Some(Ok(known)) if known < chunk.len() => {
            // An index that comes to nothing is no reason to stop: it says so in the end.
            open.take(chunk.slice(known..)).await;
        }
        Some(_) => {}
        None => *indexing = None,
    }
}

impl fmt::Debug for IndexedSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IndexedSource").field("layer", &self.layer).finish_non_exhaustive()
    }
}
