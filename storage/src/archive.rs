//! One-file images: `oci-archive` (a tar of an OCI layout) and `docker-archive` (what `docker load` reads).
//!
//! A blob's digest is its name in the archive, and is known only when the blob is through. So a header is left free,
//! the blob is read, hashed and written in one pass, and the header is filled in after it. The file grows beside its
//! destination under another name and takes its place at the end.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use oci_spec::image::Descriptor;
use serde_json::json;
use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use crate::cancel::Cancel;
use crate::decode;
use crate::digest::DiffId;
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{ImageSource, Layer, VerifiedStream};
use crate::layout::{check_children, readable, with_manifest};
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::writers::Writers;

/// Which kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ArchiveKind {
    /// A tar of an OCI layout.
    Oci,
    /// What `docker save` writes and `docker load` reads; layers are not compressed in it.
    Docker,
}

/// Writes an image into one file.
#[derive(Debug)]
pub struct ArchiveSink {
    path: PathBuf,
    kind: ArchiveKind,
    /// Names in the archive: a ref name (OCI), or `repository:tag` (Docker).
    names: Vec<String>,
    state: Mutex<Option<State>>,
    writers: Writers,
}

/// The archive while it grows.
#[derive(Debug)]
struct State {
    file: NamedTempFile,
    end: u64,
    have: BTreeSet<String>,
    /// Docker: the config's name and the layers' names in the manifest's order, as they are looked up at the end.
    config: Option<(String, Bytes)>,
}

const BLOCK: u64 = 512;

impl ArchiveSink {
    /// An archive at `path`; a file there is replaced when the image is complete.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, kind: ArchiveKind, names: Vec<String>) -> Self {
        Self { path: path.into(), kind, names, state: Mutex::default(), writers: Writers::default() }
    }

    fn write_error(&self) -> impl Fn(io::Error) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::Write { path: path.clone(), source }
    }

    /// Takes the archive out for a blob to be written to it; one at a time.
    fn take(&self) -> Result<State> {
        self.lock()
            .take()
            .ok_or_else(|| Error::Unusable(format!("{} is not open for writing", self.path.display())))
    }

    fn put_back(&self, state: State) {
        *self.lock() = Some(state);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn blob_name(&self, descriptor: &Descriptor, diff_id: Option<&DiffId>) -> String {
        match (self.kind, diff_id) {
            (ArchiveKind::Oci, _) => {
                format!("blobs/{}/{}", descriptor.digest().algorithm(), descriptor.digest().digest())
            }
            (ArchiveKind::Docker, Some(diff_id)) => layer_name(diff_id),
            (ArchiveKind::Docker, None) => format!("{}.json", descriptor.digest().digest()),
        }
    }

    fn has(&self, blob: &Descriptor) -> bool {
        self.lock().as_ref().is_some_and(|state| state.have.contains(&self.blob_name(blob, None)))
    }

    fn append_small(&self, name: &str, bytes: &[u8]) -> Result<Outcome> {
        let mut state = self.take()?;
        let there = state.have.contains(name);
        let result = if there { Ok(()) } else { state.append(name, bytes).map_err(self.write_error()) };
        self.put_back(state);
        result.map(|()| if there { Outcome::Present } else { Outcome::Written })
    }
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.as_digest().digest())
}

impl State {
    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let start = self.begin()?;
        self.file.write_all(bytes)?;
        self.complete(start, name, bytes.len() as u64)
    }

    /// Leaves room for a header; the blob's bytes follow.
    fn begin(&mut self) -> io::Result<u64> {
        self.file.as_file_mut().seek(SeekFrom::Start(self.end + BLOCK))?;
        Ok(self.end)
    }

    /// Fills in the header of the `len` bytes that followed, and pads them.
    fn complete(&mut self, start: u64, name: &str, len: u64) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_path(name)?;
        header.set_entry_type(EntryType::Regular);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(len);
        header.set_cksum();
        self.file.as_file().write_all_at(header.as_bytes(), start)?;
        self.end = start + BLOCK + len.next_multiple_of(BLOCK);
        self.file.as_file().set_len(self.end)?;
        self.have.insert(name.to_owned());
        Ok(())
    }

    /// Forgets what was written since `start`.
    fn drop_back(&mut self, start: u64) -> io::Result<()> {
        self.end = start;
        self.file.as_file().set_len(start)
    }
}

#[async_trait]
impl ImageSink for ArchiveSink {
    fn name(&self) -> String {
        let kind = if self.kind == ArchiveKind::Oci { "oci-archive" } else { "docker-archive" };
        format!("{kind}:{}", self.path.display())
    }

    fn max_parallel(&self) -> Option<usize> {
        Some(1)
    }

    async fn foresee(&self, _blob: Option<&Descriptor>, _from: Option<&dyn ImageSource>) -> Result<Outcome> {
        Ok(Outcome::Written)
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        if self.lock().is_some() {
            return Ok(());
        }
        if self.path.is_dir() {
            return Err(Error::Unusable(format!("{} is a directory: name a file", self.path.display())));
        }
        let directory = self.path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".crossdock-")
            .tempfile_in(directory)
            .map_err(self.write_error())?;
        self.put_back(State { file, end: 0, have: BTreeSet::new(), config: None });
        Ok(())
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        watch.phase(Phase::Writing);
        let compression =
            if self.kind == ArchiveKind::Docker { Compression::None } else { layer.compression };
        let mut reader = LayerReader::new(&layer.layer, compression, read).with_known(layer.known.as_ref());
        let (line, failed) = (watch.clone(), self.write_error());
        let mut state = self.take()?;
        let write = move |cancel: &Cancel| {
            let start = state.begin().map_err(&failed)?;
            while let Some(chunk) = reader.next_chunk()? {
                cancel.check()?;
                state.file.write_all(&chunk).map_err(&failed)?;
                line.position(reader.position());
            }
            Ok((state, start, reader.finish()?))
        };
        let (state, start, digested) = self.writers.run(write).await?;
        self.keep(state, start, &digested.descriptor, Some(&digested.diff_id), digested.descriptor.size())?;
        watch.finished(&Outcome::Written, &digested.descriptor);
        Ok((digested, Outcome::Written))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        watch.phase(Phase::Writing);
        let what = format!("layer {} of {}", blob.digest(), from.name());
        let mut chunks = VerifiedStream::new(from.blob(blob, 0).await?, blob, what.clone());
        let mut state = self.take()?;
        let start = state.begin().map_err(self.write_error())?;
        let (sender, receiver) = decode::channel();
        let decoded = self.kind == ArchiveKind::Docker;
        let failed = self.write_error();
        let (stored, name) = (blob.size(), what.clone());
        // Ends by itself when nothing comes any more.
        let writing = self.writers.run(move |_| {
            let mut source: Box<dyn Read> = if decoded {
                Box::new(decode::decoder(receiver, stored, &name)?)
            } else {
                Box::new(receiver)
            };
            let mut counted = Counted { file: state.file.as_file_mut(), hasher: Hasher::new(), len: 0 };
            io::copy(&mut source, &mut counted).map_err(|error| decode::limit_or(error, failed))?;
            let (len, digest) = (counted.len, counted.hasher.finish());
            Ok((state, len, digest))
        });
        let sending = async move {
            let mut position = 0;
            while let Some(chunk) = chunks.next().await {
                let chunk = chunk?;
                position += chunk.len() as u64;
                watch.position(position);
                if sender.send(Ok(chunk)).await.is_err() {
                    // The writer has ended early, and says why.
                    break;
                }
            }
            Ok(())
        };
        let ((state, len, digest), ()) = tokio::try_join!(writing, sending)?;
        if let Some(expected) = diff_id.filter(|id| decoded && *id.as_digest() != digest) {
            return Err(Error::DigestMismatch {
                what,
                expected: expected.as_digest().clone(),
                actual: digest,
            });
        }
        self.keep(state, start, blob, diff_id, len)?;
        watch.finished(&Outcome::Written, blob);
        Ok(Outcome::Written)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome> {
        let name = self.blob_name(config, None);
        let outcome = self.append_small(&name, &bytes)?;
        let mut state = self.take()?;
        state.config = Some((name, bytes));
        self.put_back(state);
        Ok(outcome)
    }

    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        match self.kind {
            ArchiveKind::Oci => self.append_small(&self.blob_name(manifest, None), &bytes).map(drop),
            ArchiveKind::Docker => Err(Error::Unusable(
                "a docker-archive has no place for a list of images: write an oci-archive".to_owned(),
            )),
        }
    }

    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        match self.kind {
            ArchiveKind::Oci => {
                check_children(manifest, &bytes, &self.name(), |child| self.has(child))?;
                self.append_small(&self.blob_name(manifest, None), &bytes)?;
                self.append_small("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
                let empty = json!({"schemaVersion": 2, "manifests": []});
                let index = with_manifest(empty, manifest, self.names.first().map(String::as_str));
                self.append_small("index.json", &crate::canonical_json(&index))?;
            }
            ArchiveKind::Docker => {
                let (name, config) = self
                    .lock()
                    .as_ref()
                    .and_then(|state| state.config.clone())
                    .ok_or_else(|| Error::Unusable("an archive without a config".to_owned()))?;
                let config: crate::ImageConfig = serde_json::from_slice(&config)
                    .map_err(|source| Error::Malformed { what: "the config".to_owned(), source })?;
                let layers: Vec<_> = config.rootfs.diff_ids.iter().map(layer_name).collect();
                let list = json!([{"Config": name, "RepoTags": self.names, "Layers": layers}]);
                self.append_small("manifest.json", &crate::canonical_json(&list))?;
            }
        }
        let mut state = self.take()?;
        let failed = self.write_error();
        // Two blocks of zeros end the archive.
        state.file.as_file_mut().set_len(state.end + 2 * BLOCK).map_err(&failed)?;
        readable(state.file.as_file()).map_err(&failed)?;
        state.file.persist(&self.path).map_err(|error| failed(error.error))?;
        Ok(())
    }

    async fn abort(&self, _why: Abort) {
        self.writers.ended().await;
        // The temporary file goes with its handle.
        *self.lock() = None;
    }
}

impl ArchiveSink {
    fn keep(
        &self,
        mut state: State,
        start: u64,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        len: u64,
    ) -> Result<()> {
        let name = self.blob_name(blob, diff_id);
        let result = if state.have.contains(&name) {
            state.drop_back(start)
        } else {
            state.complete(start, &name, len)
        };
        self.put_back(state);
        result.map_err(self.write_error())
    }
}

/// Writes, hashes and counts.
struct Counted<'a> {
    file: &'a mut File,
    hasher: Hasher,
    len: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write_all(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
