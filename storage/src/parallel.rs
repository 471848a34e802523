//! Calls to the file system side by side, for many small files: on a network file system each is a round trip.

use std::thread;

/// More hide no more latency than a server is glad of, and each costs the time of some calls to start.
const THREADS: usize = 8;

/// Fewer items than this are not worth a thread.
const EACH: usize = 16;

/// Does `work` on each item, on up to eight threads; few items are done on this one.
///
/// # Errors
/// The first one in the order of the items, after which some of the items behind it may have been done.
pub fn in_parallel<T: Send, E: Send>(
    items: &mut [T],
    work: impl Fn(&mut T) -> Result<(), E> + Sync,
) -> Result<(), E> {
    let run = items.len().div_ceil(THREADS).max(EACH);
    let work = |items: &mut [T]| items.iter_mut().try_for_each(&work);
    if items.len() <= run {
        return work(items);
    }
    thread::scope(|scope| {
        let (own, others) = items.split_at_mut(run);
        let others: Vec<_> = others.chunks_mut(run).map(|items| scope.spawn(|| work(items))).collect();
        others.into_iter().fold(work(own), |result, other| {
            let other = other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            result.and(other)
        })
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

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
}
