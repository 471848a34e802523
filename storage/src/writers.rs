//! Writers on threads of their own that end when nobody waits for them any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{RwLock, oneshot};

use crate::error::{Error, Result};

/// The threads that write for one sink.
#[derive(Debug, Default)]
pub(crate) struct Writers(Arc<RwLock<()>>);

/// Whether a writer is still waited for.
#[derive(Debug, Clone)]
pub(crate) struct Wanted(Arc<AtomicBool>);

/// Says that it is not, when it is dropped.
struct Waiting(Wanted);

impl Writers {
    /// Runs `write` on a thread of its own. Where the returned future is dropped, `write` is told by its argument, and
    /// [`ended`](Self::ended) waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Wanted) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let running = Arc::clone(&self.0).read_owned().await;
        let waiting = Waiting(Wanted(Arc::new(AtomicBool::new(true))));
        let wanted = waiting.0.clone();
        let (done, result) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            // Where nobody waits any more the result comes back, and its temporary file goes before the lock does.
            drop(done.send(write(&wanted)));
            drop(running);
        });
        result.await.map_err(|_| Error::Interrupted)?
    }

    /// Waits until no thread writes any more.
    pub(crate) async fn ended(&self) {
        drop(self.0.write().await);
    }
}

impl Wanted {
    /// # Errors
    /// [`Error::Interrupted`] where nobody waits any more.
    pub(crate) fn check(&self) -> Result<()> {
        if self.0.load(Ordering::Acquire) { Ok(()) } else { Err(Error::Interrupted) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}
