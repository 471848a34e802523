//! Tekton's secrets: `/tekton/creds-secrets/SECRET/`, which the kubelet keeps up to date.
//!
//! When a step starts, Tekton merges them into `/tekton/creds/.docker/config.json`, copies that to `$HOME` if it can, and
//! never does so again; a token that expires during the step is then good in the secret only. A basic-auth secret (files
//! `username` and `password`) is not read here: the registry that it is for stands in an annotation, which is not
//! mounted, so what Tekton made of it is all there is.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::authfile::{Authfile, Match};
use super::helper::Helpers;
use super::{CredentialSource, SourceOutcome};

/// The files that a secret may hold; the first two are of Docker's current format, the last of its old one.
const FILES: [&str; 3] = [".dockerconfigjson", "config.json", ".dockercfg"];

/// A credential of a secret.
pub(super) struct Live {
    pub(super) path: PathBuf,
    pub(super) found: Match,
    /// When the kubelet wrote it.
    pub(super) written: Option<SystemTime>,
}

/// The best entry of all secrets: that with the longest key, as if all were in one file; of equal ones, that of the
/// first secret by name. A secret that cannot be used does not stand in the way of the others.
pub(super) fn find(
    directory: &Path,
    registry: &str,
    repository: &str,
    helpers: &Helpers,
    looked: &mut Vec<CredentialSource>,
) -> Option<Live> {
    let mut best: Option<Live> = None;
    for path in files(directory) {
        let file = match Authfile::read_if_there(&path) {
            Ok(Some(file)) => file,
            Ok(None) => continue,
            Err(error) => {
                tracing::warn!(secret = %path.display(), %error, "a secret of Tekton cannot be used");
                looked.push(CredentialSource::unreadable(&path, &error));
                continue;
            }
        };
        match file.find(registry, repository, helpers) {
            Ok(Some(found)) => {
                looked.push(CredentialSource::new(&path, SourceOutcome::Matched { key: found.key.clone() }));
                if best.as_ref().is_none_or(|best| found.key.len() > best.found.key.len()) {
                    let written = written(&path);
                    best = Some(Live { path, found, written });
                }
            }
            Ok(None) => looked.push(CredentialSource::new(&path, SourceOutcome::NoMatch)),
            Err(error) => {
                tracing::warn!(secret = %path.display(), %error, "a secret of Tekton cannot be used");
                looked.push(CredentialSource::unreadable(&path, &error));
            }
        }
    }
    best
}

/// When a file was written; links are followed, as the kubelet links a secret's files to its current version.
pub(super) fn written(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut secrets: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
    secrets.sort();
    secrets
        .into_iter()
        .flat_map(|secret| FILES.map(|name| secret.join(name)))
        .filter(|f| f.is_file())
        .collect()
}
