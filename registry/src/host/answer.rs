//! A registry's answer, and what is wrong where it is none.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use crossdock_storage::{escape_controls, from_json};
use jiff::Timestamp;
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::{Response, StatusCode};
use serde::Deserialize;
use url::Url;

use crate::body_limit::RAISE;
use crate::error::{Error, Result};
use crate::host::{Access, Host, authority};
use crate::proxy;
use crate::retry::parse_retry_after;
use crate::token::Key;
use crate::veil::Veil;

/// Error bodies are read up to this many bytes.
const MAX_ERROR: usize = 64 << 10;

/// Characters of a server's own words that are shown.
const MAX_WORDS: usize = 500;

/// A registry's answer.
pub(crate) struct Answer<'a> {
    pub(super) response: Response,
    pub(super) what: String,
    pub(super) access: &'a Access,
    pub(super) host: &'a Host,
    /// What the request was made with; nothing where it went to another host than the registry.
    pub(super) key: Option<Key>,
    /// Bytes of the request's body, where that is known.
    pub(super) body: Option<u64>,
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

    /// Where the answer sends to.
    pub(crate) fn location(&self) -> Result<Option<&str>> {
        readable(self.response.headers(), "location").map_err(|text| Error::Answer {
            what: self.what.clone(),
            reason: format!("its Location header is malformed: {}", self.host.veil().cover(&text)),
        })
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
        let mut detail = words_of(&body, self.host.veil());
        let code = status.as_u16();
        let proxy = match self.url().scheme() {
            "http" => self.host.shared.proxies.before(&authority(self.url()), false).ok().flatten(),
            _ => None,
        };
        if let Some(proxy) = proxy {
            if code == 407 {
                return proxy::unauthorized(&proxy, &authority(self.url()), &detail);
            }
            detail = format!("{detail} (through the proxy {})", proxy::named(&proxy));
        }
        if matches!(code, 401 | 403) {
            return Error::Denied {
                host: self.host.registry.clone(),
                action: self.access.action(),
                repository: self.access.repository.clone(),
                status: code,
                detail,
                tried: match &self.key {
                    Some(key) => key.tried(code, self.access),
                    None => "no credentials, this being another host".to_owned(),
                },
            };
        }
        // With a body as the specification has it, it is the registry's own word of a layer, and smaller chunks help nothing.
        if code == 413 && from_json::<ErrorBody>(&body).is_err() {
            return Error::BodyLimit {
                what: self.what,
                host: self.host.registry.clone(),
                bytes: self.body.unwrap_or_default(),
                detail,
                next: RAISE.to_owned(),
                smaller: false,
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

/// A header that names a place; what is no text without control characters is an error, with escapes for them. Some servers
/// write names in UTF-8 as they are.
pub(crate) fn readable<'h>(headers: &'h HeaderMap, name: &str) -> Result<Option<&'h str>, String> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    match std::str::from_utf8(value.as_bytes()) {
        Ok(text) if !text.contains(char::is_control) => Ok(Some(text)),
        _ => Err(escape_controls(&String::from_utf8_lossy(value.as_bytes())).into_owned()),
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

/// The server's own words for an error: from the body that the distribution specification describes, from text, or from
/// a page for people to look at, as proxies and firewalls have them. They begin with a space where there are any.
pub(crate) fn words_of(body: &[u8], veil: &Veil) -> String {
    let text = match from_json::<ErrorBody>(body) {
        Ok(body) => {
            let texts: Vec<_> =
                body.errors.iter().map(ErrorItem::text).filter(|text| !text.is_empty()).collect();
            texts.join("; ")
        }
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            // In the encodings of old pages a letter here and there is none of UTF-8.
            let odd = text.chars().filter(|c| matches!(c, '\u{fffd}' | '\0')).count();
            if odd * 10 > text.chars().count() {
                format!("a body of {} bytes that is no text", body.len())
            } else if text.starts_with('<') {
                words_of_page(text)
            } else {
                text.to_owned()
            }
        }
    };
    // Before it is cut: a part of a secret is not known for one.
    let text: String =
        veil.cover(&text).chars().map(|c| if c.is_whitespace() { ' ' } else { c }).take(MAX_WORDS).collect();
    let gap = if text.is_empty() { "" } else { " " };
    format!("{gap}{}", escape_controls(&text))
}

/// What a page of HTML shows: its text, or its title where it has no other.
fn words_of_page(page: &str) -> String {
    let mut shown = (String::new(), String::new());
    let (mut in_title, mut rest) = (false, page);
    while let Some((text, after)) = rest.split_once('<') {
        if in_title { &mut shown.0 } else { &mut shown.1 }.push_str(text);
        shown.1.push(' ');
        let (tag, after) = after.split_once('>').unwrap_or((after, ""));
        let name =
            tag.split(|c: char| c.is_ascii_whitespace()).next().unwrap_or_default().to_ascii_lowercase();
        in_title = name == "title";
        rest = match name.as_str() {
            // What stands in these is for nobody to read.
            "script" | "style" => after.find(&format!("</{name}")).map_or("", |end| &after[end..]),
            name if name.starts_with("!--") => rest.find("-->").map_or("", |end| &rest[end + 3..]),
            _ => after,
        };
    }
    shown.1.push_str(rest);
    let words = |text: &str| {
        let plain =
            [("&nbsp;", " "), ("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&#39;", "'"), ("&amp;", "&")]
                .iter()
                .fold(text.to_owned(), |text, (entity, plain)| text.replace(entity, plain));
        plain.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let body = words(&shown.1);
    if body.is_empty() { words(&shown.0) } else { body }
}

impl ErrorItem {
    fn text(&self) -> String {
        let message = self.message.as_deref().unwrap_or_default();
        let detail = match &self.detail {
            serde_json::Value::String(text) if !text.is_empty() && text != message => format!("({text})"),
            _ => String::new(),
        };
        let mut words = [message, &detail].map(str::trim).to_vec();
        words.retain(|part| !part.is_empty());
        match (self.code.is_empty(), words.is_empty()) {
            (true, _) => words.join(" "),
            (false, true) => self.code.clone(),
            (false, false) => format!("{}: {}", self.code, words.join(" ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_in_the_registrys_words() {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access is denied","detail":"quota"},{"code":"X"}]}"#;
        assert_eq!(words_of(body, &Veil::default()), " DENIED: requested access is denied (quota); X");
        let body = br#"{"errors":[{"code":null,"message":"no","detail":null},null]}"#;
        assert_eq!(words_of(body, &Veil::default()), " no");
        assert_eq!(words_of(b"plain\nwords\n", &Veil::default()), " plain words");
        let page = b"<!DOCTYPE html>\n<html><head><title>Blocked</title><style>p { color: red }</style></head>\n\
            <body><!-- <p>id</p> --><h1>Request&nbsp;blocked</h1><script>go(1 < 2)</script><p class=x>by rule &lt;7&gt; \x1b[2J</p>";
        assert_eq!(words_of(page, &Veil::default()), " Request blocked by rule <7> \\u{1b}[2J");
        assert_eq!(words_of(b"<html><title>Forbidden</title></html>", &Veil::default()), " Forbidden");
        for odd in ["<", "<html", "<!--", "<script>", "<p>&lt;"] {
            let _ = words_of(odd.as_bytes(), &Veil::default());
        }
        assert_eq!(words_of("x".repeat(10_000).as_bytes(), &Veil::default()).len(), MAX_WORDS + 1);
        assert_eq!(words_of(b"", &Veil::default()), "");
    }

    #[test]
    fn a_body_that_is_no_text_is_counted_and_not_shown() {
        let mut gzip = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
        gzip.extend((0..2000_u32).map(|at| u8::try_from(at * 37 % 251).unwrap()));
        assert_eq!(words_of(&gzip, &Veil::default()), " a body of 2008 bytes that is no text");
        assert_eq!(words_of(&[0xff; 30], &Veil::default()), " a body of 30 bytes that is no text");
        // Latin-1.
        let page = b"<html><body>Zugriff f\xfcr diesen Benutzer verweigert</body></html>";
        assert_eq!(words_of(page, &Veil::default()), " Zugriff f\u{fffd}r diesen Benutzer verweigert");
        assert_eq!(words_of(b"no \x1b[2J\x07", &Veil::default()), " no \\u{1b}[2J\\u{7}");
    }

    #[test]
    fn a_header_with_control_characters_is_not_read() {
        let mut headers = HeaderMap::new();
        for (value, read) in [
            (&b"/v2/x"[..], Ok(Some("/v2/x"))),
            ("/v2/\u{fc}".as_bytes(), Ok(Some("/v2/\u{fc}"))),
            ("/v2/\u{9b}2J".as_bytes(), Err("/v2/\\u{9b}2J".to_owned())),
            (b"/v2/\x9b", Err("/v2/\u{fffd}".to_owned())),
            (b"/v2/\tx", Err("/v2/\tx".to_owned())),
        ] {
            headers.insert("location", reqwest::header::HeaderValue::from_bytes(value).unwrap());
            assert_eq!(readable(&headers, "location"), read);
        }
        assert_eq!(readable(&headers, "link"), Ok(None));
    }
}
