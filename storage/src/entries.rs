//! The entries of a layer's tar archive, within limits: an archive may be made by somebody who means harm, and the tar
//! crate keeps in memory what describes an entry.

use std::cell::{Cell, RefCell};
use std::io::{self, Read, Seek, SeekFrom};
use std::rc::Rc;

use bytes::Bytes;
use tar::{Archive, Entries, Entry, EntryType};

use crate::decode;
use crate::entry::{LayerPath, Special};
use crate::error::{Error, Result};
use crate::index::{IndexEntry, IndexKind};
use crate::sparse::Sparse;
use crate::xattrs::Xattrs;

/// A path, or the target of a link, has at most so many bytes (`PATH_MAX` of Linux).
const MAX_PATH: usize = 4096;

/// What stands before an entry to describe it has at most so many bytes: its header, long names, PAX records, the map of
/// a sparse file. The tar crate keeps it in memory.
pub(crate) const MAX_METADATA: u64 = 1 << 20;

/// The length of a header, in bytes.
const HEADER: usize = 512;

/// What stands before an extended attribute's name in a PAX record, since star had it so.
pub(crate) const PAX_XATTR: &[u8] = b"SCHILY.xattr.";

/// The prefix of a whiteout's name, and the name of an opaque one (OCI image-spec, layer.md, "Whiteouts").
pub(crate) const WHITEOUT: &[u8] = b".wh.";
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

/// Where a header has the type of its entry (POSIX pax, "ustar Interchange Format").
const TYPE_FLAG: usize = 156;

/// A layer's archive.
pub(crate) struct LayerArchive<R: Read> {
    archive: Archive<Metered<R>>,
    meter: Rc<Meter>,
    what: String,
    confined: bool,
}

impl<R: Read> LayerArchive<R> {
    /// The archive that `source` reads; `what` names it in errors.
    pub(crate) fn new(source: R, what: &str) -> Self {
        let meter = Rc::new(Meter::default());
        let what = what.to_owned();
        let metered = Metered { inner: source, meter: Rc::clone(&meter), what: what.clone() };
        Self { archive: Archive::new(metered), meter, what, confined: false }
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
        walk(self.archive.entries(), &self.meter, &self.what, self.confined, each)
    }

    /// Whether the source ended where the next entry would begin: without the two blocks of zeros that end an archive
    /// (POSIX pax, "ustar Interchange Format"), nobody can tell whether there were more entries.
    pub(crate) fn is_cut(&self) -> bool {
        self.meter.ended.get()
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
        walk(self.archive.entries_with_seek(), &self.meter, &self.what, self.confined, each)
    }
}

fn walk<'a, R: Read>(
    entries: io::Result<Entries<'a, Metered<R>>>,
    meter: &Meter,
    what: &str,
    confined: bool,
    mut each: impl FnMut(IndexEntry, &mut Entry<'a, Metered<R>>) -> Result<()>,
) -> Result<()> {
    let too_long = |limit| Error::Limit { what: what.to_owned(), limit, most: MAX_PATH as u64 };
    // The entry that was read last, which is the place of what is wrong behind it.
    let mut last: Option<LayerPath> = None;
    for entry in entries.map_err(|error| damaged(what, error))? {
        let mut entry = entry.map_err(|error| damaged_behind(what, last.as_ref(), error))?;
        // Of a global header the tar crate would read the content for its records.
        if entry.header().entry_type() != EntryType::XGlobalHeader {
            check_numbers(&mut entry, what)?;
        }
        // The tar crate has read a map behind the header by now, and passes over it.
        let behind = entry.header().entry_type() == EntryType::GNUSparse;
        let behind = if behind { meter.since(entry.raw_file_position()) } else { Vec::new() };
        // The content is passed over on the way to the next entry. Of a sparse file, `size` has the holes too.
        let content = match entry.header().entry_type() {
            EntryType::GNUSparse => entry.header().entry_size().unwrap_or(0),
            _ => entry.size(),
        };
        meter.allow(content.saturating_add(MAX_METADATA));
        let sparse = Sparse::of(&mut entry, &behind, what)?;
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
        // Where the format has no such numbers, or the field is empty, they are 0.
        let device = |number: io::Result<Option<u32>>| match number {
            Ok(number) if number.unwrap_or(0) <= Special::MAX_NUMBER => Ok(number.unwrap_or(0)),
            _ => Err(Error::Unusable(format!(
                "{what}: {} is a device with a number that none has",
                String::from_utf8_lossy(&entry.path_bytes())
            ))),
        };
        let (major, minor) = (header.device_major(), header.device_minor());
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
                target => IndexKind::Symlink(Box::new(target.into())),
            },
            EntryType::Link => IndexKind::HardLink(clean(&link())?),
            // Before POSIX a directory was told by its name's last byte (GNU tar manual, "Basic Tar Format", AREGTYPE).
            EntryType::Regular if header.as_bytes()[TYPE_FLAG] == 0 && entry.path_bytes().ends_with(b"/") => {
                IndexKind::Directory
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                IndexKind::File(sparse.as_ref().map_or(entry.size(), |sparse| sparse.size))
            }
            EntryType::Fifo => IndexKind::Special(Special::Fifo),
            EntryType::Char => IndexKind::Special(Special::Character(device(major)?, device(minor)?)),
            EntryType::Block => IndexKind::Special(Special::Block(device(major)?, device(minor)?)),
            // A global header stands for no file.
            EntryType::XGlobalHeader => continue,
            // Go's archive/tar hands them on, and those who unpack images with it refuse them.
            other => {
                return Err(Error::Unusable(format!(
                    "{what}: {} is an entry of the type {:?}, which stands for no file that an image can have",
                    name_of(&entry),
                    char::from(other.as_byte()),
                )));
            }
        };
        let (mode, uid, gid) = (
            header.mode().unwrap_or(0o755) & 0o7777,
            id("an owner", &header.uid(), &header.as_old().uid, what, &entry)?,
            id("a group", &header.gid(), &header.as_old().gid, what, &entry)?,
        );
        let mtime = u32::try_from(mtime(&mut entry)).unwrap_or(u32::MAX);
        let path = match sparse.as_ref().and_then(|sparse| sparse.name.as_ref()) {
            Some(name) => clean(name)?,
            None => clean(&entry.path_bytes())?,
        };
        let (xattrs, all_told) = xattrs(&mut entry);
        let whole = sparse.is_none() && all_told;
        let offset = (whole && matches!(kind, IndexKind::File(_))).then(|| entry.raw_file_position());
        let pieces = sparse.map(|sparse| sparse.pieces.into_boxed_slice()).filter(|_| all_told);
        let found = IndexEntry {
            path,
            kind,
            mode,
            uid,
            gid,
            offset,
            pieces,
            digest: None,
            mtime,
            xattrs,
            content: None,
        };
        last = Some(found.path.clone());
        each(whiteout(found), &mut entry)?;
    }
    // What follows the archive's end is nobody's metadata.
    meter.allow(u64::MAX);
    Ok(())
}

/// What came of an archive that ends or errs where it should not.
pub(crate) fn damaged(what: &str, error: io::Error) -> Error {
    decode::limit_or(error, |error| {
        Error::Unusable(format!("{what} is not a tar archive that can be read: {error}"))
    })
}

/// As [`damaged`], with the entry before the place. What the tar crate says of a header that is none has the bytes of it.
fn damaged_behind(what: &str, last: Option<&LayerPath>, error: io::Error) -> Error {
    decode::limit_or(error, |error| {
        let place = match last {
            Some(last) => format!("behind {last}"),
            None => "at its beginning".to_owned(),
        };
        let reason = match error.kind() {
            io::ErrorKind::UnexpectedEof => "it is cut short".to_owned(),
            _ => error.to_string(),
        };
        // The tar crate's words for an end too early, and for a checksum that is none, or another one.
        let cut = ["unexpected EOF during skip", "failed to read entire block"];
        let no_header = ["numeric field was not a number", "archive header checksum mismatch"];
        let reason = match no_header.iter().any(|words| reason.starts_with(words)) {
            true => "there is no header of an entry where one should be".to_owned(),
            false if cut.iter().any(|words| reason.starts_with(words)) => "it is cut short".to_owned(),
            false => reason,
        };
        Error::Unusable(format!("{what} is not a tar archive that can be read: {place} {reason}"))
    })
}

fn name_of<R: Read>(entry: &Entry<'_, R>) -> String {
    String::from_utf8_lossy(&entry.path_bytes()).into_owned()
}

/// The numbers of PAX records (POSIX pax, "size", "uid" and "gid"), which count before the fields of the header. The tar
/// crate passes over one that is none, and would take the header's for it.
fn check_numbers<R: Read>(entry: &mut Entry<'_, R>, what: &str) -> Result<()> {
    let records = entry.pax_extensions().ok().flatten().into_iter().flatten().flatten();
    let wrong = records
        .filter(|record| [&b"size"[..], b"uid", b"gid"].contains(&record.key_bytes()))
        .find(|record| !record.value().is_ok_and(|value| value.parse::<u64>().is_ok()))
        .map(|record| {
            let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
            (text(record.key_bytes()), text(record.value_bytes()))
        });
    match wrong {
        None => Ok(()),
        Some((key, value)) => Err(Error::Unusable(format!(
            "{what}: {} has the PAX record {key}={value:?}, which is no number that an entry can have",
            name_of(entry)
        ))),
    }
}

/// An owner or group; a field that is empty is 0.
fn id<R: Read>(
    name: &str,
    value: &io::Result<u64>,
    field: &[u8],
    what: &str,
    entry: &Entry<'_, R>,
) -> Result<u32> {
    let is_empty = field.iter().all(|byte| [0, b' '].contains(byte));
    let id = match value {
        // To Linux the highest number is none: `chown` passes over it.
        Ok(id) => u32::try_from(*id).ok().filter(|id| *id != u32::MAX),
        Err(_) if is_empty => Some(0),
        Err(_) => None,
    };
    id.ok_or_else(|| Error::Unusable(format!("{what}: {} has {name} that no system has", name_of(entry))))
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

/// The modification time of an entry in seconds, those before the epoch being 0. A PAX record counts before the header's
/// field (POSIX pax, "mtime").
fn mtime<R: Read>(entry: &mut Entry<'_, R>) -> u64 {
    // A field in base 256 may be negative, which has its first two bits set and reads as a huge number.
    let field = entry.header().as_old().mtime;
    let before_the_epoch = field[0] & 0xc0 == 0xc0;
    let of_header = if before_the_epoch { 0 } else { entry.header().mtime().unwrap_or(0) };
    let records = entry.pax_extensions().ok().flatten().into_iter().flatten().flatten();
    let of_record = records.filter(|record| record.key_bytes() == b"mtime").last().and_then(|record| {
        let text = std::str::from_utf8(record.value_bytes()).ok()?;
        if text.starts_with('-') {
            return Some(0);
        }
        text.split('.').next()?.parse().ok()
    });
    of_record.unwrap_or(of_header)
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

/// Fails when more is read than its meter allows.
pub(crate) struct Metered<R> {
    inner: R,
    meter: Rc<Meter>,
    what: String,
}

/// What is read of an archive.
struct Meter {
    allowed: Cell<u64>,
    position: Cell<u64>,
    /// Whether the source has come to its end.
    ended: Cell<bool>,
    /// What was read last in portions no larger than a header.
    tail: RefCell<Vec<u8>>,
}

impl Default for Meter {
    fn default() -> Self {
        Self {
            allowed: Cell::new(MAX_METADATA),
            position: Cell::new(0),
            ended: Cell::new(false),
            tail: RefCell::default(),
        }
    }
}

impl Meter {
    fn allow(&self, bytes: u64) {
        self.allowed.set(bytes);
        self.tail.borrow_mut().clear();
    }

    /// The headers that were read from `position` of the archive on.
    fn since(&self, position: u64) -> Vec<u8> {
        let tail = self.tail.borrow();
        let len = usize::try_from(self.position.get().saturating_sub(position)).unwrap_or(usize::MAX);
        tail[tail.len().saturating_sub(len)..].to_vec()
    }
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        let meter = &self.meter;
        meter.ended.set(len == 0 && !buffer.is_empty());
        match meter.allowed.get().checked_sub(len as u64) {
            Some(left) => meter.allowed.set(left),
            None => return Err(decode::over(&self.what, "the metadata of an entry", MAX_METADATA)),
        }
        meter.position.set(meter.position.get() + len as u64);
        let mut tail = meter.tail.borrow_mut();
        if buffer.len() <= HEADER && (tail.len() as u64) < MAX_METADATA {
            tail.extend_from_slice(&buffer[..len]);
        } else {
            tail.clear();
        }
        Ok(len)
    }
}

impl<R: Seek> Seek for Metered<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.inner.seek(to)?;
        self.meter.position.set(position);
        Ok(position)
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
                mtime: 0,
                offset: Some(512),
                pieces: None,
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
