//! Logins: credentials that are kept in a file as podman keeps them (containers-auth.json(5)), checked before they are
//! written. What else is in the file stays as it is; the file is replaced as a whole, and is its owner's alone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_storage::LockedFile;
use reqwest::Method;
use serde::Serialize as _;
use serde_json::{Map, Value};

use crate::client::{Registry, RegistryOptions};
use crate::credentials::{Credential, CredentialOptions, Credentials, Origin, helper_error};
use crate::error::{Error, Result};
use crate::host::{Access, Call, Manner};
use crate::secret::Secret;

/// The logins that are kept.
#[derive(Debug, Clone)]
pub struct Logins {
    credentials: Credentials,
}

/// A login that was found.
#[derive(Debug, Clone)]
pub struct Login {
    /// The user name.
    pub user: String,
    /// The password; `None` for an identity token, with which nobody can log in anew.
    pub password: Option<Secret>,
}

impl Registry {
    /// The logins of these options, without `--creds` and without the ServiceAccount.
    #[must_use]
    pub fn logins(&self) -> Logins {
        Logins::new(self.shared.credentials.options().clone())
    }

    /// Asks the registry of `key`, `HOST[:PORT][/NAMESPACE]`, whether it takes a user name and a password.
    ///
    /// # Errors
    /// [`Error::Login`] where it does not; others where it cannot be asked.
    pub async fn check_login(&self, key: &str, user: &str, password: &Secret) -> Result<()> {
        let registry = host_of(key);
        let options = self.shared.options.clone();
        let credentials = CredentialOptions {
            explicit: Some((user.to_owned(), password.clone())),
            explicit_registry: None,
            ..options.credentials
        };
        let asked = Self::new(RegistryOptions { credentials, ..options });
        // What registries.conf says of the host holds for whatever is below it.
        let below = if key.contains('/') { key.to_owned() } else { format!("{key}/any") };
        let host = match below.parse() {
            Ok(reference) => asked.named_host(&reference)?,
            Err(_) => asked.host(registry, Manner::default()),
        };
        let access = Access::pull("");
        let make =
            |endpoint: &crate::endpoint::Endpoint| Call::new(&access, Method::GET, endpoint.ping(), &[200]);
        match host.request(host.attempts(), make).await {
            Ok(_) => Ok(()),
            Err(Error::Denied { status, detail, .. }) => {
                tracing::debug!(key, status, detail, "the login was refused");
                Err(Error::Login { key: key.to_owned() })
            }
            Err(error) => Err(error),
        }
    }
}

impl Logins {
    /// The logins in the files of these options.
    #[must_use]
    pub fn new(options: CredentialOptions) -> Self {
        Self { credentials: Credentials::new(CredentialOptions { explicit: None, ..options }) }
    }

    /// The file that logins are written to: the one that was named, else
    /// `${XDG_RUNTIME_DIR:-/run/containers/UID}/containers/auth.json` as containers/image has it.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.credentials.login_file()
    }

    /// The login for a key, wherever it is kept. May run a credential helper, and so block.
    ///
    /// # Errors
    /// Where a file cannot be read or is malformed; a file that is not there is none.
    pub fn find(&self, key: &str) -> Result<Option<Login>> {
        if fs::metadata(self.path()).is_ok_and(|found| !found.is_file() && !found.is_dir()) {
            // A FIFO or a device that the login shall be written into: it would be waited for in vain.
            return Ok(None);
        }
        let (registry, repository) = key.split_once('/').unwrap_or((key, ""));
        let found = match self.credentials.find(registry, repository) {
            Err(Error::AuthfileRead { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            found => found?,
        };
        Ok(match (found.credential, found.origin) {
            (_, Origin::ServiceAccount { .. }) | (Credential::Anonymous, _) => None,
            (Credential::Basic { user, password }, _) => Some(Login { user, password: Some(password) }),
            (Credential::Identity { user, .. }, _) => Some(Login { user, password: None }),
        })
    }

    /// Keeps a login, with the helper that the file names for the host, or in the file.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or the helper fails.
    pub fn set(&self, key: &str, user: &str, password: &Secret) -> Result<()> {
        let path = self.path();
        if let Some((server, helper)) = self.credentials.helper_for_login(key)? {
            let stored = self.credentials.helpers().store(&helper, &server, user, password);
            return stored.map_err(|failure| helper_error(&path, &helper, &failure));
        }
        self.credentials.claim_login_directory()?;
        let auth = STANDARD.encode(format!("{user}:{}", password.expose()));
        change(&path, true, |fields| {
            section(&path, fields, "auths")?.insert(key.to_owned(), serde_json::json!({"auth": auth}));
            Ok(true)
        })
    }

    /// Forgets a login; whether there was one.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or the helper fails.
    pub fn remove(&self, key: &str) -> Result<bool> {
        let path = self.path();
        let mut removed = false;
        if let Some((server, helper)) = self.credentials.helper_for_login(key)? {
            let erased = self.credentials.helpers().erase(&helper, &server);
            removed = erased.map_err(|failure| helper_error(&path, &helper, &failure))?;
        }
        change(&path, false, |fields| {
            if fields.contains_key("auths") {
                let auths = section(&path, fields, "auths")?;
                let there = auths.remove(key).is_some() || {
                    let alias =
                        auths.keys().find(|other| !key.contains('/') && same_host(other, key)).cloned();
                    alias.is_some_and(|alias| auths.remove(&alias).is_some())
                };
                removed |= there;
                return Ok(there);
            }
            Ok(false)
        })?;
        Ok(removed)
    }

    /// Forgets all logins of the file, those of its helpers included.
    ///
    /// # Errors
    /// Where the file cannot be read or written, or a helper fails.
    pub fn remove_all(&self) -> Result<()> {
        let path = self.path();
        let helpers = self.credentials.helpers();
        change(&path, true, |fields| {
            if fields.contains_key("credHelpers") {
                for (server, helper) in section(&path, fields, "credHelpers")?.iter() {
                    let helper = helper.as_str().unwrap_or_default();
                    let erased = helpers.erase(helper, server);
                    erased.map_err(|failure| helper_error(&path, helper, &failure))?;
                }
                fields.remove("credHelpers");
            }
            fields.insert("auths".to_owned(), Value::Object(Map::new()));
            Ok(true)
        })
    }
}

/// The registry of a key.
fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

/// Whether a key that is a URL or an alias is for this host as a whole.
fn same_host(other: &str, host: &str) -> bool {
    let stripped = other.strip_prefix("https://").or_else(|| other.strip_prefix("http://"));
    let rest = match stripped {
        Some(rest) => rest,
        None if other.contains('/') => return false,
        None => other,
    };
    let hub = |host: &str| matches!(host, "docker.io" | "index.docker.io" | "registry-1.docker.io");
    host_of(rest) == host || (hub(host_of(rest)) && hub(host))
}

fn section<'f>(
    path: &Path,
    fields: &'f mut Map<String, Value>,
    name: &str,
) -> Result<&'f mut Map<String, Value>> {
    let value = fields.entry(name).or_insert(Value::Null);
    if value.is_null() {
        *value = Value::Object(Map::new());
    }
    value.as_object_mut().ok_or_else(|| Error::Authfile {
        path: path.to_path_buf(),
        reason: format!("not a file of credentials: {name} is of a wrong type"),
    })
}

/// Changes a file: reads it, where it is there, and replaces it by what `edit` makes of it, if that says that it did
/// something. At no time is there half a file, and no other process of ours changes it at the same time. With `make` the
/// directory is made where there is none.
fn change(path: &Path, make: bool, edit: impl FnOnce(&mut Map<String, Value>) -> Result<bool>) -> Result<()> {
    let failed = |source| Error::AuthfileWrite { path: path.to_path_buf(), source };
    // Where nothing may be written nothing need be either, as long as `edit` finds nothing to do.
    let locked = if make || path.exists() { Some(LockedFile::hold(path)) } else { None };
    let text = match &locked {
        Some(Ok(locked)) => locked.read(),
        _ => fs::read(path).or_else(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Ok(Vec::new()),
            _ => Err(error),
        }),
    };
    let text = text.map_err(|source| Error::AuthfileRead { path: path.to_path_buf(), source })?;
    let value = if text.trim_ascii().is_empty() {
        Value::Object(Map::new())
    } else {
        // Not the error of serde_json: it may cite a secret.
        serde_json::from_slice(&text).unwrap_or(Value::Bool(false))
    };
    let fields = match value {
        Value::Object(fields) => Some(fields),
        Value::Null => Some(Map::new()),
        _ => None,
    };
    let Some(mut fields) = fields else {
        let reason = "not a file of credentials: a JSON object is expected; it was left as it is".to_owned();
        return Err(Error::Authfile { path: path.to_path_buf(), reason });
    };
    if edit(&mut fields)? {
        let locked = locked.unwrap_or_else(|| LockedFile::hold(path)).map_err(failed)?;
        locked.write(&pretty(&Value::Object(fields))).map_err(failed)?;
    }
    Ok(())
}

/// As containers/image writes it.
fn pretty(value: &Value) -> Vec<u8> {
    let indent = serde_json::ser::PrettyFormatter::with_indent(b"\t");
    let mut text = Vec::new();
    // Writing to memory does not fail, and a value's keys are texts.
    let _ = value.serialize(&mut serde_json::Serializer::with_formatter(&mut text, indent));
    text
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

    fn logins(path: &Path) -> Logins {
        let options =
            CredentialOptions { authfile: Some(path.to_path_buf()), ..CredentialOptions::default() };
        Logins { credentials: Credentials::new(options) }
    }

    fn read(path: &Path) -> Value {
        serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
    }

    #[test]
    fn a_login_is_kept_for_its_owner_alone_and_what_else_is_there_stays() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/directory/auth.json");
        let logins = logins(&path);
        assert!(logins.find("quay.io").unwrap().is_none());
        logins.set("quay.io", "me", &Secret::new("p:w")).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        let login = logins.find("quay.io").unwrap().unwrap();
        assert_eq!((login.user.as_str(), login.password.unwrap().expose()), ("me", "p:w"));

        let text = r#"{"auths":{"a.example":{"auth":"eDp5","email":"e"}},"HttpHeaders":{"X":"y"}}"#;
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        logins.set("quay.io/ns", "you", &Secret::new("p")).unwrap();
        let value = read(&path);
        assert_eq!(value["HttpHeaders"]["X"], "y");
        assert_eq!(value["auths"]["a.example"]["email"], "e");
        assert_eq!(value["auths"]["quay.io/ns"]["auth"], STANDARD.encode("you:p"));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let others: Vec<_> = fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(others.len(), 1, "no temporary file stays");
    }

    #[test]
    fn a_file_is_replaced_and_never_written_into() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link) = (dir.path().join("auth.json"), dir.path().join("link.json"));
        fs::write(&path, "{}").unwrap();
        symlink(&path, &link).unwrap();
        let reader = fs::File::open(&path).unwrap();
        let before = fs::metadata(&path).unwrap().ino();
        logins(&link).set("quay.io", "me", &Secret::new("p")).unwrap();
        assert_ne!(fs::metadata(&path).unwrap().ino(), before);
        assert_eq!(reader.metadata().unwrap().len(), 2, "who reads the old file reads it to its end");
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    }

    #[test]
    fn a_logout_removes_the_one_entry_by_any_of_its_names() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        let entry = r#"{"auth":"eDp5"}"#;
        fs::write(
            &path,
            format!(
                r#"{{"auths":{{"https://index.docker.io/v1/":{entry},"quay.io":{entry},"quay.io/ns":{entry}}}}}"#
            ),
        )
        .unwrap();
        let logins = logins(&path);
        assert!(logins.remove("docker.io").unwrap());
        assert!(!logins.remove("docker.io").unwrap());
        assert!(logins.remove("quay.io").unwrap());
        assert!(!logins.remove("quay.io").unwrap());
        assert_eq!(read(&path)["auths"].as_object().unwrap().keys().collect::<Vec<_>>(), ["quay.io/ns"]);
        logins.remove_all().unwrap();
        assert_eq!(read(&path), serde_json::json!({"auths": {}}));
    }

    #[test]
    fn a_file_that_is_not_understood_is_left_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("auth.json");
        for text in ["not json: hunter2", "[]", r#"{"auths":"hunter2"}"#] {
            fs::write(&path, text).unwrap();
            let error = logins(&path).set("quay.io", "me", &Secret::new("p")).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("hunter2"));
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
        }
    }
}
