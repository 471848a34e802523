//! The layers of an image on their way to a sink, some side by side; their results come back in declaration order, so
//! that the image does not depend on which lane was faster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

use crossdock_storage::{
    Cancel, Compression, Error, ImageSink, ImageSource, Layer, LayerOrigin, LayerWatch, ManifestFormat,
    MemoStore, NewLayer, Outcome, PlannedLayer, Progress, ReadOptions, Result, SinkPlan, VirtualLayer,
    Warnings, blocking, in_lanes, layer_key,
};

use crate::known::{recall, wants_content};
use crate::trust::{Trust, Trusted};

/// How layers are read, and put somewhere.
#[derive(Debug, Clone)]
pub struct AssembleOptions {
    /// How source files are read, and where their bytes are counted.
    pub read: ReadOptions,
    /// Blobs that are handled at the same time, at least one.
    pub jobs: usize,
    /// Remembered layer digests.
    pub memos: Option<MemoStore>,
    /// Images whose digests are taken for layers with the same key.
    pub trust: Option<Arc<Trust>>,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// The word to stop.
    pub cancel: Cancel,
    /// Receives what is most likely not as it was meant of the image at its destination.
    pub warnings: Warnings,
}

/// A layer of the image to be.
#[derive(Debug, Clone)]
pub struct AssemblyLayer {
    /// What it holds, for people.
    pub title: String,
    /// Whether it came with the base.
    pub from_base: bool,
    /// Its bytes.
    pub content: LayerContent,
}

/// The bytes of a layer, not a one of them read.
#[derive(Debug, Clone)]
pub enum LayerContent {
    /// A blob of an image somewhere.
    Blob {
        /// Its digests.
        layer: Layer,
        /// Where it can be had.
        source: Arc<dyn ImageSource>,
    },
    /// Made of files.
    Files {
        /// Its bytes.
        layer: VirtualLayer,
        /// How it is stored.
        compression: Compression,
        /// Its digests, where it was read before in this process, or by one that recorded it.
        known: Option<Layer>,
    },
}

impl LayerContent {
    /// Bytes that are put: of a blob as it is stored, of files before they are compressed.
    #[must_use]
    pub fn stored(&self) -> u64 {
        match self {
            Self::Blob { layer, .. } => layer.descriptor.size(),
            Self::Files { layer, .. } => layer.len(),
        }
    }

    /// A layer of an image that has its digests.
    #[must_use]
    pub fn of(layer: Layer, source: &Arc<dyn ImageSource>) -> Self {
        match source.origin(&layer.descriptor) {
            Some(LayerOrigin::Files { layer: files, compression, .. }) => {
                Self::Files { layer: files, compression, known: Some(layer) }
            }
            Some(LayerOrigin::Blob(source)) => Self::Blob { layer, source },
            None => Self::Blob { layer, source: Arc::clone(source) },
        }
    }
}

/// A layer of an assembled image.
#[derive(Debug, Clone)]
pub struct AssembledLayer {
    /// What it holds, for people.
    pub title: String,
    /// Whether it came with the base.
    pub from_base: bool,
    /// Descriptor and diff ID.
    pub layer: Layer,
    /// What happened to it at the sink.
    pub outcome: Outcome,
    /// Where its digest is from, where its files were not read and no memo says it.
    pub trusted: Option<Trusted>,
}

/// What a sink may want to know of the layers before the first blob.
pub(crate) fn sink_plan(layers: &[AssemblyLayer], format: ManifestFormat, annotations: u64) -> SinkPlan {
    let mut plan = SinkPlan { annotations, format, ..SinkPlan::default() };
    for layer in layers {
        match &layer.content {
            LayerContent::Blob { layer, .. } if layer.is_foreign() => {}
            LayerContent::Blob { layer, .. } => plan.base_layers.push(layer.descriptor.clone()),
            LayerContent::Files { layer: files, compression, .. } => plan.new_layers.push(PlannedLayer {
                title: layer.title.trim().to_owned(),
                bytes: files.len(),
                compression: *compression,
            }),
        }
    }
    plan
}

/// Puts the layers of some images into `sink`, image by image as they come back. A layer that an earlier image has too is
/// put once.
pub(crate) async fn put_layers(
    images: &[&[AssemblyLayer]],
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Vec<Vec<AssembledLayer>>> {
    let (layers, places) = distinct(images);
    let done = put_distinct(&layers, sink, options).await?;
    let mut taken = vec![false; done.len()];
    let mut take = |(place, layer): (usize, &AssemblyLayer)| {
        let put = &done[place];
        let outcome = match (std::mem::replace(&mut taken[place], true), &put.outcome) {
            (false, outcome) | (true, outcome @ (Outcome::Digested | Outcome::Foreign)) => outcome.clone(),
            (true, _) => Outcome::Present,
        };
        let (title, from_base) = (layer.title.clone(), layer.from_base);
        AssembledLayer { title, from_base, layer: put.layer.clone(), outcome, trusted: put.trusted.clone() }
    };
    Ok(images
        .iter()
        .zip(places)
        .map(|(image, places)| places.into_iter().zip(*image).map(&mut take).collect())
        .collect())
}

/// Puts some layers into `sink`; the results come back in their order.
pub(crate) async fn put_distinct(
    layers: &[&AssemblyLayer],
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Vec<AssembledLayer>> {
    for (index, layer) in layers.iter().enumerate() {
        options.progress.announce(index, &layer.title, layer.content.stored());
    }
    let jobs = options.jobs.max(1).min(sink.max_parallel().unwrap_or(usize::MAX));
    let done = in_lanes(layers.to_vec(), jobs, &options.cancel, |index, layer| {
        let (layer, sink, options) = (layer.clone(), Arc::clone(sink), options.clone());
        async move {
            let watch = LayerWatch::new(index, Arc::clone(&options.progress));
            put_layer(layer, &*sink, &options, &watch).await
        }
    });
    done.await
}

/// The layers of all images, those that an earlier image has left out; and for each image the places of its layers.
pub(crate) fn distinct<'a>(images: &[&'a [AssemblyLayer]]) -> (Vec<&'a AssemblyLayer>, Vec<Vec<usize>>) {
    if let [only] = images {
        return (only.iter().collect(), vec![(0..only.len()).collect()]);
    }
    let mut layers = Vec::new();
    let mut of_earlier: HashMap<String, usize> = HashMap::new();
    let places = images.iter().map(|image| {
        let mut of_this = HashMap::new();
        let places = image.iter().map(|layer| {
            let key = match &layer.content {
                LayerContent::Blob { layer, .. } => layer.descriptor.digest().to_string(),
                LayerContent::Files { layer, compression, .. } => layer_key(layer, *compression),
            };
            let place = of_earlier.get(&key).copied().unwrap_or_else(|| {
                layers.push(layer);
                layers.len() - 1
            });
            of_this.entry(key).or_insert(place);
            place
        });
        let places = places.collect();
        of_earlier.extend(of_this);
        places
    });
    let places = places.collect();
    (layers, places)
}

async fn put_layer(
    layer: AssemblyLayer,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
    watch: &LayerWatch,
) -> Result<AssembledLayer> {
    let AssemblyLayer { title, from_base, content } = layer;
    let mut trusted = None;
    let (put, outcome) = match content {
        LayerContent::Blob { layer, .. } if layer.is_foreign() && sink.leaves_foreign() => {
            watch.finished(&Outcome::Foreign, &layer.descriptor);
            (layer, Outcome::Foreign)
        }
        LayerContent::Blob { layer, source } => {
            let outcome = sink.take_blob(&layer.descriptor, Some(&layer.diff_id), &*source, watch).await?;
            (layer, outcome)
        }
        LayerContent::Files { layer, compression, known } => {
            let new = NewLayer { title: title.clone(), layer, compression, known };
            put_files(new, sink, options, watch, &mut trusted).await?
        }
    };
    Ok(AssembledLayer { title, from_base, layer: put, outcome, trusted })
}

async fn put_files(
    mut new: NewLayer,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
    watch: &LayerWatch,
    trusted: &mut Option<Trusted>,
) -> Result<(Layer, Outcome)> {
    let lacks_content = new.known.is_none() && wants_content(&new, options);
    let memos = options.memos.clone().filter(|_| new.known.is_none());
    let since = SystemTime::now();
    let recalled = match &memos {
        Some(memos) => recall(&mut new, memos, sink, options, watch).await?,
        None => false,
    };
    if new.known.is_none()
        // Another image's word for the digest of a file is not taken over: such a layer is read.
        && !lacks_content
        && let Some(trust) = &options.trust
        && let Some((layer, outcome, from)) = trust.take(&new, sink, &options.cancel, watch).await?
    {
        // Not remembered: nobody here has hashed the files.
        *trusted = Some(from);
        return Ok((layer, outcome));
    }
    let put = sink.put_layer(&new, &options.read, watch).await;
    let mut result = put.and_then(|(layer, outcome)| new.check(&layer).map(|()| (layer, outcome)));
    if let Ok((layer, _)) = &mut result
        && lacks_content
        && layer.content_digest().is_none()
        && layer.is_stored_as(new.compression)
    {
        // Its bytes were sent by a process that did not want to know.
        let digested = new.digest(&options.read, &LayerWatch::silent()).await?;
        new.compare(layer, &digested)?;
        *layer = digested;
    }
    let Some(memos) = memos else { return result };
    match &result {
        // What else goes wrong says nothing of the memo.
        Err(Error::Altered { .. }) if recalled => {
            blocking(move || memos.forget(&new.layer, new.compression)).await;
        }
        Ok((layer, _)) if !recalled => {
            let digested = layer.clone();
            let remember = move || memos.remember(&new.layer, new.compression, &digested, since);
            if let Err(error) = blocking(remember).await {
                tracing::warn!(%error, "the layer's digest is not remembered");
            }
        }
        _ => {}
    }
    result
}
