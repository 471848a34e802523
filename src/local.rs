//! The images that are remembered on this machine: built without a push, or pulled. See `crossdock_storage::RecordStore`
//! for what is remembered of them; their bytes stay where they are.

mod names;
mod source;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, anyhow, bail};
use crossdock_builder::{Assembled, Assembly, AssemblyLayer, LayerContent, Listed, Sealed};
use crossdock_registry::Registry;
use crossdock_storage::{
    Digest, Error, ImageList, ImageRecord, ImageSource, Layer, LayerOrigin, ListEntry, ListedPlace,
    ListedSource, Platform, RecordStore, RecordedLayer, RecordedOrigin, Records, blocking, escape_line,
};

use crate::destination::transport_of;

use names::candidates;
pub(crate) use names::{has_host, local_name};
use source::RecordSource;
pub(crate) use source::locate;

/// Names that no registry has.
pub(crate) const LOCALHOST: &str = "localhost/";

/// What a name of this machine stands for where a base is wanted.
#[derive(Debug)]
pub(crate) enum LocalBase {
    /// Nothing.
    Unknown,
    /// An image that is for another platform, with its whole name.
    OtherPlatform { name: String, is: Platform, image: Arc<dyn ImageSource> },
    /// A list that has no image for the platform, with its whole name; the error lists those that it has.
    NotListed { name: String, error: Error },
    /// The image.
    Source(Arc<dyn ImageSource>),
}

/// The images that are remembered below a root directory.
#[derive(Debug, Clone)]
pub(crate) struct LocalImages {
    store: RecordStore,
}

impl LocalImages {
    /// # Errors
    /// Where there is no root directory.
    pub(crate) fn new(root: Option<&Path>) -> Result<Self> {
        let root = root.ok_or_else(|| {
            anyhow!("there is no directory to remember images in: give --root DIR, or set HOME")
        })?;
        Ok(Self { store: RecordStore::new(root) })
    }

    pub(crate) const fn store(&self) -> &RecordStore {
        &self.store
    }

    /// Remembers an image that was assembled, and moves `names` to it.
    pub(crate) fn record(&self, assembly: &Assembly, image: &Assembled, names: &[String]) -> Result<()> {
        let record = ImageRecord::new(
            image.manifest.clone(),
            image.manifest_bytes.clone(),
            image.config_bytes.clone(),
        );
        let layers: Vec<_> = assembly
            .layers
            .iter()
            .zip(&image.layers)
            .map(|(planned, done)| RecordedLayer {
                title: planned.title.clone(),
                layer: done.layer.clone(),
                origin: match &planned.content {
                    LayerContent::Blob { source, .. } => RecordedOrigin::Image(source.locator()),
                    LayerContent::Files { layer, compression, .. } => {
                        RecordedOrigin::Files { layer: layer.clone(), compression: *compression }
                    }
                },
            })
            .collect();
        Ok(self.store.put(&record, &layers, names.iter().map(String::as_str))?)
    }

    /// The image that a user means: by name, by digest, or by the beginning of its ID.
    ///
    /// # Errors
    /// Where there is none, or several.
    pub(crate) fn find(&self, text: &str) -> Result<ImageRecord> {
        if let Some(image) = self.find_named(text)? {
            return Ok(image);
        }
        if self.find_list(text)?.is_some() {
            return Err(unusable(format!(
                "{text} is a list of images, and one image is wanted: see `crossdock manifest --help`"
            )));
        }
        let records = self.store.list()?;
        if let Some(image) = by_id(text, &records)? {
            return Ok(image);
        }
        Err(self.not_known(text, &records))
    }

    /// In buildah's words, which scripts look for, with where it was looked.
    fn not_known(&self, text: &str, records: &Records) -> anyhow::Error {
        let root = self.store.root().display();
        let names: Vec<_> = records.names.keys().map(String::as_str).collect();
        let known = match (transport_of(text), names.as_slice()) {
            (Some((transport, _)), _) if !matches!(transport, "docker" | "containers-storage") => format!(
                "that is a place and no name of an image that is remembered here; remember it with `crossdock pull {text}`"
            ),
            (_, []) => format!("no image was built or pulled below {root}"),
            (_, names) if names.len() <= 8 => format!("below {root} there are {}", names.join(", ")),
            (_, names) => {
                format!("below {root} there are {} names, which `crossdock images` lists", names.len())
            }
        };
        unusable(format!("{}: image not known: {known}", escape_line(text)))
    }

    /// The bytes of all files below the root directory, and of each directory in it.
    pub(crate) fn disk_used(&self) -> Result<(u64, BTreeMap<String, u64>)> {
        let mut parts = BTreeMap::new();
        for entry in entries(self.store.root())? {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                parts.insert(entry.file_name().to_string_lossy().into_owned(), bytes_below(&entry.path())?);
            }
        }
        Ok((bytes_below(self.store.root())?, parts))
    }

    /// The image of a name, which may leave out `localhost/`, or what Docker's short names leave out.
    pub(crate) fn find_named(&self, text: &str) -> Result<Option<ImageRecord>> {
        for reference in candidates(text) {
            let found = match reference.digest() {
                Some(digest) => Some(digest),
                None => self.store.named(&reference.to_string())?,
            };
            if let Some(image) = found.map(|digest| self.store.image(&digest)).transpose()?.flatten() {
                return Ok(Some(image));
            }
        }
        Ok(None)
    }

    /// The name that a user means by `text`, where it is one of this image.
    pub(crate) fn name_of(&self, text: &str, image: &Digest) -> Result<Option<String>> {
        for reference in candidates(text).iter().filter(|reference| reference.digest().is_none()) {
            let name = reference.to_string();
            if self.store.named(&name)?.as_ref() == Some(image) {
                return Ok(Some(name));
            }
        }
        Ok(None)
    }

    /// The list of images that a user means: by name, or by the beginning of its ID.
    pub(crate) fn find_list(&self, text: &str) -> Result<Option<ImageList>> {
        for reference in candidates(text).iter().filter(|reference| reference.digest().is_none()) {
            if let Some(id) = self.store.named(&reference.to_string())?
                && let Some(list) = self.store.image_list(&id)?
            {
                return Ok(Some(list));
            }
        }
        // Shorter ones are names more often than IDs.
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.len() < 7 || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut lists =
            self.store.list()?.lists.into_iter().filter(|list| list.id.digest().starts_with(prefix));
        Ok(lists.next().filter(|_| lists.next().is_none()))
    }

    /// An image of a list, as it can be sent on.
    ///
    /// # Errors
    /// Where it is not remembered any more, or cannot be had; as [`sealed`](Self::sealed).
    pub(crate) async fn listed(&self, entry: &ListEntry, registry: &Registry) -> Result<Listed<Sealed>> {
        let details = entry.manifest.details.clone();
        let image = match &entry.place {
            ListedPlace::Record => {
                let (local, entry, registry) = (self.clone(), entry.clone(), registry.clone());
                blocking(move || local.sealed(&local.member(&entry)?, &registry)).await?
            }
            ListedPlace::Image(name) => {
                let inner = locate(name, registry)?;
                let source: Arc<dyn ImageSource> =
                    Arc::new(ListedSource::new(inner, details.platform.clone()));
                let platform = entry.manifest.platform().unwrap_or_else(Platform::host);
                let image = source.resolve(&platform).await?;
                if let Some(warning) = image.platform_warning(&platform, &source.name()) {
                    tracing::warn!("{warning}");
                }
                let layers = image.layers(&source.name())?.into_iter().map(|layer| AssemblyLayer {
                    from_base: true,
                    title: source.name(),
                    content: LayerContent::Blob { layer, source: Arc::clone(&source) },
                });
                Sealed {
                    layers: layers.collect(),
                    config: image.manifest.config().clone(),
                    annotations: image
                        .manifest
                        .annotations()
                        .clone()
                        .unwrap_or_default()
                        .into_iter()
                        .collect(),
                    manifest: image.descriptor,
                    manifest_bytes: image.manifest_bytes,
                    config_bytes: image.config_bytes,
                }
            }
        };
        Ok(Listed { image, details })
    }

    /// The recorded image of a list's entry.
    ///
    /// # Errors
    /// Where it is on a registry, or not remembered any more.
    pub(crate) fn member(&self, entry: &ListEntry) -> Result<ImageRecord> {
        let digest = &entry.manifest.digest;
        if let ListedPlace::Image(name) = &entry.place {
            bail!("the image {digest} of the list is not here, but at {name}");
        }
        self.store.image(digest)?.ok_or_else(|| {
            unusable(format!(
                "the image {digest} of the list is not remembered any more: build it again, or take it off the list \
                 with `crossdock manifest remove`"
            ))
        })
    }

    /// What a name stands for, as a base: the image, or the one of the list that is for `platform`.
    pub(crate) fn base(&self, text: &str, platform: &Platform, registry: &Registry) -> Result<LocalBase> {
        if let Some(image) = self.find_named(text)? {
            let source = self.named_source(&image, text, image.manifest.digest(), registry)?;
            return match source.other_platform(platform)? {
                None => Ok(LocalBase::Source(Arc::new(source))),
                Some(is) => {
                    let name = self.whole_name(text, image.manifest.digest())?;
                    Ok(LocalBase::OtherPlatform { name, is, image: Arc::new(source) })
                }
            };
        }
        let Some(list) = self.find_list(text)? else { return Ok(LocalBase::Unknown) };
        let name = self.whole_name(text, &list.id)?;
        let entry = match list.select(platform, &name) {
            Ok(entry) => entry,
            Err(error) => return Ok(LocalBase::NotListed { name, error }),
        };
        let source: Arc<dyn ImageSource> = match &entry.place {
            ListedPlace::Image(name) => locate(name, registry)?,
            ListedPlace::Record => {
                Arc::new(self.named_source(&self.member(entry)?, text, &list.id, registry)?)
            }
        };
        let said = entry.manifest.details.platform.clone();
        Ok(LocalBase::Source(Arc::new(ListedSource::new(source, said))))
    }

    fn whole_name(&self, text: &str, key: &Digest) -> Result<String> {
        Ok(self.name_of(text, key)?.unwrap_or_else(|| text.to_owned()))
    }

    /// The other names of an image or list that stands under a name, where they are a registry's; `None` where nothing
    /// is remembered under it.
    pub(crate) fn registry_names(&self, text: &str) -> Result<Option<Vec<String>>> {
        let key = match self.find_list(text)? {
            Some(list) => list.id,
            None => match self.find_named(text)? {
                Some(image) => image.manifest.digest().clone(),
                None => return Ok(None),
            },
        };
        let records = self.store.list()?;
        let names = records.names_of(&key).filter(|name| !name.starts_with(LOCALHOST)).map(str::to_owned);
        Ok(Some(names.collect()))
    }

    /// An image as it can be sent on, its files looked at again.
    ///
    /// # Errors
    /// A damaged record, or one with layers in a place that cannot be had. Files are looked at when they are needed.
    pub(crate) fn sealed(&self, image: &ImageRecord, registry: &Registry) -> Result<Sealed> {
        let manifest = image.manifest()?;
        let layers = self.located(image, registry)?.into_iter().map(|Located { title, layer, origin }| {
            let (from_base, content) = match origin {
                LayerOrigin::Blob(source) => (true, LayerContent::Blob { layer, source }),
                LayerOrigin::Files { layer: files, compression, .. } => {
                    (false, LayerContent::Files { layer: files, compression, known: Some(layer) })
                }
            };
            AssemblyLayer { title, from_base, content }
        });
        Ok(Sealed {
            manifest: image.manifest.clone(),
            manifest_bytes: image.manifest_bytes.clone(),
            config: manifest.config().clone(),
            config_bytes: image.config_bytes.clone(),
            annotations: manifest.annotations().clone().unwrap_or_default().into_iter().collect(),
            layers: layers.collect(),
        })
    }

    /// An image to build upon, which `text` stands for, or the list of it that is remembered as `key`.
    ///
    /// # Errors
    /// As [`sealed`](Self::sealed).
    fn named_source(
        &self,
        image: &ImageRecord,
        text: &str,
        key: &Digest,
        registry: &Registry,
    ) -> Result<RecordSource> {
        let layers = self.located(image, registry)?.into_iter();
        let origins = layers.map(|layer| (layer.layer.descriptor, layer.origin)).collect();
        // Beginnings of IDs are no names.
        let with_digest = || candidates(text).into_iter().find(|reference| reference.digest().is_some());
        let in_full = match self.name_of(text, key)? {
            Some(name) => Some(name),
            None => with_digest().map(|reference| reference.name_in_full()),
        };
        Ok(RecordSource { name: text.to_owned(), in_full, record: image.clone(), origins })
    }

    /// The layers of an image, its files looked at again.
    fn located(&self, image: &ImageRecord, registry: &Registry) -> Result<Vec<Located>> {
        let find = |name: &str| locate(name, registry).map_err(|error| Error::Unusable(format!("{error:#}")));
        let layers = self.store.layers(image)?.into_iter().map(|recorded| {
            let origin = match recorded.origin {
                RecordedOrigin::Image(name) => LayerOrigin::Blob(locate(&name, registry)?),
                RecordedOrigin::Files { layer, compression } => {
                    let (layer, state) = layer.renewed(&find)?;
                    LayerOrigin::Files { layer, compression, state }
                }
            };
            Ok(Located { title: recorded.title, layer: recorded.layer, origin })
        });
        layers.collect()
    }
}

/// A layer of a remembered image, and where its bytes are now.
struct Located {
    title: String,
    layer: Layer,
    origin: LayerOrigin,
}

fn entries(directory: &Path) -> Result<Vec<fs::DirEntry>> {
    let failed = |source| Error::Load { path: directory.to_owned(), source };
    match fs::read_dir(directory) {
        Ok(entries) => Ok(entries.collect::<std::io::Result<_>>().map_err(failed)?),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed(error).into()),
    }
}

fn bytes_below(directory: &Path) -> Result<u64> {
    let mut bytes = 0;
    for entry in entries(directory)? {
        // A file that is gone by now has none.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}

/// The image with this ID, or one that begins so; or with this digest.
fn by_id(text: &str, records: &Records) -> Result<Option<ImageRecord>> {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    if prefix.is_empty() || !prefix.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return Ok(None);
    }
    let begins = |digest: &Digest| digest.digest().starts_with(prefix);
    let found: Vec<_> = records
        .images
        .iter()
        .filter(|image| begins(&image.id()) || image.manifest.digest().digest() == prefix)
        .collect();
    match found.as_slice() {
        [] => Ok(None),
        [first, rest @ ..] if rest.iter().all(|other| other.id() == first.id()) => Ok(Some((*first).clone())),
        several => Err(unusable(format!(
            "{text} is the beginning of the IDs of {} images: write more of it",
            several.len()
        ))),
    }
}

fn unusable(text: String) -> anyhow::Error {
    Error::Unusable(text).into()
}
