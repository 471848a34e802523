//! `crossdock completion` and `crossdock man`: what shells and man(1) want to know, from the definitions of the options.

use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use crate::args::Cli;
use crate::exit::UsageError;
use crate::session::print_data;

#[derive(Debug, Args)]
pub(crate) struct CompletionArgs {
    /// Shell to write completions for
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// Directory to write the pages to, one for each command
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

/// Prints the completions of a shell.
///
/// # Errors
/// Where standard output cannot be written to.
pub(crate) fn completion(args: &CompletionArgs) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "crossdock", &mut script);
    print_data(&String::from_utf8_lossy(&script))
}

/// Writes the man pages.
///
/// # Errors
/// Where the directory cannot be written to.
pub(crate) fn man(args: &ManArgs) -> Result<()> {
    let directory = &args.directory;
    if directory.exists() && !directory.is_dir() {
        return Err(UsageError(anyhow!("{}: it is no directory, name another", directory.display())).into());
    }
    std::fs::create_dir_all(directory)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
        .with_context(|| format!("cannot write to {}", directory.display()))
}
