//! Go's text/template, as far as `--format` of buildah, podman and docker is used in scripts: fields, `if`, `with`,
//! `range`, variables, pipelines, and the functions that [`functions`] has. What is not known is refused, with its
//! place. There is no crate for it that is kept: gtmpl was last released in 2021.

use std::fmt;

mod functions;
mod lex;
mod parse;
mod value;

use parse::{Branch, Command, Node, Operand, Pipeline, Term, parse};
pub(crate) use value::{Empty, Field, Member, Shape, Value};

/// A template that was read, and not carried out yet.
#[derive(Debug, Clone)]
pub(crate) struct Template {
    text: String,
    nodes: Vec<Node>,
}

/// What is wrong with a template, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TemplateError {
    /// From 1.
    line: usize,
    /// From 1, in characters.
    column: usize,
    reason: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "template:{}:{}: {}", self.line, self.column, self.reason)
    }
}

impl std::error::Error for TemplateError {}

/// As [`TemplateError`], with the place as an offset into the text.
#[derive(Debug)]
struct Failure {
    at: usize,
    reason: String,
}

impl Failure {
    fn new(at: usize, reason: impl Into<String>) -> Self {
        Self { at, reason: reason.into() }
    }

    fn located(self, text: &str) -> TemplateError {
        let before = &text[..self.at.min(text.len())];
        let line = before.rsplit('\n').next().unwrap_or(before);
        TemplateError {
            line: before.matches('\n').count() + 1,
            column: line.chars().count() + 1,
            reason: self.reason,
        }
    }
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, TemplateError> {
        let nodes = parse(text).map_err(|failure| failure.located(text))?;
        Ok(Self { text: text.to_owned(), nodes })
    }

    /// Carries it out.
    ///
    /// # Errors
    /// A field that is not there, or a value that cannot be used as it is.
    pub(crate) fn render(&self, data: &Value) -> Result<String, TemplateError> {
        let mut run = Run { out: String::new(), variables: vec![("$".to_owned(), data.clone())] };
        run.nodes(&self.nodes, data).map_err(|failure| failure.located(&self.text))?;
        Ok(run.out)
    }

    /// The same with the texts between its actions changed.
    #[must_use]
    pub(crate) fn map_text(mut self, change: &impl Fn(&str) -> String) -> Self {
        fn apply(nodes: &mut [Node], change: &impl Fn(&str) -> String) {
            for node in nodes {
                match node {
                    Node::Text(text) => *text = change(text),
                    Node::Show(_) => {}
                    Node::Branch { body, otherwise, .. } => {
                        apply(body, change);
                        apply(otherwise, change);
                    }
                }
            }
        }
        apply(&mut self.nodes, change);
        self
    }
}

/// A template as it is carried out.
struct Run {
    out: String,
    /// The latest last.
    variables: Vec<(String, Value)>,
}

impl Run {
    fn nodes(&mut self, nodes: &[Node], dot: &Value) -> Result<(), Failure> {
        for node in nodes {
            match node {
                Node::Text(text) => self.out.push_str(text),
                Node::Show(pipeline) => {
                    let value = self.pipeline(pipeline, dot)?;
                    if !pipeline.variables.is_empty() {
                        self.assign(pipeline, &[value])?;
                    } else {
                        self.out.push_str(&value.to_string());
                    }
                }
                Node::Branch { how, on, body, otherwise } => {
                    let known = self.variables.len();
                    let value = self.pipeline(on, dot)?;
                    if *how == Branch::Range {
                        self.range(on, value, body, otherwise, dot)?;
                    } else {
                        let taken = value.is_true();
                        let dot = if *how == Branch::With && taken { &value } else { dot };
                        if !on.variables.is_empty() {
                            self.assign(on, std::slice::from_ref(&value))?;
                        }
                        self.nodes(if taken { body } else { otherwise }, dot)?;
                    }
                    self.variables.truncate(known);
                }
            }
        }
        Ok(())
    }

    fn range(
        &mut self,
        on: &Pipeline,
        value: Value,
        body: &[Node],
        otherwise: &[Node],
        dot: &Value,
    ) -> Result<(), Failure> {
        let items: Vec<(Value, Value)> = match value {
            Value::Nil | Value::Missing => Vec::new(),
            Value::List(items) => (0..).map(Value::Int).zip(items).collect(),
            Value::Map(items) => items.into_iter().map(|(key, item)| (Value::Text(key), item)).collect(),
            other => return Err(Failure::new(on.at, format!("range cannot go through {}", other.kind()))),
        };
        if items.is_empty() {
            return self.nodes(otherwise, dot);
        }
        let known = self.variables.len();
        for (key, item) in items {
            match on.variables.len() {
                0 => {}
                1 => self.assign(on, std::slice::from_ref(&item))?,
                _ => self.assign(on, &[key, item.clone()])?,
            }
            self.nodes(body, &item)?;
            self.variables.truncate(known);
        }
        Ok(())
    }

    fn assign(&mut self, pipeline: &Pipeline, values: &[Value]) -> Result<(), Failure> {
        if pipeline.variables.len() != values.len() {
            return Err(Failure::new(pipeline.at, "two variables get a value in {{range}} only"));
        }
        for (name, value) in pipeline.variables.iter().zip(values) {
            if pipeline.declares {
                self.variables.push((name.clone(), value.clone()));
                continue;
            }
            match self.variables.iter_mut().rev().find(|(known, _)| known == name) {
                Some((_, old)) => *old = value.clone(),
                None => return Err(Failure::new(pipeline.at, format!("there is no variable {name}"))),
            }
        }
        Ok(())
    }

    fn pipeline(&self, pipeline: &Pipeline, dot: &Value) -> Result<Value, Failure> {
        let mut last = None;
        for command in &pipeline.commands {
            last = Some(self.command(command, dot, last)?);
        }
        Ok(last.unwrap_or(Value::Nil))
    }

    fn command(&self, command: &Command, dot: &Value, last: Option<Value>) -> Result<Value, Failure> {
        let Some(function) = &command.function else {
            if last.is_some() {
                return Err(Failure::new(command.at, "this is no function, and takes no arguments"));
            }
            return self.operand(&command.operands[0], dot);
        };
        let lazy = match function.as_str() {
            "and" => Some(false),
            "or" => Some(true),
            _ => None,
        };
        let mut args = Vec::new();
        for operand in &command.operands {
            let value = self.operand(operand, dot)?;
            if lazy == Some(value.is_true()) {
                return Ok(value);
            }
            args.push(value);
        }
        args.extend(last);
        if lazy.is_some() {
            // The one that decides, or else the last.
            return match args.pop() {
                Some(value) => Ok(value),
                None => Err(Failure::new(command.at, format!("{function} needs a value"))),
            };
        }
        functions::call(function, &args).map_err(|reason| Failure::new(command.at, reason))
    }

    fn operand(&self, operand: &Operand, dot: &Value) -> Result<Value, Failure> {
        let mut value = match &operand.term {
            Term::Dot => dot.clone(),
            Term::Constant(value) => value.clone(),
            Term::Nested(pipeline) => self.pipeline(pipeline, dot)?,
            Term::Variable(at, name) => match self.variables.iter().rev().find(|(known, _)| known == name) {
                Some((_, value)) => value.clone(),
                None => return Err(Failure::new(*at, format!("there is no variable {name}"))),
            },
        };
        for (at, name) in &operand.fields {
            value = field(value, name).map_err(|reason| Failure::new(*at, reason))?;
        }
        Ok(value)
    }
}

fn field(value: Value, name: &str) -> Result<Value, String> {
    match value {
        Value::Struct(fields) => {
            let names: Vec<_> = fields.iter().map(|field| field.name).collect();
            match names.iter().position(|known| *known == name) {
                Some(at) => Ok(fields.into_iter().nth(at).map_or(Value::Nil, |field| field.value)),
                None => Err(format!("there is no field .{name} here: there are {}", names.join(", "))),
            }
        }
        Value::Map(mut items) => Ok(items.remove(name).unwrap_or(Value::Missing)),
        other => Err(format!("there is no field .{name} in {}", other.kind())),
    }
}

#[cfg(test)]
mod tests;
