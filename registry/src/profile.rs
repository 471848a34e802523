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

impl Profile {
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
