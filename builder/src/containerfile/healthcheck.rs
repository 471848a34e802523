//! The arguments of `HEALTHCHECK`: its kind, its command, and flags in which nothing is expanded.

use std::time::Duration;

use super::arguments::{Arguments, command, refuse_empty};
use super::duration::{DurationError, parse_duration};
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
        Err(_) => error("not a duration", DurationError::HELP),
        Ok(duration) if !duration.is_zero() && duration < Duration::from_millis(1) => {
            error("too short", "use at least 1ms, or 0 for the default")
        }
        Ok(duration) => Ok(Spanned::new(duration, value.span)),
    }
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
