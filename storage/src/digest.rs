//! Digests: `Digest` names stored bytes (a blob), [`DiffId`] names a layer's uncompressed tar.
//!
//! Both are sha256 here; the two are different types so that one is never taken for the other
//! (OCI image-spec, config.md, "Layer DiffID").

use std::fmt;
use std::str::FromStr;

pub use oci_spec::image::Digest;
use serde::{Deserialize, Serialize};

/// The digest of a layer's uncompressed tar archive, as `rootfs.diff_ids` of the config lists it.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct DiffId(Digest);

impl DiffId {
    /// Says that `digest` was computed over an uncompressed tar archive.
    #[must_use]
    pub const fn of_tar(digest: Digest) -> Self {
        Self(digest)
    }

    /// The digest itself, as for a layer that is stored without compression.
    #[must_use]
    pub const fn as_digest(&self) -> &Digest {
        &self.0
    }
}

impl fmt::Display for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for DiffId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiffId({})", self.0)
    }
}

impl TryFrom<String> for DiffId {
    type Error = oci_spec::OciSpecError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Digest::from_str(&text).map(Self)
    }
}

impl From<DiffId> for String {
    fn from(id: DiffId) -> Self {
        id.0.to_string()
    }
}
