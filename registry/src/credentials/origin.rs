//! Where a credential came from, as errors name it, and the way out when it is refused.

use std::fmt;
use std::path::PathBuf;

use crate::host::Access;

/// Where a credential came from: what an error may say about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    Explicit,
    Authfile { path: PathBuf, key: String },
    Helper { name: String, key: String, path: PathBuf },
    ServiceAccount { token: PathBuf },
    Nowhere { looked: Vec<PathBuf> },
}

impl Origin {
    /// What to do when a registry refuses a credential of this origin with a status: 401 says that it does not know who we
    /// are, and 403 that who we are is not enough.
    pub(crate) fn way_out(&self, status: u16, access: &Access) -> String {
        match self {
            Self::ServiceAccount { .. } => {
                "give the ServiceAccount the role system:image-builder (push) or system:image-puller (pull) in the \
                 project"
            }
            Self::Nowhere { .. } => "log in first, or give --creds or --authfile",
            _ if status == 403 && !access.repository.is_empty() => {
                return format!(
                    "that user lacks the right to {} {}: let the repository's owner give it, or name a user that has it with \
                     --creds or --authfile",
                    access.action(),
                    access.repository
                );
            }
            Self::Explicit => "check user name and password, and what the user may do there",
            Self::Authfile { .. } | Self::Helper { .. } => "log in again, or give a user that may do this",
        }
        .to_owned()
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Explicit => f.write_str("the credentials of --creds"),
            Self::Authfile { path, key } => write!(f, "the entry {key} of {}", path.display()),
            Self::Helper { name, key, path } => {
                write!(f, "docker-credential-{name} for {key}, as {} says", path.display())
            }
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
