//! An image in an OCI layout, as a source.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_spec::image::{Descriptor, ImageManifest};

use super::index::{REF_NAME, is_index};
use super::parse;
use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{BlobStream, ImageSource, ResolvedImage, is_config};
use crate::manifest_entry::{EntryPlatform, ManifestEntry};
use crate::parallel::blocking;
use crate::platform::Platform;
use crate::selection::Selection;

/// Manifests, indexes and configs of more bytes are refused: no registry takes them.
const MAX_DOCUMENT: u64 = 8 << 20;

/// Indexes that may stand in one another.
const MAX_NESTING: u32 = 3;

/// Bytes of a blob read at a time.
const READ: usize = 1 << 20;

/// An image in an OCI layout: `oci:DIR[:ref]`.
#[derive(Debug, Clone)]
pub struct LayoutSource {
    directory: PathBuf,
    reference: Option<String>,
}

impl LayoutSource {
    /// The image called `reference` in `directory`, or the only one there.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, reference: Option<String>) -> Self {
        Self { directory: directory.into(), reference }
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        blob_path(&self.directory, digest)
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>> {
        let path = self.blob_path(descriptor.digest());
        let what = format!("{} in {}", descriptor.digest(), self.name());
        if descriptor.size() > MAX_DOCUMENT {
            return Err(Error::Unusable(format!("{what} is larger than {MAX_DOCUMENT} bytes")));
        }
        let mut bytes = Vec::new();
        fs::File::open(&path)
            .and_then(|file| file.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes))
            .map_err(|source| Error::Load { path, source })?;
        let actual = Hasher::digest(&bytes);
        if actual != *descriptor.digest() {
            return Err(Error::DigestMismatch { what, expected: descriptor.digest().clone(), actual });
        }
        Ok(bytes)
    }

    /// What the name stands for: a manifest or an index.
    fn entry(&self) -> Result<ManifestEntry> {
        let marker = self.directory.join("oci-layout");
        fs::read(&marker).map_err(|source| self.unreadable(marker, source))?;
        let path = self.directory.join("index.json");
        let bytes = fs::read(&path).map_err(|source| Error::Load { path: path.clone(), source })?;
        let entries = ManifestEntry::of_index(&bytes)
            .map_err(|source| Error::Malformed { what: path.display().to_string(), source })?;
        self.choose(&entries).or_else(|error| self.listed(&entries)?.ok_or(error))
    }

    /// Why the file is missing that makes a directory a layout.
    fn unreadable(&self, marker: PathBuf, source: io::Error) -> Error {
        let directory = self.directory.display();
        match source.kind() {
            io::ErrorKind::NotFound if !self.directory.exists() => {
                Error::Unusable(format!("there is no directory {directory}"))
            }
            io::ErrorKind::NotFound => {
                Error::Unusable(format!("{directory} is not an OCI layout: there is no oci-layout in it"))
            }
            io::ErrorKind::NotADirectory => {
                Error::Unusable(format!("{directory} is no directory, and an OCI layout is one"))
            }
            _ => Error::Load { path: marker, source },
        }
    }

    /// The image in a list of the layout that has the digest which is wanted.
    fn listed(&self, entries: &[ManifestEntry]) -> Result<Option<ManifestEntry>> {
        let Some(wanted) = self.reference.as_ref().filter(|reference| reference.starts_with("sha256:"))
        else {
            return Ok(None);
        };
        for list in entries.iter().filter(|entry| is_index(&entry.media_type)) {
            let listed = self.read_index(list)?;
            if let Some(found) = listed.into_iter().find(|entry| entry.digest.to_string() == *wanted) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    fn read_index(&self, entry: &ManifestEntry) -> Result<Vec<ManifestEntry>> {
        ManifestEntry::of_index(&self.document(&entry.descriptor())?)
            .map_err(|source| Error::Malformed { what: format!("the index of {}", self.name()), source })
    }

    /// The entries of the index, where the name stands for one.
    fn read_entries(&self) -> Result<Option<Vec<ManifestEntry>>> {
        let entry = self.entry()?;
        if is_index(&entry.media_type) { self.read_index(&entry).map(Some) } else { Ok(None) }
    }

    /// Manifest and config of the image for `platform`.
    fn read_image(&self, platform: &Platform) -> Result<ResolvedImage> {
        let mut entry = self.entry()?;
        let (mut nesting, mut said) = (0, None);
        while is_index(&entry.media_type) {
            nesting += 1;
            if nesting > MAX_NESTING {
                return Err(Error::Unusable(format!("{}: indexes are nested too deeply", self.name())));
            }
            let entries = self.read_index(&entry)?;
            let mut selection = Selection::new(&entries, platform);
            while let Some(unknown) = selection.next_unknown() {
                selection.learn(self.read_platform(unknown)?.as_ref());
            }
            entry = selection.chosen(&self.name())?.clone();
            said.clone_from(&entry.details.platform);
        }
        Ok(self.read_documents(entry.descriptor())?.listed_as(said.as_ref()))
    }

    /// What an image of an index is for, by its config.
    fn read_platform(&self, entry: &ManifestEntry) -> Result<Option<EntryPlatform>> {
        if is_index(&entry.media_type) {
            return Ok(None);
        }
        let manifest_bytes = self.document(&entry.descriptor())?;
        let manifest: ImageManifest = parse(&manifest_bytes, || format!("the manifest of {}", self.name()))?;
        if !is_config(manifest.config()) {
            return Ok(None);
        }
        let config = parse(&self.document(manifest.config())?, || format!("the config of {}", self.name()))?;
        Ok(Some(EntryPlatform::of_config(&config)).filter(|is| is.said().is_some()))
    }

    /// Manifest and config of an image.
    fn read_documents(&self, descriptor: Descriptor) -> Result<ResolvedImage> {
        let manifest_bytes = self.document(&descriptor)?;
        let manifest: ImageManifest = parse(&manifest_bytes, || format!("the manifest of {}", self.name()))?;
        let config_bytes = self.document(manifest.config())?;
        let config: ImageConfig = parse(&config_bytes, || format!("the config of {}", self.name()))?;
        Ok(ResolvedImage {
            descriptor,
            manifest,
            config,
            manifest_bytes: manifest_bytes.into(),
            config_bytes: config_bytes.into(),
        })
    }

    fn choose(&self, entries: &[ManifestEntry]) -> Result<ManifestEntry> {
        let name_of = |entry: &ManifestEntry| entry.details.annotations.get(REF_NAME).cloned();
        let names = || {
            let names: Vec<_> = entries.iter().filter_map(name_of).collect();
            if names.is_empty() { "it names none".to_owned() } else { format!("it has {}", names.join(", ")) }
        };
        match (&self.reference, entries) {
            (Some(wanted), entries) => entries
                .iter()
                .find(|entry| name_of(entry).as_ref() == Some(wanted) || entry.digest.to_string() == *wanted)
                .cloned()
                .ok_or_else(|| {
                    Error::Unusable(format!(
                        "no image {wanted:?} in {}: {}",
                        self.directory.display(),
                        names()
                    ))
                }),
            (None, [only]) => Ok(only.clone()),
            (None, []) => Err(Error::Unusable(format!("{} has no image", self.directory.display()))),
            (None, _) => Err(Error::Unusable(format!(
                "{0} has several images: name one as oci:{0}:REF; {1}",
                self.directory.display(),
                names()
            ))),
        }
    }
}

#[async_trait]
impl ImageSource for LayoutSource {
    fn name(&self) -> String {
        let reference = self.reference.as_ref().map_or(String::new(), |r| format!(":{r}"));
        format!("oci:{}{reference}", self.directory.display())
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        let directory = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        Self { directory, ..self.clone() }.name()
    }

    async fn index(&self) -> Result<Option<Vec<ManifestEntry>>> {
        let source = self.clone();
        blocking(move || source.read_entries()).await
    }

    async fn platform_of(&self, entry: &ManifestEntry) -> Result<Option<EntryPlatform>> {
        let (source, entry) = (self.clone(), entry.clone());
        blocking(move || source.read_platform(&entry)).await
    }

    async fn resolve(&self, platform: &Platform) -> Result<ResolvedImage> {
        let (source, platform) = (self.clone(), platform.clone());
        blocking(move || source.read_image(&platform)).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let path = self.blob_path(blob.digest());
        let open = {
            let path = path.clone();
            move || {
                let mut file = fs::File::open(&path)?;
                if offset > 0 {
                    file.seek(SeekFrom::Start(offset))?;
                }
                Ok(file)
            }
        };
        let file = blocking(open).await.map_err(|source| Error::Load { path: path.clone(), source })?;
        let chunks = stream::unfold(Some((file, path)), |state| async move {
            let (mut file, path) = state?;
            let read = blocking(move || {
                let mut buffer = vec![0; READ];
                let result = file.read(&mut buffer);
                (file, buffer, result)
            });
            match read.await {
                (_, _, Ok(0)) => None,
                (file, mut buffer, Ok(n)) => {
                    buffer.truncate(n);
                    Some((Ok(Bytes::from(buffer)), Some((file, path))))
                }
                (_, _, Err(source)) => Some((Err(Error::Load { path, source }), None)),
            }
        });
        Ok(chunks.boxed())
    }
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm().to_string()).join(digest.digest())
}
