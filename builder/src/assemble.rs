//! Layers and config become an image at a sink: blobs in parallel, then config, then manifest, the tag last.
//!
//! Lanes run side by side; their results are put back in declaration order, so that the image does not depend on
//! which lane was faster. On the first error the other lanes stop, the sink cleans up, and no tag has moved.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use crossdock_storage::{
    Abort, Compression, Descriptor, Error, Hasher, ImageConfig, ImageSink, ImageSource, Layer, LayerWatch,
    ManifestFormat, MediaType, MemoStore, NewLayer, Outcome, PlannedLayer, Progress, ReadOptions,
    ResolvedImage, Result, SinkPlan, VirtualLayer, canonical_json,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use serde_json::json;

const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A base image: where its layers come from, and what they are.
#[derive(Debug, Clone)]
pub struct AssemblyBase {
    /// Where its blobs can be had.
    pub source: Arc<dyn ImageSource>,
    /// Its manifest and config.
    pub image: ResolvedImage,
}

/// A layer of the image to be.
#[derive(Debug, Clone)]
pub struct AssemblyLayer {
    /// What it holds, for people.
    pub title: String,
    /// Its bytes.
    pub layer: VirtualLayer,
}

/// All that an image is made of.
#[derive(Debug, Clone)]
pub struct Assembly {
    /// The base; `None` for scratch.
    pub base: Option<AssemblyBase>,
    /// The layers above the base's, from the bottom up.
    pub layers: Vec<AssemblyLayer>,
    /// The config, with the diff IDs of the base's layers only.
    pub config: ImageConfig,
    /// Annotations of the manifest.
    pub annotations: BTreeMap<String, String>,
    /// The family of media types.
    pub format: ManifestFormat,
    /// How the new layers are stored.
    pub compression: Compression,
}

/// How an image is assembled.
#[derive(Debug, Clone)]
pub struct AssembleOptions {
    /// How source files are read, and where their bytes are counted.
    pub read: ReadOptions,
    /// Blobs that are handled at the same time, at least one.
    pub jobs: usize,
    /// Remembered layer digests.
    pub memos: Option<MemoStore>,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
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
    /// All layers, from the bottom up.
    pub layers: Vec<AssembledLayer>,
}

/// Puts an image into `sink`.
///
/// Layers whose digest is remembered, or was found by an earlier call with the memos of `options`, are offered to
/// the sink by digest and read only where it lacks them.
///
/// # Errors
/// Those of the sink, the base's source and the layers' files; the sink has been told to clean up. Where format,
/// compression and annotations do not go together, before anything is read.
pub async fn assemble(
    assembly: &Assembly,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
) -> Result<Assembled> {
    let base_layers = base_layers(assembly)?;
    check_format(assembly)?;
    match put(assembly, &base_layers, sink, options).await {
        Ok(assembled) => Ok(assembled),
        Err(error) => {
            sink.abort(Abort::Failed).await;
            Err(error)
        }
    }
}

/// The base's layers, with descriptors in the image's format.
fn base_layers(assembly: &Assembly) -> Result<Vec<Layer>> {
    let Some(base) = &assembly.base else { return Ok(Vec::new()) };
    let descriptors = base.image.manifest.layers();
    let diff_ids = &base.image.config.rootfs.diff_ids;
    if descriptors.len() != diff_ids.len() {
        return Err(Error::Unusable(format!(
            "{}: its manifest has {} layers and its config {}; the image is damaged",
            base.source.name(),
            descriptors.len(),
            diff_ids.len()
        )));
    }
    descriptors
        .iter()
        .zip(diff_ids)
        .map(|(descriptor, diff_id)| {
            let mut descriptor = descriptor.clone();
            descriptor.set_media_type(layer_media_type(descriptor.media_type(), assembly.format)?);
            Ok(Layer { descriptor, diff_id: diff_id.clone() })
        })
        .collect()
}

fn check_format(assembly: &Assembly) -> Result<()> {
    if assembly.format == ManifestFormat::Docker {
        if matches!(assembly.compression, Compression::Zstd { .. }) {
            return Err(Error::Unusable(
                "the docker format has no media type for zstd layers: use --format oci, or gzip".to_owned(),
            ));
        }
        if !assembly.annotations.is_empty() {
            return Err(Error::Unusable(
                "the docker format has no annotations: use --format oci, or --label".to_owned(),
            ));
        }
    }
    Ok(())
}

/// The same layer's media type in the other family (OCI image-spec, layer.md; Docker's manifest v2 schema 2).
fn layer_media_type(media_type: &MediaType, format: ManifestFormat) -> Result<MediaType> {
    let name = media_type.to_string();
    let gzip = name.ends_with("gzip");
    let known = match name.as_str() {
        DOCKER_LAYER | DOCKER_LAYER_GZIP => true,
        "application/vnd.oci.image.layer.v1.tar" | "application/vnd.oci.image.layer.v1.tar+gzip" => true,
        "application/vnd.oci.image.layer.v1.tar+zstd" if format == ManifestFormat::Oci => {
            return Ok(media_type.clone());
        }
        _ => false,
    };
    match (known, format, gzip) {
        (false, ..) => Err(Error::Unusable(format!(
            "the base has a layer of type {name}, which the {format} format has no place for"
        ))),
        (true, ManifestFormat::Oci, false) => Ok(MediaType::ImageLayer),
        (true, ManifestFormat::Oci, true) => Ok(MediaType::ImageLayerGzip),
        (true, ManifestFormat::Docker, false) => Ok(MediaType::Other(DOCKER_LAYER.to_owned())),
        (true, ManifestFormat::Docker, true) => Ok(MediaType::Other(DOCKER_LAYER_GZIP.to_owned())),
    }
}

async fn put(
    assembly: &Assembly,
    base_layers: &[Layer],
    sink: &dyn ImageSink,
    options: &AssembleOptions,
) -> Result<Assembled> {
    sink.prepare(&SinkPlan {
        new_layers: assembly
            .layers
            .iter()
            .map(|l| PlannedLayer {
                title: l.title.trim().to_owned(),
                bytes: l.layer.len(),
                compression: assembly.compression,
            })
            .collect(),
        annotations: canonical_json(&json!(assembly.annotations)).len() as u64,
        base_layers: base_layers.iter().map(|l| l.descriptor.clone()).collect(),
        format: assembly.format,
    })
    .await?;
    let layers = put_layers(assembly, base_layers, sink, options).await?;

    let mut config = assembly.config.clone();
    config.rootfs.diff_ids = layers.iter().map(|l| l.layer.diff_id.clone()).collect();
    let config_bytes = Bytes::from(canonical_json(&config));
    let config = document(config_media_type(assembly.format), &config_bytes);
    sink.put_config(&config, config_bytes).await?;

    let manifest_bytes = Bytes::from(canonical_json(&manifest(assembly, &config, &layers)));
    let manifest = document(manifest_media_type(assembly.format), &manifest_bytes);
    sink.commit(&manifest, manifest_bytes.clone()).await?;
    Ok(Assembled { manifest, manifest_bytes, config, layers })
}

async fn put_layers(
    assembly: &Assembly,
    base_layers: &[Layer],
    sink: &dyn ImageSink,
    options: &AssembleOptions,
) -> Result<Vec<AssembledLayer>> {
    let progress = &options.progress;
    for (index, layer) in base_layers.iter().enumerate() {
        progress.announce(index, &base_title(assembly), layer.descriptor.size());
    }
    for (index, layer) in assembly.layers.iter().enumerate() {
        progress.announce(base_layers.len() + index, &layer.title, layer.layer.len());
    }
    let jobs = options.jobs.max(1).min(sink.max_parallel().unwrap_or(usize::MAX));
    let total = base_layers.len() + assembly.layers.len();
    let mut done: Vec<(usize, AssembledLayer)> = stream::iter(0..total)
        .map(|index| async move {
            let watch = LayerWatch::new(index, Arc::clone(progress));
            let layer = match base_layers.get(index) {
                Some(layer) => take_base_layer(assembly, layer, sink, &watch).await?,
                None => {
                    put_new_layer(
                        assembly,
                        &assembly.layers[index - base_layers.len()],
                        sink,
                        options,
                        &watch,
                    )
                    .await?
                }
            };
            Ok::<_, Error>((index, layer))
        })
        .buffer_unordered(jobs)
        .try_collect()
        .await?;
    done.sort_by_key(|(index, _)| *index);
    Ok(done.into_iter().map(|(_, layer)| layer).collect())
}

fn base_title(assembly: &Assembly) -> String {
    assembly.base.as_ref().map_or(String::new(), |base| format!("base {}", base.source.name()))
}

async fn take_base_layer(
    assembly: &Assembly,
    layer: &Layer,
    sink: &dyn ImageSink,
    watch: &LayerWatch,
) -> Result<AssembledLayer> {
    let Some(base) = &assembly.base else { return Err(Error::Interrupted) };
    let outcome = sink.take_blob(&layer.descriptor, Some(&layer.diff_id), &*base.source, watch).await?;
    Ok(AssembledLayer { title: base_title(assembly), from_base: true, layer: layer.clone(), outcome })
}

async fn put_new_layer(
    assembly: &Assembly,
    new: &AssemblyLayer,
    sink: &dyn ImageSink,
    options: &AssembleOptions,
    watch: &LayerWatch,
) -> Result<AssembledLayer> {
    let memos = options.memos.as_ref();
    let known = memos.and_then(|memos| memos.recall(&new.layer, assembly.compression));
    let remembered = known.is_some();
    let request = NewLayer {
        title: new.title.clone(),
        layer: new.layer.clone(),
        compression: assembly.compression,
        known,
    };
    let since = SystemTime::now();
    let result = sink.put_layer(&request, &options.read, watch).await;
    if let (Err(_), true, Some(memos)) = (&result, remembered, memos) {
        // Whatever went wrong: the next run shall see for itself.
        memos.forget(&new.layer, assembly.compression);
    }
    let (mut layer, outcome) = result?;
    if let (false, Some(memos)) = (remembered, memos)
        && let Err(error) = memos.remember(&new.layer, assembly.compression, &layer, since)
    {
        tracing::warn!(%error, "the layer's digest is not remembered");
    }
    layer.descriptor.set_media_type(layer_media_type(layer.descriptor.media_type(), assembly.format)?);
    Ok(AssembledLayer { title: new.title.clone(), from_base: false, layer, outcome })
}

fn document(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::from(media_type), bytes.len() as u64, Hasher::digest(bytes))
}

fn manifest_media_type(format: ManifestFormat) -> &'static str {
    match format {
        ManifestFormat::Oci => "application/vnd.oci.image.manifest.v1+json",
        ManifestFormat::Docker => DOCKER_MANIFEST,
    }
}

fn config_media_type(format: ManifestFormat) -> &'static str {
    match format {
        ManifestFormat::Oci => "application/vnd.oci.image.config.v1+json",
        ManifestFormat::Docker => DOCKER_CONFIG,
    }
}

fn manifest(assembly: &Assembly, config: &Descriptor, layers: &[AssembledLayer]) -> serde_json::Value {
    let descriptors: Vec<_> = layers.iter().map(|l| &l.layer.descriptor).collect();
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": manifest_media_type(assembly.format),
        "config": config,
        "layers": descriptors,
    });
    if !assembly.annotations.is_empty() {
        manifest["annotations"] = json!(assembly.annotations);
    }
    manifest
}
