//! One-file images: `oci-archive` (a tar of an OCI layout) and `docker-archive` (what `docker load` reads).
//!
//! A blob's digest is its name in the archive, and is known only when the blob is through. So a header is left free,
//! the blob is read, hashed and written in one pass, and the header is filled in after it. The file grows beside its
//! destination under another name and takes its place at the end. What no file can take the place of, as a FIFO or standard
//! output, is written into from front to back: see `flow`.

use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde_json::json;

use crate::cancel::Cancel;
use crate::decode::{self, ChannelReader, limit_or};
use crate::digest::{DiffId, Digest};
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer, VerifiedStream};
use crate::json::from_json;
use crate::layout::{check_children, with_manifest};
use crate::parallel::blocking;
use crate::progress::{LayerWatch, Outcome, Phase};
use crate::reader::{LayerReader, ReadOptions};
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::whole::Place;
use crate::writers::Writers;

mod flow;
mod state;

use state::{Hashed, State};

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

impl ArchiveSink {
    /// An archive at `path`. A file there is replaced when the image is complete; a FIFO, a device or an open file is
    /// written into.
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
        self.lock().as_ref().is_some_and(|state| state.has(&self.blob_name(blob, None)))
    }

    async fn append_small(&self, name: String, bytes: Bytes) -> Result<Outcome> {
        let mut state = self.take()?;
        if state.has(&name) {
            self.put_back(state);
            return Ok(Outcome::Present);
        }
        let failed = self.write_error();
        let append = move |wanted: &Cancel| {
            state.append(&name, &bytes, || go_on(wanted)).map_err(|error| limit_or(error, failed))?;
            Ok(state)
        };
        self.put_back(self.writers.run(append).await?);
        Ok(Outcome::Written)
    }

    /// What stands at the path, where an archive may be written to it.
    async fn place(&self) -> Result<Place> {
        let path = self.path.clone();
        let place = blocking(move || Place::of(&path)).await;
        place.map_err(|source| match source.kind() {
            io::ErrorKind::IsADirectory => {
                Error::Unusable(format!("{} is a directory: name a file", self.path.display()))
            }
            _ => self.write_error()(source),
        })
    }

    /// Sends what a source has of a blob through `work`, on a thread of its own.
    async fn through<T: Send + 'static>(
        &self,
        blob: &Descriptor,
        from: &dyn ImageSource,
        watch: &LayerWatch,
        work: impl FnOnce(ChannelReader, &Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let chunks = VerifiedStream::new(from.blob(blob, 0).await?, blob, what(blob, from));
        let (sender, receiver) = decode::channel();
        // Ends by itself when nothing comes any more.
        let writing = self.writers.run(move |wanted| work(receiver, wanted));
        let (done, ()) = tokio::try_join!(writing, decode::send_all(chunks, sender, watch))?;
        Ok(done)
    }
}

fn layer_name(diff_id: &DiffId) -> String {
    format!("{}.tar", diff_id.as_digest().digest())
}

/// A blob in words, for errors.
fn what(blob: &Descriptor, from: &dyn ImageSource) -> String {
    format!("layer {} of {}", blob.digest(), from.name())
}

/// Whether a writer is still waited for, in terms of its writing; [`limit_or`] makes the error this crate's again.
fn go_on(wanted: &Cancel) -> io::Result<()> {
    wanted.check().map_err(io::Error::other)
}

fn check_diff_id(what: String, expected: Option<&DiffId>, actual: Digest) -> Result<()> {
    match expected.filter(|id| *id.as_digest() != actual) {
        None => Ok(()),
        Some(expected) => Err(Error::DigestMismatch { what, expected: expected.as_digest().clone(), actual }),
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

    fn leaves_foreign(&self) -> bool {
        // `docker load` wants all layers.
        self.kind == ArchiveKind::Oci
    }

    async fn foresee(&self, _blob: Option<&Descriptor>, _from: Option<&dyn ImageSource>) -> Result<Outcome> {
        Ok(Outcome::Written)
    }

    async fn admit(&self) -> Result<()> {
        self.place().await.map(drop)
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        if self.lock().is_some() {
            return Ok(());
        }
        let (place, failed) = (self.place().await?, self.write_error());
        let open = move |wanted: &Cancel| {
            State::open(&place, || go_on(wanted)).map_err(|error| limit_or(error, failed))
        };
        self.put_back(self.writers.run(open).await?);
        Ok(())
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        if self.flows() {
            return self.flow_layer(layer, read, watch).await;
        }
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
                state.write(&chunk, || Ok(())).map_err(&failed)?;
                line.position(reader.position());
            }
            Ok((state, start, reader.finish()?))
        };
        let (state, start, digested) = self.writers.run(write).await?;
        let (blob, diff_id) = (&digested.descriptor, &digested.diff_id);
        self.keep(state, start, blob, Some(diff_id), blob.size()).await?;
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
        if self.flows() {
            return self.flow_blob(blob, diff_id, from, watch).await;
        }
        watch.phase(Phase::Writing);
        let (what, stored, failed) = (what(blob, from), blob.size(), self.write_error());
        let decoded = self.kind == ArchiveKind::Docker;
        let mut state = self.take()?;
        let name = what.clone();
        let write = move |stream: ChannelReader, _: &Cancel| {
            let start = state.begin().map_err(&failed)?;
            let mut source: Box<dyn Read> =
                if decoded { Box::new(decode::decoder(stream, stored, &name)?) } else { Box::new(stream) };
            let mut hashed = Hashed::new(|bytes: &[u8]| state.write(bytes, || Ok(())));
            io::copy(&mut source, &mut hashed).map_err(|error| limit_or(error, failed))?;
            let (len, digest) = hashed.finish();
            Ok((state, start, len, digest))
        };
        let (state, start, len, digest) = self.through(blob, from, watch, write).await?;
        if decoded {
            check_diff_id(what, diff_id, digest)?;
        }
        self.keep(state, start, blob, diff_id, len).await?;
        watch.finished(&Outcome::Written, blob);
        Ok(Outcome::Written)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome> {
        let name = self.blob_name(config, None);
        let outcome = self.append_small(name.clone(), bytes.clone()).await?;
        let mut state = self.take()?;
        state.config = Some((name, bytes));
        self.put_back(state);
        Ok(outcome)
    }

    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        match self.kind {
            ArchiveKind::Oci => self.append_small(self.blob_name(manifest, None), bytes).await.map(drop),
            ArchiveKind::Docker => Err(Error::Unusable(
                "a docker-archive has no place for a list of images: write an oci-archive".to_owned(),
            )),
        }
    }

    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        match self.kind {
            ArchiveKind::Oci => {
                check_children(manifest, &bytes, &self.name(), |child| self.has(child))?;
                self.append_small(self.blob_name(manifest, None), bytes).await?;
                let marker = Bytes::from_static(br#"{"imageLayoutVersion":"1.0.0"}"#);
                self.append_small("oci-layout".to_owned(), marker).await?;
                let empty = json!({"schemaVersion": 2, "manifests": []});
                let index = match self.names.as_slice() {
                    [] => with_manifest(empty, manifest, None),
                    names => {
                        names.iter().fold(empty, |index, name| with_manifest(index, manifest, Some(name)))
                    }
                };
                self.append_small("index.json".to_owned(), crate::canonical_json(&index).into()).await?;
            }
            ArchiveKind::Docker => {
                let list = self.docker_manifest()?;
                self.append_small("manifest.json".to_owned(), crate::canonical_json(&list).into()).await?;
            }
        }
        let (state, failed) = (self.take()?, self.write_error());
        let finish =
            move |wanted: &Cancel| state.finish(|| go_on(wanted)).map_err(|error| limit_or(error, failed));
        self.writers.run(finish).await
    }

    async fn abort(&self, _why: Abort) {
        self.writers.ended().await;
        // The temporary file goes with its handle.
        *self.lock() = None;
    }
}

impl ArchiveSink {
    fn docker_manifest(&self) -> Result<serde_json::Value> {
        let state = self.lock();
        let (state, (name, config)) = state
            .as_ref()
            .and_then(|state| Some((state, state.config.as_ref()?)))
            .ok_or_else(|| Error::Unusable("an archive without a config".to_owned()))?;
        let config: crate::ImageConfig =
            from_json(config).map_err(|source| Error::Malformed { what: "the config".to_owned(), source })?;
        let layers: Vec<_> = config.rootfs.diff_ids.iter().map(|id| state.layer_name(id)).collect();
        Ok(json!([{"Config": name, "RepoTags": self.names, "Layers": layers}]))
    }

    async fn keep(
        &self,
        mut state: State,
        start: u64,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        len: u64,
    ) -> Result<()> {
        let (name, failed) = (self.blob_name(blob, diff_id), self.write_error());
        let keep = move |_: &Cancel| {
            let kept =
                if state.has(&name) { state.drop_back(start) } else { state.complete(start, &name, len) };
            kept.map(|()| state).map_err(failed)
        };
        self.put_back(self.writers.run(keep).await?);
        Ok(())
    }
}
