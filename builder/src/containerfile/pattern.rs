//! Glob patterns of `${name#pattern}` and its kin: `*` and `?`, without bracket expressions, as in BuildKit.
//!
//! Matching walks the text once for all ways a `*` can stretch, so no pattern is slow to match.

use std::ops::Range;

/// A parsed pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pattern(Vec<Token>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Token {
    /// `*`
    Any,
    /// `?`
    One,
    Char(char),
}

/// An escape that means nothing in a pattern: the character behind it, if there is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadEscape(pub(super) Option<char>);

impl Pattern {
    /// `escape` makes `*`, `?`, itself, and the `}` and `/` that would end the pattern, mean themselves.
    pub(super) fn parse(text: &str, escape: char) -> Result<Self, BadEscape> {
        let mut tokens = Vec::new();
        let mut chars = text.chars();
        while let Some(char) = chars.next() {
            tokens.push(match char {
                '*' => Token::Any,
                '?' => Token::One,
                char if char == escape => match chars.next() {
                    Some(char @ ('*' | '?' | '}' | '/')) => Token::Char(char),
                    Some(char) if char == escape => Token::Char(char),
                    other => return Err(BadEscape(other)),
                },
                char => Token::Char(char),
            });
        }
        Ok(Self(tokens))
    }

    /// `text` without the shortest, or longest, head that matches.
    pub(super) fn trim_prefix<'a>(&self, text: &'a str, longest: bool) -> &'a str {
        let length = best(&self.0, text.chars(), longest);
        &text[length.unwrap_or(0)..]
    }

    /// `text` without the shortest, or longest, tail that matches.
    pub(super) fn trim_suffix<'a>(&self, text: &'a str, longest: bool) -> &'a str {
        let backwards: Vec<_> = self.0.iter().rev().copied().collect();
        let length = best(&backwards, text.chars().rev(), longest);
        &text[..text.len() - length.unwrap_or(0)]
    }

    /// `text` with the first match, or all of them, replaced; matches are as long as they can be.
    pub(super) fn replace(&self, text: &str, replacement: &str, all: bool) -> String {
        let mut replaced = String::with_capacity(text.len());
        let mut done = 0;
        let mut from = 0;
        while let Some(found) = self.find(text, from) {
            // An empty match right behind another match is none.
            if !(found.is_empty() && found.start == done && done > 0) {
                replaced.push_str(&text[done..found.start]);
                replaced.push_str(replacement);
                done = found.end;
            }
            let step = text[found.end..].chars().next().map_or(1, char::len_utf8);
            from = if found.is_empty() { found.end + step } else { found.end };
            if !all || from > text.len() {
                break;
            }
        }
        replaced.push_str(&text[done..]);
        replaced
    }

    fn find(&self, text: &str, from: usize) -> Option<Range<usize>> {
        text[from..]
            .char_indices()
            .map(|(at, _)| from + at)
            .chain([text.len()])
            .find_map(|start| best(&self.0, text[start..].chars(), true).map(|length| start..start + length))
    }
}

/// How many bytes of `text`, from its beginning, match all of `tokens`: the least or the most.
fn best(tokens: &[Token], text: impl Iterator<Item = char>, longest: bool) -> Option<usize> {
    // The tokens that may come next; behind the last stands the end of the pattern.
    let mut alive = vec![false; tokens.len() + 1];
    alive[0] = true;
    pass_stars(tokens, &mut alive);
    let mut length = 0;
    let mut found = alive[tokens.len()].then_some(0);
    for char in text {
        if found.is_some() && !longest {
            break;
        }
        let mut next = vec![false; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate().filter(|(index, _)| alive[*index]) {
            match token {
                Token::Any => next[index] = true,
                Token::One => next[index + 1] = true,
                Token::Char(expected) if *expected == char => next[index + 1] = true,
                Token::Char(_) => {}
            }
        }
        if !next.contains(&true) {
            break;
        }
        pass_stars(tokens, &mut next);
        alive = next;
        length += char.len_utf8();
        if alive[tokens.len()] {
            found = Some(length);
        }
    }
    found
}

/// A `*` may stand for nothing.
fn pass_stars(tokens: &[Token], alive: &mut [bool]) {
    for (index, token) in tokens.iter().enumerate() {
        if alive[index] && *token == Token::Any {
            alive[index + 1] = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text, '\\').expect("a pattern")
    }

    #[test]
    fn heads_and_tails_are_trimmed_as_short_or_as_long_as_asked() {
        let cases = [
            ("*x", "xxyy", "xyy", "yy", "xxyy", "xxyy"),
            ("*", "xxyy", "xxyy", "", "xxyy", ""),
            ("", "xxyy", "xxyy", "xxyy", "xxyy", "xxyy"),
            ("*x*y", "xxyy", "y", "", "x", ""),
            (r"?\?", "???y", "?y", "?y", "???y", "???y"),
            ("é?", "éüé", "é", "é", "éüé", "éüé"),
            ("*.*", "a.b.c", "b.c", "", "a.b", ""),
            (r"\}\/\\", r"}/\x", "x", "x", r"}/\x", r"}/\x"),
        ];
        for (glob, text, head, long_head, tail, long_tail) in cases {
            let pattern = pattern(glob);
            assert_eq!(pattern.trim_prefix(text, false), head, "{glob} # {text}");
            assert_eq!(pattern.trim_prefix(text, true), long_head, "{glob} ## {text}");
            assert_eq!(pattern.trim_suffix(text, false), tail, "{glob} % {text}");
            assert_eq!(pattern.trim_suffix(text, true), long_tail, "{glob} %% {text}");
        }
    }

    #[test]
    fn matches_are_replaced_once_or_everywhere() {
        let cases = [
            ("a", "banana", "bXnana", "bXnXnX"),
            ("a*a", "banana", "bX", "bX"),
            ("?", "éa", "Xa", "XX"),
            ("*", "abc", "X", "X"),
            ("", "ab", "Xab", "XaXbX"),
            ("", "", "X", "X"),
            ("z", "ab", "ab", "ab"),
        ];
        for (glob, text, once, all) in cases {
            assert_eq!(pattern(glob).replace(text, "X", false), once, "{glob} / {text}");
            assert_eq!(pattern(glob).replace(text, "X", true), all, "{glob} // {text}");
        }
    }

    #[test]
    fn an_escape_of_an_ordinary_character_is_refused() {
        assert_eq!(Pattern::parse(r"a\x", '\\'), Err(BadEscape(Some('x'))));
        assert_eq!(Pattern::parse(r"a\", '\\'), Err(BadEscape(None)));
        assert_eq!(Pattern::parse(r"a\x`*", '`').map(|pattern| pattern.0.len()), Ok(4));
    }

    #[test]
    fn many_stars_do_not_take_long() {
        let pattern = pattern(&"*a".repeat(200));
        let text = "a".repeat(199) + &"b".repeat(2000);
        assert_eq!(pattern.trim_prefix(&text, true), text);
    }
}
