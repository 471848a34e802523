//! Diagnostics: what is wrong, where, and the way out.
//!
//! A [`Diagnostic`] owns a handle of its source, so it can be shown long after parsing. Its `Display` is
//! one line; [`Diagnostic::render`] adds the offending line with an underline. The planner uses the same type
//! for what parses but cannot be built.

use std::fmt;
use std::sync::Arc;

use crossdock_storage::{escape_line, redact_urls};

use super::source::{Source, Span};

/// A problem at a place in a Containerfile.
#[derive(Clone, PartialEq, Eq)]
pub struct Diagnostic {
    source: Arc<Source>,
    span: Span,
    message: String,
    help: Option<String>,
}

impl Diagnostic {
    /// `message` says what happened and to what; it begins in lower case and has no full stop. URLs lose what may be secret
    /// in them, as they do in the line that [`render`](Self::render) shows.
    #[must_use]
    pub fn new(source: &Arc<Source>, span: Span, message: impl Into<String>) -> Self {
        let message = redact_urls(&message.into()).into_owned();
        Self { source: Arc::clone(source), span, message, help: None }
    }

    /// Adds what the user can do. It is shown behind the message and a comma.
    #[must_use]
    pub fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// The text the problem is in.
    #[must_use]
    pub fn source(&self) -> &Arc<Source> {
        &self.source
    }

    /// Where the problem is.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }

    /// What is wrong, without its place.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the user can do about it.
    #[must_use]
    pub fn help(&self) -> Option<&str> {
        self.help.as_deref()
    }

    /// The one-line form, followed by the source line and an underline:
    ///
    /// ```text
    /// Containerfile:4:6: unknown flag --chwon for COPY, did you mean --chown?
    ///   |
    /// 4 | COPY --chwon=1:1 a /b
    ///   |      ^^^^^^^
    /// ```
    ///
    /// A span over several lines is underlined to the end of its first. There is no newline at the end.
    #[must_use]
    pub fn render(&self) -> String {
        let start = self.source.position(self.span.start);
        let line = self.source.line_span(start.line);
        let number = start.line.to_string();
        let margin = " ".repeat(number.len());
        let up_to = |end: usize| width(&shown(self.source.slice(Span::new(line.start, end.min(line.end)))));
        let text = shown(self.source.slice(line));
        let text = format!("{number} | {text}");
        let (start, end) = (up_to(self.span.start), up_to(self.span.end.max(self.span.start)));
        let indent = " ".repeat(start);
        let underline = "^".repeat(end.saturating_sub(start).max(1));
        format!("{self}\n{margin} |\n{}\n{margin} | {indent}{underline}", text.trim_end())
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let position = self.source.position(self.span.start);
        write!(f, "{}:{}:{}: {}", self.source.name(), position.line, position.column, self.message)?;
        match &self.help {
            Some(help) => write!(f, ", {help}"),
            None => Ok(()),
        }
    }
}

/// The one-line form: a whole source file in a debug print would hide the rest.
impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Diagnostic({:?})", self.to_string())
    }
}

impl std::error::Error for Diagnostic {}

/// Why a text is not a Containerfile. Every variant shows itself as `file:line:column: what, way out`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// Bytes that are not UTF-8, or a NUL byte.
    #[error("{0}")]
    Encoding(Diagnostic),
    /// A parser directive that is repeated or has a value it cannot have.
    #[error("{0}")]
    Directive(Diagnostic),
    /// A quote or a heredoc that is not closed.
    #[error("{0}")]
    Unterminated(Diagnostic),
    /// A keyword that is none.
    #[error("{0}")]
    UnknownInstruction(Diagnostic),
    /// A flag that is unknown, given twice, or has a value it cannot have.
    #[error("{0}")]
    Flag(Diagnostic),
    /// Arguments that are missing, too many, or not of the form the instruction takes.
    #[error("{0}")]
    Arguments(Diagnostic),
    /// An instruction that cannot stand where it does, or a file without a stage.
    #[error("{0}")]
    Structure(Diagnostic),
}

impl ParseError {
    /// What is wrong and where.
    #[must_use]
    pub fn diagnostic(&self) -> &Diagnostic {
        match self {
            Self::Encoding(diagnostic)
            | Self::Directive(diagnostic)
            | Self::Unterminated(diagnostic)
            | Self::UnknownInstruction(diagnostic)
            | Self::Flag(diagnostic)
            | Self::Arguments(diagnostic)
            | Self::Structure(diagnostic) => diagnostic,
        }
    }

    /// The error with its source line; see [`Diagnostic::render`].
    #[must_use]
    pub fn render(&self) -> String {
        self.diagnostic().render()
    }
}

/// Text as a terminal can show it on one line: tabs as four blanks, other control characters as escapes, URLs without
/// secrets.
fn shown(text: &str) -> String {
    escape_line(&redact_urls(&text.replace('\t', "    "))).into_owned()
}

fn width(text: &str) -> usize {
    text.chars().map(columns).sum()
}

/// How many columns of a terminal a character takes: marks that join the one before take none, East Asian
/// wide characters and emoji take two. The ranges are the blocks of Unicode's EastAsianWidth W and F.
fn columns(char: char) -> usize {
    match u32::from(char) {
        0x0300..=0x036f | 0x200b..=0x200f | 0x20d0..=0x20ff | 0xfe00..=0xfe0f | 0xfe20..=0xfe2f => 0,
        0x1100..=0x115f
        | 0x2e80..=0x303e
        | 0x3041..=0xa4cf
        | 0xa960..=0xa97f
        | 0xac00..=0xd7a3
        | 0xf900..=0xfaff
        | 0xfe30..=0xfe6f
        | 0xff00..=0xff60
        | 0xffe0..=0xffe6
        | 0x1f300..=0x1f64f
        | 0x1f680..=0x1f6ff
        | 0x1f900..=0x1f9ff
        | 0x20000..=0x3fffd => 2,
        _ => 1,
    }
}
