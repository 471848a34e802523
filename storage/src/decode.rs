//! From the stored bytes of a layer, as a stream brings them, to its tar on a blocking thread.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Buf, Bytes};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::hash::Hasher;

/// Chunks that may wait for the decoder.
const DEPTH: usize = 4;

/// A sender for an async task, and what a blocking thread reads from it.
pub(crate) fn channel() -> (mpsc::Sender<Bytes>, ChannelReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (sender, ChannelReader { receiver, chunk: Bytes::new() })
}

/// What an async stream sends, for a blocking reader.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<Bytes>,
    chunk: Bytes,
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(chunk) => self.chunk = chunk,
                None => return Ok(0),
            }
        }
        let len = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// The tar inside `source`: gzip and Zstandard are told by their first bytes, as the media types of old images are
/// not to be relied on.
pub(crate) fn decoder(source: ChannelReader) -> Result<Box<dyn Read + Send>> {
    let mut source = BufReader::with_capacity(128 << 10, source);
    let head = source.fill_buf().map_err(Error::Compress)?;
    Ok(if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(source))
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || head.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) {
        // The second is a skippable frame, which zstd:chunked writes first.
        Box::new(zstd::Decoder::with_buffer(source).map_err(Error::Compress)?)
    } else {
        Box::new(source)
    })
}

/// Hashes what is read through it.
pub(crate) struct HashingReader<R> {
    pub(crate) inner: R,
    pub(crate) hasher: Hasher,
}

impl<R: Read> Read for HashingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}
