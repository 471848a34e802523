//! Durations as Go's `time.ParseDuration` reads them, which is what users of buildah and docker write: `90s`, `1h30m`,
//! `500ms`. The whole project has this one reader.

use std::time::Duration;

/// What is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration, write one like 30s, 1m30s or 500ms")]
pub struct DurationError(String);

impl DurationError {
    /// What to write instead.
    pub(super) const HELP: &str = "write one like 30s, 1m30s or 500ms";
}

const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads numbers, maybe with a fraction, each with a unit; or nothing but `0`.
///
/// # Errors
/// For anything else, for what is negative, and for more than 63 bits of nanoseconds (292 years).
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    nanoseconds(text).map(Duration::from_nanos).ok_or_else(|| DurationError(text.to_owned()))
}

fn nanoseconds(text: &str) -> Option<u64> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut nanos: u128 = 0;
    while !rest.is_empty() {
        let digits =
            |text: &str| text.len() - text.trim_start_matches(|char: char| char.is_ascii_digit()).len();
        let (whole, behind) = rest.split_at(digits(rest));
        let (fraction, behind) = match behind.strip_prefix('.') {
            Some(behind) => behind.split_at(digits(behind)),
            None => ("", behind),
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let length = behind.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(length);
        let (_, unit) = *UNITS.iter().find(|(name, _)| *name == unit)?;
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        nanos += u128::from(whole) * unit;
        // A nanosecond of an hour is the thirteenth digit; those behind it say nothing.
        let mut part = unit;
        for digit in fraction.bytes().take(13) {
            nanos += u128::from(digit - b'0') * part / 10;
            part /= 10;
        }
        if nanos > i64::MAX as u128 {
            return None;
        }
        rest = behind;
    }
    u64::try_from(nanos).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("+5s", 5_000_000_000),
            ("90s", 90_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("1.5h30m", 7_200_000_000_000),
            ("1m30s", 90_000_000_000),
            (".5s", 500_000_000),
            ("1.s", 1_000_000_000),
            ("250ms", 250_000_000),
            ("3us4ns", 3_004),
            ("3µs", 3_000),
            ("3μs", 3_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
        for text in [
            "",
            "+",
            "5",
            "s",
            ".s",
            "-5s",
            "5 s",
            " 5s",
            "5d",
            "5x",
            "1s2",
            "1..2s",
            "soon",
            "PT5S",
            "9999999h",
            "99999999999999999999h",
        ] {
            let error = parse_duration(text).unwrap_err().to_string();
            assert_eq!(error, format!("{text:?} is not a duration, {}", DurationError::HELP));
        }
    }
}
