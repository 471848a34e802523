//! Files with credentials: containers' `auth.json`, Docker's `config.json` and `.dockercfg`, Kubernetes'
//! `.dockerconfigjson` and `.dockercfg`, which have the same shapes (containers-auth.json(5)).

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use crossdock_storage::from_json;
use serde::Deserialize;
use serde_json::Value;

use super::Credential;
use super::helper::{Failure, Helpers};
use crate::error::{Error, Result};
use crate::secret::Secret;

/// Files larger than this many bytes are not credential files.
const MAX_SIZE: u64 = 4 << 20;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The name by which Docker's own programs know Docker Hub.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";

/// What a file has for a repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Match {
    /// The key that it stands under.
    pub(super) key: String,
    /// The helper that the file names for it.
    pub(super) helper: Option<String>,
    pub(super) credential: Credential,
}

/// A file's entries.
pub(super) struct Authfile {
    path: PathBuf,
    auths: BTreeMap<String, Entry>,
    helpers: BTreeMap<String, String>,
    store: Option<String>,
    /// `.dockercfg`, whose keys are all hosts or URLs.
    legacy: bool,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: Option<String>,
    username: Option<String>,
    password: Option<String>,
    identitytoken: Option<String>,
    registrytoken: Option<String>,
}

#[derive(Deserialize)]
struct Current {
    #[serde(default)]
    auths: Option<BTreeMap<String, Entry>>,
    #[serde(default, rename = "credHelpers")]
    helpers: Option<BTreeMap<String, String>>,
    #[serde(default, rename = "credsStore")]
    store: Option<String>,
}

impl Authfile {
    /// Reads a file that must be there.
    pub(super) fn read(path: &Path) -> Result<Self> {
        let fail = |source| Error::AuthfileRead { path: path.to_path_buf(), source };
        let size = std::fs::metadata(path).map_err(fail)?.len();
        if size > MAX_SIZE {
            return Err(malformed(path, &format!("it has {size} bytes, and is no file of credentials")));
        }
        let text = std::fs::read(path).map_err(fail)?;
        Self::parse(path, &text)
    }

    /// Reads a file that may be missing.
    pub(super) fn read_if_there(path: &Path) -> Result<Option<Self>> {
        match Self::read(path) {
            Ok(file) => Ok(Some(file)),
            Err(Error::AuthfileRead { source, .. })
                if matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn parse(path: &Path, text: &[u8]) -> Result<Self> {
        // serde_json's texts name line and column and no content, but for a wrong type's value: a secret might be
        // that value. So only the place is said.
        let fail = |error: &serde_json::Error| {
            malformed(
                path,
                &format!("not a file of credentials (line {}, column {})", error.line(), error.column()),
            )
        };
        if text.trim_ascii().is_empty() {
            return Ok(Self::empty(path));
        }
        let value: Value = serde_json::from_slice(text).map_err(|error| fail(&error))?;
        let fields = match value {
            Value::Object(fields) => fields,
            Value::Null => return Ok(Self::empty(path)),
            _ => return Err(malformed(path, "not a file of credentials: a JSON object is expected")),
        };
        if ["auths", "credHelpers", "credsStore"].iter().any(|name| fields.contains_key(*name)) {
            let current: Current = from_json(text).map_err(|_| {
                malformed(
                    path,
                    "not a file of credentials: auths, credHelpers or credsStore is of a wrong type",
                )
            })?;
            return Ok(Self {
                auths: current.auths.unwrap_or_default(),
                helpers: current.helpers.unwrap_or_default(),
                store: current.store.filter(|name| !name.is_empty()),
                ..Self::empty(path)
            });
        }
        let auths = fields
            .into_iter()
            .filter_map(|(key, value)| serde_json::from_value(value).ok().map(|entry| (key, entry)))
            .collect();
        Ok(Self { auths, legacy: true, ..Self::empty(path) })
    }

    fn empty(path: &Path) -> Self {
        Self {
            path: path.to_path_buf(),
            auths: BTreeMap::new(),
            helpers: BTreeMap::new(),
            store: None,
            legacy: false,
        }
    }

    /// The entry for a repository with its key: credHelpers of the host, then the longest path prefix, then keys
    /// that are URLs or aliases of the host, then what keeps all the others (Docker's `credsStore`).
    pub(super) fn find(&self, registry: &str, repository: &str, helpers: &Helpers) -> Result<Option<Match>> {
        if let Some((key, helper)) = self.helper_of(registry) {
            // A helper that has nothing speaks for the whole file, as with containers/image.
            let answer = helpers.get(helper, key);
            return self.of_helper(
                key,
                helper,
                answer.map_err(|failure| self.helper_failed(key, helper, &failure))?,
            );
        }
        let host = canonical_host(registry);
        let (mut stored, mut key_of_store) = (false, registry);
        for (key, entry) in self.entries(registry, repository) {
            match self.usable(key, entry)? {
                Some(credential) => {
                    return Ok(Some(Match { key: key.clone(), helper: None, credential }));
                }
                // Docker's mark for "the store has it".
                None => (stored, key_of_store) = (true, key),
            }
        }
        let Some(store) = &self.store else { return Ok(None) };
        let server = if host == "index.docker.io" { DOCKER_HUB } else { registry };
        match helpers.get(store, server) {
            Ok(answer) => self.of_helper(server, store, answer),
            // A file of another machine, and no word in it that this registry's credential is there.
            Err(Failure::Missing) if !stored => {
                tracing::debug!(store, path = %self.path.display(), "the credential store is not installed");
                Ok(None)
            }
            Err(failure) => Err(self.helper_failed(key_of_store, store, &failure)),
        }
    }

    /// The helper that keeps a host's credential, with the name by which it knows the host.
    pub(super) fn helper_of(&self, registry: &str) -> Option<(&str, &str)> {
        let aliases: &[&str] = match canonical_host(registry) {
            "index.docker.io" => &["docker.io", "index.docker.io", DOCKER_HUB, "registry-1.docker.io"],
            _ => &[],
        };
        std::iter::once(&registry).chain(aliases).find_map(|key| {
            let (key, helper) = self.helpers.get_key_value(*key)?;
            (!helper.is_empty()).then_some((key.as_str(), helper.as_str()))
        })
    }

    /// The entries that are for a repository, the best first.
    fn entries<'f>(
        &'f self,
        registry: &str,
        repository: &str,
    ) -> impl Iterator<Item = (&'f String, &'f Entry)> {
        let whole = format!("{registry}/{repository}");
        let exact: Vec<_> =
            std::iter::successors(Some(whole.as_str()), |key| key.rsplit_once('/').map(|(above, _)| above))
                .filter(|_| !self.legacy)
                .filter_map(|key| self.auths.get_key_value(key))
                .collect();
        let host = canonical_host(registry).to_owned();
        let aliases = self.auths.iter().filter(move |(key, _)| self.host_of(key) == Some(host.as_str()));
        exact.into_iter().chain(aliases)
    }

    fn of_helper(&self, key: &str, helper: &str, answer: Option<Credential>) -> Result<Option<Match>> {
        Ok(answer.map(|credential| Match {
            key: key.to_owned(),
            helper: Some(helper.to_owned()),
            credential,
        }))
    }

    /// The host that a key is for as a whole; `None` for a path prefix.
    fn host_of<'k>(&self, key: &'k str) -> Option<&'k str> {
        let stripped = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://"));
        match (stripped, self.legacy) {
            (None, false) if key.contains('/') => None,
            (rest, _) => Some(canonical_host(rest.unwrap_or(key).split('/').next().unwrap_or_default())),
        }
    }

    fn usable(&self, key: &str, entry: &Entry) -> Result<Option<Credential>> {
        let said = |field: &Option<String>| field.clone().filter(|text| !text.is_empty());
        if said(&entry.registrytoken).is_some() {
            // containers/image does not know it: https://github.com/containers/image, pkg/docker/config.
            let path = self.path.display();
            tracing::warn!(%path, key, "the registrytoken of this entry is not used, as podman does not use it");
        }
        let auth = entry.auth.as_deref().map(str::trim).filter(|text| !text.is_empty());
        if let Some(token) = said(&entry.identitytoken) {
            let user = auth.and_then(decode).map(|(user, _)| user).filter(|user| !user.is_empty());
            let user = user.or_else(|| said(&entry.username)).unwrap_or_else(|| "<token>".to_owned());
            return Ok(Some(Credential::Identity { user, token: Secret::new(token) }));
        }
        let pair = match (auth, said(&entry.username)) {
            // OpenShift's user name `<token>` is a plain one here: only a helper's marks an identity token.
            (Some(auth), _) => decode(auth),
            (None, Some(user)) => Some((user, Secret::new(entry.password.clone().unwrap_or_default()))),
            (None, None) => return Ok(None),
        };
        let Some((user, password)) = pair else {
            return Err(malformed(
                &self.path,
                &format!("the auth of the entry {key} is not base64 of USER:PASSWORD"),
            ));
        };
        Ok(Some(Credential::Basic { user, password }))
    }

    fn helper_failed(&self, key: &str, helper: &str, failure: &Failure) -> Error {
        malformed(
            &self.path,
            &format!(
                "the credential of {key} is kept by docker-credential-{helper}, but {failure}; give --creds, or \
                 --authfile with a file that holds the credential itself"
            ),
        )
    }
}

impl fmt::Debug for Authfile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authfile")
            .field("path", &self.path)
            .field("keys", &self.auths.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

fn decode(auth: &str) -> Option<(String, Secret)> {
    let decoded = String::from_utf8(BASE64.decode(auth).ok()?).ok()?;
    let (user, password) = decoded.split_once(':')?;
    Some((user.to_owned(), Secret::new(password.trim_matches('\0'))))
}

/// Docker Hub goes by several names.
fn canonical_host(host: &str) -> &str {
    match host {
        "docker.io" | "registry-1.docker.io" => "index.docker.io",
        other => other,
    }
}

fn malformed(path: &Path, reason: &str) -> Error {
    Error::Authfile { path: path.to_path_buf(), reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(user: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, BASE64.encode(format!("{user}:p:{user}")))
    }

    fn file(text: &str) -> Authfile {
        Authfile::parse(Path::new("auth.json"), text.as_bytes()).unwrap()
    }

    fn no_helpers() -> Helpers {
        Helpers { path: None, patience: std::time::Duration::from_secs(1) }
    }

    fn found(file: &Authfile, registry: &str, repository: &str) -> String {
        match file.find(registry, repository, &no_helpers()).unwrap() {
            Some(Match { credential: Credential::Basic { user, .. }, .. }) => user,
            _ => "-".to_owned(),
        }
    }

    #[test]
    fn the_longest_prefix_wins() {
        let keys = ["quay.io", "quay.io/org", "quay.io/org/team/model", "r.example:5000", "r.example"];
        let entries: Vec<_> =
            keys.iter().map(|key| format!(r#""{key}":{}"#, entry(&key.replace(':', "_")))).collect();
        let file = file(&format!(r#"{{"auths":{{{}}}}}"#, entries.join(",")));
        for (registry, repository, user) in [
            ("quay.io", "other/x", "quay.io"),
            ("quay.io", "org/x", "quay.io/org"),
            ("quay.io", "organ/x", "quay.io"),
            ("quay.io", "org/team/x", "quay.io/org"),
            ("quay.io", "org/team/model", "quay.io/org/team/model"),
            ("r.example:5000", "a", "r.example_5000"),
            ("r.example", "a", "r.example"),
            ("r.example:6000", "a", "-"),
            ("io", "quay", "-"),
        ] {
            assert_eq!(found(&file, registry, repository), user, "{registry}/{repository}");
        }
    }

    #[test]
    fn keys_may_be_urls_and_docker_hub_has_aliases() {
        for (key, registry, matches) in [
            ("https://index.docker.io/v1/", "docker.io", true),
            ("index.docker.io", "docker.io", true),
            ("registry-1.docker.io", "docker.io", true),
            ("docker.io", "docker.io", true),
            ("https://quay.io/v2/", "quay.io", true),
            ("http://r.example:5000", "r.example:5000", true),
            ("https://r.example", "r.example:5000", false),
            ("quay.io/v2/", "quay.io", false),
        ] {
            let file = file(&format!(r#"{{"auths":{{"{key}":{}}}}}"#, entry("u")));
            assert_eq!(
                found(&file, registry, "library/x"),
                if matches { "u" } else { "-" },
                "{key} for {registry}"
            );
        }
    }

    #[test]
    fn null_is_absent() {
        for text in [
            "null",
            r#"{"auths":null,"credHelpers":null,"credsStore":null}"#,
            r#"{"auths":{"quay.io":null}}"#,
        ] {
            assert_eq!(found(&file(text), "quay.io", "a/b"), "-", "{text}");
        }
        let entry = r#"{"auth":null,"username":"u","password":null,"email":null,"identitytoken":null}"#;
        for text in [
            format!(
                r#"{{"auths":{{"quay.io":{entry},"other":null}},"credHelpers":{{"quay.io":null}},"credsStore":null}}"#
            ),
            format!(r#"{{"quay.io":{entry},"other":null}}"#),
        ] {
            assert_eq!(found(&file(&text), "quay.io", "a/b"), "u", "{text}");
        }
    }

    #[test]
    fn a_dockercfg_is_entries_without_auths() {
        let file =
            file(&format!(r#"{{"https://quay.io/v1/":{},"r.example/v1":{}}}"#, entry("q"), entry("r")));
        assert_eq!(found(&file, "quay.io", "a/b"), "q");
        assert_eq!(found(&file, "r.example", "a/b"), "r");
    }

    #[test]
    fn the_token_user_of_openshift_is_a_plain_name() {
        let file = file(&format!(r#"{{"auths":{{"r.svc:5000":{}}}}}"#, entry("<token>")));
        let found = file.find("r.svc:5000", "ns/x", &no_helpers()).unwrap();
        let Some(Match { credential: Credential::Basic { user, password }, .. }) = found else { panic!() };
        assert_eq!((user.as_str(), password.expose()), ("<token>", "p:<token>"));
    }

    #[test]
    fn kubernetes_may_give_user_and_password_apart() {
        let file = file(r#"{"auths":{"quay.io":{"username":"u","password":"p","email":"e"}}}"#);
        assert_eq!(found(&file, "quay.io", "x"), "u");
    }

    #[test]
    fn what_cannot_be_used_is_refused_only_where_it_matches() {
        let text = r#"{"auths":{"store.example":{}},
                       "credHelpers":{"ecr.example":"ecr-login"},"credsStore":"desktop"}"#;
        let file = file(text);
        for (host, part) in [("store.example", "credential-desktop"), ("ecr.example", "ecr-login")] {
            let error = file.find(host, "x", &no_helpers()).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
        assert!(file.find("other.example", "x", &no_helpers()).unwrap().is_none());
    }

    #[test]
    fn a_registrytoken_counts_for_nothing() {
        let text = format!(
            r#"{{"auths":{{"a":{{"registrytoken":"t"}},"b":{{"registrytoken":"t",{}}}}}"#,
            &entry("u")[1..]
        );
        let file = file(&text);
        assert_eq!((found(&file, "a", "x").as_str(), found(&file, "b", "x").as_str()), ("-", "u"));
    }

    #[test]
    fn errors_do_not_show_secrets() {
        for text in [
            r#"{"auths":{"quay.io":{"auth":"c2VjcmV0LXdpdGhvdXQtY29sb24="}}}"#,
            r#"{"auths":{"quay.io":{"auth":["secret-text"]}}}"#,
            r#"{"auths":{"quay.io":{"auth":"secret-text"}}"#,
            r#"{"auths":"secret-text"}"#,
        ] {
            let error = match Authfile::parse(Path::new("auth.json"), text.as_bytes()) {
                Err(error) => error,
                Ok(file) => file.find("quay.io", "x", &no_helpers()).unwrap_err(),
            };
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("auth.json") && !shown.contains("secret"), "{shown}");
        }
    }

    #[test]
    fn empty_files_and_null_fields_are_no_credentials() {
        for text in ["", " \n", "{}", r#"{"auths":null}"#, r#"{"auths":{"quay.io":{}}}"#] {
            assert_eq!(found(&file(text), "quay.io", "x"), "-", "{text}");
        }
    }
}
