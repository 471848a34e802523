//! From the stored bytes of a layer, as a stream brings them, to its tar on a blocking thread.

use std::io::{self, BufRead, BufReader, Read};

use bytes::{Buf, Bytes};
use flate2::bufread::GzDecoder;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;

use crate::error::{Error, Result};
use crate::progress::LayerWatch;

/// Chunks that may wait for the decoder.
const DEPTH: usize = 4;

/// A sender for an async task, and what a blocking thread reads from it. An error that is sent is the reader's: see
/// [`limit_or`].
pub(crate) fn channel() -> (mpsc::Sender<Result<Bytes>>, ChannelReader) {
    let (sender, receiver) = mpsc::channel(DEPTH);
    (sender, ChannelReader { receiver, chunk: Bytes::new() })
}

/// A layer may always unpack to so many bytes: 1 GiB.
const SMALL: u64 = 1 << 30;

/// A larger one to at most so many times its stored size. Programs and texts come to 20, logs to 100, a file of zeros to
/// 1000 with gzip and more with Zstandard: such a layer costs hours of a processor and nothing to send.
const RATIO: u64 = 256;

/// How many bytes may come out of so many that are stored.
pub(crate) fn most(stored: u64) -> u64 {
    stored.saturating_mul(RATIO).max(SMALL)
}

/// What an async stream sends, for a blocking reader.
#[derive(Debug)]
pub(crate) struct ChannelReader {
    receiver: mpsc::Receiver<Result<Bytes>>,
    chunk: Bytes,
}

impl ChannelReader {
    /// The next chunk as it was sent; `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        self.receiver.blocking_recv().transpose()
    }
}

/// Sends all that a stream brings, and tells `watch` the position.
pub(crate) async fn send_all(
    mut chunks: impl Stream<Item = Result<Bytes>> + Unpin,
    sender: mpsc::Sender<Result<Bytes>>,
    watch: &LayerWatch,
) -> Result<()> {
    let mut position = 0;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk?;
        position += chunk.len() as u64;
        watch.position(position);
        if sender.send(Ok(chunk)).await.is_err() {
            // The reader has ended early, and says why.
            break;
        }
    }
    Ok(())
}

impl Read for ChannelReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.chunk.is_empty() {
            match self.receiver.blocking_recv() {
                Some(Ok(chunk)) => self.chunk = chunk,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Ok(0),
            }
        }
        let len = self.chunk.len().min(buffer.len());
        self.chunk.copy_to_slice(&mut buffer[..len]);
        Ok(len)
    }
}

/// What a decoder of xz may take of memory: its strongest preset asks for 65 MiB.
const MAX_XZ_MEMORY: u64 = 128 << 20;

/// What is inside `source`, `stored` bytes that errors call `what`: gzip, Zstandard, bzip2 and xz are told by their first
/// bytes, as the media types of old images are not to be relied on. Where it is a bomb, reading fails with an error that
/// [`limit_or`] knows.
pub(crate) fn decoder<R: Read + Send + 'static>(
    source: R,
    stored: u64,
    what: &str,
) -> Result<impl Read + Send + use<R>> {
    let mut source = BufReader::with_capacity(128 << 10, source);
    let head = source.fill_buf().map_err(|error| limit_or(error, Error::Compress))?;
    let inner: Box<dyn Read + Send> = if head.starts_with(&[0x1f, 0x8b]) {
        Box::new(GzipMembers { member: Some(GzDecoder::new(source)) })
    } else if head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || head.get(1..4) == Some(&[0x2a, 0x4d, 0x18]) {
        // The second is a skippable frame, which zstd:chunked writes first.
        Box::new(zstd::Decoder::with_buffer(source).map_err(Error::Compress)?)
    } else if head.starts_with(b"BZh") {
        Box::new(bzip2::bufread::MultiBzDecoder::new(source))
    } else if head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0]) {
        let concatenated = liblzma::stream::CONCATENATED;
        let stream = liblzma::stream::Stream::new_stream_decoder(MAX_XZ_MEMORY, concatenated)
            .map_err(|error| Error::Compress(error.into()))?;
        Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream))
    } else {
        Box::new(source)
    };
    let most = most(stored);
    Ok(Bounded { inner, left: most, most, what: what.to_owned() })
}

/// The members of a gzip file one after the other (RFC 1952, section 2.2). Zeros may follow the last, as tapes and gzip have it;
/// anything else is an error, for it may be a member whose first byte has changed.
struct GzipMembers<R: BufRead> {
    /// `None` after the last.
    member: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for GzipMembers<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.member {
            let len = member.read(buffer)?;
            if len > 0 || buffer.is_empty() {
                return Ok(len);
            }
            let Some(mut source) = self.member.take().map(GzDecoder::into_inner) else { break };
            match source.fill_buf()?.first() {
                None => {}
                Some(0) => only_zeros(&mut source)?,
                Some(_) => self.member = Some(GzDecoder::new(source)),
            }
        }
        Ok(0)
    }
}

fn only_zeros(source: &mut impl BufRead) -> io::Result<()> {
    loop {
        let rest = source.fill_buf()?;
        if rest.iter().any(|byte| *byte != 0) {
            let what = "what follows the end of the gzip data is neither gzip nor padding";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        }
        match rest.len() {
            0 => return Ok(()),
            len => source.consume(len),
        }
    }
}

/// Whether `decoder` would decompress what begins so.
pub(crate) fn is_compressed(head: &[u8]) -> bool {
    head.starts_with(&[0x1f, 0x8b])
        || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
        || head.get(1..4) == Some(&[0x2a, 0x4d, 0x18])
        || head.starts_with(b"BZh")
        || head.starts_with(&[0xfd, b'7', b'z', b'X', b'Z', 0])
}

/// Fails when more comes out than a layer of this size may hold.
struct Bounded {
    inner: Box<dyn Read + Send>,
    left: u64,
    most: u64,
    what: String,
}

impl Read for Bounded {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        match self.left.checked_sub(len as u64) {
            Some(left) => self.left = left,
            None => return Err(over(&self.what, "its unpacked size", self.most)),
        }
        Ok(len)
    }
}

/// A limit that was met while reading.
pub(crate) fn over(what: &str, limit: &'static str, most: u64) -> io::Error {
    io::Error::other(Error::Limit { what: what.to_owned(), limit, most })
}

/// The error of this crate that is behind one of reading, or what `other` makes of an error.
pub(crate) fn limit_or(error: io::Error, other: impl FnOnce(io::Error) -> Error) -> Error {
    error.downcast().unwrap_or_else(other)
}
