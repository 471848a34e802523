//! Logical lines to stages and instructions.
//!
//! This file holds what concerns the whole file: which instruction a line is, and where it may stand. What an
//! instruction's arguments mean is in `arguments`.

use std::ops::Range;
use std::sync::Arc;

use super::arguments;
use super::error::{Diagnostic, ParseError};
use super::instruction::{Containerfile, FromInstruction, Instruction, OnbuildInstruction, Stage};
use super::lexer::{self, Lexed, LogicalLine, shorten};
use super::line::Line;
use super::source::{Source, Span, Spanned};
use super::words;

const KEYWORDS: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction that an image keeps for the builds based on it (`ONBUILD`).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Trigger {
    /// The text the spans point into.
    pub source: Arc<Source>,
    /// The escape character; the base's directive is not kept in an image, so it is `\` unless the text itself
    /// begins with a directive.
    pub escape: char,
    /// The instruction.
    pub instruction: Spanned<Instruction>,
}

impl Containerfile {
    /// Parses a whole Containerfile. `name` is shown in errors.
    ///
    /// An instruction of a stage that cannot be read is kept with its stage, as [`Stage::unreadable`]: as with buildah,
    /// a stage that the target does not need stands in no build's way.
    ///
    /// # Errors
    /// Bytes that are not text, a heredoc without its end, a first instruction that is neither FROM nor ARG, and a file
    /// without a stage.
    pub fn parse(name: impl Into<String>, text: &[u8]) -> Result<Self, ParseError> {
        let Lexed { source, directives, lines, warnings } = lexer::lex(decode(name.into(), text)?)?;
        let mut file = Self { source, directives, global_args: Vec::new(), stages: Vec::new(), warnings };
        for line in &lines {
            let mut line = Line::new(&file.source, file.directives.escape, line);
            let read = statement(&mut line).map_err(|error| Unreadable::new(&line, error));
            file.warnings.extend(line.into_warnings());
            match read {
                Ok(Statement::From(from)) => file.open_stage(from),
                Ok(Statement::Instruction(instruction)) => file.add(instruction)?,
                Err(unreadable) => file.set_aside(unreadable)?,
            }
        }
        if file.stages.is_empty() {
            return Err(file.without_stage(lines.is_empty()));
        }
        file.warnings.sort_by_key(|warning| warning.span().start);
        Ok(file)
    }

    fn open_stage(&mut self, from: FromInstruction) {
        if let Some(name) = &from.name
            && ["scratch", "context"].iter().any(|own| name.eq_ignore_ascii_case(own))
        {
            let message = format!("stage name {} has a meaning of its own", name.value);
            self.warnings
                .push(Diagnostic::new(&self.source, name.span, message).with_help("choose another name"));
        }
        self.stages.push(Stage { span: from.span, from, instructions: Vec::new(), unreadable: None });
    }

    /// Keeps what is wrong with a line until somebody needs its stage. A FROM that cannot be read opens a stage without a
    /// base and a name.
    fn set_aside(&mut self, line: Unreadable) -> Result<(), ParseError> {
        let Unreadable { is_from, span, error } = line;
        if is_from {
            let image = Spanned::new(String::new(), span);
            self.open_stage(FromInstruction { image, platform: None, name: None, span });
        }
        let Some(stage) = self.stages.last_mut() else { return Err(error) };
        stage.span = stage.span.to(span);
        stage.unreadable.get_or_insert(error);
        Ok(())
    }

    fn add(&mut self, instruction: Spanned<Instruction>) -> Result<(), ParseError> {
        match (self.stages.last_mut(), instruction.value) {
            (Some(stage), value) => {
                stage.span = stage.span.to(instruction.span);
                stage.instructions.push(Spanned::new(value, instruction.span));
                Ok(())
            }
            (None, Instruction::Arg(args)) => {
                self.global_args.push(args);
                Ok(())
            }
            (None, other) => {
                let keyword = other.keyword();
                let start = instruction.span.start;
                let span = Span::new(start, start + keyword.len());
                let message = format!("{keyword} stands before the first FROM");
                Err(ParseError::Structure(
                    Diagnostic::new(&self.source, span, message).with_help("only ARG can"),
                ))
            }
        }
    }

    fn without_stage(&self, empty: bool) -> ParseError {
        let what = if empty { "the file has no instructions" } else { "the file has no FROM" };
        let end = Span::at(if empty { 0 } else { self.source.text().trim_end().len() });
        ParseError::Structure(
            Diagnostic::new(&self.source, end, what)
                .with_help("begin a stage with FROM and an image, or FROM scratch"),
        )
    }
}

impl Trigger {
    /// Parses one `OnBuild` entry of an image configuration. `name` is shown in errors.
    ///
    /// # Errors
    /// As [`Containerfile::parse`], and when the text is not one instruction that may be a trigger.
    pub fn parse(name: impl Into<String>, text: &str) -> Result<Self, ParseError> {
        let Lexed { source, directives, lines, .. } = lexer::lex(decode(name.into(), text.as_bytes())?)?;
        let [line] = lines.as_slice() else {
            let at = lines.get(1).map_or(Span::at(0), whole);
            let message = format!("an ONBUILD trigger of {} instructions", lines.len());
            return Err(ParseError::Structure(
                Diagnostic::new(&source, at, message).with_help("it has to be exactly one"),
            ));
        };
        let mut line = Line::new(&source, directives.escape, line);
        let range = 0..line.text().len();
        let instruction = trigger(&mut line, range)?;
        Ok(Self { escape: directives.escape, instruction, source: Arc::clone(&source) })
    }
}

/// What a line holds.
enum Statement {
    From(FromInstruction),
    Instruction(Spanned<Instruction>),
}

/// A line that cannot be read.
struct Unreadable {
    is_from: bool,
    span: Span,
    error: ParseError,
}

impl Unreadable {
    fn new(line: &Line<'_>, error: ParseError) -> Self {
        let range = 0..line.text().len();
        let span = line.span(&range);
        Self { is_from: matches!(keyword(line, range), Ok(("FROM", _))), span, error }
    }
}

fn decode(name: String, text: &[u8]) -> Result<Source, ParseError> {
    let problem = match std::str::from_utf8(text) {
        Ok(valid) => match valid.find('\0') {
            None => return Ok(Source::new(name, valid)),
            Some(at) => (at, 1, "a NUL byte", "a Containerfile is plain text"),
        },
        Err(error) => {
            (error.valid_up_to(), '\u{fffd}'.len_utf8(), "bytes that are not UTF-8", "save the file as UTF-8")
        }
    };
    let (at, length, message, help) = problem;
    // The replacement of the first bad byte stands where the byte stood, so the place stays right.
    let source = Arc::new(Source::new(name, &String::from_utf8_lossy(text)));
    let at = if text.starts_with(b"\xef\xbb\xbf") { at - 3 } else { at };
    Err(ParseError::Encoding(Diagnostic::new(&source, Span::new(at, at + length), message).with_help(help)))
}

fn statement(line: &mut Line<'_>) -> Result<Statement, ParseError> {
    let range = 0..line.text().len();
    let (keyword, args) = keyword(line, range.clone())?;
    if keyword == "FROM" {
        return arguments::from(line, args).map(Statement::From);
    }
    instruction(line, keyword, range, args).map(Statement::Instruction)
}

/// The keyword that `range` begins with, and the range of what follows.
fn keyword(line: &Line<'_>, range: Range<usize>) -> Result<(&'static str, Range<usize>), ParseError> {
    let (word, args) = words::split_keyword(line.text(), range);
    let written = &line.text()[word.clone()];
    if let Some(keyword) = KEYWORDS.into_iter().find(|keyword| keyword.eq_ignore_ascii_case(written)) {
        return Ok((keyword, args));
    }
    let diagnostic = line.at(line.span(&word), format!("unknown instruction {}", shorten(written)));
    Err(ParseError::UnknownInstruction(match words::nearest(written, &KEYWORDS) {
        Some(keyword) => diagnostic.with_help(format!("did you mean {keyword}?")),
        None => {
            diagnostic.with_help("continue the line above with its escape character if this belongs to it")
        }
    }))
}

fn instruction(
    line: &mut Line<'_>,
    keyword: &'static str,
    range: Range<usize>,
    args: Range<usize>,
) -> Result<Spanned<Instruction>, ParseError> {
    let mut span = line.span(&range);
    if let Some(last) = line.heredocs().last() {
        span = span.to(last.content.span);
    }
    let value = match keyword {
        "ONBUILD" => onbuild(line, args)?,
        _ => arguments::instruction(line, keyword, range, args)?,
    };
    Ok(Spanned::new(value, span))
}

fn onbuild(line: &mut Line<'_>, args: Range<usize>) -> Result<Instruction, ParseError> {
    let (_, args) = arguments::no_flags(line, "ONBUILD", args)?;
    if args.is_empty() {
        let span = line.span(&(0..line.text().len()));
        return Err(line.arguments(span, "ONBUILD has no instruction", "write one behind it"));
    }
    let mut text = line.spanned(&args);
    for heredoc in line.heredocs() {
        text.value.push('\n');
        text.value.push_str(line.source.slice(heredoc.content.span));
        text.value.push_str(&heredoc.opening.name);
    }
    let trigger = Box::new(trigger(line, args)?);
    Ok(Instruction::Onbuild(OnbuildInstruction { trigger, text }))
}

/// The instruction at `range`, which has to be one that can wait for a later build.
fn trigger(line: &mut Line<'_>, range: Range<usize>) -> Result<Spanned<Instruction>, ParseError> {
    let (keyword, args) = keyword(line, range.clone())?;
    if ["FROM", "MAINTAINER", "ONBUILD"].contains(&keyword) {
        let span = line.span(&(range.start..range.start + keyword.len()));
        let message = format!("{keyword} cannot be an ONBUILD trigger");
        return Err(ParseError::Structure(line.at(span, message).with_help("use another instruction")));
    }
    instruction(line, keyword, range, args)
}

fn whole(line: &LogicalLine) -> Span {
    line.span(&(0..line.text.len()))
}
