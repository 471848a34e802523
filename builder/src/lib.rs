#![forbid(unsafe_code)]
//! From a Containerfile and its context to an image: parsing and planning.
//!
//! [`Containerfile::parse`] reads the text; [`check`] refuses what is not carried out; [`plan`] evaluates the
//! stages that the target needs, against a [`Context`] that nothing leads out of, into a [`PlannedImage`]: the base,
//! the entries of each new layer, and the config. No file's bytes are read for it.

pub mod containerfile;

mod annotations;
mod assemble;
mod base;
mod check;
mod context;
mod error;
mod eval;
mod foresee;
mod ignore;
mod known;
mod lanes;
mod layers;
mod media;
mod modelcar;
mod origin;
mod pattern;
mod plan;
mod run_hints;
mod scope;
mod stage_files;
mod stage_names;
mod tree;

pub use annotations::AnnotationOptions;
pub use assemble::{
    Assembled, AssembledIndex, Assembly, Conversion, Listed, Sealed, assemble, assemble_index, send,
    send_index, send_index_alone,
};
pub use base::{Ahead, base_tree};
pub use containerfile::{Containerfile, Diagnostic, ParseError};
pub use context::{Context, OwnPaths};
pub use error::Error;
pub use foresee::{ForeseenLayer, foresee};
pub use ignore::IgnoreFile;
pub use lanes::{AssembleOptions, AssembledLayer, AssemblyLayer, LayerContent};
pub use layers::{LayerOptions, to_assembly};
pub use media::describe_index;
pub use modelcar::{Modelcar, ModelcarOptions};
pub use plan::{
    BaseResolver, BuildContext, PlanOptions, PlannedBase, PlannedImage, PlannedLayer, PlannedStage,
    PlannedStep, TreeOf, Warning, base_references, check, plan,
};
pub use tree::{Directory, FileNode, FileTree, Lookup, LookupError, Node, NodeKind, State};
