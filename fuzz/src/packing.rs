//! How an input of bytes stands for an archive: the first byte says what is done with the rest.
//!
//! A fuzzer that must get a header's checksum right, or a gzip stream, comes no further. So checksums are put right, and
//! what is compressed is compressed here, unless the first byte says that the bytes are to be taken as they are.

use std::io::Write;

/// The unit of a tar archive, in bytes.
const BLOCK: usize = 512;

/// As it is: whatever it is.
pub(crate) const AS_IS: u8 = b'=';
/// Checksums are put right.
pub(crate) const PLAIN: u8 = b'p';
/// And it is compressed with gzip.
pub(crate) const GZIP: u8 = b'g';
/// And it is compressed with Zstandard.
pub(crate) const ZSTD: u8 = b'z';

/// The archive that an input stands for; `None` for the empty input and an unknown first byte.
pub(crate) fn stored(input: &[u8]) -> Option<Vec<u8>> {
    let (how, rest) = input.split_first()?;
    let mut tar = rest.to_vec();
    if *how != AS_IS {
        right_checksums(&mut tar);
    }
    Some(match *how {
        AS_IS | PLAIN => tar,
        GZIP => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).expect("memory takes it");
            encoder.finish().expect("memory takes it")
        }
        ZSTD => zstd::bulk::compress(&tar, 1).expect("memory takes it"),
        _ => return None,
    })
}

/// Goes from header to header as their sizes say, and puts the checksums right.
fn right_checksums(tar: &mut [u8]) {
    let mut at = 0;
    while let Some(block) = tar.get_mut(at..at + BLOCK) {
        let block: &mut [u8; BLOCK] = block.try_into().expect("a block");
        let header = tar::Header::from_byte_slice(block);
        let size = header.entry_size().ok().and_then(|size| usize::try_from(size).ok()).unwrap_or(0);
        if block.iter().any(|b| *b != 0) {
            let mut header = header.clone();
            header.set_cksum();
            block.copy_from_slice(header.as_bytes());
        }
        at = at
            .saturating_add(BLOCK)
            .saturating_add(size.checked_next_multiple_of(BLOCK).unwrap_or(usize::MAX));
        if at.checked_add(BLOCK).is_none() {
            return;
        }
    }
}
