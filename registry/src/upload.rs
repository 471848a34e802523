//! Uploads: the requests by which a blob comes into a repository, one attempt each
//! (distribution specification, "Pushing a blob in chunks" and "Mounting a blob").

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossdock_storage::{Abort, BlobStream, Digest, Error as StorageError, LayerWatch};
use futures_util::future::join_all;
use reqwest::Method;
use reqwest::header::{CONTENT_RANGE, HeaderValue};
use url::Url;

use crate::body::Body;
use crate::body_limit::{RAISE, SMALLEST};
use crate::chunks::Source;
use crate::client::lock;
use crate::error::{Error, Result};
use crate::host::{Access, Answer, Call, Host};
use crate::journal::Note;
use crate::profile::{Profile, UploadStyle};
use crate::resume::{Standing, received};
use crate::retry::Attempts;

/// How long the answer to a cancelled upload is waited for: nothing depends on it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// How long an interrupted push asks about its uploads and cancels them. A pod has 30 s between SIGTERM and SIGKILL.
const GRACE: Duration = Duration::from_secs(2);

/// A repository to push to, and the uploads that are open in it.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) host: Arc<Host>,
    pub(crate) access: Access,
    /// The registry does not take a PATCH that says its length.
    no_length: AtomicBool,
    open: Mutex<HashMap<Url, Open>>,
}

/// What is known of an upload that is neither a blob nor cancelled.
#[derive(Debug, Default)]
struct Open {
    /// Bytes went there since the registry named the place, so that the registry may by now go by another one.
    moving: bool,
    /// What another process needs to go on with it; `None` where none could.
    note: Option<Note>,
}

/// An upload that was begun.
#[derive(Debug)]
pub(crate) enum Begun {
    /// To be sent to this place.
    Upload(Url),
    /// Nothing to send: the registry took the blob from the other repository.
    Mounted,
}

/// An upload whose bytes were sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// It waits for its digest.
    Open,
    /// It is a blob already.
    Committed,
}

impl Repository {
    pub(crate) fn new(host: Arc<Host>, repository: &str) -> Self {
        Self {
            host,
            access: Access::push(repository),
            no_length: AtomicBool::new(false),
            open: Mutex::default(),
        }
    }

    /// The registry's peculiarities, and how the user wants blobs sent.
    pub(crate) fn profile(&self) -> Profile {
        let mut profile = self.host.profile();
        profile.upload = self.host.shared().options.upload.unwrap_or(profile.upload);
        if self.no_length.load(Ordering::Relaxed)
            && profile.upload == (UploadStyle::Stream { with_length: true })
        {
            profile.upload = UploadStyle::Stream { with_length: false };
        }
        if let Some(chunk) = self.host.body_limit().chunk() {
            profile.upload = match profile.upload {
                UploadStyle::Stream { .. } => UploadStyle::Chunked { size: chunk },
                UploadStyle::Chunked { size } => UploadStyle::Chunked { size: size.min(chunk) },
                UploadStyle::Monolithic => UploadStyle::Monolithic,
            };
        }
        profile
    }

    /// Says of a body that a proxy before the registry refused what comes next: smaller ones, or nothing.
    fn too_large(&self, error: Error, style: UploadStyle, bytes: u64) -> Error {
        let Error::BodyLimit { what, host, detail, .. } = error else { return error };
        let (next, smaller) = match style {
            UploadStyle::Monolithic if self.host.shared().options.upload.is_some() => {
                (format!("--upload monolithic sends blobs whole: leave it out for chunks, or {RAISE}"), false)
            }
            UploadStyle::Monolithic => (format!("and this registry takes blobs only whole: {RAISE}"), false),
            style => match self.host.body_limit().refused(bytes, style) {
                Some(chunk) => (format!("it goes on in chunks of {} KiB", chunk >> 10), true),
                None => (
                    format!("and smaller requests than {} KiB are not tried: {RAISE}", SMALLEST >> 10),
                    false,
                ),
            },
        };
        Error::BodyLimit { what, host, bytes, detail, next, smaller }
    }

    /// Whether the repository has a blob of this digest and size.
    pub(crate) async fn has(&self, digest: &Digest, size: u64) -> Result<bool> {
        // A redirect means that the blob is there, in the storage behind; it is not followed.
        let accepted = &[200, 301, 302, 303, 307, 308, 404];
        let make = |endpoint: &crate::endpoint::Endpoint| {
            Call::new(&self.access, Method::HEAD, endpoint.blob(&self.access.repository, digest), accepted)
        };
        let answer = match self.host.request(self.host.attempts(), make).await {
            Ok(answer) => answer,
            // Who may push need not be allowed to look.
            Err(Error::Denied { status, .. }) => {
                tracing::debug!(%digest, status, "the registry does not say whether it has the blob");
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        match answer.status().as_u16() {
            404 => Ok(false),
            200 => Ok(answer.content_length().is_none_or(|len| len == size)),
            _ => Ok(true),
        }
    }

    /// Begins an upload; with `mount`, asks first for a blob of another repository.
    pub(crate) async fn begin(&self, mount: Option<(&Digest, &str)>) -> Result<Begun> {
        let endpoint = self.host.endpoint().await?;
        let repository = &self.access.repository;
        let (access, url) = match mount {
            Some((digest, from)) => (self.access.mounting(from), endpoint.mount(repository, digest, from)),
            None => (self.access.clone(), endpoint.uploads(repository)),
        };
        let accepted: &[u16] = if mount.is_some() { &[201, 202] } else { &[202] };
        let answer = self.host.call(Call::new(&access, Method::POST, url, accepted)).await?;
        if answer.status().as_u16() == 201 {
            return Ok(Begun::Mounted);
        }
        let location = self.location(&answer).await?;
        self.opened(&location);
        Ok(Begun::Upload(location))
    }

    /// Begins an upload where there is nothing to mount.
    pub(crate) async fn begin_upload(&self) -> Result<Url> {
        match self.begin(None).await? {
            Begun::Upload(url) => Ok(url),
            // Not accepted above.
            Begun::Mounted => Err(Error::Answer {
                what: format!("{}/{}", self.host.registry(), self.access.repository),
                reason: "it mounted a blob when it was asked for an upload".to_owned(),
            }),
        }
    }

    /// Sends the bytes of an upload from `from` on, and keeps in `upload` where it goes on. An error of the source counts
    /// before that of the request, which it broke.
    ///
    /// `len` is the number of bytes to come, where it is known; `digest` is needed where the registry takes blobs only
    /// whole.
    pub(crate) async fn send(
        &self,
        upload: &Mutex<Url>,
        source: BlobStream,
        (from, len): (u64, Option<u64>),
        digest: Option<&Digest>,
        watch: Option<&LayerWatch>,
    ) -> Result<Sent> {
        let mut source = source;
        if from > 0 {
            // What is only hashed again comes first, before a request that would have to wait for it.
            let rest = Source::new(source);
            if !rest.has_more().await? {
                return Ok(Sent::Open);
            }
            source = rest.part(None);
        }
        self.set_moving(&lock(upload), true);
        let style = self.profile().upload;
        match (style, digest) {
            (UploadStyle::Monolithic, Some(digest)) if from == 0 => {
                let call = Call::new(&self.access, Method::PUT, with_digest(&lock(upload), digest), &[201])
                    .with_patience(self.host.shared().options.timeouts.commit);
                let sent = self.exchange(call, source, (0, len), watch).await;
                let (answer, _) =
                    sent.map_err(|error| self.too_large(error, style, len.unwrap_or(u64::MAX)))?;
                self.check_digest(&answer, digest)?;
                self.forget(&lock(upload));
                Ok(Sent::Committed)
            }
            (UploadStyle::Chunked { size }, _) => {
                self.send_chunks(upload, Source::new(source), (from, len), size.max(1), watch).await
            }
            (style, _) => {
                let with_length = style != UploadStyle::Stream { with_length: false };
                let mut call = Call::new(&self.access, Method::PATCH, lock(upload).clone(), &[202, 204, 201]);
                if from > 0
                    && let Some(len) = len
                {
                    call = call.with_header(CONTENT_RANGE, range(from, len));
                }
                let result = self.exchange(call, source, (from, len.filter(|_| with_length)), watch).await;
                if let Err(Error::Status { status: 416, .. }) = &result
                    && (from, with_length) == (0, true)
                {
                    // A wrong start it cannot be.
                    self.no_length.store(true, Ordering::Relaxed);
                }
                let (answer, _) =
                    result.map_err(|error| self.too_large(error, style, len.unwrap_or(u64::MAX)))?;
                self.moved(upload, &answer).await?;
                Ok(Sent::Open)
            }
        }
    }

    async fn send_chunks(
        &self,
        upload: &Mutex<Url>,
        source: Source,
        (from, len): (u64, Option<u64>),
        size: u64,
        watch: Option<&LayerWatch>,
    ) -> Result<Sent> {
        let (mut at, mut left) = (from, len);
        while source.has_more().await.map_err(Error::from)? {
            let told = left.map(|left| left.min(size));
            // The last part sees the end of its source. A part of unknown length has no range.
            let part = source.part(if told == left && left.is_some() { None } else { Some(size) });
            let mut call = Call::new(&self.access, Method::PATCH, lock(upload).clone(), &[202, 204, 201]);
            if let Some(told) = told {
                call = call.with_header(CONTENT_RANGE, range(at, told));
            }
            self.set_moving(&lock(upload), true);
            let style = UploadStyle::Chunked { size };
            let exchanged = self.exchange(call, part, (at, told), watch).await;
            let (answer, sent) =
                exchanged.map_err(|error| self.too_large(error, style, told.unwrap_or(size)))?;
            self.host.body_limit().held();
            at += sent;
            left = left.map(|left| left - sent);
            if let Some(kept) = received(&answer).filter(|kept| (1..at).contains(kept)) {
                return Err(Error::Answer {
                    what: answer.what().to_owned(),
                    reason: format!(
                        "the registry kept {kept} of {at} bytes that were sent in chunks; it takes blobs only whole \
                         (--upload monolithic)"
                    ),
                });
            }
            self.moved(upload, &answer).await?;
        }
        Ok(Sent::Open)
    }

    /// Makes a request whose body is `source`, of `len` bytes that come after `from` others.
    async fn exchange<'a>(
        &'a self,
        call: Call<'a>,
        source: BlobStream,
        (from, len): (u64, Option<u64>),
        watch: Option<&LayerWatch>,
    ) -> Result<(Answer<'a>, u64)> {
        let counters = Arc::clone(&self.host.shared().options.counters);
        let (body, handle) = Body::new(source, len, counters, watch.cloned());
        let result = self.host.call(call.with_body(body.after(from), handle.clone())).await;
        if let Some(failure) = handle.take_failure()
            && !matches!(failure, StorageError::Interrupted)
        {
            return Err(failure.into());
        }
        let answer = result?;
        if !handle.has_ended() {
            return Err(Error::Transfer {
                what: answer.what().to_owned(),
                reason: "the registry answered before it had all bytes".to_owned(),
            });
        }
        Ok((answer, handle.sent()))
    }

    /// Follows an upload to where it goes on.
    async fn moved(&self, upload: &Mutex<Url>, answer: &Answer<'_>) -> Result<()> {
        if answer.location()?.is_some() {
            let next = self.location(answer).await?;
            self.follow(upload, &next);
        } else {
            self.set_moving(&lock(upload), false);
        }
        Ok(())
    }

    /// Notes that an upload goes on at `next`.
    pub(crate) fn follow(&self, upload: &Mutex<Url>, next: &Url) {
        let mut open = lock(&self.open);
        let old = std::mem::replace(&mut *lock(upload), next.clone());
        let known = open.remove(&old).unwrap_or_default();
        open.insert(next.clone(), Open { moving: false, ..known });
    }

    /// Notes that there is an upload to be finished, or cancelled.
    pub(crate) fn opened(&self, upload: &Url) {
        lock(&self.open).insert(upload.clone(), Open::default());
    }

    /// Keeps what another process needs to go on with the upload, for [`leave`](Self::leave).
    pub(crate) fn keep_note(&self, upload: &Url, note: Note) {
        lock(&self.open).entry(upload.clone()).or_default().note = Some(note);
    }

    pub(crate) fn set_moving(&self, upload: &Url, moving: bool) {
        if let Some(open) = lock(&self.open).get_mut(upload) {
            open.moving = moving;
        }
    }

    /// Makes a blob of a sent upload. Where the answer gets lost, asks whether the blob came into being before it asks
    /// again: a commit may take longer than a proxy waits.
    pub(crate) async fn finish(
        &self,
        upload: &Url,
        digest: &Digest,
        size: u64,
        attempts: &mut Attempts,
    ) -> Result<()> {
        let mut again = false;
        loop {
            let call = Call::new(&self.access, Method::PUT, with_digest(upload, digest), &[201])
                .with_patience(self.host.shared().options.timeouts.commit);
            match self.host.call(call).await {
                Ok(answer) => {
                    self.check_digest(&answer, digest)?;
                    self.forget(upload);
                    return Ok(());
                }
                Err(error) if again && !error.is_transient() && !error.is_refusal() => {
                    if self.has(digest, size).await? {
                        self.forget(upload);
                        return Ok(());
                    }
                    // The failed commit may have taken the upload with it: then all bytes must go again.
                    let (status, what) =
                        (error.status().unwrap_or_default(), format!("PUT {}", self.host.shown(upload)));
                    let detail = format!(" after a failed commit: {error}");
                    return Err(Error::Status { what, status, detail, transient: true, retry_after: None });
                }
                Err(error) if error.is_transient() => {
                    let next = attempts.failed(error).await;
                    again = true;
                    // The last attempt, too, may have been one whose answer got lost.
                    if matches!(self.has(digest, size).await, Ok(true)) {
                        self.forget(upload);
                        return Ok(());
                    }
                    next?;
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives an upload up. Nothing depends on whether the registry likes it.
    pub(crate) async fn cancel(&self, upload: &Url) {
        let known = lock(&self.open).remove(upload).unwrap_or_default();
        self.cancel_at(upload, known.moving).await;
    }

    /// Distribution 3 and OpenShift answer the DELETE of a place that the upload has left with 416, and keep the upload:
    /// where bytes went since, the present place is asked for first. Distribution 2.8 does not tell it (404), and keeps
    /// the upload until it purges old ones.
    async fn cancel_at(&self, upload: &Url, moving: bool) {
        let mut place = upload.clone();
        if moving && let Standing::At(next, _) | Standing::Empty(next) = self.standing(upload, None).await {
            place = next;
        }
        let call = Call::new(&self.access, Method::DELETE, place, &[200, 202, 204, 404, 405]);
        match tokio::time::timeout(CANCEL_PATIENCE, self.host.call(call)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an upload was not cancelled"),
            Err(_) => tracing::debug!("an upload was not cancelled in time"),
        }
    }

    /// Ends the work on all open uploads, whose requests are dropped by now: notes how far those are that another process
    /// can go on with, and cancels the others. The notes are written before anybody is asked, and after an interruption
    /// the rest may take [`GRACE`].
    pub(crate) async fn leave(&self, why: Abort) {
        let open: Vec<_> = lock(&self.open).drain().collect();
        let noted: Vec<_> = open
            .into_iter()
            .map(|(place, open)| {
                let note = open.note.filter(|note| note.write(&place));
                (place, open.moving, note)
            })
            .collect();
        let each = noted.iter().map(|(place, moving, note)| async move {
            match note {
                Some(note) => self.settle(place, note).await,
                None => self.cancel_at(place, *moving).await,
            }
        });
        let limit = if why == Abort::Interrupted { GRACE } else { 2 * CANCEL_PATIENCE };
        if tokio::time::timeout(limit, join_all(each)).await.is_err() {
            tracing::debug!("not all uploads were cancelled in time");
        }
    }

    /// Cancels an upload that is noted, where the registry does not go on with it.
    async fn settle(&self, place: &Url, note: &Note) {
        // The registry may be making a blob of it: the next process asks for the blob first.
        if note.done.is_some() {
            return;
        }
        let place = match self.standing(place, None).await {
            Standing::At(..) | Standing::Unknown(_) => return,
            // Bytes may still be in the registry's memory.
            Standing::Empty(_) if !note.checkpoints.last(1).is_empty() => return,
            Standing::Empty(next) => next,
            Standing::Gone(reason) => {
                tracing::debug!(reason, "the upload cannot go on");
                place.clone()
            }
        };
        note.journal.remove();
        self.cancel_at(&place, false).await;
    }

    /// Leaves an upload as it is, for another process.
    pub(crate) fn forget(&self, upload: &Url) {
        lock(&self.open).remove(upload);
    }

    async fn location(&self, answer: &Answer<'_>) -> Result<Url> {
        let Some(location) = answer.location()? else {
            let reason = "the registry does not say where the upload goes on (no Location header)".to_owned();
            return Err(Error::Answer { what: answer.what().to_owned(), reason });
        };
        self.host.endpoint().await?.location(answer.url(), location)
    }

    fn check_digest(&self, answer: &Answer<'_>, digest: &Digest) -> Result<()> {
        match answer.header("docker-content-digest") {
            Some(other) if other != digest.to_string() => Err(Error::Digest {
                what: format!(
                    "a blob pushed to {}/{} arrived as another; no tag was moved",
                    self.host.registry(),
                    self.access.repository
                ),
                expected: digest.clone(),
                actual: self.host.veil().cover(other),
            }),
            _ => Ok(()),
        }
    }
}

fn with_digest(upload: &Url, digest: &Digest) -> Url {
    let mut url = upload.clone();
    url.query_pairs_mut().append_pair("digest", digest.as_ref());
    url
}

/// `first-last`, as the distribution specification has it: without the unit that RFC 9110 wants.
fn range(from: u64, len: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{from}-{}", from + len - 1)).expect("digits")
}
