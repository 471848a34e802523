//! `Veil`: the secrets that were sent, taken out of what servers say before it is shown.
//!
//! A server may give back what it got: in the text of an error, in a `Location`, in the realm of a challenge. What is
//! known to be a secret is covered there, in the forms that it may come back in.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use url::Url;

use crate::client::lock;

/// Shorter secrets, in bytes, are covered in their longer forms alone: they stand in every text.
const SHORTEST: usize = 4;

/// Secrets that are kept: a push of many hours has a new token every minute, and the old ones no longer matter.
const KEPT: usize = 64;

/// Secrets, shared by all who may hear of them.
#[derive(Clone, Default)]
pub(crate) struct Veil(Arc<Mutex<VecDeque<Hidden>>>);

struct Hidden {
    secret: String,
    /// The longest first: one may hold another.
    forms: Vec<String>,
}

impl Veil {
    /// Covers this from now on.
    pub(crate) fn hide(&self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        let mut hidden = lock(&self.0);
        // A password is sent with each new token: it stays, however many tokens there were.
        let known = hidden.iter().position(|known| known.secret == secret).and_then(|at| hidden.remove(at));
        if hidden.len() == KEPT {
            hidden.pop_front();
        }
        hidden.push_back(known.unwrap_or_else(|| Hidden { secret: secret.to_owned(), forms: forms(secret) }));
    }

    /// Covers a user name with its password, as they are sent together.
    pub(crate) fn hide_password(&self, user: &str, password: &str) {
        self.hide(password);
        if !password.is_empty() {
            self.hide(&format!("{user}:{password}"));
        }
    }

    /// `text` with `***` in the place of every secret.
    pub(crate) fn cover(&self, text: &str) -> String {
        let hidden = lock(&self.0);
        let mut forms: Vec<_> = hidden
            .iter()
            .flat_map(|hidden| &hidden.forms)
            .filter(|form| text.contains(form.as_str()))
            .collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        forms.into_iter().fold(text.to_owned(), |text, form| text.replace(form.as_str(), "***"))
    }
}

/// As it is, in base64, in a URL and in JSON.
fn forms(secret: &str) -> Vec<String> {
    let mut forms = vec![secret.to_owned()];
    forms.extend([&STANDARD, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD].map(|engine| engine.encode(secret)));
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    if let Ok(mut url) = Url::parse("http://host/") {
        url.set_path(secret);
        forms.push(url.path().trim_start_matches('/').to_owned());
    }
    forms.push(serde_json::Value::from(secret).to_string().trim_matches('"').to_owned());
    forms.retain(|form| form.len() >= SHORTEST);
    forms.sort();
    forms.dedup();
    forms
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_covered_in_every_form() {
        let veil = Veil::default();
        veil.hide_password("me", "Pa55?>~\"word");
        for form in [
            "Pa55?>~\"word".to_owned(),
            "Pa55?>~\\\"word".to_owned(),
            "Pa55%3F%3E%7E%22word".to_owned(),
            "Pa55%3F%3E~%22word".to_owned(),
            STANDARD.encode("Pa55?>~\"word"),
            URL_SAFE_NO_PAD.encode("me:Pa55?>~\"word"),
        ] {
            assert_eq!(veil.cover(&format!("a {form} b {form}")), "a *** b ***", "{form}");
        }
        assert_eq!(veil.cover("me and nothing else"), "me and nothing else");
    }

    #[test]
    fn a_short_secret_does_not_take_every_text_apart() {
        let veil = Veil::default();
        veil.hide_password("user", "a");
        assert_eq!(veil.cover("a name user:a"), "a name ***");
        veil.hide("");
        assert_eq!(veil.cover("text"), "text");
    }

    #[test]
    fn a_password_outlives_the_tokens_that_it_is_sent_for() {
        let veil = Veil::default();
        for number in 0..3 * KEPT {
            veil.hide_password("user", "the password");
            veil.hide(&format!("token-{number:03}"));
            assert_eq!(veil.cover("the password"), "***", "after {number} tokens");
        }
    }

    #[test]
    fn the_last_secrets_are_kept() {
        let veil = Veil::default();
        for number in 0..=KEPT {
            veil.hide(&format!("secret-{number:03}"));
        }
        assert_eq!(veil.cover("secret-000 secret-001 secret-064"), "secret-000 *** ***");
    }
}
