//! What every command that moves images has in common: a runtime, the root directory, and signals that end it cleanly.

use std::future::Future;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossdock_storage::{Abort, Digest, ImageSink, write_file};

use crate::exit::Interrupted;

/// How long uploads may take to be cancelled when the command is interrupted.
const CANCEL: Duration = Duration::from_secs(5);

/// Runs the work of a command to its end.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(work);
    // A thread that reads or hashes on for nobody, or waits for a slow disk, is no reason to wait.
    runtime.shutdown_background();
    result
}

/// `--root`, else the user's data directory as the XDG base directory specification has it; without a home, nothing
/// is remembered.
pub(crate) fn root_directory(root: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    root.map(Path::to_path_buf)
        .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("crossdock")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/share/crossdock")))
}

/// Work that puts something into a sink; SIGINT and SIGTERM end it cleanly.
pub(crate) async fn interruptible<T, E: Into<anyhow::Error>>(
    sink: &dyn ImageSink,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let signal = tokio::select! {
        result = work => return result.map_err(Into::into),
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    tracing::warn!("interrupted: cancelling uploads");
    // A second signal, or a registry that does not answer, ends it at once.
    tokio::select! {
        () = sink.abort(Abort::Interrupted) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(CANCEL) => {}
    }
    Err(Interrupted(u8::try_from(signal.as_raw_value()).unwrap_or(2)).into())
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
    std::io::stderr().lock().write_all(text.as_bytes()).context("cannot write to standard error")
}

/// Writes what a command has to say to standard output, or beside it where that is taken.
pub(crate) fn print(text: &str) -> Result<()> {
    if STDOUT_IS_TAKEN.load(Ordering::Relaxed) {
        return print_aside(text);
    }
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Who closed the pipe has read what it wanted; what was done is done.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }
}
