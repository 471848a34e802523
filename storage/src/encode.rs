//! How a layer is stored: as it is, or compressed in pieces on all cores.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use flate2::Crc;
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::gzip::{self, Member, WINDOW};
use crate::parallel::pool;

/// How a layer's tar is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is: weights do not compress.
    #[default]
    None,
    /// gzip (RFC 1952), one member.
    #[serde(rename = "gzip-member")]
    Gzip {
        /// 0 to 9.
        level: u8,
    },
    /// gzip, a member for each piece: what Python's `tarfile` reads the first MiB of. Nothing is built so any more. Records of
    /// earlier versions name it, and their layers must come out with the digests that they have.
    #[serde(rename = "gzip")]
    GzipMembers {
        /// 0 to 9.
        level: u8,
    },
    /// Zstandard (RFC 8878), a frame for each piece.
    Zstd {
        /// 1 to 22.
        level: u8,
    },
}

/// In which family of media types the manifest is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ManifestFormat {
    /// OCI image-spec 1.1.
    #[default]
    Oci,
    /// Docker image manifest version 2, schema 2.
    Docker,
}

impl FromStr for ManifestFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "docker" | "v2s2" => Ok(Self::Docker),
            _ => Err(format!("unknown manifest format {text:?}: oci and docker are known")),
        }
    }
}

impl fmt::Display for ManifestFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Oci => "oci",
            Self::Docker => "docker",
        })
    }
}

impl Compression {
    /// The media type of a layer stored so (OCI image-spec, layer.md, "+gzip Media Types" and "+zstd Media Types").
    #[must_use]
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip { .. } | Self::GzipMembers { .. } => MediaType::ImageLayerGzip,
            Self::Zstd { .. } => MediaType::ImageLayerZstd,
        }
    }

    /// What tells the stored bytes of one form from those of another, in the names of memos and of journals' entries. It
    /// changes when the bytes do: what an earlier version remembered of a form stays that form's.
    pub(crate) fn form(self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::GzipMembers { level } => format!("Gzip {{ level: {level} }}"),
            Self::Gzip { level } => format!("Gzip, one member {{ level: {level} }}"),
            Self::Zstd { level } => format!("Zstd {{ level: {level} }}"),
        }
    }
}

/// Uncompressed bytes of a piece. A layer's stored bytes depend on it, so it never changes with the machine.
const PIECE: usize = 1 << 20;

/// Pieces of one layer that may be with the compressors at a time: bounds the memory whatever the number of cores.
const IN_FLIGHT: usize = 8;

/// Compresses a stream of bytes in pieces on all cores, and gives them back in order.
#[derive(Debug)]
pub(crate) struct PieceEncoder {
    compression: Compression,
    filling: Vec<u8>,
    full: VecDeque<Vec<u8>>,
    in_flight: VecDeque<Receiver<io::Result<Piece>>>,
    started: bool,
    /// The end of the piece that was started last, where the next one may refer to it.
    before: Vec<u8>,
    /// The gzip member that the pieces are parts of, until its end was given out.
    member: Option<Member>,
}

impl PieceEncoder {
    /// `None` where the bytes are stored as they are.
    pub(crate) fn new(compression: Compression) -> Option<Self> {
        (compression != Compression::None).then(|| Self {
            compression,
            filling: Vec::new(),
            full: VecDeque::new(),
            in_flight: VecDeque::new(),
            started: false,
            before: Vec::new(),
            member: matches!(compression, Compression::Gzip { .. }).then(Member::default),
        })
    }

    /// Takes in bytes.
    pub(crate) fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.filling.capacity() == 0 {
                self.filling.reserve_exact(PIECE);
            }
            let (now, later) = bytes.split_at(bytes.len().min(PIECE - self.filling.len()));
            self.filling.extend_from_slice(now);
            bytes = later;
            if self.filling.len() == PIECE {
                self.full.push_back(std::mem::take(&mut self.filling));
            }
        }
    }

    /// The next compressed bytes, where enough is in flight that it is time to wait for it, or the input has ended;
    /// `None` when more input is wanted, or all is given out.
    pub(crate) fn next(&mut self, input_ended: bool) -> Result<Option<Bytes>> {
        if input_ended && (!self.filling.is_empty() || !self.started && self.full.is_empty()) {
            // An empty layer is still one valid frame or member.
            self.full.push_back(std::mem::take(&mut self.filling));
        }
        while self.in_flight.len() < IN_FLIGHT
            && let Some(piece) = self.full.pop_front()
        {
            self.start(piece);
            self.started = true;
        }
        if !input_ended && self.in_flight.len() < IN_FLIGHT {
            return Ok(None);
        }
        let Some(oldest) = self.in_flight.pop_front() else {
            return Ok(self.member.take().map(|member| Bytes::copy_from_slice(&member.tail())));
        };
        let piece = oldest.recv().map_err(|_| Error::Interrupted)?.map_err(Error::Compress)?;
        if let (Some(member), Some(crc)) = (&mut self.member, &piece.crc) {
            member.add(crc);
        }
        Ok(Some(piece.bytes.into()))
    }

    fn start(&mut self, piece: Vec<u8>) {
        let (done, result) = sync_channel(1);
        let (compression, first) = (self.compression, !self.started);
        let mut before = Vec::new();
        if self.member.is_some() {
            let end = piece[piece.len().saturating_sub(WINDOW)..].to_vec();
            before = std::mem::replace(&mut self.before, end);
        }
        let work = move || {
            // A reader that was dropped does not wait any more.
            let _ = done.send(compress(compression, first, &before, &piece));
        };
        match pool() {
            Some(pool) => pool.spawn(work),
            None => work(),
        }
        self.in_flight.push_back(result);
    }
}

/// A compressed piece, and the checksum of what was compressed where the whole has one.
#[derive(Debug)]
struct Piece {
    bytes: Vec<u8>,
    crc: Option<Crc>,
}

fn compress(compression: Compression, first: bool, before: &[u8], piece: &[u8]) -> io::Result<Piece> {
    let (bytes, crc) = match compression {
        Compression::None => (piece.to_vec(), None),
        Compression::Gzip { level } => {
            let mut bytes = Vec::with_capacity(piece.len() / 2);
            if first {
                bytes.extend_from_slice(&Member::head(level));
            }
            let crc = gzip::compress(level, before, piece, &mut bytes)?;
            (bytes, Some(crc))
        }
        Compression::GzipMembers { level } => {
            let level = flate2::Compression::new(u32::from(level));
            // mtime 0 and no name, as flate2 writes by default: the same bytes at any time.
            let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(piece.len() / 2), level);
            encoder.write_all(piece)?;
            (encoder.finish()?, None)
        }
        Compression::Zstd { level } => {
            let mut encoder = zstd::bulk::Compressor::new(i32::from(level))?;
            encoder.include_checksum(true)?;
            (encoder.compress(piece)?, None)
        }
    };
    Ok(Piece { bytes, crc })
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn encode(compression: Compression, bytes: &[u8], step: usize) -> Vec<u8> {
        let mut encoder = PieceEncoder::new(compression).unwrap();
        let mut out = Vec::new();
        for chunk in bytes.chunks(step) {
            encoder.push(chunk);
            while let Some(piece) = encoder.next(false).unwrap() {
                out.extend_from_slice(&piece);
            }
        }
        while let Some(piece) = encoder.next(true).unwrap() {
            out.extend_from_slice(&piece);
        }
        out
    }

    #[test]
    fn pieces_decode_to_what_went_in_and_do_not_depend_on_the_chunks() {
        for len in [0, 1, PIECE - 1, PIECE, PIECE + 1, 11 * PIECE + 5] {
            let bytes: Vec<u8> = (0..len).map(|i| u8::try_from((i * i / 7) % 256).unwrap()).collect();
            for compression in [
                Compression::Gzip { level: 6 },
                Compression::GzipMembers { level: 6 },
                Compression::Zstd { level: 3 },
            ] {
                let encoded = encode(compression, &bytes, 100_000);
                assert_eq!(encoded, encode(compression, &bytes, 3 * PIECE), "{compression:?} {len}");
                let mut decoded = Vec::new();
                match compression {
                    // One member, and nothing behind it.
                    Compression::Gzip { .. } => {
                        let mut decoder = flate2::bufread::GzDecoder::new(&encoded[..]);
                        decoder.read_to_end(&mut decoded).unwrap();
                        assert!(decoder.into_inner().is_empty(), "{len}");
                    }
                    Compression::GzipMembers { .. } => {
                        flate2::read::MultiGzDecoder::new(&encoded[..]).read_to_end(&mut decoded).unwrap();
                    }
                    _ => decoded = zstd::decode_all(&encoded[..]).unwrap(),
                }
                assert!(decoded == bytes, "{compression:?} {len}");
            }
        }
    }

    #[test]
    fn what_is_remembered_of_a_form_is_not_taken_for_another_form() {
        // The first three are what memos have in their names since there are memos.
        let old = [Compression::None, Compression::GzipMembers { level: 6 }, Compression::Zstd { level: 3 }];
        let forms: Vec<_> = old.iter().map(|compression| compression.form()).collect();
        assert_eq!(forms, ["None", "Gzip { level: 6 }", "Zstd { level: 3 }"]);
        assert!(!forms.contains(&Compression::Gzip { level: 6 }.form()));
        // A record of an earlier version has this word for what that version gave out.
        let read: Compression = serde_json::from_str(r#"{"gzip":{"level":6}}"#).unwrap();
        assert_eq!(read, Compression::GzipMembers { level: 6 });
    }
}
