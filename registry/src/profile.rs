//! What is known of single registries and differs from the specification. Everything else is assumed to follow it.
//!
//! A registry is known by its host, or where it goes by another name, by its answer to `GET /v2/`. Distribution 2.8 and 3,
//! Harbor and zot look alike there (Harbor's token service has a name, and its uploads are those of the Distribution in
//! it), and need not be told apart: each says itself how far an upload is, or that it is gone.

use reqwest::header::HeaderMap;

use crate::endpoint::without_port;

/// How a blob goes to a registry (distribution specification, "Pushing blobs").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum UploadStyle {
    /// POST, one PATCH with all bytes, PUT with the digest: the digest is learnt while the bytes go.
    Stream {
        /// Whether the PATCH may say its length.
        with_length: bool,
    },
    /// POST, PATCHes of so many bytes each, PUT with the digest.
    Chunked {
        /// Bytes of a PATCH; the last one may be shorter. At least 1.
        size: u64,
    },
    /// POST, PUT with all bytes and the digest, which is learnt before.
    Monolithic,
}

impl UploadStyle {
    /// Bytes of a chunk, if nothing else is said. Distribution's parts on S3 are 10 MiB: chunks of whole parts leave no
    /// short one behind.
    pub const CHUNK: u64 = 100 << 20;
}

/// How large a layer may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerLimit {
    pub(crate) bytes: u64,
    /// Documented, and nobody's to change; other limits are warned of.
    pub(crate) hard: bool,
    /// Whose it is, as a part of a sentence.
    pub(crate) whose: &'static str,
}

/// The peculiarities of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) upload: UploadStyle,
    /// `None` where the registry documents none, and is known not to keep blobs as Distribution does.
    pub(crate) limit: Option<LayerLimit>,
}

/// Blobs on S3 are made of 10,000 parts at most, of 10 MiB where nobody changed `chunksize` (Distribution's s3 driver).
const S3: LayerLimit = LayerLimit {
    bytes: 10_000 * (10 << 20),
    hard: false,
    whose: "a registry on S3 takes with the default chunksize of 10 MiB",
};

const ANY: Profile = Profile { upload: UploadStyle::Stream { with_length: true }, limit: Some(S3) };

/// A second PATCH is lost in silence: <https://github.com/aws/containers-roadmap> (chunked uploads), and the quota "Maximum
/// layer size": <https://docs.aws.amazon.com/AmazonECR/latest/userguide/service-quotas.html>.
const ECR: Profile = Profile {
    upload: UploadStyle::Monolithic,
    limit: Some(LayerLimit { bytes: 52_000 << 20, hard: true, whose: "Amazon ECR takes" }),
};

/// "Maximum layer size", a quota of Amazon ECR Public that cannot be raised:
/// <https://docs.aws.amazon.com/AmazonECR/latest/public/public-service-quotas.html>.
const ECR_PUBLIC: Profile = Profile {
    upload: UploadStyle::Monolithic,
    limit: Some(LayerLimit { bytes: 10_000 << 20, hard: true, whose: "Amazon ECR Public takes" }),
};

/// "Artifact Registry does not support chunked uploads". Of layers it documents no limit:
/// <https://cloud.google.com/artifact-registry/quotas>.
const ARTIFACT_REGISTRY: Profile = Profile { upload: UploadStyle::Monolithic, limit: None };

/// "Maximum image layer size", the same in all tiers:
/// <https://learn.microsoft.com/en-us/azure/container-registry/container-registry-skus>.
const AZURE: Profile = Profile {
    limit: Some(LayerLimit { bytes: 200 << 30, hard: true, whose: "Azure Container Registry takes" }),
    ..ANY
};

/// A PATCH that says a length over 4 MiB gets 416; one that does not is taken. "10 GB size limit for each layer":
/// <https://docs.github.com/en/packages/working-with-a-github-packages-registry/working-with-the-container-registry>.
const GHCR: Profile = Profile {
    upload: UploadStyle::Stream { with_length: false },
    limit: Some(LayerLimit { bytes: 10_000_000_000, hard: true, whose: "GHCR takes" }),
};

/// `MAXIMUM_LAYER_SIZE` of Quay's config is 20G by default.
const QUAY: Profile = Profile {
    limit: Some(LayerLimit {
        bytes: 20 << 30,
        hard: false,
        whose: "Quay takes by default (MAXIMUM_LAYER_SIZE)",
    }),
    ..ANY
};

/// A header of the answer to `GET /v2/`, a part of its value, and whose it is.
const SIGNS: [(&str, &str, Profile); 9] = [
    ("www-authenticate", "service=\"ecr.amazonaws.com\"", ECR),
    ("www-authenticate", "realm=\"https://public.ecr.aws/token", ECR_PUBLIC),
    ("www-authenticate", ".pkg.dev/v2/token\"", ARTIFACT_REGISTRY),
    ("www-authenticate", "gcr.io/v2/token\"", ARTIFACT_REGISTRY),
    ("www-authenticate", ".azurecr.io/oauth2/token\"", AZURE),
    ("www-authenticate", "service=\"ghcr.io\"", GHCR),
    ("x-github-request-id", "", GHCR),
    ("www-authenticate", "service=\"quay.io\"", QUAY),
    // Quay's own word: https://github.com/quay/quay, endpoints/v2/__init__.py. Older ones do not have it.
    ("x-sparse-manifest-support", "", QUAY),
];

impl Profile {
    /// The profile of a registry by its host, or else by its answer to `GET /v2/`, where there is one by now.
    pub(crate) fn of(registry: &str, shown: Option<Self>) -> Self {
        Self::of_host(registry).or(shown).unwrap_or(ANY)
    }

    /// The profile that an answer to `GET /v2/` shows.
    pub(crate) fn of_answer(headers: &HeaderMap) -> Option<Self> {
        let has = |name: &str, part: &str| {
            headers.get_all(name).iter().any(|value| value.to_str().is_ok_and(|value| value.contains(part)))
        };
        SIGNS.iter().find(|(name, part, _)| has(name, part)).map(|(.., profile)| *profile)
    }

    fn of_host(registry: &str) -> Option<Self> {
        let host = without_port(registry);
        let below = |domain: &str| {
            host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        if host == "public.ecr.aws" {
            Some(ECR_PUBLIC)
        } else if host.contains(".dkr.ecr") && host.contains(".amazonaws.com") {
            Some(ECR)
        } else if below("pkg.dev") || below("gcr.io") {
            Some(ARTIFACT_REGISTRY)
        } else if host == "ghcr.io" {
            Some(GHCR)
        } else if below("azurecr.io") || below("azurecr.cn") || below("azurecr.us") {
            Some(AZURE)
        } else if below("quay.io") {
            Some(QUAY)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    #[test]
    fn registries_behind_another_name_are_known_by_their_answer() {
        for (name, value, profile) in [
            ("www-authenticate", r#"Basic realm="https://1.example/",service="ecr.amazonaws.com""#, ECR),
            ("www-authenticate", r#"Bearer realm="https://public.ecr.aws/token/",service="x""#, ECR_PUBLIC),
            (
                "www-authenticate",
                r#"Bearer realm="https://us-central1-docker.pkg.dev/v2/token""#,
                ARTIFACT_REGISTRY,
            ),
            (
                "www-authenticate",
                r#"Bearer realm="https://models.azurecr.io/oauth2/token",service="models.azurecr.io""#,
                AZURE,
            ),
            (
                "www-authenticate",
                r#"Bearer realm="https://gcr.io/v2/token",service="gcr.io""#,
                ARTIFACT_REGISTRY,
            ),
            ("www-authenticate", r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#, GHCR),
            ("x-github-request-id", "D5D4:25D6A2:416760:A505C8:694E4061", GHCR),
            ("www-authenticate", r#"Bearer realm="https://quay.io/v2/auth",service="quay.io""#, QUAY),
            ("x-sparse-manifest-support", "false", QUAY),
            // What follows does not differ, as far as is known.
            (
                "www-authenticate",
                r#"Bearer realm="https://h.example/service/token",service="harbor-registry""#,
                ANY,
            ),
            ("www-authenticate", r#"Bearer realm="https://host.example/openshift/token""#, ANY),
            (
                "www-authenticate",
                r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#,
                ANY,
            ),
            ("www-authenticate", "basic realm=zot", ANY),
            ("docker-distribution-api-version", "registry/2.0", ANY),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("date", HeaderValue::from_static("Sun, 06 Nov 1994 08:49:37 GMT"));
            headers.insert(name, HeaderValue::from_static(value));
            let shown = Profile::of_answer(&headers);
            assert_eq!(Profile::of("mirror.example", shown), profile, "{name}: {value}");
            assert_eq!(Profile::of("public.ecr.aws", shown), ECR_PUBLIC, "the host's name counts first");
        }
    }

    #[test]
    fn registries_are_known_by_host() {
        for (host, profile) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", ECR),
            ("123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com", ECR),
            ("public.ecr.aws", ECR_PUBLIC),
            ("europe-docker.pkg.dev", ARTIFACT_REGISTRY),
            ("gcr.io", ARTIFACT_REGISTRY),
            ("eu.gcr.io:443", ARTIFACT_REGISTRY),
            ("notgcr.io", ANY),
            ("ghcr.io", GHCR),
            ("quay.io", QUAY),
            ("models.azurecr.io", AZURE),
            ("models.azurecr.cn", AZURE),
            ("azurecr.io.example", ANY),
            ("docker.io", ANY),
            ("image-registry.openshift-image-registry.svc:5000", ANY),
        ] {
            assert_eq!(Profile::of(host, None), profile, "{host}");
        }
    }
}
