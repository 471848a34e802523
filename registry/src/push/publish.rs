//! The manifest: every blob is there by now. The tags move last, and what they name is read back; the images of an index
//! after that, for OpenShift's registry shows a manifest by its digest only once a tag names it or its index.

use bytes::Bytes;
use crossdock_storage::{Descriptor, Digest, ImageManifest, ManifestEntry, from_json, is_foreign, is_index};
use reqwest::Method;
use reqwest::header::HeaderValue;

use super::RegistrySink;
use crate::client::lock;
use crate::error::{Error, Result};
use crate::host::Call;
use crate::known::KnownBlobs;
use crate::manifest::fetch;

impl RegistrySink {
    /// Puts the manifest of one image of an index: it has no tag, and is read back when the index has one.
    pub(super) async fn publish_unnamed(&self, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
        self.ask_again_in_time(bytes).await?;
        let access = &self.repository.access;
        let image = format!("{}/{}@{}", self.host().registry(), access.repository, manifest.digest());
        self.put(manifest.digest().as_ref(), &image, manifest, bytes).await?;
        self.remember(bytes);
        lock(&self.manifests).insert(manifest.digest().clone());
        Ok(())
    }

    pub(super) async fn publish(&self, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
        let children = if is_index(manifest.media_type()) {
            self.check_children(bytes).await?
        } else {
            self.ask_again_in_time(bytes).await?;
            Vec::new()
        };
        for reference in &self.references {
            self.put(reference.selector(), &reference.to_string(), manifest, bytes).await?;
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
        for digest in std::iter::once(manifest.digest()).chain(&children) {
            self.is_there_by_digest(digest).await?;
        }
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
                    let detail =
                        ": the tag names it or its index, and by its digest it is not there".to_owned();
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
            && let Ok(manifest) = from_json::<ImageManifest>(bytes)
        {
            let layers = manifest.layers().iter().filter(|layer| !is_foreign(layer)).map(Descriptor::digest);
            known.remember(&self.repository.access.repository, layers);
        }
    }

    /// An index may name only images that are there: those that this push did not put are asked for. Gives those that it
    /// did, which can be asked for when the index has its tag.
    async fn check_children(&self, bytes: &Bytes) -> Result<Vec<Digest>> {
        let children = ManifestEntry::of_index(bytes)
            .map_err(|source| Error::Malformed { what: "the index to push".to_owned(), source })?;
        let access = &self.repository.access;
        let mut put = Vec::new();
        for ManifestEntry { digest: child, .. } in children {
            if lock(&self.manifests).contains(&child) {
                put.push(child);
                continue;
            }
            let image = format!("{}/{}@{}", self.host().registry(), access.repository, child);
            match fetch(self.host(), access, child.as_ref(), &image).await {
                Ok(_) => {}
                Err(Error::NotFound { .. }) => {
                    return Err(Error::Destination {
                        destination: format!("{}/{}", self.host().registry(), access.repository),
                        reason: format!(
                            "the image {child} of the list is not there: send the images too, with --all"
                        ),
                    });
                }
                Err(error) => return Err(error),
            }
        }
        Ok(put)
    }

    /// Looks whether all blobs are still there, where the push has taken long.
    async fn ask_again_in_time(&self, bytes: &Bytes) -> Result<()> {
        let after = self.host().shared().options.ask_again_after;
        match self.began.get() {
            Some(began) if began.elapsed() > after => self.ask_again(bytes).await,
            _ => Ok(()),
        }
    }

    async fn ask_again(&self, bytes: &Bytes) -> Result<()> {
        let manifest: ImageManifest = from_json(bytes)
            .map_err(|source| Error::Malformed { what: "the manifest to push".to_owned(), source })?;
        let layers = manifest.layers().iter().filter(|layer| !is_foreign(layer));
        for blob in layers.chain([manifest.config()]) {
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

    /// Puts a manifest under a tag or its digest; `image` names it in errors.
    async fn put(&self, selector: &str, image: &str, manifest: &Descriptor, bytes: &Bytes) -> Result<()> {
        let media_type =
            HeaderValue::from_str(manifest.media_type().as_ref()).map_err(|_| Error::Answer {
                what: format!("the manifest of {image}"),
                reason: "its media type is not one for a header".to_owned(),
            })?;
        let access = &self.repository.access;
        let mut attempts = self.host().attempts();
        loop {
            let url = self.host().endpoint().await?.manifest(&access.repository, selector);
            let call = Call::new(access, Method::PUT, url, &[200, 201, 202])
                .with_bytes(media_type.clone(), bytes.clone())
                .with_patience(self.host().shared().options.timeouts.commit);
            let error = match self.host().call(call).await {
                Ok(answer) => match answer.header("docker-content-digest") {
                    Some(other) if other != manifest.digest().to_string() => {
                        return Err(Error::Digest {
                            what: format!("the registry took the manifest of {image} as another"),
                            expected: manifest.digest().clone(),
                            actual: self.host().veil().cover(other),
                        });
                    }
                    _ => return Ok(()),
                },
                Err(error) => error,
            };
            attempts.failed(about_urls(error, bytes)).await?;
            // The answer may have got lost and not the manifest. By its digest it can always be put once more.
            if !selector.contains(':')
                && let Ok(fetched) = fetch(self.host(), access, selector, image).await
                && fetched.bytes == *bytes
            {
                return Ok(());
            }
        }
    }
}

/// Says of a manifest that was refused what may be the reason, where it has layers with URLs: Distribution calls them unknown
/// blobs, or an error of its own, where its configuration does not allow the URLs.
fn about_urls(error: Error, manifest: &[u8]) -> Error {
    match error {
        Error::Status { what, status, mut detail, transient, retry_after }
            if from_json::<ImageManifest>(manifest).is_ok_and(|m| m.layers().iter().any(is_foreign)) =>
        {
            detail.push_str(
                "; the image has layers that stay at their URLs: the registry must allow these, as Distribution does by \
                 validation.manifests.urls.allow of its configuration",
            );
            Error::Status { what, status, detail, transient, retry_after }
        }
        error => error,
    }
}
