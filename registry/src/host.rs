//! `Host`: one registry. A single attempt of a request, with the right key; what to do when it fails is for the
//! callers, who know what can be done again.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::header::{
    ACCEPT, AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode};
use serde::Deserialize;
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use url::Url;

use crate::auth::Challenge;
use crate::body::{Body, BodyHandle};
use crate::client::{Shared, lock};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, same_origin, shown};
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::retry::{Attempts, parse_retry_after};
use crate::token::{Key, authenticate};

/// Error bodies are read up to this many bytes.
const MAX_ERROR: usize = 64 << 10;

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

    const fn action(&self) -> &'static str {
        if self.push { "push to" } else { "pull from" }
    }
}

/// A request, to be made once.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    access: &'a Access,
    method: Method,
    url: Url,
    /// Which statuses are an answer; others are errors.
    accepted: &'a [u16],
    headers: Vec<(HeaderName, HeaderValue)>,
    content: Content,
    /// For how long there may be no answer after all is sent.
    patience: Option<Duration>,
}

enum Content {
    Nothing,
    Bytes(Bytes),
    Stream(Body, BodyHandle),
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

    fn what(&self) -> String {
        format!("{} {}", self.method, shown(&self.url))
    }

    /// The same again, unless there is a body that cannot be had twice.
    fn again(&self) -> Option<Self> {
        let content = match &self.content {
            Content::Nothing => Content::Nothing,
            Content::Bytes(bytes) => Content::Bytes(bytes.clone()),
            Content::Stream(..) => return None,
        };
        let (headers, method, url) = (self.headers.clone(), self.method.clone(), self.url.clone());
        Some(Self { headers, method, url, content, ..*self })
    }
}

/// A registry's answer.
pub(crate) struct Answer<'a> {
    response: Response,
    what: String,
    access: &'a Access,
    host: &'a Host,
    tried: Option<String>,
}

/// What a registries.conf says of how a registry is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub(crate) struct Manner {
    /// Without verified certificates.
    pub(crate) insecure: bool,
    /// In the place of another registry, which explicit credentials are for.
    pub(crate) elsewhere: bool,
}

/// One registry, and what was learnt of it.
pub(crate) struct Host {
    registry: String,
    manner: Manner,
    shared: Arc<Shared>,
    endpoint: OnceCell<Endpoint>,
    challenge: Mutex<Option<Challenge>>,
    /// The first challenge as it came, from which the kind of registry shows.
    first_words: OnceLock<String>,
    keys: Mutex<HashMap<Access, Arc<AsyncMutex<Option<Key>>>>>,
}

impl Host {
    pub(crate) fn new(registry: String, manner: Manner, shared: Arc<Shared>) -> Self {
        Self {
            registry,
            manner,
            shared,
            endpoint: OnceCell::new(),
            challenge: Mutex::default(),
            first_words: OnceLock::new(),
            keys: Mutex::default(),
        }
    }

    /// As references name it.
    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    pub(crate) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Whether its certificate is verified.
    pub(crate) fn verify(&self) -> bool {
        self.shared.options.tls_verify && !self.manner.insecure
    }

    /// Where credentials for it are from.
    pub(crate) fn credentials(&self) -> &Credentials {
        if self.manner.elsewhere { &self.shared.credentials_elsewhere } else { &self.shared.credentials }
    }

    pub(crate) fn known_endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.get()
    }

    /// What the registry asks for, where it was asked and wants something.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        lock(&self.challenge).clone()
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.shared.options.retry)
    }

    /// The registry's peculiarities, as far as is known by now.
    pub(crate) fn profile(&self) -> Profile {
        Profile::of_challenge(&self.registry, self.first_words.get().map_or("", String::as_str))
    }

    /// Where the registry answers; asks it, the first time, which also tells how to authenticate.
    pub(crate) async fn endpoint(&self) -> Result<&Endpoint> {
        self.endpoint.get_or_try_init(|| self.find_endpoint()).await
    }

    async fn find_endpoint(&self) -> Result<Endpoint> {
        let https = Endpoint::new(&self.registry, true)?;
        match self.ping(&https).await {
            Ok(()) => Ok(https),
            Err(
                error @ (Error::PlainHttp { .. }
                | Error::Connect { .. }
                | Error::Transfer { .. }
                | Error::Tls { .. }),
            ) if !self.verify() => {
                let http = Endpoint::new(&self.registry, false)?;
                match self.ping(&http).await {
                    Ok(()) => {
                        tracing::debug!(registry = self.registry, "spoken to in plain http");
                        Ok(http)
                    }
                    // The registry may well answer only in a moment: what it says in http is then of more use.
                    Err(in_http @ Error::Status { .. }) => Err(in_http),
                    Err(_) => Err(error),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn ping(&self, endpoint: &Endpoint) -> Result<()> {
        let access = Access::pull("");
        let answer = self.once(Call::new(&access, Method::GET, endpoint.ping(), &[]), None).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::UNAUTHORIZED {
            self.learn(&answer);
            let words = answer.header("www-authenticate").unwrap_or_default().to_owned();
            self.first_words.get_or_init(|| words);
            Ok(())
        } else if is_transient(status) {
            Err(answer.into_error().await)
        } else {
            // Some registries have no root to speak of.
            Ok(())
        }
    }

    /// Keeps how to authenticate. OpenShift answers an expired token with a Basic challenge though it goes on taking
    /// tokens, so Basic never takes the place of Bearer.
    fn learn(&self, answer: &Answer<'_>) {
        let Some(challenge) = Challenge::best(answer.response.headers()) else { return };
        let mut known = lock(&self.challenge);
        if challenge != Challenge::Basic || known.is_none() {
            *known = Some(challenge);
        }
    }

    /// The key for a repository; a new one where the one at hand is the one that was refused.
    pub(crate) async fn key(&self, access: &Access, refused: Option<&Key>) -> Result<Key> {
        let slot = Arc::clone(lock(&self.keys).entry(access.clone()).or_default());
        let mut slot = slot.lock().await;
        if let Some(key) = &*slot
            && key.is_fresh()
            && refused.is_none_or(|refused| refused.header != key.header)
        {
            return Ok(key.clone());
        }
        let challenge = lock(&self.challenge).clone();
        let key = authenticate(self, challenge, access).await?;
        *slot = Some(key.clone());
        Ok(key)
    }

    /// Makes a request, retried as often as the policy allows. Only for requests whose body can be had again.
    pub(crate) async fn request<'a>(
        &'a self,
        mut attempts: Attempts,
        make: impl Fn(&Endpoint) -> Call<'a> + Send,
    ) -> Result<Answer<'a>> {
        loop {
            let result = match self.endpoint().await {
                Ok(endpoint) => self.call(make(endpoint)).await,
                Err(error) => Err(error),
            };
            match result {
                Ok(answer) => return Ok(answer),
                Err(error) => attempts.failed(error).await?,
            }
        }
    }

    /// Makes a request with the repository's key. A key that is refused is had anew from its source, once, and the
    /// request made again if its body can be; a body that cannot is the caller's to make again, who then gets the
    /// new key.
    pub(crate) async fn call<'a>(&'a self, call: Call<'a>) -> Result<Answer<'a>> {
        let endpoint = self.endpoint().await?;
        let accepted = call.accepted;
        if !same_origin(&call.url, &endpoint.ping()) {
            return self.once(call, None).await?.expect(accepted).await;
        }
        let key = self.key(call.access, None).await?;
        let (access, again) = (call.access, call.again());
        let answer = self.once(call, Some(&key)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return answer.expect(accepted).await;
        }
        self.learn(&answer);
        let fresh = self.key(access, Some(&key)).await?;
        match again {
            Some(again) if fresh.header != key.header => {
                tracing::debug!(what = answer.what, "the key was refused, trying with a new one");
                self.once(again, Some(&fresh)).await?.expect(accepted).await
            }
            _ => answer.expect(accepted).await,
        }
    }

    /// Makes a request once, whatever the answer.
    pub(crate) async fn once<'a>(&'a self, call: Call<'a>, key: Option<&Key>) -> Result<Answer<'a>> {
        let what = call.what();
        let authority = authority(&call.url);
        let endpoint = Endpoint::new(&self.registry, call.url.scheme() == "https")?;
        let registry = same_origin(&call.url, &endpoint.ping());
        let client = self.shared.client(&authority, registry, self.verify())?;
        let mut request = client.request(call.method.clone(), call.url.clone());
        for (name, value) in call.headers {
            request = request.header(name, value);
        }
        if let Some(header) = key.and_then(|key| key.header.as_ref()) {
            request = request.header(AUTHORIZATION, header);
        }
        let timeouts = &self.shared.options.timeouts;
        let patience = call.patience.unwrap_or(timeouts.stall);
        let sent = match call.content {
            Content::Nothing | Content::Bytes(_) => {
                request = match call.content {
                    Content::Bytes(bytes) => {
                        self.shared.options.counters.add_sent(bytes.len() as u64);
                        request.body(bytes)
                    }
                    // Some servers want to be told that nothing comes.
                    _ if call.method != Method::GET && call.method != Method::HEAD => {
                        request.header(CONTENT_LENGTH, 0)
                    }
                    _ => request,
                };
                tokio::time::timeout(patience, request.send()).await.map_err(|_| patience)
            }
            Content::Stream(body, handle) => {
                let sent = tokio::select! {
                    biased;
                    sent = request.body(reqwest::Body::wrap(body)).send() => Ok(sent),
                    after = handle.stalled(timeouts.stall, patience) => Err(after),
                };
                handle.stop();
                sent
            }
        };
        match sent {
            Ok(Ok(response)) => {
                tracing::debug!(what, status = response.status().as_u16(), "answered");
                Ok(Answer { response, what, access: call.access, host: self, tried: key.map(Key::tried) })
            }
            Ok(Err(error)) => Err(Error::of_client(error, &authority, &what)),
            Err(after) => Err(Error::Stalled { what, after }),
        }
    }

    /// Makes a GET that may be redirected: to other hosts without key, and never from https to http.
    pub(crate) async fn get_following<'a>(
        &'a self,
        make: impl Fn(Url) -> Call<'a> + Send,
        url: Url,
    ) -> Result<Answer<'a>> {
        let mut url = url;
        for _ in 0..=10 {
            let answer = self.call(make(url.clone())).await?;
            if !answer.status().is_redirection() {
                return Ok(answer);
            }
            let refuse = |to: String, reason: &str| Error::Redirect {
                from: shown(&url),
                to,
                reason: reason.to_owned(),
            };
            let location =
                answer.location().ok_or_else(|| refuse("nowhere".to_owned(), "it has no Location"))?;
            let next =
                url.join(location).map_err(|_| refuse("nowhere".to_owned(), "its Location is not a URL"))?;
            if !matches!(next.scheme(), "http" | "https") {
                // What stands behind such a scheme has no query that could be left out.
                return Err(refuse(format!("a {}: URL", next.scheme()), "that is not a web address"));
            }
            if url.scheme() == "https" && next.scheme() == "http" {
                return Err(refuse(
                    shown(&next),
                    "it leads from https to http, where anybody could change the bytes",
                ));
            }
            url = next;
        }
        Err(Error::Redirect {
            from: shown(&url),
            to: shown(&url),
            reason: "more than 10 redirects".to_owned(),
        })
    }
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
        let mut detail = detail(&body);
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

/// Host and port of a URL, as references name registries.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

const fn is_transient(status: StatusCode) -> bool {
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
fn detail(body: &[u8]) -> String {
    let text = match serde_json::from_slice::<ErrorBody>(body) {
        Ok(body) => body.errors.iter().map(ErrorItem::text).collect::<Vec<_>>().join("; "),
        Err(_) => {
            let text = String::from_utf8_lossy(body);
            let text = text.trim();
            // A page for people to look at says less than the status.
            if text.starts_with('<') { String::new() } else { text.to_owned() }
        }
    };
    let mut text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(500).collect();
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

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("registry", &self.registry).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_in_the_registrys_words() {
        let body = br#"{"errors":[{"code":"DENIED","message":"requested access is denied","detail":"quota"},{"code":"X"}]}"#;
        assert_eq!(detail(body), " DENIED: requested access is denied (quota); X: ");
        assert_eq!(detail(b"plain\nwords\n"), " plain words");
        assert_eq!(detail(b"<html>..."), "");
        assert_eq!(detail(b""), "");
    }

    #[test]
    fn scopes_are_those_of_the_token_specification() {
        let push = Access::push("a/b");
        assert_eq!(push.scopes(), ["repository:a/b:pull,push"]);
        assert_eq!(push.mounting("c").scopes(), ["repository:a/b:pull,push", "repository:c:pull"]);
        assert_eq!(Access::pull("a").scopes(), ["repository:a:pull"]);
    }
}
