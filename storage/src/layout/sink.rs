//! The sink that writes an image into an OCI layout, and the directory that it writes to.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde_json::json;
use tempfile::NamedTempFile;

use super::index::{check_children, with_manifest};
use super::parse;
use crate::cancel::Cancel;
use crate::decode::{self, ChannelReader};
use crate::digest::{DiffId, Digest};
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer, VerifiedStream};
use crate::lock::FileLock;
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::staging::{self, Staging};
use crate::whole::{without_path, write_whole_as};
use crate::writers::Writers;

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
        self.with_staging(|staging| NamedTempFile::new_in(staging.path()).map_err(without_path))
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
            if self.directory.exists() && !self.directory.is_dir() {
                let directory = self.directory.display();
                let text =
                    format!("{directory} is no directory, and the image is written into one: name another");
                return Err(Error::Unusable(text));
            }
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
