//! OCI image layouts on disk (OCI image-spec, image-layout.md): as a source of base images, and as a sink.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::cancel::Cancel;
use crate::config::ImageConfig;
use crate::decode::{self, ChannelReader};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{BlobStream, ImageSource, Layer, ResolvedImage, VerifiedStream, is_config, is_foreign};
use crate::json::from_json;
use crate::lock::FileLock;
use crate::manifest_entry::{EntryPlatform, ManifestEntry};
use crate::parallel::blocking;
use crate::platform::Platform;
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::selection::Selection;
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::staging::{self, Staging};
use crate::whole::write_whole_as;
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
    fn entry(&self) -> Result<ManifestEntry> {
        let marker = self.directory.join("oci-layout");
        fs::read(&marker).map_err(|source| Error::Load { path: marker, source })?;
        let path = self.directory.join("index.json");
        let bytes = fs::read(&path).map_err(|source| Error::Load { path: path.clone(), source })?;
        let entries = ManifestEntry::of_index(&bytes)
            .map_err(|source| Error::Malformed { what: path.display().to_string(), source })?;
        self.choose(&entries).or_else(|error| self.listed(&entries)?.ok_or(error))
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
        let image = self.read_documents(entry.descriptor())?.listed_as(said.as_ref());
        image.warn_of_platform(platform, &self.name());
        Ok(image)
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

/// Whether a media type is that of an OCI index or a Docker manifest list.
#[must_use]
pub fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(other) => other == "application/vnd.docker.distribution.manifest.list.v2+json",
        _ => false,
    }
}

fn parse<T: serde::de::DeserializeOwned>(bytes: &[u8], what: impl FnOnce() -> String) -> Result<T> {
    from_json(bytes).map_err(|source| Error::Malformed { what: what(), source })
}

fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm().to_string()).join(digest.digest())
}

/// Writes an image into an OCI layout, beside the images that are there. Other processes may do so at the same time: blobs
/// wait aside until the image is whole, and the index is changed under a lock.
#[derive(Debug)]
pub struct LayoutSink {
    layout: Arc<Layout>,
    writers: Writers,
}

/// The directory that is written to. All that is done with it blocks.
#[derive(Debug)]
pub(crate) struct Layout {
    directory: PathBuf,
    /// Where the blobs are, each in a file called as the digest's hexadecimal part.
    blobs: PathBuf,
    reference: Option<String>,
    /// Directories that this run made, from the outermost in, for `abort` to remove.
    made: Mutex<Vec<PathBuf>>,
    /// The blobs of this run, once it is prepared.
    staging: Mutex<Option<Staging>>,
}

impl LayoutSink {
    /// An image called `reference` in `directory`, which is created, or is a layout already.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>, reference: Option<String>) -> Self {
        let directory = directory.into();
        Self::of(Layout { reference, ..Layout::new(directory.join("blobs/sha256"), directory) })
    }

    /// Blobs in `directory` itself, for a sink that has other documents beside them.
    pub(crate) fn flat(directory: PathBuf) -> Self {
        Self::of(Layout::new(directory.clone(), directory))
    }

    fn of(layout: Layout) -> Self {
        Self { layout: Arc::new(layout), writers: Writers::default() }
    }

    /// Does `work` on a blocking thread; it is told when nobody waits for it any more.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let layout = Arc::clone(&self.layout);
        self.writers.run(move |cancel| work(&layout, cancel)).await
    }
}

impl Layout {
    fn new(blobs: PathBuf, directory: PathBuf) -> Self {
        Self { directory, blobs, reference: None, made: Mutex::default(), staging: Mutex::default() }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    fn blob(&self, digest: &Digest) -> PathBuf {
        self.blobs.join(digest.digest())
    }

    fn has(&self, descriptor: &Descriptor) -> bool {
        let staged =
            lock(&self.staging).as_ref().is_some_and(|s| s.has(descriptor.digest(), descriptor.size()));
        staged || fs::metadata(self.blob(descriptor.digest())).is_ok_and(|m| m.len() == descriptor.size())
    }

    /// Whether a blob is there, which the image then counts on.
    fn counts_on(&self, descriptor: &Descriptor) -> Result<bool> {
        let there = self.has(descriptor);
        if there {
            let (digest, size) = (descriptor.digest(), descriptor.size());
            self.with_staging(|staging| {
                if !staging.has(digest, size) {
                    staging.count_on(&self.blob(digest), digest, size);
                }
                Ok(())
            })?;
        }
        Ok(there)
    }

    fn with_staging<T>(&self, work: impl FnOnce(&mut Staging) -> io::Result<T>) -> Result<T> {
        let mut staging = lock(&self.staging);
        let staging = staging.as_mut().ok_or_else(|| {
            Error::Unusable(format!("{} is not open for writing", self.directory.display()))
        })?;
        work(staging).map_err(|source| Error::Write { path: self.blobs.clone(), source })
    }

    fn temporary(&self) -> Result<NamedTempFile> {
        self.with_staging(|staging| NamedTempFile::new_in(staging.path()))
    }

    fn keep(&self, file: NamedTempFile, digest: &Digest) -> Result<()> {
        self.with_staging(|staging| {
            readable(file.as_file())?;
            staging.keep(file, digest)
        })
    }

    /// Opens the directory for blobs that come; it is made where it is missing.
    pub(crate) fn open(&self) -> Result<()> {
        let mut staging = lock(&self.staging);
        if staging.is_none() {
            self.make(&self.directory)?;
            let parent = staging::parent(&self.directory, &self.blobs);
            let opened = Staging::new(parent);
            *staging = Some(opened.map_err(|source| Error::Write { path: self.directory.clone(), source })?);
        }
        Ok(())
    }

    /// Makes what is missing of a directory and those it is in.
    fn make(&self, directory: &Path) -> Result<()> {
        let mut missing = Vec::new();
        let mut at = Some(directory);
        while let Some(path) = at.filter(|p| !p.as_os_str().is_empty() && !p.exists()) {
            missing.push(path.to_path_buf());
            at = path.parent();
        }
        fs::create_dir_all(directory)
            .map_err(|source| Error::Write { path: directory.to_owned(), source })?;
        lock(&self.made).extend(missing.into_iter().rev());
        Ok(())
    }

    /// Moves the blobs to their places and lets `finish` write the documents that name them, while no other process of
    /// ours does so in this directory. `marker` says what kind of directory it is, and comes before all else: others look
    /// for it.
    pub(crate) fn publish(
        &self,
        marker: (&str, &[u8]),
        cancel: &Cancel,
        finish: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        let path = staging::lock_of(&self.directory);
        let failed = |source| Error::Write { path: path.clone(), source };
        let held = FileLock::hold_or(&path, cancel);
        let _held = held.map_err(|error| decode::limit_or(error, failed))?.removed();
        // From here on it is done to its end.
        cancel.check()?;
        let mut moved = Vec::new();
        let marked = self.directory.join(marker.0);
        if !marked.exists() {
            self.write(marker.0, marker.1)?;
            moved.push(marked);
        }
        let result = self
            .make(&self.blobs)
            .and_then(|()| self.with_staging(|staging| staging.publish(&self.blobs, &mut moved)))
            .and_then(|()| finish());
        if result.is_err() {
            // Nobody saw these named: best effort, on the way out of another error.
            for file in &moved {
                let _ = fs::remove_file(file);
            }
        }
        result?;
        *lock(&self.staging) = None;
        Ok(())
    }

    /// Writes a document beside the blobs, whole or not at all.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.directory.join(name);
        write_whole_as(&path, bytes, READABLE).map_err(|source| Error::Write { path, source })
    }

    /// Stores a small document as a blob.
    fn put(&self, blob: &Descriptor, bytes: &[u8]) -> Result<Outcome> {
        if self.counts_on(blob)? {
            return Ok(Outcome::Present);
        }
        let mut file = self.temporary()?;
        file.write_all(bytes).map_err(|source| Error::Write { path: self.blobs.clone(), source })?;
        self.keep(file, blob.digest())?;
        Ok(Outcome::Written)
    }

    /// Stores a new layer, in one pass.
    fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
        cancel: &Cancel,
    ) -> Result<(Layer, Outcome)> {
        if let Some(known) = layer.known.clone()
            && self.counts_on(&known.descriptor)?
        {
            return Ok((known, Outcome::Present));
        }
        watch.phase(Phase::Writing);
        let mut file = self.temporary()?;
        let mut reader =
            LayerReader::new(&layer.layer, layer.compression, read).with_known(layer.known.as_ref());
        while let Some(chunk) = reader.next_chunk()? {
            cancel.check()?;
            file.write_all(&chunk).map_err(|source| Error::Write { path: self.blobs.clone(), source })?;
            watch.position(reader.position());
        }
        let digested = reader.finish()?;
        self.keep(file, digested.descriptor.digest())?;
        Ok((digested, Outcome::Written))
    }

    /// Writes what comes. Whether it is a whole blob, who sends it knows.
    fn receive(&self, mut chunks: ChannelReader) -> Result<NamedTempFile> {
        let mut file = self.temporary()?;
        while let Some(chunk) = chunks.next_chunk()? {
            file.write_all(&chunk).map_err(|source| Error::Write { path: self.blobs.clone(), source })?;
        }
        Ok(file)
    }

    /// Gives up the blobs that wait, and removes the directories that this run made. One that others use by now stays.
    fn give_up(&self) {
        *lock(&self.staging) = None;
        for directory in std::mem::take(&mut *lock(&self.made)).iter().rev() {
            let _ = fs::remove_dir(directory);
        }
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
const READABLE: u32 = 0o644;

pub(crate) fn readable(file: &fs::File) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(fs::Permissions::from_mode(READABLE))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl ImageSink for LayoutSink {
    fn name(&self) -> String {
        let reference = self.layout.reference.as_ref().map_or(String::new(), |r| format!(":{r}"));
        format!("oci:{}{reference}", self.layout.directory.display())
    }

    async fn foresee(&self, blob: Option<&Descriptor>, _from: Option<&dyn ImageSource>) -> Result<Outcome> {
        let Some(blob) = blob.cloned() else { return Ok(Outcome::Written) };
        self.run(move |layout, _| Ok(if layout.has(&blob) { Outcome::Present } else { Outcome::Written }))
            .await
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        self.run(|layout, _| {
            // In this order: another process that makes a layout here writes its marker first.
            if staging::holds_something(&layout.directory) && !layout.directory.join("oci-layout").exists() {
                return Err(Error::Unusable(format!(
                    "{} is not empty and not an OCI layout: choose another directory",
                    layout.directory.display()
                )));
            }
            layout.open()
        })
        .await
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        let (new, read, line) = (layer.clone(), read.clone(), watch.clone());
        let put = self.run(move |layout, cancel| layout.put_layer(&new, &read, &line, cancel)).await;
        put.inspect(|(layer, outcome)| watch.finished(outcome, &layer.descriptor))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        _diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        let wanted = blob.clone();
        if self.run(move |layout, _| layout.counts_on(&wanted)).await? {
            watch.finished(&Outcome::Present, blob);
            return Ok(Outcome::Present);
        }
        watch.phase(Phase::Writing);
        let what = format!("layer {} of {}", blob.digest(), from.name());
        let chunks = VerifiedStream::new(from.blob(blob, 0).await?, blob, what);
        let (sender, receiver) = decode::channel();
        let writing = self.run(|layout, _| layout.receive(receiver));
        let (file, ()) = tokio::try_join!(writing, decode::send_all(chunks, sender, watch))?;
        let digest = blob.digest().clone();
        self.run(move |layout, _| layout.keep(file, &digest)).await?;
        watch.finished(&Outcome::Written, blob);
        Ok(Outcome::Written)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome> {
        let config = config.clone();
        self.run(move |layout, _| layout.put(&config, &bytes)).await
    }

    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        self.put_config(manifest, bytes).await.map(drop)
    }

    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        let (manifest, name) = (manifest.clone(), self.name());
        self.run(move |layout, cancel| {
            check_children(&manifest, &bytes, &name, |child| layout.has(child))?;
            layout.put(&manifest, &bytes)?;
            layout.publish(("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#), cancel, || {
                let index = with_manifest(layout.index()?, &manifest, layout.reference.as_deref());
                layout.write("index.json", &crate::canonical_json(&index))
            })
        })
        .await
    }

    async fn abort(&self, _why: Abort) {
        self.writers.ended().await;
        // What cannot be removed is no reason to say more on the way out of another error.
        let given_up = self.run(|layout, _| {
            layout.give_up();
            Ok(())
        });
        let _ = given_up.await;
    }
}

/// What is written may name only what is there: an index images, and a manifest blobs.
pub(crate) fn check_children(
    manifest: &Descriptor,
    bytes: &[u8],
    place: &str,
    has: impl Fn(&Descriptor) -> bool,
) -> Result<()> {
    if !is_index(manifest.media_type()) {
        let manifest: ImageManifest = parse(bytes, || "the manifest to write".to_owned())?;
        let layers = manifest.layers().iter().filter(|layer| !is_foreign(layer));
        let mut blobs = std::iter::once(manifest.config()).chain(layers);
        return match blobs.find(|blob| !has(blob)) {
            None => Ok(()),
            Some(blob) => Err(Error::Unusable(format!(
                "the manifest names the blob {}, which did not come to {place}: build the image again",
                blob.digest()
            ))),
        };
    }
    let children = ManifestEntry::of_index(bytes)
        .map_err(|source| Error::Malformed { what: "the index to write".to_owned(), source })?;
    match children.iter().find(|child| !has(&child.descriptor())) {
        None => Ok(()),
        Some(child) => Err(Error::Unusable(format!(
            "the image {} of the list is not in {place}: send the images too, with --all",
            child.digest
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
