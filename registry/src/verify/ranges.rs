//! A sample of a layer: its headers and ranges of its files, asked for one by one, as much as is needed.

use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use crossdock_storage::{Descriptor, LayerWatch, LocalTree, blocking, compare_ranges};
use reqwest::Method;
use reqwest::header::{HeaderValue, RANGE};
use tokio::runtime::Handle;

use super::blobs::Seen;
use super::documents::is_plain;
use super::{Sampling, Verifier, Wanted};
use crate::client::lock;
use crate::error::{Error, Result};
use crate::host::{Call, READ};
use crate::pull::range_start;

/// Bytes of a range: what is asked for at a time, and what is compared of a file at a place.
const LEN: u64 = 256 << 10;

impl Verifier {
    /// Holds a sample of the layer's files against these here; reads it whole where it has no parts to ask for.
    pub(super) async fn sample(
        self: &Arc<Self>,
        layer: &Wanted,
        tree: Arc<LocalTree>,
        sampling: &Sampling,
        index: usize,
        watch: &LayerWatch,
    ) -> Result<Seen> {
        let whole_for = |reason: &str| format!("{} was read whole: {reason}", layer.title);
        let blob = &layer.descriptor;
        if !is_plain(blob) {
            let seen = self.compare(blob, tree, watch).await?;
            return Ok(Seen { note: Some(whole_for("it is compressed")), ..seen });
        }
        let failure = Arc::<Mutex<Option<Failure>>>::default();
        let remote = RemoteBlob {
            verifier: Arc::clone(self),
            blob: blob.clone(),
            runtime: Handle::current(),
            at: 0,
            window: Bytes::new(),
            window_at: 0,
            failure: Arc::clone(&failure),
        };
        // Each layer has a sequence of its own: which is read first must not matter.
        let mut random = fastrand::Rng::with_seed(sampling.seed.wrapping_add(index as u64));
        let (ranges, files) = (sampling.ranges, Arc::clone(&tree));
        let what = format!("layer {} of {}", blob.digest(), self.image);
        let compared =
            blocking(move || compare_ranges(remote, &files, |size| choose(size, ranges, &mut random), &what))
                .await;
        match lock(&failure).take() {
            Some(Failure::Error(error)) => return Err(error),
            Some(Failure::NoRanges) => {}
            None => {
                let mut seen = Seen::default();
                seen.take(blob, compared)?;
                return Ok(seen);
            }
        }
        let seen = self.compare(blob, tree, watch).await?;
        Ok(Seen { note: Some(whole_for("the registry gives no ranges of it")), ..seen })
    }

    /// A range of a blob; `None` where the registry gives all of it, whatever is asked for.
    async fn range(&self, blob: &Descriptor, range: &Range<u64>) -> Result<Option<Bytes>> {
        self.host.attempts().run(|| self.range_once(blob, range)).await
    }

    async fn range_once(&self, blob: &Descriptor, range: &Range<u64>) -> Result<Option<Bytes>> {
        let url = self.host.endpoint().await?.blob(&self.access.repository, blob.digest());
        let len = range.end - range.start;
        let header = HeaderValue::from_str(&format!("bytes={}-{}", range.start, range.end - 1));
        let make = |url| {
            let call = Call::new(&self.access, Method::GET, url, &READ);
            match &header {
                Ok(header) => call.with_header(RANGE, header.clone()),
                // Digits are always valid in a header.
                Err(_) => call,
            }
        };
        let answer = self.host.get_following(make, url).await?;
        let what = answer.what().to_owned();
        if answer.status() == 206 {
            if answer.header("content-range").and_then(range_start) != Some(range.start) {
                let reason = format!("asked for the bytes from {} on, it gives others", range.start);
                return Err(Error::Answer { what, reason });
            }
        } else if range.start > 0 || answer.content_length() != Some(len) {
            return Ok(None);
        }
        let bytes = answer.bytes(len, &what).await?;
        self.host.shared().options.counters.add_received(bytes.len() as u64);
        if bytes.len() as u64 != len {
            let reason = format!("it ended after {} of {len} bytes", bytes.len());
            return Err(Error::Transfer { what, reason });
        }
        Ok(Some(bytes))
    }
}

/// Ranges of a file of `size` bytes: all of it where that is no more, else one somewhere in each of `count` equal parts.
fn choose(size: u64, count: u32, random: &mut fastrand::Rng) -> Vec<Range<u64>> {
    let count = u64::from(count.max(1));
    if size / LEN < count {
        return std::iter::once(0..size).collect();
    }
    let part = size / count;
    (0..count)
        .map(|number| {
            // What the division left over belongs to the last part.
            let end = if number + 1 == count { size } else { (number + 1) * part };
            let start = random.u64(number * part..=end - LEN);
            start..start + LEN
        })
        .collect()
}

/// Why a layer could not be read in parts: what a reader of an archive is told is only that it could not.
enum Failure {
    NoRanges,
    Error(Error),
}

/// A blob on the registry, read where it is wanted.
struct RemoteBlob {
    verifier: Arc<Verifier>,
    blob: Descriptor,
    runtime: Handle,
    at: u64,
    /// Bytes at hand, from `window_at` on: small files and their headers lie side by side.
    window: Bytes,
    window_at: u64,
    failure: Arc<Mutex<Option<Failure>>>,
}

impl Read for RemoteBlob {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at >= self.blob.size() || buffer.is_empty() {
            return Ok(0);
        }
        let window = self.window_at..self.window_at + self.window.len() as u64;
        if !window.contains(&self.at) {
            let range = self.at..self.blob.size().min(self.at.saturating_add(LEN));
            let failure = match self.runtime.block_on(self.verifier.range(&self.blob, &range)) {
                Ok(Some(bytes)) => {
                    (self.window, self.window_at) = (bytes, range.start);
                    None
                }
                Ok(None) => Some(Failure::NoRanges),
                Err(error) => Some(Failure::Error(error)),
            };
            if let Some(failure) = failure {
                *lock(&self.failure) = Some(failure);
                return Err(io::Error::other("the registry does not give it"));
            }
        }
        // Within the window, which is in memory.
        let from = usize::try_from(self.at - self.window_at).unwrap_or(usize::MAX);
        let rest = self.window.get(from..).unwrap_or_default();
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for RemoteBlob {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let place = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
            SeekFrom::End(by) => self.blob.size().checked_add_signed(by),
        };
        self.at = place.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn ranges_are_spread_over_the_file(size in 0..64 * LEN, count in 1_u32..40, seed: u64) {
            let chosen = choose(size, count, &mut fastrand::Rng::with_seed(seed));
            prop_assert_eq!(&chosen, &choose(size, count, &mut fastrand::Rng::with_seed(seed)));
            let sum: u64 = chosen.iter().map(|range| range.end - range.start).sum();
            let wanted = u64::from(count) * LEN;
            prop_assert_eq!(sum, if size < wanted { size } else { wanted });
            prop_assert!(chosen.windows(2).all(|pair| pair[0].end <= pair[1].start));
            prop_assert!(chosen.iter().all(|range| range.end <= size));
        }
    }
}
