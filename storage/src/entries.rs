//! The entries of a layer's tar archive, within limits: an archive may be made by somebody who means harm, and the tar
//! crate keeps in memory what describes an entry.

use std::cell::Cell;
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use bytes::Bytes;
use tar::{Archive, Entries, Entry, EntryType};

use crate::decode;
use crate::entry::LayerPath;
use crate::error::{Error, Result};
use crate::index::{IndexEntry, IndexKind};
use crate::xattrs::Xattrs;

/// A path, or the target of a link, has at most so many bytes (`PATH_MAX` of Linux).
const MAX_PATH: usize = 4096;

/// What stands before an entry to describe it has at most so many bytes: its header, long names, PAX records, the map of
/// a sparse file. The tar crate keeps it in memory.
const MAX_METADATA: u64 = 1 << 20;

/// What stands before an extended attribute's name in a PAX record, since star had it so.
pub(crate) const PAX_XATTR: &[u8] = b"SCHILY.xattr.";

/// The prefix of a whiteout's name, and the name of an opaque one (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A layer's archive.
pub(crate) struct LayerArchive<R: Read> {
    archive: Archive<Metered<R>>,
    allowed: Rc<Cell<u64>>,
    what: String,
    confined: bool,
}

impl<R: Read> LayerArchive<R> {
    /// The archive that `source` reads; `what` names it in errors.
    pub(crate) fn new(source: R, what: &str) -> Self {
        let allowed = Rc::new(Cell::new(MAX_METADATA));
        let what = what.to_owned();
        let metered = Metered { inner: source, allowed: Rc::clone(&allowed), what: what.clone() };
        Self { archive: Archive::new(metered), allowed, what, confined: false }
    }

    /// The same archive, in which a path that leads above the root is no error but stops there.
    pub(crate) fn confined(self) -> Self {
        Self { confined: true, ..self }
    }

    /// Gives every entry that stands for something in an image to `each`, with its content.
    ///
    /// # Errors
    /// Those of `each`; [`Error::Unusable`] where this is no archive that an image can have, and [`Error::Limit`].
    pub(crate) fn walk(
        &mut self,
        each: impl FnMut(IndexEntry, &mut Entry<'_, Metered<R>>) -> Result<()>,
    ) -> Result<()> {
        walk(self.archive.entries(), &self.allowed, &self.what, self.confined, each)
    }

    /// Reads what follows the archive's end, which belongs to the layer too, and gives the source back.
    pub(crate) fn finish(self) -> Result<R> {
        let mut source = self.archive.into_inner().inner;
        io::copy(&mut source, &mut io::sink()).map_err(|error| damaged(&self.what, error))?;
        Ok(source)
    }
}

impl<R: Read + Seek> LayerArchive<R> {
    /// As [`walk`](Self::walk), passing over contents without reading them.
    pub(crate) fn walk_seeking(
        &mut self,
        each: impl FnMut(IndexEntry, &mut Entry<'_, Metered<R>>) -> Result<()>,
    ) -> Result<()> {
        walk(self.archive.entries_with_seek(), &self.allowed, &self.what, self.confined, each)
    }
}

fn walk<'a, R: Read>(
    entries: io::Result<Entries<'a, Metered<R>>>,
    allowed: &Cell<u64>,
    what: &str,
    confined: bool,
    mut each: impl FnMut(IndexEntry, &mut Entry<'a, Metered<R>>) -> Result<()>,
) -> Result<()> {
    let damaged = |error| damaged(what, error);
    let too_long = |limit| Error::Limit { what: what.to_owned(), limit, most: MAX_PATH as u64 };
    for entry in entries.map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        // The content is passed over on the way to the next entry. Of a sparse file, `size` has the holes too.
        let content = match entry.header().entry_type() {
            EntryType::GNUSparse => entry.header().entry_size().unwrap_or(0),
            _ => entry.size(),
        };
        allowed.set(content.saturating_add(MAX_METADATA));
        let sparse = pax_sparse(&mut entry);
        let link = || entry.link_name_bytes().map(std::borrow::Cow::into_owned).unwrap_or_default();
        let clean = |path: &[u8]| {
            if path.len() > MAX_PATH {
                return Err(too_long("the length of a path"));
            }
            let path_of = if confined { LayerPath::confined } else { LayerPath::clean };
            path_of(path).map_err(|error| {
                Error::Unusable(format!("{what}: {}: {error}", String::from_utf8_lossy(path)))
            })
        };
        let header = entry.header();
        let kind = match header.entry_type() {
            EntryType::Directory => IndexKind::Directory,
            EntryType::Symlink => match link() {
                target if target.len() > MAX_PATH => return Err(too_long("the length of a link's target")),
                target if target.contains(&0) => {
                    let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
                    return Err(Error::Unusable(format!(
                        "{what}: {path}: the target of the link has a NUL byte"
                    )));
                }
                target => IndexKind::Symlink(target.into()),
            },
            EntryType::Link => IndexKind::HardLink(clean(&link())?),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                IndexKind::File(sparse.as_ref().map_or(entry.size(), |(_, size)| *size))
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => IndexKind::Special,
            // Global headers and what is not known stand for no file.
            _ => continue,
        };
        let number = |value: io::Result<u64>| u32::try_from(value.unwrap_or(0)).unwrap_or(u32::MAX);
        let (mode, uid, gid) =
            (header.mode().unwrap_or(0o755) & 0o7777, number(header.uid()), number(header.gid()));
        let path = match &sparse {
            Some((name, _)) => clean(name)?,
            None => clean(&entry.path_bytes())?,
        };
        let (xattrs, all_told) = xattrs(&mut entry);
        let whole = sparse.is_none() && entry.header().entry_type() != EntryType::GNUSparse && all_told;
        let offset = (whole && matches!(kind, IndexKind::File(_))).then(|| entry.raw_file_position());
        let found = IndexEntry { path, kind, mode, uid, gid, offset, digest: None, xattrs, content: None };
        each(whiteout(found), &mut entry)?;
    }
    // What follows the archive's end is nobody's metadata.
    allowed.set(u64::MAX);
    Ok(())
}

/// What came of an archive that ends or errs where it should not.
pub(crate) fn damaged(what: &str, error: io::Error) -> Error {
    decode::limit_or(error, |error| {
        Error::Unusable(format!("{what} is not a tar archive that can be read: {error}"))
    })
}

/// The name and size of a sparse file in PAX form (GNU tar manual, "PAX Format, Version 1.0"): the header has others, for
/// readers that do not know it, and what follows is a map and the pieces of the file.
pub(crate) fn pax_sparse<R: Read>(entry: &mut Entry<'_, R>) -> Option<(Vec<u8>, u64)> {
    let (mut name, mut size) = (None, None);
    for record in entry.pax_extensions().ok()??.flatten() {
        match record.key_bytes() {
            b"GNU.sparse.name" => name = Some(record.value_bytes().to_vec()),
            b"GNU.sparse.realsize" => size = record.value().ok().and_then(|text| text.parse().ok()),
            _ => {}
        }
    }
    Some((name?, size?))
}

/// The extended attributes of an entry, and whether that is all of them: the tar crate takes a record with a line break in
/// it for several. Then the entry's offset is left out, so that nobody takes the file without them.
fn xattrs<R: Read>(entry: &mut Entry<'_, R>) -> (Xattrs, bool) {
    let Ok(records) = entry.pax_extensions() else { return (Xattrs::default(), false) };
    let mut all_told = true;
    let mut found = Vec::new();
    for record in records.into_iter().flatten() {
        match record {
            Ok(record) => {
                if let Some(name) = record.key_bytes().strip_prefix(PAX_XATTR) {
                    let copied = Bytes::copy_from_slice;
                    found.push((copied(name), copied(record.value_bytes())));
                }
            }
            Err(_) => all_told = false,
        }
    }
    (Xattrs::new(found), all_told)
}

fn whiteout(entry: IndexEntry) -> IndexEntry {
    let (Some(name), Some(parent)) = (entry.path.file_name(), entry.path.parent()) else { return entry };
    if name == OPAQUE {
        return IndexEntry { path: parent, kind: IndexKind::Opaque, offset: None, ..entry };
    }
    match name.strip_prefix(WHITEOUT).map(|hidden| parent.join(hidden)) {
        Some(Ok(path)) => IndexEntry { path, kind: IndexKind::Whiteout, offset: None, ..entry },
        _ => entry,
    }
}

/// Fails when more than `allowed` is read before that is set anew.
pub(crate) struct Metered<R> {
    inner: R,
    allowed: Rc<Cell<u64>>,
    what: String,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        match self.allowed.get().checked_sub(len as u64) {
            Some(left) => self.allowed.set(left),
            None => return Err(decode::over(&self.what, "the metadata of an entry", MAX_METADATA)),
        }
        Ok(len)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.inner.seek(to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whiteouts_name_what_they_take_away() {
        let seen = |path: &[u8]| {
            let path = LayerPath::clean(path).unwrap();
            let entry = IndexEntry {
                path,
                kind: IndexKind::File(0),
                mode: 0o644,
                uid: 1,
                gid: 2,
                offset: Some(512),
                digest: None,
                xattrs: Xattrs::default(),
                content: None,
            };
            let entry = whiteout(entry);
            (entry.path.to_string(), entry.kind, entry.offset)
        };
        assert_eq!(seen(b"a/.wh.b"), ("/a/b".to_owned(), IndexKind::Whiteout, None));
        assert_eq!(seen(b"a/.wh..wh..opq"), ("/a".to_owned(), IndexKind::Opaque, None));
        assert_eq!(seen(b".wh.b"), ("/b".to_owned(), IndexKind::Whiteout, None));
        assert_eq!(seen(b"a/b"), ("/a/b".to_owned(), IndexKind::File(0), Some(512)));
    }
}
