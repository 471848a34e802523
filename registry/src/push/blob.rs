//! A blob that is somewhere already: mounted from a repository of the registry, or passed on as it comes.

use std::future::Future;

use crossdock_storage::{BlobStream, Descriptor, ImageSource, LayerWatch, Outcome, Phase, VerifiedStream};

use super::RegistrySink;
use super::course::Course;
use crate::error::{Error, Result};
use crate::known::KnownBlobs;
use crate::profile::UploadStyle;
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
                let open = |offset: u64| {
                    let what = what.clone();
                    async move {
                        let stream = from.blob(blob, offset).await?;
                        // A tail says nothing of the whole: the registry checks what came together of it.
                        Ok::<BlobStream, Error>(match offset {
                            0 => Box::pin(VerifiedStream::new(stream, blob, what)),
                            _ => stream,
                        })
                    }
                };
                let mut course = self.course_of_blob(blob, true, watch).await;
                course.begun(begun).await;
                self.send_blob(blob, course, open, watch).await
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

    /// Sends a blob whose digest is known. `open` gives its bytes from an offset on, anew for each attempt.
    pub(super) async fn send_blob<F: Future<Output = Result<BlobStream>> + Send>(
        &self,
        blob: &Descriptor,
        mut course: Course<'_>,
        open: impl Fn(u64) -> F + Send + Sync,
        watch: &LayerWatch,
    ) -> Result<()> {
        loop {
            watch.phase(Phase::Transferring);
            let error = match course.ready().await {
                Ok(()) => match self.try_blob(blob, &mut course, &open, watch).await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                Err(error) => error,
            };
            course.failed(error).await?;
        }
    }

    #[tracing::instrument(
        skip_all,
        fields(digest = %blob.digest(), bytes = blob.size(), attempt = course.attempts.number())
    )]
    async fn try_blob<F: Future<Output = Result<BlobStream>> + Send>(
        &self,
        blob: &Descriptor,
        course: &mut Course<'_>,
        open: &(impl Fn(u64) -> F + Send + Sync),
        watch: &LayerWatch,
    ) -> Result<()> {
        if self.came_to_be(course, blob).await? {
            return Ok(());
        }
        let partial = course.upload().await?;
        let (from, size) = (partial.offset, blob.size());
        let sent = if from > 0 && from == size {
            Ok(Sent::Open)
        } else {
            match open(from).await {
                Ok(source) => {
                    course.send(&partial, source, Some(size - from), Some(blob.digest()), Some(watch)).await
                }
                Err(error) => Err(error),
            }
        };
        match sent {
            Ok(Sent::Committed) => {}
            Ok(Sent::Open) => {
                watch.phase(Phase::Committing);
                let upload = partial.url();
                if let Err(error) =
                    self.repository.finish(&upload, blob.digest(), size, &mut course.attempts).await
                {
                    return Err(course.refused(partial, error).await);
                }
            }
            Err(error) => return Err(course.broke(partial, error).await),
        }
        course.done();
        Ok(())
    }

    /// Whether a blob that goes in one request came to be, and only the answer got lost.
    pub(super) async fn came_to_be(&self, course: &Course<'_>, blob: &Descriptor) -> Result<bool> {
        Ok(course.again()
            && self.repository.profile().upload == UploadStyle::Monolithic
            && self.repository.has(blob.digest(), blob.size()).await?)
    }
}
