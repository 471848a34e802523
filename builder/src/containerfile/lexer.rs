//! From text to logical lines: comments gone, continued lines joined, heredocs attached.
//!
//! A logical line knows where each of its bytes was written. What is left out on the way becomes a gap of the
//! source, so that positions inside of words can be found again later.

use std::ops::Range;
use std::sync::Arc;

use crossdock_storage::escape_line;

use super::error::{Diagnostic, ParseError};
use super::heredoc::{self, Opening};
use super::instruction::Directives;
use super::source::{Source, Span, Spanned};

/// The whole text, cut into logical lines.
#[derive(Debug)]
pub(super) struct Lexed {
    pub(super) source: Arc<Source>,
    pub(super) directives: Directives,
    pub(super) lines: Vec<LogicalLine>,
    pub(super) warnings: Vec<Diagnostic>,
}

/// An instruction's text on one line, without blanks at its ends; never empty.
#[derive(Debug)]
pub(super) struct LogicalLine {
    pub(super) text: String,
    pub(super) heredocs: Vec<HeredocBody>,
    /// Offset in `text` and offset in the source of each stretch that was joined, ascending.
    pieces: Vec<(usize, usize)>,
}

/// A heredoc with its content.
#[derive(Debug)]
pub(super) struct HeredocBody {
    pub(super) opening: Opening,
    /// With leading tabs removed where `<<-` asks for it.
    pub(super) content: Spanned<String>,
}

impl LogicalLine {
    /// Where the bytes `range` of the text were written.
    pub(super) fn span(&self, range: &Range<usize>) -> Span {
        let start = self.place(range.start);
        // The end belongs to the last byte, not to the first one behind a continuation.
        let end = if range.is_empty() { start } else { self.place(range.end - 1) + 1 };
        Span::new(start, end)
    }

    /// The text of `range` and its place.
    pub(super) fn spanned(&self, range: &Range<usize>) -> Spanned<String> {
        Spanned::new(self.text[range.clone()].to_owned(), self.span(range))
    }

    fn place(&self, offset: usize) -> usize {
        let next = self.pieces.partition_point(|(logical, _)| *logical <= offset);
        let (logical, source) = self.pieces[next.saturating_sub(1)];
        source + (offset - logical)
    }

    /// Takes blanks off both ends. `false` if nothing is left.
    fn trim(&mut self) -> bool {
        self.text.truncate(self.text.trim_end().len());
        let cut = self.text.len() - self.text.trim_start().len();
        if cut > 0 {
            let start = self.place(cut);
            self.text.drain(..cut);
            self.pieces.retain(|(logical, _)| *logical > cut);
            for (logical, _) in &mut self.pieces {
                *logical -= cut;
            }
            self.pieces.insert(0, (0, start));
        }
        !self.text.is_empty()
    }
}

/// Cuts `source` into logical lines.
pub(super) fn lex(source: Source) -> Result<Lexed, ParseError> {
    let shared = Arc::new(source.clone());
    let mut lexer = Lexer {
        source: &shared,
        text: shared.text(),
        at: 0,
        directives: Directives::default(),
        directives_done: false,
        gaps: Vec::new(),
        warnings: Vec::new(),
    };
    let mut lines = Vec::new();
    while let Some(line) = lexer.next_instruction()? {
        lines.push(line);
    }
    let Lexer { directives, gaps, warnings, .. } = lexer;
    let source = Arc::new(source.with_gaps(gaps));
    let warnings = warnings
        .into_iter()
        .map(|span| {
            Diagnostic::new(&source, span, "empty line inside of a continued instruction")
                .with_help("remove it or make it a comment")
        })
        .collect();
    Ok(Lexed { source, directives, lines, warnings })
}

struct Lexer<'a> {
    source: &'a Arc<Source>,
    text: &'a str,
    /// Offset of the next physical line.
    at: usize,
    directives: Directives,
    directives_done: bool,
    gaps: Vec<Span>,
    warnings: Vec<Span>,
}

impl<'a> Lexer<'a> {
    fn next_instruction(&mut self) -> Result<Option<LogicalLine>, ParseError> {
        while let Some(physical) = self.next_physical() {
            let content = self.text[physical.range()].trim_start();
            let start = physical.end - content.len();
            if content.starts_with('#') {
                self.directive(Span::new(start, physical.end))?;
                continue;
            }
            self.directives_done = true;
            if content.is_empty() {
                continue;
            }
            let mut line = self.joined(Span::new(start, physical.end));
            if line.trim() {
                self.attach_heredocs(&mut line)?;
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// The next line of the text without its ending.
    fn next_physical(&mut self) -> Option<Span> {
        let rest = self.text.get(self.at..).filter(|rest| !rest.is_empty())?;
        let length = rest.find('\n').map_or(rest.len(), |newline| newline + 1);
        let start = self.at;
        self.at += length;
        Some(Span::new(start, start + rest[..length].trim_end_matches(['\n', '\r']).len()))
    }

    /// Joins the line at `first` with those that continue it.
    fn joined(&mut self, first: Span) -> LogicalLine {
        let mut line = LogicalLine { text: String::new(), heredocs: Vec::new(), pieces: Vec::new() };
        let mut next = Some(first);
        let mut gap = None;
        let mut warned = false;
        while let Some(physical) = next {
            let content = &self.text[physical.range()];
            let visible = content.trim_start();
            let skipped = gap.is_some() && (visible.is_empty() || visible.starts_with('#'));
            if skipped && visible.is_empty() && !warned {
                warned = true;
                self.warnings.push(physical);
            }
            if !skipped {
                if let Some(start) = gap.take() {
                    self.gaps.push(Span::new(start, physical.start));
                }
                line.pieces.push((line.text.len(), physical.start));
                let continued = continuation(content, self.directives.escape);
                line.text.push_str(&content[..continued.unwrap_or(content.len())]);
                match continued {
                    Some(escape) => gap = Some(physical.start + escape),
                    None => break,
                }
            }
            next = self.next_physical();
        }
        line
    }

    /// Takes a comment as a parser directive, if it is one and may still be.
    fn directive(&mut self, comment: Span) -> Result<(), ParseError> {
        if self.directives_done {
            return Ok(());
        }
        let text = &self.text[comment.range()];
        let Some((name, value)) = directive_parts(text) else {
            self.directives_done = true;
            return Ok(());
        };
        let start = comment.end - value.len();
        let value = value.trim_end();
        let value = Spanned::new(value.to_owned(), Span::new(start, start + value.len()));
        let repeated = match name.as_str() {
            "syntax" => self.directives.syntax.replace(value).is_some(),
            "check" => self.directives.check.replace(value).is_some(),
            _ => {
                let repeated = self.directives.escape_span.replace(value.span).is_some();
                self.directives.escape = match value.value.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    other => {
                        let message = format!("invalid escape character `{}`", shorten(other));
                        return Err(ParseError::Directive(
                            Diagnostic::new(self.source, value.span, message)
                                .with_help("it can be \\ or ` (a backtick)"),
                        ));
                    }
                };
                repeated
            }
        };
        if repeated {
            let message = format!("a second {name} directive");
            return Err(ParseError::Directive(
                Diagnostic::new(self.source, comment, message).with_help("keep one of them"),
            ));
        }
        Ok(())
    }

    /// Reads the bodies of the heredocs that `line` opens.
    fn attach_heredocs(&mut self, line: &mut LogicalLine) -> Result<(), ParseError> {
        for opening in heredoc::openings(&line.text) {
            let Some(content) = self.heredoc_body(&opening) else {
                let span = line.span(&opening.range);
                let name = shorten(&opening.name);
                return Err(ParseError::Unterminated(
                    Diagnostic::new(self.source, span, format!("heredoc {name} is not closed"))
                        .with_help(format!("end it with a line that is only {name}")),
                ));
            };
            line.heredocs.push(HeredocBody { opening, content });
        }
        Ok(())
    }

    fn heredoc_body(&mut self, opening: &Opening) -> Option<Spanned<String>> {
        let start = self.at;
        let mut content = String::new();
        let mut gaps = Vec::new();
        loop {
            let line_start = self.at;
            let physical = self.next_physical()?;
            let raw = &self.text[line_start..self.at];
            let line = &self.text[physical.range()];
            let tabs = if opening.strip_tabs { line.len() - line.trim_start_matches('\t').len() } else { 0 };
            if line[tabs..] == opening.name {
                self.gaps.append(&mut gaps);
                return Some(Spanned::new(content, Span::new(start, line_start)));
            }
            if tabs > 0 {
                gaps.push(Span::new(line_start, line_start + tabs));
            }
            content.push_str(&raw[tabs..]);
        }
    }
}

/// Where the escape character stands that continues `line`: the last thing on it but for blanks and tabs, and
/// not escaped itself.
fn continuation(line: &str, escape: char) -> Option<usize> {
    let before = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!before.ends_with(escape)).then_some(before.len())
}

/// Name, in lower case, and value of `# name = value`, if the name is a directive's.
fn directive_parts(comment: &str) -> Option<(String, &str)> {
    let (name, value) = comment.strip_prefix('#')?.split_once('=')?;
    let name = name.trim().to_ascii_lowercase();
    let value = value.trim_start();
    (["syntax", "escape", "check"].contains(&name.as_str()) && !value.is_empty()).then_some((name, value))
}

/// Keeps what is quoted in an error to one short line.
pub(super) fn shorten(text: &str) -> String {
    const LIMIT: usize = 40;
    let part: String = text.chars().take(LIMIT).collect();
    let mut short = escape_line(&part).into_owned();
    if text.chars().nth(LIMIT).is_some() {
        short.push('…');
    }
    short
}
