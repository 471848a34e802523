//! What commands that move images have in common: the root directory, and what they write for people and scripts.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context as _, Result};
use crossdock_storage::{Digest, write_file};

use crate::{environment, message};

/// `--root`, else the user's data directory as the XDG base directory specification has it; without a home, nothing
/// is remembered.
pub(crate) fn root_directory(root: Option<&Path>) -> Option<PathBuf> {
    root.map(Path::to_path_buf)
        .or_else(|| environment::absolute("XDG_DATA_HOME").map(|data| data.join("crossdock")))
        .or_else(|| environment::absolute("HOME").map(|home| home.join(".local/share/crossdock")))
}

/// Writes a digest to a file that was asked for: without a newline, as buildah does.
pub(crate) fn write_digest(file: Option<&Path>, digest: &Digest) -> Result<()> {
    let Some(file) = file else { return Ok(()) };
    write_file(file, digest.to_string().as_bytes())
        .with_context(|| format!("cannot write {}", file.display()))
}

/// Whether standard output has an archive on it, and nothing else may come there.
static STDOUT_IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// From now on, what would be printed goes to standard error.
pub(crate) fn leave_stdout_alone() {
    STDOUT_IS_TAKEN.store(true, Ordering::Relaxed);
}

/// Writes what a command has to say to standard error, for people alone.
pub(crate) fn print_aside(text: &str) -> Result<()> {
    message::to_stderr(text).context("cannot write to standard error")
}

/// Writes what a command has to say to standard output, or beside it where that is taken.
pub(crate) fn print(text: &str) -> Result<()> {
    if STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        return print_aside(text);
    }
    told(message::to_stdout(text))
}

/// Writes what programs read; where [`print`] does.
pub(crate) fn print_data(text: &str) -> Result<()> {
    if STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        return message::data_to_stderr(text).context("cannot write to standard error");
    }
    told(message::data_to_stdout(text))
}

/// Writes JSON that is laid out already.
pub(crate) fn print_laid_out(json: &str) -> Result<()> {
    print_data(&message::json_safe(json))
}

/// Writes JSON on one line, as it is made; where [`print`] does.
pub(crate) fn print_json(value: &impl serde::Serialize) -> Result<()> {
    if STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        return print_json_aside(value);
    }
    told(write_json(std::io::stdout().lock(), value))
}

/// The same to standard error.
pub(crate) fn print_json_aside(value: &impl serde::Serialize) -> Result<()> {
    write_json(std::io::stderr().lock(), value).context("cannot write to standard error")
}

fn write_json(out: impl Write, value: &impl serde::Serialize) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(out);
    let mut serializer = serde_json::Serializer::with_formatter(&mut out, Safe);
    let written = value.serialize(&mut serializer).map_err(std::io::Error::from);
    written.and_then(|()| out.write_all(b"\n")).and_then(|()| out.flush())
}

/// JSON on one line, with the escapes of [`message::json_safe`].
struct Safe;

impl serde_json::ser::Formatter for Safe {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        writer: &mut W,
        text: &str,
    ) -> std::io::Result<()> {
        writer.write_all(message::json_safe(text).as_bytes())
    }
}

/// What became of writing to standard output.
pub(crate) fn told(written: std::io::Result<()>) -> Result<()> {
    match written {
        // Who closed the pipe has read what it wanted; what was done is done.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
