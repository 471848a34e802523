//! Entries written as a tar archive: headers inline, file contents as extents.
//!
//! GNU tar's format, for three reasons: a size from 8 GiB up stands in the header itself, base-256, where readers
//! that know no PAX find it (Clair, <https://github.com/quay/claircore>); names of any length and any bytes have a
//! place; and every reader of images takes it. The same entries always give the same bytes.

use bytes::{Bytes, BytesMut};
use tar::{EntryType, Header};

use crate::entries::PAX_XATTR;
use crate::entry::{Entry, EntryKind, FileContent, LayerPath, Special};
use crate::error::{Error, Result};
use crate::layer::{Segment, VirtualLayer};
use crate::packed::Packed;

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;

static ZEROS: [u8; 2 * BLOCK] = [0; 2 * BLOCK];

/// Writes `entries`, sorted by path but for files that come out of streams, as a tar archive in which every entry has `mtime`, in seconds since the epoch.
///
/// # Errors
/// [`Error::Entry`] where two entries have one path, or a hard link's target is no file, FIFO or device earlier in the archive.
pub fn encode_entries(entries: &[Entry], mtime: u64) -> Result<VirtualLayer> {
    let mut sorted: Vec<&Entry> = entries.iter().collect();
    sorted.sort_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(refused(&pair[0].path, "it is there twice"));
    }
    let mut writer = Writer::default();
    for entry in &sorted {
        if let EntryKind::HardLink { target } = &entry.kind {
            let earlier = *target < entry.path
                && sorted
                    .binary_search_by(|other| other.path.cmp(target))
                    .is_ok_and(|at| matches!(sorted[at].kind, EntryKind::File(_) | EntryKind::Special(_)));
            if !earlier {
                return Err(refused(
                    &entry.path,
                    &format!("its link target {target} is not earlier in the layer"),
                ));
            }
        }
    }
    for entry in in_reading_order(sorted) {
        writer.entry(entry, mtime);
    }
    Ok(writer.finish())
}

/// Files that come out of streams go behind all others in the order of their streams, which so are decoded once; behind them
/// their other names.
fn in_reading_order(sorted: Vec<&Entry>) -> Vec<&Entry> {
    let mut streams: Vec<&Packed> = Vec::new();
    let mut packed: Vec<(usize, u64, &Entry)> = Vec::new();
    for entry in &sorted {
        if let EntryKind::File(content) = &entry.kind
            && let Some((stream, offset)) = content.packed()
        {
            let place = streams.iter().position(|known| *known == stream).unwrap_or_else(|| {
                streams.push(stream);
                streams.len() - 1
            });
            packed.push((place, offset, entry));
        }
    }
    if packed.is_empty() {
        return sorted;
    }
    packed.sort_by_key(|(place, offset, _)| (*place, *offset));
    let is_packed =
        |entry: &Entry| matches!(&entry.kind, EntryKind::File(content) if content.packed().is_some());
    let is_link = |entry: &Entry| matches!(entry.kind, EntryKind::HardLink { .. });
    let (links, mut order): (Vec<_>, Vec<_>) =
        sorted.into_iter().filter(|entry| !is_packed(entry)).partition(|entry| is_link(entry));
    order.extend(packed.into_iter().map(|(_, _, entry)| entry));
    order.extend(links);
    order
}

fn refused(path: &LayerPath, reason: &str) -> Error {
    Error::Entry { path: path.to_string(), reason: reason.to_owned() }
}

#[derive(Default)]
struct Writer {
    segments: Vec<Segment>,
    inline: BytesMut,
}

impl Writer {
    fn entry(&mut self, entry: &Entry, mtime: u64) {
        let mut name = entry.path.as_bytes().to_vec();
        if entry.path.is_root() {
            name.extend_from_slice(b"./");
        } else if matches!(entry.kind, EntryKind::Directory) {
            name.push(b'/');
        }
        let mut header = Header::new_gnu();
        header.set_mode(entry.mode & 0o7777);
        header.set_uid(u64::from(entry.uid));
        header.set_gid(u64::from(entry.gid));
        header.set_mtime(mtime);
        header.set_size(0);
        let mut link: &[u8] = b"";
        match &entry.kind {
            EntryKind::Directory => header.set_entry_type(EntryType::Directory),
            EntryKind::File(content) => {
                header.set_entry_type(EntryType::Regular);
                header.set_size(content.len());
            }
            EntryKind::Symlink { target } => {
                header.set_entry_type(EntryType::Symlink);
                link = target;
            }
            EntryKind::HardLink { target } => {
                header.set_entry_type(EntryType::Link);
                link = target.as_bytes();
            }
            EntryKind::Special(special) => {
                let (kind, major, minor) = match *special {
                    Special::Fifo => (EntryType::Fifo, 0, 0),
                    Special::Character(major, minor) => (EntryType::Char, major, minor),
                    Special::Block(major, minor) => (EntryType::Block, major, minor),
                };
                header.set_entry_type(kind);
                header.set_device_major(major).expect("a GNU header has it");
                header.set_device_minor(minor).expect("a GNU header has it");
            }
        }
        self.long(EntryType::GNULongLink, link, header.as_old().linkname.len());
        self.long(EntryType::GNULongName, &name, header.as_old().name.len());
        self.xattrs(entry);
        put(&mut header.as_old_mut().linkname, link);
        put(&mut header.as_old_mut().name, &name);
        self.header(header);
        if let EntryKind::File(content) = &entry.kind {
            self.content(content);
        }
    }

    /// An entry of its own for a name that the header has no room for.
    fn long(&mut self, kind: EntryType, name: &[u8], room: usize) {
        if name.len() <= room {
            return;
        }
        let mut header = Header::new_gnu();
        put(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        // The terminating NUL counts.
        header.set_size(name.len() as u64 + 1);
        header.set_entry_type(kind);
        self.header(header);
        self.inline.extend_from_slice(name);
        self.inline.extend_from_slice(&[0]);
        self.pad(name.len() as u64 + 1);
    }

    /// PAX records for the extended attributes, which the header has no room for.
    fn xattrs(&mut self, entry: &Entry) {
        if entry.xattrs.is_empty() || matches!(entry.kind, EntryKind::HardLink { .. }) {
            return;
        }
        let mut records = Vec::new();
        for (name, value) in entry.xattrs.iter() {
            // ` ` and `=` and a line break; the length counts its own digits.
            let rest = PAX_XATTR.len() + name.len() + value.len() + 3;
            let digits = |len: usize| len.to_string().len();
            let mut len = rest + digits(rest);
            len = rest + digits(len);
            records.extend_from_slice(format!("{len} ").as_bytes());
            for part in [PAX_XATTR, name, b"=", value, b"\n"] {
                records.extend_from_slice(part);
            }
        }
        let mut header = Header::new_ustar();
        put(&mut header.as_old_mut().name, b"././@PaxHeader");
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(records.len() as u64);
        header.set_entry_type(EntryType::XHeader);
        self.header(header);
        self.inline.extend_from_slice(&records);
        self.pad(records.len() as u64);
    }

    fn header(&mut self, mut header: Header) {
        header.set_cksum();
        self.inline.extend_from_slice(header.as_bytes());
    }

    fn content(&mut self, content: &FileContent) {
        match content {
            FileContent::Inline(bytes) => self.inline.extend_from_slice(bytes),
            FileContent::Source(file) if file.size() > 0 => {
                self.flush();
                self.segments.push(Segment::Extent { file: file.clone(), offset: 0, len: file.size() });
            }
            FileContent::Source(_) => {}
            FileContent::Parts(parts) => {
                self.flush();
                self.segments.extend_from_slice(parts.segments());
            }
        }
        self.pad(content.len());
    }

    fn pad(&mut self, len: u64) {
        let over = usize::try_from(len % BLOCK as u64).expect("below a block");
        if over > 0 {
            self.inline.extend_from_slice(&ZEROS[..BLOCK - over]);
        }
    }

    fn flush(&mut self) {
        if !self.inline.is_empty() {
            let bytes: Bytes = self.inline.split().freeze();
            self.segments.push(Segment::Inline(bytes));
        }
    }

    fn finish(mut self) -> VirtualLayer {
        // The archive ends with two blocks of zeros.
        self.inline.extend_from_slice(&ZEROS);
        self.flush();
        VirtualLayer::new(self.segments)
    }
}

/// Puts `bytes` into a header field, as much as it has room for: the rest stands in an entry of its own.
fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}
