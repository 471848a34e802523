//! The course of a blob into the registry: attempts that go on where the one before broke, in this process or in the next.

use std::time::SystemTime;

use crossdock_storage::{
    BlobStream, Checkpoints, Compression, Descriptor, Digest, Error as StorageError, LayerWatch, NewLayer,
    change_times, is_settled, layer_identity,
};
use url::Url;

use super::RegistrySink;
use crate::error::{Error, Result};
use crate::journal::Journal;
use crate::profile::UploadStyle;
use crate::resume::{PROGRESS, Partial, Standing};
use crate::retry::Attempts;
use crate::upload::{Repository, Sent};

/// The attempts at one blob.
pub(super) struct Course<'a> {
    repository: &'a Repository,
    pub(super) attempts: Attempts,
    /// Where the next attempt goes on; `None` for a new upload.
    partial: Option<Partial>,
    journal: Option<Journal>,
    /// Bytes between two states of its hash; `None` where none are kept.
    checkpoint_step: Option<u64>,
    /// Bytes of the whole blob, where they are known before it is sent.
    len: Option<u64>,
    resumable: bool,
    /// Where failures began to count. It never goes back: who starts again and again comes to an end.
    reached: u64,
    renewed: bool,
    again: bool,
}

impl RegistrySink {
    /// The course of a new layer.
    pub(super) async fn course_of_layer(&self, new: &NewLayer, watch: &LayerWatch) -> Course<'_> {
        let plain = new.compression == Compression::None;
        let step = plain.then_some(self.host().shared().options.checkpoint_step);
        let now = SystemTime::now();
        let identity = || {
            let made_of = || (layer_identity(&new.layer, new.compression), change_times(&new.layer, now));
            is_settled(&new.layer, now).then(made_of)
        };
        self.course(plain.then(|| new.layer.len()), step, identity, watch).await
    }

    /// The course of a blob whose digest is known, one that is worth going on with where it is a `large` one.
    pub(super) async fn course_of_blob(
        &self,
        blob: &Descriptor,
        large: bool,
        watch: &LayerWatch,
    ) -> Course<'_> {
        self.course(Some(blob.size()), None, || large.then(|| (blob.digest().to_string(), None)), watch).await
    }

    async fn course(
        &self,
        len: Option<u64>,
        checkpoint_step: Option<u64>,
        identity: impl FnOnce() -> Option<(String, Option<String>)>,
        watch: &LayerWatch,
    ) -> Course<'_> {
        let resumable = self.repository.profile().upload != UploadStyle::Monolithic;
        let identity = if resumable { identity() } else { None };
        let journal = identity.and_then(|identity| {
            let place = (self.host().registry(), self.repository.access.repository.as_str());
            let total = self.planned.get().copied().unwrap_or_default();
            Journal::open(&self.host().shared().options, place, identity, total)
        });
        let mut course = Course {
            repository: &self.repository,
            attempts: Attempts::watched(self.host().shared().options.retry, watch),
            partial: None,
            journal,
            checkpoint_step,
            len,
            resumable,
            reached: 0,
            renewed: false,
            again: false,
        };
        course.recall(watch).await;
        course
    }
}

impl Course<'_> {
    /// Takes up the upload that an earlier process began, where the registry still has it.
    async fn recall(&mut self, watch: &LayerWatch) {
        let Some(mut partial) = self.journal.as_ref().and_then(Journal::recall) else { return };
        match self.repository.standing(&partial.url(), self.len).await {
            Standing::At(next, offset) => {
                tracing::info!(offset, "an upload of an earlier push goes on");
                self.repository.opened(&next);
                self.repository.noted(&next);
                partial.moved(next, offset);
                watch.position(offset);
                self.partial = Some(partial);
            }
            Standing::Gone(reason) => {
                tracing::info!(reason, "the upload of an earlier push cannot go on");
                self.give_up(&partial.url()).await;
            }
            Standing::Unknown(error) => {
                tracing::debug!(%error, "the upload of an earlier push is left alone");
            }
        }
    }

    /// Takes an upload that was begun already, unless there is one that goes on.
    pub(super) async fn begun(&mut self, upload: Option<Url>) {
        match upload {
            Some(upload) if self.partial.is_none() => self.partial = Some(self.fresh(upload)),
            Some(upload) => self.repository.cancel(&upload).await,
            None => {}
        }
    }

    /// Whether an attempt was made before. What became of it may have been kept from us.
    pub(super) const fn again(&self) -> bool {
        self.again
    }

    /// Asks for the state of a broken upload that nobody would tell after the last attempt.
    pub(super) async fn ready(&mut self) -> Result<()> {
        if self.partial.as_ref().is_some_and(|partial| partial.unsure) {
            self.look().await?;
        }
        Ok(())
    }

    /// The upload of the next attempt.
    pub(super) async fn upload(&mut self) -> Result<Partial> {
        match self.partial.take() {
            Some(partial) => Ok(partial),
            None => Ok(self.fresh(self.repository.begin_upload().await?)),
        }
    }

    fn fresh(&self, upload: Url) -> Partial {
        let checkpoints = self.checkpoint_step.map_or_else(Checkpoints::default, Checkpoints::every);
        Partial::new(upload, checkpoints)
    }

    /// Sends what is missing, `len` bytes where that is known, and takes notes meanwhile.
    pub(super) async fn send(
        &self,
        partial: &Partial,
        source: BlobStream,
        len: Option<u64>,
        digest: Option<&Digest>,
        watch: Option<&LayerWatch>,
    ) -> Result<Sent> {
        let place = (partial.offset, len);
        let sending = self.repository.send(&partial.upload, source, place, digest, watch);
        let Some(journal) = &self.journal else { return sending.await };
        let checkpoints = self.checkpoint_step.map(|_| &partial.checkpoints);
        tokio::select! {
            sent = sending => sent,
            () = journal.keep(self.repository, &partial.upload, checkpoints) => Err(StorageError::Interrupted.into()),
        }
    }

    /// Keeps what was sent for the next attempt, where it may go on; says whether there is to be one.
    pub(super) async fn broke(&mut self, partial: Partial, error: Error) -> Error {
        if self.resumable && may_go_on(&error) {
            self.partial = Some(partial);
            return error.made_transient();
        }
        self.give_up(&partial.url()).await;
        error
    }

    /// Gives up an upload of which no blob came to be.
    pub(super) async fn refused(&mut self, partial: &Partial, error: Error) -> Error {
        self.give_up(&partial.url()).await;
        // What was put together of several attempts may have become another blob: all of it goes once more.
        if partial.offset > 0 && error.status().is_some() { error.made_transient() } else { error }
    }

    /// The upload is a blob.
    pub(super) fn done(&self) {
        if let Some(journal) = &self.journal {
            journal.remove();
        }
    }

    /// Sees to what comes after a failed attempt, and waits for it.
    ///
    /// # Errors
    /// `error`, where there is no further attempt.
    pub(super) async fn failed(&mut self, error: Error) -> Result<()> {
        self.again = true;
        let mut next = None;
        if self.partial.as_ref().is_some_and(|partial| !partial.unsure) {
            match self.look().await {
                Ok(found) => next = found,
                Err(silent) => tracing::debug!(error = %silent, "nobody says how far the upload came"),
            }
        }
        // The host has got itself a new key by now.
        if error.is_unauthorized() && !self.renewed {
            self.renewed = true;
            return Ok(());
        }
        let Err(error) = self.attempts.failed_with(error, next).await else { return Ok(()) };
        if let Some(partial) = self.partial.take() {
            let noted = self.journal.as_ref().is_some_and(|journal| journal.note(&partial));
            if noted && may_go_on(&error) {
                // Somebody may come back and go on.
                self.repository.forget(&partial.url());
            } else {
                self.give_up(&partial.url()).await;
            }
        }
        Err(error)
    }

    /// Asks how far a broken upload came, and says what comes next.
    ///
    /// # Errors
    /// Where nobody answers: that may be another time.
    async fn look(&mut self) -> Result<Option<String>> {
        let Some(mut partial) = self.partial.take() else { return Ok(None) };
        match self.repository.standing(&partial.url(), self.len).await {
            Standing::At(next, offset) => {
                if offset >= self.reached.saturating_add(PROGRESS) {
                    self.attempts.succeeded();
                    self.reached = offset;
                }
                self.repository.follow(&partial.upload, &next);
                partial.moved(next, offset);
                self.partial = Some(partial);
                let of = self.len.map_or_else(String::new, |len| format!(" of {len}"));
                Ok(Some(format!("the upload goes on at byte {offset}{of}")))
            }
            Standing::Gone(reason) => {
                self.give_up(&partial.url()).await;
                Ok(Some(format!("{reason}, so it is sent again from its start")))
            }
            Standing::Unknown(error) => {
                partial.unsure = true;
                self.partial = Some(partial);
                Err(error)
            }
        }
    }

    async fn give_up(&self, upload: &Url) {
        self.done();
        self.repository.cancel(upload).await;
    }
}

/// Whether the upload may still be there after such an error. 416 is the answer to a wrong start.
fn may_go_on(error: &Error) -> bool {
    error.is_transient() || error.is_unauthorized() || error.status() == Some(416)
}
