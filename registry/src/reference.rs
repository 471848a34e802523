//! `Reference`: the name of an image on a registry, as a user writes it.
//!
//! Docker's short names are completed (`alpine` is `docker.io/library/alpine:latest`); everything after this module
//! is spelled out.

use std::fmt;
use std::str::FromStr;

use crossdock_storage::{Digest, RepositoryName};
use oci_spec::distribution::{ParseError, Reference as OciReference};

use crate::error::Error;

/// An image on a registry: host, repository, and tag or digest (or both, when the digest counts).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Reference(OciReference);

impl Reference {
    /// Host, and port where one is given; `docker.io` for Docker Hub.
    #[must_use]
    pub fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The repository's path on the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        self.0.repository()
    }

    /// The tag; `latest` where neither tag nor digest was given.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        self.0.tag()
    }

    /// The digest, where one was given.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        self.0.digest().and_then(|digest| digest.parse().ok())
    }

    /// Registry and repository without tag or digest.
    #[must_use]
    pub fn repository_name(&self) -> RepositoryName {
        RepositoryName { registry: self.registry().to_owned(), repository: self.repository().to_owned() }
    }

    /// The name with its tag, or with its digest alone where it has one: that is what counts.
    #[must_use]
    pub fn name_in_full(&self) -> String {
        let name = format!("{}/{}", self.registry(), self.repository());
        match self.0.digest() {
            Some(digest) => format!("{name}@{digest}"),
            None => format!("{name}:{}", self.tag().unwrap_or("latest")),
        }
    }

    /// The same repository with another tag.
    ///
    /// # Errors
    /// [`Error::Reference`] where `tag` is not one.
    pub fn with_tag(&self, tag: &str) -> Result<Self, Error> {
        format!("{}/{}:{tag}", self.registry(), self.repository()).parse()
    }

    /// What stands last in a manifest's URL: the digest, or else the tag.
    pub(crate) fn selector(&self) -> &str {
        self.0.digest().or_else(|| self.0.tag()).unwrap_or("latest")
    }
}

impl FromStr for Reference {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |reason: &str| Error::Reference { text: text.to_owned(), reason: reason.to_owned() };
        if let Some((transport, _)) = text.split_once("://") {
            return Err(invalid(match transport {
                "http" | "https" => "it is a URL; leave the scheme out",
                "docker" => "leave docker:// out",
                _ => "it has a transport that is not a registry's",
            }));
        }
        let reference = OciReference::try_from(text).map_err(|error| match error {
            ParseError::NameEmpty => invalid("it is empty"),
            ParseError::DigestInvalidLength => {
                invalid("the digest has not as many digits as its algorithm gives")
            }
            ParseError::DigestUnsupported => invalid("the digest's algorithm is not known: write sha256:HEX"),
            ParseError::NameTooLong => invalid("the repository is longer than 255 characters"),
            _ => invalid(malformed(text)),
        })?;
        // docker.io has aliases that users copy from Docker's own error texts and files.
        if reference.registry() == "registry-1.docker.io" {
            let rest = reference.to_string();
            let rest = rest.strip_prefix("registry-1.").unwrap_or(&rest).to_owned();
            return rest.parse();
        }
        Ok(Self(reference))
    }
}

/// What is most likely wrong with a text that does not parse.
fn malformed(text: &str) -> &'static str {
    let name = text.split('@').next().unwrap_or_default();
    let (host, path) = name.split_once('/').unwrap_or(("", name));
    let repository = path.rsplit_once(':').map_or(path, |(repository, _)| repository);
    if text.chars().any(char::is_whitespace) {
        "it has white space in it"
    } else if repository.chars().any(char::is_uppercase)
        || (host.is_empty() && repository != repository.to_lowercase())
    {
        "a repository's name is in lower case"
    } else if repository.is_empty() || name.ends_with('/') {
        "there is no repository in it"
    } else {
        "write [HOST[:PORT]/]REPOSITORY[:TAG][@DIGEST], with letters, digits and . _ - / in the repository"
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reference({})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        for (text, whole) in [
            ("alpine", "docker.io/library/alpine:latest"),
            ("index.docker.io/library/alpine:3", "docker.io/library/alpine:3"),
            ("registry-1.docker.io/user/image", "docker.io/user/image:latest"),
            ("localhost/x", "localhost/x:latest"),
            ("localhost:5000/a/b:c", "localhost:5000/a/b:c"),
            (
                "image-registry.openshift-image-registry.svc:5000/ns/m:v1",
                "image-registry.openshift-image-registry.svc:5000/ns/m:v1",
            ),
        ] {
            assert_eq!(text.parse::<Reference>().unwrap().to_string(), whole);
        }
    }

    #[test]
    fn the_digest_counts_where_both_are_given() {
        let hex = "a".repeat(64);
        let reference: Reference = format!("quay.io/a/b:tag@sha256:{hex}").parse().unwrap();
        assert_eq!(reference.selector(), format!("sha256:{hex}"));
        assert_eq!(reference.tag(), Some("tag"));
        assert!(reference.digest().is_some());
    }

    #[test]
    fn an_error_says_what_is_wrong() {
        for (text, part) in [
            ("", "empty"),
            ("quay.io/Org/model", "lower case"),
            ("https://quay.io/a/b", "scheme"),
            ("docker://quay.io/a/b", "docker://"),
            ("quay.io/a b", "white space"),
            ("quay.io/", "no repository"),
            ("quay.io/a@sha256:1234567890123456789012345678901234567890", "digits"),
        ] {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
