//! Exit codes: one for each way out that a script may want to tell apart. `crossdock --help` lists them.

use std::fmt;

use crossdock_builder::Error as BuildError;
use crossdock_registry::Error as RegistryError;
use crossdock_storage::Error as StorageError;

use crate::model::BrokenModel;
use crate::{message, report, session};

/// Done.
pub(crate) const SUCCESS: u8 = 0;
/// A reason that none of the others names.
pub(crate) const FAILURE: u8 = 1;
/// The command line cannot be understood (clap's own), or cannot be carried out as configured.
pub(crate) const USAGE: u8 = 2;
/// The Containerfile, the context or the base cannot be used.
pub(crate) const INPUT: u8 = 3;
/// A source file cannot be read, or changed.
pub(crate) const SOURCE: u8 = 4;
/// The registry or the network.
pub(crate) const REGISTRY: u8 = 5;
/// The registry refused the credentials.
pub(crate) const CREDENTIALS: u8 = 6;

/// An error of the command line's meaning: as clap's own errors, it ends with [`USAGE`].
#[derive(Debug)]
pub(crate) struct UsageError(pub(crate) anyhow::Error);

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for UsageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source()
    }
}

/// Ended by a signal: 128 and its number, as shells have it.
#[derive(Debug, Clone)]
pub(crate) struct Interrupted {
    /// The signal's number.
    pub(crate) signal: u8,
    /// Whether the command moves tags.
    pub(crate) tags: bool,
    /// Where the image is by now.
    pub(crate) published: Vec<String>,
}

impl fmt::Display for Interrupted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.published.as_slice() {
            [] if self.tags => f.write_str("interrupted; no tag moved"),
            [] => f.write_str("interrupted"),
            names => write!(f, "interrupted; the image is at {} by now, and nowhere else", names.join(", ")),
        }
    }
}

impl std::error::Error for Interrupted {}

/// `--strict` was given, and there were warnings.
#[derive(Debug, Clone)]
pub(crate) struct Strict {
    warnings: Vec<String>,
    /// Whether the log has them.
    logged: bool,
}

impl Strict {
    pub(crate) fn new(warnings: Vec<String>) -> Self {
        Self { warnings, logged: tracing::enabled!(tracing::Level::WARN) }
    }
}

impl fmt::Display for Strict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let warnings = match self.warnings.len() {
            1 => "there is a warning".to_owned(),
            number => format!("there are {number} warnings"),
        };
        write!(
            f,
            "{warnings}, and --strict takes warnings for errors: nothing was sent; mend what is warned of, or leave --strict out"
        )?;
        // They are the reason, and a log without warnings does not say it.
        let mut hidden = self.warnings.iter().filter(|_| !self.logged);
        hidden.try_for_each(|warning| write!(f, "\nwarning: {warning}"))
    }
}

impl std::error::Error for Strict {}

/// What was asked for is not there, and the exit code is the answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Absent;

impl fmt::Display for Absent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("there is none")
    }
}

impl std::error::Error for Absent {}

/// Prints the help or the version, which clap gives back as an error.
///
/// # Errors
/// All other errors, and where it cannot be printed.
pub(crate) fn help(error: anyhow::Error) -> anyhow::Result<()> {
    match error.downcast_ref::<clap::Error>() {
        Some(help) if !help.use_stderr() => session::told(help.print()),
        _ => Err(error),
    }
}

/// Shows an error to people. There is nowhere left to say that standard error is closed.
pub(crate) fn show(error: &anyhow::Error) {
    let _ = match error.downcast_ref::<clap::Error>() {
        // It cites what was typed.
        Some(error) if error.to_string() != message::clean(&error.to_string()) => {
            message::to_stderr(&error.to_string())
        }
        Some(error) => error.print(),
        None => message::to_stderr(&format!("{}\n", report::error(error))),
    };
}

/// The exit code of an error: the first of its chain that has one decides.
pub(crate) fn code(error: &anyhow::Error) -> u8 {
    error.chain().find_map(code_of).unwrap_or(FAILURE)
}

fn code_of(cause: &(dyn std::error::Error + 'static)) -> Option<u8> {
    if cause.is::<UsageError>() {
        return Some(USAGE);
    }
    if cause.is::<Strict>() || cause.is::<BrokenModel>() {
        return Some(INPUT);
    }
    if let Some(error) = cause.downcast_ref::<clap::Error>() {
        return error.use_stderr().then_some(USAGE);
    }
    if let Some(Interrupted { signal, .. }) = cause.downcast_ref() {
        return Some(128 + signal);
    }
    if let Some(error) = cause.downcast_ref::<BuildError>() {
        return match error {
            BuildError::Base { source, .. } => Some(of_base(source)),
            _ => Some(INPUT),
        };
    }
    if let Some(error) = cause.downcast_ref::<StorageError>() {
        return of_storage(error);
    }
    cause.downcast_ref::<RegistryError>().map(of_registry)
}

fn of_storage(error: &StorageError) -> Option<u8> {
    match error {
        StorageError::Open { .. }
        | StorageError::Read { .. }
        | StorageError::Changed { .. }
        | StorageError::Altered { .. } => Some(SOURCE),
        StorageError::Backend(inner) => inner.downcast_ref::<RegistryError>().map(of_registry),
        StorageError::DigestMismatch { .. }
        | StorageError::SizeMismatch { .. }
        | StorageError::Platform { .. } => Some(REGISTRY),
        StorageError::Malformed { .. }
        | StorageError::Unusable(_)
        | StorageError::Limit { .. }
        | StorageError::Entry { .. } => Some(INPUT),
        _ => None,
    }
}

/// A base that cannot be had is the registry's matter, but not where the registry works and has no such image.
fn of_base(error: &StorageError) -> u8 {
    let registry = match error {
        StorageError::Backend(inner) => inner.downcast_ref(),
        _ => None,
    };
    match registry {
        Some(
            RegistryError::NotFound { .. }
            | RegistryError::Schema1 { .. }
            | RegistryError::Reference { .. }
            // Nobody was asked: the name in FROM and the registries.conf do not go together.
            | RegistryError::ShortName { .. }
            | RegistryError::Blocked { .. }
            | RegistryError::Conf { .. },
        ) => INPUT,
        // The last is the place itself, the others are mirrors of it.
        Some(RegistryError::Everywhere { tried, .. }) => tried.last().map_or(INPUT, |(_, last)| of_base(last)),
        _ if matches!(error, StorageError::Platform { .. }) => INPUT,
        _ => of_storage(error).unwrap_or(INPUT),
    }
}

fn of_registry(error: &RegistryError) -> u8 {
    match error {
        // Known before anything was sent: the image is none for that registry.
        RegistryError::Destination { .. } => INPUT,
        // Nobody was asked: what was named on the command line is no place to go to.
        RegistryError::Reference { .. }
        | RegistryError::ShortName { .. }
        | RegistryError::Blocked { .. }
        | RegistryError::Conf { .. } => USAGE,
        RegistryError::Storage(
            StorageError::Open { .. }
            | StorageError::Read { .. }
            | StorageError::Changed { .. }
            | StorageError::Altered { .. },
        ) => SOURCE,
        _ if error.is_credentials() => CREDENTIALS,
        _ => REGISTRY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_lists_every_code() {
        use clap::CommandFactory;
        let help = crate::args::Cli::command().render_help().to_string();
        for code in [SUCCESS, FAILURE, USAGE, INPUT, SOURCE, REGISTRY, CREDENTIALS] {
            assert!(
                help.lines().any(|line| line.trim_start().starts_with(&format!("{code}  "))),
                "{code}\n{help}"
            );
        }
    }
}
