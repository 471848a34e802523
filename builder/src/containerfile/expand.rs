//! Variable expansion: the shell's parameter forms as far as BuildKit knows them, and removal of quotes.
//!
//! Known are `$x`, `${x}`, `${x:-w}`, `${x-w}`, `${x:+w}`, `${x+w}`, `${x:?w}`, `${x?w}`, `${x#p}`, `${x##p}`,
//! `${x%p}`, `${x%%p}`, `${x/p/r}` and `${x//p/r}`, with words in words. Errors point into the word. A result
//! is never longer than [`LIMIT`], as `ENV A=$A$A` said often enough would fill any memory.

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::error::Diagnostic;
use super::lexer::shorten;
use super::pattern::{BadEscape, Pattern};
use super::source::{Source, Spanned};

/// The longest result of an expansion, in bytes. Far above what an image configuration can hold.
const LIMIT: usize = 4 << 20;

/// The length of a pattern times that of the value it is matched on comes to at most this, so that no substitution takes
/// longer than a second.
const MATCHING: usize = 64 << 20;

/// How deep substitutions can stand in one another.
const DEPTH: usize = 50;

/// Puts the values of variables into words.
///
/// Immutable; make one for each state of the environment.
#[derive(Clone, Copy)]
pub struct Expander<'a> {
    source: &'a Arc<Source>,
    escape: char,
    env: &'a dyn Fn(&str) -> Option<String>,
}

/// A word with its variables put in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded<T = String> {
    /// The result.
    pub value: T,
    /// Names that were used though they are not set, and with nothing said for that case; each once, where
    /// it is used first.
    ///
    /// They count as empty; whether that deserves a warning is the caller's to say.
    pub unset: Vec<Spanned<String>>,
}

impl<'a> Expander<'a> {
    /// An expander for words of `source`, whose directive chose `escape`; `env` looks a variable up.
    pub fn new(source: &'a Arc<Source>, escape: char, env: &'a dyn Fn(&str) -> Option<String>) -> Self {
        Self { source, escape, env }
    }

    /// Expands `word` to one string and removes its quotes.
    ///
    /// # Errors
    /// A substitution or a quote that is not closed or not known, a substitution in the way of `${name:?}`
    /// where `name` is not set, a result of more than 4 MiB, and a pattern and a value that are both so long that matching
    /// them takes its time.
    pub fn word(&self, word: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        let (pieces, unset) = self.run(word, true)?;
        Ok(Expanded { value: pieces.text, unset })
    }

    /// Expands `word`, removes its quotes, and splits the result at blanks outside of quotes.
    ///
    /// A word that comes out empty is left out.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn words(&self, word: &Spanned<String>) -> Result<Expanded<Vec<String>>, Diagnostic> {
        let (pieces, unset) = self.run(word, true)?;
        Ok(Expanded { value: pieces.into_words(), unset })
    }

    /// Expands the content of a heredoc, in which quotes mean nothing. As in a shell `\` makes a dollar sign, a backquote and
    /// itself mean themselves, and otherwise is a character as others, also at the end of a line.
    ///
    /// # Errors
    /// As [`word`](Self::word).
    pub fn text(&self, text: &Spanned<String>) -> Result<Expanded, Diagnostic> {
        let (pieces, unset) = Self { escape: '\\', ..*self }.run(text, false)?;
        Ok(Expanded { value: pieces.text, unset })
    }

    fn run(
        &self,
        word: &Spanned<String>,
        quotes: bool,
    ) -> Result<(Pieces, Vec<Spanned<String>>), Diagnostic> {
        let mut scanner =
            Scanner { expander: self, word, quotes, at: 0, depth: 0, dead: 0, unset: Vec::new() };
        let pieces = scanner.until(None, false)?.unwrap_or_default();
        Ok((pieces, scanner.unset))
    }
}

impl fmt::Debug for Expander<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Expander").field("escape", &self.escape).finish_non_exhaustive()
    }
}

/// What came out so far, and where it can be split into words.
#[derive(Debug, Default)]
struct Pieces {
    text: String,
    /// Offsets in `text` of blanks that stand outside of quotes.
    blanks: Vec<usize>,
}

impl Pieces {
    fn push(&mut self, char: char) {
        self.text.push(char);
    }

    fn push_splitting(&mut self, char: char) {
        if char.is_whitespace() {
            self.blanks.push(self.text.len());
        }
        self.text.push(char);
    }

    fn into_words(self) -> Vec<String> {
        let mut words = Vec::new();
        let mut start = 0;
        for blank in self.blanks.into_iter().chain([self.text.len()]) {
            if start < blank {
                words.push(self.text[start..blank].to_owned());
            }
            start = blank + self.text[blank..].chars().next().map_or(0, char::len_utf8);
        }
        words
    }
}

struct Scanner<'a> {
    expander: &'a Expander<'a>,
    word: &'a Spanned<String>,
    /// Whether quotes mean anything.
    quotes: bool,
    at: usize,
    depth: usize,
    /// Above zero in a word whose result is not used: nothing in there is an error but its syntax.
    dead: usize,
    unset: Vec<Spanned<String>>,
}

/// A variable's name and where it stands in the word.
struct Named {
    value: String,
    range: Range<usize>,
}

/// How a substitution goes on behind the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Default,
    Alternative,
    Required,
    TrimPrefix,
    TrimSuffix,
}

impl Scanner<'_> {
    fn peek(&self) -> Option<char> {
        self.word.value[self.at..].chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let char = self.peek()?;
        self.at += char.len_utf8();
        Some(char)
    }

    fn next_if(&mut self, char: char) -> bool {
        let is = self.peek() == Some(char);
        if is {
            self.at += char.len_utf8();
        }
        is
    }

    fn error(&self, range: Range<usize>, message: impl Into<String>) -> Diagnostic {
        let span = self.expander.source.locate(self.word, range);
        Diagnostic::new(self.expander.source, span, message)
    }

    /// Reads up to `stop` and takes it, or up to the end. `raw` keeps escape characters, for patterns.
    ///
    /// `None` when there is no `stop`.
    fn until(&mut self, stop: Option<char>, raw: bool) -> Result<Option<Pieces>, Diagnostic> {
        let mut pieces = Pieces::default();
        while let Some(char) = self.peek() {
            if stop == Some(char) {
                self.at += char.len_utf8();
                return Ok(Some(pieces));
            }
            match char {
                '$' => {
                    for char in self.dollar()?.chars() {
                        pieces.push_splitting(char);
                    }
                }
                '\'' if self.quotes => self.single_quote(&mut pieces)?,
                '"' if self.quotes => self.double_quote(&mut pieces, raw)?,
                char if char == self.expander.escape => {
                    self.at += char.len_utf8();
                    // As in the shell's own heredocs; but there a backslash at the end of a line goes.
                    let stays =
                        stop.is_none() && !self.quotes && !matches!(self.peek(), Some('$' | '`' | '\\'));
                    if raw || stays {
                        pieces.push(char);
                    }
                    if stays {
                        continue;
                    }
                    if let Some(escaped) = self.next() {
                        pieces.push(escaped);
                    }
                }
                char => {
                    self.at += char.len_utf8();
                    pieces.push_splitting(char);
                }
            }
            self.limit(&pieces.text)?;
        }
        Ok(stop.is_none().then_some(pieces))
    }

    fn single_quote(&mut self, pieces: &mut Pieces) -> Result<(), Diagnostic> {
        let start = self.at;
        self.at += 1;
        while let Some(char) = self.next() {
            if char == '\'' {
                return Ok(());
            }
            pieces.push(char);
        }
        Err(self.unclosed_quote(start))
    }

    fn double_quote(&mut self, pieces: &mut Pieces, raw: bool) -> Result<(), Diagnostic> {
        let start = self.at;
        self.at += 1;
        let escape = self.expander.escape;
        while let Some(char) = self.peek() {
            match char {
                '"' => {
                    self.at += 1;
                    return Ok(());
                }
                '$' => pieces.text.push_str(&self.dollar()?),
                char if char == escape => {
                    self.at += char.len_utf8();
                    if raw {
                        pieces.push(char);
                    }
                    match self.peek() {
                        Some(escaped) if escaped == '"' || escaped == '$' || escaped == escape => {
                            self.at += escaped.len_utf8();
                            pieces.push(escaped);
                        }
                        // Before anything else it means itself.
                        Some(_) => pieces.push(char),
                        None => {}
                    }
                }
                char => {
                    self.at += char.len_utf8();
                    pieces.push(char);
                }
            }
            self.limit(&pieces.text)?;
        }
        Err(self.unclosed_quote(start))
    }

    fn unclosed_quote(&self, start: usize) -> Diagnostic {
        let quote = &self.word.value[start..=start];
        let escape = self.expander.escape;
        self.error(start..start + 1, format!("quote {quote} is not closed"))
            .with_help(format!("close it, or write {escape}{quote} to mean the character"))
    }

    /// A variable or a substitution; the scanner stands on its `$`.
    fn dollar(&mut self) -> Result<String, Diagnostic> {
        let start = self.at;
        self.at += 1;
        if !self.next_if('{') {
            let name = self.name();
            return Ok(if name.value.is_empty() { "$".to_owned() } else { self.value_or_empty(name) });
        }
        if self.depth == DEPTH {
            return Err(self.error(start..self.at, format!("more than {DEPTH} substitutions in one another")));
        }
        self.depth += 1;
        let value = self.substitution(start);
        self.depth -= 1;
        value
    }

    /// What follows `${`.
    fn substitution(&mut self, start: usize) -> Result<String, Diagnostic> {
        let name = self.name();
        if name.value.is_empty() {
            return Err(match self.peek() {
                None => self.unclosed(start, '}'),
                Some(_) => self
                    .error(start..self.at, "substitution without a variable name")
                    .with_help(format!("write {}$ to mean a dollar sign", self.expander.escape)),
            });
        }
        let operator_at = self.at;
        let Some(mut operator) = self.next() else { return Err(self.unclosed(start, '}')) };
        if operator == '}' {
            return Ok(self.value_or_empty(name));
        }
        let empty_is_unset = operator == ':';
        if empty_is_unset {
            operator = self.next().ok_or_else(|| self.unclosed(start, '}'))?;
        }
        let operator = match operator {
            '-' => Operator::Default,
            '+' => Operator::Alternative,
            '?' => Operator::Required,
            '#' => Operator::TrimPrefix,
            '%' => Operator::TrimSuffix,
            '/' if !empty_is_unset => return self.replacement(start, name),
            _ => {
                let written = &self.word.value[operator_at..self.at];
                return Err(self
                    .error(
                        operator_at..self.at,
                        format!("unknown modifier {} in a substitution", shorten(written)),
                    )
                    .with_help("the known ones are :- - :+ + :? ? # ## % %% / //"));
            }
        };
        match operator {
            Operator::Default | Operator::Alternative | Operator::Required => {
                self.conditional(start, &name, operator, empty_is_unset)
            }
            Operator::TrimPrefix | Operator::TrimSuffix => self.trim(start, name, operator),
        }
    }

    fn conditional(
        &mut self,
        start: usize,
        name: &Named,
        operator: Operator,
        empty_is_unset: bool,
    ) -> Result<String, Diagnostic> {
        let value = (self.expander.env)(&name.value).filter(|value| !(empty_is_unset && value.is_empty()));
        let used = value.is_some() == (operator == Operator::Alternative);
        self.dead += usize::from(!used);
        let word = self.operand(start, '}', false);
        self.dead -= usize::from(!used);
        let word = word?;
        match (operator, value) {
            (Operator::Alternative, Some(_)) => Ok(word),
            (Operator::Alternative, None) => Ok(String::new()),
            (_, Some(value)) => Ok(value),
            (Operator::Required, None) if self.dead == 0 => {
                let reason = match word.is_empty() {
                    true if empty_is_unset => "it has to be set and not empty".to_owned(),
                    true => "it has to be set".to_owned(),
                    false => word.chars().map(|char| if char.is_control() { ' ' } else { char }).collect(),
                };
                let message = format!("variable {} is required: {reason}", shorten(&name.value));
                Err(self.error(start..self.at, message))
            }
            (_, None) => Ok(word),
        }
    }

    fn trim(&mut self, start: usize, name: Named, operator: Operator) -> Result<String, Diagnostic> {
        let pattern_at = self.at;
        let pattern = self.operand(start, '}', true)?;
        let doubled = if operator == Operator::TrimPrefix { '#' } else { '%' };
        let (longest, pattern) = match pattern.strip_prefix(doubled) {
            Some(pattern) => (true, pattern),
            None => (false, pattern.as_str()),
        };
        let value = self.value_or_empty(name);
        let pattern = self.pattern(pattern, &value, pattern_at..self.at - 1)?;
        Ok(match operator {
            Operator::TrimPrefix => pattern.trim_prefix(&value, longest),
            _ => pattern.trim_suffix(&value, longest),
        }
        .to_owned())
    }

    fn replacement(&mut self, start: usize, name: Named) -> Result<String, Diagnostic> {
        let all = self.next_if('/');
        let pattern_at = self.at;
        let pattern = self.operand(start, '/', true)?;
        let pattern_range = pattern_at..self.at - 1;
        let replacement = self.operand(start, '}', true)?;
        let value = self.value_or_empty(name);
        let pattern = self.pattern(&pattern, &value, pattern_range)?;
        if all && value.len().saturating_add(1).saturating_mul(replacement.len().max(1)) > LIMIT {
            return Err(self.too_long());
        }
        Ok(pattern.replace(&value, &replacement, all))
    }

    /// A word inside of a substitution, up to `stop`.
    fn operand(&mut self, start: usize, stop: char, raw: bool) -> Result<String, Diagnostic> {
        match self.until(Some(stop), raw)? {
            Some(pieces) => Ok(pieces.text),
            None => Err(self.unclosed(start, stop)),
        }
    }

    /// The pattern at `range`, which is for `value`.
    fn pattern(&self, pattern: &str, value: &str, range: Range<usize>) -> Result<Pattern, Diagnostic> {
        if pattern.len().saturating_mul(value.len()) > MATCHING {
            let message =
                format!("a pattern of {} bytes is too long for a value of {}", pattern.len(), value.len());
            return Err(self.error(range, message).with_help("use a shorter pattern"));
        }
        let escape = self.expander.escape;
        Pattern::parse(pattern, escape).map_err(|BadEscape(char)| {
            let char = char.map(String::from).unwrap_or_default();
            self.error(range, format!("invalid escape {escape}{} in a pattern", shorten(&char)))
                .with_help(format!("write {escape}{escape} to mean the character {escape}"))
        })
    }

    fn unclosed(&self, start: usize, missing: char) -> Diagnostic {
        let help = match missing {
            '/' => "write ${name/pattern/replacement}",
            _ => "close it, or escape the dollar sign",
        };
        self.error(start..self.word.value.len(), format!("substitution has no {missing}")).with_help(help)
    }

    /// A name or a digit; empty if there is none of these. In heredocs there are the shell's special parameters as well: they
    /// are scripts, in which `$@` is no text. buildah makes the same difference.
    fn name(&mut self) -> Named {
        let start = self.at;
        match self.peek() {
            Some(char) if char.is_ascii_digit() => {
                self.at += 1;
                while !self.quotes && self.peek().is_some_and(|char| char.is_ascii_digit()) {
                    self.at += 1;
                }
            }
            Some('@' | '*' | '#' | '?' | '-' | '$' | '!') if !self.quotes => self.at += 1,
            _ => {
                while let Some(char) = self.peek().filter(|char| char.is_alphanumeric() || *char == '_') {
                    self.at += char.len_utf8();
                }
            }
        }
        Named { value: self.word.value[start..self.at].to_owned(), range: start..self.at }
    }

    fn value_or_empty(&mut self, name: Named) -> String {
        (self.expander.env)(&name.value).unwrap_or_else(|| {
            if self.dead == 0 && !self.unset.iter().any(|unset| unset.value == name.value) {
                let span = self.expander.source.locate(self.word, name.range);
                self.unset.push(Spanned::new(name.value, span));
            }
            String::new()
        })
    }

    fn limit(&self, text: &str) -> Result<(), Diagnostic> {
        if text.len() > LIMIT { Err(self.too_long()) } else { Ok(()) }
    }

    fn too_long(&self) -> Diagnostic {
        self.error(0..self.word.value.len(), format!("expands to more than {} MiB", LIMIT >> 20))
    }
}
