//! `Body`: what is sent while it is made. It keeps an exact length where one is known, gives its last bytes only
//! when its source has ended well, and says how long it has been waiting for the connection.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use crossdock_storage::{BlobStream, Counters, Error as StorageError, LayerWatch};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::time::Instant;

use crate::client::lock;

/// A body of a request. The bytes are those of the source: no copy is made.
///
/// The last bytes of a body of known length are held back until the source says that it is at its end: a source that
/// fails its last check (a fence, a digest) breaks the request, and the registry never sees it whole.
pub(crate) struct Body {
    shared: Arc<Shared>,
    remaining: Option<u64>,
    before: u64,
    held: Option<Bytes>,
}

/// The sender's hold on a [`Body`] that the HTTP client has taken.
#[derive(Clone)]
pub(crate) struct BodyHandle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    counters: Arc<Counters>,
    watch: Option<LayerWatch>,
}

struct State {
    source: Option<BlobStream>,
    failure: Option<StorageError>,
    sent: u64,
    /// Since when the connection has not asked for more; `None` while the source is to give more.
    idle_since: Option<Instant>,
    ended: bool,
}

impl Body {
    /// A body of what `source` gives; `len` is its exact length, where it is known and the receiver may be told.
    /// `watch` is told how much was given to the connection.
    pub(crate) fn new(
        source: BlobStream,
        len: Option<u64>,
        counters: Arc<Counters>,
        watch: Option<LayerWatch>,
    ) -> (Self, BodyHandle) {
        let state = State {
            source: Some(source),
            failure: None,
            sent: 0,
            idle_since: Some(Instant::now()),
            ended: false,
        };
        let shared = Arc::new(Shared { state: Mutex::new(state), counters, watch });
        (Self { shared: Arc::clone(&shared), remaining: len, before: 0, held: None }, BodyHandle(shared))
    }

    /// The same, of bytes that come after `before` others: what the watch is told.
    pub(crate) fn after(mut self, before: u64) -> Self {
        self.before = before;
        self
    }

    /// Bytes to come, where that is known.
    pub(crate) const fn len(&self) -> Option<u64> {
        self.remaining
    }

    /// Gives a chunk to the connection.
    fn give(&mut self, bytes: Bytes) -> Option<Result<Frame<Bytes>, io::Error>> {
        let len = bytes.len() as u64;
        self.remaining = self.remaining.map(|remaining| remaining - len);
        self.shared.counters.add_sent(len);
        let mut state = self.shared.lock();
        state.sent += len;
        state.idle_since = Some(Instant::now());
        let sent = state.sent;
        drop(state);
        if let Some(watch) = &self.shared.watch {
            watch.position(self.before + sent);
        }
        Some(Ok(Frame::data(bytes)))
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl BodyHandle {
    /// How many bytes were given to the connection.
    pub(crate) fn sent(&self) -> u64 {
        self.0.lock().sent
    }

    /// Lets go of the source: its reader stops.
    pub(crate) fn stop(&self) {
        self.0.lock().source = None;
    }

    /// The error of the source, which counts before that of the request it broke.
    pub(crate) fn take_failure(&self) -> Option<StorageError> {
        self.0.lock().failure.take()
    }

    /// Whether the source ended well and all was given to the connection.
    pub(crate) fn has_ended(&self) -> bool {
        self.0.lock().ended
    }

    /// For how long the connection has taken nothing, and whether all is given.
    fn idle(&self) -> (Duration, bool) {
        let state = self.0.lock();
        (state.idle_since.map_or(Duration::ZERO, |since| since.elapsed()), state.ended)
    }

    /// Comes back when the connection takes nothing for `stall`, or, once it has all, there is no answer for `answer`.
    pub(crate) async fn stalled(&self, stall: Duration, answer: Duration) -> Duration {
        loop {
            let (idle, ended) = self.idle();
            let limit = if ended { answer } else { stall };
            if idle >= limit {
                return limit;
            }
            tokio::time::sleep((limit - idle).min(stall)).await;
        }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        loop {
            let mut state = this.shared.lock();
            let Some(source) = &mut state.source else {
                return Poll::Ready(match state.ended {
                    true => None,
                    false => Some(Err(io::Error::other("the body was given up"))),
                });
            };
            let item = match source.as_mut().poll_next(cx) {
                Poll::Pending => {
                    state.idle_since = None;
                    return Poll::Pending;
                }
                Poll::Ready(item) => item,
            };
            let problem = match item {
                Some(Ok(bytes)) if bytes.is_empty() => continue,
                Some(Ok(bytes)) => {
                    let held = this.held.as_ref().map_or(0, Bytes::len) as u64;
                    match this.remaining {
                        Some(remaining) if held + bytes.len() as u64 > remaining => {
                            "the source is longer than it said"
                        }
                        Some(remaining) if held + bytes.len() as u64 == remaining && held == 0 => {
                            drop(state);
                            this.held = Some(bytes);
                            continue;
                        }
                        _ => {
                            drop(state);
                            return Poll::Ready(this.give(bytes));
                        }
                    }
                }
                Some(Err(error)) => {
                    state.failure = Some(error);
                    "the source of the body failed"
                }
                None => {
                    let held = this.held.take();
                    let whole =
                        this.remaining.is_none_or(|left| left == held.as_ref().map_or(0, Bytes::len) as u64);
                    if whole {
                        state.source = None;
                        state.ended = true;
                        state.idle_since = Some(Instant::now());
                        drop(state);
                        return Poll::Ready(held.and_then(|bytes| this.give(bytes)));
                    }
                    "the source is shorter than it said"
                }
            };
            state.source = None;
            return Poll::Ready(Some(Err(io::Error::other(problem))));
        }
    }

    fn size_hint(&self) -> SizeHint {
        self.remaining.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("remaining", &self.remaining).finish_non_exhaustive()
    }
}

impl fmt::Debug for BodyHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BodyHandle")
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use futures_util::stream;

    use super::*;

    fn body(items: Vec<Result<Bytes, StorageError>>, len: Option<u64>) -> (Body, BodyHandle) {
        Body::new(Box::pin(stream::iter(items)), len, Arc::default(), None)
    }

    async fn drain(body: &mut Body) -> Result<Vec<u8>, (Vec<u8>, io::Error)> {
        let mut all = Vec::new();
        while let Some(frame) = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await {
            match frame {
                Ok(frame) => all.extend_from_slice(&frame.into_data().unwrap()),
                Err(error) => return Err((all, error)),
            }
        }
        Ok(all)
    }

    fn ok(text: &'static str) -> Result<Bytes, StorageError> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn the_length_is_exact_and_counts_down() {
        let (mut body, _handle) = body(vec![ok("abc"), ok(""), ok("de")], Some(5));
        assert_eq!(body.size_hint().exact(), Some(5));
        assert_eq!(drain(&mut body).await.unwrap(), b"abcde");
        assert_eq!(body.size_hint().exact(), Some(0));
    }

    #[tokio::test]
    async fn a_source_that_fails_its_last_check_never_gives_its_last_bytes() {
        let (mut body, handle) = body(vec![ok("abc"), ok("de"), Err(StorageError::Interrupted)], Some(5));
        assert_eq!(drain(&mut body).await.unwrap_err().0, b"abc");
        assert!(matches!(handle.take_failure(), Some(StorageError::Interrupted)));
    }

    #[tokio::test]
    async fn a_source_of_another_length_breaks_the_body() {
        for items in [vec![ok("abc")], vec![ok("abc"), ok("def")], vec![ok("abc"), ok("de"), ok("f")]] {
            let (mut body, _handle) = body(items, Some(5));
            assert!(drain(&mut body).await.is_err());
        }
    }

    #[tokio::test]
    async fn a_body_without_a_length_ends_with_its_source() {
        let (mut body, _handle) = body(vec![ok("abc"), ok("de")], None);
        assert_eq!(body.size_hint().exact(), None);
        assert_eq!(drain(&mut body).await.unwrap(), b"abcde");
    }

    #[tokio::test(start_paused = true)]
    async fn only_a_connection_that_takes_nothing_is_stalled() {
        let second = Duration::from_secs(1);
        let (mut waiting, handle) = Body::new(Box::pin(stream::pending()), Some(5), Arc::default(), None);
        assert_eq!(handle.stalled(60 * second, 900 * second).await, 60 * second, "never asked");
        assert!(poll_fn(|cx| Poll::Ready(Pin::new(&mut waiting).poll_frame(cx).is_pending())).await);
        assert!(
            tokio::time::timeout(3600 * second, handle.stalled(60 * second, 900 * second)).await.is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_answer_has_a_time_of_its_own() {
        let second = Duration::from_secs(1);
        let (mut body, handle) = body(vec![ok("abcde")], Some(5));
        drain(&mut body).await.unwrap();
        assert_eq!(handle.stalled(60 * second, 900 * second).await, 900 * second);
    }
}
