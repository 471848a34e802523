//! What was found in each place that may hold credentials: for people who wonder which one is taken.

use std::error::Error as _;
use std::path::Path;

use crate::error::Error;

/// A place that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CredentialSource {
    /// A file, or the option `--creds`.
    pub place: String,
    /// What was there.
    pub outcome: SourceOutcome,
}

/// What a place had to give.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SourceOutcome {
    /// It is not there.
    Absent,
    /// It has nothing for the repository.
    NoMatch,
    /// It has a credential.
    Matched {
        /// The key that it stands under.
        key: String,
    },
    /// It cannot be used.
    Unreadable {
        /// Why.
        reason: String,
    },
}

impl CredentialSource {
    pub(super) fn new(place: &Path, outcome: SourceOutcome) -> Self {
        Self { place: place.display().to_string(), outcome }
    }

    pub(super) fn unreadable(place: &Path, error: &Error) -> Self {
        let reason = match error.source() {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        Self::new(place, SourceOutcome::Unreadable { reason })
    }
}
