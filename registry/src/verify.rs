//! Verify: an image on a registry, looked at as one who pulls it would see it. Documents are checked against their
//! digests, blobs are asked for, and read again where that is wanted.
//!
//! What is not as it should be is a [`Mismatch`] and no error: all of them are found in one run. An error is what keeps
//! from looking: the network, the registry, a credential.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{
    Descriptor, Digest, Error as StorageError, ImageConfig, ImageManifest, ImageSource, LayerEvent,
    LayerWatch, MediaType, Outcome, Phase, Platform, Progress, VerifiedStream,
};
use futures_util::StreamExt;
use reqwest::Method;
use reqwest::header::{HeaderValue, RANGE};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::client::Registry;
use crate::error::{Error, Result};
use crate::host::{Access, Answer, Call, Host, Manner};
use crate::manifest::{Document, MAX_DEPTH, fetch, select};
use crate::pull::RegistrySource;
use crate::reference::Reference;

/// Configs larger than this many bytes are only asked for and not read.
const MAX_CONFIG: u64 = 8 << 20;

/// Answers to GET and HEAD of a blob; what leads elsewhere is followed without our key.
const FOUND: [u16; 8] = [200, 206, 301, 302, 303, 307, 308, 404];

/// What to look at.
#[derive(Debug, Clone)]
pub struct VerifyOptions {
    /// The platform whose image is looked at; `None` for all of an index.
    pub platform: Option<Platform>,
    /// How closely.
    pub depth: Depth,
    /// Blobs that are looked at at the same time, at least one.
    pub jobs: usize,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
}

/// How closely blobs are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Depth {
    /// Each is there and has the size that the manifest says.
    Presence,
    /// Each is read whole, and hashed.
    Full,
}

/// What was found.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Verified {
    /// The image, with its host.
    pub image: String,
    /// The digest that its name leads to: that of the index, where it is one.
    pub digest: Digest,
    /// The manifests that were looked at.
    pub manifests: Vec<VerifiedManifest>,
    /// The blobs that were looked at, each once, in the order of the manifests.
    pub blobs: Vec<VerifiedBlob>,
    /// What is not as it should be; nothing where all is well.
    pub mismatches: Vec<Mismatch>,
}

/// A manifest that was looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifiedManifest {
    /// Its digest.
    pub digest: Digest,
    /// What the index or config says it is for, as `os/architecture`.
    pub platform: Option<String>,
    /// How many layers it has.
    pub layers: usize,
}

/// A blob that was looked at.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct VerifiedBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the manifest says.
    pub size: u64,
    /// Whether all its bytes were read and hashed.
    pub hashed: bool,
}

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Mismatch {
    /// The blob or manifest.
    pub digest: Digest,
    /// The first byte of the blob that is other, where that is known.
    pub offset: Option<u64>,
    /// The file that it was compared with.
    pub file: Option<PathBuf>,
    /// What is wrong.
    pub problem: String,
}

impl Mismatch {
    pub(crate) fn new(digest: &Digest, problem: impl Into<String>) -> Self {
        Self { digest: digest.clone(), offset: None, file: None, problem: problem.into() }
    }
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.digest)?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        if let Some(file) = &self.file {
            write!(f, " (file {})", file.display())?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Registry {
    /// Looks whether the image `reference` is there, whole and unchanged.
    ///
    /// # Errors
    /// Those of the network, the registry and the credentials, and [`Error::NotFound`] where the name leads nowhere.
    /// What is there and is wrong is a [`Mismatch`].
    pub async fn verify(&self, reference: &Reference, options: &VerifyOptions) -> Result<Verified> {
        let host = self.host(reference.registry(), Manner::default());
        let verifier = Verifier {
            source: RegistrySource::new(Arc::clone(&host), reference.clone()),
            host,
            access: Access::pull(reference.repository()),
            image: reference.to_string(),
        };
        Arc::new(verifier).run(reference.selector(), options).await
    }
}

pub(crate) struct Verifier {
    host: Arc<Host>,
    access: Access,
    source: RegistrySource,
    image: String,
}

/// A blob that a manifest names.
#[derive(Debug, Clone)]
pub(crate) struct Wanted {
    pub(crate) descriptor: Descriptor,
    pub(crate) title: String,
}

enum There {
    Missing,
    /// With so many bytes, where the registry says how many.
    Size(Option<u64>),
}

impl Verifier {
    async fn run(self: Arc<Self>, selector: &str, options: &VerifyOptions) -> Result<Verified> {
        let mut report = Verified {
            image: self.image.clone(),
            digest: crossdock_storage::Hasher::digest(b""),
            manifests: Vec::new(),
            blobs: Vec::new(),
            mismatches: Vec::new(),
        };
        let manifests = self.manifests(selector, options.platform.as_ref(), &mut report).await?;
        let wanted = self.documents(manifests, &mut report).await?;
        let present = self.presence(wanted, options.jobs, &mut report).await?;
        if options.depth == Depth::Full {
            self.full(present, options, &mut report).await?;
        }
        report.mismatches.sort_by(|a, b| (a.digest.as_ref(), a.offset).cmp(&(b.digest.as_ref(), b.offset)));
        Ok(report)
    }

    /// The manifests that the name leads to.
    async fn manifests(
        &self,
        selector: &str,
        platform: Option<&Platform>,
        report: &mut Verified,
    ) -> Result<Vec<(Digest, ImageManifest, Option<String>)>> {
        let mut found = Vec::new();
        let mut seen = Vec::new();
        // Selector, what the index says of it, and how deep it lies.
        let mut next: Vec<(String, Option<Descriptor>, usize)> = vec![(selector.to_owned(), None, 0)];
        while let Some((selector, entry, depth)) = next.pop() {
            let fetched = match (fetch(&self.host, &self.access, &selector, &self.image).await, &entry) {
                (Ok(fetched), _) => fetched,
                (Err(Error::Digest { expected, actual, .. }), _) => {
                    report.mismatches.push(Mismatch::new(
                        &expected,
                        format!("the manifest's bytes are those of {actual}"),
                    ));
                    if entry.is_none() {
                        report.digest = expected;
                    }
                    continue;
                }
                (Err(Error::NotFound { .. }), Some(entry)) => {
                    let problem = "the index names this manifest, and it is not there";
                    report.mismatches.push(Mismatch::new(entry.digest(), problem));
                    continue;
                }
                (Err(error), _) => return Err(error),
            };
            match &entry {
                None => report.digest = fetched.digest.clone(),
                Some(entry) if entry.size() != fetched.bytes.len() as u64 => {
                    report.mismatches.push(Mismatch::new(
                        entry.digest(),
                        format!("it has {} bytes, and the index says {}", fetched.bytes.len(), entry.size()),
                    ));
                }
                Some(_) => {}
            }
            if seen.contains(&fetched.digest) {
                continue;
            }
            seen.push(fetched.digest.clone());
            match fetched.parse(&self.image)? {
                Document::Manifest(manifest, _) => {
                    let of = entry.and_then(|entry| {
                        entry.platform().as_ref().map(|p| format!("{}/{}", p.os(), p.architecture()))
                    });
                    found.push((fetched.digest, *manifest, of));
                }
                Document::Index(_) if depth >= MAX_DEPTH => {
                    return Err(Error::Answer {
                        what: self.image.clone(),
                        reason: format!("its indexes are nested deeper than {MAX_DEPTH} levels"),
                    });
                }
                Document::Index(index) => {
                    let entries = match platform {
                        Some(platform) => vec![select(&index, platform, &self.image)?.clone()],
                        None => index.manifests().clone(),
                    };
                    let below = |entry: Descriptor| (entry.digest().to_string(), Some(entry), depth + 1);
                    next.extend(entries.into_iter().rev().map(below));
                }
            }
        }
        Ok(found)
    }

    /// Reads the configs, and lists the blobs, each once.
    async fn documents(
        &self,
        manifests: Vec<(Digest, ImageManifest, Option<String>)>,
        report: &mut Verified,
    ) -> Result<Vec<Wanted>> {
        let mut wanted: Vec<Wanted> = Vec::new();
        for (digest, manifest, mut platform) in manifests {
            let add = |wanted: &mut Vec<Wanted>, descriptor: &Descriptor, title: String| {
                if !wanted.iter().any(|known| known.descriptor.digest() == descriptor.digest()) {
                    wanted.push(Wanted { descriptor: descriptor.clone(), title });
                }
            };
            let config = manifest.config();
            let is_image = match config.media_type() {
                MediaType::ImageConfig => true,
                other => other.to_string() == "application/vnd.docker.container.image.v1+json",
            };
            if is_image && config.size() <= MAX_CONFIG {
                match self.config(config).await? {
                    Ok(bytes) => check_config(config, &bytes, &manifest, &mut platform, report)?,
                    Err(mismatch) => report.mismatches.push(mismatch),
                }
                if !report.blobs.iter().any(|known| known.digest == *config.digest()) {
                    report.blobs.push(VerifiedBlob {
                        digest: config.digest().clone(),
                        size: config.size(),
                        hashed: true,
                    });
                }
            } else {
                add(&mut wanted, config, format!("config of {}", short(&digest)));
            }
            let layers = manifest.layers();
            for (at, layer) in layers.iter().enumerate() {
                add(&mut wanted, layer, format!("layer {} of {}", at + 1, layers.len()));
            }
            report.manifests.push(VerifiedManifest { digest, platform, layers: layers.len() });
        }
        Ok(wanted)
    }

    async fn config(&self, config: &Descriptor) -> Result<Result<Bytes, Mismatch>> {
        let mut all = Vec::new();
        let each = |bytes: &[u8]| all.extend_from_slice(bytes);
        Ok(self.read(config, each).await?.map(|()| Bytes::from(all)))
    }

    /// Reads a blob to its end, and says whether it is what its digest names.
    async fn read(
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
        match result.await {
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

    /// Asks for each blob; gives those back that are there with the right size.
    async fn presence(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        jobs: usize,
        report: &mut Verified,
    ) -> Result<Vec<Wanted>> {
        let order: BTreeMap<String, usize> =
            wanted.iter().enumerate().map(|(at, w)| (w.descriptor.digest().to_string(), at)).collect();
        let all = wanted.clone();
        let verifier = Arc::clone(self);
        let found = in_parallel(wanted, jobs, move |_, wanted| {
            let verifier = Arc::clone(&verifier);
            async move {
                let there = verifier.ask(&wanted.descriptor).await?;
                Ok((wanted, there))
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
        present.sort_by_key(|wanted| order.get(wanted.descriptor.digest().as_ref()).copied());
        report.blobs.extend(all.iter().map(|wanted| VerifiedBlob {
            digest: wanted.descriptor.digest().clone(),
            size: wanted.descriptor.size(),
            hashed: false,
        }));
        Ok(present)
    }

    async fn ask(&self, blob: &Descriptor) -> Result<There> {
        let mut attempts = self.host.attempts();
        loop {
            match self.ask_once(blob).await {
                Ok(there) => return Ok(there),
                Err(error) => attempts.failed(error).await?,
            }
        }
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

    /// Reads each blob and hashes it.
    async fn full(
        self: &Arc<Self>,
        wanted: Vec<Wanted>,
        options: &VerifyOptions,
        report: &mut Verified,
    ) -> Result<()> {
        for (index, wanted) in wanted.iter().enumerate() {
            options.progress.announce(index, &wanted.title, wanted.descriptor.size());
        }
        let (verifier, progress) = (Arc::clone(self), Arc::clone(&options.progress));
        let done = in_parallel(wanted, options.jobs, move |index, wanted| {
            let verifier = Arc::clone(&verifier);
            let watch = LayerWatch::new(index, Arc::clone(&progress));
            async move {
                let blob = &wanted.descriptor;
                watch.phase(Phase::Verifying);
                let mut position = 0;
                let read = verifier
                    .read(blob, |bytes| {
                        position += bytes.len() as u64;
                        watch.position(position);
                    })
                    .await?;
                if read.is_ok() {
                    let (digest, size) = (blob.digest().clone(), blob.size());
                    watch.event(LayerEvent::Finished { outcome: Outcome::Verified, digest, size });
                }
                Ok((wanted, read))
            }
        })
        .await?;
        for (wanted, read) in done {
            let blob = report.blobs.iter_mut().find(|blob| blob.digest == *wanted.descriptor.digest());
            if let Some(blob) = blob {
                blob.hashed = true;
            }
            report.mismatches.extend(read.err());
        }
        Ok(())
    }
}

/// The config against its manifest: as many diff IDs as layers, and for a layer that is not compressed the same digest.
fn check_config(
    config: &Descriptor,
    bytes: &[u8],
    manifest: &ImageManifest,
    platform: &mut Option<String>,
    report: &mut Verified,
) -> Result<()> {
    let parsed: ImageConfig = serde_json::from_slice(bytes).map_err(|source| Error::Malformed {
        what: format!("the config {} of {}", config.digest(), report.image),
        source,
    })?;
    if platform.is_none() && !parsed.os.is_empty() {
        *platform = Some(format!("{}/{}", parsed.os, parsed.architecture));
    }
    let (layers, diff_ids) = (manifest.layers(), &parsed.rootfs.diff_ids);
    if layers.len() != diff_ids.len() {
        report.mismatches.push(Mismatch::new(
            config.digest(),
            format!("the config has {} diff IDs, and the manifest {} layers", diff_ids.len(), layers.len()),
        ));
        return Ok(());
    }
    for (layer, diff_id) in layers.iter().zip(diff_ids) {
        if is_plain(layer) && diff_id.as_digest() != layer.digest() {
            report.mismatches.push(Mismatch::new(
                layer.digest(),
                format!("the layer is not compressed, and the config has the diff ID {diff_id} for it"),
            ));
        }
    }
    Ok(())
}

/// Whether a layer is stored as it is.
pub(crate) fn is_plain(layer: &Descriptor) -> bool {
    match layer.media_type() {
        MediaType::ImageLayer => true,
        other => other.to_string() == "application/vnd.docker.image.rootfs.diff.tar",
    }
}

fn missing(blob: &Descriptor) -> Mismatch {
    Mismatch::new(blob.digest(), "the registry does not have this blob")
}

fn short(digest: &Digest) -> String {
    digest.digest().chars().take(12).collect()
}

/// The size of the whole in a `Content-Range: bytes FIRST-LAST/SIZE`.
fn whole(answer: &Answer<'_>) -> Option<u64> {
    answer.header("content-range")?.rsplit_once('/')?.1.trim().parse().ok()
}

/// Our own error out of the box that the storage crate's traits put it in.
pub(crate) fn ours(error: StorageError) -> Error {
    match error {
        StorageError::Backend(inner) => match inner.downcast::<Error>() {
            Ok(error) => *error,
            Err(inner) => Error::Storage(StorageError::Backend(inner)),
        },
        other => Error::Storage(other),
    }
}

/// Does `work` for all items, `jobs` at a time, each a task of its own; on the first error the others are stopped. The
/// results come as they are ready.
pub(crate) async fn in_parallel<I, T, F>(
    items: Vec<I>,
    jobs: usize,
    work: impl Fn(usize, I) -> F,
) -> Result<Vec<T>>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let lanes = Arc::new(Semaphore::new(jobs.max(1)));
    let mut tasks = JoinSet::new();
    for (index, item) in items.into_iter().enumerate() {
        let (lanes, work) = (Arc::clone(&lanes), work(index, item));
        tasks.spawn(async move {
            // The semaphore is never closed.
            let _lane = lanes.acquire().await;
            work.await
        });
    }
    let mut results = Vec::with_capacity(tasks.len());
    while let Some(result) = tasks.join_next().await {
        results.push(result.map_err(|_| Error::Storage(StorageError::Interrupted))??);
    }
    Ok(results)
}
