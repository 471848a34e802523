//! `VirtualLayer`: a layer's uncompressed tar as a list of segments, with not a byte of the files in it.
//!
//! Its length is known before a byte is read, and it can be read again from any offset; docs/virtual-layer.md
//! describes it as a table.

use std::fmt;
use std::iter;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;

use crate::digest::Digest;
use crate::entry::{Entry, EntryKind, FileContent};
use crate::entry_list::EntryList;
use crate::error::{Error, Result};
use crate::image::ImageSource;
use crate::packed::Packed;
use crate::parallel::{blocking, in_parallel};
use crate::source::{FileState, SourceFile};

/// A run of a layer's bytes, as it is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// Bytes at hand: tar headers, padding, the contents of files made by the build.
    Inline(Bytes),
    /// Bytes that lie in a source file.
    Extent {
        /// The file.
        file: SourceFile,
        /// Where the run begins in it.
        offset: u64,
        /// The run's length in bytes.
        len: u64,
    },
    /// A whole file, or a piece of a sparse one, that comes out of a stream.
    Packed {
        /// The stream.
        packed: Packed,
        /// Where that begins in it.
        offset: u64,
        /// The length in bytes.
        len: u64,
        /// The SHA-256 of it, where nothing else says that it is still the same. Its last bytes are given out only when
        /// that was checked.
        digest: Option<Digest>,
    },
    /// So many zeros: the holes of sparse files.
    Zeros(u64),
}

impl Segment {
    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Extent { len, .. } | Self::Packed { len, .. } | Self::Zeros(len) => *len,
        }
    }

    /// The source file that the bytes lie in, or come out of.
    #[must_use]
    pub fn file(&self) -> Option<&SourceFile> {
        match self {
            Self::Extent { file, .. } => Some(file),
            Self::Packed { packed, .. } => packed.file(),
            Self::Inline(_) | Self::Zeros(_) => None,
        }
    }

    /// Whether the segment has no bytes.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// An uncompressed layer as an immutable list of [`Segment`]s; cheap to clone.
///
/// One that was made of [entries](crate::encode_entries) keeps these alone: their headers are made whenever a segment is
/// asked for.
#[derive(Clone)]
pub struct VirtualLayer(Arc<Content>);

#[derive(Clone)]
enum Content {
    One(Segment),
    Several(Several),
    Entries(EntryList),
}

#[derive(Clone)]
struct Several {
    segments: Box<[Segment]>,
    /// Where each segment begins, in bytes from the start of the layer.
    starts: Box<[u64]>,
    len: u64,
}

impl VirtualLayer {
    /// A layer of these segments, in order; empty ones are left out.
    #[must_use]
    pub fn new(segments: impl IntoIterator<Item = Segment>) -> Self {
        let mut segments = segments.into_iter().filter(|s| !s.is_empty()).fuse();
        let (first, second) = (segments.next(), segments.next());
        if let (Some(only), None) = (&first, &second) {
            return Self(Arc::new(Content::One(only.clone())));
        }
        let segments: Box<[_]> = first.into_iter().chain(second).chain(segments).collect();
        let mut len = 0;
        let starts = segments
            .iter()
            .map(|segment| {
                let start = len;
                len += segment.len();
                start
            })
            .collect();
        Self(Arc::new(Content::Several(Several { segments, starts, len })))
    }

    pub(crate) fn of_entries(entries: EntryList) -> Self {
        Self(Arc::new(Content::Entries(entries)))
    }

    /// The same segments, with an [`id`](Self::id) that no clone of this layer has.
    #[must_use]
    pub fn apart(self) -> Self {
        if self.id().1 { Self(Arc::new((*self.0).clone())) } else { self }
    }

    /// A number that clones of this layer have and no other one has, and whether there are clones.
    #[must_use]
    pub fn id(&self) -> (usize, bool) {
        (Arc::as_ptr(&self.0) as usize, Arc::strong_count(&self.0) > 1)
    }

    /// The exact length in bytes of the uncompressed tar.
    #[must_use]
    pub fn len(&self) -> u64 {
        match &*self.0 {
            Content::One(segment) => segment.len(),
            Content::Several(several) => several.len,
            Content::Entries(entries) => entries.len(),
        }
    }

    /// Whether the layer has no bytes at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments in order.
    pub fn segments(&self) -> impl Iterator<Item = Segment> {
        let (listed, entries) = match &*self.0 {
            Content::Entries(entries) => ([].as_slice(), Some(entries)),
            _ => (self.listed(), None),
        };
        listed.iter().cloned().chain(entries.into_iter().flat_map(EntryList::segments))
    }

    /// How many segments there are.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        match &*self.0 {
            Content::Entries(entries) => entries.segment_count(),
            _ => self.listed().len(),
        }
    }

    /// The segment of this number; `None` behind the last.
    #[must_use]
    pub fn segment(&self, index: usize) -> Option<Segment> {
        match &*self.0 {
            Content::Entries(entries) => entries.segment(index),
            _ => self.listed().get(index).cloned(),
        }
    }

    /// The entries that the layer was made of, in the order of its archive; `None` for one that was made of segments.
    #[must_use]
    pub fn entries(&self) -> Option<&[Entry]> {
        self.entry_list().map(EntryList::entries)
    }

    pub(crate) fn entry_list(&self) -> Option<&EntryList> {
        match &*self.0 {
            Content::Entries(entries) => Some(entries),
            Content::One(_) | Content::Several(_) => None,
        }
    }

    /// The only entry of the layer that is no directory, where it is a file; and where its bytes begin in the tar. They lie there
    /// in one run.
    #[must_use]
    pub fn only_file(&self) -> Option<(&Entry, u64)> {
        self.entry_list()?.only_file()
    }

    /// Those of a layer that was made of segments.
    fn listed(&self) -> &[Segment] {
        match &*self.0 {
            Content::One(segment) => std::slice::from_ref(segment),
            Content::Several(several) => &several.segments,
            Content::Entries(_) => &[],
        }
    }

    /// The source files that the layer's bytes lie in; a file with several extents is named once for each.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.files_before(u64::MAX)
    }

    /// The source files of the segments that begin before `offset`.
    pub(crate) fn files_before(&self, offset: u64) -> Box<dyn Iterator<Item = &SourceFile> + '_> {
        let mut at = 0;
        match &*self.0 {
            Content::Entries(entries) => Box::new(entries.files_before(offset)),
            _ => Box::new(
                self.listed()
                    .iter()
                    .take_while(move |segment| {
                        let begins = at;
                        at += segment.len();
                        begins < offset
                    })
                    .filter_map(Segment::file),
            ),
        }
    }

    /// The bytes that lie in source files, compressed ones left out.
    #[must_use]
    pub fn bytes_in_files(&self) -> u64 {
        let of_entry = |entry: &Entry| match &entry.kind {
            EntryKind::File(FileContent::Source(file)) => file.size(),
            EntryKind::File(FileContent::Parts(parts)) => parts.bytes_in_files(),
            _ => 0,
        };
        let of_segment = |segment: &Segment| match segment {
            Segment::Extent { len, .. } => *len,
            Segment::Inline(_) | Segment::Packed { .. } | Segment::Zeros(_) => 0,
        };
        match self.entries() {
            Some(entries) => entries.iter().map(of_entry).sum(),
            None => self.listed().iter().map(of_segment).sum(),
        }
    }

    /// The first stream that bytes of the layer come out of, and where they begin in it.
    pub(crate) fn packed(&self) -> Option<(&Packed, u64)> {
        self.listed().iter().find_map(|segment| match segment {
            Segment::Packed { packed, offset, .. } => Some((packed, *offset)),
            Segment::Inline(_) | Segment::Extent { .. } | Segment::Zeros(_) => None,
        })
    }

    /// What errors about its bytes call the layer: by its title, and by where its files are.
    #[must_use]
    pub fn described(&self, title: &str) -> String {
        let mut files = self.files();
        let Some(first) = files.next() else { return format!("a file of the layer {}", title.trim()) };
        let mut last = first;
        let more = files.filter(|file| std::mem::replace(&mut last, file) != *file).count();
        let first = first.path().display().to_string();
        if more == 0 {
            first
        } else {
            format!("a file of the layer {} ({first} or {more} more)", title.trim())
        }
    }

    /// The same layer as this process sees it, where another one wrote it down; see [`SourceFile::renewed`]. What lies
    /// in images is had from where `locate` finds the name of each image. [`FileState::Touched`] where a file is, or is
    /// another by now.
    ///
    /// # Errors
    /// Those of `locate`.
    pub fn renewed(self, locate: &dyn Fn(&str) -> Result<Arc<dyn ImageSource>>) -> Result<(Self, FileState)> {
        let mut renewal = Renewal { locate, file: None, streams: Vec::new(), state: FileState::Same };
        let segments = match Arc::unwrap_or_clone(self.0) {
            Content::Entries(mut entries) => {
                let touched = AtomicBool::new(false);
                in_parallel(entries.entries_mut(), |entry| {
                    if let EntryKind::File(FileContent::Source(file)) = &mut entry.kind
                        && file.size() > 0
                        && file.renew() == FileState::Touched
                    {
                        touched.store(true, Ordering::Relaxed);
                    }
                    Ok::<_, Error>(())
                })?;
                if touched.into_inner() {
                    renewal.state = FileState::Touched;
                }
                for entry in entries.entries_mut() {
                    if let EntryKind::File(FileContent::Parts(parts)) = &mut entry.kind {
                        let segments = parts.segments().map(|segment| renewal.segment(segment));
                        *parts = Self::new(segments.collect::<Result<Vec<_>>>()?);
                    }
                }
                return Ok((Self::of_entries(entries), renewal.state));
            }
            Content::One(segment) => vec![segment],
            Content::Several(several) => several.segments.into_vec(),
        };
        let segments = segments.into_iter().map(|segment| renewal.segment(segment));
        let segments = segments.collect::<Result<Vec<_>>>()?;
        Ok((Self::new(segments), renewal.state))
    }

    /// Looks at all files, some of them side by side, on a thread that may wait for them.
    ///
    /// # Errors
    /// See [`SourceFile::check_all`].
    pub async fn check_files(&self) -> Result<FileState> {
        let layer = self.clone();
        blocking(move || SourceFile::check_all(layer.files())).await
    }

    /// The `len` bytes from `offset` on.
    ///
    /// # Errors
    /// [`Error::Unusable`] where the layer has no such bytes, or they are part of a file that is read only wholly.
    pub fn part(&self, offset: u64, len: u64) -> Result<Self> {
        let unusable =
            || Error::Unusable(format!("the bytes {offset}+{len} of a layer cannot be told apart"));
        let end = offset.checked_add(len).filter(|end| *end <= self.len()).ok_or_else(unusable)?;
        let mut at = offset;
        let segments = iter::from_fn(|| {
            let left = end.checked_sub(at).filter(|left| *left > 0)?;
            let (index, within) = self.locate(at)?;
            let segment = self.segment(index)?;
            let len = (segment.len() - within).min(left);
            at += len;
            Some(match segment {
                Segment::Inline(bytes) => (|| {
                    let from = usize::try_from(within).ok()?;
                    let len = usize::try_from(len).ok()?;
                    Some(Segment::Inline(bytes.slice(from..from + len)))
                })(),
                Segment::Extent { file, offset, .. } => {
                    Some(Segment::Extent { file, offset: offset + within, len })
                }
                Segment::Zeros(_) => Some(Segment::Zeros(len)),
                Segment::Packed { len: whole, .. } => (len == whole).then_some(segment),
            })
        });
        let segments = segments.map(|segment| segment.ok_or_else(unusable));
        Ok(Self::new(segments.collect::<Result<Vec<_>>>()?))
    }

    /// The segment that holds the byte at `offset`, and how far into it that byte is; `None` at or past the end.
    #[must_use]
    pub fn locate(&self, offset: u64) -> Option<(usize, u64)> {
        match &*self.0 {
            Content::One(segment) => (offset < segment.len()).then_some((0, offset)),
            Content::Several(several) => {
                if offset >= several.len {
                    return None;
                }
                let index = several.starts.partition_point(|start| *start <= offset) - 1;
                Some((index, offset - several.starts[index]))
            }
            Content::Entries(entries) => entries.locate(offset),
        }
    }
}

/// The segments of a layer while they are looked at again; files and streams that are named several times in a row once.
struct Renewal<'a> {
    locate: &'a dyn Fn(&str) -> Result<Arc<dyn ImageSource>>,
    file: Option<(SourceFile, SourceFile)>,
    streams: Vec<(Packed, Packed)>,
    state: FileState,
}

impl Renewal<'_> {
    fn segment(&mut self, segment: Segment) -> Result<Segment> {
        Ok(match segment {
            Segment::Inline(_) | Segment::Zeros(_) => segment,
            Segment::Extent { file, offset, len } => {
                let renewed = match &self.file {
                    Some((known, renewed)) if *known == file => renewed.clone(),
                    _ => {
                        let (renewed, state) = file.renewed();
                        self.state = self.state.max(state);
                        renewed
                    }
                };
                self.file = Some((file, renewed.clone()));
                Segment::Extent { file: renewed, offset, len }
            }
            Segment::Packed { packed, offset, len, digest } => {
                let renewed = match self.streams.iter().find(|(old, _)| *old == packed) {
                    Some((_, renewed)) => renewed.clone(),
                    None => {
                        let (renewed, state) = packed.renewed(self.locate)?;
                        self.state = self.state.max(state);
                        self.streams.push((packed, renewed.clone()));
                        renewed
                    }
                };
                Segment::Packed { packed: renewed, offset, len, digest }
            }
        })
    }
}

impl fmt::Debug for VirtualLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.segments()).finish()
    }
}

impl PartialEq for VirtualLayer {
    fn eq(&self, other: &Self) -> bool {
        match (self.entry_list(), other.entry_list()) {
            (Some(entries), Some(others)) => entries == others,
            (None, None) => self.listed() == other.listed(),
            _ => self.len() == other.len() && self.segments().eq(other.segments()),
        }
    }
}

impl Eq for VirtualLayer {}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<VirtualLayer>();
};
