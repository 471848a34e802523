//! The entries of an image index (OCI image-spec, image-index.md; Docker's manifest list has the same fields).
//!
//! oci-spec's platform writes `os_version` for `os.version` and knows no other name when it reads: so these are our own
//! types, with the unknown fields kept.

use std::collections::BTreeMap;

use oci_spec::image::{Descriptor, MediaType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::config::ImageConfig;
use crate::digest::Digest;
use crate::platform::Platform;

/// An image of an index.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestEntry {
    /// Of the manifest.
    #[serde(rename = "mediaType")]
    pub media_type: MediaType,
    /// Bytes of the manifest.
    pub size: u64,
    /// Of the manifest.
    pub digest: Digest,
    /// What else the index says of it.
    #[serde(flatten)]
    pub details: EntryDetails,
}

/// What an index says of an image beside its descriptor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryDetails {
    /// What the image is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<EntryPlatform>,
    /// For whoever chooses.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Fields that are not ours to understand.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// What an image of an index is for.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryPlatform {
    /// `GOARCH`.
    #[serde(default)]
    pub architecture: String,
    /// `GOOS`.
    #[serde(default)]
    pub os: String,
    /// Version of the operating system.
    #[serde(rename = "os.version", default, skip_serializing_if = "Option::is_none")]
    pub os_version: Option<String>,
    /// Features of the operating system.
    #[serde(rename = "os.features", default, skip_serializing_if = "Vec::is_empty")]
    pub os_features: Vec<String>,
    /// Variant of the architecture.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// Features of the processor; Docker's, reserved in the OCI specification.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub features: Vec<String>,
}

/// The entries of an index's bytes.
#[derive(Deserialize)]
struct Entries {
    manifests: Vec<ManifestEntry>,
}

impl ManifestEntry {
    /// The entry of a manifest.
    #[must_use]
    pub fn new(manifest: &Descriptor, details: EntryDetails) -> Self {
        Self {
            media_type: manifest.media_type().clone(),
            size: manifest.size(),
            digest: manifest.digest().clone(),
            details,
        }
    }

    /// Reads the entries of an index.
    ///
    /// # Errors
    /// Where it is none.
    pub fn of_index(bytes: &[u8]) -> Result<Vec<Self>, serde_json::Error> {
        Ok(serde_json::from_slice::<Entries>(bytes)?.manifests)
    }

    /// The entry for a platform: the one that is exactly it before others that it accepts.
    pub fn select<'a>(
        entries: impl IntoIterator<Item = &'a Self> + Clone,
        wanted: &Platform,
    ) -> Option<&'a Self> {
        let exact = |entry: &&Self| entry.platform().is_some_and(|p| p == wanted.clone().normalised());
        let accepted = |entry: &&Self| entry.platform().is_some_and(|p| wanted.accepts(&p));
        entries.clone().into_iter().find(exact).or_else(|| entries.into_iter().find(accepted))
    }

    /// What the image is for, where the index says so.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        self.details.platform.as_ref().map(EntryPlatform::plain)
    }
}

impl EntryPlatform {
    /// What an image's config says it is for.
    #[must_use]
    pub fn of_config(config: &ImageConfig) -> Self {
        Self {
            architecture: config.architecture.clone(),
            os: config.os.clone(),
            variant: config.variant.clone(),
            os_version: config.other.get("os.version").and_then(Value::as_str).map(str::to_owned),
            ..Self::default()
        }
    }

    /// System and processor alone.
    #[must_use]
    pub fn plain(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
        .normalised()
    }
}

impl From<&Platform> for EntryPlatform {
    fn from(platform: &Platform) -> Self {
        Self {
            architecture: platform.architecture.clone(),
            os: platform.os.clone(),
            variant: platform.variant.clone(),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_comes_out_with_all_it_came_in_with() {
        let text = r#"{"manifests":[{"annotations":{"a":"b"},"artifactType":"x/y","digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mediaType":"application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"arm","features":["f"],"os":"windows","os.features":["win32k"],"os.version":"10.0.1","variant":"v7"},"size":3}]}"#;
        let entries = ManifestEntry::of_index(text.as_bytes()).unwrap();
        let again = serde_json::json!({"manifests": entries});
        assert_eq!(String::from_utf8(crate::canonical_json(&again)).unwrap(), text);
    }
}
