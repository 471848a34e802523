//! The flags of all commands that read and send files.

use clap::{Args, ValueEnum};

use super::values::number;

/// How files are read and sent, and what is shown of it.
#[derive(Debug, Args)]
pub(crate) struct WorkArgs {
    /// Layers that are read, hashed and sent at the same time; 0 for the default
    #[arg(long, value_name = "N", default_value_t = DEFAULT_JOBS, value_parser = number::<u16>(0..=64))]
    jobs: u16,

    /// How files are read: auto maps them on local file systems and reads them on network ones
    #[arg(long, value_name = "MODE", default_value = "auto")]
    pub(crate) io: String,

    /// How progress is shown on standard error; auto is tty on a terminal, else plain. json writes one JSON object
    /// a line to standard output
    #[arg(long, value_name = "STYLE", default_value = "auto")]
    pub(crate) progress: ProgressStyle,
}

const DEFAULT_JOBS: u16 = 4;

impl WorkArgs {
    /// Layers at the same time, at least one.
    pub(crate) fn jobs(&self) -> usize {
        usize::from(if self.jobs == 0 { DEFAULT_JOBS } else { self.jobs })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ProgressStyle {
    /// tty on a terminal, else plain
    Auto,
    /// A bar for each layer
    Tty,
    /// A line for each layer every few seconds
    Plain,
    /// JSON lines
    Json,
    /// Nothing
    #[value(alias = "quiet")]
    None,
}
