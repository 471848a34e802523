#![forbid(unsafe_code)]
//! From a Containerfile and its context to an image: parsing and planning.
//!
//! [`Containerfile::parse`] reads the text; [`check`] refuses what is not carried out; [`plan`] evaluates the
//! stages that the target needs, against a [`Context`] that nothing leads out of, into a [`PlannedImage`]: the base,
//! the entries of each new layer, and the config. Of files no more is read for it than the headers of weights ([`model`]).

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
pub mod model;
mod modelcar;
mod origin;
mod part;
mod pattern;
mod plan;
mod run_hints;
mod scope;
mod size;
mod stage_files;
mod stage_names;
mod tree;
mod trust;

pub use annotations::AnnotationOptions;
pub use assemble::{
    Assembled, AssembledIndex, Assembly, Conversion, LayerKeys, Listed, Sealed, assemble, assemble_index,
    send, send_index, send_index_alone, warnings,
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
pub use model::{Finding, ModelReport, Rule, Severity};
pub use modelcar::{Modelcar, ModelcarOptions};
pub use part::{AssembledPart, LayerName, Part, Shares, assemble_part, layers_of};
pub use plan::{
    BaseResolver, BuildContext, Downloads, PlanOptions, PlannedBase, PlannedImage, PlannedLayer,
    PlannedStage, PlannedStep, TreeOf, Warning, base_references, check, plan,
};
pub use tree::{Directory, FileNode, FileTree, Lookup, LookupError, Node, NodeKind, State};
pub use trust::{Trust, Trusted};
