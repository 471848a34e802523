//! How work runs side by side; there is no other way in the workspace.
//!
//! * Async tasks wait: for the network, and for the two below. Several of one kind are [`in_lanes`].
//! * A [`blocking`] thread reads, hashes and writes one thing from its beginning to its end. It may wait for anything.
//! * The [`pool`] does short pieces of work for blocking threads, several at a time: a window of a file, a piece to
//!   compress, a look at a file. Such a piece never waits for the network or for another piece, so the pool cannot lock
//!   itself up.

use std::future::{Future, pending};
use std::sync::LazyLock;
use std::thread::available_parallelism;

use rayon::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tokio::task::{JoinError, JoinSet};
use tracing::Instrument as _;

use crate::cancel::Cancel;
use crate::error::Error;

/// Calls to a network file system that are under way at once. More hide no more latency than a server is glad of.
const CALLS: usize = 8;

/// Fewer items than this are not worth a thread.
const EACH: usize = 16;

/// The pool; `None` where the system gives no threads, and callers do the work themselves.
pub(crate) fn pool() -> Option<&'static ThreadPool> {
    static POOL: LazyLock<Option<ThreadPool>> = LazyLock::new(|| {
        // Calls that wait for a file system need threads, however few the processors are.
        let threads = available_parallelism().map_or(CALLS, |cores| cores.get().max(CALLS));
        ThreadPoolBuilder::new()
            .num_threads(threads)
            .thread_name(|index| format!("work-{index}"))
            .build()
            .inspect_err(|error| tracing::warn!(%error, "working without a pool of threads"))
            .ok()
    });
    POOL.as_ref()
}

/// Does `work` on each item, on up to eight threads of the pool; few items are done on this one. To be called where
/// waiting is allowed.
///
/// # Errors
/// The first one in the order of the items, after which some of the items behind it may have been done.
pub fn in_parallel<T: Send, E: Send>(
    items: &mut [T],
    work: impl Fn(&mut T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let run = items.len().div_ceil(CALLS).max(EACH);
    let work = |items: &mut [T]| items.iter_mut().try_for_each(&work);
    let Some(pool) = pool().filter(|_| items.len() > run) else { return work(items) };
    let done: Vec<_> = pool.install(|| items.par_chunks_mut(run).map(work).collect());
    done.into_iter().collect()
}

/// Does two short pieces of work, side by side where there are threads for it.
pub(crate) fn beside(one: impl FnOnce() + Send, other: impl FnOnce() + Send) {
    match pool() {
        Some(pool) => drop(pool.join(one, other)),
        None => {
            one();
            other();
        }
    }
}

/// Does `work`, which may wait, on a blocking thread of the current tokio runtime. The work goes on where the returned
/// future is dropped; a [`Cancel`] can stop it.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => lost(error).await,
    }
}

/// Does `work` for all items, at most `limit` at a time, each in a task of its own; gives the results in the order of the
/// items. On the first error, or the word to stop, the other tasks are dropped, and have let go of all they held when
/// this returns.
///
/// # Errors
/// The first error in time, and [`Error::Interrupted`].
pub async fn in_lanes<I, T, E, F>(
    items: impl IntoIterator<Item = I>,
    limit: usize,
    cancel: &Cancel,
    work: impl Fn(usize, I) -> F,
) -> Result<Vec<T>, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut items = items.into_iter().enumerate();
    let mut lanes = JoinSet::new();
    let mut results = Vec::new();
    let ended = loop {
        while lanes.len() < limit.max(1)
            && let Some((index, item)) = items.next()
        {
            let work = work(index, item).in_current_span();
            lanes.spawn(async move { (index, work.await) });
        }
        let ended = tokio::select! {
            biased;
            () = cancel.cancelled() => break Err(Error::Interrupted.into()),
            ended = lanes.join_next() => ended,
        };
        match ended {
            None => break Ok(()),
            Some(Ok((index, Ok(result)))) => results.push((index, result)),
            Some(Ok((_, Err(error)))) => break Err(error),
            Some(Err(error)) => lost(error).await,
        }
    };
    lanes.shutdown().await;
    ended?;
    results.sort_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// What becomes of a task that ended without a result: a panic goes on here. Otherwise the runtime ends, and nobody waits.
async fn lost<T>(error: JoinError) -> T {
    match error.try_into_panic() {
        Ok(panic) => std::panic::resume_unwind(panic),
        Err(_) => pending().await,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Barrier;

    use super::*;

    #[test]
    fn each_item_is_done_once() {
        for len in [0, 1, EACH, EACH + 1, 1000] {
            let mut items = vec![0; len];
            in_parallel(&mut items, |item| {
                *item += 1;
                Ok::<_, Error>(())
            })
            .unwrap();
            assert!(items.iter().all(|item| *item == 1), "{len} items");
        }
    }

    #[test]
    fn the_first_error_is_that_of_the_first_item() {
        let mut items: Vec<_> = (0..1000).collect();
        let done = AtomicUsize::new(0);
        let error = in_parallel(&mut items, |item| {
            done.fetch_add(1, Ordering::Relaxed);
            if *item < 300 { Ok(()) } else { Err(Error::Unusable(item.to_string())) }
        });
        assert_eq!(error.unwrap_err().to_string(), "300");
        assert!(done.into_inner() > 300);
    }

    #[tokio::test]
    async fn lanes_run_side_by_side_and_give_results_in_order() {
        // Each pair meets before either goes on.
        let (meeting, cancel) = (Arc::new(Barrier::new(2)), Cancel::default());
        let results = in_lanes(0..6, 2, &cancel, |index, item| {
            let meeting = Arc::clone(&meeting);
            async move {
                meeting.wait().await;
                Ok::<_, Error>((index, item * 10))
            }
        });
        assert_eq!(results.await.unwrap(), [(0, 0), (1, 10), (2, 20), (3, 30), (4, 40), (5, 50)]);
    }

    #[tokio::test]
    async fn there_are_no_more_lanes_than_were_asked_for() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let work = |_, ()| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                now.fetch_sub(1, Ordering::SeqCst);
                Ok::<_, Error>(())
            }
        };
        in_lanes([(); 20], 3, &Cancel::default(), work).await.unwrap();
        assert_eq!(most.load(Ordering::SeqCst), 3);
    }

    #[tokio::test]
    async fn the_first_error_ends_the_other_lanes_before_it_is_told() {
        let (held, cancel) = (Arc::new(()), Cancel::default());
        let error = in_lanes(0..3, 3, &cancel, |_, item| {
            let held = Arc::clone(&held);
            async move {
                if item == 1 {
                    return Err(Error::Unusable("one".to_owned()));
                }
                pending::<()>().await;
                drop(held);
                Ok(())
            }
        });
        assert_eq!(error.await.unwrap_err().to_string(), "one");
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    async fn the_word_to_stop_ends_all_lanes() {
        let (held, cancel) = (Arc::new(()), Cancel::default());
        let stopped = in_lanes(0..3, 2, &cancel, |_, item| {
            let (held, cancel) = (Arc::clone(&held), cancel.clone());
            async move {
                if item == 1 {
                    cancel.cancel();
                }
                pending::<()>().await;
                drop(held);
                Ok::<_, Error>(())
            }
        });
        assert!(matches!(stopped.await, Err(Error::Interrupted)));
        assert_eq!(Arc::strong_count(&held), 1);
    }

    #[tokio::test]
    #[should_panic(expected = "on its thread")]
    async fn a_panic_on_a_blocking_thread_is_one_here() {
        blocking(|| panic!("on its thread")).await;
    }
}
