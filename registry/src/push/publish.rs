//! The manifest: every blob is there by now. The tags move last, and what they name is read back.

use bytes::Bytes;
use crossdock_storage::{Descriptor, Digest, ImageManifest};
use reqwest::Method;
use reqwest::header::HeaderValue;

use super::RegistrySink;
use crate::error::{Error, Result};
use crate::host::Call;
use crate::known::KnownBlobs;
use crate::manifest::fetch;
use crate::preflight;
use crate::reference::Reference;

impl RegistrySink {
    pub(super) async fn publish(&self, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
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
                            actual: self.host().veil().cover(other),
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
