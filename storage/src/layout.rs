//! OCI image layouts on disk (OCI image-spec, image-layout.md): as a source of base images, and as a sink.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cancel::Cancel;
use crate::config::ImageConfig;
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{BlobStream, ImageSource, Layer, ResolvedImage, VerifiedStream};
use crate::manifest_entry::ManifestEntry;
use crate::memo::write_whole;
use crate::parallel::blocking;
use crate::platform::Platform;
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::writers::Writers;

/// The annotation that names an image in an index (OCI image-spec, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

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
    fn entry(&self) -> Result<Descriptor> {
        let marker = self.directory.join("oci-layout");
        fs::read(&marker).map_err(|source| Error::Load { path: marker, source })?;
        let path = self.directory.join("index.json");
        let bytes = fs::read(&path).map_err(|source| Error::Load { path: path.clone(), source })?;
        self.choose(&parse(&bytes, || path.display().to_string())?)
    }

    fn read_index(&self, descriptor: &Descriptor) -> Result<ImageIndex> {
        parse(&self.document(descriptor)?, || format!("the index of {}", self.name()))
    }

    /// The entries of the index, where the name stands for one.
    fn read_entries(&self) -> Result<Option<Vec<ManifestEntry>>> {
        let descriptor = self.entry()?;
        if !is_index(descriptor.media_type()) {
            return Ok(None);
        }
        let entries = ManifestEntry::of_index(&self.document(&descriptor)?);
        entries
            .map(Some)
            .map_err(|source| Error::Malformed { what: format!("the index of {}", self.name()), source })
    }

    /// Manifest and config of the image for `platform`.
    fn read_image(&self, platform: &Platform) -> Result<ResolvedImage> {
        let mut descriptor = self.entry()?;
        let mut nesting = 0;
        while is_index(descriptor.media_type()) {
            nesting += 1;
            if nesting > MAX_NESTING {
                return Err(Error::Unusable(format!("{}: indexes are nested too deeply", self.name())));
            }
            let index = self.read_index(&descriptor)?;
            descriptor = select_platform(&index, platform, &self.name())?;
        }
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

    fn choose(&self, index: &ImageIndex) -> Result<Descriptor> {
        let name_of = |d: &Descriptor| d.annotations().as_ref().and_then(|a| a.get(REF_NAME).cloned());
        let names = || {
            let names: Vec<_> = index.manifests().iter().filter_map(name_of).collect();
            if names.is_empty() { "it names none".to_owned() } else { format!("it has {}", names.join(", ")) }
        };
        match (&self.reference, index.manifests().as_slice()) {
            (Some(wanted), manifests) => manifests
                .iter()
                .find(|d| name_of(d).as_ref() == Some(wanted) || d.digest().to_string() == *wanted)
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

    fn locator(&self) -> String {
        let directory = std::path::absolute(&self.directory).unwrap_or_else(|_| self.directory.clone());
        Self { directory, ..self.clone() }.name()
    }

    async fn index(&self) -> Result<Option<Vec<ManifestEntry>>> {
        let source = self.clone();
        blocking(move || source.read_entries()).await
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

/// Whether a media type is that of an OCI index or a Docker manifest list.
#[must_use]
pub fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(other) => other == "application/vnd.docker.distribution.manifest.list.v2+json",
        _ => false,
    }
}

/// The entry of an index for a platform.
pub(crate) fn select_platform(index: &ImageIndex, wanted: &Platform, what: &str) -> Result<Descriptor> {
    let platform_of = |d: &Descriptor| {
        d.platform().as_ref().map(|p| Platform {
            os: p.os().to_string(),
            architecture: p.architecture().to_string(),
            variant: p.variant().clone(),
        })
    };
    let found =
        index.manifests().iter().find(|d| platform_of(d).is_some_and(|offered| wanted.accepts(&offered)));
    found.cloned().ok_or_else(|| {
        let offered: Vec<_> =
            index.manifests().iter().filter_map(platform_of).map(|p| p.to_string()).collect();
        Error::Unusable(format!(
            "{what} has no image for {wanted}: it has {}; choose with --platform",
            offered.join(", ")
        ))
    })
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|source| Error::Malformed { what: what(), source })
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm().to_string()).join(digest.digest())
}

/// Writes an image into an OCI layout, beside the images that are there.
#[derive(Debug)]
pub struct LayoutSink {
    directory: PathBuf,
    /// Where the blobs are, each in a file called as the digest's hexadecimal part.
    blobs: PathBuf,
    reference: Option<String>,
    /// What this run made, for `abort` to remove: blobs, and directories from the outermost in.
    made: Mutex<Made>,
    prepared: OnceLock<()>,
    writers: Writers,
}

#[derive(Debug, Default)]
struct Made {
    blobs: Vec<PathBuf>,
    directories: Vec<PathBuf>,
}

impl LayoutSink {
    /// An image called `reference` in `directory`, which is created, or is a layout already.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, reference: Option<String>) -> Self {
        let directory = directory.into();
        Self {
            blobs: directory.join("blobs/sha256"),
            directory,
            reference,
            made: Mutex::default(),
            prepared: OnceLock::new(),
            writers: Writers::default(),
        }
    }

    /// Blobs in `directory` itself, for a sink that has other documents beside them.
    pub(crate) fn flat(directory: PathBuf) -> Self {
        Self { blobs: directory.clone(), ..Self::new(directory, None) }
    }

    fn blobs(&self) -> PathBuf {
        self.blobs.clone()
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.digest())
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        fs::metadata(self.blob(descriptor.digest())).is_ok_and(|m| m.len() == descriptor.size())
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        tempfile::Builder::new()
            .prefix(".crossdock-")
            .tempfile_in(self.blobs())
            .map_err(|source| Error::Write { path: self.blobs(), source })
    }

    fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        let path = self.blob(digest);
        let new = !path.exists();
        readable(file.as_file()).map_err(|source| Error::Write { path: path.clone(), source })?;
        file.persist(&path).map_err(|error| Error::Write { path: path.clone(), source: error.error })?;
        if new {
            self.made().blobs.push(path);
        }
        Ok(())
    }

    /// Makes what is missing of the directory of blobs and those it is in.
    pub(crate) fn make_directories(&self) -> Result<()> {
        let mut missing = Vec::new();
        let blobs = self.blobs();
        let mut at = Some(blobs.as_path());
        while let Some(path) = at.filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            missing.push(path.to_path_buf());
            at = path.parent();
        }
        fs::create_dir_all(&blobs).map_err(|source| Error::Write { path: blobs.clone(), source })?;
        self.made().directories.extend(missing.into_iter().rev());
        Ok(())
    }

    /// Writes a document beside the blobs, whole or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join(name);
        write_whole(&path, bytes)
            .and_then(|()| readable(&fs::File::open(&path)?))
            .map_err(|source| Error::Write { path, source })
    }

    fn made(&self) -> std::sync::MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn index(&self) -> Result<serde_json::Value> {
        let path = self.directory.join("index.json");
        match fs::read(&path) {
            Ok(bytes) => parse(&bytes, || path.display().to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ok(json!({"schemaVersion": 2, "manifests": []}))
            }
            Err(source) => Err(Error::Load { path, source }),
        }
    }
}

/// Temporary files are 0600; what an image directory holds is for all who may enter it.
pub(crate) fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[async_trait]
impl ImageSink for LayoutSink {
    fn name(&self) -> String {
        let reference = self.reference.as_ref().map_or(String::new(), |r| format!(":{r}"));
        format!("oci:{}{reference}", self.directory.display())
    }

    async fn foresee(&self, blob: Option<&Descriptor>, _from: Option<&dyn ImageSource>) -> Result<Outcome> {
        Ok(if blob.is_some_and(|blob| self.has(blob)) { Outcome::Present } else { Outcome::Written })
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        if self.prepared.get().is_some() {
            return Ok(());
        }
        let not_empty = fs::read_dir(&self.directory).is_ok_and(|mut entries| entries.next().is_some());
        if not_empty && !self.directory.join("oci-layout").exists() {
            return Err(Error::Unusable(format!(
                "{} is not empty and not an OCI layout: choose another directory",
                self.directory.display()
            )));
        }
        self.make_directories()?;
        self.prepared.get_or_init(|| ());
        Ok(())
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        if let Some(known) = layer.known.clone().filter(|known| self.has(&known.descriptor)) {
            watch.finished(&Outcome::Present, &known.descriptor);
            return Ok((known, Outcome::Present));
        }
        watch.phase(Phase::Writing);
        let mut file = self.temporary()?;
        let mut reader =
            LayerReader::new(&layer.layer, layer.compression, read).with_known(layer.known.as_ref());
        let (line, path) = (watch.clone(), self.blobs());
        let write = move |cancel: &Cancel| {
            while let Some(chunk) = reader.next_chunk()? {
                cancel.check()?;
                file.write_all(&chunk).map_err(|source| Error::Write { path: path.clone(), source })?;
                line.position(reader.position());
            }
            Ok((file, reader.finish()?))
        };
        let (file, digested) = self.writers.run(write).await?;
        self.keep(file, digested.descriptor.digest())?;
        watch.finished(&Outcome::Written, &digested.descriptor);
        Ok((digested, Outcome::Written))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        _diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        if self.has(blob) {
            watch.finished(&Outcome::Present, blob);
            return Ok(Outcome::Present);
        }
        watch.phase(Phase::Writing);
        let mut file = self.temporary()?;
        let what = format!("layer {} of {}", blob.digest(), from.name());
        let mut chunks = VerifiedStream::new(from.blob(blob, 0).await?, blob, what);
        let mut position = 0;
        while let Some(chunk) = chunks.next().await {
            let chunk = chunk?;
            file.write_all(&chunk)
                .map_err(|source| Error::Write { path: file.path().to_path_buf(), source })?;
            position += chunk.len() as u64;
            watch.position(position);
        }
        self.keep(file, blob.digest())?;
        watch.finished(&Outcome::Written, blob);
        Ok(Outcome::Written)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome> {
        if self.has(config) {
            return Ok(Outcome::Present);
        }
        let mut file = self.temporary()?;
        file.write_all(&bytes).map_err(|source| Error::Write { path: self.blobs(), source })?;
        self.keep(file, config.digest())?;
        Ok(Outcome::Written)
    }

    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        self.put_config(manifest, bytes).await.map(drop)
    }

    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        check_children(manifest, &bytes, &self.name(), |child| self.has(child))?;
        self.put_config(manifest, bytes).await?;
        if !self.directory.join("oci-layout").exists() {
            self.write("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        }
        let index = with_manifest(self.index()?, manifest, self.reference.as_deref());
        self.write("index.json", &crate::canonical_json(&index))
    }

    async fn abort(&self, _why: Abort) {
        self.writers.ended().await;
        let made = std::mem::take(&mut *self.made());
        // Best effort, on the way out of another error; a directory that others use by now stays.
        for blob in made.blobs {
            let _ = fs::remove_file(blob);
        }
        for directory in made.directories.iter().rev() {
            let _ = fs::remove_dir(directory);
        }
    }
}

/// An index may name only what is there.
pub(crate) fn check_children(
    manifest: &Descriptor,
    bytes: &[u8],
    place: &str,
    has: impl Fn(&Descriptor) -> bool,
) -> Result<()> {
    if !is_index(manifest.media_type()) {
        return Ok(());
    }
    let index: ImageIndex = parse(bytes, || "the index to write".to_owned())?;
    match index.manifests().iter().find(|child| !has(child)) {
        None => Ok(()),
        Some(child) => Err(Error::Unusable(format!(
            "the image {} of the list is not in {place}: send the images too, with --all",
            child.digest()
        ))),
    }
}

/// The index with `manifest` in it, in the place of the image that had its name, or of the same manifest unnamed.
pub(crate) fn with_manifest(
    mut index: serde_json::Value,
    manifest: &Descriptor,
    reference: Option<&str>,
) -> serde_json::Value {
    let mut entry = serde_json::to_value(manifest).unwrap_or_default();
    if let Some(reference) = reference {
        let annotations: HashMap<_, _> = [(REF_NAME, reference)].into();
        entry["annotations"] = json!(annotations);
    }
    let name_of = |e: &serde_json::Value| e["annotations"][REF_NAME].as_str().map(str::to_owned);
    if let Some(manifests) = index["manifests"].as_array_mut() {
        manifests.retain(|other| match (reference, name_of(other)) {
            (Some(wanted), Some(name)) => wanted != name,
            (None, None) => other["digest"] != entry["digest"],
            _ => true,
        });
        manifests.push(entry);
    } else {
        index["manifests"] = json!([entry]);
    }
    index
}
