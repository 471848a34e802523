//! `RegistrySink`: an image goes to a repository. Blobs first, in any order and in parallel; the tags last.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_storage::{
    BlobStream, Checkpoints, Compression, Descriptor, DiffId, Digest, Error as StorageError, Hasher,
    ImageManifest, ImageSink, ImageSource, Layer, LayerEvent, LayerReader, LayerStream, LayerWatch, NewLayer,
    Outcome, PendingLayer, Phase, ReadOptions, Result as StorageResult, SinkPlan, VerifiedStream,
    VirtualLayer,
};
use futures_util::stream;
use reqwest::Method;
use reqwest::header::HeaderValue;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use tokio::time::Instant;

use crate::client::lock;
use crate::error::{Error, Result};
use crate::host::{Call, Host};
use crate::journal::Journal;
use crate::known::KnownBlobs;
use crate::manifest::{Document, fetch};
use crate::preflight;
use crate::profile::UploadStyle;
use crate::reference::Reference;
use crate::resume::{PROGRESS, Partial, Standing};
use crate::retry::Attempts;
use crate::upload::{Begun, Repository, Sent};

/// A repository on a registry, to push an image to.
pub struct RegistrySink {
    repository: Repository,
    references: Vec<Reference>,
    began: OnceLock<Instant>,
    preflight: bool,
    admitted: OnceCell<()>,
    /// Sizes in bytes of the layers of the image that the tag names now: a new layer of such a size may well be one of
    /// them, and is hashed before it is sent.
    sizes_there: Mutex<HashSet<u64>>,
    claims: Claims,
}

/// What an attempt at a layer needs.
struct Job<'a> {
    new: &'a NewLayer,
    known: Option<&'a Layer>,
    read: &'a ReadOptions,
    watch: &'a LayerWatch,
    resumable: bool,
    journal: Option<&'a Journal>,
}

/// Whether the upload may still be there after such an error. 416 is the answer to a wrong start.
fn may_go_on(error: &Error) -> bool {
    error.is_transient() || error.is_unauthorized() || error.status() == Some(416)
}

/// Blobs that this push has put, or is about to: none is sent twice.
#[derive(Debug, Default)]
struct Claims {
    digests: Mutex<HashMap<Digest, Arc<AsyncMutex<bool>>>>,
    layers: Mutex<Vec<LayerClaim>>,
}

#[derive(Debug, Clone)]
struct LayerClaim {
    layer: VirtualLayer,
    compression: Compression,
    result: Arc<AsyncMutex<Option<Layer>>>,
}

impl RegistrySink {
    pub(crate) fn new(host: Arc<Host>, references: Vec<Reference>) -> Self {
        let repository = Repository::new(host, references.first().map_or("", Reference::repository));
        Self {
            repository,
            references,
            began: OnceLock::new(),
            preflight: true,
            admitted: OnceCell::new(),
            sizes_there: Mutex::default(),
            claims: Claims::default(),
        }
    }

    /// Does not ask beforehand whether it may push, nor whether the registry takes layers so large.
    #[must_use]
    pub fn without_preflight(mut self) -> Self {
        self.preflight = false;
        self
    }

    /// The references whose tags the push moves.
    #[must_use]
    pub fn references(&self) -> &[Reference] {
        &self.references
    }

    fn host(&self) -> &Host {
        &self.repository.host
    }

    fn watched(&self, watch: &LayerWatch) -> Attempts {
        Attempts::watched(self.host().shared().options.retry, watch)
    }

    /// Whether we may write there, and what the destination has: nothing is read of the layers before.
    async fn look(&self, plan: &SinkPlan) -> Result<()> {
        self.began.get_or_init(Instant::now);
        self.admitted().await?;
        if self.preflight {
            preflight::check_limits(&self.repository, plan)?;
        }
        if let Some(reference) = self.references.first() {
            match fetch(self.host(), &self.repository.access, reference.selector(), &reference.to_string())
                .await
            {
                Ok(fetched) => {
                    if let Ok(Document::Manifest(manifest, _)) = fetched.parse(&reference.to_string()) {
                        lock(&self.sizes_there).extend(manifest.layers().iter().map(Descriptor::size));
                    }
                }
                // That we may write is known by now, and there may be nothing to read.
                Err(error @ (Error::NotFound { .. } | Error::Denied { .. } | Error::Status { .. })) => {
                    tracing::debug!(%reference, %error, "no image at the destination");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether we may write there, asked once.
    async fn admitted(&self) -> Result<()> {
        if self.preflight {
            self.admitted.get_or_try_init(|| preflight::admit(&self.repository)).await?;
        }
        Ok(())
    }

    async fn layer(
        &self,
        new: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        // Two layers of the same segments have the same digest before it is known.
        let claim = self.claims.of_layer(&new.layer, new.compression);
        let mut done = claim.result.lock().await;
        if let Some(layer) = &*done {
            return Ok((layer.clone(), Outcome::Present));
        }
        let hash_first = new.compression == Compression::None
            && (self.repository.profile().upload == UploadStyle::Monolithic
                || lock(&self.sizes_there).contains(&new.layer.len()));
        let known = match &new.known {
            Some(known) => Some(known.clone()),
            None if hash_first || self.repository.profile().upload == UploadStyle::Monolithic => {
                watch.phase(Phase::Hashing);
                Some(new.digest(read, watch).await?)
            }
            None => None,
        };
        let (layer, outcome) = match known {
            Some(known) => {
                let descriptor = known.descriptor.clone();
                let (outcome, sent) =
                    self.claimed(&descriptor, || self.send_layer(new, Some(&known), read, watch)).await?;
                (sent.unwrap_or(known), outcome)
            }
            None => (self.send_layer(new, None, read, watch).await?, Outcome::Sent),
        };
        *done = Some(layer.clone());
        Ok((layer, outcome))
    }

    /// Sends a blob by `send`, unless it is there or another lane of this push sends it.
    async fn claimed<T, F: Future<Output = Result<T>> + Send>(
        &self,
        blob: &Descriptor,
        send: impl FnOnce() -> F + Send,
    ) -> Result<(Outcome, Option<T>)> {
        let claim = self.claims.of_digest(blob.digest());
        let mut put = claim.lock().await;
        if *put || self.repository.has(blob.digest(), blob.size()).await? {
            *put = true;
            return Ok((Outcome::Present, None));
        }
        if let Some(from) = self.mount_known(blob).await? {
            *put = true;
            return Ok((Outcome::Mounted { from }, None));
        }
        let sent = send().await?;
        *put = true;
        Ok((Outcome::Sent, Some(sent)))
    }

    async fn send_layer(
        &self,
        new: &NewLayer,
        known: Option<&Layer>,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<Layer> {
        let mut attempts = self.watched(watch);
        let mut renewed = false;
        let resumable = new.compression == Compression::None
            && self.repository.profile().upload != UploadStyle::Monolithic;
        let journal = resumable
            .then(|| {
                let host = self.host();
                Journal::open(
                    &host.shared().options,
                    host.registry(),
                    &self.repository.access.repository,
                    &new.layer,
                )
            })
            .flatten();
        let mut partial = self.recall(new, journal.as_ref(), watch).await;
        loop {
            let error = if partial.as_ref().is_some_and(|partial| partial.unsure) {
                match self.look_at(&mut partial, new.layer.len(), &mut attempts, journal.as_ref()).await {
                    Ok(_) => continue,
                    Err(error) => error,
                }
            } else {
                watch.phase(Phase::Sending);
                let mut job = Job { new, known, read, watch, resumable, journal: journal.as_ref() };
                match self.try_layer(&mut job, &mut attempts, &mut partial).await {
                    Ok(layer) => return Ok(layer),
                    Err(error) => error,
                }
            };
            let asked = partial.as_ref().is_some_and(|partial| partial.unsure);
            let next = if asked {
                None
            } else {
                match self.look_at(&mut partial, new.layer.len(), &mut attempts, journal.as_ref()).await {
                    Ok(next) => next,
                    Err(silent) => {
                        tracing::debug!(error = %silent, "nobody says how far the upload came");
                        None
                    }
                }
            };
            // The host has got itself a new key by now.
            if error.is_unauthorized() && !renewed {
                renewed = true;
                continue;
            }
            if let Err(error) = attempts.failed_with(error, next).await {
                match partial {
                    // Somebody may come back and go on.
                    Some(partial) if journal.is_some() && error.is_transient() => {
                        self.repository.forget(&partial.upload);
                    }
                    Some(partial) => self.give_up(&partial.upload, journal.as_ref()).await,
                    None => {}
                }
                return Err(error);
            }
        }
    }

    /// The upload that an earlier process began and the registry still has.
    async fn recall(&self, new: &NewLayer, journal: Option<&Journal>, watch: &LayerWatch) -> Option<Partial> {
        let mut partial = journal?.recall()?;
        match self.repository.standing(&partial.upload, new.layer.len()).await {
            Standing::At(next, offset) => {
                tracing::info!(title = new.title, offset, "an upload of an earlier push goes on");
                (partial.upload, partial.offset) = (next, offset);
                watch.position(offset);
                Some(partial)
            }
            Standing::Gone(reason) => {
                tracing::info!(title = new.title, reason, "the upload of an earlier push cannot go on");
                self.give_up(&partial.upload, journal).await;
                None
            }
            Standing::Unknown(error) => {
                tracing::debug!(%error, "the upload of an earlier push is left alone");
                None
            }
        }
    }

    /// Asks how far a broken upload came, and says what comes next.
    ///
    /// # Errors
    /// Where nobody answers: that may be another time.
    async fn look_at(
        &self,
        partial: &mut Option<Partial>,
        len: u64,
        attempts: &mut Attempts,
        journal: Option<&Journal>,
    ) -> Result<Option<String>> {
        let Some(mut was) = partial.take() else { return Ok(None) };
        match self.repository.standing(&was.upload, len).await {
            Standing::At(next, offset) => {
                if offset >= was.offset.saturating_add(PROGRESS) {
                    attempts.succeeded();
                }
                let upload = Mutex::new(was.upload);
                self.repository.follow(&upload, &next);
                was.upload = upload.into_inner().unwrap_or_else(PoisonError::into_inner);
                (was.offset, was.unsure) = (offset, false);
                *partial = Some(was);
                Ok(Some(format!("the upload goes on at byte {offset} of {len}")))
            }
            Standing::Gone(reason) => {
                self.give_up(&was.upload, journal).await;
                Ok(Some(format!("{reason}, so the layer is sent again from its start")))
            }
            Standing::Unknown(error) => {
                was.unsure = true;
                *partial = Some(was);
                Err(error)
            }
        }
    }

    async fn give_up(&self, upload: &url::Url, journal: Option<&Journal>) {
        if let Some(journal) = journal {
            journal.remove();
        }
        self.repository.cancel(upload).await;
    }

    /// One attempt at a layer. `partial` is where it goes on, and after an error where the next one may.
    #[tracing::instrument(
        skip_all,
        fields(title = job.new.title, bytes = job.new.layer.len(), attempt = attempts.number())
    )]
    async fn try_layer(
        &self,
        job: &mut Job<'_>,
        attempts: &mut Attempts,
        partial: &mut Option<Partial>,
    ) -> Result<Layer> {
        let Job { new, known, read, watch, .. } = *job;
        let Partial { upload, offset: from, checkpoints, .. } = match partial.take() {
            Some(partial) => partial,
            None => Partial {
                upload: self.repository.begin_upload().await?,
                offset: 0,
                unsure: false,
                checkpoints: Checkpoints::default(),
            },
        };
        let reader = match from {
            0 => LayerReader::new(&new.layer, new.compression, read),
            _ => LayerReader::resume(&new.layer, &checkpoints.before(from), from, read),
        };
        let (stream, pending) = LayerStream::of_reader(reader, Some(checkpoints.clone()), watch.clone());
        let len = stream.stored_len();
        let upload = Mutex::new(upload);
        let known_digest = known.map(|layer| layer.descriptor.digest());
        let sent = {
            let sending = self.repository.send(&upload, Box::pin(stream), (from, len), known_digest, None);
            match job.journal {
                None => sending.await,
                Some(journal) => tokio::select! {
                    sent = sending => sent,
                    () = journal.keep(&upload, &checkpoints) => Err(StorageError::Interrupted.into()),
                },
            }
        };
        let sent = self.settle(new, known, sent, pending).await;
        let upload = upload.into_inner().unwrap_or_else(PoisonError::into_inner);
        let (sent, layer) = match sent {
            Ok(sent) => sent,
            Err(error) if job.resumable && may_go_on(&error) => {
                *partial = Some(Partial { upload, offset: from, unsure: false, checkpoints });
                return Err(error.made_transient());
            }
            Err(error) => {
                self.give_up(&upload, job.journal).await;
                return Err(error);
            }
        };
        tracing::debug!(digest = %layer.descriptor.digest(), bytes = layer.descriptor.size(), "layer sent");
        if sent == Sent::Open {
            watch.phase(Phase::Committing);
            let (digest, size) = (layer.descriptor.digest(), layer.descriptor.size());
            let finished = if known.is_none() {
                self.finish_unless_there(&upload, digest, size, attempts).await
            } else {
                self.repository.finish(&upload, digest, size, attempts).await
            };
            if let Err(error) = finished {
                self.give_up(&upload, job.journal).await;
                // What was put together of several attempts may have become another blob: all of it goes once more.
                return Err(if from > 0 && error.status().is_some() {
                    error.made_transient()
                } else {
                    error
                });
            }
        }
        if let Some(journal) = job.journal {
            journal.remove();
        }
        Ok(layer)
    }

    /// Brings together what the reader and the request say: the reader's error counts first, for it breaks the
    /// request; and a layer that is not what was remembered of it is none.
    async fn settle(
        &self,
        new: &NewLayer,
        known: Option<&Layer>,
        sent: Result<Sent>,
        pending: PendingLayer,
    ) -> Result<(Sent, Layer)> {
        let layer = match (pending.layer().await, sent) {
            (Err(StorageError::Interrupted), Err(error)) => {
                // A file that was truncated under its map breaks the request before its reader comes to see it.
                for file in new.layer.files() {
                    file.check_by_path()?;
                }
                return Err(error);
            }
            (Err(error), _) => return Err(error.into()),
            (Ok(layer), sent) => (sent, layer),
        };
        if let Some(known) = known
            && known.descriptor.digest() != layer.1.descriptor.digest()
        {
            return Err(Error::Digest {
                what: format!(
                    "the layer {} is not what an earlier build remembered of it, and nothing was tagged; build again \
                     without the remembered digests",
                    new.title
                ),
                expected: known.descriptor.digest().clone(),
                actual: layer.1.descriptor.digest().to_string(),
            });
        }
        Ok((layer.0?, layer.1))
    }

    /// Finishes an upload whose digest came out only now, unless another lane has put the same blob meanwhile.
    async fn finish_unless_there(
        &self,
        upload: &url::Url,
        digest: &Digest,
        size: u64,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let claim = self.claims.of_digest(digest);
        let mut put = claim.lock().await;
        if *put {
            self.repository.cancel(upload).await;
        } else {
            self.repository.finish(upload, digest, size, attempts).await?;
            *put = true;
        }
        Ok(())
    }

    async fn blob(&self, blob: &Descriptor, from: &dyn ImageSource, watch: &LayerWatch) -> Result<Outcome> {
        let here = self.repository.access.repository.as_str();
        let neighbour = from
            .repository()
            .filter(|name| name.registry == self.host().registry() && name.repository != here)
            .map(|name| name.repository);
        let mut mounted = false;
        let (outcome, _) = self
            .claimed(blob, || async {
                let mut begun = None;
                if let Some(neighbour) = &neighbour {
                    match self.mount(blob, neighbour).await? {
                        Begun::Mounted => {
                            mounted = true;
                            return Ok(());
                        }
                        Begun::Upload(upload) => begun = Some(upload),
                    }
                }
                let what = format!("blob {} of {}", blob.digest(), from.name());
                let open = || async {
                    let stream = from.blob(blob, 0).await?;
                    Ok::<BlobStream, Error>(Box::pin(VerifiedStream::new(stream, blob, what.clone())))
                };
                self.send_blob(blob, begun, open, watch).await
            })
            .await?;
        Ok(match neighbour {
            Some(neighbour) if mounted => {
                Outcome::Mounted { from: format!("{}/{neighbour}", self.host().registry()) }
            }
            _ => outcome,
        })
    }

    /// Asks for a blob of a repository that an earlier push put it into.
    async fn mount_known(&self, blob: &Descriptor) -> Result<Option<String>> {
        let here = self.repository.access.repository.as_str();
        let known = KnownBlobs::new(&self.host().shared().options, self.host().registry());
        let Some(from) = known.and_then(|known| known.elsewhere(blob.digest(), here)) else {
            return Ok(None);
        };
        match self.mount(blob, &from).await? {
            Begun::Mounted => Ok(Some(format!("{}/{from}", self.host().registry()))),
            Begun::Upload(upload) => {
                self.repository.cancel(&upload).await;
                Ok(None)
            }
        }
    }

    /// Asks for a blob of another repository of the registry. Where that is refused, an upload is begun instead.
    async fn mount(&self, blob: &Descriptor, neighbour: &str) -> Result<Begun> {
        let mut attempts = self.host().attempts();
        loop {
            match self.repository.begin(Some((blob.digest(), neighbour))).await {
                Ok(begun) => return Ok(begun),
                Err(error @ (Error::Denied { .. } | Error::Status { transient: false, .. })) => {
                    tracing::debug!(%error, "the blob was not mounted");
                    return Ok(Begun::Upload(self.repository.begin_upload().await?));
                }
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    /// Sends a blob whose digest is known, its bytes opened anew by `open` for each attempt.
    async fn send_blob<F: Future<Output = Result<BlobStream>> + Send>(
        &self,
        blob: &Descriptor,
        begun: Option<url::Url>,
        open: impl Fn() -> F + Send + Sync,
        watch: &LayerWatch,
    ) -> Result<()> {
        let mut attempts = self.watched(watch);
        let (mut begun, mut renewed) = (begun, false);
        loop {
            watch.phase(Phase::Transferring);
            match self.try_blob(blob, begun.take(), &open, watch, &mut attempts).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_unauthorized() && !renewed => renewed = true,
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    #[tracing::instrument(skip_all, fields(digest = %blob.digest(), bytes = blob.size(), attempt = attempts.number()))]
    async fn try_blob<F: Future<Output = Result<BlobStream>> + Send>(
        &self,
        blob: &Descriptor,
        begun: Option<url::Url>,
        open: &(impl Fn() -> F + Send + Sync),
        watch: &LayerWatch,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let upload = match begun {
            Some(upload) => upload,
            None => self.repository.begin_upload().await?,
        };
        let current = Mutex::new(upload);
        let result = async {
            let source = open().await?;
            let sent = self
                .repository
                .send(&current, source, (0, Some(blob.size())), Some(blob.digest()), Some(watch))
                .await?;
            if sent == Sent::Open {
                watch.phase(Phase::Committing);
                let upload = lock(&current).clone();
                self.repository.finish(&upload, blob.digest(), blob.size(), attempts).await?;
            }
            Ok(())
        }
        .await;
        if result.is_err() {
            let upload = lock(&current).clone();
            self.repository.cancel(&upload).await;
        }
        result
    }

    async fn publish(&self, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
        if self
            .began
            .get()
            .is_some_and(|began| began.elapsed() > self.host().shared().options.ask_again_after)
        {
            self.ask_again(bytes).await?;
        }
        for reference in &self.references {
            if let Err(error) = self.put_tag(reference, manifest, bytes).await {
                return Err(preflight::explain_manifest(&self.repository, error).await);
            }
        }
        for reference in &self.references {
            let fetched =
                fetch(self.host(), &self.repository.access, reference.selector(), &reference.to_string())
                    .await?;
            if fetched.bytes != *bytes {
                return Err(Error::Digest {
                    what: format!(
                        "{reference} does not name the image that was just pushed: the registry changed the manifest, \
                         or somebody else pushed at the same time"
                    ),
                    expected: manifest.digest().clone(),
                    actual: fetched.digest.to_string(),
                });
            }
        }
        self.is_there_by_digest(manifest.digest()).await?;
        self.remember(bytes);
        Ok(())
    }

    /// Whether who pulls by digest finds the image: OpenShift's registry takes a moment to make the ImageStream known.
    async fn is_there_by_digest(&self, digest: &Digest) -> Result<()> {
        let access = &self.repository.access;
        let image = format!("{}/{}@{digest}", self.host().registry(), access.repository);
        let mut attempts = self.host().attempts();
        loop {
            match fetch(self.host(), access, digest.as_ref(), &image).await {
                Ok(_) => return Ok(()),
                Err(Error::NotFound { .. }) => {
                    let (what, status, retry_after) = (format!("GET the manifest {image}"), 404, None);
                    let detail = ": the tag names it, and by its digest it is not there".to_owned();
                    let error = Error::Status { what, status, detail, transient: true, retry_after };
                    attempts.failed(error).await?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Keeps in mind where the blobs are, for pushes to come.
    fn remember(&self, bytes: &Bytes) {
        let options = &self.host().shared().options;
        if let Some(known) = KnownBlobs::new(options, self.host().registry())
            && let Ok(manifest) = serde_json::from_slice::<ImageManifest>(bytes)
        {
            let layers = manifest.layers().iter().map(Descriptor::digest);
            known.remember(&self.repository.access.repository, layers);
        }
    }

    async fn ask_again(&self, bytes: &Bytes) -> Result<()> {
        let manifest: ImageManifest = serde_json::from_slice(bytes)
            .map_err(|source| Error::Malformed { what: "the manifest to push".to_owned(), source })?;
        for blob in manifest.layers().iter().chain([manifest.config()]) {
            if !self.repository.has(blob.digest(), blob.size()).await? {
                return Err(Error::Answer {
                    what: format!(
                        "blob {} of {}/{}",
                        blob.digest(),
                        self.host().registry(),
                        self.repository.access.repository
                    ),
                    reason: "the registry lost it while the others were sent; no tag was moved, push again"
                        .to_owned(),
                });
            }
        }
        Ok(())
    }

    async fn put_tag(&self, reference: &Reference, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
        let media_type =
            HeaderValue::from_str(manifest.media_type().as_ref()).map_err(|_| Error::Answer {
                what: format!("the manifest of {reference}"),
                reason: "its media type is not one for a header".to_owned(),
            })?;
        let access = &self.repository.access;
        let mut attempts = self.host().attempts();
        loop {
            let url = self.host().endpoint().await?.manifest(&access.repository, reference.selector());
            let call = Call::new(access, Method::PUT, url, &[200, 201, 202])
                .with_bytes(media_type.clone(), bytes.clone())
                .with_patience(self.host().shared().options.timeouts.commit);
            let error = match self.host().call(call).await {
                Ok(answer) => match answer.header("docker-content-digest") {
                    Some(other) if other != manifest.digest().to_string() => {
                        return Err(Error::Digest {
                            what: format!("the registry took the manifest of {reference} as another"),
                            expected: manifest.digest().clone(),
                            actual: other.to_owned(),
                        });
                    }
                    _ => return Ok(()),
                },
                Err(error) => error,
            };
            attempts.failed(error).await?;
            // The answer may have got lost and not the manifest.
            if let Ok(fetched) =
                fetch(self.host(), access, reference.selector(), &reference.to_string()).await
                && fetched.bytes == *bytes
            {
                return Ok(());
            }
        }
    }
}

impl Claims {
    fn of_digest(&self, digest: &Digest) -> Arc<AsyncMutex<bool>> {
        Arc::clone(lock(&self.digests).entry(digest.clone()).or_default())
    }

    fn of_layer(&self, layer: &VirtualLayer, compression: Compression) -> LayerClaim {
        let mut layers = lock(&self.layers);
        let same = |claim: &&LayerClaim| {
            claim.compression == compression
                && claim.layer.len() == layer.len()
                && claim.layer.segments() == layer.segments()
        };
        if let Some(claim) = layers.iter().find(same) {
            return claim.clone();
        }
        let claim = LayerClaim { layer: layer.clone(), compression, result: Arc::default() };
        layers.push(claim.clone());
        claim
    }
}

#[async_trait]
impl ImageSink for RegistrySink {
    fn name(&self) -> String {
        self.references.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    #[tracing::instrument(skip_all, fields(destination = self.name()))]
    async fn admit(&self) -> StorageResult<()> {
        Ok(self.admitted().await?)
    }

    #[tracing::instrument(skip_all, fields(destination = self.name()))]
    async fn prepare(&self, plan: &SinkPlan) -> StorageResult<()> {
        Ok(self.look(plan).await?)
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> StorageResult<(Layer, Outcome)> {
        let (layer, outcome) = self.layer(layer, read, watch).await?;
        finished(watch, &layer.descriptor, &outcome);
        Ok((layer, outcome))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        _diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> StorageResult<Outcome> {
        let outcome = self.blob(blob, from, watch).await?;
        finished(watch, blob, &outcome);
        Ok(outcome)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> StorageResult<Outcome> {
        let actual = Hasher::digest(&bytes);
        if actual != *config.digest() {
            let (what, expected) = ("the config".to_owned(), config.digest().clone());
            return Err(StorageError::DigestMismatch { what, expected, actual });
        }
        let silent = LayerWatch::silent();
        let open = || {
            let bytes = bytes.clone();
            async move { Ok::<BlobStream, Error>(Box::pin(stream::iter([Ok(bytes)]))) }
        };
        let (outcome, _) = self.claimed(config, || self.send_blob(config, None, open, &silent)).await?;
        Ok(outcome)
    }

    #[tracing::instrument(skip_all, fields(digest = %manifest.digest()))]
    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> StorageResult<()> {
        Ok(self.publish(manifest, &bytes).await?)
    }

    async fn abort(&self) {
        self.repository.cancel_all().await;
    }
}

fn finished(watch: &LayerWatch, blob: &Descriptor, outcome: &Outcome) {
    watch.event(LayerEvent::Finished {
        outcome: outcome.clone(),
        digest: blob.digest().clone(),
        size: blob.size(),
    });
}

impl fmt::Debug for RegistrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySink").field("references", &self.references).finish_non_exhaustive()
    }
}
