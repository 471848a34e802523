//! An entry of a layer, before it is written as tar: path, kind, mode and owner.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nix::sys::stat::{SFlag, major, minor};
use serde::{Deserialize, Serialize};

use crate::layer::{Segment, VirtualLayer};
use crate::packed::Packed;
use crate::source::SourceFile;
use crate::xattrs::Xattrs;

/// A path inside an image, as a tar archive names it: relative to the root, `/` between its parts, no `.`, `..` or
/// empty part, no NUL; the empty path is the root directory itself. Bytes, for names need not be UTF-8.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct LayerPath(Arc<[u8]>);

/// A path that cannot be one inside an image.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LayerPathError {
    /// A part is `..`, and there is nothing above the root.
    #[error("the path leads above the root of the image")]
    AboveRoot,
    /// A NUL byte.
    #[error("the path has a NUL byte")]
    Nul,
}

impl LayerPath {
    /// The root directory.
    #[must_use]
    pub fn root() -> Self {
        Self::default()
    }

    /// Cleans `path`: leading, doubled and trailing slashes and `.` parts go; `a/../b` becomes `b`.
    ///
    /// # Errors
    /// Where `..` leads above the root, or a byte is NUL.
    pub fn clean(path: impl AsRef<[u8]>) -> Result<Self, LayerPathError> {
        let path = path.as_ref();
        if path.contains(&0) {
            return Err(LayerPathError::Nul);
        }
        if path.split(|b| *b == b'/').all(|part| !matches!(part, b"" | b"." | b"..")) {
            return Ok(Self(path.into()));
        }
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => {
                    parts.pop().ok_or(LayerPathError::AboveRoot)?;
                }
                part => parts.push(part),
            }
        }
        Ok(Self(parts.join(&b'/').into()))
    }

    /// As [`clean`](Self::clean); but a `..` at the root stays there, as it does in a root file system.
    ///
    /// # Errors
    /// Where a byte is NUL.
    pub fn confined(path: impl AsRef<[u8]>) -> Result<Self, LayerPathError> {
        let mut parts: Vec<&[u8]> = Vec::new();
        for part in path.as_ref().split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => drop(parts.pop()),
                part => parts.push(part),
            }
        }
        Self::clean(parts.join(&b'/'))
    }

    /// This path with a further part or relative path below it.
    ///
    /// # Errors
    /// As [`LayerPath::clean`].
    pub fn join(&self, below: impl AsRef<[u8]>) -> Result<Self, LayerPathError> {
        let mut path = self.0.to_vec();
        path.push(b'/');
        path.extend_from_slice(below.as_ref());
        Self::clean(path)
    }

    /// The bytes, without a leading slash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is the root directory.
    #[must_use]
    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// The directory this path is in; `None` for the root.
    #[must_use]
    pub fn parent(&self) -> Option<Self> {
        if self.is_root() {
            return None;
        }
        let end = self.0.iter().rposition(|b| *b == b'/').unwrap_or(0);
        Some(Self(self.0[..end].into()))
    }

    /// The last part; `None` for the root.
    #[must_use]
    pub fn file_name(&self) -> Option<&[u8]> {
        self.0.rsplit(|b| *b == b'/').next().filter(|name| !name.is_empty())
    }

    /// The directories above this path, from the topmost down, the root left out.
    pub fn ancestors(&self) -> impl Iterator<Item = Self> + '_ {
        self.0.iter().enumerate().filter(|(_, b)| **b == b'/').map(|(at, _)| Self(self.0[..at].into()))
    }

    /// Whether this path is `other` or below it.
    #[must_use]
    pub fn starts_with(&self, other: &Self) -> bool {
        other.is_root()
            || self
                .0
                .strip_prefix(&*other.0)
                .is_some_and(|rest| rest.is_empty() || rest.first() == Some(&b'/'))
    }
}

impl fmt::Display for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", String::from_utf8_lossy(&self.0))
    }
}

impl fmt::Debug for LayerPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LayerPath({:?})", String::from_utf8_lossy(&self.0))
    }
}

/// Where a regular file's bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileContent {
    /// At hand.
    Inline(Bytes),
    /// The whole of a source file.
    Source(SourceFile),
    /// In parts of files, or in streams.
    Parts(VirtualLayer),
}

impl FileContent {
    /// What lies in `parts`; a whole source file is just that.
    #[must_use]
    pub fn of_parts(parts: VirtualLayer) -> Self {
        match (parts.segment_count(), parts.segment(0)) {
            (1, Some(Segment::Extent { file, offset: 0, len })) if len == file.size() => Self::Source(file),
            _ => Self::Parts(parts),
        }
    }

    /// The same as parts of files and streams.
    #[must_use]
    pub fn into_parts(self) -> VirtualLayer {
        match self {
            Self::Inline(bytes) => VirtualLayer::new([Segment::Inline(bytes)]),
            Self::Source(file) => {
                let len = file.size();
                VirtualLayer::new([Segment::Extent { file, offset: 0, len }])
            }
            Self::Parts(parts) => parts,
        }
    }

    /// The length in bytes.
    #[must_use]
    pub fn len(&self) -> u64 {
        match self {
            Self::Inline(bytes) => bytes.len() as u64,
            Self::Source(file) => file.size(),
            Self::Parts(parts) => parts.len(),
        }
    }

    /// The stream that the file comes out of and where it begins in it, if it does.
    pub(crate) fn packed(&self) -> Option<(&Packed, u64)> {
        match self {
            Self::Parts(parts) => parts.packed(),
            Self::Inline(_) | Self::Source(_) => None,
        }
    }

    /// Whether the file is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A regular file.
    File(FileContent),
    /// A symbolic link; the target is kept as it is.
    Symlink {
        /// The target's bytes.
        target: Bytes,
    },
    /// Another name of a file, FIFO or device that is an earlier entry of the same layer.
    HardLink {
        /// The path of that entry.
        target: LayerPath,
    },
    /// A FIFO or device.
    Special(Special),
}

/// What has a name in the file system and no bytes. Sockets are not among it: archives have no entries for them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Special {
    /// A named pipe.
    #[serde(rename = "p")]
    Fifo,
    /// A character device: major and minor number.
    #[serde(rename = "c")]
    Character(u32, u32),
    /// A block device: major and minor number.
    #[serde(rename = "b")]
    Block(u32, u32),
}

impl Special {
    /// The largest number of a device that a tar header has room for.
    pub const MAX_NUMBER: u32 = 0o7_777_777;

    /// What a path of this machine is, which is looked at and never opened: opening a FIFO waits for who writes to it. `None`
    /// for all else, sockets too.
    #[must_use]
    pub fn of(mode: u32, device: u64) -> Option<Self> {
        let numbers = || {
            let number =
                |number: u64| u32::try_from(number).ok().filter(|number| *number <= Self::MAX_NUMBER);
            Some((number(major(device))?, number(minor(device))?))
        };
        match SFlag::from_bits_truncate(mode) & SFlag::S_IFMT {
            SFlag::S_IFIFO => Some(Self::Fifo),
            SFlag::S_IFCHR => numbers().map(|(major, minor)| Self::Character(major, minor)),
            SFlag::S_IFBLK => numbers().map(|(major, minor)| Self::Block(major, minor)),
            _ => None,
        }
    }

    /// Whether it takes away what lower layers have at its path, where layers are unpacked for overlayfs
    /// (<https://docs.kernel.org/filesystems/overlayfs.html>, "whiteouts and opaque directories").
    #[must_use]
    pub const fn is_whiteout(self) -> bool {
        matches!(self, Self::Character(0, 0))
    }
}

impl fmt::Display for Special {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fifo => f.write_str("a FIFO"),
            Self::Character(major, minor) => write!(f, "the character device {major}:{minor}"),
            Self::Block(major, minor) => write!(f, "the block device {major}:{minor}"),
        }
    }
}

impl Entry {
    /// Whether this is a file of `size` bytes or more that may have a layer of its own. In a compressed stream it may if
    /// what must be decoded before it is no more than itself: each layer is read by itself.
    #[must_use]
    pub fn is_large(&self, size: u64) -> bool {
        let EntryKind::File(content) = &self.kind else { return false };
        let before = match content.packed() {
            Some((packed, offset)) if packed.is_sequential() => offset,
            _ => 0,
        };
        content.len() >= size && before <= content.len()
    }
}

/// A path in a layer with what stands there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where.
    pub path: LayerPath,
    /// What.
    pub kind: EntryKind,
    /// Permission bits with set-id and sticky bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time in seconds since the epoch; 0 for that of its layer. These 32 bits fit into what the other fields
    /// leave, and last until 2106.
    pub mtime: u32,
    /// Extended attributes; a hard link has none beside its target's.
    pub xattrs: Xattrs,
}
