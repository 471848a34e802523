//! `EntryList`: a layer as the entries of its archive. Their headers are made when somebody reads them: kept, they would be
//! most of what a layer of many small files takes.

use bytes::Bytes;

use crate::entry::{Entry, EntryKind, FileContent};
use crate::layer::Segment;
use crate::layer_key::Run;
use crate::source::SourceFile;
use crate::tar::{BLOCK, head, head_len, padding};

/// An archive ends with two blocks of zeros.
static ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// So many entries lie between two places that are noted.
const STEP: usize = 8;

/// The entries of a layer in the order of its archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntryList {
    entries: Vec<Entry>,
    mtime: u64,
    /// Where every [`STEP`]th entry begins.
    marks: Vec<Place>,
    end: Place,
}

/// A place between two segments: bytes and segments before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Place {
    offset: u64,
    segment: usize,
}

impl Place {
    fn behind(self, entry: &Entry) -> Self {
        let shape = Shape::of(entry);
        Self { offset: self.offset + shape.len(), segment: self.segment + shape.segments() }
    }
}

/// What an entry is in the archive: what stands at hand, then bytes from elsewhere, and zeros to the end of a block.
struct Shape<'a> {
    entry: &'a Entry,
    /// The bytes of headers and of contents that are at hand, with their zeros.
    head: u64,
    content: Option<&'a FileContent>,
}

impl<'a> Shape<'a> {
    fn of(entry: &'a Entry) -> Self {
        let head = head_len(entry);
        match &entry.kind {
            EntryKind::File(content @ FileContent::Inline(bytes)) => {
                let head = head + bytes.len() as u64 + padding(content.len());
                Self { entry, head, content: None }
            }
            EntryKind::File(content) if !content.is_empty() => Self { entry, head, content: Some(content) },
            _ => Self { entry, head, content: None },
        }
    }

    fn content_len(&self) -> u64 {
        self.content.map_or(0, FileContent::len)
    }

    fn len(&self) -> u64 {
        self.head + self.content_len() + padding(self.content_len())
    }

    /// How many segments the content is.
    fn parts(&self) -> usize {
        match self.content {
            Some(FileContent::Parts(parts)) => parts.segment_count(),
            Some(_) => 1,
            None => 0,
        }
    }

    fn segments(&self) -> usize {
        1 + self.parts() + usize::from(padding(self.content_len()) > 0)
    }

    fn segment(&self, index: usize, mtime: u64) -> Option<Segment> {
        if index == 0 {
            let mut bytes = Vec::with_capacity(usize::try_from(self.head).ok()?);
            head(self.entry, mtime, &mut bytes);
            if let EntryKind::File(FileContent::Inline(content)) = &self.entry.kind {
                bytes.extend_from_slice(content);
            }
            bytes.resize(usize::try_from(self.head).ok()?, 0);
            return Some(Segment::Inline(bytes.into()));
        }
        match self.content {
            Some(FileContent::Parts(parts)) if index <= parts.segment_count() => parts.segment(index - 1),
            Some(FileContent::Source(file)) if index == 1 => {
                Some(Segment::Extent { file: file.clone(), offset: 0, len: file.size() })
            }
            _ => {
                let zeros = usize::try_from(padding(self.content_len())).ok()?;
                (index + 1 == self.segments()).then(|| Segment::Inline(Bytes::from_static(&ZEROS[..zeros])))
            }
        }
    }

    /// The segment that holds the byte at `offset`, which is within the entry, and how far into it that is.
    fn locate(&self, offset: u64) -> (usize, u64) {
        let Some(within) = offset.checked_sub(self.head) else { return (0, offset) };
        match (within.checked_sub(self.content_len()), self.content) {
            (Some(within), _) => (1 + self.parts(), within),
            (None, Some(FileContent::Parts(parts))) => {
                let (index, within) = parts.locate(within).unwrap_or_default();
                (1 + index, within)
            }
            (None, _) => (1, within),
        }
    }
}

impl EntryList {
    /// These entries in this order.
    pub(crate) fn new(mut entries: Vec<Entry>, mtime: u64) -> Self {
        entries.shrink_to_fit();
        let mut marks = Vec::with_capacity(entries.len().div_ceil(STEP));
        let mut end = Place::default();
        for (index, entry) in entries.iter().enumerate() {
            if index % STEP == 0 {
                marks.push(end);
            }
            end = end.behind(entry);
        }
        Self { entries, mtime, marks, end }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    pub(crate) fn entries_mut(&mut self) -> &mut [Entry] {
        &mut self.entries
    }

    /// The modification time of entries that have none of their own, in seconds since the epoch.
    pub(crate) const fn mtime(&self) -> u64 {
        self.mtime
    }

    pub(crate) const fn len(&self) -> u64 {
        self.end.offset + ZEROS.len() as u64
    }

    pub(crate) const fn segment_count(&self) -> usize {
        self.end.segment + 1
    }

    /// The segment of this number.
    pub(crate) fn segment(&self, index: usize) -> Option<Segment> {
        if index == self.end.segment {
            return Some(Segment::Inline(Bytes::from_static(&ZEROS)));
        }
        let (entry, place) = self.find(|place| place.segment <= index)?;
        Shape::of(entry).segment(index - place.segment, self.mtime)
    }

    pub(crate) fn segments(&self) -> impl Iterator<Item = Segment> {
        let of_entry = move |entry| {
            let shape = Shape::of(entry);
            (0..shape.segments()).filter_map(move |index| shape.segment(index, self.mtime))
        };
        let end = Segment::Inline(Bytes::from_static(&ZEROS));
        self.entries.iter().flat_map(of_entry).chain([end])
    }

    /// The archive with the contents of its files left out.
    pub(crate) fn runs(&self) -> impl Iterator<Item = Run<'_>> {
        let of_entry = move |entry| {
            let shape = Shape::of(entry);
            let head = match shape.segment(0, self.mtime) {
                Some(Segment::Inline(bytes)) => Some(Run::Known(bytes)),
                _ => None,
            };
            let padding = usize::try_from(padding(shape.content_len())).unwrap_or_default();
            let padding = Some(&ZEROS[..padding]).filter(|zeros| !zeros.is_empty());
            let padding = padding.map(|zeros| Run::Known(Bytes::from_static(zeros)));
            head.into_iter().chain(shape.content.map(Run::File)).chain(padding)
        };
        self.entries.iter().flat_map(of_entry).chain([Run::Known(Bytes::from_static(&ZEROS))])
    }

    /// The only entry that is no directory, where it is a file; and where its bytes begin.
    pub(crate) fn only_file(&self) -> Option<(&Entry, u64)> {
        let (mut only, mut offset) = (None, 0);
        for entry in &self.entries {
            match &entry.kind {
                EntryKind::Directory => {}
                EntryKind::File(_) if only.is_none() => only = Some((entry, offset + head_len(entry))),
                _ => return None,
            }
            offset += Shape::of(entry).len();
        }
        only
    }

    /// The segment that holds the byte at `offset`, and how far into it that byte is.
    pub(crate) fn locate(&self, offset: u64) -> Option<(usize, u64)> {
        if let Some(within) = offset.checked_sub(self.end.offset) {
            return (offset < self.len()).then_some((self.end.segment, within));
        }
        let (entry, place) = self.find(|place| place.offset <= offset)?;
        let (index, within) = Shape::of(entry).locate(offset - place.offset);
        Some((place.segment + index, within))
    }

    /// The entry that begins last of those whose beginning is `reached`, and where that is.
    fn find(&self, reached: impl Fn(&Place) -> bool) -> Option<(&Entry, Place)> {
        let mark = self.marks.partition_point(&reached).checked_sub(1)?;
        let mut place = self.marks[mark];
        for entry in &self.entries[mark * STEP..] {
            let behind = place.behind(entry);
            if !reached(&behind) {
                return Some((entry, place));
            }
            place = behind;
        }
        None
    }

    /// The files that bytes before `offset` lie in.
    pub(crate) fn files_before(&self, offset: u64) -> impl Iterator<Item = &SourceFile> {
        let mut at = 0;
        let of_entry = move |entry| {
            let shape = Shape::of(entry);
            let begins = at + shape.head;
            at += shape.len();
            (begins < offset).then(|| (shape.content, offset - begins))
        };
        self.entries.iter().map_while(of_entry).flat_map(|(content, offset)| {
            let (file, parts) = match content {
                Some(FileContent::Source(file)) => (Some(file), None),
                Some(FileContent::Parts(parts)) => (None, Some(parts.files_before(offset))),
                Some(FileContent::Inline(_)) | None => (None, None),
            };
            file.into_iter().chain(parts.into_iter().flatten())
        })
    }
}
