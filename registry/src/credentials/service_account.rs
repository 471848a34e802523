//! The pod's ServiceAccount: a token that the kubelet replaces, and the authorities that in-cluster servers are
//! signed by. It is offered to in-cluster registries alone.

use std::io;
use std::path::PathBuf;

use crate::endpoint::without_port;
use crate::error::{Error, Result};
use crate::secret::Secret;

/// The user name that goes with the token; OpenShift's registry takes any.
pub(super) const USER: &str = "serviceaccount";

/// The pod's ServiceAccount, and the registries that may have its token.
#[derive(Debug, Clone)]
pub struct ServiceAccountOptions {
    /// Where the pod's token, `ca.crt` and `service-ca.crt` are mounted.
    pub dir: PathBuf,
    /// Whether somebody named `dir`: then the token must be there and readable.
    pub named: bool,
    /// Hosts (with or without port) that count as in-cluster besides `*.svc` and `*.svc.cluster.local`.
    pub registries: Vec<String>,
    /// `HOST:PORT` of the cluster's API, as the environment of a pod has it.
    pub api: Option<String>,
}

impl Default for ServiceAccountOptions {
    fn default() -> Self {
        Self {
            dir: PathBuf::from("/var/run/secrets/kubernetes.io/serviceaccount"),
            named: false,
            registries: Vec::new(),
            api: None,
        }
    }
}

impl ServiceAccountOptions {
    /// Whether a registry may have the token.
    pub(crate) fn is_for(&self, registry: &str) -> bool {
        let host = without_port(registry);
        let below = |domain: &str| host.strip_suffix(domain).is_some_and(|name| !name.is_empty());
        below(".svc")
            || below(".svc.cluster.local")
            || self.registries.iter().any(|named| named == registry || named == host)
    }

    /// The authorities mounted beside the token.
    pub(crate) fn authorities(&self) -> [PathBuf; 2] {
        [self.dir.join("service-ca.crt"), self.dir.join("ca.crt")]
    }

    /// The token, where there is one that can be read.
    pub(crate) fn own_token(&self) -> Option<Secret> {
        self.read().ok().flatten().map(|(token, _)| token)
    }

    /// The token and its file, where there is one.
    pub(super) fn read(&self) -> Result<Option<(Secret, PathBuf)>> {
        let path = self.dir.join("token");
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((Secret::new(text.trim()), path))),
            Err(error) if is_absent(&error) && !self.named => Ok(None),
            Err(source) => Err(Error::AuthfileRead { path, source }),
        }
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}
