//! Credentials: which one is for a repository, and where it came from.
//!
//! The order is that of containers/image: what was given explicitly, exactly one file where one is named, else the
//! default files, first match wins; Tekton's secrets count as the file that Tekton copies them into. After these come the
//! pod's ServiceAccount, for in-cluster registries only, and nobody. Files are read anew at each call: tokens in them are
//! replaced while a push is under way.
//!
//! A file that somebody named must be readable. A default one that cannot be read is warned of once, and counts as absent:
//! on many machines they lie in directories of other users.

mod authfile;
mod helper;
mod origin;
mod runtime;
#[cfg(test)]
mod search_tests;
mod service_account;
mod source;
mod tekton;

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crossdock_storage::blocking;

use crate::client::lock;
use crate::error::{Error, Result};
use crate::secret::Secret;
use authfile::{Authfile, Match};
pub(crate) use helper::{Failure, Helpers};
pub(crate) use origin::Origin;
use runtime::RuntimeFiles;
pub use service_account::ServiceAccountOptions;
pub use source::{CredentialSource, SourceOutcome};

/// Docker's file of credentials, below a home directory.
const DOCKER_FILE: &str = ".docker/config.json";

/// How long a credential helper may take; it may itself ask a cloud.
const HELPER_PATIENCE: Duration = Duration::from_secs(60);

/// Where credentials may come from.
#[derive(Debug, Clone, Default)]
pub struct CredentialOptions {
    /// User name and password, as `--creds` gives them.
    pub explicit: Option<(String, Secret)>,
    /// The only registry that `explicit` is for, as a reference names it; `None` where it is for all that are asked.
    pub explicit_registry: Option<String>,
    /// The one file to look in, as `--authfile` gives it; it must be there.
    pub authfile: Option<PathBuf>,
    /// What the environment says about where files are.
    pub env: CredentialEnv,
    /// The pod's ServiceAccount.
    pub service_account: ServiceAccountOptions,
}

/// The part of the environment that says where credential files are.
#[derive(Debug, Clone, Default)]
pub struct CredentialEnv {
    /// `REGISTRY_AUTH_FILE`: one file that must be there.
    pub registry_auth_file: Option<PathBuf>,
    /// `DOCKER_CONFIG`: a directory whose `config.json` must be there.
    pub docker_config: Option<PathBuf>,
    /// `XDG_RUNTIME_DIR`.
    pub xdg_runtime_dir: Option<PathBuf>,
    /// `XDG_CONFIG_HOME`.
    pub xdg_config_home: Option<PathBuf>,
    /// `HOME`.
    pub home: Option<PathBuf>,
    /// `TMPDIR`.
    pub tmpdir: Option<PathBuf>,
    /// The directory that is used as `/run`; `None` for `/run` itself.
    pub run_dir: Option<PathBuf>,
    /// The user's number, for the places that have it in their names.
    pub uid: u32,
    /// `PATH`: where the programs `docker-credential-NAME` are.
    pub path: Option<OsString>,
    /// Where Tekton mounts the secrets of a step's ServiceAccount.
    pub tekton_secrets: Option<PathBuf>,
    /// Where Tekton puts what it makes of these secrets when a step starts, before it copies it to `$HOME`.
    pub tekton_creds: Option<PathBuf>,
}

impl CredentialEnv {
    /// Takes the variables from `lookup`, which is `std::env::var_os` in a program; empty ones count as unset.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let lookup = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let path = |name: &str| lookup(name).map(PathBuf::from);
        Self {
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            docker_config: path("DOCKER_CONFIG"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
            tmpdir: path("TMPDIR"),
            run_dir: None,
            uid,
            path: lookup("PATH"),
            tekton_secrets: Some(PathBuf::from("/tekton/creds-secrets")),
            tekton_creds: Some(PathBuf::from("/tekton/creds")),
        }
    }
}

/// Who to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    Anonymous,
    Basic {
        user: String,
        password: Secret,
    },
    /// A token that is traded for others at the token server (OAuth2's refresh grant).
    Identity {
        user: String,
        token: Secret,
    },
}

impl Credential {
    /// The user name, where there is one.
    pub(crate) fn user(&self) -> Option<&str> {
        match self {
            Self::Anonymous => None,
            Self::Basic { user, .. } | Self::Identity { user, .. } => Some(user),
        }
    }
}

/// A credential with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) credential: Credential,
    pub(crate) origin: Origin,
}

/// Finds the credential for a repository. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Credentials {
    options: Arc<CredentialOptions>,
    /// Files that were warned of.
    warned: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Credentials {
    pub(crate) fn new(options: CredentialOptions) -> Self {
        Self { options: Arc::new(options), warned: Arc::default() }
    }

    pub(crate) fn options(&self) -> &CredentialOptions {
        &self.options
    }

    pub(crate) fn service_account(&self) -> &ServiceAccountOptions {
        &self.options.service_account
    }

    pub(crate) fn helpers(&self) -> Helpers {
        Helpers { path: self.options.env.path.clone(), patience: HELPER_PATIENCE }
    }

    /// [`Credentials::find`] where it may take its time: helpers are programs.
    pub(crate) async fn find_for(&self, registry: &str, repository: &str) -> Result<Found> {
        self.explain(registry, repository).await.1
    }

    /// The same, with all the places that were looked at.
    pub(crate) async fn explain(
        &self,
        registry: &str,
        repository: &str,
    ) -> (Vec<CredentialSource>, Result<Found>) {
        let (credentials, registry, repository) = (self.clone(), registry.to_owned(), repository.to_owned());
        let search = move || {
            let mut looked = Vec::new();
            let found = credentials.search(&registry, &repository, &mut looked);
            (looked, found)
        };
        blocking(search).await
    }

    /// The credential for `repository` on `registry`, both as a reference names them, read now.
    ///
    /// # Errors
    /// Where a file that must be there is not, cannot be read, is malformed, or has an entry for the repository that
    /// cannot be used; where a helper fails.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Found> {
        self.search(registry, repository, &mut Vec::new())
    }

    fn search(&self, registry: &str, repository: &str, looked: &mut Vec<CredentialSource>) -> Result<Found> {
        if let Some((user, password)) = &self.options.explicit {
            let place = Path::new("--creds");
            if self.options.explicit_registry.as_deref().is_none_or(|only| only == registry) {
                let credential = Credential::Basic { user: user.clone(), password: password.clone() };
                looked
                    .push(CredentialSource::new(place, SourceOutcome::Matched { key: registry.to_owned() }));
                return Ok(Found { credential, origin: Origin::Explicit });
            }
            looked.push(CredentialSource::new(place, SourceOutcome::NoMatch));
        }
        for place in self.places() {
            let found = match place {
                Place::File { path, required } => self
                    .in_file(&path, required, registry, repository, looked)?
                    .map(|found| Found::in_file(path, found)),
                Place::Docker { copies, secrets } => {
                    self.in_docker(copies, secrets.as_deref(), registry, repository, looked)?
                }
            };
            if let Some(found) = found {
                return Ok(found);
            }
        }
        let service_account = &self.options.service_account;
        if service_account.is_for(registry) {
            let token = service_account.dir.join("token");
            let read = match service_account.read() {
                Ok(read) => read,
                Err(error) => {
                    looked.push(CredentialSource::unreadable(&token, &error));
                    if service_account.named {
                        return Err(error);
                    }
                    self.leave_out(&token, &error);
                    None
                }
            };
            if let Some((password, token)) = read {
                let key = registry.to_owned();
                looked.push(CredentialSource::new(&token, SourceOutcome::Matched { key }));
                let credential = Credential::Basic { user: service_account::USER.to_owned(), password };
                return Ok(Found { credential, origin: Origin::ServiceAccount { token } });
            }
            if !looked.iter().any(|source| Path::new(&source.place) == token) {
                looked.push(CredentialSource::new(&token, SourceOutcome::Absent));
            }
        }
        let looked = looked.iter().map(|source| PathBuf::from(&source.place)).collect();
        Ok(Found { credential: Credential::Anonymous, origin: Origin::Nowhere { looked } })
    }

    fn in_file(
        &self,
        path: &Path,
        required: bool,
        registry: &str,
        repository: &str,
        looked: &mut Vec<CredentialSource>,
    ) -> Result<Option<Match>> {
        let read = if required { Authfile::read(path).map(Some) } else { Authfile::read_if_there(path) };
        let result = read.and_then(|file| match file {
            Some(file) => file.find(registry, repository, &self.helpers()).map(|found| (true, found)),
            None => Ok((false, None)),
        });
        looked.push(match &result {
            Ok((false, _)) => CredentialSource::new(path, SourceOutcome::Absent),
            Ok((true, None)) => CredentialSource::new(path, SourceOutcome::NoMatch),
            Ok((true, Some(found))) => {
                CredentialSource::new(path, SourceOutcome::Matched { key: found.key.clone() })
            }
            Err(error) => CredentialSource::unreadable(path, error),
        });
        match result {
            Err(error @ Error::AuthfileRead { .. }) if !required => {
                self.leave_out(path, &error);
                Ok(None)
            }
            result => result.map(|(_, found)| found),
        }
    }

    /// Warns, once, of a file that nobody named and that cannot be read.
    fn leave_out(&self, path: &Path, error: &Error) {
        if lock(&self.warned).insert(path.to_path_buf()) {
            let reason =
                std::error::Error::source(error).map_or_else(|| error.to_string(), ToString::to_string);
            tracing::warn!("{} cannot be read, and is left out: {reason}", path.display());
        }
    }

    /// Tekton's secrets, the file that Tekton makes of them when a step starts (`/tekton/creds/.docker/config.json`), and
    /// that file's copy below `$HOME`, which Tekton cannot make where `$HOME` is read-only. Several may have an entry:
    /// what was written last counts. That is the secret where the kubelet renewed it after the step began, and the copy
    /// where a login in the step changed it.
    fn in_docker(
        &self,
        copies: Vec<PathBuf>,
        secrets: Option<&Path>,
        registry: &str,
        repository: &str,
        looked: &mut Vec<CredentialSource>,
    ) -> Result<Option<Found>> {
        let live =
            secrets.and_then(|secrets| tekton::find(secrets, registry, repository, &self.helpers(), looked));
        let mut copied: Option<(PathBuf, Match)> = None;
        for path in copies {
            let found = match self.in_file(&path, false, registry, repository, looked) {
                Ok(found) => found,
                // A secret is as good as what was made of it.
                Err(_) if live.is_some() => None,
                Err(error) => return Err(error),
            };
            let later = |other: &Path| tekton::written(&path) > tekton::written(other);
            if let Some(found) = found
                && copied.as_ref().is_none_or(|(other, _)| later(other))
            {
                copied = Some((path, found));
            }
        }
        Ok(match (live, copied) {
            (Some(live), Some((path, _))) if tekton::written(&path) <= live.written => {
                Some(Found::in_file(live.path, live.found))
            }
            (_, Some((path, found))) => Some(Found::in_file(path, found)),
            (Some(live), None) => Some(Found::in_file(live.path, live.found)),
            (None, None) => None,
        })
    }

    /// Where to look, in order.
    fn places(&self) -> Vec<Place> {
        let env = &self.options.env;
        if let Some(path) = self.named_file() {
            return vec![Place::File { path, required: true }];
        }
        let file = |path| Place::File { path, required: false };
        let config =
            env.xdg_config_home.clone().or_else(|| env.home.as_ref().map(|home| home.join(".config")));
        let home = |name: &str| env.home.as_ref().map(|home| home.join(name));
        let copies: Vec<_> = home(DOCKER_FILE)
            .into_iter()
            .chain(env.tekton_creds.as_ref().map(|directory| directory.join(DOCKER_FILE)))
            .collect();
        let RuntimeFiles { login, others, .. } = RuntimeFiles::of(env);
        std::iter::once(login)
            .chain(others)
            .chain(config.map(|directory| directory.join("containers/auth.json")))
            .map(file)
            .chain([Place::Docker { copies, secrets: env.tekton_secrets.clone() }])
            .chain(home(".dockercfg").map(file))
            .collect()
    }

    /// The one file that was named, where one was.
    fn named_file(&self) -> Option<PathBuf> {
        let env = &self.options.env;
        let named = self.options.authfile.as_ref().or(env.registry_auth_file.as_ref()).cloned();
        named.or_else(|| env.docker_config.as_ref().map(|directory| directory.join("config.json")))
    }

    /// The file that a login is kept in: the one that is named, else the first of the default ones.
    pub(crate) fn login_file(&self) -> PathBuf {
        self.named_file().unwrap_or_else(|| RuntimeFiles::of(&self.options.env).login)
    }

    /// Makes sure that nobody else can read what is written to [`Credentials::login_file`].
    pub(crate) fn claim_login_directory(&self) -> Result<()> {
        if self.named_file().is_some() {
            return Ok(());
        }
        let files = RuntimeFiles::of(&self.options.env);
        files.claim().map_err(|source| Error::AuthfileWrite { path: files.login, source })
    }

    /// The helper that keeps the credential of a host, by the word of the file that a login is kept in, with the name
    /// by which it knows the host.
    pub(crate) fn helper_for_login(&self, registry: &str) -> Result<Option<(String, String)>> {
        let path = self.login_file();
        if !path.is_file() {
            // Nothing there yet, or a FIFO that a login shall be written into: reading it would wait in vain.
            return Ok(None);
        }
        let file = Authfile::read_if_there(&path)?;
        let found = file.as_ref().and_then(|file| file.helper_of(registry));
        Ok(found.map(|(key, helper)| (key.to_owned(), helper.to_owned())))
    }
}

/// A place to look in.
enum Place {
    File {
        path: PathBuf,
        required: bool,
    },
    /// Docker's own file, where Tekton puts it, with the secrets that it is made of.
    Docker {
        copies: Vec<PathBuf>,
        secrets: Option<PathBuf>,
    },
}

impl Found {
    fn in_file(path: PathBuf, found: Match) -> Self {
        let Match { key, helper, credential } = found;
        let origin = match helper {
            Some(name) => Origin::Helper { name, key, path },
            None => Origin::Authfile { path, key },
        };
        Self { credential, origin }
    }
}

/// What a failing helper comes to as an error.
pub(crate) fn helper_error(path: &Path, name: &str, failure: &Failure) -> Error {
    Error::Authfile { path: path.to_path_buf(), reason: format!("docker-credential-{name}: {failure}") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    fn auth(user: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:secret-{user}")))
    }

    fn user(found: &Found) -> &str {
        found.credential.user().unwrap_or("-")
    }

    #[test]
    fn the_first_file_with_a_match_wins() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().to_path_buf();
        let env = CredentialEnv {
            home: Some(home.clone()),
            xdg_runtime_dir: Some(home.join("run")),
            ..CredentialEnv::default()
        };
        let credentials = Credentials::new(CredentialOptions { env, ..CredentialOptions::default() });
        assert_eq!(user(&credentials.find("quay.io", "a/b").unwrap()), "-");
        for (file, name) in [
            (".dockercfg", "dockercfg"),
            (".docker/config.json", "docker"),
            (".config/containers/auth.json", "config"),
            ("run/containers/auth.json", "runtime"),
        ] {
            let path = home.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            let entries = format!(r#"{{"quay.io":{}}}"#, auth(name));
            fs::write(&path, if name == "dockercfg" { entries } else { format!(r#"{{"auths":{entries}}}"#) })
                .unwrap();
            let found = credentials.find("quay.io", "a/b").unwrap();
            assert_eq!(user(&found), name);
            assert_eq!(found.origin, Origin::Authfile { path, key: "quay.io".to_owned() });
        }
    }

    #[test]
    fn a_named_file_must_be_there_and_is_the_only_one() {
        let dir = tempfile::tempdir().unwrap();
        let there = dir.path().join("there.json");
        fs::write(&there, format!(r#"{{"auths":{{"quay.io":{}}}}}"#, auth("file"))).unwrap();
        let missing = dir.path().join("missing.json");
        let options = |authfile: Option<&PathBuf>, env: Option<&PathBuf>| CredentialOptions {
            authfile: authfile.cloned(),
            env: CredentialEnv { registry_auth_file: env.cloned(), ..CredentialEnv::default() },
            ..CredentialOptions::default()
        };
        let found = Credentials::new(options(Some(&there), Some(&missing))).find("quay.io", "a/b").unwrap();
        assert_eq!(user(&found), "file");
        for options in [options(Some(&missing), None), options(None, Some(&missing))] {
            let error = Credentials::new(options).find("quay.io", "a/b").unwrap_err();
            assert!(matches!(&error, Error::AuthfileRead { path, .. } if *path == missing), "{error}");
        }
        let env = CredentialEnv { docker_config: Some(dir.path().to_path_buf()), ..CredentialEnv::default() };
        let error = Credentials::new(CredentialOptions { env, ..CredentialOptions::default() })
            .find("q.io", "a")
            .unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
    }

    #[test]
    fn explicit_credentials_may_be_bound_to_a_registry() {
        let credentials = Credentials::new(CredentialOptions {
            explicit: Some(("me".to_owned(), Secret::new("p"))),
            explicit_registry: Some("quay.io".to_owned()),
            ..CredentialOptions::default()
        });
        assert_eq!(user(&credentials.find("quay.io", "a").unwrap()), "me");
        assert_eq!(user(&credentials.find("docker.io", "library/alpine").unwrap()), "-");
    }

    #[test]
    fn the_service_account_is_for_in_cluster_registries_and_read_each_time() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("token"), "one\n").unwrap();
        let credentials = Credentials::new(CredentialOptions {
            service_account: ServiceAccountOptions {
                dir: dir.path().to_path_buf(),
                registries: vec!["default-route.apps.example".to_owned()],
                ..ServiceAccountOptions::default()
            },
            ..CredentialOptions::default()
        });
        let inside = "image-registry.openshift-image-registry.svc:5000";
        let password = |host: &str| match credentials.find(host, "ns/x").unwrap().credential {
            Credential::Basic { user, password } => format!("{user}:{}", password.expose()),
            _ => "-".to_owned(),
        };
        assert_eq!(password(inside), "serviceaccount:one");
        fs::write(dir.path().join("token"), "two").unwrap();
        assert_eq!(password(inside), "serviceaccount:two");
        assert_eq!(password("default-route.apps.example:443"), "serviceaccount:two");
        assert_eq!(password("r.ns.svc.cluster.local"), "serviceaccount:two");
        for host in ["quay.io", "svc", "evil-svc", "x.svc.evil.example", "default-route.apps.example.evil"] {
            assert_eq!(password(host), "-", "{host}");
        }
    }
}
