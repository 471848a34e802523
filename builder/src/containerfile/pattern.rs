//! Glob patterns of `${name#pattern}` and its kin: `*` and `?`, without bracket expressions, as in BuildKit.
//!
//! Matching walks the text once for all ways a `*` can stretch, and for all places a match can begin at, so no pattern takes
//! longer than its length times the text's.

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
        let found = best(&self.0, text.chars(), longest, true);
        &text[found.map_or(0, |found| found.end)..]
    }

    /// `text` without the shortest, or longest, tail that matches.
    pub(super) fn trim_suffix<'a>(&self, text: &'a str, longest: bool) -> &'a str {
        let backwards: Vec<_> = self.0.iter().rev().copied().collect();
        let found = best(&backwards, text.chars().rev(), longest, true);
        &text[..text.len() - found.map_or(0, |found| found.end)]
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
        let found = best(&self.0, text[from..].chars(), true, false)?;
        Some(from + found.start..from + found.end)
    }
}

/// The bytes of `text` that match all of `tokens`: of those that begin first the least or the most. `anchored` ones begin
/// with the text.
fn best(
    tokens: &[Token],
    text: impl Iterator<Item = char>,
    longest: bool,
    anchored: bool,
) -> Option<Range<usize>> {
    // For each token that may come next, where the match begins: the first place, if there are several. Behind the last
    // token stands the end of the pattern.
    let mut alive: Vec<Option<usize>> = vec![None; tokens.len() + 1];
    let mut found: Option<Range<usize>> = None;
    let mut at = 0;
    let mut chars = text;
    loop {
        if found.is_none() && (at == 0 || !anchored) {
            alive[0] = alive[0].or(Some(at));
        }
        pass_stars(tokens, &mut alive);
        if let Some(start) = alive[tokens.len()]
            && found.as_ref().is_none_or(|found| start <= found.start)
        {
            found = Some(start..at);
        }
        // What begins later than a match is none.
        if let Some(found) = &found {
            alive.iter_mut().for_each(|start| *start = start.filter(|start| *start <= found.start));
        }
        let over = found.is_some() && !longest || alive[..tokens.len()].iter().all(Option::is_none);
        if over && (found.is_some() || anchored) {
            return found;
        }
        let Some(char) = chars.next() else { return found };
        let mut next = vec![None; tokens.len() + 1];
        for (index, token) in tokens.iter().enumerate() {
            let Some(start) = alive[index] else { continue };
            match token {
                Token::Any => earliest(&mut next[index], start),
                Token::One => earliest(&mut next[index + 1], start),
                Token::Char(expected) if *expected == char => earliest(&mut next[index + 1], start),
                Token::Char(_) => {}
            }
        }
        alive = next;
        at += char.len_utf8();
    }
}

fn earliest(known: &mut Option<usize>, start: usize) {
    *known = Some(known.map_or(start, |known| known.min(start)));
}

/// A `*` may stand for nothing.
fn pass_stars(tokens: &[Token], alive: &mut [Option<usize>]) {
    for (index, token) in tokens.iter().enumerate() {
        if let (Some(start), Token::Any) = (alive[index], token) {
            earliest(&mut alive[index + 1], start);
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
