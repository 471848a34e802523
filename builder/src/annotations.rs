//! The annotations of an image's manifest, by the rules of buildah 1.45 (`new.go`, `stage_executor.go`, `image.go`): those of
//! the base, what the base is and when the image was made, and then what the command line says.

use std::collections::BTreeMap;

use crossdock_storage::ManifestFormat;

use crate::media::format_of;
use crate::plan::PlannedBase;

/// What the image is built upon and when it was made (OCI image-spec, annotations.md).
pub(crate) const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";
pub(crate) const BASE_NAME: &str = "org.opencontainers.image.base.name";
pub(crate) const CREATED: &str = "org.opencontainers.image.created";

/// What the command line says of annotations.
#[derive(Debug, Clone)]
pub struct AnnotationOptions {
    /// `--annotation`: they count more than all others.
    pub set: BTreeMap<String, String>,
    /// `--unsetannotation`: those that the image is not to have, unless they are set.
    pub unset: Vec<String>,
    /// `--inherit-annotations`: whether those of the base are taken over, and the base is named.
    pub inherit: bool,
    /// `--created-annotation`: whether the time of the build is among them.
    pub created: bool,
}

impl Default for AnnotationOptions {
    fn default() -> Self {
        Self { set: BTreeMap::new(), unset: Vec::new(), inherit: true, created: true }
    }
}

impl AnnotationOptions {
    /// The annotations of an image upon `base`, made at `created`. In Docker's format, which has none, they are those that
    /// somebody asked for: the others are not missed.
    pub(crate) fn annotations(
        &self,
        base: Option<&PlannedBase>,
        created: Option<&str>,
        format: ManifestFormat,
    ) -> BTreeMap<String, String> {
        if format == ManifestFormat::Docker {
            return self.set.clone();
        }
        let mut annotations = BTreeMap::new();
        if let Some(base) = base.filter(|_| self.inherit) {
            let manifest = &base.image.manifest;
            if format_of(base.image.descriptor.media_type()) == ManifestFormat::Oci {
                annotations.extend(manifest.annotations().clone().unwrap_or_default());
            }
            // The base of the base is not this image's.
            annotations.insert(BASE_DIGEST.to_owned(), base.image.descriptor.digest().to_string());
            match base.source.image_name() {
                Some(name) => annotations.insert(BASE_NAME.to_owned(), name),
                None => annotations.remove(BASE_NAME),
            };
        }
        match created.filter(|_| self.created) {
            Some(created) => annotations.insert(CREATED.to_owned(), created.to_owned()),
            None => annotations.remove(CREATED),
        };
        annotations.retain(|name, _| !self.unset.contains(name));
        annotations.extend(self.set.clone());
        annotations
    }
}
