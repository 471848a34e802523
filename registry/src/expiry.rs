//! Credentials that die while they are used. A registry answers an expired token and a missing right alike; only its root
//! and its token server tell them apart, for they take every good credential.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use crossdock_storage::from_json;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::credentials::{Credential, Found};
use crate::error::Error;
use crate::host::{Access, Call, Host};

/// Whether the registry still takes the credential at hand. Where nobody answers, it is as good as dead for now.
pub(crate) async fn is_taken(host: &Host, access: &Access) -> bool {
    let Ok(endpoint) = host.endpoint().await else { return false };
    match host.call(Call::new(access, Method::GET, endpoint.ping(), &[200])).await {
        Ok(_) => true,
        // Who is known and may not even look at the root lacks a right: no new credential gives it.
        Err(Error::Denied { status: 403, .. }) => true,
        // Some registries have no root to speak of.
        Err(error) => !error.is_refusal() && !error.is_transient(),
    }
}

/// Says that a credential has died, and when, as far as its own words or this process's requests tell; `None` where
/// neither does, or where the registry still takes it.
pub(crate) async fn died(host: &Host, access: &Access, found: &Found) -> Option<String> {
    let said = expiry_of(&found.credential).filter(|expiry| *expiry <= Timestamp::now());
    let seen = host.last_taken().filter(|_| found.credential != Credential::Anonymous);
    if said.is_none() && seen.is_none() || is_taken(host, access).await {
        return None;
    }
    let says = said.map(|expiry| format!("the token says that it expired at {}", shown(expiry)));
    let text = match (seen, says) {
        (Some(seen), Some(says)) => {
            format!("it was taken until {} and is not any more: it has expired ({says})", shown(seen))
        }
        (Some(seen), None) => {
            format!(
                "it was taken until {} and is not any more: it has expired, or was withdrawn",
                shown(seen)
            )
        }
        (None, says) => format!("it has expired: {}", says?),
    };
    Some(format!("{text}; log in again or pass a new one with --creds or --authfile"))
}

/// When a credential expires by its own words, where it is a JSON web token.
fn expiry_of(credential: &Credential) -> Option<Timestamp> {
    #[derive(Deserialize)]
    struct Claims {
        exp: f64,
    }
    let token = match credential {
        Credential::Anonymous => return None,
        Credential::Basic { password, .. } => password.expose(),
        Credential::Identity { token, .. } => token.expose(),
    };
    let claims: Claims = claims(token)?;
    #[expect(clippy::cast_possible_truncation, reason = "a time out of range is refused below")]
    Timestamp::from_second(claims.exp as i64).ok()
}

/// The claims of a JSON web token; its signature is the registry's to check.
pub(crate) fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?;
    from_json(&URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?).ok()
}

fn shown(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::Secret;

    #[test]
    fn a_token_says_itself_when_it_expires() {
        let credential = |payload: &str| {
            let password = Secret::new(format!("h.{}.s", URL_SAFE_NO_PAD.encode(payload)));
            Credential::Basic { user: "x".to_owned(), password }
        };
        for (payload, expected) in [
            (r#"{"exp":784111777}"#, Some("1994-11-06 08:49:37 UTC")),
            (r#"{"exp":784111777.5,"sub":"x"}"#, Some("1994-11-06 08:49:37 UTC")),
            (r#"{"exp":1e300}"#, None),
            (r#"{"exp":"soon"}"#, None),
            (r#"{"sub":"x"}"#, None),
            ("not JSON", None),
        ] {
            assert_eq!(expiry_of(&credential(payload)).map(shown).as_deref(), expected, "{payload}");
        }
        let opaque = Credential::Basic { user: "x".to_owned(), password: Secret::new("sha256~abc") };
        assert_eq!(expiry_of(&opaque), None);
    }
}
