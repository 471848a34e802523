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
use crate::error::Result;
use crate::json::from_json;
use crate::layout::is_index;
use crate::platform::Platform;
use crate::selection::Selection;

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
    pub fn of_index(bytes: &[u8]) -> serde_json::Result<Vec<Self>> {
        Ok(from_json::<Entries>(bytes)?.manifests)
    }

    /// Of the manifest, as nothing but itself.
    #[must_use]
    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type.clone(), self.size, self.digest.clone())
    }

    /// The entry for a platform, as far as the index says what its images are for: see [`Selection`].
    ///
    /// # Errors
    /// [`Error::Platform`](crate::Error::Platform), which lists what there is; `image` names the index.
    pub fn select<'a>(
        entries: impl IntoIterator<Item = &'a Self>,
        wanted: &Platform,
        image: &str,
    ) -> Result<&'a Self> {
        Selection::new(entries, wanted).chosen(image)
    }

    /// Whether it is an image or an index of them, as far as its type tells.
    pub(crate) fn is_image(&self) -> bool {
        let known = match &self.media_type {
            MediaType::ImageManifest => true,
            MediaType::Other(name) => name == "application/vnd.docker.distribution.manifest.v2+json",
            _ => is_index(&self.media_type),
        };
        known && !self.details.other.contains_key("artifactType")
    }

    /// What the image is for, where the index says so.
    #[must_use]
    pub fn platform(&self) -> Option<Platform> {
        self.details.platform.as_ref().and_then(EntryPlatform::said)
    }

    pub(crate) fn said_platform(&self) -> Option<&EntryPlatform> {
        self.details.platform.as_ref().filter(|platform| !platform.architecture.is_empty())
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

    /// What it says; `None` where that is nothing.
    #[must_use]
    pub fn said(&self) -> Option<Platform> {
        (!self.architecture.is_empty()).then(|| self.plain())
    }

    /// System and processor alone. A system that is not said is Linux, as no other is ever left out.
    #[must_use]
    pub fn plain(&self) -> Platform {
        Platform {
            os: if self.os.is_empty() { "linux".to_owned() } else { self.os.clone() },
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

    #[test]
    fn null_is_absent_in_an_index() {
        let text = r#"{"schemaVersion":2,"mediaType":null,"annotations":null,"manifests":[{"annotations":null,
            "artifactType":null,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mediaType":
            "application/vnd.oci.image.manifest.v1+json","platform":{"architecture":"amd64","os":null,"os.features":null,
            "os.version":null,"variant":null},"size":3},{"digest":
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855","mediaType":
            "application/vnd.oci.image.manifest.v1+json","platform":{"architecture":null,"os":null},"size":3}]}"#;
        let entries = ManifestEntry::of_index(text.as_bytes()).unwrap();
        assert_eq!(entries[0].platform(), Some("linux/amd64".parse().unwrap()));
        assert_eq!(entries[1].platform(), None);
        assert!(ManifestEntry::of_index(br#"{"manifests":null}"#).unwrap().is_empty());
    }
}
