//! A registry for one test: see `docker_registry`, and what these tests need beyond.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::docker_registry::{DockerRegistry, Setup};
use crate::fault_proxy::FaultProxy;

/// The password of all users of a locked registry; no other text of a test has it in it.
pub(crate) const PASSWORD: &str = "hunter2-Zq9";
/// bcrypt of [`PASSWORD`].
const HASH: &str = "$2y$05$abcdefghijklmnopqrstuuEqmsPm8iBUl9W.nMGBwP.4DCmTe6VLO";

/// A running registry.
#[derive(Debug)]
pub(crate) struct Registry {
    inner: DockerRegistry,
    files: TempDir,
}

impl Registry {
    /// Starts one that everybody may push to.
    pub(crate) fn start() -> Self {
        Self { inner: DockerRegistry::start(), files: tempfile::tempdir().unwrap() }
    }

    /// Starts one that lets these users in, with [`PASSWORD`].
    pub(crate) fn locked(users: &[&str]) -> Self {
        let files = tempfile::tempdir().unwrap();
        let path = files.path().join("htpasswd");
        let lines: String = users.iter().map(|user| format!("{user}:{HASH}\n")).collect();
        fs::write(&path, lines).unwrap();
        let extra = format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        Self { inner: DockerRegistry::start_with(&Setup { extra, ..Setup::default() }), files }
    }

    /// Starts one that takes manifests whose layers have URLs, which Distribution does not unless it is told so.
    pub(crate) fn that_takes_urls() -> Self {
        let extra = "validation:\n  manifests:\n    urls:\n      allow:\n        - .*\n".to_owned();
        let setup = Setup { extra, ..Setup::default() };
        Self { inner: DockerRegistry::start_with(&setup), files: tempfile::tempdir().unwrap() }
    }

    /// Starts one with a certificate for 127.0.0.1 that nobody has heard of.
    pub(crate) fn with_tls() -> Self {
        let files = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let (certificate, key) = (files.path().join("ca.crt"), files.path().join("key.pem"));
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let setup = Setup { tls: Some((certificate, key)), ..Setup::default() };
        Self { inner: DockerRegistry::start_with(&setup), files }
    }

    /// The directory with `ca.crt`, where there is TLS.
    pub(crate) fn certificates(&self) -> PathBuf {
        self.files.path().to_owned()
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.inner.addr()
    }

    /// `host:port/repository:tag`.
    pub(crate) fn name(&self, rest: &str) -> String {
        format!("{}/{rest}", self.addr())
    }

    /// The digest that a tag has.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        self.inner.tag(repository, tag)
    }

    /// Uploads that were begun and neither finished nor cancelled.
    pub(crate) fn open_uploads(&self, repository: &str) -> usize {
        self.inner.open_uploads(repository)
    }

    /// The file in which it keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        self.inner.blob(digest)
    }

    /// A proxy before it.
    pub(crate) fn proxy(&self) -> FaultProxy {
        FaultProxy::start(self.addr())
    }
}
