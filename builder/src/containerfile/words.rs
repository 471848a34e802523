//! Cutting a logical line into words, flags and JSON arrays.
//!
//! Everything here works on byte ranges of the line, so that places are never lost.

use std::ops::Range;

/// A flag as written: `--name` or `--name=value`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RawFlag {
    /// `--name`, without the value.
    pub(super) name: Range<usize>,
    /// The value without its quotes, and where it stands with them.
    pub(super) value: Option<(String, Range<usize>)>,
}

/// A quote that is not closed: where it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct UnclosedQuote(pub(super) usize);

/// What a text is when read as a JSON array.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum JsonArray {
    /// An array of strings, and what stands behind it.
    Strings {
        /// Each without escapes, and the range between its quotes.
        strings: Vec<(String, Range<usize>)>,
        /// Empty where nothing stands behind the array.
        rest: Range<usize>,
    },
    /// An array in which something else than a string stands.
    Mixed,
    /// No array at all, or a broken one.
    Not,
}

/// The first word and what follows it, blanks between them left out.
pub(super) fn split_keyword(line: &str, range: Range<usize>) -> (Range<usize>, Range<usize>) {
    let text = &line[range.clone()];
    let end = range.start + text.find(is_blank).unwrap_or(text.len());
    (range.start..end, trimmed(line, end..range.end))
}

/// `range` without blanks at its ends.
pub(super) fn trimmed(line: &str, range: Range<usize>) -> Range<usize> {
    let text = &line[range.clone()];
    let end = range.start + text.trim_end().len();
    let start = (range.end - text.trim_start().len()).min(end);
    start..end
}

/// The flags at the head of `range`, and what follows them. A lone `--` ends the flags.
///
/// As in BuildKit, quotes and backslashes are taken out of a flag here, whatever the escape directive says.
pub(super) fn flags(line: &str, range: Range<usize>) -> Result<(Vec<RawFlag>, Range<usize>), UnclosedQuote> {
    let mut flags = Vec::new();
    let mut rest = trimmed(line, range);
    while line[rest.clone()].starts_with("--") {
        let (flag, end) = flag(line, rest.clone())?;
        rest = trimmed(line, end..rest.end);
        if flag.name.len() == 2 && flag.value.is_none() {
            break;
        }
        flags.push(flag);
    }
    Ok((flags, rest))
}

fn flag(line: &str, range: Range<usize>) -> Result<(RawFlag, usize), UnclosedQuote> {
    let mut value: Option<(String, usize)> = None;
    let mut quote: Option<(char, usize)> = None;
    let mut end = range.end;
    let mut chars = line[range.clone()].char_indices().map(|(at, char)| (range.start + at, char));
    while let Some((at, mut char)) = chars.next() {
        match (quote, char) {
            (None, char) if char.is_whitespace() => {
                end = at;
                break;
            }
            (None, '=') if value.is_none() => {
                value = Some((String::new(), at + 1));
                continue;
            }
            (None, '\'' | '"') => {
                quote = Some((char, at));
                continue;
            }
            (Some((open, _)), char) if char == open => {
                quote = None;
                continue;
            }
            (_, '\\') => match chars.next() {
                Some((_, escaped)) => char = escaped,
                None => continue,
            },
            _ => {}
        }
        if let Some((value, _)) = &mut value {
            value.push(char);
        }
    }
    if let Some((_, at)) = quote {
        return Err(UnclosedQuote(at));
    }
    let name = range.start..value.as_ref().map_or(end, |(_, start)| start - 1);
    Ok((RawFlag { name, value: value.map(|(value, start)| (value, start..end)) }, end))
}

/// Words between blanks; quotes mean nothing. Ranges in `whole` stay whole even with blanks in them.
pub(super) fn blank_words(line: &str, range: Range<usize>, whole: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut words = Vec::new();
    let mut rest = trimmed(line, range);
    while !rest.is_empty() {
        let text = &line[rest.clone()];
        let mut end = rest.start + text.find(is_blank).unwrap_or(text.len());
        if let Some(kept) = whole.iter().find(|kept| kept.start == rest.start) {
            end = kept.end.clamp(end, rest.end);
        }
        words.push(rest.start..end);
        rest = trimmed(line, end..rest.end);
    }
    words
}

/// Words between blanks that are neither quoted nor escaped. Quotes and escapes stay in the words.
pub(super) fn quoted_words(
    line: &str,
    range: Range<usize>,
    escape: char,
) -> Result<Vec<Range<usize>>, UnclosedQuote> {
    let mut words = Vec::new();
    let mut start = None;
    let mut quote: Option<(char, usize)> = None;
    let mut chars = line[range.clone()].char_indices().map(|(at, char)| (range.start + at, char));
    while let Some((at, char)) = chars.next() {
        match quote {
            Some((open, _)) if char == open => quote = None,
            Some((open, _)) if char == escape && open != '\'' => {
                chars.next();
            }
            Some(_) => {}
            None if char.is_whitespace() => words.extend(start.take().map(|start| start..at)),
            None => {
                start.get_or_insert(at);
                if matches!(char, '\'' | '"') {
                    quote = Some((char, at));
                } else if char == escape {
                    chars.next();
                }
            }
        }
    }
    if let Some((_, at)) = quote {
        return Err(UnclosedQuote(at));
    }
    words.extend(start.map(|start| start..range.end));
    Ok(words)
}

/// Where the first `=` outside of quotes stands in a word.
pub(super) fn equals(line: &str, word: Range<usize>, escape: char) -> Option<usize> {
    let mut quote = None;
    let mut chars = line[word.clone()].char_indices();
    while let Some((at, char)) = chars.next() {
        match quote {
            Some(open) if char == open => quote = None,
            None if matches!(char, '\'' | '"') => quote = Some(char),
            None if char == '=' => return Some(word.start + at),
            Some('\'') => {}
            _ if char == escape => {
                chars.next();
            }
            _ => {}
        }
    }
    None
}

/// Reads the head of `range` as a JSON array of strings. As in buildah the array ends at its bracket, whatever follows.
pub(super) fn json_array(line: &str, range: Range<usize>) -> JsonArray {
    let text = &line[range.clone()];
    if !text.trim_start().starts_with('[') {
        return JsonArray::Not;
    }
    let mut arrays = serde_json::Deserializer::from_str(text).into_iter::<Vec<serde_json::Value>>();
    let Some(Ok(values)) = arrays.next() else { return JsonArray::Not };
    let end = arrays.byte_offset();
    let strings: Option<Vec<String>> = values
        .into_iter()
        .map(|value| match value {
            serde_json::Value::String(string) => Some(string),
            _ => None,
        })
        .collect();
    match strings {
        Some(strings) => JsonArray::Strings {
            strings: strings.into_iter().zip(json_strings(&text[..end], range.start)).collect(),
            rest: trimmed(line, range.start + end..range.end),
        },
        None => JsonArray::Mixed,
    }
}

/// Where the strings of a valid JSON array of strings stand, without their quotes.
fn json_strings(text: &str, base: usize) -> Vec<Range<usize>> {
    let mut strings = Vec::new();
    let mut start = None;
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate() {
        match (start, byte) {
            _ if escaped => escaped = false,
            (Some(_), b'\\') => escaped = true,
            (Some(from), b'"') => {
                strings.push(base + from..base + at);
                start = None;
            }
            (None, b'"') => start = Some(at + 1),
            _ => {}
        }
    }
    strings
}

/// What separates words: the blanks of a line. Unlike in quotes and at ends, only ASCII ones count.
pub(super) fn is_blank(char: char) -> bool {
    matches!(char, ' ' | '\t' | '\u{b}' | '\u{c}' | '\r' | '\n')
}

/// Candidates for a misspelt word: the nearest of `known`, if it is near at all.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().take(32).collect();
    let limit = if word.len() <= 3 { 1 } else { 2 };
    known
        .iter()
        .map(|candidate| (distance(&word, &candidate.to_lowercase().chars().collect::<Vec<_>>()), *candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Insertions, deletions, replacements and swaps of neighbours between two words.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let replaced = last[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(last[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(line: &str, ranges: &[Range<usize>]) -> Vec<String> {
        ranges.iter().map(|range| line[range.clone()].to_owned()).collect()
    }

    #[test]
    fn quoted_words_keep_their_quotes_and_their_blanks() {
        let line = r#"a="b c" 'd e'=f g\ h "" x"y z"#;
        let words = quoted_words(line, 0..line.len() - 5, '\\').expect("closed");
        assert_eq!(texts(line, &words), [r#"a="b c""#, "'d e'=f", r"g\ h", r#""""#]);
        assert_eq!(quoted_words(line, 0..line.len(), '\\'), Err(UnclosedQuote(line.len() - 4)));
        let line = r#"a`"b "c\" d"#;
        let words = quoted_words(line, 0..line.len(), '`').expect("closed");
        assert_eq!(texts(line, &words), ["a`\"b", r#""c\""#, "d"]);
    }

    #[test]
    fn flags_end_at_the_first_word_without_dashes_or_at_a_lone_pair() {
        let line = r#"--a --b=c  --d="e f"\ g a --x"#;
        let (found, rest) = flags(line, 0..line.len()).expect("closed");
        let found: Vec<_> = found
            .iter()
            .map(|flag| (&line[flag.name.clone()], flag.value.as_ref().map(|(value, _)| value.as_str())))
            .collect();
        assert_eq!(found, [("--a", None), ("--b", Some("c")), ("--d", Some("e f g"))]);
        assert_eq!(&line[rest], "a --x");
        let line = "-- --b";
        assert_eq!(flags(line, 0..line.len()), Ok((vec![], 3..6)));
        assert_eq!(flags("--b='x", 0..6), Err(UnclosedQuote(4)));
    }

    #[test]
    fn json_arrays_have_strings_with_places() {
        let line = r#"  ["a\"b", "\u00e9", ""]"#;
        let JsonArray::Strings { strings, .. } = json_array(line, 0..line.len()) else {
            panic!("not strings")
        };
        let strings: Vec<_> = strings.iter().map(|(value, at)| (value.as_str(), &line[at.clone()])).collect();
        assert_eq!(strings, [("a\"b", r#"a\"b"#), ("é", r"\u00e9"), ("", "")]);
        for (text, expected) in [
            ("[1]", JsonArray::Mixed),
            ("['a']", JsonArray::Not),
            ("[\"a\" = 1] b", JsonArray::Not),
            ("[1] # x", JsonArray::Mixed),
            ("", JsonArray::Not),
        ] {
            assert_eq!(json_array(text, 0..text.len()), expected, "{text}");
        }
    }

    #[test]
    fn a_json_array_ends_at_its_bracket() {
        for (text, behind) in [("[\"a\"]", ""), ("[\"a\"]  # b [\"c\"]", "# b [\"c\"]"), ("[\"]\"]b ", "b")] {
            let JsonArray::Strings { strings, rest } = json_array(text, 0..text.len()) else {
                panic!("{text}")
            };
            assert_eq!((strings.len(), &text[rest]), (1, behind), "{text}");
        }
    }

    #[test]
    fn the_nearest_word_is_near() {
        let known = ["COPY", "FROM", "RUN", "CMD"];
        assert_eq!(nearest("coppy", &known), Some("COPY"));
        assert_eq!(nearest("FORM", &known), Some("FROM"));
        assert_eq!(nearest("RNU", &known), Some("RUN"));
        assert_eq!(nearest("INCLUDE", &known), None);
        assert_eq!(nearest("x", &known), None);
    }
}
