//! What the look at a model has found, and how it is told.

use std::fmt;

use crossdock_storage::LayerPath;
use serde::Serialize;

use crate::containerfile::Diagnostic;

/// Of so many paths one message has the names.
pub(super) const MAX_NAMED: usize = 3;

/// What is looked for: docs/models.md has an example of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Rule {
    /// A pointer of Git LFS in the place of the file.
    LfsPointer,
    /// A safetensors file that cannot be whole.
    Safetensors,
    /// An index whose shard, or whose tensor, is not there.
    Index,
    /// Some of several numbered files are not there.
    Shards,
    /// A GGUF file that cannot be whole.
    Gguf,
    /// The same weights in two forms.
    Twice,
    /// Weights without a config.json beside them.
    Config,
    /// Files without a byte beside weights.
    Empty,
    /// A file that loads by running a program in it.
    Pickle,
    /// Large files that share layers, as an image has no more.
    Layers,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The model cannot be loaded.
    Broken,
    /// It can, but something is most likely not as it was meant.
    Wasteful,
    /// Worth knowing.
    Note,
}

/// Something that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// By which rule.
    pub rule: Rule,
    /// How bad it is.
    pub severity: Severity,
    /// The files, or directories, as they are in the image: all of them.
    pub paths: Vec<LayerPath>,
    /// What was found, with what was expected.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Bytes that need not be in the image.
    pub bytes: Option<u64>,
    /// The same at the place of the instruction that brought the file, where one did.
    pub(super) diagnostic: Option<Diagnostic>,
}

impl Finding {
    /// Something that is worth knowing of the image as a whole.
    #[must_use]
    pub fn note(rule: Rule, message: impl Into<String>, help: impl Into<String>) -> Self {
        let (message, help, paths) = (message.into(), help.into(), Vec::new());
        Self { rule, severity: Severity::Note, paths, message, help, bytes: None, diagnostic: None }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.diagnostic {
            Some(diagnostic) => diagnostic.fmt(f),
            None => write!(f, "{}, {}", self.message, self.help),
        }
    }
}

/// What came of the look at the models of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelReport {
    /// Sorted by severity, then by path.
    pub findings: Vec<Finding>,
    /// How many files were looked into.
    pub files: usize,
    /// Bytes that were read for it.
    pub bytes_read: u64,
}

/// `1 file`, or `2 files`.
pub(super) fn count(count: usize, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

/// `is`, or `are` of several.
pub(super) fn are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// The first of some names, and how many more there are.
pub(super) fn named<T: fmt::Display>(names: impl IntoIterator<Item = T>) -> String {
    let mut names = names.into_iter();
    let first: Vec<_> = names.by_ref().take(MAX_NAMED).map(|name| name.to_string()).collect();
    match names.count() {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}
