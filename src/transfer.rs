//! How blobs are sent and sent again, as it is typed.

use std::time::Duration;

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

/// A duration as Go's flag package takes it, which buildah's users are used to: `2s`, `1m30s`, `500ms`, `1.5h`.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let invalid = || format!("{text:?} is not a duration: write 2s, 1m30s or 500ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(invalid)?;
        let (number, after) = rest.split_at(digits);
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit);
        let seconds = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            "us" | "µs" | "μs" => 1e-6,
            "ns" => 1e-9,
            _ => return Err(invalid()),
        };
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = after;
    }
    if text.is_empty() { Err(invalid()) } else { Ok(total) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_those_of_go() {
        for (text, milliseconds) in [
            ("2s", 2000),
            ("0", 0),
            ("0s", 0),
            ("1m30s", 90_000),
            ("500ms", 500),
            ("1.5h", 5_400_000),
            (".5s", 500),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "2", "s", "-2s", "2 s", "2x", "1s2", "1..2s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn chunks_are_not_tiny() {
        assert_eq!(parse_chunk_size("100MiB"), Ok(UploadStyle::CHUNK));
        assert!(parse_chunk_size("64K").is_err());
    }
}
