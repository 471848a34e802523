//! A local archive as ADD unpacks it: what is in it, and where. Nothing is written; the files of one that is not compressed
//! are extents of it, those of a compressed one come out of its stream again when they are read.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use bytes::Bytes;

use crate::cancel::Cancel;
use crate::decode;
use crate::entries::LayerArchive;
use crate::entry::FileContent;
use crate::error::{Error, FenceBreach, Result};
use crate::index::{IndexEntry, IndexKind, LayerIndex, List};
use crate::layer::{Segment, VirtualLayer};
use crate::packed::Packed;
use crate::source::{FileState, SourceFile};
use crate::sparse::spread;
use crate::spool::name_of;

/// How often an archive is looked through whose change time moves meanwhile: what is where in it must be known for sure.
const READS: u32 = 3;

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;

/// A tar archive in a file, perhaps compressed with gzip, bzip2, xz or Zstandard.
#[derive(Debug)]
pub struct SourceArchive {
    file: SourceFile,
    packed: Option<Packed>,
    /// Whether the archive ends without the blocks that say so: it may have had more entries.
    pub cut: bool,
    /// Its entries in order; paths are confined to the directory that it is unpacked into.
    pub entries: Vec<IndexEntry>,
}

impl SourceArchive {
    /// Reads what is in `file`: the headers alone where it is not compressed. `None` where it is no archive, which its
    /// first 512 bytes tell, once they are out of their compression.
    ///
    /// # Errors
    /// [`Error::Open`] and [`Error::Changed`]; [`Error::Unusable`] where the archive is damaged, and [`Error::Limit`] as
    /// [`LayerIndex::read`]; [`Error::Interrupted`] where `cancel` says so.
    pub fn read(file: &SourceFile, cancel: &Cancel) -> Result<Option<Self>> {
        for _ in 0..READS {
            let (archive, state) = Self::read_once(file, cancel)?;
            if state == FileState::Same {
                return Ok(archive);
            }
        }
        Err(file.changed(FenceBreach::Touched))
    }

    fn read_once(file: &SourceFile, cancel: &Cancel) -> Result<(Option<Self>, FileState)> {
        let what = name_of(file);
        let (opened, file) = file.open()?;
        let file = &file;
        let again = || opened.try_clone().map_err(|source| Error::Open { path: file.path(), source });
        let mut plain = Checked { file: again()?, cancel: cancel.clone() };
        let head = head_of(&mut plain).map_err(|error| read_error(file, error))?;
        let mut list = List::new(&what).with_stored(file.size());
        let mut add = |entry: IndexEntry| {
            list.fill(&entry)?;
            list.add(entry)
        };
        let (packed, cut) = if is_header(&head) {
            plain.seek(SeekFrom::Start(0)).map_err(|error| read_error(file, error))?;
            let mut archive = LayerArchive::new(Within { file: plain, end: file.size() }, &what).confined();
            archive.walk_seeking(|entry, _| add(entry))?;
            (None, archive.is_cut())
        } else {
            plain.seek(SeekFrom::Start(0)).map_err(|error| read_error(file, error))?;
            let mut unpacked = decode::decoder(plain, file.size(), &what)?;
            // What cannot be decompressed is no archive that ADD would know.
            let head = head_of(&mut unpacked).ok().filter(|head| is_header(head));
            let Some(head) = head else { return cancel.check().map(|()| (None, FileState::Same)) };
            let whole = io::Cursor::new(head).chain(unpacked);
            let mut archive = LayerArchive::new(whole, &what).confined();
            archive.walk(|entry, _| add(entry))?;
            // The checksums stand behind the last byte: an archive whose bytes have changed is told by nothing else.
            let cut = archive.is_cut();
            archive.finish()?;
            (Some(Packed::of_file(file.clone())), cut)
        };
        let state = file.check_open(&opened)?;
        let LayerIndex { entries } = list.into_index();
        Ok((Some(Self { file: file.clone(), packed, cut, entries }), state))
    }

    /// The file that it lies in.
    #[must_use]
    pub const fn file(&self) -> &SourceFile {
        &self.file
    }

    /// The bytes of an entry that is a file; `None` where they cannot be told.
    #[must_use]
    pub fn content(&self, entry: &IndexEntry) -> Option<FileContent> {
        let IndexKind::File(size) = entry.kind else { return None };
        let segment = |offset, len| match &self.packed {
            Some(packed) => Segment::Packed { packed: packed.clone(), offset, len, digest: None },
            None => Segment::Extent { file: self.file.clone(), offset, len },
        };
        let parts = match (&entry.pieces, entry.offset) {
            _ if size == 0 => return Some(FileContent::Inline(Bytes::new())),
            (Some(pieces), _) => {
                spread(size, pieces, |piece| Ok(vec![segment(piece.offset, piece.len)])).ok()?
            }
            (None, Some(offset)) => VirtualLayer::new([segment(offset, size)]),
            (None, None) => return None,
        };
        Some(FileContent::Parts(parts))
    }
}

fn read_error(file: &SourceFile, source: io::Error) -> Error {
    decode::limit_or(source, |source| Error::Read { path: file.path(), offset: 0, source })
}

fn head_of(source: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut head = Vec::with_capacity(BLOCK);
    source.take(BLOCK as u64).read_to_end(&mut head)?;
    Ok(head)
}

/// Whether a file that begins so may be an archive that [`SourceArchive::read`] knows: a tar archive, or what is compressed.
#[must_use]
pub fn is_archive(head: &[u8]) -> bool {
    is_header(head) || decode::is_compressed(head)
}

/// A header's checksum is the sum of its bytes, those of the checksum itself taken as blanks (POSIX pax, "ustar
/// Interchange Format"); that also tells the formats before ustar, which have no magic.
fn is_header(head: &[u8]) -> bool {
    let Some(header) = head.get(..BLOCK) else { return false };
    let field: Vec<u8> = header[148..156].iter().copied().filter(|b| (b'0'..=b'7').contains(b)).collect();
    let Ok(Ok(stored)) = std::str::from_utf8(&field).map(|field| u32::from_str_radix(field, 8)) else {
        return false;
    };
    let sum: u32 =
        header[..148].iter().chain([b' '; 8].iter()).chain(&header[156..]).map(|b| u32::from(*b)).sum();
    sum == stored
}

/// A file in which nothing is passed over that is not there: a seek beyond the end is how a truncated archive would show
/// no error.
struct Within {
    file: Checked,
    end: u64,
}

/// A file that is read as long as the word to stop is not given.
struct Checked {
    file: File,
    cancel: Cancel,
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.cancel.check().map_err(io::Error::other)?;
        self.file.read(buffer)
    }
}

impl Seek for Checked {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

impl Read for Within {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read(buffer)
    }
}

impl Seek for Within {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = self.file.seek(to)?;
        if position > self.end { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(position) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn archives_are_known_by_their_first_bytes() {
        let mut header = [0_u8; BLOCK];
        header[..4].copy_from_slice(b"file");
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|b| u32::from(*b)).sum();
        header[148..154].copy_from_slice(format!("{sum:06o}").as_bytes());
        header[154] = 0;
        assert!(is_header(&header));
        header[0] = b'g';
        assert!(!is_header(&header));
        assert!(!is_header(b"{\"model\": 1}"));
        assert!(!is_header(&[0; BLOCK]));
        assert!(!is_header(b""));
    }
}
