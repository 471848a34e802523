//! Values that several flags have.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use clap::{Arg, ArgAction};

/// The last second that RFC 3339 and the image's config can say, with the offset of any time zone: 9999-12-30T22:00:00Z.
const LATEST_TIME: u64 = 253_402_207_200;

/// The words that Go's flag package takes, which buildah's users are used to.
pub(crate) fn parse_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("write true or false".to_owned()),
    }
}

/// A flag whose value may be left out: `--flag` and `--flag=true`, or `--flag=false`.
pub(crate) trait BoolArg {
    #[must_use]
    fn bool_value(self) -> Self;
}

impl BoolArg for Arg {
    fn bool_value(self) -> Self {
        self.value_name("BOOL")
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_parser(parse_bool)
            .action(ArgAction::Set)
    }
}

/// A time, as SOURCE_DATE_EPOCH and the flags beside it have it: whole seconds since 1970.
pub(crate) fn parse_seconds(text: &str) -> Result<u64, String> {
    text.parse().ok().filter(|seconds| *seconds <= LATEST_TIME).ok_or_else(|| {
        format!("write whole seconds since 1970, as `date +%s` prints them, up to {LATEST_TIME}")
    })
}

/// A whole number in a range; clap's own parser says of a word no more than that it has an invalid digit.
pub(crate) fn number<T>(range: RangeInclusive<T>) -> impl Fn(&str) -> Result<T, String> + Clone
where
    T: FromStr + PartialOrd + Display + Clone,
{
    move |text| {
        let number = text.parse().ok().filter(|number| range.contains(number));
        number.ok_or_else(|| format!("write a whole number from {} to {}", range.start(), range.end()))
    }
}
