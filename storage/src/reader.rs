//! `LayerReader`: the one way to consume a virtual layer. Pull windows, hash the diff ID, encode, hash the digest,
//! count; [`LayerReader::finish`] alone makes a digested [`Layer`].

use std::collections::HashMap;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use oci_spec::image::Descriptor;

use crate::cancel::Cancel;
use crate::content::Content;
use crate::digest::{DiffId, Digest};
use crate::encode::{Compression, PieceEncoder};
use crate::error::{Error, FenceBreach, Result};
use crate::hash::Hasher;
use crate::image::{CONTENT_DIGEST, Layer};
use crate::layer::{Segment, VirtualLayer};
use crate::map::Window;
use crate::packed::{Packed, PackedReader};
use crate::parallel::{beside, in_parallel};
use crate::progress::{Counters, LayerWatch};
use crate::resume::Checkpoint;
use crate::source::{FileState, IoMode, SourceFile};
use crate::windows::Windows;

/// Bytes of a chunk at most: small enough to be in the processor's cache still when it is sent after it was hashed.
const CHUNK: usize = 512 << 10;

/// What the holes of sparse files are given out as.
static ZEROS: [u8; CHUNK] = [0; CHUNK];

/// Extents below this many bytes are copied together with the headers around them instead of mapped one by one.
const SMALL: u64 = 128 << 10;

/// How source files are read.
#[derive(Debug, Clone, Default)]
pub struct ReadOptions {
    /// Mapped or read.
    pub io: IoMode,
    /// Where bytes read are counted.
    pub counters: Arc<Counters>,
    /// The word to stop.
    pub cancel: Cancel,
    /// Whether the bytes of a layer's [only file](VirtualLayer::only_file) are hashed by themselves too, while they are at hand.
    pub digest_content: bool,
}

/// Reads a layer once, from its first byte to its last.
///
/// Where the change time of a file moves while it is read, and nothing else of its fence, that says nothing of its
/// bytes: the layer is then read a second time, for its digest alone, which must come out the same. Where the digest is
/// known already it need not be read, for that is the second time.
///
/// # Errors
/// Of all its reading: [`Error::Changed`] where a file is not, or no longer, what the build looked at (checked on
/// the open file before its first byte and after its last), [`Error::Open`], [`Error::Read`]; [`Error::Interrupted`] where
/// the options' [`Cancel`] says so.
#[derive(Debug)]
pub struct LayerReader {
    raw: RawReader,
    diff_id: Hasher,
    content: Option<Content>,
    encoder: Encoder,
    compression: Compression,
    stored: u64,
    /// Where reading began, and where giving out begins.
    began: u64,
    give_from: u64,
    /// What is known of the layer's tar.
    expected: Option<DiffId>,
    complete: bool,
}

#[derive(Debug)]
enum Encoder {
    /// The tar is the blob: one hash serves as diff ID and digest.
    Identity,
    Pieces(Box<Pieces>),
}

/// A compressor, and the digest of what it gives out.
#[derive(Debug)]
struct Pieces {
    encoder: PieceEncoder,
    digest: Hasher,
    input_ended: bool,
}

impl LayerReader {
    /// A reader at the start of `layer`, which gives it as `compression` stores it.
    #[must_use]
    pub fn new(layer: &VirtualLayer, compression: Compression, options: &ReadOptions) -> Self {
        let encoder = match PieceEncoder::new(compression) {
            None => Encoder::Identity,
            Some(encoder) => {
                Encoder::Pieces(Box::new(Pieces { encoder, digest: Hasher::new(), input_ended: false }))
            }
        };
        Self {
            raw: RawReader::new(layer, 0, options),
            diff_id: Hasher::new(),
            content: Content::of(layer, options),
            encoder,
            compression,
            stored: 0,
            began: 0,
            give_from: 0,
            expected: None,
            complete: false,
        }
    }

    /// A reader that goes on where another one was, of a layer stored as it is: it hashes from `checkpoint` on and
    /// gives out from `offset` on. The digests are those of the whole layer, whose other files are checked as well:
    /// all fences must hold at the end.
    #[must_use]
    pub fn resume(layer: &VirtualLayer, checkpoint: &Checkpoint, offset: u64, options: &ReadOptions) -> Self {
        let content = match Content::of(layer, options).map(|content| content.resumed(checkpoint)) {
            // Who kept the checkpoint did not want to know: all is hashed again, and not given out again.
            Some(None) => return Self::new(layer, Compression::None, options).with_start(offset),
            content => content.flatten(),
        };
        Self {
            content,
            raw: RawReader::new(layer, checkpoint.offset(), options),
            diff_id: checkpoint.hasher(),
            encoder: Encoder::Identity,
            compression: Compression::None,
            stored: checkpoint.offset(),
            began: checkpoint.offset(),
            give_from: offset,
            expected: None,
            complete: false,
        }
    }

    /// Gives out the stored bytes from `offset` on only. Those before are read, encoded and hashed all the same.
    #[must_use]
    pub const fn with_start(mut self, offset: u64) -> Self {
        self.give_from = offset;
        self
    }

    /// A layer whose digests are known from another reading. Who asked for it compares them, in any case.
    #[must_use]
    pub fn with_known(mut self, known: Option<&Layer>) -> Self {
        self.expected = known.map(|known| known.diff_id.clone());
        self
    }

    /// Where reading could go on later; `None` where the layer is stored compressed.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        matches!(self.encoder, Encoder::Identity).then(|| {
            Checkpoint::new(
                self.raw.position,
                self.diff_id.clone(),
                self.content.as_ref().map(Content::hasher),
            )
        })
    }

    /// The number of stored bytes that will be given out, where it is known before they are read: without compression.
    #[must_use]
    pub fn stored_len(&self) -> Option<u64> {
        matches!(self.encoder, Encoder::Identity).then(|| self.raw.layer.len().saturating_sub(self.give_from))
    }

    /// Bytes of the uncompressed tar that went through so far.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.raw.position
    }

    /// The next stored bytes; `None` after the last, when all fences held.
    ///
    /// # Errors
    /// See [`LayerReader`]. After an error the reader is of no further use.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        loop {
            match &mut self.encoder {
                Encoder::Identity => {
                    let Some(chunk) = self.raw.next_hashed(&mut self.diff_id, self.content.as_mut())? else {
                        self.raw.check_before(self.began)?;
                        return self.end();
                    };
                    self.stored += chunk.len() as u64;
                    if let Some(chunk) = behind(self.give_from, self.stored, &chunk) {
                        return Ok(Some(chunk));
                    }
                }
                Encoder::Pieces(pieces) => {
                    if let Some(piece) = pieces.encoder.next(pieces.input_ended)? {
                        pieces.digest.update(&piece);
                        self.stored += piece.len() as u64;
                        match behind(self.give_from, self.stored, &piece) {
                            Some(piece) => return Ok(Some(piece)),
                            None => continue,
                        }
                    }
                    if pieces.input_ended {
                        return self.end();
                    }
                    match self.raw.next_hashed(&mut self.diff_id, self.content.as_mut())? {
                        Some(chunk) => pieces.encoder.push(&chunk),
                        None => pieces.input_ended = true,
                    }
                }
            }
        }
    }

    /// After the last byte: those of a file whose change time moved meanwhile must be the same another time.
    fn end(&mut self) -> Result<Option<Bytes>> {
        if let Some(touched) = self.raw.touched.take() {
            let tar = self.diff_id.clone().finish();
            let again = match &self.expected {
                Some(expected) => expected.as_digest().clone(),
                None => {
                    tracing::info!(
                        path = %touched.path().display(),
                        "the change time of a file moved while it was read: its layer is read once more, to be sure"
                    );
                    self.raw.again()?
                }
            };
            if again != tar {
                return Err(touched.changed(FenceBreach::Rewritten));
            }
        }
        self.complete = true;
        Ok(None)
    }

    /// Reads to the end, for the digests alone; `watch` is told the position.
    ///
    /// # Errors
    /// See [`LayerReader`].
    pub fn drain(mut self, watch: &LayerWatch) -> Result<Layer> {
        while self.next_chunk()?.is_some() {
            watch.position(self.position());
        }
        self.finish()
    }

    /// The digested layer.
    ///
    /// # Errors
    /// [`Error::Interrupted`] where [`next_chunk`](Self::next_chunk) has not come to its end: there is no digest of
    /// half a layer.
    pub fn finish(self) -> Result<Layer> {
        if !self.complete {
            return Err(Error::Interrupted);
        }
        let diff_id = self.diff_id.finish();
        let digest = match self.encoder {
            Encoder::Identity => diff_id.clone(),
            Encoder::Pieces(pieces) => pieces.digest.finish(),
        };
        let mut descriptor = Descriptor::new(self.compression.media_type(), self.stored, digest);
        if let Some(content) = self.content {
            let digest = content.finish().to_string();
            descriptor.set_annotations(Some(HashMap::from([(CONTENT_DIGEST.to_owned(), digest)])));
        }
        Ok(Layer { descriptor, diff_id: DiffId::of_tar(diff_id) })
    }
}

fn check_digest(stream: &PackedReader, expected: &Digest, actual: Digest) -> Result<()> {
    if actual == *expected { Ok(()) } else { Err(stream.mismatch(expected, actual)) }
}

/// What lies behind `offset` of a chunk that ends at `end`.
fn behind(offset: u64, end: u64, chunk: &Bytes) -> Option<Bytes> {
    let wanted = usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX).min(chunk.len());
    (wanted > 0).then(|| chunk.slice(chunk.len() - wanted..))
}

impl VirtualLayer {
    /// The bytes of the uncompressed tar from `offset` on, in chunks, read and fenced as ever but not hashed.
    pub fn bytes_from(
        &self,
        offset: u64,
        options: &ReadOptions,
    ) -> impl Iterator<Item = Result<Bytes>> + use<> {
        let mut raw = RawReader::new(self, offset, options);
        let mut failed = false;
        std::iter::from_fn(move || {
            if failed {
                return None;
            }
            let item = raw.next_chunk().and_then(|chunk| raw.check_window().map(|()| chunk)).transpose();
            failed = matches!(item, Some(Err(_)));
            item
        })
    }
}

/// The tar's bytes in order, a chunk at a time.
#[derive(Debug)]
struct RawReader {
    layer: VirtualLayer,
    options: ReadOptions,
    /// The segment that comes next, and how much of it is done.
    segment: usize,
    within: u64,
    position: u64,
    open: Option<OpenExtent>,
    /// The stream that was read from last, and what was hashed of the large file in it that is under way.
    stream: Option<PackedReader>,
    hashed: Option<(Hasher, u64)>,
    /// A file whose change time alone moved while it was read.
    touched: Option<SourceFile>,
}

/// A small extent, and its place in the chunk that it is a part of.
#[derive(Debug)]
struct SmallRead {
    file: SourceFile,
    offset: u64,
    to: usize,
    len: usize,
}

/// Reads some small files, each to its place.
fn read_small(reads: Vec<SmallRead>, gathered: &mut [u8], counters: &Counters) -> Result<()> {
    let (mut rest, mut at) = (gathered, 0);
    let mut reads: Vec<_> = reads
        .into_iter()
        .map(|read| {
            let from_place = &mut std::mem::take(&mut rest)[read.to - at..];
            let (buffer, behind) = from_place.split_at_mut(read.len);
            (rest, at) = (behind, read.to + read.len);
            (read, buffer)
        })
        .collect();
    in_parallel(&mut reads, |(read, buffer)| {
        read.file.read_at(buffer, read.offset)?;
        counters.add_read(read.len as u64);
        Ok(())
    })
}

/// A large extent that is being read.
#[derive(Debug)]
struct OpenExtent {
    windows: Windows,
    /// The window at hand, with its offset in the file, and how much of it was given out.
    window: Option<(Window, u64, usize)>,
}

impl RawReader {
    fn new(layer: &VirtualLayer, offset: u64, options: &ReadOptions) -> Self {
        let (segment, within) = layer.locate(offset).unwrap_or((layer.segment_count(), 0));
        Self {
            layer: layer.clone(),
            options: options.clone(),
            segment,
            within,
            position: offset,
            open: None,
            stream: None,
            hashed: None,
            touched: None,
        }
    }

    /// The digest of the whole tar, read once more.
    fn again(&self) -> Result<Digest> {
        let mut raw = Self::new(&self.layer, 0, &self.options);
        let mut hasher = Hasher::new();
        while raw.next_hashed(&mut hasher, None)?.is_some() {}
        Ok(hasher.finish())
    }

    fn note(&mut self, file: Option<&SourceFile>, state: FileState) {
        if state == FileState::Touched && self.touched.is_none() {
            self.touched = file.cloned();
        }
    }

    /// The next chunk, already taken in by `hasher`, and by that of the content where there is one.
    fn next_hashed(&mut self, hasher: &mut Hasher, content: Option<&mut Content>) -> Result<Option<Bytes>> {
        let Some(chunk) = self.next_chunk()? else { return Ok(None) };
        match content {
            Some(content) => {
                let end = self.position;
                beside(|| hasher.update(&chunk), || content.update(&chunk, end));
            }
            None => hasher.update(&chunk),
        }
        // Hashing has touched every page; only now is it known that none was missing.
        self.check_window()?;
        Ok(Some(chunk))
    }

    fn next_chunk(&mut self) -> Result<Option<Bytes>> {
        self.options.cancel.check()?;
        // The last chunk of a large extent is followed by the check of its fence.
        self.close_if_done()?;
        let chunk = match self.layer.segment(self.segment) {
            None => return Ok(None),
            Some(Segment::Extent { file, offset, len }) if len >= SMALL => {
                self.next_of_extent(&file, offset, len)?
            }
            Some(Segment::Packed { packed, offset, len, digest }) if len >= SMALL => {
                self.next_of_packed(&packed, offset, len, digest.as_ref())?
            }
            Some(Segment::Zeros(len)) if len >= SMALL => self.next_of_zeros(len),
            Some(_) => self.next_of_small()?,
        };
        self.position += chunk.len() as u64;
        Ok(Some(chunk))
    }

    fn next_of_zeros(&mut self, len: u64) -> Bytes {
        let size = usize::try_from(len - self.within).unwrap_or(CHUNK).min(CHUNK);
        self.within += size as u64;
        if self.within == len {
            self.segment += 1;
            self.within = 0;
        }
        Bytes::from_static(&ZEROS[..size])
    }

    /// Gathers inline bytes and small extents into one chunk.
    fn next_of_small(&mut self) -> Result<Bytes> {
        let mut gathered = BytesMut::new();
        let mut reads = Vec::new();
        while gathered.len() < CHUNK {
            let Some(segment) = self.layer.segment(self.segment) else { break };
            match &segment {
                Segment::Extent { len, .. } | Segment::Packed { len, .. } | Segment::Zeros(len)
                    if *len >= SMALL =>
                {
                    break;
                }
                Segment::Zeros(len) => {
                    let size = usize::try_from(len - self.within).expect("small");
                    gathered.resize(gathered.len() + size, 0);
                    self.segment += 1;
                    self.within = 0;
                }
                Segment::Inline(bytes) => {
                    let from = usize::try_from(self.within).unwrap_or(usize::MAX).min(bytes.len());
                    let to = bytes.len().min(from + CHUNK);
                    let end = to == bytes.len();
                    // A long run of headers alone need not be copied.
                    let alone = gathered.is_empty() && to - from == CHUNK;
                    let run = bytes.slice(from..to);
                    self.within = if end { 0 } else { to as u64 };
                    self.segment += usize::from(end);
                    if alone {
                        return Ok(run);
                    }
                    gathered.extend_from_slice(&run);
                }
                Segment::Extent { file, offset, len } => {
                    let len = usize::try_from(len - self.within).expect("small");
                    reads.push(SmallRead {
                        file: file.clone(),
                        offset: offset + self.within,
                        to: gathered.len(),
                        len,
                    });
                    gathered.resize(gathered.len() + len, 0);
                    self.segment += 1;
                    self.within = 0;
                }
                Segment::Packed { packed, offset, len, digest } => {
                    let (packed, offset, digest) = (packed.clone(), *offset, digest.clone());
                    let start = gathered.len();
                    gathered.resize(start + usize::try_from(*len).expect("small"), 0);
                    let mut stream = self.stream_at(&packed, offset)?;
                    stream.read(&mut gathered[start..])?;
                    self.note(packed.file(), stream.check()?);
                    if let Some(expected) = digest {
                        check_digest(&stream, &expected, Hasher::digest(&gathered[start..]))?;
                    }
                    self.stream = Some(stream);
                    // What lies before the place to begin at was read for the digest alone.
                    let before = usize::try_from(self.within).expect("small");
                    gathered.copy_within(start + before.., start);
                    gathered.truncate(gathered.len() - before);
                    self.segment += 1;
                    self.within = 0;
                }
            }
        }
        read_small(reads, &mut gathered, &self.options.counters)?;
        Ok(gathered.freeze())
    }

    fn stream_at(&mut self, packed: &Packed, offset: u64) -> Result<PackedReader> {
        PackedReader::at(self.stream.take(), packed, offset, &self.options)
    }

    /// The next chunk of a large file in a stream. The last one is given out when the file is known to be whole and right.
    fn next_of_packed(
        &mut self,
        packed: &Packed,
        offset: u64,
        len: u64,
        digest: Option<&Digest>,
    ) -> Result<Bytes> {
        let (mut hasher, mut done) = match (self.hashed.take(), digest) {
            (Some(state), _) => state,
            // Its beginning was read by somebody else; the digest needs it.
            (None, Some(_)) => (Hasher::new(), 0),
            (None, None) => (Hasher::new(), self.within),
        };
        let mut stream = self.stream_at(packed, offset + done)?;
        loop {
            let size = usize::try_from(len - done).unwrap_or(usize::MAX).min(CHUNK);
            let mut chunk = BytesMut::zeroed(size);
            stream.read(&mut chunk)?;
            if digest.is_some() {
                hasher.update(&chunk);
            }
            done += size as u64;
            if done == len {
                self.note(packed.file(), stream.check()?);
                if let Some(expected) = digest {
                    check_digest(&stream, expected, std::mem::take(&mut hasher).finish())?;
                }
            }
            let Some(chunk) = behind(self.within, done, &chunk.freeze()) else { continue };
            self.stream = Some(stream);
            if done == len {
                self.segment += 1;
                self.within = 0;
            } else {
                self.within = done;
                self.hashed = Some((hasher, done));
            }
            return Ok(chunk);
        }
    }

    fn next_of_extent(&mut self, source: &SourceFile, offset: u64, len: u64) -> Result<Bytes> {
        let open = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => {
                let windows = Windows::open(source, offset + self.within, offset + len, self.options.io)?;
                self.open.insert(OpenExtent { windows, window: None })
            }
        };
        if open.window.as_ref().is_none_or(|(window, _, given)| *given == window.bytes().len()) {
            // The old window goes before the new one comes, but for slices of it that are still on their way.
            open.window = None;
            let (window, from) = open.windows.next()?.ok_or(Error::Interrupted)?;
            self.options.counters.add_read(window.bytes().len() as u64);
            open.window = Some((window, from, 0));
        }
        let (window, _, given) = open.window.as_mut().expect("just set");
        let to = window.bytes().len().min(*given + CHUNK);
        let chunk = window.bytes().slice(*given..to);
        *given = to;
        self.within += chunk.len() as u64;
        Ok(chunk)
    }

    /// After the last byte of a large extent: is the file still what it was?
    fn close_if_done(&mut self) -> Result<()> {
        if let (Some(open), Some(Segment::Extent { file, len, .. })) =
            (&self.open, self.open.as_ref().and_then(|_| self.layer.segment(self.segment)))
            && self.within == len
        {
            let state = open.windows.check()?;
            self.note(Some(&file), state);
            self.open = None;
            self.segment += 1;
            self.within = 0;
        }
        Ok(())
    }

    /// Checks the files whose bytes lie before `offset` and were read by somebody else.
    fn check_before(&mut self, offset: u64) -> Result<()> {
        let state = SourceFile::check_all(self.layer.files_before(offset))?;
        let first = self.layer.files_before(offset).next().cloned();
        self.note(first.as_ref(), state);
        Ok(())
    }

    /// Whether the bytes given out last are the file's, once they were touched.
    fn check_window(&self) -> Result<()> {
        match &self.open {
            Some(OpenExtent { windows, window: Some((window, from, _)) }) if window.faulted() => {
                Err(windows.fault(*from))
            }
            _ => Ok(()),
        }
    }
}
