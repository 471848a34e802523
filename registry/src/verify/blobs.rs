//! The blobs of an image: whether each is there with its size, and whether its bytes are those that its digest names.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_storage::{
    Cancel, ComparedEntry, Descriptor, Error as StorageError, ImageSource as _, LayerEvent, LayerWatch,
    LocalTree, Outcome, Phase, VerifiedStream, compare_whole, in_lanes,
};
use futures_util::StreamExt;
use reqwest::Method;
use reqwest::header::{HeaderValue, RANGE};

use super::{Depth, Mismatch, Verified, VerifiedBlob, Verifier, VerifyOptions, Wanted};
use crate::error::{Error, Result};
use crate::host::{Answer, Call};

/// Answers to GET and HEAD of a blob; what leads elsewhere is followed without our key.
const FOUND: [u16; 8] = [200, 206, 301, 302, 303, 307, 308, 404];

enum There {
    Missing,
    /// With so many bytes, where the registry says how many.
    Size(Option<u64>),
}

impl Verifier {
    /// Reads a blob to its end, and says whether it is what its digest names.
    pub(super) async fn read(
        &self,
        blob: &Descriptor,
        mut each: impl FnMut(&[u8]) + Send,
    ) -> Result<Result<(), Mismatch>> {
        let what = format!("blob {} of {}", blob.digest(), self.image);
        let result = async {
            let mut stream = VerifiedStream::new(self.source.blob(blob, 0).await?, blob, what);
            while let Some(chunk) = stream.next().await {
                each(&chunk?);
            }
            Ok(())
        };
        verdict(blob, result.await)
    }

    /// Asks for each blob; gives those back that are there with the right size.
    pub(super) async fn presence(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        jobs: usize,
        report: &mut Verified,
    ) -> Result<Vec<Wanted>> {
        let all = wanted.clone();
        let verifier = Arc::clone(self);
        // Whoever stops a verification drops it.
        let found: Vec<_> = in_lanes(wanted, jobs, &Cancel::default(), move |_, wanted| {
            let verifier = Arc::clone(&verifier);
            async move {
                let there = verifier.ask(&wanted.descriptor).await?;
                Ok::<_, Error>((wanted, there))
            }
        })
        .await?;
        let mut present = Vec::new();
        for (wanted, there) in found {
            let blob = &wanted.descriptor;
            match there {
                There::Missing => report.mismatches.push(missing(blob)),
                There::Size(Some(actual)) if actual != blob.size() => {
                    report.mismatches.push(Mismatch::new(
                        blob.digest(),
                        format!("it has {actual} bytes, and the manifest says {}", blob.size()),
                    ));
                }
                There::Size(_) => present.push(wanted),
            }
        }
        report.blobs.extend(all.iter().map(|wanted| VerifiedBlob {
            digest: wanted.descriptor.digest().clone(),
            size: wanted.descriptor.size(),
            hashed: false,
        }));
        Ok(present)
    }

    async fn ask(&self, blob: &Descriptor) -> Result<There> {
        self.host.attempts().run(|| self.ask_once(blob)).await
    }

    async fn ask_once(&self, blob: &Descriptor) -> Result<There> {
        let url = self.host.endpoint().await?.blob(&self.access.repository, blob.digest());
        let answer = self.host.call(Call::new(&self.access, Method::HEAD, url.clone(), &FOUND)).await?;
        match answer.status().as_u16() {
            404 => Ok(There::Missing),
            200 => Ok(There::Size(answer.content_length())),
            // It lies in the storage behind. A signed URL is good for one method, so a first byte is asked for.
            _ if blob.size() == 0 => Ok(There::Size(None)),
            _ => {
                let first = |url| {
                    Call::new(&self.access, Method::GET, url, &FOUND)
                        .with_header(RANGE, HeaderValue::from_static("bytes=0-0"))
                };
                let answer = self.host.get_following(first, url).await?;
                Ok(match answer.status().as_u16() {
                    404 => There::Missing,
                    206 => There::Size(whole(&answer)),
                    _ => There::Size(answer.content_length()),
                })
            }
        }
    }

    /// Reads the blobs as closely as is wanted; gives the entries of the layers that were looked into, by digest.
    pub(super) async fn read_all(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        options: &VerifyOptions,
        tree: Option<&Arc<LocalTree>>,
        report: &mut Verified,
    ) -> Result<Contents> {
        for (index, wanted) in wanted.iter().enumerate() {
            options.progress.announce(index, &wanted.title, wanted.descriptor.size());
        }
        let (verifier, options_of_all) = (Arc::clone(self), options.clone());
        let tree = tree.cloned();
        let done = in_lanes(wanted, options.jobs, &Cancel::default(), move |index, wanted| {
            let (verifier, options, tree) = (Arc::clone(&verifier), options_of_all.clone(), tree.clone());
            async move {
                let watch = LayerWatch::new(index, Arc::clone(&options.progress));
                watch.phase(Phase::Verifying);
                let seen = match (&options.depth, tree.filter(|_| wanted.is_layer)) {
                    (Depth::Sample(sampling), Some(tree)) => {
                        verifier.sample(&wanted, tree, sampling, index, &watch).await?
                    }
                    (Depth::Full(_), Some(tree)) => {
                        verifier.compare(&wanted.descriptor, tree, &watch).await?
                    }
                    (Depth::Full(_), None) => verifier.hash(&wanted.descriptor, &watch).await?,
                    _ => Seen::default(),
                };
                if seen.mismatch.is_none() {
                    let (digest, size) = (wanted.descriptor.digest().clone(), wanted.descriptor.size());
                    watch.event(LayerEvent::Finished { outcome: Outcome::Verified, digest, size });
                }
                Ok::<_, Error>((wanted, seen))
            }
        })
        .await?;
        let mut contents = Contents::new();
        for (wanted, seen) in done {
            let digest = wanted.descriptor.digest();
            if let Some(blob) = report.blobs.iter_mut().find(|blob| blob.digest == *digest) {
                blob.hashed = seen.hashed;
            }
            report.mismatches.extend(seen.mismatch);
            report.notes.extend(seen.note);
            contents.extend(seen.entries.map(|entries| (digest.to_string(), entries)));
        }
        Ok(contents)
    }

    /// Reads a blob and hashes it.
    async fn hash(&self, blob: &Descriptor, watch: &LayerWatch) -> Result<Seen> {
        let mut position = 0;
        let read = self.read(blob, |bytes| {
            position += bytes.len() as u64;
            watch.position(position);
        });
        Ok(Seen { hashed: true, mismatch: read.await?.err(), ..Seen::default() })
    }

    /// Reads a layer, hashes it, and holds the files in it against these here.
    pub(super) async fn compare(
        &self,
        layer: &Descriptor,
        tree: Arc<LocalTree>,
        watch: &LayerWatch,
    ) -> Result<Seen> {
        let what = format!("layer {} of {}", layer.digest(), self.image);
        let mut seen = Seen { hashed: true, ..Seen::default() };
        let bytes = match self.source.blob(layer, 0).await {
            Ok(bytes) => bytes,
            Err(error) => {
                seen.mismatch = verdict(layer, Err(error))?.err();
                return Ok(seen);
            }
        };
        let mut position = 0;
        let chunks = VerifiedStream::new(bytes, layer, what.clone()).inspect(|chunk| {
            position += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            watch.position(position);
        });
        let (streamed, entries) = compare_whole(chunks, layer.size(), tree, what).await;
        seen.mismatch = verdict(layer, streamed)?.err();
        seen.take(layer, entries)?;
        Ok(seen)
    }
}

/// The entries of layers, held against what is here, by the layers' digests.
pub(super) type Contents = BTreeMap<String, Vec<ComparedEntry>>;

/// What was found in a blob.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) hashed: bool,
    pub(super) mismatch: Option<Mismatch>,
    pub(super) entries: Option<Vec<ComparedEntry>>,
    pub(super) note: Option<String>,
}

impl Seen {
    /// Takes the entries; a layer that cannot be looked into is not as it should be.
    pub(super) fn take(
        &mut self,
        layer: &Descriptor,
        entries: Result<Vec<ComparedEntry>, StorageError>,
    ) -> Result<()> {
        match entries {
            Ok(entries) => self.entries = Some(entries),
            Err(StorageError::Unusable(problem)) => {
                self.mismatch.get_or_insert_with(|| Mismatch::new(layer.digest(), problem));
            }
            Err(error) => return Err(ours(error)),
        }
        Ok(())
    }
}

/// What became of reading a blob to its end: it is well, it is other, or it could not be read.
fn verdict(blob: &Descriptor, read: Result<(), StorageError>) -> Result<Result<(), Mismatch>> {
    match read {
        Ok(()) => Ok(Ok(())),
        Err(StorageError::DigestMismatch { actual, .. }) => {
            Ok(Err(Mismatch::new(blob.digest(), format!("its bytes are those of {actual}"))))
        }
        Err(StorageError::SizeMismatch { expected, actual, .. }) => Ok(Err(Mismatch::new(
            blob.digest(),
            format!("it has {actual} bytes or more, and the manifest says {expected}"),
        ))),
        Err(error) => match ours(error) {
            Error::Status { status: 404, .. } => Ok(Err(missing(blob))),
            error => Err(error),
        },
    }
}

fn missing(blob: &Descriptor) -> Mismatch {
    Mismatch::new(blob.digest(), "the registry does not have this blob")
}

/// The size of the whole in a `Content-Range: bytes FIRST-LAST/SIZE`.
fn whole(answer: &Answer<'_>) -> Option<u64> {
    answer.header("content-range")?.rsplit_once('/')?.1.trim().parse().ok()
}

/// Our own error out of the box that the storage crate's traits put it in.
pub(super) fn ours(error: StorageError) -> Error {
    match error {
        StorageError::Backend(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(inner) => Error::Storage(StorageError::Backend(inner)),
        },
        other => Error::Storage(other),
    }
}
