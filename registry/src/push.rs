//! `RegistrySink`: an image goes to a repository. Blobs first, in any order and in parallel; the tags last.

mod blob;
mod claims;
mod course;
mod layer;
mod others;
mod publish;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::{Arc, Mutex, OnceLock};

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_storage::{
    Abort, BlobStream, Descriptor, DiffId, Digest, Error as StorageError, Hasher, ImageSink, ImageSource,
    Layer, LayerWatch, NewLayer, Outcome, Phase, ReadOptions, Result as StorageResult, SinkPlan,
};
use futures_util::stream;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::client::lock;
use crate::error::{Error, Result};
use crate::host::Host;
use crate::manifest::{Document, fetch};
use crate::preflight;
use crate::profile::UploadStyle;
use crate::reference::Reference;
use crate::upload::Repository;
use claims::Claims;
use course::Noted;
use others::Others;

/// A repository on a registry, to push an image to.
pub struct RegistrySink {
    repository: Repository,
    references: Vec<Reference>,
    began: OnceLock<Instant>,
    preflight: bool,
    admitted: OnceCell<()>,
    /// Layers of images in the repository: a new layer that may well be one of them is hashed before it is sent.
    others: Others,
    /// Bytes of all new layers, uncompressed.
    planned: OnceLock<u64>,
    claims: Claims,
    /// What became of blobs that came before the plan.
    ahead: Mutex<HashMap<Digest, Outcome>>,
    /// Manifests of an index that this push has put.
    manifests: Mutex<HashSet<Digest>>,
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
            others: Others::default(),
            planned: OnceLock::new(),
            claims: Claims::default(),
            ahead: Mutex::default(),
            manifests: Mutex::default(),
        }
    }

    /// Does not ask beforehand whether it may push, nor whether the registry takes layers so large.
    #[must_use]
    pub fn without_preflight(mut self) -> Self {
        self.preflight = false;
        self
    }

    /// Looks for layers that need not be sent in the images of these tags of the repository, and not in those of its last tags.
    #[must_use]
    pub fn with_reuse_from(mut self, tags: Vec<String>) -> Self {
        self.others = Others::named(tags);
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

    /// Whether we may write there, and what the destination has: nothing is read of the layers before.
    async fn look(&self, plan: &SinkPlan) -> Result<()> {
        self.planned.get_or_init(|| plan.new_layers.iter().map(|layer| layer.bytes).sum());
        self.admitted().await?;
        if self.preflight {
            preflight::beyond(&self.repository, plan)?;
        }
        if self.began.set(Instant::now()).is_err() {
            // The first image of several has looked.
            return Ok(());
        }
        if let Some(reference) = self.references.first() {
            match fetch(self.host(), &self.repository.access, reference.selector(), &reference.to_string())
                .await
            {
                Ok(fetched) => {
                    if let Ok(Document::Manifest(manifest, _)) = fetched.parse(&reference.to_string()) {
                        self.others.add(manifest.layers(), true);
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
        // What an earlier push of it had sent to its last byte may be a blob by now.
        let noted = if new.known.is_none() { self.noted_layer(new) } else { None };
        // Asked for by its digest where it may well be there, and where the registry wants the digest first.
        let begun = noted.as_ref().is_some_and(Noted::is_begun);
        let wants_digest = self.repository.profile().upload == UploadStyle::Monolithic;
        let guessed = !wants_digest && new.known.is_none() && self.may_be_there(new, begun).await;
        let hash_first = wants_digest
            || guessed
            || match noted.as_ref().and_then(Noted::touched) {
                Some(touched) => {
                    let blob = &touched.descriptor;
                    self.repository.has(blob.digest(), blob.size()).await?
                }
                None => false,
            };
        let known = match new.known.as_ref().or_else(|| noted.as_ref()?.done()) {
            Some(known) => Some(known.clone()),
            None if hash_first => {
                watch.phase(Phase::Hashing);
                Some(new.digest(read, watch).await?)
            }
            None => None,
        };
        let (layer, outcome) = match known {
            Some(known) => {
                let descriptor = known.descriptor.clone();
                let mut noted = noted;
                let send = || self.send_layer(new, Some(&known), noted.take(), (read, watch));
                let (outcome, sent) = self.claimed(&descriptor, send).await?;
                if guessed {
                    self.others.came_to(&outcome, new.layer.len());
                }
                if let Some(noted) = noted {
                    self.tidy(noted).await;
                }
                (sent.unwrap_or(known), outcome)
            }
            None => (self.send_layer(new, None, noted, (read, watch)).await?, Outcome::Sent),
        };
        *done = Some(layer.clone());
        Ok((layer, outcome))
    }

    /// Says of a request that was refused what to do about it: the preflight was not, so something has changed, or a
    /// manifest wants more than a blob.
    async fn explained<T: Send>(&self, result: Result<T>) -> Result<T> {
        match result {
            Err(error) if error.is_refusal() => Err(preflight::explain(&self.repository, error).await),
            result => result,
        }
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

    fn takes_ahead(&self) -> bool {
        true
    }

    async fn foresee(
        &self,
        blob: Option<&Descriptor>,
        from: Option<&dyn ImageSource>,
    ) -> StorageResult<Outcome> {
        let Some(blob) = blob else { return Ok(Outcome::Sent) };
        if self.repository.has(blob.digest(), blob.size()).await? {
            return Ok(Outcome::Present);
        }
        let neighbour = from.and_then(|from| self.neighbour(from)).or_else(|| self.known_elsewhere(blob));
        Ok(match neighbour {
            Some(neighbour) => Outcome::Mounted { from: format!("{}/{neighbour}", self.host().registry()) },
            None => Outcome::Sent,
        })
    }

    async fn warnings(&self, plan: &SinkPlan) -> StorageResult<Vec<String>> {
        if !self.preflight {
            return Ok(Vec::new());
        }
        // A registry under a name of its own says what it is where it is asked.
        if preflight::may_be_beyond(plan)
            && let Err(error) = self.host().endpoint().await
        {
            tracing::debug!(%error, "the registry does not say what it is");
        }
        Ok(preflight::beyond(&self.repository, plan)?)
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
        let (layer, outcome) = self.explained(self.layer(layer, read, watch).await).await?;
        watch.finished(&outcome, &layer.descriptor);
        Ok((layer, outcome))
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        _diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> StorageResult<Outcome> {
        let planned = self.began.get().is_some();
        let ahead = if planned { lock(&self.ahead).remove(blob.digest()) } else { None };
        let outcome = match ahead {
            Some(outcome) => outcome,
            None => self.explained(self.blob(blob, from, watch).await).await?,
        };
        if !planned {
            lock(&self.ahead).entry(blob.digest().clone()).or_insert_with(|| outcome.clone());
        }
        watch.finished(&outcome, blob);
        Ok(outcome)
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> StorageResult<Outcome> {
        let actual = Hasher::digest(&bytes);
        if actual != *config.digest() {
            let (what, expected) = ("the config".to_owned(), config.digest().clone());
            return Err(StorageError::DigestMismatch { what, expected, actual });
        }
        let silent = LayerWatch::silent();
        let open = |offset: u64| {
            let rest = bytes.slice(usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len())..);
            async move { Ok::<BlobStream, Error>(Box::pin(stream::iter([Ok(rest)]))) }
        };
        let send = || async {
            let course = self.course_of_blob(config, false, &silent).await;
            self.send_blob(config, course, open, &silent).await
        };
        let (outcome, _) = self.explained(self.claimed(config, send).await).await?;
        Ok(outcome)
    }

    #[tracing::instrument(skip_all, fields(digest = %manifest.digest()))]
    async fn put_manifest(&self, manifest: &Descriptor, bytes: Bytes) -> StorageResult<()> {
        Ok(self.explained(self.publish_unnamed(manifest, &bytes).await).await?)
    }

    #[tracing::instrument(skip_all, fields(digest = %manifest.digest()))]
    async fn commit(&self, manifest: &Descriptor, bytes: Bytes) -> StorageResult<()> {
        Ok(self.explained(self.publish(manifest, &bytes).await).await?)
    }

    async fn abort(&self, why: Abort) {
        self.repository.leave(why).await;
    }
}

impl fmt::Debug for RegistrySink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySink").field("references", &self.references).finish_non_exhaustive()
    }
}
