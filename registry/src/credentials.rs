//! Credentials: which one is for a repository, and where it came from.
//!
//! The order is that of containers/image: what was given explicitly, exactly one file where one is named, else the
//! default files, first match wins. After these come the pod's ServiceAccount, for in-cluster registries only, and
//! nobody. Files are read anew at each call: tokens in them are replaced while a push is under way.

mod authfile;
mod service_account;

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::error::Result;
use crate::secret::Secret;
use authfile::Authfile;
pub use service_account::ServiceAccountOptions;

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
    /// The user's number, for `/run/containers/UID/auth.json`.
    pub uid: u32,
}

impl CredentialEnv {
    /// Takes the variables from `lookup`, which is `std::env::var_os` in a program; empty ones count as unset.
    #[must_use]
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>, uid: u32) -> Self {
        let path = |name: &str| lookup(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self {
            registry_auth_file: path("REGISTRY_AUTH_FILE"),
            docker_config: path("DOCKER_CONFIG"),
            xdg_runtime_dir: path("XDG_RUNTIME_DIR"),
            xdg_config_home: path("XDG_CONFIG_HOME"),
            home: path("HOME"),
            uid,
        }
    }
}

/// Who to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    Anonymous,
    Basic { user: String, password: Secret },
}

/// Where a credential came from: what an error may say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Explicit,
    Authfile { path: PathBuf, key: String },
    ServiceAccount { token: PathBuf },
    Nowhere { looked: Vec<PathBuf> },
}

/// A credential with its origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) credential: Credential,
    pub(crate) origin: Origin,
}

/// Finds the credential for a repository.
#[derive(Debug)]
pub(crate) struct Credentials {
    options: CredentialOptions,
}

impl Credentials {
    pub(crate) const fn new(options: CredentialOptions) -> Self {
        Self { options }
    }

    pub(crate) const fn service_account(&self) -> &ServiceAccountOptions {
        &self.options.service_account
    }

    /// The credential for `repository` on `registry`, both as a reference names them, read now.
    ///
    /// # Errors
    /// Where a file that must be there is not, cannot be read, is malformed, or has an entry for the repository that
    /// this version cannot use.
    pub(crate) fn find(&self, registry: &str, repository: &str) -> Result<Found> {
        if let Some((user, password)) = &self.options.explicit
            && self.options.explicit_registry.as_deref().is_none_or(|only| only == registry)
        {
            let credential = Credential::Basic { user: user.clone(), password: password.clone() };
            return Ok(Found { credential, origin: Origin::Explicit });
        }
        let mut looked = Vec::new();
        for (path, required) in self.files() {
            let file = if required { Some(Authfile::read(&path)?) } else { Authfile::read_if_there(&path)? };
            if let Some(file) = file
                && let Some((key, credential)) = file.find(registry, repository)?
            {
                return Ok(Found { credential, origin: Origin::Authfile { path, key } });
            }
            looked.push(path);
        }
        if self.options.service_account.is_for(registry)
            && let Some((password, token)) = self.options.service_account.read()?
        {
            let credential = Credential::Basic { user: service_account::USER.to_owned(), password };
            return Ok(Found { credential, origin: Origin::ServiceAccount { token } });
        }
        Ok(Found { credential: Credential::Anonymous, origin: Origin::Nowhere { looked } })
    }

    /// The files to look in, in order, and whether each must be there.
    fn files(&self) -> Vec<(PathBuf, bool)> {
        let env = &self.options.env;
        if let Some(path) = self.options.authfile.as_ref().or(env.registry_auth_file.as_ref()) {
            return vec![(path.clone(), true)];
        }
        if let Some(directory) = &env.docker_config {
            return vec![(directory.join("config.json"), true)];
        }
        let runtime = match &env.xdg_runtime_dir {
            Some(directory) => directory.join("containers/auth.json"),
            None => Path::new("/run/containers").join(env.uid.to_string()).join("auth.json"),
        };
        let config =
            env.xdg_config_home.clone().or_else(|| env.home.as_ref().map(|home| home.join(".config")));
        let home = |name: &str| env.home.as_ref().map(|home| home.join(name));
        [
            Some(runtime),
            config.map(|directory| directory.join("containers/auth.json")),
            home(".docker/config.json"),
            home(".dockercfg"),
        ]
        .into_iter()
        .flatten()
        .map(|path| (path, false))
        .collect()
    }
}

impl Origin {
    /// What to do when a registry refuses a credential of this origin.
    pub(crate) fn way_out(&self) -> &'static str {
        match self {
            Self::Explicit => "check user name and password, and what the user may do there",
            Self::Authfile { .. } => "log in again, or give a user that may do this",
            Self::ServiceAccount { .. } => {
                "give the ServiceAccount the role system:image-builder (push) or system:image-puller (pull) in the \
                 project"
            }
            Self::Nowhere { .. } => "log in first, or give --creds or --authfile",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit => f.write_str("the credentials of --creds"),
            Self::Authfile { path, key } => write!(f, "the entry {key} of {}", path.display()),
            Self::ServiceAccount { token } => write!(f, "the ServiceAccount's token {}", token.display()),
            Self::Nowhere { looked } => {
                f.write_str("no credentials, none being found in ")?;
                if looked.is_empty() {
                    return f.write_str("any place");
                }
                for (at, path) in looked.iter().enumerate() {
                    write!(f, "{}{}", if at == 0 { "" } else { ", " }, path.display())?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::error::Error;

    fn auth(user: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(format!("{user}:secret-{user}")))
    }

    fn user(found: &Found) -> &str {
        match &found.credential {
            Credential::Basic { user, .. } => user,
            Credential::Anonymous => "-",
        }
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
            },
            ..CredentialOptions::default()
        });
        let inside = "image-registry.openshift-image-registry.svc:5000";
        let password = |host: &str| match credentials.find(host, "ns/x").unwrap().credential {
            Credential::Basic { user, password } => format!("{user}:{}", password.expose()),
            Credential::Anonymous => "-".to_owned(),
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
