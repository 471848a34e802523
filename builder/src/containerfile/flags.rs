//! The flags of an instruction, checked against those it takes.

use std::ops::Range;

use super::error::ParseError;
use super::lexer::shorten;
use super::line::Line;
use super::source::{Span, Spanned};
use super::words::{self, RawFlag};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    /// A value, once.
    Value,
    /// A value, any number of times.
    Values,
    /// Nothing, `true` or `false`.
    Switch,
}

/// The name of a flag without its dashes, and what it takes.
pub(super) type Known = (&'static str, Takes);

/// What somebody may write who wants symlinks to be followed, which neither BuildKit nor buildah have a flag of COPY for.
const FOLLOW: [&str; 8] = [
    "follow",
    "follow-link",
    "follow-links",
    "follow-symlinks",
    "link-follow",
    "no-follow-symlinks",
    "dereference",
    "copy-links",
];

/// The flags given to an instruction: all known, and none given more often than it may be.
#[derive(Debug)]
pub(super) struct Flags {
    given: Vec<Flag>,
}

#[derive(Debug)]
struct Flag {
    name: &'static str,
    name_span: Span,
    value: Value,
}

#[derive(Debug, Clone)]
enum Value {
    Text(Spanned<String>),
    Switch(Spanned<bool>),
}

impl Flags {
    /// Takes the flags off the head of `args`; the second part of the answer is what follows them.
    pub(super) fn take(
        line: &Line<'_>,
        keyword: &str,
        args: Range<usize>,
        known: &[Known],
    ) -> Result<(Self, Range<usize>), ParseError> {
        let (raw, rest) =
            words::flags(line.text(), args).map_err(|quote| line.unclosed_quote(quote, "close it"))?;
        let mut given: Vec<Flag> = Vec::with_capacity(raw.len());
        for flag in raw {
            let flag = check(line, keyword, &flag, known)?;
            let repeats = known.iter().any(|(name, takes)| *name == flag.name && *takes == Takes::Values);
            if !repeats && given.iter().any(|earlier| earlier.name == flag.name) {
                let message = format!("duplicate flag --{} for {keyword}", flag.name);
                return Err(ParseError::Flag(line.at(flag.name_span, message).with_help("give it once")));
            }
            given.push(flag);
        }
        Ok((Self { given }, rest))
    }

    /// The value of a flag that takes one.
    pub(super) fn value(&self, name: &str) -> Option<Spanned<String>> {
        self.values(name).pop()
    }

    /// All values of a flag, in order.
    pub(super) fn values(&self, name: &str) -> Vec<Spanned<String>> {
        let values = self.given.iter().filter(|flag| flag.name == name).map(|flag| &flag.value);
        values
            .filter_map(|value| match value {
                Value::Text(text) => Some(text.clone()),
                Value::Switch(_) => None,
            })
            .collect()
    }

    /// Whether a switch is on; `None` if it is not given.
    pub(super) fn switch(&self, name: &str) -> Option<Spanned<bool>> {
        self.given.iter().find(|flag| flag.name == name).and_then(|flag| match &flag.value {
            Value::Switch(on) => Some(*on),
            Value::Text(_) => None,
        })
    }

    /// Where the first flag stands, if there is one.
    pub(super) fn first(&self) -> Option<Span> {
        self.given.first().map(|flag| flag.name_span)
    }
}

fn check(line: &Line<'_>, keyword: &str, flag: &RawFlag, known: &[Known]) -> Result<Flag, ParseError> {
    let name_span = line.span(&flag.name);
    let error =
        |message: String, help: String| Err(ParseError::Flag(line.at(name_span, message).with_help(help)));
    let dashed = &line.text()[flag.name.clone()];
    let written = &dashed[2..];
    let Some(&(name, takes)) = known.iter().find(|(name, _)| *name == written) else {
        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
        let message = format!("unknown flag {} for {keyword}", shorten(dashed));
        let help = match words::nearest(written, &names) {
            _ if FOLLOW.contains(&written) => {
                "no Containerfile has a flag for that: crossdock build --follow-links follows symlinks, in all of it"
                    .to_owned()
            }
            Some(name) => format!("did you mean --{name}?"),
            None if names.is_empty() => {
                format!("{keyword} takes no flags; put -- before an argument that begins with dashes")
            }
            None => format!("{keyword} takes --{}", names.join(", --")),
        };
        return error(message, help);
    };
    let value = flag.value.as_ref().map(|(value, range)| Spanned::new(value.clone(), line.span(range)));
    let value = match (takes, value) {
        (Takes::Value | Takes::Values, Some(value)) => Value::Text(value),
        (Takes::Value | Takes::Values, None) => {
            return error(
                format!("flag --{name} for {keyword} has no value"),
                format!("write --{name}=VALUE"),
            );
        }
        (Takes::Switch, None) => Value::Switch(Spanned::new(true, name_span)),
        (Takes::Switch, Some(value)) => match value.to_ascii_lowercase().as_str() {
            "true" => Value::Switch(Spanned::new(true, name_span.to(value.span))),
            "false" => Value::Switch(Spanned::new(false, name_span.to(value.span))),
            _ => {
                let message = format!("flag --{name} for {keyword} is `{}`", shorten(&value));
                let diagnostic = line.at(name_span.to(value.span), message);
                return Err(ParseError::Flag(diagnostic.with_help("it can be true or false")));
            }
        },
    };
    Ok(Flag { name, name_span, value })
}
