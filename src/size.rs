//! Sizes as people write them: `64MiB`, `1G`, `1048576`.

/// Bytes of a size with an optional suffix; K, M, G, T and KiB... are powers of 1024, kB, MB, GB, TB of 1000.
///
/// # Errors
/// A sentence that says what is wrong.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit: u64 = match suffix.trim() {
        "" | "B" | "b" => 1,
        "k" | "K" | "KiB" | "kib" => 1 << 10,
        "m" | "M" | "MiB" | "mib" => 1 << 20,
        "g" | "G" | "GiB" | "gib" => 1 << 30,
        "t" | "T" | "TiB" | "tib" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => {
            return Err(format!(
                "{text:?} is not a size: write bytes, or a number with KiB, MiB, GiB or TiB"
            ));
        }
    };
    let invalid = || format!("{text:?} is not a size: write bytes, or a number with KiB, MiB, GiB or TiB");
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(|| format!("{text:?} is too large"));
    }
    let (whole, fraction) = number.split_once('.').ok_or_else(invalid)?;
    let whole: u64 = whole.parse().map_err(|_| invalid())?;
    let places = u32::try_from(fraction.len())
        .ok()
        .and_then(|places| 10_u64.checked_pow(places))
        .ok_or_else(invalid)?;
    let fraction: u64 = fraction.parse().map_err(|_| invalid())?;
    let part =
        u64::try_from(u128::from(fraction) * u128::from(unit) / u128::from(places)).map_err(|_| invalid())?;
    whole
        .checked_mul(unit)
        .and_then(|bytes| bytes.checked_add(part))
        .ok_or_else(|| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::parse_size;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("64MiB", 64 << 20),
            ("1G", 1 << 30),
            ("1.5GiB", 3 << 29),
            ("2 KiB", 2048),
            ("1MB", 1_000_000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn what_is_no_size_is_an_error() {
        for text in ["", "MiB", "-1", "1.G.", "1XB", "99999999999T", "."] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
