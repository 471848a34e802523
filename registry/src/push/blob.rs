//! A blob that is somewhere already: mounted from a repository of the registry, or passed on as it comes.

use std::future::Future;
use std::sync::Mutex;

use crossdock_storage::{BlobStream, Descriptor, ImageSource, LayerWatch, Outcome, Phase, VerifiedStream};

use super::RegistrySink;
use crate::client::lock;
use crate::error::{Error, Result};
use crate::known::KnownBlobs;
use crate::retry::Attempts;
use crate::upload::{Begun, Sent};

impl RegistrySink {
    pub(super) async fn blob(
        &self,
        blob: &Descriptor,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        let neighbour = self.neighbour(from);
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

    /// The repository of a source on the same registry, from which its blobs may be mounted.
    pub(super) fn neighbour(&self, from: &dyn ImageSource) -> Option<String> {
        let here = self.repository.access.repository.as_str();
        from.repository()
            .filter(|name| name.registry == self.host().registry() && name.repository != here)
            .map(|name| name.repository)
    }

    /// A repository that an earlier push put the blob into.
    pub(super) fn known_elsewhere(&self, blob: &Descriptor) -> Option<String> {
        let here = self.repository.access.repository.as_str();
        let known = KnownBlobs::new(&self.host().shared().options, self.host().registry());
        known.and_then(|known| known.elsewhere(blob.digest(), here))
    }

    /// Asks for a blob of a repository that an earlier push put it into.
    pub(super) async fn mount_known(&self, blob: &Descriptor) -> Result<Option<String>> {
        let Some(from) = self.known_elsewhere(blob) else { return Ok(None) };
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
    pub(super) async fn send_blob<F: Future<Output = Result<BlobStream>> + Send>(
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
}
