//! Manifests and indexes: fetched whole, verified, and told apart (OCI image-spec, Docker image manifest version 2).

use bytes::Bytes;
use crossdock_storage::{Digest, ImageManifest, ManifestEntry, MediaType, from_json};
use reqwest::Method;
use serde::Deserialize;

use crate::error::{Error, Result};
use crate::host::{Access, Call, Host, READ};

/// Manifests and indexes larger than this many bytes are refused (distribution specification).
const MAX_SIZE: u64 = 4 << 20;

/// How deep indexes may be nested.
pub(crate) const MAX_DEPTH: usize = 3;

/// What we can read.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
                      application/vnd.docker.distribution.manifest.list.v2+json, \
                      application/vnd.docker.distribution.manifest.v2+json";

/// A manifest or index as it came, its digest checked.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) bytes: Bytes,
    content_type: String,
}

/// A manifest or index.
#[derive(Debug)]
pub(crate) enum Document {
    Index(Vec<ManifestEntry>),
    Manifest(Box<ImageManifest>, MediaType),
}

/// The fields by which documents are told apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: Option<String>,
    #[serde(default)]
    manifests: Option<serde_json::Value>,
}

/// Fetches the manifest or index that `selector` (tag or digest) names; `image` names it in errors.
pub(crate) async fn fetch(host: &Host, access: &Access, selector: &str, image: &str) -> Result<Fetched> {
    host.attempts().run(|| fetch_once(host, access, selector, image)).await
}

/// As [`fetch`], and does not try again.
pub(crate) async fn fetch_once(host: &Host, access: &Access, selector: &str, image: &str) -> Result<Fetched> {
    let url = host.endpoint().await?.manifest(&access.repository, selector);
    let make = |url| Call::new(access, Method::GET, url, &READ).with_accept(ACCEPT);
    let answer = match host.get_following(make, url).await {
        Ok(answer) => answer,
        Err(Error::Status { status: 404, detail, .. }) => {
            return Err(not_found(host, access, image, &detail).await);
        }
        Err(Error::Status { status: 500, .. })
            if selector.contains(':') && !is_repository(host, access).await =>
        {
            return Err(not_found(host, access, image, " the repository has no image yet").await);
        }
        Err(error) => return Err(error),
    };
    let content_type = answer.header("content-type").unwrap_or_default();
    let content_type = content_type.split(';').next().unwrap_or_default().trim().to_owned();
    let announced = answer.header("docker-content-digest").map(str::to_owned);
    let bytes = answer.bytes(MAX_SIZE, &format!("the manifest of {image}")).await?;
    let digest = crossdock_storage::Hasher::digest(&bytes);
    let expected = selector.contains(':').then(|| selector.to_owned()).or(announced);
    if let Some(expected) = expected
        && expected != digest.to_string()
    {
        let what = format!("the manifest of {image}");
        let expected: Digest = expected.parse().map_err(|error| Error::Answer {
            what: what.clone(),
            reason: host.veil().cover(&format!("its digest is not one: {error}")),
        })?;
        if expected.algorithm().to_string() != "sha256" {
            let reason = format!("its digest is of {}, and only sha256 is supported", expected.algorithm());
            return Err(Error::Answer { what, reason });
        }
        return Err(Error::Digest { what, expected, actual: digest.to_string() });
    }
    Ok(Fetched { digest, bytes, content_type })
}

async fn not_found(host: &Host, access: &Access, image: &str, detail: &str) -> Error {
    let detail = if detail.is_empty() { String::new() } else { format!(":{detail}") };
    // The key at hand is the one that was tried.
    let anonymous = host.key(access, None).await.map_or(true, |key| key.is_anonymous());
    Error::NotFound { image: image.to_owned(), anonymous, detail }
}

/// Whether there is a repository, as far as an answer for a tag tells. OpenShift's registry fails with 500 on a digest where
/// there is no ImageStream, as if it were in trouble, and knows no such name where it is asked for a tag.
async fn is_repository(host: &Host, access: &Access) -> bool {
    let Ok(endpoint) = host.endpoint().await else { return true };
    let url = endpoint.manifest(&access.repository, "latest");
    let call = Call::new(access, Method::GET, url, &READ).with_accept(ACCEPT);
    match host.call(call).await {
        Err(Error::Status { status: 404, detail, .. }) => !detail.contains("NAME_UNKNOWN"),
        _ => true,
    }
}

impl Fetched {
    /// Reads the document.
    pub(crate) fn parse(&self, image: &str) -> Result<Document> {
        let malformed = |source| Error::Malformed { what: format!("the manifest of {image}"), source };
        let outline: Outline = from_json(&self.bytes).map_err(malformed)?;
        // The document's own word counts before the header's, which some registries and proxies get wrong.
        let media_type = outline.media_type.as_deref().unwrap_or(&self.content_type);
        if outline.schema_version == 1
            || media_type.starts_with("application/vnd.docker.distribution.manifest.v1")
        {
            return Err(Error::Schema1 { image: image.to_owned() });
        }
        let is_index = match media_type {
            "application/vnd.oci.image.index.v1+json"
            | "application/vnd.docker.distribution.manifest.list.v2+json" => true,
            "application/vnd.oci.image.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v2+json" => false,
            _ => outline.manifests.is_some(),
        };
        if is_index {
            return Ok(Document::Index(ManifestEntry::of_index(&self.bytes).map_err(malformed)?));
        }
        let manifest: ImageManifest = from_json(&self.bytes).map_err(malformed)?;
        let media_type = match media_type {
            "application/vnd.docker.distribution.manifest.v2+json" => MediaType::from(media_type),
            _ => MediaType::ImageManifest,
        };
        Ok(Document::Manifest(Box::new(manifest), media_type))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fetched(content_type: &str, text: &str) -> Fetched {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        Fetched {
            digest: crossdock_storage::Hasher::digest(&bytes),
            bytes,
            content_type: content_type.to_owned(),
        }
    }

    #[test]
    fn schema_1_is_refused_by_name() {
        for document in [
            fetched("application/vnd.docker.distribution.manifest.v1+prettyjws", r#"{"schemaVersion":1}"#),
            fetched("application/json", r#"{"schemaVersion":1,"name":"x"}"#),
        ] {
            let error = document.parse("old:1").unwrap_err();
            assert!(matches!(error, Error::Schema1 { .. }), "{error}");
        }
    }

    #[test]
    fn documents_are_told_apart_by_their_own_words() {
        let manifest = r#"{"schemaVersion":2,"config":{"mediaType":"a/b","size":1,"digest":"sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},"layers":[]}"#;
        let Document::Manifest(_, media_type) =
            fetched("application/vnd.docker.distribution.manifest.v2+json", manifest).parse("x").unwrap()
        else {
            panic!()
        };
        assert_eq!(media_type.to_string(), "application/vnd.docker.distribution.manifest.v2+json");
        assert!(matches!(fetched("text/plain", manifest).parse("x").unwrap(), Document::Manifest(..)));
        let index = r#"{"schemaVersion":2,"mediaType":"application/vnd.docker.distribution.manifest.list.v2+json","manifests":[]}"#;
        assert!(matches!(fetched("application/json", index).parse("x").unwrap(), Document::Index(_)));
        assert!(fetched("application/json", "[]").parse("x").is_err());
    }
}
