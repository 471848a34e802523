//! From the text of a Containerfile to typed instructions, each with its place. No I/O.
//!
//! [`Containerfile::parse`] reads the whole language of the Dockerfile reference, also what this builder does
//! not carry out: to refuse a `RUN` is the planner's work. [`Expander`] puts variables into words later, when
//! their values are known. Errors are [`Diagnostic`]s that name file, line and column.
//!
//! ```
//! use crossdock_builder::containerfile::{Containerfile, CopySource, Expander, Instruction};
//!
//! let file = Containerfile::parse("Containerfile", b"FROM scratch\nCOPY ${model:-m.bin} /models/\n")?;
//! let Instruction::Copy(copy) = &file.stages[0].instructions[0].value else { unreachable!() };
//! let CopySource::Path(path) = &copy.sources[0] else { unreachable!() };
//! let unset = |_: &str| None;
//! let expander = Expander::new(&file.source, file.directives.escape, &unset);
//! assert_eq!(expander.word(path)?.value, "m.bin");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod arguments;
mod duration;
mod error;
mod expand;
mod flags;
mod healthcheck;
mod heredoc;
mod instruction;
mod lexer;
mod line;
mod parser;
mod pattern;
mod source;
mod words;

#[cfg(test)]
mod tests;

pub use self::duration::{DurationError, parse_duration};
pub use self::error::{Diagnostic, ParseError};
pub use self::expand::{Expanded, Expander};
pub use self::instruction::{
    AddInstruction, ArgDeclaration, CommandForm, Containerfile, CopyInstruction, CopySource, Directives,
    FromInstruction, Healthcheck, HealthcheckInstruction, Heredoc, Instruction, KeyValue, OnbuildInstruction,
    RunInstruction, Stage,
};
pub use self::parser::Trigger;
pub use self::source::{Position, Source, Span, Spanned};
