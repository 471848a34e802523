//! Where a registry answers: scheme, host and the URLs of the distribution specification.

use crossdock_storage::Digest;
use url::Url;

use crate::error::Error;
use crate::veil::Veil;

/// `scheme://host[:port]` of a registry.
#[derive(Clone)]
pub(crate) struct Endpoint {
    base: Url,
    veil: Veil,
}

impl Endpoint {
    /// The endpoint of a registry as a reference names it.
    pub(crate) fn new(registry: &str, https: bool) -> Result<Self, Error> {
        // Docker Hub's API is not where its name is.
        let host = if registry == "docker.io" { "registry-1.docker.io" } else { registry };
        let scheme = if https { "https" } else { "http" };
        let base = Url::parse(&format!("{scheme}://{host}/v2/")).map_err(|error| Error::Reference {
            text: registry.to_owned(),
            reason: format!("it is not the host of a registry: {error}"),
        })?;
        Ok(Self { base, veil: Veil::default() })
    }

    /// What is covered in errors about the URLs that the registry names.
    #[must_use]
    pub(crate) fn with_veil(self, veil: &Veil) -> Self {
        Self { veil: veil.clone(), ..self }
    }

    pub(crate) fn is_https(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// The API's root, which answers whether there is a registry and how to authenticate.
    pub(crate) fn ping(&self) -> Url {
        self.base.clone()
    }

    pub(crate) fn manifest(&self, repository: &str, selector: &str) -> Url {
        self.join(&format!("{repository}/manifests/{selector}"))
    }

    pub(crate) fn tags(&self, repository: &str) -> Url {
        self.join(&format!("{repository}/tags/list"))
    }

    pub(crate) fn blob(&self, repository: &str, digest: &Digest) -> Url {
        self.join(&format!("{repository}/blobs/{digest}"))
    }

    pub(crate) fn uploads(&self, repository: &str) -> Url {
        self.join(&format!("{repository}/blobs/uploads/"))
    }

    /// An upload of a blob that `from`, another repository of this registry, may have.
    pub(crate) fn mount(&self, repository: &str, digest: &Digest, from: &str) -> Url {
        let mut url = self.uploads(repository);
        url.query_pairs_mut().append_pair("mount", digest.as_ref()).append_pair("from", from);
        url
    }

    /// Where an upload goes on, from the `Location` of an answer to `request`.
    pub(crate) fn location(&self, request: &Url, location: &str) -> Result<Url, Error> {
        let shown = |url: &Url| self.veil.cover(&shown(url));
        let unusable =
            |reason: String| Error::Answer { what: format!("the upload at {}", shown(request)), reason };
        let mut next = request
            .join(location)
            .map_err(|error| unusable(format!("the registry's Location header is not a URL: {error}")))?;
        if !matches!(next.scheme(), "http" | "https") {
            return Err(unusable(format!("the registry sends the upload to a {} URL", next.scheme())));
        }
        if self.is_https() && next.scheme() == "http" {
            if next.host_str() != self.base.host_str() {
                return Err(Error::Redirect {
                    from: shown(request),
                    to: shown(&next),
                    reason: "it leads from https to http on another host".to_owned(),
                });
            }
            // A registry behind a proxy that ends TLS and does not say so: the same host, over https.
            // Both calls succeed for http(s) URLs with a host.
            let _ = next.set_scheme("https");
            let _ = next.set_port(self.base.port());
        }
        Ok(next)
    }

    fn join(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("/v2/{path}"));
        url
    }
}

/// Whether two URLs are of the same scheme, host and port: the reach of an `Authorization` header.
pub(crate) fn same_origin(a: &Url, b: &Url) -> bool {
    a.scheme() == b.scheme()
        && a.host_str() == b.host_str()
        && a.port_or_known_default() == b.port_or_known_default()
}

/// A URL for logs and errors: without query (which holds upload states and signatures) and user.
pub(crate) fn shown(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Fails only for URLs that cannot have them.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.to_string()
}

/// Host and port of `host[:port]`, an IPv6 address with its brackets.
pub(crate) fn split_port(authority: &str) -> (&str, Option<u16>) {
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (authority, None),
    }
}

/// The host part of `host[:port]`, without the brackets of an IPv6 address.
pub(crate) fn without_port(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or(rest);
    }
    authority.rsplit_once(':').map_or(authority, |(host, _)| host)
}

/// Whether a host is this machine.
pub(crate) fn is_loopback(authority: &str) -> bool {
    let host = without_port(authority);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_answers_elsewhere() {
        let endpoint = Endpoint::new("docker.io", true).unwrap();
        assert_eq!(
            endpoint.manifest("library/alpine", "latest").as_str(),
            "https://registry-1.docker.io/v2/library/alpine/manifests/latest"
        );
    }

    #[test]
    fn a_location_may_be_relative_or_absolute() {
        let endpoint = Endpoint::new("r.example:5000", true).unwrap();
        let request = endpoint.uploads("a/b");
        for (location, url) in [
            ("/v2/a/b/blobs/uploads/1?_state=x", "https://r.example:5000/v2/a/b/blobs/uploads/1?_state=x"),
            ("https://storage.example/u", "https://storage.example/u"),
            ("http://r.example:5000/v2/u", "https://r.example:5000/v2/u"),
            ("http://r.example/v2/u", "https://r.example:5000/v2/u"),
        ] {
            assert_eq!(endpoint.location(&request, location).unwrap().as_str(), url);
        }
        assert!(endpoint.location(&request, "http://other.example/u").is_err());
        assert!(endpoint.location(&request, "ftp://r.example/u").is_err());
    }

    #[test]
    fn a_shown_url_has_no_query_and_no_user() {
        let url = Url::parse("https://u:p@s3.example/blob?X-Amz-Signature=abc#f").unwrap();
        assert_eq!(shown(&url), "https://s3.example/blob");
    }

    #[test]
    fn loopback_is_by_name_and_address() {
        for host in ["localhost", "localhost:5000", "127.0.0.1:1", "127.8.0.1", "[::1]:5000"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["localhost.example", "10.0.0.1", "[::2]:1"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
