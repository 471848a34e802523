//! Lines to instructions.

use std::sync::Arc;

use super::error::{Diagnostic, ParseError};
use super::instruction::{Containerfile, Instruction};
use super::source::{Source, Span, Spanned};

/// An instruction that an image keeps for the builds based on it (`ONBUILD`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trigger {
    /// The text the spans point into.
    pub source: Arc<Source>,
    /// The escape character; a trigger carries no directive, so it is always `\`.
    pub escape: char,
    /// The instruction.
    pub instruction: Spanned<Instruction>,
}

impl Containerfile {
    /// Parses a whole Containerfile. `name` is shown in errors.
    ///
    /// # Errors
    /// The first thing in the text that is not Containerfile language.
    pub fn parse(name: impl Into<String>, text: &[u8]) -> Result<Self, ParseError> {
        let text = String::from_utf8_lossy(text);
        let source = Arc::new(Source::new(name, &text));
        Err(ParseError::Structure(Diagnostic::new(&source, Span::at(0), "not parsed")))
    }
}

impl Trigger {
    /// Parses one `OnBuild` entry of an image configuration. `name` is shown in errors.
    ///
    /// # Errors
    /// As [`Containerfile::parse`], and when the text is not one instruction that may be a trigger.
    pub fn parse(name: impl Into<String>, text: &str) -> Result<Self, ParseError> {
        let source = Arc::new(Source::new(name, text));
        Err(ParseError::Structure(Diagnostic::new(&source, Span::at(0), "not parsed")))
    }
}
