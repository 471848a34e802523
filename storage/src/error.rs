//! What can go wrong below the command line; every variant names the file, blob or field it is about.

use std::fmt;
use std::io;
use std::path::PathBuf;

use oci_spec::image::Digest;

use crate::platform::Platform;

/// An error of another crate behind [`ImageSource`](crate::ImageSource) or [`ImageSink`](crate::ImageSink).
pub type BoxError = Box<dyn std::error::Error + Send + Sync + 'static>;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate, or of what stands behind its traits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A source file cannot be opened.
    #[error("cannot open {}", path.display())]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A source file cannot be read or mapped.
    #[error("cannot read {} at byte {offset}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Where the read began.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// A source file is not what it was when the build looked at it: nothing was published from it.
    #[error("{} changed since the build looked at it: {breach}; nothing was tagged, build again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
        /// What is different.
        breach: FenceBreach,
    },
    /// A layer's files have other bytes than its digest was taken of, under the same sizes and modification times.
    #[error(
        "{what} was written to and its modification time set back: its layer has the digest {actual}, and had {expected}; \
         no tag moved, build the image again"
    )]
    Altered {
        /// The layer, and where its files are.
        what: String,
        /// The digest that is remembered or recorded.
        expected: Box<Digest>,
        /// The digest of the bytes.
        actual: Box<Digest>,
    },
    /// The bytes of a blob are not those that its digest names.
    #[error("{what}: expected {expected}, got {actual}")]
    DigestMismatch {
        /// Which blob, and where it came from.
        what: String,
        /// The digest that was announced.
        expected: Digest,
        /// The digest of the bytes.
        actual: Digest,
    },
    /// A blob has another length than its descriptor says.
    #[error("{what}: expected {expected} bytes, got {actual}")]
    SizeMismatch {
        /// Which blob, and where it came from.
        what: String,
        /// The length that was announced.
        expected: u64,
        /// The length of the bytes.
        actual: u64,
    },
    /// A path of the output or of the root directory cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A path of an OCI layout or of the root directory cannot be read.
    #[error("cannot read {}", path.display())]
    Load {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// An image's manifest, index or config is not what the OCI image specification says.
    #[error("{what} is not valid")]
    Malformed {
        /// Which document.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An index has no image for the platform.
    #[error("image {image} is not offered for {wanted}; there is: {offered}")]
    Platform {
        /// The image.
        image: String,
        /// What was asked for.
        wanted: Box<Platform>,
        /// What the index lists.
        offered: String,
    },
    /// An image cannot be used, for a reason that the text gives with the way out.
    #[error("{0}")]
    Unusable(String),
    /// A layer asks for more than any image needs, as one that means harm does: it was not read to its end.
    #[error("{what}: {limit} is more than {most} bytes, which no image needs; it is refused")]
    Limit {
        /// The layer, by its digest, and where it came from.
        what: String,
        /// What is limited.
        limit: &'static str,
        /// How much of it is taken, in bytes.
        most: u64,
    },
    /// A tar entry cannot be written.
    #[error("cannot put {path} into a layer: {reason}")]
    Entry {
        /// The path inside the image.
        path: String,
        /// Why not.
        reason: String,
    },
    /// A compressor failed.
    #[error("cannot compress the layer")]
    Compress(#[source] io::Error),
    /// The work was told to stop, or nobody waits for it any more: the other side gave up, and says why.
    #[error("the work was interrupted")]
    Interrupted,
    /// The work was told to stop while an image was being made visible, and the place has not said whether it is.
    #[error(
        "interrupted while {place} was being changed, and it is not known whether it was: look what it has now"
    )]
    Unsettled {
        /// Where the image goes.
        place: String,
    },
    /// An error of the registry or of another implementation of the traits.
    #[error(transparent)]
    Backend(BoxError),
}

impl Error {
    /// Wraps an error of an [`ImageSource`](crate::ImageSource) or [`ImageSink`](crate::ImageSink).
    pub fn backend(error: impl Into<BoxError>) -> Self {
        Self::Backend(error.into())
    }
}

/// How a file differs from its [`Fence`](crate::Fence).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum FenceBreach {
    /// Another file stands at the path.
    Replaced,
    /// The length is another.
    Size {
        /// Bytes when the build looked at it.
        expected: u64,
        /// Bytes now.
        actual: u64,
    },
    /// Written to, its length unchanged.
    Modified,
    /// Its change time alone is another: its owner, mode, names or attributes changed, or it was written to and its
    /// modification time set back.
    Touched,
    /// Other bytes under the same length and modification time.
    Rewritten,
    /// It ended while it was read.
    Truncated {
        /// The offset at which bytes were missing.
        at: u64,
    },
    /// It is gone.
    Removed,
}

impl fmt::Display for FenceBreach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("another file stands in its place"),
            Self::Size { expected, actual } if actual > expected => {
                write!(f, "it grew from {expected} to {actual} bytes")
            }
            Self::Size { expected, actual } => write!(f, "it shrank from {expected} to {actual} bytes"),
            Self::Modified => f.write_str("its modification time is another"),
            Self::Touched => f.write_str("its change time is another"),
            Self::Rewritten => f.write_str("it was written to, and its modification time set back"),
            Self::Truncated { at } => write!(f, "it was truncated while it was read, at byte {at}"),
            Self::Removed => f.write_str("it is gone"),
        }
    }
}
