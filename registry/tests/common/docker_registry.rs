//! A real registry: Debian's `docker-registry`, on a free port of 127.0.0.1, with its blobs in a directory that goes
//! with it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "not every test uses everything; what cannot be set up fails"
)]

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The one user of a registry with a password.
pub(crate) const USER: &str = "user";
/// Its password.
pub(crate) const PASSWORD: &str = "secret";
/// bcrypt of [`PASSWORD`].
const HTPASSWD: &str = "user:$2y$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a\n";

/// What the registry is to be like.
#[derive(Debug, Clone, Default)]
pub(crate) struct Setup {
    /// Whether it wants the password.
    pub(crate) password: bool,
    /// Certificate and key, in PEM form.
    pub(crate) tls: Option<(PathBuf, PathBuf)>,
    /// Authorities, in PEM form, whose certificates a client must show.
    pub(crate) client_authorities: Option<PathBuf>,
    /// A token server: realm and the certificate whose key signs the tokens.
    pub(crate) extra: String,
}

/// A running registry, ended when it is dropped.
#[derive(Debug)]
pub(crate) struct DockerRegistry {
    child: Child,
    addr: SocketAddr,
    directory: tempfile::TempDir,
}

impl DockerRegistry {
    /// Starts one that everybody may push to.
    pub(crate) fn start() -> Self {
        Self::start_with(&Setup::default())
    }

    /// Starts one.
    pub(crate) fn start_with(setup: &Setup) -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let root = directory.path();
        let addr = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port");
        let mut config = format!(
            "version: 0.1\nlog:\n  level: error\n  accesslog:\n    disabled: true\nstorage:\n  delete:\n    enabled: true\n  \
             filesystem:\n    rootdirectory: {}\nhttp:\n  addr: {addr}\n",
            root.join("data").display()
        );
        if let Some((certificate, key)) = &setup.tls {
            let _ = write!(
                config,
                "  tls:\n    certificate: {}\n    key: {}\n",
                certificate.display(),
                key.display()
            );
            if let Some(authorities) = &setup.client_authorities {
                let _ = write!(config, "    clientcas:\n      - {}\n", authorities.display());
            }
        }
        if setup.password {
            fs::write(root.join("htpasswd"), HTPASSWD).expect("htpasswd");
            let path = root.join("htpasswd");
            let _ = write!(config, "auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display());
        }
        config.push_str(&setup.extra);
        fs::write(root.join("config.yml"), config).expect("config.yml");
        let child = Command::new("docker-registry")
            .arg("serve")
            .arg(root.join("config.yml"))
            .env_clear()
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| {
                panic!("these tests need docker-registry; apt-get install docker-registry: {error}")
            });
        let registry = Self { child, addr, directory };
        registry.wait();
        registry
    }

    /// Where it listens.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Whether the registry's storage holds a blob or a tag's link: a part of its path.
    pub(crate) fn stores(&self, part: &str) -> bool {
        fn search(directory: &Path, part: &str) -> bool {
            fs::read_dir(directory).is_ok_and(|entries| {
                entries.flatten().any(|entry| {
                    let path = entry.path();
                    path.to_string_lossy().contains(part) || (path.is_dir() && search(&path, part))
                })
            })
        }
        search(&self.directory.path().join("data"), part)
    }

    /// The digest that a tag names, as the registry keeps it.
    pub(crate) fn tag(&self, repository: &str, tag: &str) -> Option<String> {
        let path =
            format!("data/docker/registry/v2/repositories/{repository}/_manifests/tags/{tag}/current/link");
        fs::read_to_string(self.directory.path().join(path)).ok()
    }

    /// How many uploads were begun and neither finished nor cancelled. Of a cancelled one Distribution 2.8 leaves empty
    /// directories.
    pub(crate) fn open_uploads(&self, repository: &str) -> usize {
        let path = format!("data/docker/registry/v2/repositories/{repository}/_uploads");
        fs::read_dir(self.directory.path().join(path)).map_or(0, |entries| {
            entries
                .flatten()
                .filter(|upload| ["data", "startedat"].iter().any(|name| upload.path().join(name).exists()))
                .count()
        })
    }

    /// Overwrites a blob.
    pub(crate) fn corrupt(&self, digest: &str, bytes: &[u8]) {
        fs::write(self.blob(digest), bytes).expect("the blob is there");
    }

    /// The file in which it keeps a blob.
    pub(crate) fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a sha256 digest");
        let path = format!("data/docker/registry/v2/blobs/sha256/{}/{hex}/data", &hex[..2]);
        self.directory.path().join(path)
    }

    fn wait(&self) {
        let start = Instant::now();
        while TcpStream::connect(self.addr).is_err() {
            assert!(start.elapsed() < Duration::from_secs(20), "docker-registry does not come up");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
