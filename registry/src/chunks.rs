//! A source in parts: one stream of bytes, sent in several requests.

use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use crossdock_storage::{BlobStream, Error as StorageError};
use futures_util::Stream;

use crate::client::lock;

/// What is left of a stream.
pub(crate) struct Source(Arc<Mutex<Rest>>);

struct Rest {
    stream: BlobStream,
    /// Taken from the stream, and not yet part of a part.
    over: Option<Bytes>,
}

/// The next bytes of a [`Source`].
struct Part {
    rest: Arc<Mutex<Rest>>,
    /// Bytes still to come; `None` for all there are. The last part sees its source's end: only then is it whole.
    left: Option<u64>,
}

impl Source {
    pub(crate) fn new(stream: BlobStream) -> Self {
        Self(Arc::new(Mutex::new(Rest { stream, over: None })))
    }

    /// The next `len` bytes; `None` for all that are left.
    pub(crate) fn part(&self, len: Option<u64>) -> BlobStream {
        Box::pin(Part { rest: Arc::clone(&self.0), left: len })
    }

    /// Whether more comes. Waits for it.
    pub(crate) async fn has_more(&self) -> Result<bool, StorageError> {
        std::future::poll_fn(|cx| {
            let mut rest = lock(&self.0);
            loop {
                match &rest.over {
                    Some(over) if !over.is_empty() => return Poll::Ready(Ok(true)),
                    _ => {}
                }
                match rest.stream.as_mut().poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(None) => return Poll::Ready(Ok(false)),
                    Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                    Poll::Ready(Some(Ok(bytes))) => rest.over = Some(bytes),
                }
            }
        })
        .await
    }
}

impl Stream for Part {
    type Item = Result<Bytes, StorageError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.left == Some(0) {
            return Poll::Ready(None);
        }
        let mut rest = lock(&self.rest);
        let mut bytes = match rest.over.take() {
            Some(bytes) => bytes,
            None => match rest.stream.as_mut().poll_next(cx) {
                Poll::Ready(Some(Ok(bytes))) => bytes,
                other => return other,
            },
        };
        let left = self.left.map(|left| {
            let take = left.min(bytes.len() as u64);
            let over = bytes.split_off(usize::try_from(take).unwrap_or(usize::MAX).min(bytes.len()));
            if !over.is_empty() {
                rest.over = Some(over);
            }
            left - take
        });
        drop(rest);
        self.left = left;
        Poll::Ready(Some(Ok(bytes)))
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{StreamExt as _, stream};

    use super::*;

    #[tokio::test]
    async fn parts_are_the_whole() {
        let items = ["abc", "", "defgh", "i"].map(|text| Ok(Bytes::from_static(text.as_bytes())));
        let source = Source::new(Box::pin(stream::iter(items)));
        let mut parts = Vec::new();
        while source.has_more().await.unwrap() {
            let part: Vec<_> = source.part(Some(4)).map(Result::unwrap).collect().await;
            parts.push(part.concat());
        }
        assert_eq!(parts, [b"abcd".to_vec(), b"efgh".to_vec(), b"i".to_vec()]);
    }
}
