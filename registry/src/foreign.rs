//! Foreign layers: a registry or layout need not hold them, and their descriptors name URLs that do. They are read from where
//! the image is, if it has them, and else from the URLs in order. containers/image begins with the URLs.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_storage::{
    BlobStream, Delegate, Descriptor, Error as StorageError, ImageSource, Result as StorageResult, is_foreign,
};
use futures_util::stream;
use reqwest::Response;
use reqwest::header::RANGE;
use url::Url;

use crate::client::{Registry, Shared};
use crate::endpoint::shown;
use crate::error::{Error, Result};
use crate::host::{authority, next_chunk, readable};
use crate::pull::range_start;

/// Redirects that are followed.
const MAX_REDIRECTS: usize = 10;

/// An image whose foreign layers can be read.
struct ForeignSource {
    inner: Arc<dyn ImageSource>,
    shared: Arc<Shared>,
}

impl Registry {
    /// The same image; what its place lacks of its foreign layers is read from their URLs. Nothing says there who we are: a
    /// manifest may name any host (CVE-2020-15157).
    #[must_use]
    pub fn with_urls(&self, source: Arc<dyn ImageSource>) -> Arc<dyn ImageSource> {
        Arc::new(ForeignSource { inner: source, shared: Arc::clone(&self.shared) })
    }
}

impl ForeignSource {
    /// Reads a URL from `offset` on.
    async fn fetch(&self, url: &str, offset: u64) -> Result<BlobStream> {
        let not_one = || Error::Answer {
            what: "a layer's URL".to_owned(),
            reason: "it is not one of http or https".to_owned(),
        };
        let url = Url::parse(url).map_err(|_| not_one())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(not_one());
        }
        let what = format!("GET {}", shown(&url));
        let (response, skip) = self.open(url, offset, &what).await?;
        let (shared, stall) = (Arc::clone(&self.shared), self.shared.options.timeouts.stall);
        let chunks = stream::try_unfold((response, skip), move |(mut response, mut skip)| {
            let (shared, what) = (Arc::clone(&shared), what.clone());
            async move {
                let Some(mut chunk) = next_chunk(&mut response, &what, stall).await? else { return Ok(None) };
                shared.options.counters.add_received(chunk.len() as u64);
                let before = usize::try_from(skip).unwrap_or(usize::MAX).min(chunk.len());
                skip -= before as u64;
                Ok(Some((chunk.split_off(before), (response, skip))))
            }
        });
        Ok(Box::pin(chunks))
    }

    /// The answer to a GET, and how many of its bytes come before `offset`.
    async fn open(&self, mut url: Url, offset: u64, what: &str) -> Result<(Response, u64)> {
        let options = &self.shared.options;
        for _ in 0..=MAX_REDIRECTS {
            let host = authority(&url);
            let mut request = self.shared.client(&host, false, options.tls_verify)?.get(url.clone());
            if offset > 0 {
                request = request.header(RANGE, format!("bytes={offset}-"));
            }
            let stall = options.timeouts.stall;
            let answer = tokio::time::timeout(stall, request.send()).await;
            let answer = answer.map_err(|_| Error::Stalled { what: what.to_owned(), after: stall })?;
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => return Err(self.shared.failed(error, &url, what).await),
            };
            let header = |name| answer.headers().get(name).and_then(|value| value.to_str().ok());
            match answer.status().as_u16() {
                200 => return Ok((answer, offset)),
                206 if header("content-range").and_then(range_start) == Some(offset) => {
                    return Ok((answer, 0));
                }
                301 | 302 | 303 | 307 | 308 => {
                    let location = readable(answer.headers(), "location").map_err(|text| Error::Answer {
                        what: what.to_owned(),
                        reason: format!("its Location header is malformed: {text}"),
                    })?;
                    let next = location.and_then(|to| url.join(to).ok());
                    url = next.filter(|next| matches!(next.scheme(), "http" | "https")).ok_or_else(|| {
                        let reason = "it is redirected to what is no web address".to_owned();
                        Error::Answer { what: what.to_owned(), reason }
                    })?;
                }
                status => {
                    return Err(Error::Status {
                        what: what.to_owned(),
                        status,
                        detail: String::new(),
                        transient: false,
                        retry_after: None,
                    });
                }
            }
        }
        Err(Error::Answer { what: what.to_owned(), reason: format!("more than {MAX_REDIRECTS} redirects") })
    }
}

#[async_trait]
impl Delegate for ForeignSource {
    fn inner(&self) -> &dyn ImageSource {
        &*self.inner
    }

    async fn read_blob(&self, blob: &Descriptor, offset: u64) -> StorageResult<BlobStream> {
        let lacking = match self.inner.blob(blob, offset).await {
            Err(error) if is_foreign(blob) && !matches!(error, StorageError::Interrupted) => error,
            result => return result,
        };
        let mut tried = vec![(self.inner.name(), lacking)];
        for url in blob.urls().iter().flatten() {
            match self.fetch(url, offset).await {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    let url = Url::parse(url).map_or_else(|_| "its URL".to_owned(), |url| shown(&url));
                    tried.push((url, error.into()));
                }
            }
        }
        Err(Error::Foreign { digest: blob.digest().clone(), tried }.into())
    }
}

impl fmt::Debug for ForeignSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}
