//! Sparse files in archives: a map says which runs of the file are stored, one behind the other; the rest is zeros.
//!
//! The forms are those of the GNU tar manual, "Storing Sparse Files": the old one, whose map is in headers (type `S`), and
//! three in PAX records, 0.0 and 0.1 with the map in records and 1.0 with the map before the content. As in Go's
//! archive/tar, and so in buildah, a file comes out of them with zeros in its holes.

use std::io::Read;

use serde::{Deserialize, Serialize};
use tar::{Entry, EntryType, GnuExtSparseHeader, GnuSparseHeader};

use crate::digest::Digest;
use crate::entries::{MAX_METADATA, damaged};
use crate::error::{Error, Result};
use crate::layer::{Segment, VirtualLayer};

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;

/// A run of a sparse file that is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Piece {
    /// Where it begins in the file.
    #[serde(rename = "a")]
    pub at: u64,
    /// Where it begins in the uncompressed tar.
    #[serde(rename = "o")]
    pub offset: u64,
    /// Its length in bytes, not 0.
    #[serde(rename = "n")]
    pub len: u64,
    /// The SHA-256 of its bytes, where it was asked for.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

/// A sparse file as its headers describe it.
pub(crate) struct Sparse {
    /// The name, where the header has another one for who does not know the form.
    pub(crate) name: Option<Vec<u8>>,
    /// The size with the holes.
    pub(crate) size: u64,
    /// What is stored, in order.
    pub(crate) pieces: Vec<Piece>,
}

/// What PAX records say.
#[derive(Default)]
struct Records {
    version: (Option<String>, Option<String>),
    name: Option<Vec<u8>>,
    size: Option<u64>,
    /// Offsets and lengths by turns, in records 0.0 or one record 0.1.
    map: Option<Vec<u64>>,
    bad: bool,
}

impl Sparse {
    /// What the headers say of an entry, if it is sparse. `extended` is what was read behind its header; a map before the
    /// content is read, so that the content's first byte is that of the first piece.
    ///
    /// # Errors
    /// [`Error::Unusable`] for a map that is none, and [`Error::Limit`] for one of more than 1 MiB.
    pub(crate) fn of<R: Read>(entry: &mut Entry<'_, R>, extended: &[u8], what: &str) -> Result<Option<Self>> {
        let refused = || {
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            Error::Unusable(format!("{what}: {path} is a sparse file whose map is damaged"))
        };
        let start = entry.raw_file_position();
        match entry.header().entry_type() {
            EntryType::GNUSparse => {
                let header = entry.header().as_gnu().ok_or_else(refused)?;
                let map = old_map(&header.sparse, extended).ok_or_else(refused)?;
                let size = header.real_size().map_err(|_| refused())?;
                let stored = entry.header().entry_size().map_err(|_| refused())?;
                let pieces = pieces(&map, start + extended.len() as u64, size, stored).ok_or_else(refused)?;
                Ok(Some(Self { name: None, size, pieces }))
            }
            EntryType::Regular | EntryType::Continuous => {
                let Some(records) = Records::of(entry) else { return Ok(None) };
                let refused = || {
                    let name = records.name.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
                    Error::Unusable(format!("{what}: {name} is a sparse file whose map is damaged"))
                };
                let size = records.size.filter(|_| !records.bad).ok_or_else(refused)?;
                let stored = entry.size();
                let version = (records.version.0.as_deref(), records.version.1.as_deref());
                let pieces = match (version, &records.map) {
                    ((Some("1"), Some("0")), _) => {
                        let (map, len) = map_before_content(entry, what)?;
                        let stored = stored.checked_sub(len).ok_or_else(refused)?;
                        pieces(&map.ok_or_else(refused)?, start + len, size, stored)
                    }
                    ((None, None) | (Some("0"), Some("0" | "1")), Some(map)) => {
                        pieces(map, start, size, stored)
                    }
                    // A file as it is, for Go too.
                    _ => return Ok(None),
                };
                let pieces = pieces.ok_or_else(refused)?;
                Ok(Some(Self { name: records.name, size, pieces }))
            }
            _ => Ok(None),
        }
    }
}

impl Records {
    /// `None` where there is none of sparse files.
    fn of<R: Read>(entry: &mut Entry<'_, R>) -> Option<Self> {
        let mut records = Self::default();
        let mut some = false;
        for record in entry.pax_extensions().ok()??.flatten() {
            let Some(key) = record.key_bytes().strip_prefix(b"GNU.sparse.") else { continue };
            some = true;
            let text = || record.value().ok().map(str::to_owned);
            let number = || record.value().ok().and_then(|text| text.parse().ok());
            match key {
                b"major" => records.version.0 = text(),
                b"minor" => records.version.1 = text(),
                b"name" => records.name = Some(record.value_bytes().to_vec()),
                b"size" | b"realsize" => records.size = number(),
                b"numblocks" => drop(records.map.get_or_insert_default()),
                b"offset" | b"numbytes" => match number() {
                    Some(number) => records.map.get_or_insert_default().push(number),
                    None => records.bad = true,
                },
                b"map" => {
                    let text = text().unwrap_or_default();
                    let numbers = text.split(',').filter(|text| !text.is_empty()).map(str::parse);
                    records.map = numbers.collect::<std::result::Result<_, _>>().ok();
                    records.bad |= records.map.is_none();
                }
                _ => {}
            }
        }
        some.then_some(records)
    }
}

/// The map of the old form: four runs in the header, more in blocks behind it.
fn old_map(first: &[GnuSparseHeader], extended: &[u8]) -> Option<Vec<u64>> {
    let mut map = Vec::new();
    let mut add = |runs: &[GnuSparseHeader]| {
        for run in runs.iter().filter(|run| !run.is_empty()) {
            map.extend([run.offset().ok()?, run.length().ok()?]);
        }
        Some(())
    };
    add(first)?;
    for block in extended.chunks_exact(BLOCK) {
        let mut header = GnuExtSparseHeader::new();
        header.as_mut_bytes().copy_from_slice(block);
        add(header.sparse())?;
    }
    Some(map)
}

/// The map of form 1.0: numbers in lines, how many runs there are first, filled up to a block. With its length.
fn map_before_content(content: &mut impl Read, what: &str) -> Result<(Option<Vec<u64>>, u64)> {
    let mut text = Vec::new();
    let mut lines = 0;
    let mut wanted = None;
    while wanted.is_none_or(|wanted| lines < wanted) {
        if text.len() as u64 >= MAX_METADATA {
            let limit = "the map of a sparse file";
            return Err(Error::Limit { what: what.to_owned(), limit, most: MAX_METADATA });
        }
        let mut block = [0; BLOCK];
        content.read_exact(&mut block).map_err(|error| damaged(what, error))?;
        lines += block.iter().filter(|b| **b == b'\n').count() as u64;
        text.extend_from_slice(&block);
        if wanted.is_none() && lines > 0 {
            let Some(count) = numbers(&text).next().flatten() else { return Ok((None, text.len() as u64)) };
            wanted = Some(count.saturating_mul(2).saturating_add(1));
        }
    }
    let wanted = usize::try_from(wanted.unwrap_or(1)).unwrap_or(usize::MAX);
    Ok((numbers(&text).take(wanted).skip(1).collect(), text.len() as u64))
}

fn numbers(text: &[u8]) -> impl Iterator<Item = Option<u64>> {
    text.split(|b| *b == b'\n').map(|line| std::str::from_utf8(line).ok()?.parse().ok())
}

/// The pieces of a map, whose first is at `start` of the archive: in order, apart, inside of the file, and all that is
/// stored.
fn pieces(map: &[u64], start: u64, size: u64, stored: u64) -> Option<Vec<Piece>> {
    let (mut end, mut taken) = (0, 0_u64);
    let mut pieces = Vec::with_capacity(map.len() / 2);
    for run in map.chunks(2) {
        let &[at, len] = run else { return None };
        if at < end {
            return None;
        }
        end = at.checked_add(len).filter(|end| *end <= size)?;
        if len > 0 {
            pieces.push(Piece { at, offset: start.checked_add(taken)?, len, digest: None });
        }
        taken = taken.checked_add(len).filter(|taken| *taken <= stored)?;
    }
    (taken == stored).then_some(pieces)
}

/// A file of `size` bytes made of its pieces and the zeros between them; `segments` gives those of a piece.
///
/// # Errors
/// Those of `segments`.
pub fn spread(
    size: u64,
    pieces: &[Piece],
    mut segments: impl FnMut(&Piece) -> Result<Vec<Segment>>,
) -> Result<VirtualLayer> {
    let mut file = Vec::with_capacity(2 * pieces.len() + 1);
    let mut end = 0;
    for piece in pieces {
        file.push(Segment::Zeros(piece.at.saturating_sub(end)));
        file.extend(segments(piece)?);
        end = piece.at + piece.len;
    }
    file.push(Segment::Zeros(size.saturating_sub(end)));
    Ok(VirtualLayer::new(file))
}
