//! A command line taken apart as Go's pflag does it: long flags and clusters of short ones, values after `=`, in the
//! next word, or for short ones in the same; `--` ends the flags.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::Problem;
use super::flags::Kind;

/// A word of the command line, or a flag with its value.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Word<S> {
    Plain(OsString),
    Flag {
        flag: S,
        value: Option<OsString>,
    },
    /// `--`: nothing that comes after it is a flag.
    End,
}

/// A flag as it is typed.
#[derive(Debug, Clone, Copy)]
pub(super) enum Typed<'a> {
    Long(&'a str),
    Short(char),
}

impl std::fmt::Display for Typed<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Long(name) => write!(f, "--{name}"),
            Self::Short(name) => write!(f, "-{name}"),
        }
    }
}

/// What is known of flags.
pub(super) trait Known {
    type Flag;
    fn find(&self, typed: Typed<'_>) -> Option<Self::Flag>;
    fn kind(&self, flag: &Self::Flag) -> Kind;
}

/// Takes the next word off `rest`; a cluster of short flags is several words.
pub(super) fn next<K: Known>(rest: &mut &[OsString], known: &K) -> Result<Vec<Word<K::Flag>>, Problem> {
    let Some((first, after)) = rest.split_first() else { return Ok(Vec::new()) };
    *rest = after;
    let bytes = first.as_bytes();
    match bytes {
        b"--" => Ok(vec![Word::End]),
        [b'-', b'-', long @ ..] => {
            let (name, value) = match long.iter().position(|byte| *byte == b'=') {
                Some(at) => (&long[..at], Some(OsStr::from_bytes(&long[at + 1..]).to_owned())),
                None => (long, None),
            };
            let name = String::from_utf8_lossy(name);
            Ok(vec![with_value(Typed::Long(&name), value, rest, known)?])
        }
        [b'-', _, ..] => cluster(&bytes[1..], rest, known),
        _ => Ok(vec![Word::Plain(first.clone())]),
    }
}

/// `-abc`, `-tVALUE`, `-t=VALUE`, `-t VALUE`.
fn cluster<K: Known>(bytes: &[u8], rest: &mut &[OsString], known: &K) -> Result<Vec<Word<K::Flag>>, Problem> {
    let mut words = Vec::new();
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        at += 1;
        let typed = Typed::Short(char::from(*byte));
        let left = &bytes[at..];
        let flag = known.find(typed).ok_or_else(|| Problem::UnknownFlag(typed.to_string()))?;
        let value = match left {
            [b'=', value @ ..] => Some(value),
            [_, ..] if matches!(known.kind(&flag), Kind::Value | Kind::List) => Some(left),
            _ => None,
        };
        if value.is_some() {
            at = bytes.len();
        }
        let value = value.map(|value| OsString::from_vec(value.to_vec()));
        words.push(with_value(typed, value, rest, known)?);
    }
    Ok(words)
}

fn with_value<K: Known>(
    typed: Typed<'_>,
    value: Option<OsString>,
    rest: &mut &[OsString],
    known: &K,
) -> Result<Word<K::Flag>, Problem> {
    let flag = known.find(typed).ok_or_else(|| Problem::UnknownFlag(typed.to_string()))?;
    let value = match (known.kind(&flag), value) {
        (Kind::Value | Kind::List, None) => {
            let Some((next, after)) = rest.split_first() else {
                return Err(Problem::NoValue(typed.to_string()));
            };
            *rest = after;
            Some(next.clone())
        }
        (_, value) => value,
    };
    Ok(Word::Flag { flag, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `-a` and `--all` take nothing, `-t` and `--tag` a value, `--pull` perhaps one.
    struct Few;

    impl Known for Few {
        type Flag = char;

        fn find(&self, typed: Typed<'_>) -> Option<char> {
            match typed {
                Typed::Long("all") | Typed::Short('a') => Some('a'),
                Typed::Long("tag") | Typed::Short('t') => Some('t'),
                Typed::Long("pull") => Some('p'),
                _ => None,
            }
        }

        fn kind(&self, flag: &char) -> Kind {
            match flag {
                'a' => Kind::Bool,
                't' => Kind::List,
                _ => Kind::Optional("true"),
            }
        }
    }

    fn taken_apart(line: &str) -> Result<String, String> {
        let words: Vec<OsString> = line.split(' ').map(OsString::from).collect();
        let mut rest = words.as_slice();
        let mut shown = Vec::new();
        while !rest.is_empty() {
            for word in next(&mut rest, &Few).map_err(|problem| problem.to_string())? {
                shown.push(match word {
                    Word::Plain(word) => word.into_string().unwrap(),
                    Word::Flag { flag, value: None } => format!("<{flag}>"),
                    Word::Flag { flag, value: Some(value) } => format!("<{flag}={}>", value.display()),
                    Word::End => "<>".to_owned(),
                });
            }
        }
        Ok(shown.join(" "))
    }

    #[test]
    fn a_line_is_taken_apart_as_pflag_does() {
        for (line, parts) in [
            ("x --all y", "x <a> y"),
            ("--all=false --tag=a=b --tag b", "<a=false> <t=a=b> <t=b>"),
            ("--tag= -t --all", "<t=> <t=--all>"),
            ("--pull x --pull=never", "<p> x <p=never>"),
            ("-at x -atx -t=x -a=false", "<a> <t=x> <a> <t=x> <t=x> <a=false>"),
            ("- -- --all", "- <> <a>"),
            ("-t -", "<t=->"),
        ] {
            assert_eq!(taken_apart(line).as_deref(), Ok(parts), "{line}");
        }
        for (line, problem) in [
            ("--nope", "unknown flag: --nope"),
            ("-ax", "unknown shorthand flag: -x"),
            ("--tag", "flag needs an argument: --tag"),
            ("-at", "flag needs an argument: -t"),
        ] {
            assert_eq!(taken_apart(line).unwrap_err(), problem, "{line}");
        }
    }
}
