//! `Packed`: bytes that come out of a stream, and so are read from its start: what is in a compressed archive, or in a
//! layer of an image elsewhere. Nothing of it is kept on disk; who reads forward decodes once.
//!
//! Files of a layer elsewhere have no fence, and a part of a blob no digest. So their SHA-256 is taken while the layer is
//! indexed (that pass reads all of the blob, and checks it), and again when they are read: see [`Segment::Packed`].
//!
//! [`Segment::Packed`]: crate::Segment::Packed

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;

use futures_util::StreamExt;
use tokio::runtime::Handle;

use crate::decode;
use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer};
use crate::reader::ReadOptions;
use crate::source::{FileState, SourceFile};
use crate::spool::name_of;

/// A gap of so many bytes or less is read over, where reading could begin anew behind it.
const GAP: u64 = 1 << 20;

/// A stream that files lie in. Cheap to clone.
#[derive(Clone)]
pub struct Packed(Arc<Origin>);

enum Origin {
    /// A compressed file.
    File(SourceFile),
    /// The tar of a layer, by the name of its source. Without the source it cannot be read, only written down.
    Layer { layer: Box<Layer>, locator: String, source: Option<(Arc<dyn ImageSource>, Handle)> },
}

impl Packed {
    /// What is in a compressed file (gzip, bzip2, xz or Zstandard, told by its first bytes).
    #[must_use]
    pub fn of_file(file: SourceFile) -> Self {
        Self(Arc::new(Origin::File(file)))
    }

    /// The tar of a layer that `source` has. To be called, and read, while the tokio runtime of the caller runs.
    ///
    /// # Errors
    /// [`Error::Unusable`] outside of a runtime.
    pub fn of_layer(source: Arc<dyn ImageSource>, layer: Layer) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| Error::Unusable(error.to_string()))?;
        let locator = source.locator();
        Ok(Self(Arc::new(Origin::Layer { layer: layer.into(), locator, source: Some((source, runtime)) })))
    }

    /// A layer that another process wrote down; to be read once it is [`renewed`](Self::renewed).
    pub(crate) fn of_record(layer: Layer, locator: String) -> Self {
        Self(Arc::new(Origin::Layer { layer: layer.into(), locator, source: None }))
    }

    /// The compressed file, if it is one.
    pub(crate) fn file(&self) -> Option<&SourceFile> {
        match &*self.0 {
            Origin::File(file) => Some(file),
            Origin::Layer { .. } => None,
        }
    }

    /// The layer and the name of its source, if it is one.
    pub(crate) fn layer(&self) -> Option<(&Layer, &str)> {
        match &*self.0 {
            Origin::File(_) => None,
            Origin::Layer { layer, locator, .. } => Some((layer, locator)),
        }
    }

    /// Whether all before a byte must be decoded to have it.
    pub(crate) fn is_sequential(&self) -> bool {
        self.layer().is_none_or(|(layer, _)| layer.descriptor.digest() != layer.diff_id.as_digest())
    }

    /// The same bytes for another process: the file as it is now, or the layer from what `locate` finds.
    pub(crate) fn renewed(
        &self,
        locate: &dyn Fn(&str) -> Result<Arc<dyn ImageSource>>,
    ) -> Result<(Self, FileState)> {
        match &*self.0 {
            Origin::File(file) => {
                let (file, state) = file.renewed();
                Ok((Self::of_file(file), state))
            }
            Origin::Layer { layer, locator, .. } => {
                Ok((Self::of_layer(locate(locator)?, Layer::clone(layer))?, FileState::Same))
            }
        }
    }

    /// What errors call it.
    fn name(&self) -> String {
        match &*self.0 {
            Origin::File(file) => name_of(file),
            Origin::Layer { layer, locator, .. } => {
                format!("layer {} of {locator}", layer.descriptor.digest())
            }
        }
    }
}

impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.file() == other.file() && self.layer() == other.layer()
    }
}

impl Eq for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Packed").field(&self.name()).finish()
    }
}

/// A stream that is being read.
pub(crate) struct PackedReader {
    packed: Packed,
    inner: Box<dyn Read + Send>,
    position: u64,
    /// The open file, with the fence that it had when it was opened.
    file: Option<(File, SourceFile)>,
}

impl PackedReader {
    /// Begins at `offset`, or goes on there: where `last` is before it in the same stream, nothing is decoded twice.
    pub(crate) fn at(
        last: Option<Self>,
        packed: &Packed,
        offset: u64,
        options: &ReadOptions,
    ) -> Result<Self> {
        let gap = if packed.is_sequential() { u64::MAX } else { GAP };
        let usable = |last: &Self| {
            Arc::ptr_eq(&last.packed.0, &packed.0)
                && offset.checked_sub(last.position).is_some_and(|over| over <= gap)
        };
        let mut reader = match last.filter(usable) {
            Some(reader) => reader,
            None => Self::open(packed, offset, options)?,
        };
        let over = offset - reader.position;
        let skipped = io::copy(&mut reader.inner.by_ref().take(over), &mut io::sink());
        let skipped = skipped.map_err(|error| reader.failed(error))?;
        reader.position += skipped;
        if skipped < over { Err(reader.failed(io::ErrorKind::UnexpectedEof.into())) } else { Ok(reader) }
    }

    fn open(packed: &Packed, offset: u64, options: &ReadOptions) -> Result<Self> {
        let what = packed.name();
        match &*packed.0 {
            Origin::File(source) => {
                let (file, source) = source.open()?;
                let again = |error| Error::Open { path: source.path(), source: error };
                let counted = Counted { file: file.try_clone().map_err(again)?, options: options.clone() };
                let inner = Box::new(decode::decoder(counted, source.size(), &what)?);
                Ok(Self { packed: packed.clone(), inner, position: 0, file: Some((file, source)) })
            }
            Origin::Layer { layer, source, .. } => {
                let Some((source, runtime)) = source.clone() else {
                    return Err(Error::Unusable(format!("{what} cannot be read here")));
                };
                let begin = if packed.is_sequential() { 0 } else { offset };
                let (sender, receiver) = decode::channel();
                let blob = layer.descriptor.clone();
                runtime.spawn(async move {
                    match source.blob(&blob, begin).await {
                        Ok(mut chunks) => {
                            while let Some(chunk) = chunks.next().await {
                                let failed = chunk.is_err();
                                if sender.send(chunk).await.is_err() || failed {
                                    break;
                                }
                            }
                        }
                        // A reader that is gone has an error of its own.
                        Err(error) => drop(sender.send(Err(error)).await),
                    }
                });
                let inner: Box<dyn Read + Send> = if packed.is_sequential() {
                    Box::new(decode::decoder(receiver, layer.descriptor.size(), &what)?)
                } else {
                    Box::new(receiver)
                };
                Ok(Self { packed: packed.clone(), inner, position: begin, file: None })
            }
        }
    }

    /// Fills `buffer`.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<()> {
        self.inner.read_exact(buffer).map_err(|error| self.failed(error))?;
        self.position += buffer.len() as u64;
        Ok(())
    }

    /// Whether the file is still what it was when it was opened.
    pub(crate) fn check(&self) -> Result<FileState> {
        match &self.file {
            Some((file, source)) => source.check_open(file),
            None => Ok(FileState::Same),
        }
    }

    fn failed(&self, error: io::Error) -> Error {
        // Where the file is another one now, that is why.
        if let Err(changed) = self.check() {
            return changed;
        }
        decode::limit_or(error, |error| {
            Error::Unusable(format!(
                "{} cannot be unpacked from byte {} on: {error}",
                self.packed.name(),
                self.position
            ))
        })
    }

    /// The error of a file in the stream that is not what it was when the stream was indexed.
    pub(crate) fn mismatch(&self, expected: &Digest, actual: Digest) -> Error {
        let what = format!("a file in {}", self.packed.name());
        Error::DigestMismatch { what, expected: expected.clone(), actual }
    }
}

impl fmt::Debug for PackedReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PackedReader")
            .field("packed", &self.packed)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}

/// A source file whose bytes are counted as they are read.
struct Counted {
    file: File,
    options: ReadOptions,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Much may be decoded for a byte that lies far behind.
        self.options.cancel.check().map_err(io::Error::other)?;
        let len = self.file.read(buffer)?;
        self.options.counters.add_read(len as u64);
        Ok(len)
    }
}
