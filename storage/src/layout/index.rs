//! What an index.json names: the entry of an image, and what has to be there before it is named.

use std::collections::HashMap;

use oci_spec::image::{Descriptor, ImageManifest, MediaType};
use serde_json::json;

use super::parse;
use crate::error::{Error, Result};
use crate::image::is_foreign;
use crate::manifest_entry::ManifestEntry;

/// The annotation that names an image in an index (OCI image-spec, annotations.md).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// Whether a media type is that of an OCI index or a Docker manifest list.
#[must_use]
pub fn is_index(media_type: &MediaType) -> bool {
    match media_type {
        MediaType::ImageIndex => true,
        MediaType::Other(other) => other == "application/vnd.docker.distribution.manifest.list.v2+json",
        _ => false,
    }
}
/// What is written may name only what is there: an index images, and a manifest blobs.
pub(crate) fn check_children(
    manifest: &Descriptor,
    bytes: &[u8],
    place: &str,
    has: impl Fn(&Descriptor) -> bool,
) -> Result<()> {
    if !is_index(manifest.media_type()) {
        let manifest: ImageManifest = parse(bytes, || "the manifest to write".to_owned())?;
        let layers = manifest.layers().iter().filter(|layer| !is_foreign(layer));
        let mut blobs = std::iter::once(manifest.config()).chain(layers);
        return match blobs.find(|blob| !has(blob)) {
            None => Ok(()),
            Some(blob) => Err(Error::Unusable(format!(
                "the manifest names the blob {}, which did not come to {place}: build the image again",
                blob.digest()
            ))),
        };
    }
    let children = ManifestEntry::of_index(bytes)
        .map_err(|source| Error::Malformed { what: "the index to write".to_owned(), source })?;
    match children.iter().find(|child| !has(&child.descriptor())) {
        None => Ok(()),
        Some(child) => Err(Error::Unusable(format!(
            "the image {} of the list is not in {place}: send the images too, with --all",
            child.digest
        ))),
    }
}

/// The index with `manifest` in it, in the place of the image that had its name, or of the same manifest unnamed.
pub(crate) fn with_manifest(
    mut index: serde_json::Value,
    manifest: &Descriptor,
    reference: Option<&str>,
) -> serde_json::Value {
    let mut entry = serde_json::to_value(manifest).unwrap_or_default();
    if let Some(reference) = reference {
        let annotations: HashMap<_, _> = [(REF_NAME, reference)].into();
        entry["annotations"] = json!(annotations);
    }
    let name_of = |e: &serde_json::Value| e["annotations"][REF_NAME].as_str().map(str::to_owned);
    if let Some(manifests) = index["manifests"].as_array_mut() {
        manifests.retain(|other| match (reference, name_of(other)) {
            (Some(wanted), Some(name)) => wanted != name,
            (None, None) => other["digest"] != entry["digest"],
            _ => true,
        });
        manifests.push(entry);
    } else {
        index["manifests"] = json!([entry]);
    }
    index
}
