//! Entries as a tar archive: which order they have in it, and what stands before each one's content.
//!
//! GNU tar's format, for three reasons: a size from 8 GiB up stands in the header itself, base-256, where readers
//! that know no PAX find it (Clair, <https://github.com/quay/claircore>); names of any length and any bytes have a
//! place; and every reader of images takes it. The same entries always give the same bytes.

use tar::{EntryType, Header};

use crate::entries::PAX_XATTR;
use crate::entry::{Entry, EntryKind, LayerPath, Special};
use crate::entry_list::EntryList;
use crate::error::{Error, Result};
use crate::layer::VirtualLayer;
use crate::packed::Packed;

/// The unit of a tar archive, in bytes.
pub(crate) const BLOCK: usize = 512;

/// `entries` as a tar archive, sorted by path but for files that come out of streams. Those without a time of their own have
/// `mtime`, in seconds since the epoch.
///
/// # Errors
/// [`Error::Entry`] where two entries have one path, or a hard link's target is no file, FIFO or device earlier in the archive.
pub fn encode_entries(mut entries: Vec<Entry>, mtime: u64) -> Result<VirtualLayer> {
    // No two of them are equal in the end, and a stable sort would take memory for each.
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(refused(&pair[0].path, "it is there twice"));
    }
    for entry in &entries {
        if let EntryKind::HardLink { target } = &entry.kind {
            let earlier = *target < entry.path
                && entries
                    .binary_search_by(|other| other.path.cmp(target))
                    .is_ok_and(|at| matches!(entries[at].kind, EntryKind::File(_) | EntryKind::Special(_)));
            if !earlier {
                return Err(refused(
                    &entry.path,
                    &format!("its link target {target} is not earlier in the layer"),
                ));
            }
        }
    }
    Ok(VirtualLayer::of_entries(EntryList::new(in_reading_order(entries), mtime)))
}

/// Files that come out of streams go behind all others in the order of their streams, which so are decoded once; behind them
/// their other names.
fn in_reading_order(mut sorted: Vec<Entry>) -> Vec<Entry> {
    let packed = |entry: &Entry| match &entry.kind {
        EntryKind::File(content) => content.packed().map(|(stream, offset)| (stream.clone(), offset)),
        _ => None,
    };
    if !sorted.iter().any(|entry| packed(entry).is_some()) {
        return sorted;
    }
    let mut streams: Vec<Packed> = Vec::new();
    sorted.sort_by_cached_key(|entry| match (packed(entry), &entry.kind) {
        (Some((stream, offset)), _) => {
            let place = streams.iter().position(|known| *known == stream).unwrap_or_else(|| {
                streams.push(stream);
                streams.len() - 1
            });
            (1, place, offset)
        }
        (None, EntryKind::HardLink { .. }) => (2, 0, 0),
        (None, _) => (0, 0, 0),
    });
    sorted
}

fn refused(path: &LayerPath, reason: &str) -> Error {
    Error::Entry { path: path.to_string(), reason: reason.to_owned() }
}

/// The length of what [`head`] writes, in bytes.
pub(crate) fn head_len(entry: &Entry) -> u64 {
    let extra = |len: usize| if len == 0 { 0 } else { BLOCK + len.next_multiple_of(BLOCK) };
    let long = |len: usize, room: usize| if len > room { extra(len + 1) } else { 0 };
    let room = Header::new_old();
    let name = entry.path.as_bytes().len() + suffix(entry).len();
    let len = BLOCK
        + long(link(entry).len(), room.as_old().linkname.len())
        + long(name, room.as_old().name.len())
        + extra(records(entry).map(|(_, _, len)| len).sum());
    len as u64
}

/// Writes what stands before the content of an entry: its header, and before that what the header has no room for.
pub(crate) fn head(entry: &Entry, mtime: u64, out: &mut Vec<u8>) {
    let mut name = entry.path.as_bytes().to_vec();
    name.extend_from_slice(suffix(entry));
    let mut header = Header::new_gnu();
    header.set_mode(entry.mode & 0o7777);
    header.set_uid(u64::from(entry.uid));
    header.set_gid(u64::from(entry.gid));
    header.set_mtime(if entry.mtime == 0 { mtime } else { entry.mtime.into() });
    header.set_size(0);
    match &entry.kind {
        EntryKind::Directory => header.set_entry_type(EntryType::Directory),
        EntryKind::File(content) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.len());
        }
        EntryKind::Symlink { .. } => header.set_entry_type(EntryType::Symlink),
        EntryKind::HardLink { .. } => header.set_entry_type(EntryType::Link),
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
    let link = link(entry);
    long(EntryType::GNULongLink, link, header.as_old().linkname.len(), out);
    long(EntryType::GNULongName, &name, header.as_old().name.len(), out);
    xattrs(entry, out);
    put(&mut header.as_old_mut().linkname, link);
    put(&mut header.as_old_mut().name, &name);
    finish(header, out);
}

/// What follows an entry's path in its name.
fn suffix(entry: &Entry) -> &'static [u8] {
    match entry.kind {
        _ if entry.path.is_root() => b"./",
        EntryKind::Directory => b"/",
        _ => b"",
    }
}

fn link(entry: &Entry) -> &[u8] {
    match &entry.kind {
        EntryKind::Symlink { target } => target,
        EntryKind::HardLink { target } => target.as_bytes(),
        EntryKind::Directory | EntryKind::File(_) | EntryKind::Special(_) => b"",
    }
}

/// An entry of its own for a name that the header has no room for.
fn long(kind: EntryType, name: &[u8], room: usize, out: &mut Vec<u8>) {
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
    finish(header, out);
    out.extend_from_slice(name);
    out.push(0);
    pad(name.len() as u64 + 1, out);
}

/// PAX records for the extended attributes, which the header has no room for.
fn xattrs(entry: &Entry, out: &mut Vec<u8>) {
    let size: usize = records(entry).map(|(_, _, len)| len).sum();
    if size == 0 {
        return;
    }
    let mut header = Header::new_ustar();
    put(&mut header.as_old_mut().name, b"././@PaxHeader");
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(size as u64);
    header.set_entry_type(EntryType::XHeader);
    finish(header, out);
    for (name, value, len) in records(entry) {
        out.extend_from_slice(format!("{len} ").as_bytes());
        for part in [PAX_XATTR, name, b"=", value, b"\n"] {
            out.extend_from_slice(part);
        }
    }
    pad(size as u64, out);
}

/// The attributes of an entry, each with the length of its PAX record.
fn records(entry: &Entry) -> impl Iterator<Item = (&[u8], &[u8], usize)> {
    let linked = matches!(entry.kind, EntryKind::HardLink { .. });
    entry.xattrs.iter().filter(move |_| !linked).map(|(name, value)| {
        // ` ` and `=` and a line break; the length counts its own digits.
        let rest = PAX_XATTR.len() + name.len() + value.len() + 3;
        let digits = |len: usize| len.to_string().len();
        (name, value, rest + digits(rest + digits(rest)))
    })
}

fn finish(mut header: Header, out: &mut Vec<u8>) {
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
}

/// How many zeros fill the last block of so many bytes.
pub(crate) const fn padding(len: u64) -> u64 {
    len.next_multiple_of(BLOCK as u64) - len
}

fn pad(len: u64, out: &mut Vec<u8>) {
    let zeros = usize::try_from(padding(len)).expect("below a block");
    out.resize(out.len() + zeros, 0);
}

/// Puts `bytes` into a header field, as much as it has room for: the rest stands in an entry of its own.
fn put(field: &mut [u8], bytes: &[u8]) {
    let len = bytes.len().min(field.len());
    field[..len].copy_from_slice(&bytes[..len]);
}
