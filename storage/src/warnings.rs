//! Warnings about the image that a command makes: what it would hold, and whether its destination takes it. They are the
//! same on every machine, and `--strict` makes errors of them. Warnings about this machine, such as a file of credentials
//! that cannot be read or a request that is tried again, are only logged.

use std::sync::{Arc, Mutex, PoisonError};

/// The warnings of one command, which all its parts share: clones are handles of the same list.
#[derive(Debug, Clone, Default)]
pub struct Warnings(Arc<Mutex<Vec<String>>>);

impl Warnings {
    /// Logs a warning and keeps it. A text that is there already is neither logged nor kept again.
    pub fn add(&self, text: impl Into<String>) {
        let text = text.into();
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.contains(&text) {
            tracing::warn!("{text}");
            all.push(text);
        }
    }

    /// All of them, in the order in which they were added.
    #[must_use]
    pub fn all(&self) -> Vec<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
