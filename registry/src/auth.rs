//! Challenges: what a registry asks for with `WWW-Authenticate` (RFC 9110, section 11.6.1; the distribution
//! specification's token authentication).

use crossdock_storage::escape_controls;
use reqwest::header::{HeaderMap, WWW_AUTHENTICATE};

/// One way in that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// User name and password with each request.
    Basic,
    /// A token from `realm`.
    ///
    /// The scope of the challenge is not kept: GHCR names a repository `user/image` in it when it is asked for its
    /// root, and what is needed is known here anyway.
    Bearer { realm: String, service: Option<String> },
}

impl Challenge {
    /// The best of the challenges in an answer: Bearer before Basic, others not at all.
    ///
    /// # Errors
    /// The text of one that has control characters, with escapes for them, where there is no other.
    pub(crate) fn best(headers: &HeaderMap) -> Result<Option<Self>, String> {
        let (mut all, mut malformed) = (Vec::new(), None);
        for value in headers.get_all(WWW_AUTHENTICATE) {
            let text = String::from_utf8_lossy(value.as_bytes());
            if text.contains(|c: char| (c.is_control() && c != '\t') || c == '\u{fffd}') {
                malformed = malformed.or_else(|| Some(escape_controls(&text).into_owned()));
            } else {
                all.extend(parse(&text).into_iter().filter_map(Self::from_parts));
            }
        }
        match (all.iter().find(|c| matches!(c, Self::Bearer { .. })).or(all.first()), malformed) {
            (None, Some(malformed)) => Err(malformed),
            (best, _) => Ok(best.cloned()),
        }
    }

    fn from_parts((scheme, parameters): (String, Vec<(String, String)>)) -> Option<Self> {
        let take = |name: &str| {
            parameters
                .iter()
                .find(|(key, _)| key == name)
                .map(|(_, value)| value.clone())
                .filter(|v| !v.is_empty())
        };
        match scheme.as_str() {
            "basic" => Some(Self::Basic),
            "bearer" => Some(Self::Bearer { realm: take("realm")?, service: take("service") }),
            _ => None,
        }
    }
}

type Parts = (String, Vec<(String, String)>);

/// Splits a header value into challenges; scheme and parameter names in lower case. Several challenges may stand in
/// one value, separated by the same commas as their parameters.
fn parse(value: &str) -> Vec<Parts> {
    let mut challenges: Vec<Parts> = Vec::new();
    let mut rest = Scanner(value);
    loop {
        rest.skip(|c| c == ',' || c.is_ascii_whitespace());
        let word = rest.take(|c| !matches!(c, ',' | '=' | '"') && !c.is_ascii_whitespace());
        if word.is_empty() {
            // The end, or something that is none of the grammar's: what came before is still good.
            return challenges;
        }
        rest.skip(|c| c.is_ascii_whitespace());
        match challenges.last_mut() {
            Some((_, parameters)) if rest.eat('=') => {
                if rest.0.starts_with('=') {
                    // token68 padding: no scheme of ours has it.
                    rest.skip(|c| c == '=');
                    continue;
                }
                rest.skip(|c| c.is_ascii_whitespace());
                let value = rest.value();
                parameters.push((word.to_ascii_lowercase(), value));
            }
            // A word without `=` begins a challenge, as does the first word. A token68 looks like a challenge too, of a
            // scheme that nobody knows.
            _ => challenges.push((word.to_ascii_lowercase(), Vec::new())),
        }
    }
}

struct Scanner<'a>(&'a str);

impl<'a> Scanner<'a> {
    fn take(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.0.find(|c| !wanted(c)).unwrap_or(self.0.len());
        let (word, rest) = self.0.split_at(end);
        self.0 = rest;
        word
    }

    fn skip(&mut self, wanted: impl Fn(char) -> bool) -> bool {
        !self.take(wanted).is_empty()
    }

    fn eat(&mut self, c: char) -> bool {
        let eaten = self.0.strip_prefix(c);
        self.0 = eaten.unwrap_or(self.0);
        eaten.is_some()
    }

    /// A token or quoted string.
    fn value(&mut self) -> String {
        if !self.eat('"') {
            return self.take(|c| c != ',' && !c.is_ascii_whitespace()).to_owned();
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return value;
                }
                '\\' => value.extend(chars.next().map(|(_, c)| c)),
                c => value.push(c),
            }
        }
        self.0 = "";
        value
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn best(values: &[&'static str]) -> Option<Challenge> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(WWW_AUTHENTICATE, value.parse().unwrap());
        }
        Challenge::best(&headers).unwrap()
    }

    #[test]
    fn a_challenge_with_control_characters_is_malformed_where_there_is_no_other() {
        let mut headers = HeaderMap::new();
        let evil = "Bearer realm=\"https://r/\u{9b}2J\"";
        headers.append(WWW_AUTHENTICATE, reqwest::header::HeaderValue::from_bytes(evil.as_bytes()).unwrap());
        assert_eq!(Challenge::best(&headers), Err("Bearer realm=\"https://r/\\u{9b}2J\"".to_owned()));
        headers.append(WWW_AUTHENTICATE, "Basic".parse().unwrap());
        assert_eq!(Challenge::best(&headers), Ok(Some(Challenge::Basic)));
    }

    fn bearer(realm: &str, service: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
    }

    #[test]
    fn challenges_of_known_registries() {
        for (values, expected) in [
            (
                vec![r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io""#],
                bearer("https://auth.docker.io/token", Some("registry.docker.io")),
            ),
            (
                vec![r#"Bearer realm="https://r/token",service="r",scope="repository:a/b:pull,push""#],
                bearer("https://r/token", Some("r")),
            ),
            (vec![r#"Basic realm="Registry Realm""#], Some(Challenge::Basic)),
            (vec!["Basic"], Some(Challenge::Basic)),
            (vec![r#"Bearer realm="https://h/openshift/token""#], bearer("https://h/openshift/token", None)),
            (vec![r#"Basic realm=openshift,error="access denied""#], Some(Challenge::Basic)),
        ] {
            assert_eq!(best(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn several_challenges_in_a_header_or_in_several_headers() {
        let token = bearer("https://r/t", Some("a, b"));
        assert_eq!(best(&[r#"Basic realm="x, y", Bearer realm="https://r/t",service="a, b""#]), token);
        assert_eq!(
            best(&[r#"Negotiate, Basic realm="x""#, r#"bearer REALM = "https://r/t" , Service="a, b""#]),
            token
        );
        assert_eq!(best(&["Negotiate abc==, Basic"]), Some(Challenge::Basic));
        assert_eq!(best(&["NTLM"]), None);
    }

    #[test]
    fn quoted_strings_have_escapes() {
        assert_eq!(best(&[r#"Bearer realm="https://r/\"q\"\\""#]), bearer(r#"https://r/"q"\"#, None));
    }

    #[test]
    fn a_bearer_challenge_needs_a_realm() {
        assert_eq!(best(&[r#"Bearer service="x""#]), None);
    }

    proptest! {
        #[test]
        fn no_header_breaks_the_parser(value in "[ -~]{0,80}") {
            let _ = parse(&value);
        }
    }
}
