//! A logical line and what is needed to speak about it: the context every instruction parser gets.

use std::ops::Range;
use std::sync::Arc;

use super::error::{Diagnostic, ParseError};
use super::lexer::{HeredocBody, LogicalLine};
use super::source::{Source, Span, Spanned};
use super::words::{self, UnclosedQuote};

/// A logical line of a source.
#[derive(Debug)]
pub(super) struct Line<'a> {
    pub(super) source: &'a Arc<Source>,
    pub(super) escape: char,
    line: &'a LogicalLine,
    warnings: Vec<Diagnostic>,
}

impl<'a> Line<'a> {
    pub(super) fn new(source: &'a Arc<Source>, escape: char, line: &'a LogicalLine) -> Self {
        Self { source, escape, line, warnings: Vec::new() }
    }

    pub(super) fn text(&self) -> &'a str {
        &self.line.text
    }

    pub(super) fn heredocs(&self) -> &'a [HeredocBody] {
        &self.line.heredocs
    }

    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        self.line.span(range)
    }

    pub(super) fn spanned(&self, range: &Range<usize>) -> Spanned<String> {
        self.line.spanned(range)
    }

    /// A diagnostic at `span`.
    pub(super) fn at(&self, span: Span, message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(self.source, span, message)
    }

    /// Arguments that are not what the instruction takes.
    pub(super) fn arguments(&self, span: Span, message: impl Into<String>, help: &str) -> ParseError {
        ParseError::Arguments(self.at(span, message).with_help(help))
    }

    pub(super) fn unclosed_quote(&self, quote: UnclosedQuote, help: &str) -> ParseError {
        let UnclosedQuote(at) = quote;
        let message = format!("quote {} is not closed", &self.text()[at..=at]);
        ParseError::Unterminated(self.at(self.span(&(at..at + 1)), message).with_help(help))
    }

    pub(super) fn warn(&mut self, span: Span, message: impl Into<String>, help: &str) {
        let warning = self.at(span, message).with_help(help);
        self.warnings.push(warning);
    }

    pub(super) fn into_warnings(self) -> Vec<Diagnostic> {
        self.warnings
    }

    /// The text at `range`, which expansion will read as one word: its quotes have to close.
    ///
    /// With a `$` in it only expansion knows how quotes nest; it is left to report them.
    pub(super) fn word(&self, range: &Range<usize>, help: &str) -> Result<Spanned<String>, ParseError> {
        if !self.text()[range.clone()].contains('$') {
            words::quoted_words(self.text(), range.clone(), self.escape)
                .map_err(|quote| self.unclosed_quote(quote, help))?;
        }
        Ok(self.spanned(range))
    }
}
