//! The text of a Containerfile and places in it.
//!
//! A [`Span`] is a range of bytes of [`Source::text`] and always lies on character boundaries. Lines and
//! columns exist for people only: they are worked out when an error is shown. The source also remembers
//! which stretches of text the lexer left out (line continuations, tabs taken off a `<<-` heredoc), so that
//! a position inside a joined word can be led back to the line it was written on.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A range of bytes in a [`Source`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Span {
    /// Offset of the first byte.
    pub start: usize,
    /// Offset behind the last byte; never less than `start`.
    pub end: usize,
}

impl Span {
    /// The span from `start` up to, and without, `end`.
    ///
    /// An `end` before `start` gives an empty span at `start`.
    #[must_use]
    pub fn new(start: usize, end: usize) -> Self {
        Self { start, end: end.max(start) }
    }

    /// The empty span at `offset`.
    #[must_use]
    pub fn at(offset: usize) -> Self {
        Self { start: offset, end: offset }
    }

    /// The smallest span that holds both.
    #[must_use]
    pub fn to(self, other: Self) -> Self {
        Self { start: self.start.min(other.start), end: self.end.max(other.end) }
    }

    /// Length in bytes.
    #[must_use]
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether the span holds no bytes.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.start == self.end
    }

    /// The span as a range, to index text with.
    #[must_use]
    pub fn range(self) -> Range<usize> {
        self.start..self.end
    }
}

/// A value and the place it was written at.
///
/// Two spanned values are equal when value and place are; compare `.value` to leave the place out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Spanned<T> {
    /// What was written.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub fn new(value: T, span: Span) -> Self {
        Self { value, span }
    }

    /// Another value at the same place.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned { value: change(self.value), span: self.span }
    }
}

impl<T> Deref for Spanned<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// A line and a column, both counted from 1; the column counts characters, a tab being one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

/// A named text with its lines. Cheap to clone.
#[derive(Clone)]
pub struct Source {
    name: Arc<str>,
    text: Arc<str>,
    line_starts: Arc<[usize]>,
    gaps: Arc<[Span]>,
}

impl Source {
    /// A source shown as `name` in errors. A byte order mark at the head of `text` is taken off.
    #[must_use]
    pub fn new(name: impl Into<String>, text: &str) -> Self {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_starts =
            std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { name: Arc::from(name.into()), text: Arc::from(text), line_starts, gaps: Arc::from([]) }
    }

    /// The same source, with the stretches the lexer left out, in ascending order.
    #[must_use]
    pub(super) fn with_gaps(mut self, gaps: Vec<Span>) -> Self {
        self.gaps = Arc::from(gaps);
        self
    }

    /// The name that errors show, usually the path as the user gave it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The whole text, without a byte order mark.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text at `span` as it was written, continuations and all. Empty where the span does not fit.
    #[must_use]
    pub fn slice(&self, span: Span) -> &str {
        self.text.get(span.range()).unwrap_or_default()
    }

    /// The text at `span` as the lexer read it: continued lines joined, comments between them left out.
    ///
    /// This is what a `created_by` of the image history shows.
    #[must_use]
    pub fn unfolded(&self, span: Span) -> String {
        let mut text = String::with_capacity(span.len());
        let mut at = span.start;
        for gap in self.gaps_in(span) {
            text.push_str(self.slice(Span::new(at, gap.start)));
            at = gap.end;
        }
        text.push_str(self.slice(Span::new(at, span.end)));
        text
    }

    /// Line and column of a byte offset. An offset behind the end is taken as the end.
    #[must_use]
    pub fn position(&self, offset: usize) -> Position {
        let offset = self.floor(offset);
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        Position { line, column: self.text[start..offset].chars().count() + 1 }
    }

    /// The text of a line, counted from 1, without its line ending. Empty where there is no such line.
    #[must_use]
    pub fn line(&self, line: usize) -> &str {
        let span = self.line_span(line);
        self.slice(span)
    }

    /// Where a line, counted from 1, lies, without its line ending.
    #[must_use]
    pub fn line_span(&self, line: usize) -> Span {
        let Some(&start) = line.checked_sub(1).and_then(|index| self.line_starts.get(index)) else {
            return Span::at(self.text.len());
        };
        let end = self.line_starts.get(line).copied().unwrap_or(self.text.len());
        let text = self.text[start..end].trim_end_matches(['\n', '\r']);
        Span::new(start, start + text.len())
    }

    /// The place of the bytes `range` of `word`.
    ///
    /// When the word was not written the way its value reads (escapes in a JSON string, quotes taken off a
    /// flag), the answer is the place of the whole word.
    #[must_use]
    pub fn locate(&self, word: &Spanned<String>, range: Range<usize>) -> Span {
        if range.end > word.value.len() || self.unfolded(word.span) != word.value {
            return word.span;
        }
        let start = self.fold(word.span, range.start, false);
        // The end belongs to the last byte, not to the first one behind a continuation.
        let end = if range.is_empty() { start } else { self.fold(word.span, range.end, true) };
        Span::new(start, end)
    }

    /// The source offset of the unfolded `offset` in `span`. At a gap, `before` picks its near side.
    fn fold(&self, span: Span, offset: usize, before: bool) -> usize {
        let mut at = span.start + offset;
        for gap in self.gaps_in(span) {
            if at < gap.start || (before && at == gap.start) {
                break;
            }
            at += gap.len();
        }
        at.min(span.end)
    }

    fn gaps_in(&self, span: Span) -> impl Iterator<Item = Span> + '_ {
        let first = self.gaps.partition_point(|gap| gap.start < span.start);
        self.gaps[first..].iter().copied().take_while(move |gap| gap.end <= span.end)
    }

    /// The last character boundary at or before `offset`.
    fn floor(&self, offset: usize) -> usize {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        offset
    }
}

/// The name and the length: the text would hide everything else.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("name", &self.name)
            .field("bytes", &self.text.len())
            .finish_non_exhaustive()
    }
}

/// The same name and the same text.
impl PartialEq for Source {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name && self.text == other.text
    }
}

impl Eq for Source {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_end_before_their_ending() {
        let source = Source::new("Containerfile", "\u{feff}a\r\nßé x\n");
        assert_eq!(source.position(0), Position { line: 1, column: 1 });
        assert_eq!(source.line(1), "a");
        assert_eq!(source.position("a\r\nßé ".len()), Position { line: 2, column: 4 });
        assert_eq!(source.position(999), Position { line: 3, column: 1 });
        assert_eq!(source.line(3), "");
        assert_eq!(source.line(0), "");
        assert_eq!(source.line(9), "");
    }

    #[test]
    fn a_place_behind_a_gap_is_led_back_to_its_line() {
        let source = Source::new("Containerfile", "ab\\\ncd").with_gaps(vec![Span::new(2, 4)]);
        let word = Spanned::new("abcd".to_owned(), Span::new(0, 6));
        assert_eq!(source.unfolded(word.span), "abcd");
        assert_eq!(source.locate(&word, 2..3), Span::new(4, 5));
        assert_eq!(source.locate(&word, 1..2), Span::new(1, 2));
        assert_eq!(source.locate(&word, 1..4), Span::new(1, 6));
        assert_eq!(source.locate(&Spanned::new("other".to_owned(), word.span), 1..2), word.span);
    }
}
