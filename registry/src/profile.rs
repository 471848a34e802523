//! What is known of single registries and differs from the specification. Everything else is assumed to follow it.

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

/// The peculiarities of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Profile {
    pub(crate) upload: UploadStyle,
    /// The largest layer it takes, in bytes, as it documents.
    pub(crate) max_layer: Option<u64>,
}

impl UploadStyle {
    /// Bytes of a chunk, if nothing else is said. Distribution's parts on S3 are 10 MiB: chunks of whole parts leave no
    /// short one behind.
    pub const CHUNK: u64 = 100 << 20;
}

impl Profile {
    /// The profile of a registry that has a name of its own, by what it says when it is asked who it is: the service in
    /// its challenge is the same whatever the host is called.
    pub(crate) fn of_challenge(registry: &str, challenge: &str) -> Self {
        let known = Self::of(registry);
        let service = |name: &str| challenge.contains(&format!("service=\"{name}"));
        if known != Self::of("registry.invalid") {
            known
        } else if service("public.ecr.aws") {
            Self::of("public.ecr.aws")
        } else if service("ecr.amazonaws.com") {
            Self::of(".dkr.ecr.amazonaws.com")
        } else if service("ghcr.io") {
            Self::of("ghcr.io")
        } else if challenge.contains(".pkg.dev/v2/token") {
            Self::of("pkg.dev")
        } else if service("quay.io") {
            Self::of("quay.io")
        } else {
            known
        }
    }

    /// The profile of a registry by its host.
    pub(crate) fn of(registry: &str) -> Self {
        let host = crate::endpoint::without_port(registry);
        let below = |domain: &str| {
            host == domain || host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
        };
        if host == "public.ecr.aws" {
            // "Maximum layer size", a quota of Amazon ECR Public that cannot be raised.
            Self { upload: UploadStyle::Monolithic, max_layer: Some(10_000 << 20) }
        } else if host.contains(".dkr.ecr") && host.contains(".amazonaws.com") {
            // A second PATCH is lost in silence: https://github.com/aws/containers-roadmap (chunked uploads), and
            // the quota "Maximum layer size" of Amazon ECR.
            Self { upload: UploadStyle::Monolithic, max_layer: Some(52_000 << 20) }
        } else if below("pkg.dev") || below("gcr.io") {
            // "Artifact Registry does not support chunked uploads".
            Self { upload: UploadStyle::Monolithic, max_layer: None }
        } else if host == "ghcr.io" {
            // A PATCH that says a length over 4 MiB gets 416; one that does not is taken.
            Self { upload: UploadStyle::Stream { with_length: false }, max_layer: Some(10_000_000_000) }
        } else if below("quay.io") {
            // MAXIMUM_LAYER_SIZE of Quay's config is 20G by default.
            Self { upload: UploadStyle::Stream { with_length: true }, max_layer: Some(20 << 30) }
        } else {
            Self { upload: UploadStyle::Stream { with_length: true }, max_layer: None }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registries_behind_another_name_are_known_by_their_challenge() {
        for (challenge, style) in [
            (r#"Basic realm="https://x/",service="ecr.amazonaws.com""#, UploadStyle::Monolithic),
            (r#"Bearer realm="https://europe-docker.pkg.dev/v2/token",service="x""#, UploadStyle::Monolithic),
            (
                r#"Bearer realm="https://ghcr.io/token",service="ghcr.io""#,
                UploadStyle::Stream { with_length: false },
            ),
            (
                r#"Bearer realm="https://h/service/token",service="harbor-registry""#,
                UploadStyle::Stream { with_length: true },
            ),
        ] {
            assert_eq!(Profile::of_challenge("mirror.example", challenge).upload, style, "{challenge}");
        }
    }

    #[test]
    fn registries_are_known_by_host() {
        for (host, style) in [
            ("123456789012.dkr.ecr.eu-central-1.amazonaws.com", UploadStyle::Monolithic),
            ("public.ecr.aws", UploadStyle::Monolithic),
            ("europe-docker.pkg.dev", UploadStyle::Monolithic),
            ("gcr.io", UploadStyle::Monolithic),
            ("eu.gcr.io:443", UploadStyle::Monolithic),
            ("notgcr.io", UploadStyle::Stream { with_length: true }),
            ("ghcr.io", UploadStyle::Stream { with_length: false }),
            ("docker.io", UploadStyle::Stream { with_length: true }),
            ("image-registry.openshift-image-registry.svc:5000", UploadStyle::Stream { with_length: true }),
        ] {
            assert_eq!(Profile::of(host).upload, style, "{host}");
        }
    }
}
