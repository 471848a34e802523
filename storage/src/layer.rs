//! `VirtualLayer`: a layer's uncompressed tar as a list of segments, with not a byte of the files in it.
//!
//! Its length is known before a byte is read, and it can be read again from any offset; docs/virtual-layer.md
//! describes it as a table.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::image::ImageSource;
use crate::packed::Packed;
use crate::parallel::blocking;
use crate::source::{FileState, SourceFile};

/// A run of a layer's bytes.
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
#[derive(Debug, Clone)]
pub struct VirtualLayer {
    segments: Arc<[Segment]>,
    /// Where each segment begins, in bytes from the start of the layer.
    starts: Arc<[u64]>,
    len: u64,
}

impl VirtualLayer {
    /// A layer of these segments, in order; empty ones are left out.
    #[must_use]
    pub fn new(segments: impl IntoIterator<Item = Segment>) -> Self {
        let segments: Vec<_> = segments.into_iter().filter(|s| !s.is_empty()).collect();
        let mut len = 0;
        let starts = segments
            .iter()
            .map(|segment| {
                let start = len;
                len += segment.len();
                start
            })
            .collect();
        Self { segments: segments.into(), starts, len }
    }

    /// The exact length in bytes of the uncompressed tar.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// Whether the layer has no bytes at all.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The segments in order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The source files that the layer's bytes lie in; a file with several extents is named once for each.
    pub fn files(&self) -> impl Iterator<Item = &SourceFile> {
        self.segments.iter().filter_map(Segment::file)
    }

    /// What errors about its bytes call the layer: by its title, and by where its files are.
    #[must_use]
    pub fn described(&self, title: &str) -> String {
        let mut files: Vec<_> = self.files().map(SourceFile::path).collect();
        files.dedup();
        match files.as_slice() {
            [] => format!("a file of the layer {}", title.trim()),
            [only] => only.display().to_string(),
            [first, rest @ ..] => {
                format!("a file of the layer {} ({} or {} more)", title.trim(), first.display(), rest.len())
            }
        }
    }

    /// The same layer as this process sees it, where another one wrote it down; see [`SourceFile::renewed`]. What lies
    /// in images is had from where `locate` finds the name of each image. [`FileState::Touched`] where a file is, or is
    /// another by now.
    ///
    /// # Errors
    /// Those of `locate`.
    pub fn renewed(
        &self,
        locate: &dyn Fn(&str) -> Result<Arc<dyn ImageSource>>,
    ) -> Result<(Self, FileState)> {
        let mut files = HashMap::new();
        let mut streams: Vec<(&Packed, Packed)> = Vec::new();
        let mut of_all = FileState::Same;
        let segments = self.segments.iter().map(|segment| {
            Ok(match segment {
                Segment::Inline(_) | Segment::Zeros(_) => segment.clone(),
                Segment::Extent { file, offset, len } => {
                    let renewed = files.entry(file).or_insert_with(|| {
                        let (renewed, state) = file.renewed();
                        of_all = of_all.max(state);
                        renewed
                    });
                    Segment::Extent { file: renewed.clone(), offset: *offset, len: *len }
                }
                Segment::Packed { packed, offset, len, digest } => {
                    let renewed = match streams.iter().find(|(old, _)| *old == packed) {
                        Some((_, renewed)) => renewed.clone(),
                        None => {
                            let (renewed, state) = packed.renewed(locate)?;
                            of_all = of_all.max(state);
                            streams.push((packed, renewed.clone()));
                            renewed
                        }
                    };
                    Segment::Packed { packed: renewed, offset: *offset, len: *len, digest: digest.clone() }
                }
            })
        });
        let segments = segments.collect::<Result<Vec<_>>>()?;
        Ok((Self::new(segments), of_all))
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
        let end = offset.checked_add(len).filter(|end| *end <= self.len).ok_or_else(unusable)?;
        let mut segments = Vec::new();
        let mut at = offset;
        while at < end {
            let (index, within) = self.locate(at).ok_or_else(unusable)?;
            let segment = &self.segments[index];
            let len = (segment.len() - within).min(end - at);
            segments.push(match segment {
                Segment::Inline(bytes) => {
                    let from = usize::try_from(within).map_err(|_| unusable())?;
                    let len = usize::try_from(len).map_err(|_| unusable())?;
                    Segment::Inline(bytes.slice(from..from + len))
                }
                Segment::Extent { file, offset, .. } => {
                    Segment::Extent { file: file.clone(), offset: offset + within, len }
                }
                Segment::Zeros(_) => Segment::Zeros(len),
                Segment::Packed { .. } if len == segment.len() => segment.clone(),
                Segment::Packed { .. } => return Err(unusable()),
            });
            at += len;
        }
        Ok(Self::new(segments))
    }

    /// The segment that holds the byte at `offset`, and how far into it that byte is; `None` at or past the end.
    #[must_use]
    pub fn locate(&self, offset: u64) -> Option<(usize, u64)> {
        if offset >= self.len {
            return None;
        }
        let index = self.starts.partition_point(|start| *start <= offset) - 1;
        Some((index, offset - self.starts[index]))
    }
}

impl PartialEq for VirtualLayer {
    fn eq(&self, other: &Self) -> bool {
        self.segments == other.segments
    }
}

impl Eq for VirtualLayer {}

const _: () = {
    const fn shared<T: Send + Sync>() {}
    shared::<VirtualLayer>();
};
