//! The text of a template as texts and the words of its actions.

use super::Failure;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Piece {
    Text(String),
    /// What stands between `{{` and `}}`, and where it begins.
    Action(usize, Vec<Token>),
}

/// A word of an action.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Token {
    /// Its first byte in the template.
    pub(super) at: usize,
    /// Whether it follows the word before without a space: `.A.B` is a chain, `.A .B` are two words.
    pub(super) glued: bool,
    pub(super) word: Word,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Word {
    /// A keyword or the name of a function.
    Name(String),
    /// `.Name`, without the dot.
    Field(String),
    /// `.`
    Dot,
    /// `$name`, or `$` alone.
    Variable(String),
    Text(String),
    Number(i64),
    /// `|`, `(`, `)`, `,`, `=` and `:=`.
    Sign(&'static str),
}

const SIGNS: [&str; 6] = [":=", "=", "|", "(", ")", ","];

/// Cuts a template into its pieces; `{{-` and `-}}` take the white space before and after them away.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, Failure> {
    let mut pieces = Vec::new();
    let mut at = 0;
    let mut trim = false;
    loop {
        let open = text[at..].find("{{").map(|found| at + found);
        let mut plain = &text[at..open.unwrap_or(text.len())];
        if trim {
            plain = plain.trim_start();
        }
        let Some(open) = open else {
            push_text(&mut pieces, plain);
            return Ok(pieces);
        };
        let mut inside = open + 2;
        if text[inside..].starts_with("- ")
            || text[inside..].starts_with("-\n")
            || text[inside..].starts_with("-\t")
        {
            inside += 1;
            plain = plain.trim_end();
        }
        push_text(&mut pieces, plain);
        let comment = text[inside..].trim_start();
        let (tokens, end) = if comment.starts_with("/*") {
            let start = text.len() - comment.len();
            let end = comment.find("*/").ok_or(Failure::new(open, "the comment does not end"))?;
            (Vec::new(), start + end + 2)
        } else {
            tokens(text, inside)?
        };
        let rest = &text[end..];
        let after = rest.trim_start();
        (trim, at) = if after.len() < rest.len() && after.starts_with("-}}") {
            (true, text.len() - after.len() + 3)
        } else if after.starts_with("}}") {
            (false, text.len() - after.len() + 2)
        } else {
            return Err(Failure::new(open, "the action does not end: }} is missing"));
        };
        if !comment.starts_with("/*") {
            pieces.push(Piece::Action(open, tokens));
        }
    }
}

fn push_text(pieces: &mut Vec<Piece>, text: &str) {
    if !text.is_empty() {
        pieces.push(Piece::Text(text.to_owned()));
    }
}

/// The words from `start` on, and where the last one ends.
fn tokens(text: &str, start: usize) -> Result<(Vec<Token>, usize), Failure> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = start;
    loop {
        let rest = &text[at..];
        let trimmed = rest.trim_start();
        let spaced = trimmed.len() < rest.len();
        if trimmed.is_empty() || trimmed.starts_with("}}") || (spaced && trimmed.starts_with("-}}")) {
            return Ok((tokens, at));
        }
        at += rest.len() - trimmed.len();
        let (word, length) = word(trimmed).map_err(|reason| Failure::new(at, reason))?;
        tokens.push(Token { at, glued: !spaced && !tokens.is_empty(), word });
        at += length;
    }
}

/// The first word of a text, and its length.
fn word(text: &str) -> Result<(Word, usize), String> {
    let name = |from: usize| {
        let rest = &text[from..];
        rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
    };
    if let Some(sign) = SIGNS.iter().find(|sign| text.starts_with(**sign)) {
        return Ok((Word::Sign(sign), sign.len()));
    }
    let first = text.chars().next().unwrap_or_default();
    match first {
        '.' => Ok(match name(1) {
            0 => (Word::Dot, 1),
            length => (Word::Field(text[1..=length].to_owned()), 1 + length),
        }),
        '$' => {
            let length = 1 + name(1);
            Ok((Word::Variable(text[..length].to_owned()), length))
        }
        '"' => quoted(text),
        '`' => match text[1..].find('`') {
            Some(end) => Ok((Word::Text(text[1..=end].to_owned()), end + 2)),
            None => Err("the text in ` does not end".to_owned()),
        },
        '-' | '+' | '0'..='9' => {
            let digits = if first.is_ascii_digit() { 0 } else { 1 };
            let length = digits + name(digits);
            match text[..length].parse() {
                Ok(number) if !text[length..].starts_with('.') => Ok((Word::Number(number), length)),
                _ => Err(format!("{:?} is no number that is known here: whole ones are", &text[..length])),
            }
        }
        _ if first.is_alphabetic() || first == '_' => {
            let length = name(0);
            Ok((Word::Name(text[..length].to_owned()), length))
        }
        _ => Err(format!("{first:?} has no meaning here")),
    }
}

/// A text in double quotes.
fn quoted(text: &str) -> Result<(Word, usize), String> {
    let mut value = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((Word::Text(value), at + 1)),
            '\n' => break,
            '\\' => value.push(match chars.next() {
                Some((_, 'n')) => '\n',
                Some((_, 't')) => '\t',
                Some((_, 'r')) => '\r',
                Some((_, c @ ('\\' | '"'))) => c,
                other => return Err(format!("\\{} is not known in a text", other.map_or(' ', |(_, c)| c))),
            }),
            c => value.push(c),
        }
    }
    Err("the text in \" does not end".to_owned())
}
