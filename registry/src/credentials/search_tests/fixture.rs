//! What the tests of the credentials share: files of a row of the table, written short, and what was found in the words of its
//! last column.
//!
//! `KEY=USER` is an entry with a password, `KEY=!USER` one with an identity token, `KEY=` an empty one; `?KEY=NAME` is a
//! credHelper, `*=NAME` the credsStore; `^` before all is `.dockercfg`'s format; `{` begins the text of the file itself.
//! A file `PATH@N` is written at the time N. A file that is no file but `NAME=VALUE` sets a variable of the environment,
//! `--authfile` or `--creds`; `NAME=` unsets one. All paths are below a directory of the row's own.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::super::*;

pub(super) const RUNTIME: &str = "run/containers/auth.json";
pub(super) const CONFIG: &str = "home/.config/containers/auth.json";
pub(super) const DOCKER: &str = "home/.docker/config.json";
pub(super) const LEGACY: &str = "home/.dockercfg";
pub(super) const CREDS: &str = "creds/.docker/config.json";
pub(super) const SECRET: &str = "tekton/a/.dockerconfigjson";

/// A user's number that nobody has: whatever the tests make belongs to somebody else.
const NOBODYS: u32 = 4_294_967_294;

pub(super) const MOCK: &str = r#"#!/bin/sh
test "$1" = get || exit 2
read -r server || true
say() { printf '{"ServerURL":"%s","Username":"%s","Secret":"secret"}\n' "$server" "$1"; }
case "$server" in
one.example) say one ;;
docker.io | https://index.docker.io/v1/) say hub ;;
id.example) say '<token>' ;;
bad.example) echo no such luck; exit 1 ;;
odd.example) echo secret ;;
*) echo credentials not found in native keychain; exit 1 ;;
esac
"#;

/// Written by another process: a file that this one has open for writing while another test forks cannot be run.
pub(super) fn write_helper(path: &Path, script: &str) {
    let status = Command::new("/bin/sh")
        .args(["-c", r#"printf %s "$1" >"$2" && chmod 755 "$2""#, "sh", script])
        .arg(path)
        .status()
        .unwrap();
    assert!(status.success());
}

pub(super) fn set_up(root: &Path, files: &[(&str, &str)], bin: &Path) -> CredentialOptions {
    let mut variables: HashMap<&str, OsString> = HashMap::new();
    variables.insert("HOME", root.join("home").into());
    variables.insert("XDG_RUNTIME_DIR", root.join("run").into());
    variables.insert("PATH", std::env::join_paths([bin, Path::new("/usr/bin"), Path::new("/bin")]).unwrap());
    let mut options = CredentialOptions::default();
    for (name, text) in files {
        match name.split_once('=') {
            Some(("--creds", user)) => {
                options.explicit = Some((user.to_owned(), Secret::new("secret")));
            }
            Some(("--authfile", file)) => options.authfile = Some(root.join(file)),
            Some((variable, "")) => {
                variables.remove(variable);
            }
            Some((variable, path)) => {
                variables.insert(variable, root.join(path).into());
            }
            None => {
                let (path, time) = name.split_once('@').unwrap_or((name, ""));
                write(&root.join(path), &content(text), time.parse().ok());
            }
        }
    }
    options.env = CredentialEnv::from_lookup(|name| variables.get(name).cloned(), NOBODYS);
    options.env.run_dir = Some(root.join("run"));
    options.env.tekton_secrets = Some(root.join("tekton"));
    options.env.tekton_creds = Some(root.join("creds"));
    options.service_account.dir = root.join("sa");
    options
}

fn write(path: &Path, text: &str, time: Option<u64>) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
    if let Some(seconds) = time {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)).unwrap();
    }
}

fn content(text: &str) -> String {
    if text.starts_with('{') || text.is_empty() {
        return text.to_owned();
    }
    let (legacy, text) = text.strip_prefix('^').map_or((false, text), |text| (true, text));
    let (mut auths, mut helpers, mut store) = (Map::new(), Map::new(), None);
    for word in text.split_whitespace() {
        let (key, value) = word.split_once('=').unwrap();
        if key == "*" {
            store = Some(value);
        } else if let Some(host) = key.strip_prefix('?') {
            helpers.insert(host.to_owned(), json!(value));
        } else {
            let encoded = |user: &str| STANDARD.encode(format!("{user}:secret"));
            let entry = match value.strip_prefix('!') {
                _ if value.is_empty() => json!({}),
                Some("<token>") => json!({"identitytoken": "secret"}),
                Some(user) => json!({"auth": encoded(user), "identitytoken": "secret"}),
                None => json!({"auth": encoded(value)}),
            };
            auths.insert(key.to_owned(), entry);
        }
    }
    if legacy {
        return Value::Object(auths).to_string();
    }
    let mut file = json!({"auths": auths, "credHelpers": helpers});
    if let Some(store) = store {
        file["credsStore"] = json!(store);
    }
    file.to_string()
}

pub(super) fn shown(found: &Found, root: &Path) -> String {
    let below = |path: &PathBuf| path.strip_prefix(root).unwrap_or(path).display().to_string();
    let user = match &found.credential {
        Credential::Anonymous => return "-".to_owned(),
        Credential::Basic { user, password } => {
            assert!(["secret", "{jwt"].contains(&password.expose()));
            user.clone()
        }
        Credential::Identity { user, token } => {
            assert_eq!(token.expose(), "secret");
            format!("{user} identity")
        }
    };
    let origin = match &found.origin {
        Origin::Explicit => "--creds".to_owned(),
        Origin::Authfile { path, key } => format!("{} {key}", below(path)),
        Origin::Helper { name, key, .. } => format!("helper:{name} {key}"),
        Origin::ServiceAccount { token } => below(token),
        Origin::Nowhere { .. } => "nowhere".to_owned(),
    };
    format!("{user} {origin}")
}
