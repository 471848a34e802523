//! The course of a blob into the registry: attempts that go on where the one before broke, in this process or in the next.

use std::sync::Arc;
use std::time::SystemTime;

use crossdock_storage::{
    BlobStream, Checkpoints, Compression, Descriptor, Digest, Error as StorageError, Layer, LayerWatch,
    NewLayer, change_times, is_settled, layer_identity,
};
use url::Url;

use super::RegistrySink;
use crate::error::{Error, Result};
use crate::journal::{Journal, Note};
use crate::profile::UploadStyle;
use crate::resume::{PROGRESS, Partial, Standing};
use crate::retry::Attempts;
use crate::upload::{Repository, Sent};

/// A blob's place in the journal, and what was found there.
#[derive(Debug)]
pub(super) struct Noted {
    journal: Arc<Journal>,
    partial: Option<Partial>,
}

impl Noted {
    fn new(journal: Arc<Journal>) -> Self {
        let partial = journal.recall();
        Self { journal, partial }
    }

    /// Whether an earlier process had begun to send it.
    pub(super) const fn is_begun(&self) -> bool {
        self.partial.is_some()
    }

    /// The digests of a layer of which an earlier process had sent all bytes.
    pub(super) fn done(&self) -> Option<&Layer> {
        self.partial.as_ref()?.done.as_ref()
    }

    /// As [`done`](Self::done), where the change time of a file is another since: the bytes must be hashed again.
    pub(super) fn touched(&self) -> Option<&Layer> {
        self.partial.as_ref()?.touched.as_ref()
    }
}

/// The attempts at one blob.
pub(super) struct Course<'a> {
    repository: &'a Repository,
    pub(super) attempts: Attempts,
    /// Where the next attempt goes on; `None` for a new upload.
    partial: Option<Partial>,
    journal: Option<Arc<Journal>>,
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
    /// The place in the journal of a new layer, and what an earlier process noted there; `None` where nothing can be noted.
    pub(super) fn noted_layer(&self, new: &NewLayer) -> Option<Noted> {
        let now = SystemTime::now();
        if !self.is_resumable() || !is_settled(&new.layer, now) {
            return None;
        }
        let made_of = (layer_identity(&new.layer, new.compression), change_times(&new.layer, now));
        Some(Noted::new(self.journal(made_of)?))
    }

    /// The course of a new layer.
    pub(super) async fn course_of_layer(
        &self,
        new: &NewLayer,
        noted: Option<Noted>,
        watch: &LayerWatch,
    ) -> Course<'_> {
        let plain = new.compression == Compression::None;
        let step = plain.then_some(self.host().shared().options.checkpoint_step);
        let noted = noted.or_else(|| self.noted_layer(new));
        self.course(plain.then(|| new.layer.len()), step, noted, watch).await
    }

    /// The course of a blob whose digest is known, one that is worth going on with where it is a `large` one.
    pub(super) async fn course_of_blob(
        &self,
        blob: &Descriptor,
        large: bool,
        watch: &LayerWatch,
    ) -> Course<'_> {
        let noted = if large { self.noted_blob(blob) } else { None };
        self.course(Some(blob.size()), None, noted, watch).await
    }

    fn noted_blob(&self, blob: &Descriptor) -> Option<Noted> {
        if !self.is_resumable() {
            return None;
        }
        Some(Noted::new(self.journal((blob.digest().to_string(), None))?))
    }

    /// Whether the registry keeps what an upload has, as far as is known before one breaks.
    fn is_resumable(&self) -> bool {
        self.repository.profile().upload != UploadStyle::Monolithic
    }

    fn journal(&self, identity: (String, Option<String>)) -> Option<Arc<Journal>> {
        let place = (self.host().registry(), self.repository.access.repository.as_str());
        let total = self.planned.get().copied().unwrap_or_default();
        Journal::open(&self.host().shared().options, place, identity, total).map(Arc::new)
    }

    /// Drops what was noted of a blob that is there by now, and the upload with it.
    pub(super) async fn tidy(&self, noted: Noted) {
        let Some(partial) = noted.partial else { return };
        noted.journal.remove();
        if let Standing::At(place, _) | Standing::Empty(place) =
            self.repository.standing(&partial.url(), None).await
        {
            self.repository.cancel(&place).await;
        }
    }

    async fn course(
        &self,
        len: Option<u64>,
        checkpoint_step: Option<u64>,
        noted: Option<Noted>,
        watch: &LayerWatch,
    ) -> Course<'_> {
        let (journal, partial) = noted.map(|noted| (noted.journal, noted.partial)).unzip();
        let mut course = Course {
            repository: &self.repository,
            attempts: Attempts::watched(self.host().shared().options.retry, watch),
            partial: None,
            journal,
            checkpoint_step,
            len,
            resumable: self.is_resumable(),
            reached: 0,
            renewed: false,
            again: false,
        };
        if let Some(partial) = partial.flatten() {
            course.recall(partial, watch).await;
        }
        course
    }
}

impl Course<'_> {
    /// Takes up the upload that an earlier process began, where the registry still has it.
    async fn recall(&mut self, mut partial: Partial, watch: &LayerWatch) {
        match self.repository.standing(&partial.url(), self.len).await {
            Standing::At(next, offset) => {
                tracing::info!(offset, "an upload of an earlier push goes on");
                self.repository.opened(&next);
                partial.moved(next, offset);
                self.keep_note(&partial);
                watch.position(offset);
                self.partial = Some(partial);
            }
            Standing::Empty(next) => {
                tracing::info!("the registry has nothing of the upload of an earlier push");
                self.give_up(&next).await;
            }
            Standing::Gone(reason) => {
                tracing::info!(reason, "the upload of an earlier push cannot go on");
                self.give_up(&partial.url()).await;
            }
            Standing::Unknown(error) => {
                tracing::debug!(%error, "the upload of an earlier push is asked for once more");
                self.repository.opened(&partial.url());
                self.keep_note(&partial);
                partial.unsure = true;
                self.partial = Some(partial);
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
        self.keep_note(partial);
        let checkpoints = self.checkpoint_step.map(|_| &partial.checkpoints);
        tokio::select! {
            sent = sending => sent,
            () = journal.keep(&partial.upload, checkpoints) => Err(StorageError::Interrupted.into()),
        }
    }

    /// Has it noted how far the upload came, should the push end now.
    fn keep_note(&self, partial: &Partial) {
        if let Some(journal) = &self.journal {
            let note = Note {
                journal: Arc::clone(journal),
                checkpoints: partial.checkpoints.clone(),
                done: partial.done.clone(),
            };
            self.repository.keep_note(&partial.url(), note);
        }
    }

    /// All bytes of a layer are sent, and the request that makes a blob of them comes next: what becomes of that may be
    /// kept from this process, and the next one can ask for the blob.
    pub(super) fn finishing(&self, partial: &mut Partial, layer: &Layer) {
        partial.done = Some(layer.clone());
        self.keep_note(partial);
        if let Some(journal) = &self.journal {
            journal.note(partial);
        }
    }

    /// Keeps what was sent for the next attempt, where it may go on; says whether there is to be one.
    pub(super) async fn broke(&mut self, partial: Partial, error: Error) -> Error {
        if self.resumable && may_go_on(&error) {
            self.partial = Some(partial);
            return error.made_transient();
        }
        if matches!(error, Error::Storage(StorageError::Interrupted)) {
            // Nothing is wrong with it: what becomes of the uploads is seen to when the sink is told of the end.
            return error;
        }
        self.give_up(&partial.url()).await;
        error
    }

    /// Gives up an upload of which no blob came to be, unless that may still happen: a request that was not let in, or
    /// whose answer got lost, leaves the upload as it was.
    pub(super) async fn refused(&mut self, partial: Partial, error: Error) -> Error {
        if self.resumable && may_go_on(&error) {
            self.partial = Some(partial);
            return error;
        }
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
        // Nothing is in trouble that would have to be waited for; and chunks that are halved come to an end.
        if matches!(error, Error::BodyLimit { smaller: true, .. }) {
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
            Standing::Empty(next) => {
                self.repository.follow(&partial.upload, &next);
                self.give_up(&next).await;
                Ok(Some("the registry has nothing of it yet, so it is sent again from its start".to_owned()))
            }
            Standing::Gone(reason) => {
                // It was asked just now where the upload is.
                self.repository.set_moving(&partial.url(), false);
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

/// Whether the upload may still be there after such an error. 416 is the answer to a wrong start; who is refused (401, 403)
/// has changed nothing.
fn may_go_on(error: &Error) -> bool {
    error.is_transient() || error.is_refusal() || error.status() == Some(416)
}
