//! From the text of a Containerfile to typed instructions, each with its place. No I/O.
//!
//! [`Containerfile::parse`] reads the whole language of the Dockerfile reference, also what this builder does
//! not carry out: to refuse a `RUN` is the planner's work. [`Expander`] puts variables into words later, when
//! their values are known. Errors are [`Diagnostic`]s that name file, line and column.

mod error;
mod expand;
mod instruction;
mod parser;
mod source;

pub use self::error::{Diagnostic, ParseError};
pub use self::expand::{Expanded, Expander};
pub use self::instruction::{
    AddInstruction, ArgDeclaration, CommandForm, Containerfile, CopyInstruction, CopySource, Directives,
    FromInstruction, Healthcheck, HealthcheckInstruction, Heredoc, Instruction, KeyValue, OnbuildInstruction,
    RunInstruction, Stage,
};
pub use self::parser::Trigger;
pub use self::source::{Position, Source, Span, Spanned};
