//! Documents of an image in one of the two families of media types: OCI image-spec 1.1, and Docker's image manifest
//! version 2, schema 2.

use std::borrow::Cow;
use std::collections::BTreeMap;

use bytes::Bytes;
use crossdock_storage::{
    Compression, Descriptor, Error, Hasher, ManifestEntry, ManifestFormat, MediaType, Result, canonical_json,
};
use serde_json::json;

use crate::annotations::{BASE_DIGEST, BASE_NAME, CREATED};

const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// The types of layers: OCI's, and Docker's where it has the same.
const LAYERS: &[(&str, Option<&str>)] = &[
    ("application/vnd.oci.image.layer.v1.tar", Some("application/vnd.docker.image.rootfs.diff.tar")),
    (
        "application/vnd.oci.image.layer.v1.tar+gzip",
        Some("application/vnd.docker.image.rootfs.diff.tar.gzip"),
    ),
    ("application/vnd.oci.image.layer.v1.tar+zstd", None),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        Some("application/vnd.docker.image.rootfs.foreign.diff.tar"),
    ),
    (
        "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
        Some("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"),
    ),
    ("application/vnd.oci.image.layer.nondistributable.v1.tar+zstd", None),
];

/// Refuses what a family of media types has no place for. Annotations are not among it: see [`annotations_of`].
pub(crate) fn check_format(
    format: ManifestFormat,
    compressions: impl IntoIterator<Item = Compression>,
) -> Result<()> {
    if format == ManifestFormat::Docker
        && compressions.into_iter().any(|compression| matches!(compression, Compression::Zstd { .. }))
    {
        return Err(Error::Unusable(
            "the docker format has no media type for zstd layers: use --format oci, or --compression-format gzip"
                .to_owned(),
        ));
    }
    Ok(())
}

/// The annotations that a manifest or an entry of a list has in a format: Docker's has no place for any, and they are
/// dropped, as buildah does; with a warning, as it does not.
pub(crate) fn annotations_of<'a>(
    format: ManifestFormat,
    annotations: &'a BTreeMap<String, String>,
    what: &str,
) -> (Cow<'a, BTreeMap<String, String>>, Option<String>) {
    if format == ManifestFormat::Oci || annotations.is_empty() {
        return (Cow::Borrowed(annotations), None);
    }
    // Of those that every image has nobody is told.
    let asked = annotations.keys().map(String::as_str);
    let names: Vec<_> = asked.filter(|name| ![BASE_DIGEST, BASE_NAME, CREATED].contains(name)).collect();
    let warning = (!names.is_empty()).then(|| {
        let names = names.join(", ");
        format!("the docker format has no annotations: {what} goes without {names}; --format oci keeps them")
    });
    (Cow::Owned(BTreeMap::new()), warning)
}

/// The same layer's media type in the other family (OCI image-spec, layer.md; Docker's manifest v2 schema 2). A layer that
/// is not to be distributed stays one.
pub(crate) fn layer_media_type(media_type: &MediaType, format: ManifestFormat) -> Result<MediaType> {
    let name = media_type.to_string();
    let pair = LAYERS.iter().find(|(oci, docker)| *oci == name || *docker == Some(name.as_str()));
    let same = match (pair, format) {
        (Some((oci, _)), ManifestFormat::Oci) => Some(*oci),
        (Some((_, docker)), ManifestFormat::Docker) => *docker,
        (None, _) => None,
    };
    let same = same.ok_or_else(|| {
        Error::Unusable(format!(
            "there is a layer of type {name}, which the {format} format has no place for"
        ))
    })?;
    Ok(MediaType::from(same))
}

/// The family that a manifest's media type belongs to.
pub(crate) fn format_of(manifest: &MediaType) -> ManifestFormat {
    match manifest {
        MediaType::Other(other) if other == DOCKER_MANIFEST || other == DOCKER_LIST => ManifestFormat::Docker,
        _ => ManifestFormat::Oci,
    }
}

/// The descriptor of a config's bytes.
pub(crate) fn config_descriptor(format: ManifestFormat, bytes: &[u8]) -> Descriptor {
    let media_type = match format {
        ManifestFormat::Oci => OCI_CONFIG,
        ManifestFormat::Docker => DOCKER_CONFIG,
    };
    describe(media_type, bytes)
}

/// A manifest's bytes, and their descriptor.
pub(crate) fn manifest<'a>(
    format: ManifestFormat,
    config: &Descriptor,
    layers: impl IntoIterator<Item = &'a Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> (Descriptor, Bytes) {
    let media_type = match format {
        ManifestFormat::Oci => OCI_MANIFEST,
        ManifestFormat::Docker => DOCKER_MANIFEST,
    };
    let mut manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type,
        "config": config,
        "layers": layers.into_iter().collect::<Vec<_>>(),
    });
    if !annotations.is_empty() {
        manifest["annotations"] = json!(annotations);
    }
    let bytes = Bytes::from(canonical_json(&manifest));
    (describe(media_type, &bytes), bytes)
}

/// The descriptor that an index of these images has.
#[must_use]
pub fn describe_index(format: ManifestFormat, manifests: &[ManifestEntry]) -> Descriptor {
    index(format, manifests).0
}

/// The bytes of an image index or manifest list, and their descriptor.
pub(crate) fn index(format: ManifestFormat, manifests: &[ManifestEntry]) -> (Descriptor, Bytes) {
    let media_type = match format {
        ManifestFormat::Oci => OCI_INDEX,
        ManifestFormat::Docker => DOCKER_LIST,
    };
    let index = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
    let bytes = Bytes::from(canonical_json(&index));
    (describe(media_type, &bytes), bytes)
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(MediaType::from(media_type), bytes.len() as u64, Hasher::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_keeps_its_kind_in_the_other_format() {
        for (oci, docker) in LAYERS {
            let in_format = |name: &str, format| layer_media_type(&MediaType::from(name), format);
            assert_eq!(in_format(oci, ManifestFormat::Oci).unwrap().as_ref(), *oci);
            let Some(docker) = docker else {
                let error = in_format(oci, ManifestFormat::Docker).unwrap_err().to_string();
                assert!(error.contains("the docker format has no place for"), "{error}");
                continue;
            };
            assert_eq!(in_format(oci, ManifestFormat::Docker).unwrap().as_ref(), *docker);
            assert_eq!(in_format(docker, ManifestFormat::Docker).unwrap().as_ref(), *docker);
            assert_eq!(in_format(docker, ManifestFormat::Oci).unwrap().as_ref(), *oci);
        }
        let error = layer_media_type(&MediaType::from("x/y"), ManifestFormat::Oci).unwrap_err().to_string();
        assert!(error.contains("type x/y, which the oci format has no place for"), "{error}");
    }
}
