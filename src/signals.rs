//! SIGINT and SIGTERM: one listener from the first line of `main` to the last, for every command.
//!
//! A command runs on a thread of its own, and `main` listens meanwhile. The first signal gives the word to stop, at which
//! the command puts in order what it left half done, and ends. A second signal ends the program at once. So does a command
//! that does not end by itself: one that waits for a lock, for standard input or for a file system that does not answer.

use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{LazyLock, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossdock_builder::Error as BuildError;
use crossdock_registry::Error as RegistryError;
use crossdock_storage::{Cancel, Error as StorageError};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use crate::exit::{self, Interrupted};

/// How long a command may take to end by itself: one that publishes something, and any other.
const PATIENCE: Duration = Duration::from_secs(2);
const PATIENCE_OF_OTHERS: Duration = Duration::from_millis(500);

/// After so long it says that it is at it.
const NOTICE: Duration = Duration::from_millis(300);

/// How long it may take to clean up, once it has begun with that.
const CLEANING: Duration = Duration::from_secs(5);

/// Stacks of the threads that commands run on: directories in directories are walked by recursion.
const STACK: usize = 8 << 20;

/// What the listener and the command tell one another. There is one of it, for signals are the process's.
static SIGNALS: LazyLock<Signals> = LazyLock::new(Signals::default);

#[derive(Debug, Default)]
struct Signals {
    cancel: Cancel,
    /// The signal that came, or 0.
    came: AtomicU8,
    tags: AtomicBool,
    published: Mutex<Vec<String>>,
}

/// Runs a command, which gives its exit code, and listens to signals meanwhile.
pub(crate) fn run(command: impl FnOnce() -> u8 + Send + 'static) -> ExitCode {
    match try_run(command) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            exit::show(&error);
            ExitCode::from(exit::FAILURE)
        }
    }
}

fn try_run(command: impl FnOnce() -> u8 + Send + 'static) -> Result<u8> {
    let runtime = runtime()?;
    let entered = runtime.enter();
    let interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    drop(entered);
    let handle = runtime.handle().clone();
    let (ended, end) = oneshot::channel();
    let run = move || {
        let _entered = handle.enter();
        // Nobody waits any more for a command that was given up.
        let _ = ended.send(command());
    };
    let thread = std::thread::Builder::new().name("command".to_owned()).stack_size(STACK).spawn(run);
    let thread = thread.context("cannot start a thread")?;
    let code = runtime.block_on(listen(interrupt, terminate, end));
    // A thread that reads or hashes on for nobody, or waits for a slow disk, is no reason to wait.
    runtime.shutdown_background();
    Ok(code.unwrap_or_else(|_| match thread.join() {
        Ok(()) => exit::FAILURE,
        Err(panic) => std::panic::resume_unwind(panic),
    }))
}

fn runtime() -> Result<Runtime> {
    Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// Waits for the end of the command, or for the signals that end it. An error means that the command panicked.
async fn listen(
    mut interrupt: Signal,
    mut terminate: Signal,
    mut end: oneshot::Receiver<u8>,
) -> Result<u8, oneshot::error::RecvError> {
    let came = tokio::select! {
        code = &mut end => return code,
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    SIGNALS.came.store(u8::try_from(came.as_raw_value()).unwrap_or(2), Ordering::Release);
    SIGNALS.cancel.cancel();
    tokio::select! {
        biased;
        code = &mut end => return code,
        () = given_up() => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    exit::show(&interrupted().into());
    Ok(128 + interrupted().signal)
}

/// Waits as long as the command may take to end by itself.
async fn given_up() {
    tokio::time::sleep(NOTICE).await;
    tracing::warn!("interrupted: what is under way is put in order; a second signal ends it at once");
    let patience = if SIGNALS.tags.load(Ordering::Relaxed) { PATIENCE } else { PATIENCE_OF_OTHERS };
    tokio::time::sleep(patience - NOTICE).await;
    let cleaned = async {
        while SIGNALS.cancel.is_cleaning() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // The command still has to say how it ended.
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    if SIGNALS.cancel.is_cleaning() {
        let _ = tokio::time::timeout(CLEANING, cleaned).await;
    }
}

/// The word to stop, which the first signal gives.
pub(crate) fn cancel() -> Cancel {
    SIGNALS.cancel.clone()
}

/// The number of the signal that came.
pub(crate) fn came() -> Option<u8> {
    Some(SIGNALS.came.load(Ordering::Acquire)).filter(|came| *came != 0)
}

/// Notes that the command moves tags: whoever interrupts it wants to know whether it did.
pub(crate) fn moves_tags() {
    SIGNALS.tags.store(true, Ordering::Relaxed);
}

/// Notes that an image is where it belongs, under these names.
pub(crate) fn published(names: impl IntoIterator<Item = String>) {
    SIGNALS.published.lock().unwrap_or_else(PoisonError::into_inner).extend(names);
}

/// Asks whether to begin with what comes after the images are where they belong. Once one is, it is done in any case.
pub(crate) fn check() -> Result<()> {
    match SIGNALS.published.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
        true => Ok(SIGNALS.cancel.check()?),
        false => Ok(()),
    }
}

/// Runs async work, which is dropped when a signal comes.
pub(crate) fn block_on<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    block_on_to_end(SIGNALS.cancel.or(work))
}

/// Runs async work that looks at [`cancel`] itself, for it has something to put in order.
pub(crate) fn block_on_to_end<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    Handle::current().block_on(work)
}

/// The error and the exit code of a command that failed. After a signal it ended for that, whatever it stumbled over.
pub(crate) fn outcome(error: anyhow::Error) -> (anyhow::Error, u8) {
    match came() {
        None => {
            let code = exit::code(&error);
            (error, code)
        }
        Some(signal) => {
            let told = if error.chain().any(is_interruption) { interrupted().into() } else { error };
            (told, 128 + signal)
        }
    }
}

fn interrupted() -> Interrupted {
    Interrupted {
        signal: came().unwrap_or(2),
        tags: SIGNALS.tags.load(Ordering::Relaxed),
        published: SIGNALS.published.lock().unwrap_or_else(PoisonError::into_inner).clone(),
    }
}

fn is_interruption(cause: &(dyn std::error::Error + 'static)) -> bool {
    let of_registry =
        |error: &RegistryError| matches!(error, RegistryError::Storage(StorageError::Interrupted));
    match cause.downcast_ref::<StorageError>() {
        Some(StorageError::Interrupted) => true,
        Some(StorageError::Backend(inner)) => inner.downcast_ref().is_some_and(of_registry),
        _ => {
            matches!(cause.downcast_ref(), Some(BuildError::Interrupted))
                || cause.downcast_ref().is_some_and(of_registry)
        }
    }
}
