//! What a base's layers hold, by path: read once from the stream, never unpacked.
//!
//! A COPY onto a base must know what is there: which directories it has (they are not written again, for that would
//! give them another mode and owner), and where its links lead. Contents are passed over; what is kept is a line for
//! each entry, remembered under the root directory by the layer's diff ID.

mod store;
pub(crate) mod text;

use std::io::{self, Read, Seek, SeekFrom};

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use tar::EntryType;

use crate::decode;
use crate::digest::{DiffId, Digest};
use crate::entries::{LayerArchive, OPAQUE, WHITEOUT, damaged};
use crate::entry::{LayerPath, Special};
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::{ImageSource, Layer, VerifiedStream};
use crate::indexing::Indexing;
use crate::layer::{Segment, VirtualLayer};
use crate::progress::{LayerWatch, Phase};
use crate::reader::ReadOptions;
use crate::sparse::Piece;
use crate::xattrs::Xattrs;

pub use store::IndexStore;
use text::{boxed_text, is_zero, optional_box_text, path_text};

/// An index takes at most so many bytes of memory; that is two million entries with names of usual length.
const MAX_INDEX: u64 = 512 << 20;

/// A user database of more bytes is not kept.
const MAX_DATABASE: u64 = 1 << 20;

/// How much an index is to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Detail {
    /// What is where.
    Names,
    /// And a digest of each file, for who reads single files of the layer later: their bytes can be checked by nothing
    /// else. Costs a second SHA-256 of the layer.
    Contents,
}

/// The entries of a layer, in the order of its archive.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerIndex {
    /// One for each entry.
    pub entries: Vec<IndexEntry>,
}

/// An entry of a layer without its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndexEntry {
    /// Where; for a whiteout, what it takes away.
    #[serde(rename = "p", with = "path_text")]
    pub path: LayerPath,
    /// What.
    #[serde(rename = "k")]
    pub kind: IndexKind,
    /// Permission bits, at most 0o7777.
    #[serde(rename = "m", default)]
    pub mode: u32,
    /// Owner.
    #[serde(rename = "u", default)]
    pub uid: u32,
    /// Group.
    #[serde(rename = "g", default)]
    pub gid: u32,
    /// Where the bytes of a regular file begin in the uncompressed tar; `None` for one that is stored in pieces (sparse), for
    /// one that cannot be taken out whole, and for all that is no regular file.
    #[serde(rename = "o", default, skip_serializing_if = "Option::is_none")]
    pub offset: Option<u64>,
    /// What is stored of a sparse file, in order; the rest of it is zeros. `None` for all else.
    #[serde(rename = "z", default, skip_serializing_if = "Option::is_none")]
    pub pieces: Option<Box<[Piece]>>,
    /// The SHA-256 of a regular file's content, where it was asked for.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Box<Digest>>,
    /// Modification time in seconds since the epoch: at least 0, and at most what fits.
    #[serde(rename = "t", default, skip_serializing_if = "is_zero")]
    pub mtime: u32,
    /// Extended attributes.
    #[serde(rename = "x", default, skip_serializing_if = "Xattrs::is_empty")]
    pub xattrs: Xattrs,
    /// The content of a user database: a file `passwd` or `group` in a directory `etc`, of at most 1 MiB. Such a file may
    /// be a link's target, so they are kept wherever they are.
    #[serde(rename = "c", default, skip_serializing_if = "Option::is_none", with = "optional_box_text")]
    pub content: Option<Box<Bytes>>,
}

impl IndexEntry {
    /// The name that the entry has in its archive, for people: of a whiteout the one with `.wh.` in it.
    #[must_use]
    pub fn name_in_archive(&self) -> String {
        let named = |directory: &LayerPath, name: &[u8]| {
            let slash = if directory.is_root() { "" } else { "/" };
            format!("{directory}{slash}{}", String::from_utf8_lossy(name))
        };
        match self.kind {
            IndexKind::Opaque => named(&self.path, OPAQUE),
            IndexKind::Whiteout => {
                let name = [WHITEOUT, self.path.file_name().unwrap_or_default()].concat();
                named(&self.path.parent().unwrap_or_default(), &name)
            }
            _ => self.path.to_string(),
        }
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum IndexKind {
    /// A directory.
    #[serde(rename = "d")]
    Directory,
    /// A regular file of so many bytes.
    #[serde(rename = "f")]
    File(u64),
    /// A symbolic link and its target.
    #[serde(rename = "l")]
    Symlink(#[serde(with = "boxed_text")] Box<Bytes>),
    /// Another name of a file.
    #[serde(rename = "h")]
    HardLink(#[serde(with = "path_text")] LayerPath),
    /// A FIFO or device.
    #[serde(rename = "s")]
    Special(Special),
    /// Takes away what lower layers have at the path.
    #[serde(rename = "w")]
    Whiteout,
    /// Takes away all that lower layers have below the path.
    #[serde(rename = "o")]
    Opaque,
}

impl LayerIndex {
    /// Reads a layer's stream to its end: blob and diff ID are verified on the way.
    ///
    /// # Errors
    /// Those of the source, [`Error::DigestMismatch`], [`Error::Unusable`] where the layer is no tar archive that an
    /// image can have, and [`Error::Limit`] where a path has more than 4096 bytes, what describes one entry more than
    /// 1 MiB, the index would take more than 512 MiB of memory, or more than 1 GiB and more than 256 times the layer's
    /// size come out of its compression.
    pub async fn read(
        source: &dyn ImageSource,
        layer: &Layer,
        detail: Detail,
        watch: &LayerWatch,
    ) -> Result<Self> {
        watch.phase(Phase::Indexing);
        let mut indexing = Indexing::begin(source, layer, detail);
        let blob = source.blob(&layer.descriptor, 0).await?;
        let mut chunks = VerifiedStream::new(blob, &layer.descriptor, indexing.what());
        while let Some(chunk) = chunks.next().await {
            if !indexing.take(chunk?).await {
                // The reader has ended early, and says why.
                break;
            }
            watch.position(indexing.taken());
        }
        indexing.finish().await
    }
}

impl LayerIndex {
    /// Whether it has what `detail` asks for.
    #[must_use]
    pub fn has(&self, detail: Detail) -> bool {
        let digested = |entry: &IndexEntry| match &entry.pieces {
            Some(pieces) => pieces.iter().all(|piece| piece.digest.is_some()),
            None => entry.offset.is_none() || entry.digest.is_some(),
        };
        detail == Detail::Names || self.entries.iter().all(digested)
    }

    /// The index of a layer that is made of files: its headers are at hand, and no file is read.
    ///
    /// # Errors
    /// [`Error::Unusable`] and [`Error::Limit`], as [`read`](Self::read).
    pub fn of_files(layer: &VirtualLayer) -> Result<Self> {
        let what = "a layer that was built here";
        let mut list = List::new(what);
        LayerArchive::new(Headers { layer, position: 0 }, what).walk_seeking(|mut entry, _| {
            if let (Some(size), Some(offset)) = (database(&entry), entry.offset) {
                entry.content = Some(Box::new(bytes_of(layer, offset, size)?));
            }
            list.add(entry)
        })?;
        Ok(list.index)
    }
}

/// The entries of the tar archive of a layer that is stored in so many bytes; its digest is verified on the way.
pub(crate) fn read_layer(
    archive: impl Read,
    detail: Detail,
    stored: u64,
    diff_id: &DiffId,
    what: &str,
) -> Result<LayerIndex> {
    let list = List::new(what);
    // Only who takes files out fills their holes.
    let list = if detail == Detail::Contents { list.with_stored(stored) } else { list };
    read_entries(archive, detail, list, diff_id, what)
}

fn read_entries(
    source: impl Read,
    detail: Detail,
    mut list: List<'_>,
    diff_id: &DiffId,
    what: &str,
) -> Result<LayerIndex> {
    let mut archive = LayerArchive::new(Hashing { inner: source, hasher: Hasher::new() }, what);
    archive.walk(|mut entry, content| {
        if let Some(size) = database(&entry) {
            let mut bytes = Vec::new();
            content.take(size).read_to_end(&mut bytes).map_err(|error| damaged(what, error))?;
            entry.digest = Some(Box::new(Hasher::digest(&bytes)));
            entry.content = Some(Box::new(bytes.into()));
        } else if detail == Detail::Contents && entry.offset.is_some() {
            entry.digest = Some(Box::new(digest(content).map_err(|error| damaged(what, error))?));
        } else if detail == Detail::Contents {
            list.fill(&entry)?;
            // The tar crate fills the holes of the old form itself.
            let filled = content.header().entry_type() == EntryType::GNUSparse;
            let mut end = 0;
            for piece in entry.pieces.iter_mut().flat_map(|pieces| pieces.iter_mut()) {
                let hole = if filled { piece.at - end } else { 0 };
                end = piece.at + piece.len;
                let read = io::copy(&mut content.by_ref().take(hole), &mut io::sink())
                    .and_then(|_| digest(content.by_ref().take(piece.len)));
                piece.digest = Some(read.map_err(|error| damaged(what, error))?);
            }
        }
        list.add(entry)
    })?;
    let actual = archive.finish()?.hasher.finish();
    if actual != *diff_id.as_digest() {
        return Err(Error::DigestMismatch {
            what: format!("{what}, uncompressed"),
            expected: diff_id.as_digest().clone(),
            actual,
        });
    }
    Ok(list.index)
}

fn digest(content: impl Read) -> io::Result<Digest> {
    let mut hashing = Hashing { inner: content, hasher: Hasher::new() };
    io::copy(&mut hashing, &mut io::sink())?;
    Ok(hashing.hasher.finish())
}

/// The size of an entry that is a user database, see [`IndexEntry::content`].
fn database(entry: &IndexEntry) -> Option<u64> {
    let IndexKind::File(size) = entry.kind else { return None };
    entry.offset?;
    let named = matches!(entry.path.file_name()?, b"passwd" | b"group");
    let in_etc = entry.path.parent()?.file_name()? == b"etc";
    (named && in_etc && size <= MAX_DATABASE).then_some(size)
}

/// A few bytes of a layer that is made of files.
fn bytes_of(layer: &VirtualLayer, offset: u64, len: u64) -> Result<Bytes> {
    let mut bytes = BytesMut::new();
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    for chunk in layer.bytes_from(offset, &ReadOptions::default()) {
        bytes.extend_from_slice(&chunk?);
        if bytes.len() >= len {
            break;
        }
    }
    bytes.truncate(len);
    Ok(bytes.freeze())
}

/// An index that does not outgrow the memory.
pub(crate) struct List<'a> {
    index: LayerIndex,
    memory: u64,
    most: u64,
    /// What sparse files take with their holes, and may take where these are filled.
    filled: u64,
    most_filled: u64,
    what: &'a str,
}

impl<'a> List<'a> {
    /// An empty one; `what` names the archive in errors.
    pub(crate) fn new(what: &'a str) -> Self {
        let index = LayerIndex::default();
        Self { index, memory: 0, most: MAX_INDEX, filled: 0, most_filled: u64::MAX, what }
    }

    /// For an archive of so many bytes, whose sparse files are to be [filled](Self::fill).
    pub(crate) fn with_stored(self, stored: u64) -> Self {
        Self { most_filled: decode::most(stored), ..self }
    }

    /// Asks whether the holes of an entry may be filled.
    pub(crate) fn fill(&mut self, entry: &IndexEntry) -> Result<()> {
        if let (IndexKind::File(size), Some(_)) = (&entry.kind, &entry.pieces) {
            self.filled = self.filled.saturating_add(*size);
            if self.filled > self.most_filled {
                let limit = "the size of its sparse files";
                return Err(Error::Limit { what: self.what.to_owned(), limit, most: self.most_filled });
            }
        }
        Ok(())
    }

    pub(crate) fn into_index(self) -> LayerIndex {
        self.index
    }

    pub(crate) fn add(&mut self, entry: IndexEntry) -> Result<()> {
        self.memory += memory_of(&entry);
        if self.memory > self.most {
            let limit = "what is to be remembered of its entries";
            return Err(Error::Limit { what: self.what.to_owned(), limit, most: self.most });
        }
        self.index.entries.push(entry);
        Ok(())
    }
}

/// Hashes what is read through it.
struct Hashing<R> {
    inner: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..len]);
        Ok(len)
    }
}

/// A layer as a tar reader needs it that skips what is in files: zeros stand there.
struct Headers<'a> {
    layer: &'a VirtualLayer,
    position: u64,
}

impl Read for Headers<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some((index, within)) = self.layer.locate(self.position) else { return Ok(0) };
        let Some(segment) = self.layer.segment(index) else { return Ok(0) };
        let len = usize::try_from(segment.len() - within).unwrap_or(usize::MAX).min(buffer.len());
        match &segment {
            Segment::Inline(bytes) => {
                let from = usize::try_from(within).map_err(io::Error::other)?;
                buffer[..len].copy_from_slice(&bytes[from..from + len]);
            }
            Segment::Extent { .. } | Segment::Packed { .. } | Segment::Zeros(_) => buffer[..len].fill(0),
        }
        self.position += len as u64;
        Ok(len)
    }
}

impl Seek for Headers<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(offset) => self.position.checked_add_signed(offset),
            SeekFrom::End(offset) => self.layer.len().checked_add_signed(offset),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}

/// Bytes of memory that an entry takes, those that its list has in reserve and the allocator's own included.
fn memory_of(entry: &IndexEntry) -> u64 {
    const EACH: usize = 2 * size_of::<IndexEntry>() + 64;
    let link = match &entry.kind {
        IndexKind::Symlink(target) => target.len(),
        IndexKind::HardLink(target) => target.as_bytes().len(),
        _ => 0,
    };
    let content = entry.content.as_ref().map_or(0, |content| content.len());
    let digest = entry.digest.as_ref().map_or(0, |digest| 2 * digest.digest().len());
    let piece = size_of::<Piece>() + 128;
    let digest = digest + entry.pieces.as_ref().map_or(0, |pieces| pieces.len() * piece);
    (EACH + digest + entry.xattrs.memory() + entry.path.as_bytes().len() + link + content) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_without_number_are_refused() {
        let mut tar = tar::Builder::new(Vec::new());
        for number in 0..100 {
            let mut header = tar::Header::new_gnu();
            header.set_size(0);
            header.set_mode(0o644);
            tar.append_data(&mut header, number.to_string(), io::empty()).unwrap();
        }
        let tar = tar.into_inner().unwrap();
        let read = |most| {
            read_entries(
                tar.as_slice(),
                Detail::Names,
                List { most, ..List::new("layer x") },
                &DiffId::of_tar(Hasher::digest(&tar)),
                "layer x",
            )
        };
        let whole = read(MAX_INDEX).unwrap();
        assert_eq!(whole.entries.len(), 100);
        let memory: u64 = whole.entries.iter().map(memory_of).sum();
        assert!(read(memory).is_ok());
        assert!(matches!(read(memory - 1), Err(Error::Limit { most, .. }) if most == memory - 1));
    }
}
