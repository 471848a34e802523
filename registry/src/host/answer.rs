//! A registry's answer, and what is wrong where it is none.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crossdock_storage::from_json;
use jiff::Timestamp;
use reqwest::header::RETRY_AFTER;
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::error::{Error, Result};
use crate::host::{Access, Host, authority};
use crate::retry::parse_retry_after;
use crate::veil::Veil;

/// Error bodies are read up to this many bytes.
const MAX_ERROR: usize = 64 << 10;

/// A registry's answer.
pub(crate) struct Answer<'a> {
    pub(super) response: Response,
    pub(super) what: String,
    pub(super) access: &'a Access,
    pub(super) host: &'a Host,
    pub(super) tried: Option<String>,
}

impl<'a> Answer<'a> {
    pub(crate) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(crate) fn what(&self) -> &str {
        &self.what
    }

    pub(crate) fn url(&self) -> &Url {
        self.response.url()
    }

    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name).and_then(|value| value.to_str().ok())
    }

    pub(crate) fn location(&self) -> Option<&str> {
        self.header("location")
    }

    /// Bytes announced.
    pub(crate) fn content_length(&self) -> Option<u64> {
        self.header("content-length").and_then(|text| text.parse().ok())
    }

    /// The next bytes of the body.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>> {
        let stall = self.host.shared.options.timeouts.stall;
        next_chunk(&mut self.response, &self.what, stall).await
    }

    /// The body alone, to be read on with [`next_chunk`].
    pub(crate) fn into_response(self) -> Response {
        self.response
    }

    /// The whole body, if it is of at most `limit` bytes; `what` names it.
    pub(crate) async fn bytes(mut self, limit: u64, what: &str) -> Result<Bytes> {
        let too_large = || Error::TooLarge { what: what.to_owned(), limit };
        if self.content_length().is_some_and(|len| len > limit) {
            return Err(too_large());
        }
        let mut all = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if (all.len() + chunk.len()) as u64 > limit {
                return Err(too_large());
            }
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    /// This answer, if its status is one of these.
    pub(crate) async fn expect(self, accepted: &[u16]) -> Result<Self> {
        if accepted.contains(&self.status().as_u16()) { Ok(self) } else { Err(self.into_error().await) }
    }

    /// The error that this answer is.
    pub(crate) async fn into_error(mut self) -> Error {
        let status = self.status();
        let retry_after =
            self.header(RETRY_AFTER.as_str()).and_then(|text| parse_retry_after(text, Timestamp::now()));
        let mut body = BytesMut::new();
        // What breaks here says nothing new.
        while let Ok(Some(chunk)) = self.chunk().await {
            body.extend_from_slice(&chunk[..chunk.len().min(MAX_ERROR - body.len())]);
            if body.len() >= MAX_ERROR {
                break;
            }
        }
        let mut detail = detail(&body, self.host.veil());
        let code = status.as_u16();
        if matches!(code, 401 | 403) {
            return Error::Denied {
                host: self.host.registry.clone(),
                action: self.access.action(),
                repository: self.access.repository.clone(),
                status: code,
                detail,
                tried: self.tried.unwrap_or_else(|| "no credentials, this being another host".to_owned()),
            };
        }
        // OpenShift in trouble, and OpenShift given a repository it can never have, look the same.
        let empty_400 = code == 400 && body.is_empty();
        if empty_400 {
            detail = " without a word; an OpenShift registry says so for a repository that is not PROJECT/NAME, and \
                      when its API server is in trouble"
                .to_owned();
        }
        Error::Status {
            what: self.what,
            status: code,
            detail,
            transient: empty_400 || is_transient(status),
            retry_after,
        }
    }
}

/// The next bytes of an answer's body; what stands still for `stall` is broken.
pub(crate) async fn next_chunk(
    response: &mut Response,
    what: &str,
    stall: Duration,
) -> Result<Option<Bytes>> {
    match tokio::time::timeout(stall, response.chunk()).await {
        Err(_) => Err(Error::Stalled { what: what.to_owned(), after: stall }),
        Ok(Ok(chunk)) => Ok(chunk),
        Ok(Err(error)) => {
            let host = authority(response.url());
            Err(Error::of_client(error, &host, what))
        }
    }
}

pub(super) const fn is_transient(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504)
}

#[derive(Deserialize)]
struct ErrorBody {
    errors: Vec<ErrorItem>,
}

#[derive(Deserialize)]
struct ErrorItem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: Option<String>,
    #[serde(default)]
    detail: serde_json::Value,
}

/// A registry's own words for an error, from the body that the distribution specification describes or from text.
fn detail(body: &[u8], veil: &Veil) -> String {
    let text = match from_json::<ErrorBody>(body) {
        Ok(body) => body.errors.iter().map(ErrorItem::text).collect::<Vec<_>>().join("; "),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            // A page for people to look at says less than the status.
            if text.starts_with('<') { String::new() } else { text.to_owned() }
        }
    };
    // Before it is cut: a part of a secret is not known for one.
    let mut text: String =
        veil.cover(&text).chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
    if !text.is_empty() {
        text.insert(0, ' ');
    }
    text
}

impl ErrorItem {
    fn text(&self) -> String {
        let message = self.message.as_deref().unwrap_or_default();
        let detail = match &self.detail {
            serde_json::Value::String(text) if !text.is_empty() && text != message => format!(" ({text})"),
            _ => String::new(),
        };
        format!("{}: {message}{detail}", self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_in_the_registrys_words() {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access is denied","detail":"quota"},{"code":"X"}]}"#;
        assert_eq!(detail(body, &Veil::default()), " DENIED: requested access is denied (quota); X: ");
        let body = br#"{"errors":[{"code":null,"message":"no","detail":null},null]}"#;
        assert_eq!(detail(body, &Veil::default()), " : no");
        assert_eq!(detail(b"plain\nwords\n", &Veil::default()), " plain words");
        assert_eq!(detail(b"<html>...", &Veil::default()), "");
        assert_eq!(detail(b"", &Veil::default()), "");
    }
}
