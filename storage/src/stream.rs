//! `LayerStream`: a layer on its way from a reader thread into an async body.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::Stream;
use tokio::sync::{mpsc, oneshot};

use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::image::Layer;
use crate::layer::VirtualLayer;
use crate::progress::LayerWatch;
use crate::reader::{LayerReader, ReadOptions};
use crate::resume::Checkpoints;

/// Chunks that may wait between the reader and the connection.
const DEPTH: usize = 2;

/// The stored bytes of a layer as they are read, hashed and encoded on a thread of their own.
///
/// The stream ends without an error only when every fence held to the end. Dropping it stops the reader.
#[derive(Debug)]
pub struct LayerStream {
    chunks: mpsc::Receiver<Result<Bytes, Interrupted>>,
    stored_len: Option<u64>,
}

/// The digested layer that a [`LayerStream`] becomes.
#[derive(Debug)]
pub struct PendingLayer(oneshot::Receiver<Result<Layer>>);

#[derive(Debug)]
struct Interrupted;

impl LayerStream {
    /// Starts to read `layer` on a blocking thread of the current tokio runtime; `watch` is told the position.
    ///
    /// An error of the reader (a file that changed, say) ends the stream with [`Error::Interrupted`], which breaks
    /// the request that it is the body of; [`PendingLayer::layer`] has the error itself, and is to be asked first.
    #[must_use]
    pub fn start(
        layer: &VirtualLayer,
        compression: Compression,
        options: &ReadOptions,
        watch: LayerWatch,
    ) -> (Self, PendingLayer) {
        Self::of_reader(LayerReader::new(layer, compression, options), None, watch)
    }

    /// As [`start`](Self::start), of a reader that may be somewhere in its layer already; keeps `checkpoints` on the
    /// way, where the layer has any.
    #[must_use]
    pub fn of_reader(
        mut reader: LayerReader,
        checkpoints: Option<Checkpoints>,
        watch: LayerWatch,
    ) -> (Self, PendingLayer) {
        let stored_len = reader.stored_len();
        let (chunk, chunks) = mpsc::channel(DEPTH);
        let (done, layer) = oneshot::channel();
        tokio::task::spawn_blocking(move || {
            let result = loop {
                match reader.next_chunk() {
                    Ok(Some(bytes)) => {
                        if chunk.blocking_send(Ok(bytes)).is_err() {
                            break Err(Error::Interrupted);
                        }
                        watch.position(reader.position());
                        if let Some(checkpoints) = &checkpoints
                            && checkpoints.is_due(reader.position())
                            && let Some(checkpoint) = reader.checkpoint()
                        {
                            checkpoints.keep(checkpoint);
                        }
                    }
                    Ok(None) => break reader.finish(),
                    Err(error) => break Err(error),
                }
            };
            let failed = result.is_err();
            // The result goes first: who sees the stream end finds it there.
            let _ = done.send(result);
            if failed {
                let _ = chunk.blocking_send(Err(Interrupted));
            }
        });
        (Self { chunks, stored_len }, PendingLayer(layer))
    }

    /// The exact number of bytes that will come, where it is known before they are read: without compression.
    #[must_use]
    pub const fn stored_len(&self) -> Option<u64> {
        self.stored_len
    }
}

impl PendingLayer {
    /// The layer, once its stream was read to the end, or the reader's error.
    ///
    /// # Errors
    /// See [`LayerReader`]; [`Error::Interrupted`] where the stream was dropped before its end, whose reason is
    /// then on the side that dropped it.
    pub async fn layer(self) -> Result<Layer> {
        self.0.await.unwrap_or(Err(Error::Interrupted))
    }
}

impl Stream for LayerStream {
    type Item = Result<Bytes>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.chunks
            .poll_recv(cx)
            .map(|item| item.map(|chunk| chunk.map_err(|Interrupted| Error::Interrupted)))
    }
}
