//! Uploads: the requests by which a blob comes into a repository, one attempt each
//! (distribution specification, "Pushing a blob in chunks" and "Mounting a blob").

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossdock_storage::{BlobStream, Digest, Error as StorageError, LayerWatch};
use reqwest::Method;
use url::Url;

use crate::body::Body;
use crate::client::lock;
use crate::endpoint::shown;
use crate::error::{Error, Result};
use crate::host::{Access, Answer, Call, Host};
use crate::profile::{Profile, UploadStyle};
use crate::retry::Attempts;

/// How long the answer to a cancelled upload is waited for: nothing depends on it.
const CANCEL_PATIENCE: Duration = Duration::from_secs(10);

/// A repository to push to, and the uploads that are open in it.
#[derive(Debug)]
pub(crate) struct Repository {
    pub(crate) host: Arc<Host>,
    pub(crate) access: Access,
    pub(crate) profile: Profile,
    open: Mutex<HashSet<Url>>,
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
#[derive(Debug)]
pub(crate) enum Sent {
    /// It waits for its digest.
    Open(Url),
    /// It is a blob already.
    Committed,
}

impl Repository {
    pub(crate) fn new(host: Arc<Host>, repository: &str) -> Self {
        let mut profile = Profile::of(host.registry());
        profile.upload = host.shared().options.upload.unwrap_or(profile.upload);
        Self { host, access: Access::push(repository), profile, open: Mutex::default() }
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
        lock(&self.open).insert(location.clone());
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

    /// Sends the bytes of an upload. An error of the source counts before that of the request, which it broke.
    ///
    /// `digest` is needed where the registry takes blobs only whole.
    pub(crate) async fn send(
        &self,
        upload: &Url,
        source: BlobStream,
        len: Option<u64>,
        digest: Option<&Digest>,
        watch: Option<&LayerWatch>,
    ) -> Result<Sent> {
        let options = &self.host.shared().options;
        let (told, style) = match (self.profile.upload, digest) {
            (UploadStyle::Monolithic, Some(digest)) => (len, Some(digest)),
            (UploadStyle::Stream { with_length: false }, _) => (None, None),
            _ => (len, None),
        };
        let (body, handle) = Body::new(source, told, Arc::clone(&options.counters), watch.cloned());
        let call = match style {
            Some(digest) => Call::new(&self.access, Method::PUT, with_digest(upload, digest), &[201])
                .with_patience(options.timeouts.commit),
            None => Call::new(&self.access, Method::PATCH, upload.clone(), &[202, 204, 201]),
        };
        let result = self.host.call(call.with_body(body, handle.clone())).await;
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
        match style {
            Some(digest) => {
                self.check_digest(&answer, digest)?;
                self.forget(upload);
                Ok(Sent::Committed)
            }
            None => {
                let next = match answer.location() {
                    Some(_) => self.location(&answer).await?,
                    None => upload.clone(),
                };
                let mut open = lock(&self.open);
                open.remove(upload);
                open.insert(next.clone());
                Ok(Sent::Open(next))
            }
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
                Err(error) if again && !error.is_transient() => {
                    if self.has(digest, size).await? {
                        self.forget(upload);
                        return Ok(());
                    }
                    // The failed commit took the upload with it: all bytes must go again.
                    let (status, what) =
                        (error.status().unwrap_or_default(), format!("PUT {}", shown(upload)));
                    let detail = format!(" after a failed commit: {error}");
                    return Err(Error::Status { what, status, detail, transient: true, retry_after: None });
                }
                Err(error) => attempts.failed(error).await?,
            }
            again = true;
            if self.has(digest, size).await? {
                self.forget(upload);
                return Ok(());
            }
        }
    }

    /// Gives an upload up. Nothing depends on whether the registry likes it.
    pub(crate) async fn cancel(&self, upload: &Url) {
        self.forget(upload);
        let call = Call::new(&self.access, Method::DELETE, upload.clone(), &[200, 202, 204, 404, 405]);
        match tokio::time::timeout(CANCEL_PATIENCE, self.host.call(call)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "an upload was not cancelled"),
            Err(_) => tracing::debug!("an upload was not cancelled in time"),
        }
    }

    /// Gives all open uploads up.
    pub(crate) async fn cancel_all(&self) {
        let open: Vec<_> = lock(&self.open).drain().collect();
        for upload in open {
            self.cancel(&upload).await;
        }
    }

    fn forget(&self, upload: &Url) {
        lock(&self.open).remove(upload);
    }

    async fn location(&self, answer: &Answer<'_>) -> Result<Url> {
        let Some(location) = answer.location() else {
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
                actual: other.to_owned(),
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
