//! What can go wrong between this program and a registry; every variant names the place and the way out.

use std::error::Error as StdError;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crossdock_storage::Digest;

use crate::tls;

/// The result of this crate's operations.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. URLs in it are without their queries, and no variant holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A text is not the name of an image.
    #[error("{text:?} is not the name of an image: {reason}")]
    Reference {
        /// What was given.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A set of destinations is not one sink's.
    #[error("cannot push to {destination}: {reason}")]
    Destination {
        /// What was given.
        destination: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A file with credentials cannot be read.
    #[error("cannot read the credentials in {}", path.display())]
    AuthfileRead {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file with credentials is not what `docker login` or `podman login` write.
    #[error("{}: {reason}", path.display())]
    Authfile {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, and what to do.
        reason: String,
    },
    /// A login cannot be kept.
    #[error("cannot write the credentials to {}; name a file with --authfile", path.display())]
    AuthfileWrite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("{}: {reason}", path.display())]
    Certificate {
        /// The file or directory.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A registries.conf cannot be used.
    #[error("{}: {reason}", path.display())]
    Conf {
        /// The file.
        path: PathBuf,
        /// What is wrong with it; begins with line and column where they are known.
        reason: String,
    },
    /// A registries.conf forbids a registry.
    #[error("{image} is blocked: [[registry]] {prefix} in {} says so", path.display())]
    Blocked {
        /// The image.
        image: String,
        /// The table's prefix.
        prefix: String,
        /// The file.
        path: PathBuf,
    },
    /// A name without a host cannot be completed.
    #[error(
        "the short name {name} cannot be resolved: {reason} ({}); write the registry's host before it", path.display()
    )]
    ShortName {
        /// What was given.
        name: String,
        /// The file that says so.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// An image was at none of the places that a registries.conf names for it.
    #[error("{image} could not be had from any of {} places:{}", tried.len(), listed(tried))]
    Everywhere {
        /// The image, as it was named.
        image: String,
        /// Each place with its error, in the order they were tried.
        tried: Vec<(String, crossdock_storage::Error)>,
    },
    /// The HTTP client or its TLS cannot be set up.
    #[error("cannot set up the connections to {host}")]
    Setup {
        /// The registry.
        host: String,
        /// Why.
        source: Box<dyn StdError + Send + Sync>,
    },
    /// No connection could be made.
    #[error("cannot connect to {host}: {reason}; is it up, and is the address right?")]
    Connect {
        /// Host and port.
        host: String,
        /// The innermost cause: refused, not found, no route.
        reason: String,
    },
    /// A proxy lets nothing through.
    #[error("no connection to {host} through the proxy {proxy}: {reason}")]
    Proxy {
        /// Host and port that the connection was to.
        host: String,
        /// The proxy's URL, without user and password.
        proxy: String,
        /// The proxy's words, or why it was not reached, and the way out.
        reason: String,
        /// Whether it may let the same through later.
        transient: bool,
    },
    /// The server's certificate is not trusted, or TLS is not agreed upon.
    #[error("no trusted connection to {host}: {reason}")]
    Tls {
        /// Host and port.
        host: String,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// The server does not speak TLS.
    #[error("{host} speaks plain http, not https: pass --tls-verify=false if that is meant")]
    PlainHttp {
        /// Host and port.
        host: String,
    },
    /// A connection broke while a request or its answer was under way.
    #[error("the connection broke: {what}: {reason}")]
    Transfer {
        /// The request: method and URL.
        what: String,
        /// The innermost cause.
        reason: String,
    },
    /// Nothing moved for too long.
    #[error("{what}: nothing moved for {} s", after.as_secs())]
    Stalled {
        /// The request: method and URL.
        what: String,
        /// For how long.
        after: Duration,
    },
    /// A proxy before the registry takes no body so large (413).
    #[error(
        "{what}: {}: a proxy before {host} takes no request of {bytes} bytes; {next}",
        stated(413, detail)
    )]
    BodyLimit {
        /// The request: method and URL.
        what: String,
        /// The registry.
        host: String,
        /// Bytes of the body that was refused.
        bytes: u64,
        /// The proxy's own words; begins with a separator.
        detail: String,
        /// What is done about it, or what to do.
        next: String,
        /// Whether the same bytes go in smaller requests from here on.
        smaller: bool,
    },
    /// An answer with a status that says it did not work.
    #[error("{what}: {}", stated(*status, detail))]
    Status {
        /// What was asked of whom.
        what: String,
        /// The HTTP status.
        status: u16,
        /// The registry's own words, and the way out where one is known; begins with a separator.
        detail: String,
        /// Whether the same request may work later.
        transient: bool,
        /// What the registry says when to ask again.
        retry_after: Option<Duration>,
    },
    /// The registry does not let us.
    #[error("registry {host} refused the {action} {repository}: {}; tried {tried}", stated(*status, detail))]
    Denied {
        /// Host and port.
        host: String,
        /// `pull from`, `push to`.
        action: &'static str,
        /// The repository.
        repository: String,
        /// The HTTP status, 401 or 403.
        status: u16,
        /// The registry's own words; begins with a separator.
        detail: String,
        /// Where the credential came from, and the way out.
        tried: String,
    },
    /// The push would be refused at its end.
    #[error("cannot push to {destination}: {reason}")]
    WouldBeDenied {
        /// The repository with its host.
        destination: String,
        /// What is missing, how that is known, and the way out.
        reason: String,
    },
    /// A login that the registry does not take.
    #[error("logging into {key:?}: invalid username/password")]
    Login {
        /// What the login was for.
        key: String,
    },
    /// A credential was not sent, because it would have left the place it is for.
    #[error("{host} wants the credential sent to {realm}: {reason}")]
    Realm {
        /// The registry.
        host: String,
        /// The token server it names.
        realm: String,
        /// Why not, and the way out.
        reason: String,
    },
    /// A redirect was not followed.
    #[error("the redirect from {from} to {to} was not followed: {reason}")]
    Redirect {
        /// The request.
        from: String,
        /// Where it was to go.
        to: String,
        /// Why not.
        reason: String,
    },
    /// There is no such image.
    #[error(
        "image {image} not found{detail}; check the name and the tag{}",
        if *anonymous { ", and whether a login is needed to see it" } else { "" }
    )]
    NotFound {
        /// The image.
        image: String,
        /// Whether no credential was tried.
        anonymous: bool,
        /// The registry's own words; begins with a separator.
        detail: String,
    },
    /// The image has a manifest of Docker's schema 1, which names no config.
    #[error(
        "image {image} has a Docker schema 1 manifest, which is not supported: pull and push it once with a current \
         docker or skopeo, which convert it"
    )]
    Schema1 {
        /// The image.
        image: String,
    },
    /// A layer that is not to be distributed can be had nowhere.
    #[error(
        "a layer of the base cannot be read{}: it is a foreign layer, which only the URLs in its descriptor have to have, and \
         no place gives it:{}\n  what is in it cannot be copied; use a base without such layers, or put the \
         layer where the base is",
        unless_said(digest, tried),
        asked(tried)
    )]
    Foreign {
        /// The layer.
        digest: Digest,
        /// Where it was looked for, and what came of it.
        tried: Vec<(String, crossdock_storage::Error)>,
    },
    /// A document is larger than any of its kind should be.
    #[error("{what} is larger than {limit} bytes, and was not read")]
    TooLarge {
        /// Which document.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// A document is not what the specification says.
    #[error("{what} is not valid")]
    Malformed {
        /// Which document.
        what: String,
        /// Why.
        source: serde_json::Error,
    },
    /// Bytes are not those that a digest names.
    #[error("{what}: expected {expected}, got {actual}")]
    Digest {
        /// Whose bytes.
        what: String,
        /// The digest that was expected.
        expected: Digest,
        /// The digest there is.
        actual: String,
    },
    /// The registry does not answer as the distribution specification says.
    #[error("{what}: {reason}")]
    Answer {
        /// What was asked.
        what: String,
        /// What is wrong with the answer.
        reason: String,
    },
    /// An error of the other side of a body: a source file that changed, a base that cannot be read.
    #[error(transparent)]
    Storage(#[from] crossdock_storage::Error),
}

impl Error {
    /// Whether the same request may work when it is made again.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Transfer { .. } | Self::Stalled { .. } => true,
            Self::Status { transient, .. } | Self::Proxy { transient, .. } => *transient,
            Self::BodyLimit { smaller, .. } => *smaller,
            Self::Storage(crossdock_storage::Error::Backend(inner)) => {
                inner.downcast_ref::<Self>().is_some_and(Self::is_transient)
            }
            _ => false,
        }
    }

    /// The same, as one after which another attempt makes sense.
    pub(crate) fn made_transient(self) -> Self {
        match self {
            Self::Status { what, status, detail, retry_after, .. } => {
                Self::Status { what, status, detail, transient: true, retry_after }
            }
            other => other,
        }
    }

    /// Whether it is about credentials: there is none, it cannot be read, or the registry refused it.
    #[must_use]
    pub fn is_credentials(&self) -> bool {
        match self {
            Self::Denied { .. }
            | Self::WouldBeDenied { .. }
            | Self::AuthfileRead { .. }
            | Self::Authfile { .. }
            | Self::Login { .. }
            | Self::Realm { .. } => true,
            // The last is the place itself, the others are mirrors of it.
            Self::Everywhere { tried, .. } => match tried.last() {
                Some((_, crossdock_storage::Error::Backend(last))) => {
                    last.downcast_ref::<Self>().is_some_and(Self::is_credentials)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// Whether the registry said 401: a new credential may help.
    pub(crate) const fn is_unauthorized(&self) -> bool {
        matches!(self, Self::Denied { status: 401, .. })
    }

    /// Whether the registry refused whoever asked (401, 403), whatever was asked for.
    pub(crate) const fn is_refusal(&self) -> bool {
        matches!(self, Self::Denied { .. })
    }

    /// The HTTP status, where there was an answer.
    pub(crate) const fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } | Self::Denied { status, .. } => Some(*status),
            Self::NotFound { .. } => Some(404),
            Self::BodyLimit { .. } => Some(413),
            _ => None,
        }
    }

    /// When the registry says to ask again.
    pub(crate) const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Sorts an error of the HTTP client; `what` is method and URL, `host` where the connection was to go.
    pub(crate) fn of_client(error: reqwest::Error, host: &str, what: &str) -> Self {
        // Its Display would repeat the URL, query and all.
        let source = error.without_url();
        if let Some(tls) = find_tls(&source) {
            return match tls {
                rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
                    Self::PlainHttp { host: host.to_owned() }
                }
                other => Self::Tls { host: host.to_owned(), reason: tls::reason(other) },
            };
        }
        let reason = innermost(&source);
        // hyper's words; it keeps nothing of the header.
        if reason == "invalid HTTP header parsed" {
            let reason = "its answer has a malformed header, with a control character in it or without a name; look at the \
                          server, or at a proxy before it"
                .to_owned();
            return Self::Answer { what: what.to_owned(), reason };
        }
        if source.is_connect() {
            Self::Connect { host: host.to_owned(), reason }
        } else {
            Self::Transfer { what: what.to_owned(), reason }
        }
    }
}

impl From<Error> for crossdock_storage::Error {
    fn from(error: Error) -> Self {
        match error {
            Error::Storage(error) => error,
            other => Self::backend(other),
        }
    }
}

/// A status and the words that came with it, which may begin with the status themselves.
fn stated(status: u16, detail: &str) -> String {
    let status = status.to_string();
    match detail.trim_start().strip_prefix(&status) {
        Some(rest) if !rest.starts_with(|c: char| c.is_ascii_alphanumeric()) => format!("{status}{rest}"),
        _ => format!("{status}{detail}"),
    }
}

/// A line for each place, with the causes of its error.
fn listed(tried: &[(String, crossdock_storage::Error)]) -> String {
    tried.iter().map(|(place, error)| format!("\n  {place}: {}", with_causes(error))).collect()
}

/// The same, without the place where its error names it.
fn asked(tried: &[(String, crossdock_storage::Error)]) -> String {
    let line = |(place, error): &(String, crossdock_storage::Error)| {
        let error = with_causes(error);
        if error.contains(place) { format!("\n  {error}") } else { format!("\n  {place}: {error}") }
    };
    tried.iter().map(line).collect()
}

/// The digest, unless one of the errors names it: it is long.
fn unless_said(digest: &Digest, tried: &[(String, crossdock_storage::Error)]) -> String {
    if asked(tried).contains(digest.digest()) { String::new() } else { format!(" ({digest})") }
}

fn with_causes(error: &crossdock_storage::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        text = format!("{text}: {error}");
        next = error.source();
    }
    text
}

/// The error of rustls in a chain of causes, where there is one. It hides inside `io::Error`s, whose `source` skips it.
fn find_tls<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

/// The text of the last cause in a chain.
fn innermost(error: &(dyn StdError + 'static)) -> String {
    let mut last = error;
    while let Some(next) = last.source() {
        last = next;
    }
    last.to_string()
}

const _: () = {
    const fn shared<T: Send + Sync + 'static>() {}
    shared::<Error>();
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_said_once() {
        for (detail, said) in [
            ("", "413"),
            (" 413 Request Entity Too Large nginx", "413 Request Entity Too Large nginx"),
            (" 4130 bytes", "413 4130 bytes"),
            (" DENIED: no", "413 DENIED: no"),
            (": 413", "413: 413"),
        ] {
            assert_eq!(stated(413, detail), said);
        }
    }

    #[test]
    fn a_foreign_layer_that_nobody_gives_is_named_once() {
        let digest: Digest = format!("sha256:{}", "a".repeat(64)).parse().unwrap();
        let what = format!("GET http://a.example/{digest}");
        let missing = Error::Status {
            what: what.clone(),
            status: 404,
            detail: String::new(),
            transient: false,
            retry_after: None,
        };
        let place = what.trim_start_matches("GET ").to_owned();
        let refused =
            || ("oci:base".to_owned(), crossdock_storage::Error::Unusable("it is not there".to_owned()));
        let both = vec![refused(), (place, missing.into())];
        let text = Error::Foreign { digest: digest.clone(), tried: both }.to_string();
        assert_eq!(text.matches(digest.digest()).count(), 1, "{text}");
        assert!(text.contains(&format!("\n  oci:base: it is not there\n  {what}: 404\n")), "{text}");
        let text = Error::Foreign { digest: digest.clone(), tried: vec![refused()] }.to_string();
        assert_eq!(text.matches(digest.digest()).count(), 1, "{text}");
    }
}
