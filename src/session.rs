//! What commands that move images have in common: the root directory, and what they write for people and scripts.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use crossdock_storage::Digest;

/// `--root`, else the user's data directory as the XDG base directory specification has it; without a home, nothing
/// is remembered.
pub(crate) fn root_directory(root: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    root.map(Path::to_path_buf)
        .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("crossdock")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/share/crossdock")))
}

/// Writes a digest to a file that was asked for: without a newline, as buildah does.
pub(crate) fn write_digest(file: Option<&Path>, digest: &Digest) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, digest.to_string()).with_context(|| format!("cannot write {}", file.display()))
}

/// Writes what a command has to say to standard error, for people alone.
pub(crate) fn print_aside(text: &str) -> Result<()> {
    std::io::stderr().lock().write_all(text.as_bytes()).context("cannot write to standard error")
}

/// Writes what a command has to say.
pub(crate) fn print(text: &str) -> Result<()> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Who closed the pipe has read what it wanted; what was done is done.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
