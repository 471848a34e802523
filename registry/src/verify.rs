//! Verify: an image on a registry, looked at as one who pulls it would see it. Documents are checked against their
//! digests, blobs are asked for, and read again where that is wanted.
//!
//! What is not as it should be is a [`Mismatch`] and no error: all of them are found in one run. An error is what keeps
//! from looking: the network, the registry, a credential.

mod blobs;
mod documents;
mod files;
mod ranges;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use crossdock_storage::{Against, Descriptor, Digest, Hasher, LocalTree, Platform, Progress, blocking};

use crate::client::Registry;
use crate::error::Result;
use crate::host::{Access, Host};
use crate::pull::RegistrySource;
use crate::reference::Reference;

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
    /// Besides, the files in the layers are there with their sizes, and ranges of them have the bytes of these here.
    /// Of a layer that is stored as it is only such ranges are read; others are read whole.
    Sample(Sampling),
    /// Each is read whole and hashed, and the files in the layers are held against these here, every byte.
    Full(Vec<Against>),
}

/// Which parts of which files are compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sampling {
    /// The files here, and where they stand in the image.
    pub against: Vec<Against>,
    /// How many ranges of 256 KiB are compared of each file, at least one, spread over it; a file that is no larger
    /// than all of them is compared whole.
    pub ranges: u32,
    /// Chooses the ranges: the same of the same image.
    pub seed: u64,
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
    /// The files that were held against files here, where that was asked for.
    pub files: Option<VerifiedFiles>,
    /// What was done otherwise than asked, and why.
    pub notes: Vec<String>,
}

/// Files of the image that were held against files here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedFiles {
    /// How many; links and directories count.
    pub count: usize,
    /// Their bytes.
    pub size: u64,
    /// How many of these bytes were compared.
    pub compared: u64,
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
    /// The blob or manifest; for a file, the layer that it is in.
    pub digest: Digest,
    /// The first byte of the file that is other, where that is known.
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
        if let Some(file) = &self.file {
            write!(f, " against {}", file.display())?;
        }
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.problem)
    }
}

impl Registry {
    /// Looks whether the image `reference` is there, whole and unchanged.
    ///
    /// # Errors
    /// Those of the network, the registry and the credentials, [`Error::NotFound`](crate::Error::NotFound) where the
    /// name leads nowhere, and those of reading files here. What is there and is wrong is a [`Mismatch`].
    pub async fn verify(&self, reference: &Reference, options: &VerifyOptions) -> Result<Verified> {
        let host = self.named_host(reference)?;
        let verifier = Verifier {
            source: RegistrySource::new(Arc::clone(&host), reference.clone()),
            host,
            access: Access::pull(reference.repository()),
            image: reference.to_string(),
        };
        Arc::new(verifier).run(reference.selector(), options).await
    }
}

struct Verifier {
    host: Arc<Host>,
    access: Access,
    source: RegistrySource,
    image: String,
}

/// A blob that a manifest names.
#[derive(Debug, Clone)]
struct Wanted {
    descriptor: Descriptor,
    title: String,
    is_layer: bool,
}

impl Verifier {
    async fn run(self: Arc<Self>, selector: &str, options: &VerifyOptions) -> Result<Verified> {
        let tree = match &options.depth {
            Depth::Sample(Sampling { against, .. }) | Depth::Full(against) if !against.is_empty() => {
                let against = against.clone();
                Some(Arc::new(blocking(move || LocalTree::read(&against)).await?))
            }
            _ => None,
        };
        let mut report = Verified {
            image: self.image.clone(),
            digest: Hasher::digest(b""),
            manifests: Vec::new(),
            blobs: Vec::new(),
            mismatches: Vec::new(),
            files: None,
            notes: Vec::new(),
        };
        let manifests = self.manifests(selector, options.platform.as_ref(), &mut report).await?;
        let wanted = self.documents(&manifests, &mut report).await?;
        let present = self.presence(wanted, options.jobs, &mut report).await?;
        if options.depth != Depth::Presence {
            let contents = self.read_all(present, options, tree.as_ref(), &mut report).await?;
            if let Some(tree) = tree {
                files::hold(manifests, contents, tree, &mut report).await?;
            }
        }
        let key = |m: &Mismatch| (m.digest.to_string(), m.file.clone(), m.offset);
        report.mismatches.sort_by_key(key);
        Ok(report)
    }
}
