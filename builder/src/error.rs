//! What stops a build before it begins: one enum, and each variant says where, what, and the way out.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crossdock_storage::Cancel;

use crate::containerfile::{Diagnostic, ParseError, Source, Span};

/// An error of parsing or planning.
///
/// Shown, it is one line: `Containerfile:4:6: what happened, what to do`. [`render`](Error::render) adds the
/// line of the file with the place underlined.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The Containerfile cannot be parsed.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// An instruction or flag that crossdock does not carry out.
    #[error("{0}")]
    Refused(Diagnostic),
    /// A value that the instruction cannot have.
    #[error("{0}")]
    Value(Diagnostic),
    /// A source or destination of COPY or ADD that cannot be.
    #[error("{0}")]
    Copy(Diagnostic),
    /// A file or directory of the context that cannot be read.
    #[error("{diagnostic}")]
    Read {
        /// Which, and where it is asked for.
        diagnostic: Diagnostic,
        /// Why not.
        source: io::Error,
    },
    /// An archive that ADD is to unpack cannot be read.
    #[error("{diagnostic}")]
    Archive {
        /// Which, and where it is asked for.
        diagnostic: Diagnostic,
        /// Why not.
        source: Box<crossdock_storage::Error>,
    },
    /// The image behind a FROM or a `COPY --from` cannot be had.
    #[error("{diagnostic}")]
    Base {
        /// Which, and where it is asked for.
        diagnostic: Diagnostic,
        /// Why not.
        source: Box<crossdock_storage::Error>,
    },
    /// The word to stop was given.
    #[error("planning was interrupted")]
    Interrupted,
    /// `--target` names no stage.
    #[error("there is no stage {wanted:?} to build, {known}")]
    Target {
        /// What was asked for.
        wanted: String,
        /// The stages there are, as a sentence.
        known: String,
    },
    /// The build context is no directory, nor an archive.
    #[error("the build context {} is no directory and no tar archive, name the directory that holds what COPY copies", path.display())]
    ContextKind {
        /// The path as given.
        path: PathBuf,
    },
    /// An archive that is a build context, or what is in it, cannot be used.
    #[error("cannot use the build context {name}{reason}")]
    ContextArchive {
        /// As messages call it.
        name: String,
        /// What is wrong, behind a colon; empty where the source says so.
        reason: String,
        /// Why not.
        source: Option<Box<crossdock_storage::Error>>,
    },
    /// The build context cannot be opened.
    #[error("cannot open the build context {}", path.display())]
    Context {
        /// The path as given.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// An ignore file cannot be read.
    #[error("cannot read the ignore file {}", path.display())]
    IgnoreFile {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A pattern of an ignore file is malformed.
    #[error("{name}:{line}: invalid pattern {pattern:?}, {reason}")]
    IgnorePattern {
        /// The file as shown to the user.
        name: String,
        /// The line, from 1.
        line: usize,
        /// The line's text.
        pattern: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Error {
    /// The place in the Containerfile, where the error has one.
    #[must_use]
    pub fn diagnostic(&self) -> Option<&Diagnostic> {
        match self {
            Self::Parse(error) => Some(error.diagnostic()),
            Self::Refused(diagnostic)
            | Self::Value(diagnostic)
            | Self::Copy(diagnostic)
            | Self::Read { diagnostic, .. }
            | Self::Archive { diagnostic, .. }
            | Self::Base { diagnostic, .. } => Some(diagnostic),
            Self::Interrupted
            | Self::Target { .. }
            | Self::ContextKind { .. }
            | Self::ContextArchive { .. }
            | Self::Context { .. }
            | Self::IgnoreFile { .. }
            | Self::IgnorePattern { .. } => None,
        }
    }

    /// The error, and the line of the Containerfile with the place underlined where there is one.
    #[must_use]
    pub fn render(&self) -> String {
        self.diagnostic().map_or_else(|| self.to_string(), Diagnostic::render)
    }
}

/// What is wrong with a source or destination, before it is known where the Containerfile asked for it.
#[derive(Debug)]
pub(crate) struct Problem {
    message: String,
    /// Whether the message begins with the source: then `COPY source` goes before it.
    of_source: bool,
    help: Option<String>,
    cause: Option<io::Error>,
    /// Nothing is wrong: the word to stop was given.
    interrupted: bool,
}

impl Problem {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), of_source: false, help: None, cause: None, interrupted: false }
    }

    /// A problem whose message begins with the source's name.
    pub(crate) fn source(message: impl Into<String>) -> Self {
        Self { of_source: true, ..Self::new(message) }
    }

    /// What happened, and what to do, on one line.
    pub(crate) fn text(&self) -> String {
        match &self.help {
            Some(help) => format!("{}, {help}", self.message),
            None => self.message.clone(),
        }
    }

    /// Asks whether to go on.
    pub(crate) fn check(cancel: &Cancel) -> Result<(), Self> {
        cancel.check().map_err(|_| Self { interrupted: true, ..Self::new("interrupted") })
    }

    #[must_use]
    pub(crate) fn with_help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    #[must_use]
    pub(crate) fn with_cause(mut self, cause: io::Error) -> Self {
        self.cause = Some(cause);
        self
    }

    /// The error at its place; `keyword` is the instruction's.
    pub(crate) fn at(self, source: &Arc<Source>, span: Span, keyword: &str) -> Error {
        if self.interrupted {
            return Error::Interrupted;
        }
        let message =
            if self.of_source { format!("{keyword} source {}", self.message) } else { self.message };
        let mut diagnostic = Diagnostic::new(source, span, message);
        if let Some(help) = self.help {
            diagnostic = diagnostic.with_help(help);
        }
        match self.cause {
            Some(source) => Error::Read { diagnostic, source },
            None => Error::Copy(diagnostic),
        }
    }
}
