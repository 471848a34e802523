//! `Host`: one registry. A single attempt of a request, with the right key; what to do when it fails is for the
//! callers, who know what can be done again.

mod answer;
mod call;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};

use jiff::Timestamp;
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH};
use reqwest::{Method, StatusCode};
use tokio::sync::{Mutex as AsyncMutex, OnceCell};
use url::Url;

use crate::auth::Challenge;
use crate::body_limit::BodyLimit;
use crate::client::{Shared, lock};
use crate::credentials::Credentials;
use crate::endpoint::{Endpoint, same_origin, shown};
use crate::error::{Error, Result};
use crate::profile::Profile;
use crate::retry::Attempts;
use crate::token::{Key, authenticate};
use crate::veil::Veil;
use answer::is_transient;
pub(crate) use answer::{Answer, next_chunk, readable, words_of};
use call::Content;
pub(crate) use call::{Access, Call, READ};

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
    /// What its first answer shows it to be.
    shown: OnceLock<Option<Profile>>,
    keys: Mutex<HashMap<Access, Arc<AsyncMutex<Option<Key>>>>>,
    /// When a request with a key last worked.
    taken: Mutex<Option<Timestamp>>,
    body_limit: BodyLimit,
}

impl Host {
    pub(crate) fn new(registry: String, manner: Manner, shared: Arc<Shared>) -> Self {
        Self {
            body_limit: BodyLimit::new(&shared.options, &registry),
            registry,
            manner,
            shared,
            endpoint: OnceCell::new(),
            challenge: Mutex::default(),
            shown: OnceLock::new(),
            keys: Mutex::default(),
            taken: Mutex::default(),
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

    /// A URL for logs and errors; what a server made it of is covered.
    pub(crate) fn shown(&self, url: &Url) -> String {
        self.veil().cover(&shown(url))
    }

    pub(crate) fn veil(&self) -> &Veil {
        &self.shared.veil
    }

    /// What a proxy before the registry takes.
    pub(crate) const fn body_limit(&self) -> &BodyLimit {
        &self.body_limit
    }

    pub(crate) fn known_endpoint(&self) -> Option<&Endpoint> {
        self.endpoint.get()
    }

    /// What the registry asks for, where it was asked and wants something.
    pub(crate) fn challenge(&self) -> Option<Challenge> {
        lock(&self.challenge).clone()
    }

    /// When the registry last took a credential of ours.
    pub(crate) fn last_taken(&self) -> Option<Timestamp> {
        *lock(&self.taken)
    }

    pub(crate) fn attempts(&self) -> Attempts {
        Attempts::new(self.shared.options.retry)
    }

    /// The registry's peculiarities, as far as is known by now.
    pub(crate) fn profile(&self) -> Profile {
        Profile::of(&self.registry, self.shown.get().copied().flatten())
    }

    /// Where the registry answers; asks it, the first time, which also tells how to authenticate.
    pub(crate) async fn endpoint(&self) -> Result<&Endpoint> {
        self.endpoint.get_or_try_init(|| self.find_endpoint()).await
    }

    async fn find_endpoint(&self) -> Result<Endpoint> {
        let https = Endpoint::new(&self.registry, true)?.with_veil(self.veil());
        if self.verify() {
            return self.ping(&https).await.map(|_| https);
        }
        let http = Endpoint::new(&self.registry, false)?.with_veil(self.veil());
        if lock(&self.shared.plain).contains(&self.registry) {
            return Ok(http);
        }
        if self.speaks_https(&https, &http).await? {
            return Ok(https);
        }
        tracing::debug!(registry = self.registry, "spoken to in plain http");
        lock(&self.shared.plain).insert(self.registry.clone());
        Ok(http)
    }

    /// Whether a registry whose certificate is not verified speaks https, and not plain http. A server that leaves the
    /// TLS handshake unanswered is asked in plain http as well, but https counts if it answers first: it may be slow.
    async fn speaks_https(&self, https: &Endpoint, http: &Endpoint) -> Result<bool> {
        let mut in_https = std::pin::pin!(self.ping(https));
        let mut in_http = std::pin::pin!(self.ping_in_plain_http(http));
        let mut patience = std::pin::pin!(tokio::time::sleep(self.shared.options.timeouts.hello));
        let (mut waited, mut answer_in_http) = (false, None);
        let error = loop {
            tokio::select! {
                answer = &mut in_https => match answer {
                    Ok(_) => return Ok(true),
                    Err(error) => break error,
                },
                () = &mut patience, if !waited => waited = true,
                answer = &mut in_http, if waited && answer_in_http.is_none() => match answer {
                    Ok(()) => return Ok(false),
                    Err(error) => answer_in_http = Some(error),
                },
            }
        };
        if !matches!(
            error,
            Error::PlainHttp { .. }
                | Error::Connect { .. }
                | Error::Proxy { .. }
                | Error::Transfer { .. }
                | Error::Tls { .. }
        ) {
            return Err(error);
        }
        let in_http = match answer_in_http {
            Some(error) => Err(error),
            None => in_http.await,
        };
        match in_http {
            Ok(()) => Ok(false),
            // The registry may well answer only in a moment: what it says in http is then of more use.
            Err(in_http @ Error::Status { .. }) => Err(in_http),
            Err(_) => Err(error),
        }
    }

    async fn ping_in_plain_http(&self, http: &Endpoint) -> Result<()> {
        let limit = self.shared.options.timeouts.connect;
        let unanswered =
            |reason: &str| Error::Answer { what: self.shown(&http.ping()), reason: reason.to_owned() };
        match tokio::time::timeout(limit, self.ping(http)).await {
            // What a server on https says to plain http: what went wrong was in TLS, a client's certificate for one, and
            // a password would go where everybody can read it.
            Ok(Ok(StatusCode::BAD_REQUEST)) => Err(unanswered("it does not speak plain http")),
            Ok(answer) => answer.map(|_| ()),
            Err(_) => Err(unanswered("it does not answer")),
        }
    }

    async fn ping(&self, endpoint: &Endpoint) -> Result<StatusCode> {
        let access = Access::pull("");
        let answer = self.once(Call::new(&access, Method::GET, endpoint.ping(), &[]), None).await?;
        let status = answer.status();
        if status.is_success() || status == StatusCode::UNAUTHORIZED {
            self.learn(&answer)?;
            self.shown.get_or_init(|| Profile::of_answer(answer.response.headers()));
            Ok(status)
        } else if is_transient(status) {
            Err(answer.into_error().await)
        } else {
            // Some registries have no root to speak of.
            Ok(status)
        }
    }

    /// Keeps how to authenticate. OpenShift answers an expired token with a Basic challenge though it goes on taking
    /// tokens, so Basic never takes the place of Bearer.
    fn learn(&self, answer: &Answer<'_>) -> Result<()> {
        let malformed = |text: String| Error::Answer {
            what: answer.what.clone(),
            reason: format!("its WWW-Authenticate header is malformed: {}", self.veil().cover(&text)),
        };
        let Some(challenge) = Challenge::best(answer.response.headers()).map_err(malformed)? else {
            return Ok(());
        };
        let mut known = lock(&self.challenge);
        if challenge != Challenge::Basic || known.is_none() {
            *known = Some(challenge);
        }
        Ok(())
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
        self.learn(&answer)?;
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
        let what = self.veil().cover(&call.what());
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
        let body = call.content.len();
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
                if response.status().is_success() && key.is_some_and(|key| key.header.is_some()) {
                    *lock(&self.taken) = Some(Timestamp::now());
                }
                tracing::debug!(what, status = response.status().as_u16(), "answered");
                Ok(Answer { response, what, access: call.access, host: self, key: key.cloned(), body })
            }
            Ok(Err(error)) => Err(self.shared.failed(error, &call.url, &what).await),
            Err(after) => Err(Error::Stalled { what, after }),
        }
    }

    /// Makes a GET that may be redirected: to other hosts without key, and from https to http only where certificates
    /// are not verified, as then whoever is on the way can do anything already.
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
                from: self.shown(&url),
                to,
                reason: reason.to_owned(),
            };
            let location =
                answer.location()?.ok_or_else(|| refuse("nowhere".to_owned(), "it has no Location"))?;
            // What stands behind a question mark may be a signature.
            let to = || self.veil().cover(location.split('?').next().unwrap_or_default());
            let next = url.join(location).map_err(|_| refuse(to(), "its Location is not a URL"))?;
            if !matches!(next.scheme(), "http" | "https") {
                // What stands behind such a scheme has no query that could be left out.
                return Err(refuse(format!("a {}: URL", next.scheme()), "that is not a web address"));
            }
            if url.scheme() == "https" && next.scheme() == "http" && self.verify() {
                return Err(refuse(
                    self.shown(&next),
                    "it leads from https to http, where anybody could change the bytes; pass --tls-verify=false if that is \
                     meant",
                ));
            }
            url = next;
        }
        Err(Error::Redirect {
            from: self.shown(&url),
            to: self.shown(&url),
            reason: "more than 10 redirects".to_owned(),
        })
    }
}

/// Host and port of a URL, as references name registries.
pub(crate) fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"))
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("registry", &self.registry).finish_non_exhaustive()
    }
}
