//! A new layer on its way: attempts that go on where the one before broke, and the last request that makes a blob of it.

use std::sync::{Mutex, PoisonError};

use crossdock_storage::{
    Checkpoints, Compression, Digest, Error as StorageError, Layer, LayerReader, LayerStream, LayerWatch,
    NewLayer, PendingLayer, Phase, ReadOptions,
};

use super::RegistrySink;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::profile::UploadStyle;
use crate::resume::{PROGRESS, Partial, Standing};
use crate::retry::Attempts;
use crate::upload::Sent;

/// What an attempt at a layer needs.
struct Job<'a> {
    new: &'a NewLayer,
    known: Option<&'a Layer>,
    read: &'a ReadOptions,
    watch: &'a LayerWatch,
    resumable: bool,
    journal: Option<&'a Journal>,
}

impl RegistrySink {
    pub(super) async fn send_layer(
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
                    (host.registry(), &self.repository.access.repository),
                    &new.layer,
                    self.planned.get().copied().unwrap_or_default(),
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
                checkpoints: Checkpoints::every(self.host().shared().options.checkpoint_step),
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
}

/// Whether the upload may still be there after such an error. 416 is the answer to a wrong start.
fn may_go_on(error: &Error) -> bool {
    error.is_transient() || error.is_unauthorized() || error.status() == Some(416)
}
