//! Layers and config become an image at a sink: blobs in parallel, then config, then manifest, the tag last. On the
//! first error the other lanes stop, the sink cleans up, and no tag has moved.

use std::collections::BTreeMap;

use bytes::Bytes;
use crossdock_storage::{
    Abort, Compression, Descriptor, ImageConfig, ImageSink, ManifestFormat, Result, canonical_json,
};

use crate::lanes::{AssembleOptions, AssembledLayer, AssemblyLayer, LayerContent, put_layers, sink_plan};
use crate::media::{check_format, config_descriptor, format_of, manifest};

/// All that an image is made of that is not written yet.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// All layers, from the bottom up.
    pub layers: Vec<AssemblyLayer>,
    /// The config; its diff IDs come out of the layers.
    pub config: ImageConfig,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The family of media types.
    pub format: ManifestFormat,
}

/// An image that is where it belongs.
#[derive(Debug, Clone)]
pub struct Assembled {
    /// The manifest's descriptor; its digest is the image's.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Bytes,
    /// The config's descriptor; its digest is the image ID.
    pub config: Descriptor,
    /// The config's bytes.
    pub config_bytes: Bytes,
    /// All layers, from the bottom up.
    pub layers: Vec<AssembledLayer>,
}

impl Assembly {
    /// Takes over the digests that came out at one sink, so that the next one need not read what it has.
    pub fn learn(&mut self, assembled: &Assembled) {
        for (layer, done) in self.layers.iter_mut().zip(&assembled.layers) {
            if let LayerContent::Files { known, .. } = &mut layer.content {
                *known = Some(done.layer.clone());
            }
        }
    }
}

/// Puts an image into `sink`.
///
/// Layers whose digest is known, or remembered in the memos of `options`, are offered to the sink by digest and read
/// only where it lacks them.
///
/// # Errors
/// Those of the sink, the layers' sources and files; the sink has been told to clean up. Where format, compression and
/// annotations do not go together, before anything is read.
pub async fn assemble(
    assembly: &Assembly,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
) -> Result<Assembled> {
    let Assembly { layers, config, annotations, format } = assembly;
    check_format(*format, compressions(layers), annotations)?;
    cleanly(sink, async {
        sink.prepare(&sink_plan(layers, *format, length(annotations))).await?;
        let layers = put_layers(layers, *format, sink, options).await?;
        let mut config = config.clone();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.layer.diff_id.clone()).collect();
        let config_bytes = Bytes::from(canonical_json(&config));
        let config = config_descriptor(*format, &config_bytes);
        let (manifest, manifest_bytes) =
            manifest(*format, &config, layers.iter().map(|layer| &layer.layer.descriptor), annotations);
        finish(sink, Assembled { manifest, manifest_bytes, config, config_bytes, layers }).await
    })
    .await
}

/// An image that has its documents, and layers that are elsewhere: in files that were recorded, or in another place.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The manifest's descriptor.
    pub manifest: Descriptor,
    /// The manifest's bytes.
    pub manifest_bytes: Bytes,
    /// The config's descriptor.
    pub config: Descriptor,
    /// The config's bytes.
    pub config_bytes: Bytes,
    /// The manifest's annotations.
    pub annotations: BTreeMap<String, String>,
    /// All layers, from the bottom up.
    pub layers: Vec<AssemblyLayer>,
}

/// In which form an image is sent on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Conversion {
    /// The family of media types; `None` for the one it has.
    pub format: Option<ManifestFormat>,
    /// How layers that are made of files are stored; `None` for as they were. Blobs go as they are.
    pub compression: Option<Compression>,
}

/// Puts an image into `sink` as it is, or in another form: then it has another digest. The config, and so the image ID,
/// stays.
///
/// # Errors
/// As [`assemble`].
pub async fn send(
    image: &Sealed,
    conversion: Conversion,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
) -> Result<Assembled> {
    let is = format_of(image.manifest.media_type());
    let format = conversion.format.unwrap_or(is);
    let mut layers = image.layers.clone();
    let mut as_it_is = format == is;
    if let Some(wanted) = conversion.compression {
        for layer in &mut layers {
            if let LayerContent::Files { compression, known, .. } = &mut layer.content
                && *compression != wanted
            {
                (*compression, *known, as_it_is) = (wanted, None, false);
            }
        }
    }
    check_format(format, compressions(&layers), &image.annotations)?;
    cleanly(sink, async {
        sink.prepare(&sink_plan(&layers, format, length(&image.annotations))).await?;
        let layers = put_layers(&layers, format, sink, options).await?;
        let config_bytes = image.config_bytes.clone();
        let (config, (manifest, manifest_bytes)) = if as_it_is {
            (image.config.clone(), (image.manifest.clone(), image.manifest_bytes.clone()))
        } else {
            let config = config_descriptor(format, &config_bytes);
            let descriptors = layers.iter().map(|layer| &layer.layer.descriptor);
            let documents = manifest(format, &config, descriptors, &image.annotations);
            (config, documents)
        };
        finish(sink, Assembled { manifest, manifest_bytes, config, config_bytes, layers }).await
    })
    .await
}

/// The last two steps.
async fn finish(sink: &dyn ImageSink, image: Assembled) -> Result<Assembled> {
    sink.put_config(&image.config, image.config_bytes.clone()).await?;
    sink.commit(&image.manifest, image.manifest_bytes.clone()).await?;
    Ok(image)
}

/// Tells the sink to clean up where `work` fails.
async fn cleanly<T>(sink: &dyn ImageSink, work: impl Future<Output = Result<T>>) -> Result<T> {
    let result = work.await;
    if result.is_err() {
        sink.abort(Abort::Failed).await;
    }
    result
}

fn compressions(layers: &[AssemblyLayer]) -> impl Iterator<Item = Compression> {
    layers.iter().filter_map(|layer| match &layer.content {
        LayerContent::Files { compression, .. } => Some(*compression),
        LayerContent::Blob { .. } => None,
    })
}

/// Bytes of the annotations as the manifest will have them.
fn length(annotations: &BTreeMap<String, String>) -> u64 {
    canonical_json(annotations).len() as u64
}
