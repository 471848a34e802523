//! Keys: the `Authorization` that opens a repository, fetched, kept until shortly before it expires, and fetched anew
//! when a registry refuses it.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use crossdock_storage::from_json;
use reqwest::Method;
use reqwest::header::HeaderValue;
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::auth::Challenge;
use crate::credentials::{Credential, Found, Origin};
use crate::endpoint::{is_loopback, same_origin, without_port};
use crate::error::{Error, Result};
use crate::host::{Access, Call, Host};
use crate::secret::Secret;

/// A token that does not say how long it is good for is good for this long (distribution specification); what is
/// read from files is read again as often.
const DEFAULT_LIFE: Duration = Duration::from_secs(60);

/// Answers of token servers are smaller.
const MAX_ANSWER: u64 = 1 << 20;

/// What opens a repository.
#[derive(Clone)]
pub(crate) struct Key {
    /// `None` where the registry wants none, or we have none.
    pub(crate) header: Option<HeaderValue>,
    expires: Instant,
    origin: Origin,
    /// The credential goes in the body of the request, as an identity token does.
    traded: bool,
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    /// A number of seconds, by the specification. Servers write texts, fractions and numbers below zero as well.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Key {
    pub(crate) fn is_fresh(&self) -> bool {
        self.expires > Instant::now()
    }

    /// Whether no credential stands behind it.
    pub(crate) const fn is_anonymous(&self) -> bool {
        matches!(self.origin, Origin::Nowhere { .. })
    }

    /// Where the credential came from and what else to do, for an error of this status.
    pub(crate) fn tried(&self, status: u16, access: &Access) -> String {
        match &self.origin {
            Origin::Nowhere { .. } => {}
            // The registry asks for nothing: no login helps.
            origin if self.header.is_none() && !self.traded => {
                return format!(
                    "no credential, for the registry asks for none ({origin} was not sent); a rule of its own or of a \
                     proxy before it refuses this"
                );
            }
            _ => {}
        }
        format!("{}; {}", self.origin, self.origin.way_out(status, access))
    }

    fn new(header: Option<HeaderValue>, life: Duration, origin: Origin) -> Self {
        // Shortly before: a request that begins now must still find it good.
        let margin = (life / 4).min(Duration::from_secs(30));
        Self { header, expires: Instant::now() + (life - margin), origin, traded: false }
    }
}

/// Authenticates: reads the credential from its source, now, and trades it for a token where the registry wants one.
pub(crate) async fn authenticate(host: &Host, challenge: Option<Challenge>, access: &Access) -> Result<Key> {
    let found = host.credentials().find_for(host.registry(), &access.repository).await?;
    match &found.credential {
        Credential::Anonymous => {}
        Credential::Basic { user, password } => host.veil().hide_password(user, password.expose()),
        Credential::Identity { token, .. } => host.veil().hide(token.expose()),
    }
    match challenge {
        None => Ok(Key::new(None, DEFAULT_LIFE, found.origin)),
        Some(Challenge::Basic) => Ok(Key::new(basic(&found.credential), DEFAULT_LIFE, found.origin)),
        Some(Challenge::Bearer { realm, service }) => {
            bearer(host, &realm, service.as_deref(), access, found).await
        }
    }
}

async fn bearer(
    host: &Host,
    realm: &str,
    service: Option<&str>,
    access: &Access,
    found: Found,
) -> Result<Key> {
    let mut url = Url::parse(realm).map_err(|error| Error::Realm {
        host: host.registry().to_owned(),
        realm: host.veil().cover(realm),
        reason: format!("that is not a URL: {error}"),
    })?;
    if found.credential != Credential::Anonymous {
        check_realm(host, &url, &found.origin)?;
    }
    let header = basic(&found.credential);
    let call = if let Credential::Identity { token, .. } = &found.credential {
        let form = HeaderValue::from_static("application/x-www-form-urlencoded");
        Call::new(access, Method::POST, url.clone(), &[200])
            .with_bytes(form, refresh_form(service, access, token))
    } else {
        let mut query = url.query_pairs_mut();
        if let Some(service) = service {
            query.append_pair("service", service);
        }
        for scope in access.scopes() {
            query.append_pair("scope", &scope);
        }
        drop(query);
        Call::new(access, Method::GET, url.clone(), &[200])
    };
    let traded = matches!(found.credential, Credential::Identity { .. });
    let key = Key { traded, ..Key::new(header, Duration::ZERO, found.origin) };
    let answer = match host.once(call, Some(&key)).await?.expect(&[200]).await {
        Ok(answer) => answer,
        // OpenShift, when its API server is in trouble: https://github.com/openshift/image-registry, token handler. Docker Hub has
        // the same form for a wrong password, which no second try mends.
        Err(Error::Denied { status, detail, .. })
            if detail.contains("\"details\"") && !detail.to_lowercase().contains("password") =>
        {
            return Err(Error::Status {
                what: format!("token server {}", host.shown(&url)),
                status,
                detail,
                transient: true,
                retry_after: None,
            });
        }
        Err(error) => return Err(error),
    };
    let what = format!("the answer of the token server {}", host.shown(&url));
    let body = answer.bytes(MAX_ANSWER, &what).await?;
    let unusable = |reason: &str| Error::Answer { what: what.clone(), reason: reason.to_owned() };
    // Not the error of serde_json: it may cite the token.
    let parsed: TokenAnswer = from_json(&body).map_err(|_| unusable("it is not JSON with a token"))?;
    let token = parsed
        .token
        .or(parsed.access_token)
        .filter(|t| !t.is_empty())
        .ok_or_else(|| unusable("there is no token in it"))?;
    host.veil().hide(&token);
    let life = life(&parsed.expires_in);
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| unusable("the token is not one for a header"))?;
    header.set_sensitive(true);
    Ok(Key::new(Some(header), life.min(Duration::from_secs(24 * 3600)), key.origin))
}

/// For how long a token is good; what is not a number of whole seconds above zero says nothing.
fn life(expires_in: &serde_json::Value) -> Duration {
    expires_in.as_u64().filter(|seconds| *seconds > 0).map_or(DEFAULT_LIFE, Duration::from_secs)
}

/// An identity token for a token: OAuth2's refresh grant (distribution specification, "OAuth2 token authentication").
fn refresh_form(service: Option<&str>, access: &Access, token: &Secret) -> Bytes {
    let mut form = url::form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "refresh_token");
    if let Some(service) = service {
        form.append_pair("service", service);
    }
    let scopes = access.scopes().join(" ");
    if !scopes.is_empty() {
        form.append_pair("scope", &scopes);
    }
    form.append_pair("client_id", "crossdock").append_pair("refresh_token", token.expose());
    form.finish().into()
}

/// Whether the credential may go to the token server that the registry names.
fn check_realm(host: &Host, realm: &Url, origin: &Origin) -> Result<()> {
    let refuse = |reason: &str| {
        Err(Error::Realm {
            host: host.registry().to_owned(),
            realm: host.shown(realm),
            reason: reason.to_owned(),
        })
    };
    let Some(home) = host.known_endpoint() else {
        return refuse("the registry did not answer yet");
    };
    let Some(there) = realm.host_str() else {
        return refuse("that URL has no host");
    };
    if !matches!(realm.scheme(), "https" | "http") {
        return refuse("only https carries credentials");
    }
    if realm.scheme() == "http" {
        let at_home = same_origin(realm, &home.ping());
        let tolerated = !host.verify() && (at_home || !home.is_https() || is_loopback(there));
        if !tolerated {
            return refuse(
                "over plain http it could be read on the way; pass --tls-verify=false if that is meant",
            );
        }
    }
    if let Origin::ServiceAccount { .. } = origin {
        let home = without_port(host.registry());
        if home != without_port(there) && !host.shared().credentials.service_account().is_for(there) {
            return refuse(
                "that is not an in-cluster host, and the ServiceAccount's token stays in the cluster; give --creds or \
                 --authfile, or name the host with --sa-registry",
            );
        }
    }
    Ok(())
}

fn basic(credential: &Credential) -> Option<HeaderValue> {
    let Credential::Basic { user, password } = credential else { return None };
    let text = format!("Basic {}", STANDARD.encode(format!("{user}:{}", password.expose())));
    // base64 is always valid in a header.
    let mut header = HeaderValue::from_str(&text).ok()?;
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_life_that_is_no_number_of_seconds_is_the_default_one() {
        for (answer, seconds) in [
            (r#"{"token":"t","expires_in":300}"#, 300),
            (r#"{"token":"t"}"#, 60),
            (r#"{"token":"t","expires_in":null}"#, 60),
            (r#"{"token":"t","expires_in":0}"#, 60),
            (r#"{"token":"t","expires_in":-1}"#, 60),
            (r#"{"token":"t","expires_in":"300"}"#, 60),
            (r#"{"token":"t","expires_in":"soon"}"#, 60),
            (r#"{"token":"t","expires_in":299.5}"#, 60),
            (r#"{"token":"t","expires_in":{"seconds":300}}"#, 60),
            (r#"{"access_token":"t","token":null,"expires_in":true}"#, 60),
        ] {
            let parsed: TokenAnswer = serde_json::from_str(answer).unwrap();
            assert_eq!(life(&parsed.expires_in).as_secs(), seconds, "{answer}");
            assert_eq!(parsed.token.or(parsed.access_token).as_deref(), Some("t"));
        }
    }
}
