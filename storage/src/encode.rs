//! How a layer is stored: as it is, or compressed in independent pieces on all cores.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Write};
use std::str::FromStr;
use std::sync::mpsc::{Receiver, sync_channel};

use bytes::Bytes;
use oci_spec::image::MediaType;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::parallel::pool;

/// How a layer's tar is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// As it is: weights do not compress.
    #[default]
    None,
    /// gzip (RFC 1952), a member for each piece.
    Gzip {
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
            Self::Gzip { .. } => MediaType::ImageLayerGzip,
            Self::Zstd { .. } => MediaType::ImageLayerZstd,
        }
    }
}

/// Uncompressed bytes of a piece. A layer's stored bytes depend on it, so it never changes with the machine.
const PIECE: usize = 1 << 20;

/// Pieces of one layer that may be with the compressors at a time: bounds the memory whatever the number of cores.
const IN_FLIGHT: usize = 8;

/// Compresses a stream of bytes in independent pieces on all cores, and gives them back in order.
#[derive(Debug)]
pub(crate) struct PieceEncoder {
    compression: Compression,
    filling: Vec<u8>,
    full: VecDeque<Vec<u8>>,
    in_flight: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    started: bool,
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

    /// The next compressed piece, where enough is in flight that it is time to wait for it, or the input has ended;
    /// `None` when more input is wanted, or all is given out.
    pub(crate) fn next(&mut self, input_ended: bool) -> Result<Option<Bytes>> {
        if input_ended && (!self.filling.is_empty() || !self.started && self.full.is_empty()) {
            // An empty layer is still one valid frame.
            self.full.push_back(std::mem::take(&mut self.filling));
        }
        while self.in_flight.len() < IN_FLIGHT
            && let Some(piece) = self.full.pop_front()
        {
            self.started = true;
            self.start(piece);
        }
        if !input_ended && self.in_flight.len() < IN_FLIGHT {
            return Ok(None);
        }
        let Some(oldest) = self.in_flight.pop_front() else { return Ok(None) };
        let piece = oldest.recv().map_err(|_| Error::Interrupted)?.map_err(Error::Compress)?;
        Ok(Some(piece.into()))
    }

    fn start(&mut self, piece: Vec<u8>) {
        let (done, result) = sync_channel(1);
        let compression = self.compression;
        let work = move || {
            // A reader that was dropped does not wait any more.
            let _ = done.send(compress(compression, &piece));
        };
        match pool() {
            Some(pool) => pool.spawn(work),
            None => work(),
        }
        self.in_flight.push_back(result);
    }
}

fn compress(compression: Compression, piece: &[u8]) -> io::Result<Vec<u8>> {
    match compression {
        Compression::None => Ok(piece.to_vec()),
        Compression::Gzip { level } => {
            let level = flate2::Compression::new(u32::from(level));
            // mtime 0 and no name, as flate2 writes by default: the same bytes at any time.
            let mut encoder = flate2::write::GzEncoder::new(Vec::with_capacity(piece.len() / 2), level);
            encoder.write_all(piece)?;
            encoder.finish()
        }
        Compression::Zstd { level } => {
            let mut encoder = zstd::bulk::Compressor::new(i32::from(level))?;
            encoder.include_checksum(true)?;
            encoder.compress(piece)
        }
    }
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
            for compression in [Compression::Gzip { level: 6 }, Compression::Zstd { level: 3 }] {
                let encoded = encode(compression, &bytes, 100_000);
                assert_eq!(encoded, encode(compression, &bytes, 3 * PIECE), "{compression:?} {len}");
                let mut decoded = Vec::new();
                match compression {
                    Compression::Gzip { .. } => {
                        flate2::read::MultiGzDecoder::new(&encoded[..]).read_to_end(&mut decoded).unwrap();
                    }
                    _ => decoded = zstd::decode_all(&encoded[..]).unwrap(),
                }
                assert!(decoded == bytes, "{compression:?} {len}");
            }
        }
    }
}
