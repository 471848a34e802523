//! One gzip member (RFC 1952) whose deflate blocks are compressed in pieces, on any number of threads.
//!
//! A piece ends with a sync flush, so that the next one begins at a byte; it may refer to the last 32 KiB of the piece before it,
//! as deflate may anywhere. Its bytes depend on the two pieces alone. So the whole is one stream to every reader, those that take
//! nothing behind the first member included (Python's `tarfile` in mode `r|gz`, for one), and the same on every machine.

use std::io;

use flate2::{Compress, Crc, FlushCompress};

/// How far back deflate may refer (RFC 1951, section 2).
pub(crate) const WINDOW: usize = 32 << 10;

/// The format's magic, deflate, and no flags: neither a name nor a comment follows. Then no time, and no word of the system.
const HEAD: [u8; 4] = [0x1f, 0x8b, 8, 0];
const NO_TIME: [u8; 4] = [0; 4];
const ANY_SYSTEM: u8 = 255;

/// The last block of the stream: it has no bytes, and ends with the byte.
const LAST_BLOCK: [u8; 2] = [3, 0];

/// Free space that the compressor is called with at least. With none left it cannot say that its flush is complete.
const SPACE: usize = 64 << 10;

/// What the parts of a member have in common: the checksum so far.
#[derive(Debug, Default)]
pub(crate) struct Member {
    crc: Crc,
}

impl Member {
    /// What comes before the first piece.
    pub(crate) fn head(level: u8) -> [u8; 10] {
        let mut head = [0; 10];
        head[..4].copy_from_slice(&HEAD);
        head[4..8].copy_from_slice(&NO_TIME);
        head[8] = match level {
            9 => 2,
            0 | 1 => 4,
            _ => 0,
        };
        head[9] = ANY_SYSTEM;
        head
    }

    /// Takes in the checksum of the next piece, which has the piece's length in it.
    pub(crate) fn add(&mut self, piece: &Crc) {
        self.crc.combine(piece);
    }

    /// What comes behind the last piece.
    pub(crate) fn tail(&self) -> [u8; 10] {
        let mut tail = [0; 10];
        tail[..2].copy_from_slice(&LAST_BLOCK);
        tail[2..6].copy_from_slice(&self.crc.sum().to_le_bytes());
        // The length modulo 2^32, as the format has it.
        tail[6..].copy_from_slice(&self.crc.amount().to_le_bytes());
        tail
    }
}

/// Compresses a piece to the end of `out`, and gives its checksum; `before` is the end of what comes before the piece.
pub(crate) fn compress(level: u8, before: &[u8], piece: &[u8], out: &mut Vec<u8>) -> io::Result<Crc> {
    let mut crc = Crc::new();
    crc.update(piece);
    let mut deflate = Compress::new(flate2::Compression::new(u32::from(level)), false);
    if !before.is_empty() {
        deflate.set_dictionary(before)?;
    }
    loop {
        out.reserve(SPACE);
        let taken = usize::try_from(deflate.total_in()).unwrap_or(usize::MAX);
        let rest = piece.get(taken..).unwrap_or_default();
        deflate.compress_vec(rest, out, FlushCompress::Sync)?;
        // The flush is complete where space is left (zlib.h, `deflate`).
        if deflate.total_in() == piece.len() as u64 && out.len() < out.capacity() {
            return Ok(crc);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn the_length_is_that_of_the_format_beyond_4_gib() {
        let zeros = vec![0; 1 << 20];
        let piece = compress(1, &[], &zeros, &mut Vec::new()).unwrap();
        let mut member = Member::default();
        for _ in 0..(4 << 10) + 3 {
            member.add(&piece);
        }
        let mut crc = Crc::new();
        crc.update(&zeros);
        // 4 GiB and 3 MiB, doubled up another way.
        let mut whole = Crc::new();
        for _ in 0..12 {
            let mut twice = Crc::new();
            twice.combine(&crc);
            twice.combine(&crc);
            crc = twice;
        }
        whole.combine(&crc);
        let mut rest = Crc::new();
        rest.update(&zeros.repeat(3));
        whole.combine(&rest);
        let tail = member.tail();
        assert_eq!(tail[2..6], whole.sum().to_le_bytes());
        assert_eq!(u32::from_le_bytes(tail[6..].try_into().unwrap()), 3 << 20);
    }

    #[test]
    fn a_piece_that_fills_its_buffer_just_so_is_whole() {
        // What does not compress takes a little more than its length, whatever that is.
        let mut state = 1_u32;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .take(4 * SPACE)
        .collect();
        for len in (2 * SPACE - 80..2 * SPACE).chain(4 * SPACE - 60..4 * SPACE).chain([0, 1]) {
            for level in [0, 1, 6, 9] {
                let mut whole = Member::head(level).to_vec();
                let mut member = Member::default();
                member.add(&compress(level, &[], &noise[..len], &mut whole).unwrap());
                whole.extend(member.tail());
                let mut read = Vec::new();
                flate2::bufread::GzDecoder::new(&whole[..]).read_to_end(&mut read).unwrap();
                assert!(read == noise[..len], "{len} bytes, level {level}");
            }
        }
    }
}
