//! Go's path patterns: `filepath.Match` for COPY sources and moby's patternmatcher for ignore files.
//!
//! The two share `*`, `?`, `[a-z]`, `[^a]` and the backslash; [`Dialect::Ignore`] adds `**`. Neither is what the
//! gitignore crates implement (there a pattern without a slash matches at any depth, a trailing slash asks for a
//! directory, `[!a]` negates), and no crate follows moby's own corner cases, so the matcher is ours: it follows
//! <https://github.com/moby/patternmatcher> rule for rule, minus its regular expressions.
//!
//! Paths are bytes; a character is a UTF-8 sequence, and a byte that is none stands for itself.

use std::fmt;

/// Which pattern language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// Go's `filepath.Match`, for one component of a path.
    Component,
    /// moby's patternmatcher, for a whole path.
    Ignore,
}

/// A pattern that is malformed: a class that is not closed or empty, or a backslash at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadPattern;

impl fmt::Display for BadPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a [ is not closed, a class is empty or reversed, or the pattern ends with a backslash")
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Char(u32),
    /// `?`: a character but `/`.
    One,
    /// `*`: characters but `/`.
    Many,
    /// `**` before more pattern: nothing, or anything up to and with a `/`.
    Directories,
    /// `**` at the end: anything.
    Rest,
    Class {
        negated: bool,
        ranges: Vec<(u32, u32)>,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// No wildcard: the path is these bytes.
    Literal(Vec<u8>),
    /// `literal**`.
    Prefix(Vec<u8>),
    /// `**literal`; moby lets `**x` match `yx` here, though not where another wildcard follows.
    Suffix(Vec<u8>),
    Tokens(Vec<Token>),
}

/// A compiled pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern {
    shape: Shape,
}

/// Whether Go takes `text` for a pattern (`hasMeta` of path/filepath).
pub(crate) fn has_meta(text: &str) -> bool {
    text.contains(['*', '?', '[', '\\'])
}

impl Pattern {
    pub(crate) fn new(text: &str, dialect: Dialect) -> Result<Self, BadPattern> {
        let tokens = tokens(text, dialect)?;
        let literal = |tokens: &[Token]| {
            tokens
                .iter()
                .map(|token| if let Token::Char(c) = token { Some(*c) } else { None })
                .collect::<Option<Vec<_>>>()
        };
        let bytes = |chars: Vec<u32>| chars.into_iter().flat_map(encode).collect();
        let escaped = text.contains('\\');
        let shape = match tokens.as_slice() {
            [prefix @ .., Token::Rest] if !escaped && literal(prefix).is_some() && !prefix.is_empty() => {
                Shape::Prefix(literal(prefix).map(bytes).unwrap_or_default())
            }
            [Token::Rest] => Shape::Suffix(Vec::new()),
            [Token::Directories, rest @ ..] if !escaped && literal(rest).is_some() => {
                // The text, not the tokens: whether a slash follows `**` makes the difference.
                Shape::Suffix(text.as_bytes()[2..].to_vec())
            }
            all => match literal(all) {
                Some(chars) => Shape::Literal(bytes(chars)),
                None => Shape::Tokens(tokens),
            },
        };
        Ok(Self { shape })
    }

    pub(crate) fn matches(&self, path: &[u8]) -> bool {
        match &self.shape {
            Shape::Literal(text) => path == text.as_slice(),
            Shape::Prefix(prefix) => path.starts_with(prefix),
            Shape::Suffix(suffix) => {
                path.ends_with(suffix) || suffix.first() == Some(&b'/') && path == &suffix[1..]
            }
            Shape::Tokens(tokens) => Search { tokens, path, failed: Vec::new() }.from(0, 0),
        }
    }
}

/// Backtracking, with each (token, position) that a wildcard failed at remembered: no pattern takes longer than
/// its length times the path's.
struct Search<'a> {
    tokens: &'a [Token],
    path: &'a [u8],
    failed: Vec<u64>,
}

impl Search<'_> {
    fn from(&mut self, mut token: usize, mut at: usize) -> bool {
        loop {
            let Some(current) = self.tokens.get(token) else { return at == self.path.len() };
            match current {
                Token::Rest => return true,
                Token::Many | Token::Directories => return self.wildcard(token, at),
                _ => {}
            }
            let Some((c, len)) = decode(&self.path[at..]) else { return false };
            let hit = match current {
                Token::Char(wanted) => c == *wanted,
                Token::One => c != u32::from('/'),
                Token::Class { negated, ranges } => {
                    ranges.iter().any(|(from, to)| (*from..=*to).contains(&c)) != *negated
                }
                Token::Many | Token::Directories | Token::Rest => unreachable!("handled above"),
            };
            if !hit {
                return false;
            }
            token += 1;
            at += len;
        }
    }

    fn wildcard(&mut self, token: usize, start: usize) -> bool {
        let bit = token * (self.path.len() + 1) + start;
        if self.failed.is_empty() {
            self.failed = vec![0; (self.tokens.len() * (self.path.len() + 1)).div_ceil(64)];
        }
        if self.failed[bit / 64] >> (bit % 64) & 1 == 1 {
            return false;
        }
        if self.from(token + 1, start) {
            return true;
        }
        let crosses = self.tokens[token] == Token::Directories;
        let mut at = start;
        while let Some(&byte) = self.path.get(at) {
            at += 1;
            let found = match (crosses, byte) {
                (true, b'/') | (false, 0..=b'.' | b'0'..) => self.from(token + 1, at),
                (true, _) => false,
                (false, b'/') => break,
            };
            if found {
                return true;
            }
        }
        self.failed[bit / 64] |= 1 << (bit % 64);
        false
    }
}

fn tokens(text: &str, dialect: Dialect) -> Result<Vec<Token>, BadPattern> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        tokens.push(match c {
            '*' if dialect == Dialect::Ignore && chars.peek() == Some(&'*') => {
                chars.next();
                chars.next_if_eq(&'/');
                if chars.peek().is_none() { Token::Rest } else { Token::Directories }
            }
            '*' => Token::Many,
            '?' => Token::One,
            '[' => class(&mut chars)?,
            '\\' => Token::Char(chars.next().ok_or(BadPattern)?.into()),
            c => Token::Char(c.into()),
        });
    }
    Ok(tokens)
}

fn class(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<Token, BadPattern> {
    let negated = chars.next_if_eq(&'^').is_some();
    let mut ranges = Vec::new();
    loop {
        if chars.peek() == Some(&']') && !ranges.is_empty() {
            chars.next();
            return Ok(Token::Class { negated, ranges });
        }
        let from = class_char(chars)?;
        let to = if chars.next_if_eq(&'-').is_some() { class_char(chars)? } else { from };
        ranges.push((from.into(), to.into()));
    }
}

fn class_char(chars: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Result<char, BadPattern> {
    match chars.next() {
        None | Some('-' | ']') => Err(BadPattern),
        Some('\\') => chars.next().ok_or(BadPattern),
        Some(c) => Ok(c),
    }
}

/// The first character of `bytes`; a byte that begins none is taken as itself, outside of Unicode's range.
fn decode(bytes: &[u8]) -> Option<(u32, usize)> {
    let first = *bytes.first()?;
    if first < 0x80 {
        return Some((first.into(), 1));
    }
    let len = match first {
        0xc2..=0xdf => 2,
        0xe0..=0xef => 3,
        0xf0..=0xf4 => 4,
        _ => return Some((0x0011_0000 + u32::from(first), 1)),
    };
    match bytes
        .get(..len)
        .and_then(|bytes| std::str::from_utf8(bytes).ok())
        .and_then(|text| text.chars().next())
    {
        Some(c) => Some((c.into(), len)),
        None => Some((0x0011_0000 + u32::from(first), 1)),
    }
}

fn encode(c: u32) -> Vec<u8> {
    let mut buffer = [0; 4];
    char::from_u32(c).map_or_else(Vec::new, |c| c.encode_utf8(&mut buffer).as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str, dialect: Dialect) -> bool {
        Pattern::new(pattern, dialect).unwrap().matches(path.as_bytes())
    }

    #[test]
    fn components_follow_go_filepath_match() {
        for (pattern, name, expected) in [
            ("abc", "abc", true),
            ("*", "abc", true),
            ("*", "", true),
            ("*", ".hidden", true),
            ("a*", "a", true),
            ("a*b?c*x", "abxbbxdbxebxczzx", true),
            ("a*b?c*x", "abxbbxdbxebxczzy", false),
            ("ab[b-d]", "abc", true),
            ("ab[^b-d]", "abc", false),
            ("ab[!c]", "abc", true),
            ("ab[!c]", "ab!", true),
            ("ab[!c]", "abx", false),
            (r"a\*b", "a*b", true),
            (r"a\*b", "ab", false),
            ("a?b", "a☺b", true),
            ("a[^a]b", "a☺b", true),
            ("a???b", "a☺b", false),
            ("[a-ζ]*", "α", true),
            (r"[\]a]", "]", true),
            (r"[\-x]", "-", true),
            ("a**b", "axxb", true),
        ] {
            assert_eq!(matches(pattern, name, Dialect::Component), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn malformed_patterns_are_told() {
        for pattern in ["[", "[^", "[]a]", "[-]", "[x-]", "[-x]", "a[", "[a-b-c]", "\\", "[bc"] {
            assert_eq!(Pattern::new(pattern, Dialect::Ignore), Err(BadPattern), "{pattern}");
        }
    }

    #[test]
    fn ignore_patterns_follow_moby() {
        for (pattern, path, expected) in [
            ("**", "dir/file", true),
            ("**/**", "dir/file", true),
            ("dir/**", "dir/a/b", true),
            ("dir/**", "dir", false),
            ("**/dir", "dir", true),
            ("**/dir", "x/dir", true),
            ("**/dir", "xdir", false),
            ("**file", "a/xfile", true),
            ("**/dir2/*", "dir/dir2/file", true),
            ("**/dir2/**", "dir/dir2/dir3/file", true),
            ("**/**/*.txt", "file.txt", true),
            ("a**/*.txt", "a/dir/file.txt", true),
            ("a/*.txt", "a/dir/file.txt", false),
            ("a/*.txt**", "a/file.txt", true),
            (".*", "foo", false),
            ("abc.def", "abcZdef", false),
            ("a.|)$(}+{bc", "a.|)$(}+{bc", true),
            ("a*/b", "a/c/b", false),
            ("**/a**b", "ax/ab", true),
            (r"a\\", r"a\", true),
            ("*.safetensors", "m/x.safetensors", false),
            ("docs/[^a]*", "docs/b", true),
        ] {
            assert_eq!(matches(pattern, path, Dialect::Ignore), expected, "{pattern} {path}");
        }
    }

    #[test]
    fn many_wildcards_take_no_exponential_time() {
        let pattern = "**/a*".repeat(20) + "b";
        assert!(!matches(&pattern, &"a/".repeat(500), Dialect::Ignore));
    }

    #[test]
    fn bytes_that_are_no_text_match_wildcards() {
        let pattern = Pattern::new("a?b*", Dialect::Component).unwrap();
        assert!(pattern.matches(b"a\xffb\xfe"));
    }
}
