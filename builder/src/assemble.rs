//! Layers and config become an image at a sink: blobs in parallel, then config, then manifest, the tag last. Several
//! images become one index: what they share is put once, and the tag names the index. On the first error the other lanes
//! stop, the sink cleans up, and no tag has moved.

mod annotate;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{
    Abort, Cancel, Compression, Descriptor, EntryDetails, Error, ImageConfig, ImageSink, LayerKey,
    ManifestEntry, ManifestFormat, Result, SinkPlan, Warnings, canonical_json, from_json,
};

use self::annotate::said;
use crate::known::check_known;
use crate::lanes::{AssembleOptions, AssembledLayer, AssemblyLayer, LayerContent, put_layers, sink_plan};
use crate::media::{
    annotations_of, check_format, config_descriptor, format_of, index, layer_media_type, manifest,
};
use crate::modelcar::{self, Annotations, Modelcar};

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
    /// Whether descriptors of layers say their [keys](crossdock_storage::LayerKey), where the format has a place for them.
    pub layer_keys: LayerKeys,
    /// Whether layers say what they hold of a model, where the format has a place for it.
    pub modelcar: Option<Modelcar>,
}

/// What the descriptors of layers that are made of files say of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum LayerKeys {
    /// Nothing.
    #[default]
    None,
    /// Their [keys](crossdock_storage::LayerKey), which the files alone decide.
    Key,
    /// Also what something beside the files says of their digests. Another copy of the same files may have nothing beside it, and
    /// then its manifest is another one.
    KeyAndContent,
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
    /// Takes over the layers that `earlier`, for another platform, has just so: what there is of many files is in memory
    /// once.
    pub fn share(&mut self, earlier: &Self) {
        for layer in &mut self.layers {
            let LayerContent::Files { layer: files, .. } = &mut layer.content else { continue };
            let same = earlier.layers.iter().find_map(|other| match &other.content {
                LayerContent::Files { layer: others, .. } if others.len() == files.len() => {
                    (others == files).then_some(others)
                }
                _ => None,
            });
            if let Some(same) = same {
                *files = same.clone();
            }
        }
    }

    /// Takes over the digests that came out at one sink, so that the next one need not read what it has.
    pub fn learn(&mut self, assembled: &Assembled) {
        for (layer, done) in self.layers.iter_mut().zip(&assembled.layers) {
            if let Some(trusted) = &done.trusted {
                // Nobody knows that the files here have these bytes: what has them is the blob.
                let source = Arc::clone(&trusted.from);
                layer.content = LayerContent::Blob { layer: done.layer.clone(), source };
                continue;
            }
            // A sink with a form of its own says nothing of what the next one stores.
            if let LayerContent::Files { known, compression, .. } = &mut layer.content
                && done.layer.is_stored_as(*compression)
            {
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
/// annotations do not go together, before anything is read. [`Error::Interrupted`] and [`Error::Unsettled`] where the
/// options' [`Cancel`] says so.
pub async fn assemble(
    assembly: &Assembly,
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Assembled> {
    put_one(Job::of_assembly(assembly), sink, options).await
}

/// What is most likely not as it was meant of an image at `sink`: [`assemble`] warns of it too, but not before an earlier
/// sink has the image. Nothing is read or written.
///
/// # Errors
/// Where the sink is known to refuse the image.
pub async fn warnings(assembly: &Assembly, sink: &dyn ImageSink) -> Result<Vec<String>> {
    Job::of_assembly(assembly).warnings(sink).await
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
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Assembled> {
    put_one(Job::of_sealed(image, conversion), sink, options).await
}

/// An image of an index.
#[derive(Debug, Clone)]
pub struct Listed<T> {
    /// The image.
    pub image: T,
    /// What the index says of it.
    pub details: EntryDetails,
}

/// An index that is where it belongs.
#[derive(Debug, Clone)]
pub struct AssembledIndex {
    /// The index's descriptor.
    pub index: Descriptor,
    /// The images, in the index's order; none where the index alone was put.
    pub images: Vec<Assembled>,
}

/// Puts an index of images into `sink`: what they share once, each image's manifest, and the index last.
///
/// # Errors
/// As [`assemble`], before anything is read for every image.
pub async fn assemble_index(
    images: &[Listed<&Assembly>],
    format: ManifestFormat,
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<AssembledIndex> {
    let jobs = images.iter().map(|listed| listed.with(Job::of_assembly(listed.image))).collect();
    put_index(jobs, format, sink, options).await
}

/// Puts an index of images into `sink` that have their documents, as they are or in another form.
///
/// # Errors
/// As [`assemble_index`].
pub async fn send_index(
    images: &[Listed<Sealed>],
    conversion: Conversion,
    format: ManifestFormat,
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<AssembledIndex> {
    let jobs = images.iter().map(|listed| listed.with(Job::of_sealed(&listed.image, conversion))).collect();
    put_index(jobs, format, sink, options).await
}

/// Puts an index alone into `sink`, which must have its images: `manifests` are its entries.
///
/// # Errors
/// Those of the sink; where one of the images is not there.
pub async fn send_index_alone(
    manifests: &[ManifestEntry],
    format: ManifestFormat,
    sink: &Arc<dyn ImageSink>,
    cancel: &Cancel,
) -> Result<AssembledIndex> {
    let mut manifests = manifests.to_vec();
    let warnings = Warnings::default();
    for entry in &mut manifests {
        let name = entry.digest.to_string();
        in_format(format, &mut entry.details, &name, &warnings);
    }
    cleanly(sink, cancel, async {
        cancel.or(sink.prepare(&SinkPlan { format, ..SinkPlan::default() })).await?;
        let (index, bytes) = index(format, &manifests);
        cancel.last_step(sink.name(), sink.commit(&index, bytes)).await?;
        Ok(AssembledIndex { index, images: Vec::new() })
    })
    .await
}

/// An image on its way.
pub(crate) struct Job<'a> {
    layers: Cow<'a, [AssemblyLayer]>,
    format: ManifestFormat,
    annotations: Cow<'a, BTreeMap<String, String>>,
    /// What the format has no place for.
    lost: Option<String>,
    /// Whether layers that are made of files say their keys.
    layer_keys: LayerKeys,
    modelcar: Option<&'a Modelcar>,
    documents: Documents<'a>,
    /// What the layers say that the image had before it was converted.
    said: Vec<Option<Annotations>>,
}

/// Where an image's documents come from.
enum Documents<'a> {
    /// They are made: the config's diff IDs come out of the layers.
    New(&'a ImageConfig),
    /// The config stays, and the manifest is made.
    Converted(&'a Sealed),
    /// They are there.
    Kept(&'a Sealed),
}

impl<'a> Job<'a> {
    pub(crate) fn of_assembly(assembly: &'a Assembly) -> Self {
        let (annotations, lost) = annotations_of(assembly.format, &assembly.annotations, "the image");
        Self {
            layers: Cow::Borrowed(&assembly.layers),
            format: assembly.format,
            annotations,
            lost,
            layer_keys: assembly.layer_keys.in_format(assembly.format),
            modelcar: assembly.modelcar.as_ref(),
            documents: Documents::New(&assembly.config),
            said: assembly.layers.iter().map(said).collect(),
        }
    }

    fn of_sealed(image: &'a Sealed, conversion: Conversion) -> Self {
        let is = format_of(image.manifest.media_type());
        let format = conversion.format.unwrap_or(is);
        let mut layers = Cow::Borrowed(image.layers.as_slice());
        let had = layers.iter().map(|layer| match &layer.content {
            LayerContent::Files { known: Some(known), .. } => LayerKeys::of(&known.descriptor),
            _ => LayerKeys::None,
        });
        let layer_keys = had.max().unwrap_or_default().in_format(format);
        let mut as_it_is = format == is;
        if let Some(wanted) = conversion.compression {
            for layer in layers.to_mut() {
                if let LayerContent::Files { compression, known, .. } = &mut layer.content
                    && *compression != wanted
                {
                    (*compression, *known, as_it_is) = (wanted, None, false);
                }
            }
        }
        if as_it_is {
            let annotations = Cow::Borrowed(&image.annotations);
            return Self {
                layers,
                format,
                annotations,
                lost: None,
                layer_keys: LayerKeys::None,
                modelcar: None,
                documents: Documents::Kept(image),
                said: Vec::new(),
            };
        }
        let name = format!("the image {}", image.manifest.digest());
        let (annotations, mut lost) = annotations_of(format, &image.annotations, &name);
        let said: Vec<_> = image.layers.iter().map(said).collect();
        if format == ManifestFormat::Docker && said.iter().flatten().any(modelcar::is_said) {
            let lost = lost.get_or_insert_with(|| name.clone());
            lost.push_str(
                ": the docker format has no place for what its layers say of a model, which is left out",
            );
        }
        let documents = Documents::Converted(image);
        Self { layers, format, annotations, lost, layer_keys, modelcar: None, documents, said }
    }

    /// Refuses what the format has no place for: known now, and not after the layers were sent.
    pub(crate) fn check(&self) -> Result<()> {
        check_format(self.format, compressions(&self.layers))?;
        for layer in &*self.layers {
            if let LayerContent::Blob { layer, .. } = &layer.content {
                layer_media_type(layer.descriptor.media_type(), self.format)?;
            }
        }
        Ok(())
    }

    /// What a sink may want to know; the descriptors of the layers have annotations of so many bytes.
    fn plan(&self, of_layers: u64) -> SinkPlan {
        sink_plan(&self.layers, self.format, length(&self.annotations) + of_layers)
    }

    /// What is most likely not as it was meant of the image at a sink.
    async fn warnings(&self, sink: &dyn ImageSink) -> Result<Vec<String>> {
        Ok(self.lost.iter().cloned().chain(sink.warnings(&self.plan(0)).await?).collect())
    }

    /// The image's documents, its layers being there.
    fn finish(&self, mut layers: Vec<AssembledLayer>, keys: &[Option<LayerKey>]) -> Result<Assembled> {
        for layer in &mut layers {
            let descriptor = &mut layer.layer.descriptor;
            descriptor.set_media_type(layer_media_type(descriptor.media_type(), self.format)?);
        }
        let config_bytes = match &self.documents {
            Documents::New(config) => {
                let mut config = ImageConfig::clone(config);
                config.rootfs.diff_ids = layers.iter().map(|layer| layer.layer.diff_id.clone()).collect();
                Bytes::from(canonical_json(&config))
            }
            Documents::Converted(image) => {
                check_diff_ids(image, &layers)?;
                image.config_bytes.clone()
            }
            Documents::Kept(image) => image.config_bytes.clone(),
        };
        if let Documents::Kept(image) = &self.documents {
            return Ok(Assembled {
                manifest: image.manifest.clone(),
                manifest_bytes: image.manifest_bytes.clone(),
                config: image.config.clone(),
                config_bytes,
                layers,
            });
        }
        let annotations = self.annotate(&mut layers);
        for (layer, key) in layers.iter_mut().zip(keys) {
            self.say_key(&mut layer.layer.descriptor, key.as_ref());
        }
        let config = config_descriptor(self.format, &config_bytes);
        let descriptors = layers.iter().map(|layer| &layer.layer.descriptor);
        let (manifest, manifest_bytes) = manifest(self.format, &config, descriptors, &annotations);
        Ok(Assembled { manifest, manifest_bytes, config, config_bytes, layers })
    }
}

/// The config of a converted image names its layers uncompressed: they must have come out so.
fn check_diff_ids(image: &Sealed, layers: &[AssembledLayer]) -> Result<()> {
    let config: ImageConfig = from_json(&image.config_bytes).map_err(|source| Error::Malformed {
        what: format!("the config {}", image.config.digest()),
        source,
    })?;
    for ((expected, done), planned) in config.rootfs.diff_ids.iter().zip(layers).zip(&image.layers) {
        if *expected != done.layer.diff_id {
            return Err(Error::Altered {
                what: match &planned.content {
                    LayerContent::Files { layer, .. } => layer.described(&done.title),
                    LayerContent::Blob { .. } => done.title.clone(),
                },
                expected: Box::new(expected.as_digest().clone()),
                actual: Box::new(done.layer.diff_id.as_digest().clone()),
            });
        }
    }
    Ok(())
}

impl<T> Listed<T> {
    fn with<U>(&self, image: U) -> Listed<U> {
        Listed { image, details: self.details.clone() }
    }
}

async fn put_one(job: Job<'_>, sink: &Arc<dyn ImageSink>, options: &AssembleOptions) -> Result<Assembled> {
    job.check()?;
    cleanly(sink, &options.cancel, async {
        let images = put_blobs(std::slice::from_ref(&job), sink, options).await?;
        let Some(image) = images.into_iter().next() else { return Err(Error::Interrupted) };
        let commit = sink.commit(&image.manifest, image.manifest_bytes.clone());
        options.cancel.last_step(sink.name(), commit).await?;
        Ok(image)
    })
    .await
}

async fn put_index(
    listed: Vec<Listed<Job<'_>>>,
    format: ManifestFormat,
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<AssembledIndex> {
    listed.iter().try_for_each(|listed| listed.image.check())?;
    let (entries, jobs): (Vec<_>, Vec<_>) =
        listed.into_iter().map(|listed| (listed.with(()), listed.image)).unzip();
    cleanly(sink, &options.cancel, async {
        let images = put_blobs(&jobs, sink, options).await?;
        for image in &images {
            let put = sink.put_manifest(&image.manifest, image.manifest_bytes.clone());
            options.cancel.or(put).await?;
        }
        let manifests: Vec<_> = entries
            .into_iter()
            .zip(&images)
            .map(|(mut entry, image)| {
                in_format(format, &mut entry.details, image.manifest.digest().as_ref(), &options.warnings);
                ManifestEntry::new(&image.manifest, entry.details)
            })
            .collect();
        let (index, bytes) = index(format, &manifests);
        options.cancel.last_step(sink.name(), sink.commit(&index, bytes)).await?;
        Ok(AssembledIndex { index, images })
    })
    .await
}

/// Shows the sink what is to come, and finds files that are not those that they were, before anything is sent.
pub(crate) async fn prepare(
    jobs: &[Job<'_>],
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Vec<Vec<Option<LayerKey>>>> {
    let mut keys = Vec::with_capacity(jobs.len());
    for job in jobs {
        let of_image = options.cancel.or(async { Ok(job.keys().await) }).await?;
        let of_layer = |key: &LayerKey| length(&key.annotations()) + r#","annotations":"#.len() as u64;
        let of_layers: u64 = of_image.iter().flatten().map(of_layer).sum();
        keys.push(of_image);
        let warnings = options.cancel.or(job.warnings(&**sink)).await?;
        warnings.into_iter().for_each(|warning| options.warnings.add(warning));
        options.cancel.or(sink.prepare(&job.plan(of_layers + job.planned()))).await?;
        let recorded = !matches!(job.documents, Documents::New(_));
        options.cancel.or(check_known(&job.layers, recorded, &**sink)).await?;
    }
    Ok(keys)
}

/// Layers and configs of some images; their manifests are not put yet.
async fn put_blobs(
    jobs: &[Job<'_>],
    sink: &Arc<dyn ImageSink>,
    options: &AssembleOptions,
) -> Result<Vec<Assembled>> {
    let keys = prepare(jobs, sink, options).await?;
    let layers: Vec<_> = jobs.iter().map(|job| &*job.layers).collect();
    let put = put_layers(&layers, sink, options).await?;
    let mut images = Vec::with_capacity(jobs.len());
    for ((job, keys), layers) in jobs.iter().zip(&keys).zip(put) {
        let image = job.finish(layers, keys)?;
        options.cancel.or(sink.put_config(&image.config, image.config_bytes.clone())).await?;
        images.push(image);
    }
    Ok(images)
}

/// Drops what a list of the format has no place for.
fn in_format(format: ManifestFormat, details: &mut EntryDetails, digest: &str, warnings: &Warnings) {
    let (kept, lost) =
        annotations_of(format, &details.annotations, &format!("the list's entry for {digest}"));
    lost.into_iter().for_each(|warning| warnings.add(warning));
    if let Cow::Owned(kept) = kept {
        details.annotations = kept;
    }
}

/// Tells the sink to clean up where `work` fails.
pub(crate) async fn cleanly<T>(
    sink: &Arc<dyn ImageSink>,
    cancel: &Cancel,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    let result = work.await;
    if result.is_err() {
        let why = if cancel.is_cancelled() { Abort::Interrupted } else { Abort::Failed };
        cancel.cleaning(sink.abort(why)).await;
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

#[cfg(test)]
mod tests {
    use crossdock_storage::{
        DiffId, Hasher, Layer, LayoutSink, MediaType, NoProgress, ReadOptions, Segment, SourceFile,
        VirtualLayer,
    };

    use super::*;

    #[tokio::test]
    async fn a_layer_that_is_not_what_was_known_of_it_makes_no_image() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        std::fs::write(&path, "bytes").unwrap();
        let file = SourceFile::stat(&path).unwrap();
        let other = Hasher::digest(b"other bytes");
        let assembly = Assembly {
            layers: vec![AssemblyLayer {
                title: "weights".to_owned(),
                from_base: false,
                content: LayerContent::Files {
                    layer: VirtualLayer::new([Segment::Extent { len: file.size(), file, offset: 0 }]),
                    compression: Compression::None,
                    known: Some(Layer {
                        descriptor: Descriptor::new(MediaType::ImageLayer, 5, other.clone()),
                        diff_id: DiffId::of_tar(other.clone()),
                    }),
                },
            }],
            config: ImageConfig::default(),
            annotations: BTreeMap::new(),
            format: ManifestFormat::Oci,
            layer_keys: LayerKeys::Key,
            modelcar: None,
        };
        let layout = directory.path().join("layout");
        let options = AssembleOptions {
            read: ReadOptions::default(),
            jobs: 1,
            memos: None,
            trust: None,
            progress: Arc::new(NoProgress),
            cancel: Cancel::default(),
            warnings: Warnings::default(),
        };
        let sink: Arc<dyn ImageSink> = Arc::new(LayoutSink::new(&layout, None));
        let error = assemble(&assembly, &sink, &options).await.unwrap_err();
        assert!(matches!(&error, Error::Altered { expected, .. } if **expected == other), "{error}");
        assert!(!layout.exists(), "nothing stays");
    }
}
