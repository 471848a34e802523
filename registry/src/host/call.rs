//! A request, and what it wants of a repository.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use reqwest::Method;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderName, HeaderValue};
use url::Url;

use crate::body::{Body, BodyHandle};
use crate::endpoint::shown;

/// The answers to a GET that may be redirected, and may be of a range.
pub(crate) const READ: [u16; 7] = [200, 206, 301, 302, 303, 307, 308];

/// What is wanted of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Access {
    pub(crate) repository: String,
    pub(crate) push: bool,
    /// Another repository of the registry, to mount a blob from.
    pub(crate) mount_from: Option<String>,
}

impl Access {
    pub(crate) fn pull(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: false, mount_from: None }
    }

    pub(crate) fn push(repository: &str) -> Self {
        Self { repository: repository.to_owned(), push: true, mount_from: None }
    }

    pub(crate) fn mounting(&self, from: &str) -> Self {
        Self { mount_from: Some(from.to_owned()), ..self.clone() }
    }

    /// In the words of the token specification.
    pub(crate) fn scopes(&self) -> Vec<String> {
        if self.repository.is_empty() {
            // A login: the registry itself, and nothing in it.
            return Vec::new();
        }
        let actions = if self.push { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{actions}", self.repository);
        let other = self.mount_from.as_ref().map(|from| format!("repository:{from}:pull"));
        std::iter::once(own).chain(other).collect()
    }

    pub(crate) const fn action(&self) -> &'static str {
        if self.push { "push to" } else { "pull from" }
    }
}

/// A request, to be made once.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    pub(super) access: &'a Access,
    pub(super) method: Method,
    pub(super) url: Url,
    /// Which statuses are an answer; others are errors.
    pub(super) accepted: &'a [u16],
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) content: Content,
    /// For how long there may be no answer after all is sent.
    pub(super) patience: Option<Duration>,
}

pub(super) enum Content {
    Nothing,
    Bytes(Bytes),
    Stream(Body, BodyHandle),
}

impl Content {
    /// Bytes of the body, where that is known.
    pub(super) fn len(&self) -> Option<u64> {
        match self {
            Self::Nothing => Some(0),
            Self::Bytes(bytes) => Some(bytes.len() as u64),
            Self::Stream(body, _) => body.len(),
        }
    }
}

/// Without the bytes: a form may hold a secret.
impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nothing => f.write_str("Nothing"),
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::Stream(..) => f.write_str("Stream"),
        }
    }
}

impl<'a> Call<'a> {
    pub(crate) const fn new(access: &'a Access, method: Method, url: Url, accepted: &'a [u16]) -> Self {
        Self { access, method, url, accepted, headers: Vec::new(), content: Content::Nothing, patience: None }
    }

    #[must_use]
    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    #[must_use]
    pub(crate) fn with_accept(self, types: &'static str) -> Self {
        self.with_header(ACCEPT, HeaderValue::from_static(types))
    }

    #[must_use]
    pub(crate) fn with_bytes(mut self, media_type: HeaderValue, bytes: Bytes) -> Self {
        self.content = Content::Bytes(bytes);
        self.with_header(CONTENT_TYPE, media_type)
    }

    #[must_use]
    pub(crate) fn with_body(mut self, body: Body, handle: BodyHandle) -> Self {
        self.content = Content::Stream(body, handle);
        self.with_header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
    }

    #[must_use]
    pub(crate) const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = Some(patience);
        self
    }

    pub(super) fn what(&self) -> String {
        format!("{} {}", self.method, shown(&self.url))
    }

    /// The same again, unless there is a body that cannot be had twice.
    pub(super) fn again(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Nothing => Content::Nothing,
            Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Content::Stream(..) => return None,
        };
        let (headers, method, url) = (self.headers.clone(), self.method.clone(), self.url.clone());
        Some(Self { headers, method, url, content, ..*self })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_are_those_of_the_token_specification() {
        let push = Access::push("a/b");
        assert_eq!(push.scopes(), ["repository:a/b:pull,push"]);
        assert_eq!(push.mounting("c").scopes(), ["repository:a/b:pull,push", "repository:c:pull"]);
        assert_eq!(Access::pull("a").scopes(), ["repository:a:pull"]);
    }
}
