//! `RegistrySource`: a base image on a registry.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_storage::{
    BlobStream, Descriptor, Digest, EntryPlatform, Error as StorageError, ImageSource, ManifestEntry,
    Platform, RepositoryName, ResolvedImage, Result as StorageResult,
};
use futures_util::stream;
use reqwest::header::{HeaderValue, RANGE};
use reqwest::{Method, Response};

use crate::error::{Error, Result};
use crate::host::{Access, Call, Host, READ, next_chunk};
use crate::image_config::{fetch_config, platform_of, select};
use crate::manifest::{Document, MAX_DEPTH, fetch};
use crate::reference::Reference;
use crate::retry::Attempts;

/// After so many bytes without a failure, the earlier failures of a download are forgotten: a blob of hundreds of
/// gigabytes may take more interruptions than a small one.
const FORGIVEN_AFTER: u64 = 256 << 20;

/// An image on a registry, to build from.
#[derive(Clone)]
pub struct RegistrySource {
    host: Arc<Host>,
    reference: Reference,
    access: Access,
}

impl RegistrySource {
    pub(crate) fn new(host: Arc<Host>, reference: Reference) -> Self {
        let access = Access::pull(reference.repository());
        Self { host, reference, access }
    }

    /// The reference.
    #[must_use]
    pub const fn reference(&self) -> &Reference {
        &self.reference
    }

    /// Whether the registry answers, asked once.
    pub(crate) async fn reachable(&self) -> Result<()> {
        self.host.endpoint().await.map(drop)
    }

    /// The image; `said` is what a list elsewhere says that it is for.
    async fn resolve_image(
        &self,
        platform: &Platform,
        said: Option<&EntryPlatform>,
    ) -> Result<ResolvedImage> {
        let (image, mut said) = (self.reference.to_string(), said.cloned());
        let mut fetched = fetch(&self.host, &self.access, self.reference.selector(), &image).await?;
        for _ in 0..=MAX_DEPTH {
            match fetched.parse(&image)? {
                Document::Manifest(manifest, media_type) => {
                    let descriptor = Descriptor::new(media_type, fetched.bytes.len() as u64, fetched.digest);
                    let config = manifest.config();
                    let (config, config_bytes) =
                        fetch_config(&self.host, &self.access, config, &image).await?;
                    let (manifest, manifest_bytes) = (*manifest, fetched.bytes);
                    let resolved =
                        ResolvedImage { descriptor, manifest, config, manifest_bytes, config_bytes };
                    return Ok(resolved.listed_as(said.as_ref()));
                }
                Document::Index(entries) => {
                    let entry = select(&self.host, &self.access, &entries, platform, &image).await?;
                    fetched = fetch(&self.host, &self.access, entry.digest.as_ref(), &image).await?;
                    said = entry.details.platform;
                }
            }
        }
        Err(Error::Answer {
            what: image,
            reason: format!("its indexes are nested deeper than {MAX_DEPTH} levels"),
        })
    }

    async fn fetch_index(&self) -> Result<Option<Vec<ManifestEntry>>> {
        let image = self.reference.to_string();
        let fetched = fetch(&self.host, &self.access, self.reference.selector(), &image).await?;
        match fetched.parse(&image)? {
            Document::Index(entries) => Ok(Some(entries)),
            Document::Manifest(..) => Ok(None),
        }
    }
}

#[async_trait]
impl ImageSource for RegistrySource {
    fn name(&self) -> String {
        self.reference.to_string()
    }

    fn image_name(&self) -> Option<String> {
        Some(self.reference.name_in_full())
    }

    fn repository(&self) -> Option<RepositoryName> {
        Some(self.reference.repository_name())
    }

    fn locator(&self) -> String {
        format!("docker://{}", self.reference)
    }

    async fn index(&self) -> StorageResult<Option<Vec<ManifestEntry>>> {
        Ok(self.fetch_index().await?)
    }

    #[tracing::instrument(skip_all, fields(image = %self.reference, %platform))]
    async fn resolve(&self, platform: &Platform) -> StorageResult<ResolvedImage> {
        Ok(self.resolve_image(platform, None).await?)
    }

    async fn platform_of(&self, entry: &ManifestEntry) -> StorageResult<Option<EntryPlatform>> {
        Ok(platform_of(&self.host, &self.access, entry, &self.reference.to_string()).await?)
    }

    async fn resolve_listed(
        &self,
        said: &EntryPlatform,
        platform: &Platform,
    ) -> StorageResult<ResolvedImage> {
        Ok(self.resolve_image(platform, Some(said)).await?)
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> StorageResult<BlobStream> {
        let mut download = Download {
            host: Arc::clone(&self.host),
            access: self.access.clone(),
            digest: blob.digest().clone(),
            offset,
            size: blob.size(),
            failed_at: offset,
            attempts: self.host.attempts(),
            response: None,
            skip: 0,
        };
        download.open().await?;
        Ok(Box::pin(stream::try_unfold(download, |mut download| async {
            Ok(download.next().await.map_err(StorageError::from)?.map(|chunk| (chunk, download)))
        })))
    }
}

/// A blob on its way here; a connection that breaks is opened again where it broke.
struct Download {
    host: Arc<Host>,
    access: Access,
    digest: Digest,
    /// Bytes that came, or were not asked for.
    offset: u64,
    size: u64,
    failed_at: u64,
    attempts: Attempts,
    response: Option<Response>,
    /// Bytes to throw away, from a server that gives the whole blob for any range.
    skip: u64,
}

impl Download {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        loop {
            if self.response.is_none() {
                if self.offset >= self.size {
                    return Ok(None);
                }
                self.open().await?;
            }
            match self.chunk().await {
                Ok(Some(bytes)) if bytes.is_empty() => {}
                Ok(Some(bytes)) => {
                    self.offset += bytes.len() as u64;
                    self.host.shared().options.counters.add_received(bytes.len() as u64);
                    if self.offset - self.failed_at.min(self.offset) >= FORGIVEN_AFTER {
                        self.attempts.succeeded();
                    }
                    return Ok(Some(bytes));
                }
                // More than was announced is for the one who verifies.
                Ok(None) if self.offset >= self.size => return Ok(None),
                Ok(None) => {
                    let reason = format!("it ended at byte {} of {}", self.offset, self.size);
                    self.broken(Error::Transfer { what: self.what(), reason }).await?;
                }
                Err(error) => self.broken(error).await?,
            }
        }
    }

    async fn broken(&mut self, error: Error) -> Result<()> {
        self.response = None;
        self.failed_at = self.offset;
        self.attempts.failed(error).await
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let what = self.what();
        let stall = self.host.shared().options.timeouts.stall;
        let Some(response) = &mut self.response else { return Ok(None) };
        let mut chunk = next_chunk(response, &what, stall).await?;
        if let Some(bytes) = &mut chunk
            && self.skip > 0
        {
            let drop = usize::try_from(self.skip).unwrap_or(usize::MAX).min(bytes.len());
            self.skip -= drop as u64;
            *bytes = bytes.split_off(drop);
        }
        Ok(chunk)
    }

    async fn open(&mut self) -> Result<()> {
        loop {
            match self.try_open().await {
                Ok((response, skip)) => {
                    self.response = Some(response);
                    self.skip = skip;
                    return Ok(());
                }
                Err(error) => self.attempts.failed(error).await?,
            }
        }
    }

    async fn try_open(&self) -> Result<(Response, u64)> {
        let url = self.host.endpoint().await?.blob(&self.access.repository, &self.digest);
        let make = |url| {
            let call = Call::new(&self.access, Method::GET, url, &READ);
            match HeaderValue::from_str(&format!("bytes={}-", self.offset)) {
                Ok(range) if self.offset > 0 => call.with_header(RANGE, range),
                _ => call,
            }
        };
        let answer = self.host.get_following(make, url).await?;
        let skip = match answer.status().as_u16() {
            206 => {
                let start = answer.header("content-range").and_then(range_start);
                if start != Some(self.offset) {
                    let reason = format!("asked for the bytes from {} on, it gives others", self.offset);
                    return Err(Error::Answer { what: answer.what().to_owned(), reason });
                }
                0
            }
            _ => self.offset,
        };
        Ok((answer.into_response(), skip))
    }

    fn what(&self) -> String {
        format!("GET blob {} of {}/{}", self.digest, self.host.registry(), self.access.repository)
    }
}

/// The first byte of a `Content-Range: bytes FIRST-LAST/SIZE`.
pub(crate) fn range_start(value: &str) -> Option<u64> {
    value.trim().strip_prefix("bytes")?.trim_start().split('-').next()?.parse().ok()
}

impl fmt::Debug for RegistrySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistrySource").field("reference", &self.reference).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_range_is_read() {
        assert_eq!(range_start("bytes 100-199/200"), Some(100));
        assert_eq!(range_start("bytes */200"), None);
        assert_eq!(range_start(""), None);
    }
}
