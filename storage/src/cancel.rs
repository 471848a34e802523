//! `Cancel`: the word to stop, given once by whoever started some work and looked at by all who do it.
//!
//! Async code waits with [`or`](Cancel::or), blocking code asks with [`check`](Cancel::check) between two steps. Work
//! that stops this way ends with [`Error::Interrupted`].

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::Notify;

use crate::error::{Error, Result};

/// How long the last step of an image may take once the word to stop is given. Most take less, and then it is known that
/// the image is there.
const LAST_STEP: Duration = Duration::from_millis(700);

/// The word to stop. Clones share it; the default one is never given by anybody else.
#[derive(Debug, Clone, Default)]
pub struct Cancel(Arc<State>);

#[derive(Debug, Default)]
struct State {
    given: AtomicBool,
    waiting: Notify,
    /// How many are cleaning up.
    cleaning: AtomicUsize,
}

/// Gives the word when it is dropped: nobody waits for the work any more.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Cancel {
    /// Gives the word. Giving it twice does no more.
    pub fn cancel(&self) {
        self.0.given.store(true, Ordering::Release);
        self.0.waiting.notify_waiters();
    }

    /// Whether the word was given.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.given.load(Ordering::Acquire)
    }

    /// Asks whether to go on; for blocking code, between two steps.
    ///
    /// # Errors
    /// [`Error::Interrupted`] once the word was given.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::Interrupted) } else { Ok(()) }
    }

    /// Waits for the word.
    pub async fn cancelled(&self) {
        let mut notified = pin!(self.0.waiting.notified());
        // Registered before the flag is read, so that no word is missed in between.
        notified.as_mut().enable();
        if !self.is_cancelled() {
            notified.await;
        }
    }

    /// The result of `work`, which is dropped when the word comes first.
    ///
    /// # Errors
    /// Those of `work`, and [`Error::Interrupted`].
    pub async fn or<T, E: From<Error>>(&self, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        tokio::select! {
            biased;
            () = self.cancelled() => Err(Error::Interrupted.into()),
            result = work => result,
        }
    }

    /// Takes the step that makes an image visible to others in `place`. It does not begin once the word was given. One
    /// that is under way gets a moment to end, as it cannot be taken back.
    ///
    /// # Errors
    /// Those of `step`; [`Error::Interrupted`] where it did not begin, and [`Error::Unsettled`] where it did not end.
    pub async fn last_step<T>(&self, place: String, step: impl Future<Output = Result<T>>) -> Result<T> {
        self.check()?;
        let mut step = pin!(step);
        tokio::select! {
            biased;
            result = &mut step => return result,
            () = self.cancelled() => {}
        }
        tokio::time::timeout(LAST_STEP, step).await.unwrap_or(Err(Error::Unsettled { place }))
    }

    /// Runs `work`, which puts in order what was left half done. [`is_cleaning`](Self::is_cleaning) says so meanwhile.
    pub async fn cleaning<T>(&self, work: impl Future<Output = T>) -> T {
        let _cleaning = Cleaning::begin(&self.0);
        work.await
    }

    /// Whether somebody is cleaning up, and should not be stopped yet.
    #[must_use]
    pub fn is_cleaning(&self) -> bool {
        self.0.cleaning.load(Ordering::Acquire) > 0
    }
}

/// Counts one who cleans up.
struct Cleaning<'a>(&'a State);

impl<'a> Cleaning<'a> {
    fn begin(state: &'a State) -> Self {
        state.cleaning.fetch_add(1, Ordering::AcqRel);
        Self(state)
    }
}

impl Drop for Cleaning<'_> {
    fn drop(&mut self) {
        self.0.cleaning.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn work_ends_at_the_word_and_does_not_begin_after_it() {
        let cancel = Cancel::default();
        assert_eq!(cancel.or(ready(Ok::<_, Error>(1))).await.unwrap(), 1);
        let waiting = tokio::spawn({
            let cancel = cancel.clone();
            async move { cancel.or(pending::<Result<()>>()).await }
        });
        cancel.cancel();
        assert!(matches!(waiting.await.unwrap(), Err(Error::Interrupted)));
        assert!(matches!(cancel.or(ready(Ok::<_, Error>(1))).await, Err(Error::Interrupted)));
        assert!(matches!(cancel.check(), Err(Error::Interrupted)));
    }

    #[tokio::test]
    async fn a_last_step_under_way_is_let_finish_or_is_told_to_be_unsettled() {
        let cancel = Cancel::default();
        let step = async {
            cancel.cancel();
            tokio::task::yield_now().await;
            Ok(1)
        };
        assert_eq!(cancel.last_step("there".to_owned(), step).await.unwrap(), 1);
        let never = cancel.last_step("there".to_owned(), ready(Ok(1))).await;
        assert!(matches!(never, Err(Error::Interrupted)));

        let cancel = Cancel::default();
        let step = async {
            cancel.cancel();
            pending::<Result<()>>().await
        };
        let unsettled = cancel.last_step("there".to_owned(), step).await;
        assert!(matches!(unsettled, Err(Error::Unsettled { place }) if place == "there"));
    }

    #[tokio::test]
    async fn cleaning_up_shows_until_it_is_done() {
        let cancel = Cancel::default();
        cancel.cleaning(async { assert!(cancel.is_cleaning()) }).await;
        assert!(!cancel.is_cleaning());
    }
}
