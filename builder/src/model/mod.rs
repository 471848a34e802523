//! The model check: what a directory of weights must be, seen by the headers of its files.
//!
//! It looks at the image as it will be: what ignore files and `--exclude` leave out is not there, what `COPY` of a stage brings
//! is. The files of the base are taken as they are. At most [`MOST`] bytes of a file are read, by `pread(2)`, and nothing of
//! what would have to be decoded or fetched; docs/models.md lists every rule with an example.
//!
//! The readers of headers take any bytes, for those of a file may be a stranger's: tests and a fuzz target hold them to that.

mod check;
mod files;
mod finding;
pub mod gguf;
pub mod index;
mod look;
mod numbered;
mod pointer;
pub mod safetensors;
mod twice;

pub(crate) use self::check::{Brought, check};
pub use self::finding::{Finding, ModelReport, Rule, Severity};
pub use self::look::{Fault, Look, MOST, Seen};
pub use self::pointer::{Pointer, is_pickle, pointer};
