//! Tables as buildah's tabwriter makes them, and sizes and times in its words.

use jiff::Timestamp;

/// Lines of cells, cut at tabs: a column is as wide as its widest cell, and three spaces. The last cell of a line has no
/// width.
pub(crate) fn aligned(lines: &[String]) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<usize> = Vec::new();
    for row in &rows {
        for (at, cell) in row.iter().take(row.len() - 1).enumerate() {
            if widths.len() == at {
                widths.push(0);
            }
            widths[at] = widths[at].max(cell.chars().count() + 3);
        }
    }
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            text.push_str(cell);
            if at + 1 < row.len() {
                let padding = widths[at] - cell.chars().count();
                text.extend(std::iter::repeat_n(' ', padding));
            }
        }
        text.push('\n');
    }
    text
}

/// Bytes in powers of 1000 with three digits: `4.32 KB`.
#[expect(clippy::cast_precision_loss, reason = "for people")]
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KB", "MB", "GB", "TB"];
    let mut value = bytes as f64;
    let mut unit = 0;
    // What would be rounded up to 1000 is 1 of the next unit.
    while value >= 999.5 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    let places = if value < 9.995 {
        2
    } else if value < 99.95 {
        1
    } else {
        0
    };
    let number = format!("{value:.places$}");
    let number = if places > 0 { number.trim_end_matches('0').trim_end_matches('.') } else { &number };
    format!("{number} {}", UNITS[unit])
}

/// How long ago a time is, in Go's docker/go-units' words.
pub(crate) fn ago(time: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(time).as_secs().max(0);
    let (minutes, hours) = (seconds / 60, (seconds + 1800) / 3600);
    let days = hours / 24;
    let text = match () {
        () if seconds < 1 => "Less than a second".to_owned(),
        () if seconds == 1 => "1 second".to_owned(),
        () if seconds < 60 => format!("{seconds} seconds"),
        () if minutes == 1 => "About a minute".to_owned(),
        () if minutes < 60 => format!("{minutes} minutes"),
        () if hours == 1 => "About an hour".to_owned(),
        () if hours < 48 => format!("{hours} hours"),
        () if days < 14 => format!("{days} days"),
        () if days < 60 => format!("{} weeks", days / 7),
        () if days < 730 => format!("{} months", days / 30),
        () => format!("{} years", days / 365),
    };
    format!("{text} ago")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1 KB"),
            (4316, "4.32 KB"),
            (12_345, "12.3 KB"),
            (999_600, "1 MB"),
            (1 << 30, "1.07 GB"),
            (700_000_000_000, "700 GB"),
            (48_000_000_000_000_000, "48000 TB"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn times_are_said_as_buildah_says_them() {
        let now: Timestamp = "2026-11-22T12:00:00Z".parse().unwrap();
        for (seconds, text) in [
            (-5, "Less than a second ago"),
            (1, "1 second ago"),
            (59, "59 seconds ago"),
            (61, "About a minute ago"),
            (150, "2 minutes ago"),
            (3600, "About an hour ago"),
            (86_400, "24 hours ago"),
            (86_400 * 13, "13 days ago"),
            (86_400 * 21, "3 weeks ago"),
            (86_400 * 90, "3 months ago"),
            (86_400 * 365 * 56, "56 years ago"),
        ] {
            let time = Timestamp::from_second(now.as_second() - seconds).unwrap();
            assert_eq!(ago(time, now), text);
        }
    }

    #[test]
    fn the_last_cell_of_a_line_has_no_width() {
        let lines = ["a\tlonger\tx".to_owned(), "bbb\tc\tyy".to_owned(), "d".to_owned()];
        assert_eq!(aligned(&lines), "a     longer   x\nbbb   c        yy\nd\n");
    }
}
