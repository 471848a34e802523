//! The words of a template as what is to be done.

use super::lex::{Piece, Token, Word, pieces};
use super::{Failure, functions};
use crate::template::value::Value;

/// A part of a template.
#[derive(Debug, Clone)]
pub(super) enum Node {
    Text(String),
    Show(Pipeline),
    Branch { how: Branch, on: Pipeline, body: Vec<Node>, otherwise: Vec<Node> },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Branch {
    If,
    With,
    Range,
}

/// `$a, $b := f x | g`: each command gets the value of the one before as its last argument.
#[derive(Debug, Clone)]
pub(super) struct Pipeline {
    pub(super) at: usize,
    /// The variables that get the value.
    pub(super) variables: Vec<String>,
    /// Whether they are new.
    pub(super) declares: bool,
    pub(super) commands: Vec<Command>,
}

/// A function with its arguments, or one operand.
#[derive(Debug, Clone)]
pub(super) struct Command {
    pub(super) at: usize,
    pub(super) function: Option<String>,
    pub(super) operands: Vec<Operand>,
}

/// A value, and the fields that are followed from it, each with its place.
#[derive(Debug, Clone)]
pub(super) struct Operand {
    pub(super) term: Term,
    pub(super) fields: Vec<(usize, String)>,
}

#[derive(Debug, Clone)]
pub(super) enum Term {
    Dot,
    Variable(usize, String),
    Constant(Value),
    Nested(Box<Pipeline>),
}

/// Why a list of nodes ends.
enum Stop {
    Text,
    End,
    /// With what stands behind it: `if ...`, or nothing.
    Else(usize, Vec<Token>),
}

/// Reads a template.
pub(super) fn parse(text: &str) -> Result<Vec<Node>, Failure> {
    let mut pieces = pieces(text)?.into_iter();
    let (nodes, end, at) = nodes(&mut pieces)?;
    match end {
        Stop::Text => Ok(nodes),
        Stop::End => Err(Failure::new(at, "{{end}} ends nothing here")),
        Stop::Else(..) => Err(Failure::new(at, "{{else}} stands in no {{if}}, {{with}} or {{range}}")),
    }
}

type Pieces = std::vec::IntoIter<Piece>;

fn nodes(pieces: &mut Pieces) -> Result<(Vec<Node>, Stop, usize), Failure> {
    let mut nodes = Vec::new();
    while let Some(piece) = pieces.next() {
        let (at, tokens) = match piece {
            Piece::Text(text) => {
                nodes.push(Node::Text(text));
                continue;
            }
            Piece::Action(at, tokens) => (at, tokens),
        };
        let keyword = match tokens.first() {
            Some(Token { word: Word::Name(name), .. }) => name.as_str(),
            Some(_) => "",
            None => return Err(Failure::new(at, "there is nothing between {{ and }}")),
        };
        let how = match keyword {
            "if" => Branch::If,
            "with" => Branch::With,
            "range" => Branch::Range,
            "end" if tokens.len() == 1 => return Ok((nodes, Stop::End, at)),
            "else" => return Ok((nodes, Stop::Else(at, tokens[1..].to_vec()), at)),
            "end" => return Err(Failure::new(tokens[1].at, "nothing stands behind end")),
            "define" | "template" | "block" | "break" | "continue" => {
                return Err(Failure::new(at, format!("{{{{{keyword}}}}} is not supported")));
            }
            _ => {
                nodes.push(Node::Show(Words::new(at, &tokens).pipeline()?));
                continue;
            }
        };
        nodes.push(branch(pieces, how, at, &tokens[1..])?);
    }
    Ok((nodes, Stop::Text, 0))
}

fn branch(pieces: &mut Pieces, how: Branch, at: usize, tokens: &[Token]) -> Result<Node, Failure> {
    let on = Words::new(at, tokens).pipeline()?;
    if on.variables.len() == 2 && how != Branch::Range {
        return Err(Failure::new(at, "two variables get a value in {{range}} only"));
    }
    let missing = || Failure::new(at, "there is no {{end}} to this");
    let (body, end, _) = nodes(pieces)?;
    let otherwise = match end {
        Stop::Text => return Err(missing()),
        Stop::End => Vec::new(),
        Stop::Else(_, words) if words.is_empty() => match nodes(pieces)? {
            (otherwise, Stop::End, _) => otherwise,
            (_, Stop::Text, _) => return Err(missing()),
            (_, Stop::Else(again, _), _) => return Err(Failure::new(again, "a second {{else}}")),
        },
        // `{{else if x}}` is an if in the else, and ends with it.
        Stop::Else(again, words) => {
            let same = match (&words[0].word, how) {
                (Word::Name(name), Branch::If) => name == "if",
                (Word::Name(name), Branch::With) => name == "with",
                _ => false,
            };
            if !same {
                return Err(Failure::new(words[0].at, "this cannot stand behind else"));
            }
            vec![branch(pieces, how, again, &words[1..])?]
        }
    };
    Ok(Node::Branch { how, on, body, otherwise })
}

/// The words of one action, as they are read.
struct Words<'a> {
    at: usize,
    tokens: &'a [Token],
}

impl<'a> Words<'a> {
    const fn new(at: usize, tokens: &'a [Token]) -> Self {
        Self { at, tokens }
    }

    /// All that is left is one pipeline.
    fn pipeline(&mut self) -> Result<Pipeline, Failure> {
        let pipeline = self.pipeline_until(false)?;
        match self.tokens.first() {
            None => Ok(pipeline),
            Some(token) => Err(Failure::new(token.at, "this is one ) too many")),
        }
    }

    fn pipeline_until(&mut self, nested: bool) -> Result<Pipeline, Failure> {
        let at = self.tokens.first().map_or(self.at, |token| token.at);
        let (variables, declares) = self.variables();
        let mut commands = vec![self.command()?];
        while self.takes("|") {
            commands.push(self.command()?);
        }
        if nested && !self.takes(")") {
            return Err(Failure::new(at, "a ) is missing"));
        }
        Ok(Pipeline { at, variables, declares, commands })
    }

    /// `$a :=`, `$a, $b :=`, `$a =`.
    fn variables(&mut self) -> (Vec<String>, bool) {
        let words: Vec<_> = self.tokens.iter().take(4).map(|token| &token.word).collect();
        let (names, sign, length) = match words.as_slice() {
            [Word::Variable(a), Word::Sign(sign @ (":=" | "=")), ..] => (vec![a.clone()], *sign, 2),
            [Word::Variable(a), Word::Sign(","), Word::Variable(b), Word::Sign(sign @ (":=" | "="))] => {
                (vec![a.clone(), b.clone()], *sign, 4)
            }
            _ => return (Vec::new(), false),
        };
        self.tokens = &self.tokens[length..];
        (names, sign == ":=")
    }

    fn command(&mut self) -> Result<Command, Failure> {
        let at = self.tokens.first().map_or(self.at, |token| token.at);
        let mut function = None;
        if let Some(Token { word: Word::Name(name), at, .. }) = self.tokens.first()
            && !is_constant(name)
        {
            functions::known(name).map_err(|reason| Failure::new(*at, reason))?;
            function = Some(name.clone());
            self.tokens = &self.tokens[1..];
        }
        let mut operands = Vec::new();
        while let Some(operand) = self.operand()? {
            operands.push(operand);
        }
        if function.is_none() && operands.is_empty() {
            return Err(Failure::new(at, "a value is missing here"));
        }
        if function.is_none() && operands.len() > 1 {
            return Err(Failure::new(at, "this is no function, and takes no arguments"));
        }
        Ok(Command { at, function, operands })
    }

    fn operand(&mut self) -> Result<Option<Operand>, Failure> {
        let Some((token, rest)) = self.tokens.split_first() else { return Ok(None) };
        let mut fields = Vec::new();
        let term = match &token.word {
            Word::Sign("(") => {
                self.at = token.at;
                self.tokens = rest;
                let nested = self.pipeline_until(true)?;
                Term::Nested(Box::new(nested))
            }
            Word::Sign("|" | ")") => return Ok(None),
            Word::Sign(sign) => return Err(Failure::new(token.at, format!("{sign} has no meaning here"))),
            Word::Dot => Term::Dot,
            Word::Field(name) => {
                fields.push((token.at, name.clone()));
                Term::Dot
            }
            Word::Variable(name) => Term::Variable(token.at, name.clone()),
            Word::Text(text) => Term::Constant(Value::Text(text.clone())),
            Word::Number(number) => Term::Constant(Value::Int(*number)),
            Word::Name(name) => match name.as_str() {
                "true" | "false" => Term::Constant(Value::Bool(name == "true")),
                "nil" => Term::Constant(Value::Nil),
                _ => {
                    functions::known(name).map_err(|reason| Failure::new(token.at, reason))?;
                    let reason = format!("the function {name} as an argument stands in ( )");
                    return Err(Failure::new(token.at, reason));
                }
            },
        };
        if !matches!(term, Term::Nested(_)) {
            self.tokens = rest;
        }
        while let Some((Token { at, glued: true, word: Word::Field(name) }, rest)) = self.tokens.split_first()
        {
            fields.push((*at, name.clone()));
            self.tokens = rest;
        }
        Ok(Some(Operand { term, fields }))
    }

    fn takes(&mut self, sign: &str) -> bool {
        match self.tokens.split_first() {
            Some((Token { word: Word::Sign(found), .. }, rest)) if *found == sign => {
                self.tokens = rest;
                true
            }
            _ => false,
        }
    }
}

fn is_constant(name: &str) -> bool {
    ["true", "false", "nil"].contains(&name)
}
