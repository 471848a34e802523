//! The arguments of `HEALTHCHECK`: its kind, its command, and flags in which nothing is expanded.

use std::time::Duration;

use super::arguments::{Arguments, command, refuse_empty};
use super::error::ParseError;
use super::flags::{Known, Takes};
use super::instruction::{Healthcheck, HealthcheckInstruction};
use super::lexer::shorten;
use super::line::Line;
use super::source::Spanned;
use super::words;

pub(super) const FLAGS: &[Known] = &[
    ("interval", Takes::Value),
    ("timeout", Takes::Value),
    ("start-period", Takes::Value),
    ("start-interval", Takes::Value),
    ("retries", Takes::Value),
];

/// The arguments behind the keyword.
pub(super) fn parse(line: &mut Line<'_>, parts: &Arguments) -> Result<HealthcheckInstruction, ParseError> {
    const HELP: &str = "write HEALTHCHECK CMD command or HEALTHCHECK NONE";
    parts.required(line, "CMD and a command, or NONE")?;
    let (kind, args) = words::split_keyword(line.text(), parts.args.clone());
    let written = &line.text()[kind.clone()];
    let check = if written.eq_ignore_ascii_case("NONE") {
        if !args.is_empty() {
            return Err(line.arguments(line.span(&args), "HEALTHCHECK NONE takes no arguments", HELP));
        }
        if let Some(flag) = parts.flags.first() {
            line.warn(flag, "HEALTHCHECK NONE makes no use of flags", "remove them");
        }
        Healthcheck::None
    } else if written.eq_ignore_ascii_case("CMD") {
        if args.is_empty() {
            return Err(line.arguments(parts.span, "HEALTHCHECK CMD has no command", "write one behind it"));
        }
        let command = command(line, "HEALTHCHECK", &args)?;
        refuse_empty(line, "HEALTHCHECK CMD", parts.span, &command)?;
        Healthcheck::Command(command)
    } else {
        let message = format!("unknown kind of HEALTHCHECK {}", shorten(written));
        return Err(line.arguments(line.span(&kind), message, HELP));
    };
    let duration = |name: &str| parts.flags.value(name).map(|value| duration(line, name, &value)).transpose();
    Ok(HealthcheckInstruction {
        check,
        interval: duration("interval")?,
        timeout: duration("timeout")?,
        start_period: duration("start-period")?,
        start_interval: duration("start-interval")?,
        retries: parts.flags.value("retries").map(|value| retries(line, &value)).transpose()?,
    })
}

fn duration(line: &Line<'_>, flag: &str, value: &Spanned<String>) -> Result<Spanned<Duration>, ParseError> {
    let error = |what: &str, help: &str| {
        let message = format!("--{flag} for HEALTHCHECK is `{}`, {what}", shorten(value));
        Err(ParseError::Flag(line.at(value.span, message).with_help(help)))
    };
    match parse_duration(value) {
        None => error("not a duration", "write one like 30s, 1m30s or 500ms"),
        Some(duration) if !duration.is_zero() && duration < Duration::from_millis(1) => {
            error("too short", "use at least 1ms, or 0 for the default")
        }
        Some(duration) => Ok(Spanned::new(duration, value.span)),
    }
}

/// A duration as Go writes it: numbers, maybe with a fraction, each with a unit; or nothing but `0`.
///
/// What does not fit 63 bits of nanoseconds (292 years) is none.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Some(Duration::ZERO);
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
        let length = behind.find(|char: char| char.is_ascii_digit() || char == '.').unwrap_or(behind.len());
        let (unit, behind) = behind.split_at(length);
        let unit: u128 = match unit {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
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
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn retries(line: &Line<'_>, value: &Spanned<String>) -> Result<Spanned<u32>, ParseError> {
    match value.parse::<u32>() {
        Ok(retries) if i32::try_from(retries).is_ok() => Ok(Spanned::new(retries, value.span)),
        _ => {
            let message = format!("--retries for HEALTHCHECK is `{}`", shorten(value));
            Err(ParseError::Flag(line.at(value.span, message).with_help("write a number from 0")))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::parse_duration;

    #[test]
    fn durations_are_read_as_go_reads_them() {
        let cases = [
            ("0", Some(0)),
            ("+5s", Some(5_000_000_000)),
            ("1h30m", Some(5_400_000_000_000)),
            ("1.5h", Some(5_400_000_000_000)),
            (".5s", Some(500_000_000)),
            ("1.s", Some(1_000_000_000)),
            ("250ms", Some(250_000_000)),
            ("3us4ns", Some(3_004)),
            ("3µs", Some(3_000)),
            ("", None),
            ("5", None),
            ("s", None),
            (".s", None),
            ("-5s", None),
            ("5 s", None),
            ("5d", None),
            ("9999999h", None),
            ("99999999999999999999h", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(parse_duration(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }
}
