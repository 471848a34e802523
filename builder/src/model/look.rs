//! How the readers of headers get at bytes: few of them, and none where they would have to be decoded or fetched.

use crossdock_storage::Peek;

/// At most so many bytes are read of a file.
pub const MOST: u64 = 1 << 20;

/// So many are read at first: a page, which the headers of most shards fit into.
pub(super) const FIRST: usize = 4096;

/// A file that is looked into.
pub trait Look {
    /// Its length in bytes.
    fn len(&self) -> u64;

    /// Whether it has no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes from `offset` on: `most`, or fewer where the file ends. `None` where they cannot be had.
    fn read(&mut self, offset: u64, most: usize) -> Option<Vec<u8>>;
}

impl Look for Peek {
    fn len(&self) -> u64 {
        self.file_len()
    }

    fn read(&mut self, offset: u64, most: usize) -> Option<Vec<u8>> {
        // The build reads the file too, and says what is wrong with it.
        Peek::read(self, offset, most)
            .inspect_err(|error| tracing::debug!(%error, "not looked into"))
            .ok()
            .flatten()
    }
}

/// A file at hand, as tests and fuzz targets have it.
impl Look for &[u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read(&mut self, offset: u64, most: usize) -> Option<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(<[u8]>::len(self));
        let end = from.saturating_add(most).min(<[u8]>::len(self));
        Some(self[from..end].to_vec())
    }
}

/// What came of a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen<T> {
    /// All that was to be seen.
    Whole(T),
    /// What is behind the first [`MOST`] bytes, or in a stream, was not looked at.
    Part(T),
}

impl<T> Seen<T> {
    /// What was seen, be it all or not.
    pub const fn inner(&self) -> &T {
        match self {
            Self::Whole(seen) | Self::Part(seen) => seen,
        }
    }

    /// What was seen, where it is all.
    pub const fn whole(&self) -> Option<&T> {
        match self {
            Self::Whole(seen) => Some(seen),
            Self::Part(_) => None,
        }
    }
}

/// What is wrong with a file: a sentence about it, with what was expected and what was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault(pub String);

/// The beginning of a file, up to [`MOST`] bytes, and whether that is all of it; `None` where it cannot be had.
pub(super) fn beginning(file: &mut dyn Look) -> Option<(Vec<u8>, bool)> {
    let most = file.len().min(MOST);
    let bytes = file.read(0, usize::try_from(most).unwrap_or_default())?;
    Some((bytes, most == file.len()))
}

/// What of some bytes is UTF-8; the end may be in the middle of a character.
pub(super) fn text(bytes: &[u8], whole: bool) -> Result<&str, Fault> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Ok(text),
        Err(error) if !whole && error.error_len().is_none() => {
            Ok(std::str::from_utf8(&bytes[..error.valid_up_to()]).unwrap_or_default())
        }
        Err(error) => Err(Fault(format!("is no JSON: byte {} is not UTF-8", error.valid_up_to()))),
    }
}

/// A number by which the name of a tensor is known: a model has some hundred thousand of them.
pub(super) fn known_by(name: &str) -> u64 {
    use std::hash::{DefaultHasher, Hasher};
    let mut hasher = DefaultHasher::new();
    hasher.write(name.as_bytes());
    hasher.finish()
}

/// A name as messages have it: not all of one that has no end.
pub(super) fn quoted(name: &str) -> String {
    const MOST: usize = 100;
    match name.char_indices().nth(MOST) {
        Some((end, _)) => format!("{:?}...", &name[..end]),
        None => format!("{name:?}"),
    }
}
