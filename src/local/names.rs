//! What names of images on this machine mean.

use anyhow::Result;
use crossdock_registry::{Error, Reference};

use crate::destination::transport_of;

/// How a name is spelled out: without a host it is one of this machine.
///
/// # Errors
/// Where it is no name.
pub(crate) fn local_name(text: &str) -> Result<Reference> {
    let text = text.strip_prefix("docker://").unwrap_or(text);
    if has_host(text) {
        return Ok(text.parse()?);
    }
    format!("localhost/{text}").parse().map_err(|error| match error {
        // As it was typed.
        Error::Reference { reason, .. } => Error::Reference { text: text.to_owned(), reason }.into(),
        other => other.into(),
    })
}

/// What a name may stand for, as buildah looks for it.
pub(super) fn candidates(text: &str) -> Vec<Reference> {
    let text = text.strip_prefix("containers-storage:").unwrap_or(text);
    let local = local_name(text).ok();
    let spelled_out = text.parse().ok();
    local.into_iter().chain(spelled_out).collect()
}

/// Whether the first part of a name is a host: it has a dot or a port, or is `localhost`.
pub(crate) fn has_host(name: &str) -> bool {
    let name = name.strip_prefix("docker://").unwrap_or(name);
    // `oci:./layout` is a place.
    if transport_of(name).is_some_and(|(transport, _)| transport != "docker") {
        return false;
    }
    name.split_once('/').is_some_and(|(host, _)| host.contains(['.', ':']) || host == "localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_told_from_a_repository() {
        for (name, host) in [
            ("localhost/x", true),
            ("a.b/x:1", true),
            ("host:5000/x", true),
            ("docker://host:5000/x", true),
            ("x", false),
            ("x:1", false),
            ("team/x", false),
            ("oci:./x", false),
            ("docker:5000/x", true),
            ("oci-archive:a.b/x.tar", false),
        ] {
            assert_eq!(has_host(name), host, "{name}");
        }
    }

    #[test]
    fn a_name_without_a_host_is_one_of_this_machine() {
        for (name, whole) in [
            ("model", "localhost/model:latest"),
            ("team/model:1", "localhost/team/model:1"),
            ("localhost/model:1", "localhost/model:1"),
            ("quay.io/team/model", "quay.io/team/model:latest"),
        ] {
            assert_eq!(local_name(name).unwrap().to_string(), whole);
        }
        let meant: Vec<_> = candidates("alpine:3").iter().map(ToString::to_string).collect();
        assert_eq!(meant, ["localhost/alpine:3", "docker.io/library/alpine:3"]);
    }
}
