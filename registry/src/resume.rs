//! How far an upload has come, in the registry's own words, and what of it goes on.
//!
//! Registries differ here (docs/registries.md): the answer's `Range` is inclusive but for Quay, whose N is the next
//! offset; `0-0` is nothing or one byte; Distribution 2.8 answers 404 once the offset is not the one in its URL.

use std::sync::Mutex;
use std::time::Duration;

use crossdock_storage::{Checkpoints, Layer};
use reqwest::Method;
use url::Url;

use crate::client::lock;
use crate::error::{Error, Result};
use crate::expiry;
use crate::host::{Answer, Call};
use crate::upload::Repository;

/// How long the answer to "how far are you" is waited for.
const ASK_PATIENCE: Duration = Duration::from_secs(30);

/// Progress from which the failures before count no more, in bytes.
pub(crate) const PROGRESS: u64 = 16 << 20;

/// An upload that was begun and not finished.
#[derive(Debug)]
pub(crate) struct Partial {
    /// Where it goes on.
    pub(crate) upload: Mutex<Url>,
    /// The bytes that the registry has, as far as is known.
    pub(crate) offset: u64,
    /// Nobody has answered yet how many they are, after an error.
    pub(crate) unsure: bool,
    /// States of the hash to go on from, of a layer that is stored as it is.
    pub(crate) checkpoints: Checkpoints,
    /// The digests of the layer, once all its bytes went: only the last request is missing.
    pub(crate) done: Option<Layer>,
    /// The same, where a change time of the layer's files is another by now.
    pub(crate) touched: Option<Layer>,
}

impl Partial {
    pub(crate) fn new(upload: Url, checkpoints: Checkpoints) -> Self {
        Self { upload: Mutex::new(upload), offset: 0, unsure: false, checkpoints, done: None, touched: None }
    }

    pub(crate) fn url(&self) -> Url {
        lock(&self.upload).clone()
    }

    /// Notes that the registry has so many bytes, and wants the next there.
    pub(crate) fn moved(&mut self, next: Url, offset: u64) {
        *lock(&self.upload) = next;
        (self.offset, self.unsure) = (offset, false);
    }
}

/// What a registry says about an upload.
#[derive(Debug)]
pub(crate) enum Standing {
    /// It has so many bytes of it, and wants the next here.
    At(Url, u64),
    /// It knows the upload by this place and has no byte of it, or one: `Range: 0-0` says either.
    Empty(Url),
    /// It goes on nowhere: all bytes must go again.
    Gone(String),
    /// Nobody answered.
    Unknown(Error),
}

impl Repository {
    /// Asks how far an upload has come, of `len` bytes where that is known.
    pub(crate) async fn standing(&self, upload: &Url, len: Option<u64>) -> Standing {
        match self.ask(upload, len).await {
            Ok(standing) => standing,
            Err(Error::Status { status, detail, transient: false, .. }) => {
                Standing::Gone(format!("the registry does not know the upload any more ({status}{detail})"))
            }
            Err(error) if error.is_transient() => Standing::Unknown(error),
            // A credential that has died says nothing of the upload, which may go on with another one.
            Err(error) if error.is_refusal() && !expiry::is_taken(&self.host, &self.access).await => {
                Standing::Unknown(error)
            }
            Err(error) => {
                Standing::Gone(format!("the registry does not say how far the upload came: {error}"))
            }
        }
    }

    async fn ask(&self, upload: &Url, len: Option<u64>) -> Result<Standing> {
        let call = Call::new(&self.access, Method::GET, upload.clone(), &[200, 202, 204])
            .with_patience(ASK_PATIENCE);
        let answer = self.host.call(call).await?;
        let next = match answer.location()? {
            Some(location) => self.host.endpoint().await?.location(answer.url(), location)?,
            None => upload.clone(),
        };
        Ok(match received(&answer) {
            Some(0) => Standing::Empty(next),
            Some(offset) => match len {
                Some(len) if offset > len => {
                    Standing::Gone(format!("the registry claims {offset} of {len} bytes"))
                }
                _ => Standing::At(next, offset),
            },
            None => Standing::Gone("the registry does not say how far the upload came".to_owned()),
        })
    }
}

/// The bytes that a registry has of an upload, by the `Range` of its answer; 0 also where it may be one.
pub(crate) fn received(answer: &Answer<'_>) -> Option<u64> {
    let range = answer.header("range")?;
    // Quay's answer to GET: https://github.com/quay/quay, endpoints/v2/blob.py, "byte ranges are exclusive".
    next_offset(range, range.starts_with("bytes=") && answer.header("location").is_none())
}

fn next_offset(range: &str, exclusive: bool) -> Option<u64> {
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).trim().split_once('-')?;
    let last: u64 = match last.parse() {
        Ok(last) => last,
        // "0--1" is what some make of nothing.
        Err(_) if last == "-1" => return Some(0),
        Err(_) => return None,
    };
    (first == "0").then_some(match last {
        0 => 0,
        last if exclusive => last,
        last => last.checked_add(1)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_as_registries_mean_them() {
        for (range, exclusive, offset) in [
            ("0-0", false, Some(0)),
            ("0-1", false, Some(2)),
            ("0-99", false, Some(100)),
            ("bytes=0-99", false, Some(100)),
            ("bytes=0-100", true, Some(100)),
            ("bytes=0-0", true, Some(0)),
            ("0--1", false, Some(0)),
            ("5-99", false, None),
            ("0-18446744073709551615", false, None),
            ("bytes", false, None),
            ("0-x", false, None),
        ] {
            assert_eq!(next_offset(range, exclusive), offset, "{range}");
        }
    }
}
