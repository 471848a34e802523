//! Writers on threads of their own that end when nobody waits for them any more.

use std::sync::Arc;

use tokio::sync::{RwLock, oneshot};

use crate::cancel::{Cancel, CancelOnDrop};
use crate::error::Result;
use crate::parallel::blocking;

/// The threads that write for one sink.
#[derive(Debug, Default)]
pub(crate) struct Writers(Arc<RwLock<()>>);

impl Writers {
    /// Runs `write` on a blocking thread. Where the returned future is dropped, `write` is told by its argument, and
    /// [`ended`](Self::ended) waits for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        write: impl FnOnce(&Cancel) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let running = Arc::clone(&self.0).read_owned().await;
        let waiting = CancelOnDrop(Cancel::default());
        let cancel = waiting.0.clone();
        let (done, mut result) = oneshot::channel();
        blocking(move || {
            // Where nobody waits any more the result comes back, and its temporary file goes before the lock does.
            drop(done.send(write(&cancel)));
            drop(running);
        })
        .await;
        result.try_recv().unwrap_or(Err(crate::Error::Interrupted))
    }

    /// Waits until no thread writes any more.
    pub(crate) async fn ended(&self) {
        drop(self.0.write().await);
    }
}
