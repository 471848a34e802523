//! How blobs are sent and sent again, as it is typed.

use clap::ValueEnum;
use crossdock_registry::UploadStyle;

use crate::size::parse_size;

/// `--upload`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Upload {
    /// As the registry is known to take them
    Auto,
    /// One PATCH a blob, hashed while it is sent
    Stream,
    /// PATCHes of --chunk-size
    Chunked,
    /// One PUT with the digest: each layer is read twice, for its digest first
    Monolithic,
}

impl Upload {
    /// The style, with chunks of `chunk` bytes; `None` where the registry decides.
    pub(crate) const fn style(self, chunk: u64) -> Option<UploadStyle> {
        match self {
            Self::Auto => None,
            Self::Stream => Some(UploadStyle::Stream { with_length: true }),
            Self::Chunked => Some(UploadStyle::Chunked { size: chunk }),
            Self::Monolithic => Some(UploadStyle::Monolithic),
        }
    }
}

/// A chunk's size: at least 1 MiB, for each chunk is a request that the registry checks and stores by itself.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_chunk_size(text: &str) -> Result<u64, String> {
    match parse_size(text)? {
        size if size < 1 << 20 => Err(format!("{text:?} is too small for a chunk: 1MiB is the least")),
        size => Ok(size),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_not_tiny() {
        assert_eq!(parse_chunk_size("100MiB"), Ok(UploadStyle::CHUNK));
        assert!(parse_chunk_size("64K").is_err());
    }
}
