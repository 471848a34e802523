//! What COPY and ADD bring into an image that is most likely not meant to be there, or not as it is: what a clone or a
//! download left beside the files, files that no pod may read, and symlinks that lead nowhere. Only what the built image
//! really has is told of, so it is looked at when the target is done.

mod links;
mod readable;

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use crossdock_storage::LayerPath;

use super::Built;
use crate::containerfile::{Diagnostic, Source, Span};
use crate::layers::{LEFTOVERS, Leftover};
use crate::model::Brought;
use crate::plan::{Downloads, Warning};
use crate::size::size;
use crate::tree::{FileTree, Node, NodeKind};

/// Of so many paths one message has the names.
pub(super) const MAX_NAMED: usize = 3;

/// A COPY or ADD that made a layer.
#[derive(Debug, Clone)]
pub(super) struct Added {
    /// Its layer, as an index into those of its stage.
    pub(super) layer: usize,
    pub(super) source: Arc<Source>,
    pub(super) span: Span,
    pub(super) keyword: &'static str,
    /// The directory that it copied into.
    pub(super) into: Option<LayerPath>,
    /// The names of what its sources name.
    pub(super) named: Vec<String>,
    pub(super) modes: Modes,
    pub(super) ignore: Ignore,
    /// Whether `--follow-links` would have copied what its symlinks point to.
    pub(super) follow: bool,
}

/// Where the modes of what was added are from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Modes {
    /// From the files, changed by this `--chmod` if there is one.
    Files(Option<String>),
    /// The Containerfile says what they are, by this octal `--chmod`.
    Written(String),
    /// An archive's, which `--chmod` does not change.
    Archive,
}

/// How something can be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ignore {
    /// By a line of this file.
    File(String),
    /// By `--exclude`.
    Exclude,
    /// Not here.
    No,
}

/// The warnings for a built target.
pub(super) fn warnings(built: &Built, downloads: Downloads) -> Vec<Warning> {
    let readers = readable::readers(built);
    let mut warnings = Vec::new();
    for added in &built.added {
        let Some(layer) = built.layers.get(added.layer) else { continue };
        let found = leftovers(added, &layer.files, downloads);
        let found = found.into_iter().filter_map(|found| found.told(added));
        let unreadable = readable::unreadable(built, added, &layer.files, &readers);
        let dangling = links::dangling(built, added, &layer.files);
        for (message, help) in found.chain(unreadable).chain(dangling) {
            let diagnostic = Diagnostic::new(&added.source, added.span, message).with_help(help);
            warnings.push(Warning::At(diagnostic));
        }
    }
    warnings
}

/// What the target's instructions have brought into the image.
pub(super) fn brought(built: &Built) -> Vec<Brought<'_>> {
    let brought = built.added.iter().filter_map(|added| {
        Some(Brought {
            keyword: added.keyword,
            source: &added.source,
            span: added.span,
            into: added.into.as_ref(),
            excludes: added.ignore != Ignore::No || !matches!(added.modes, Modes::Archive),
            files: &built.layers.get(added.layer)?.files,
        })
    });
    brought.collect()
}

/// What an instruction added that lies in directories of one kind of leftovers.
struct Leftovers {
    kind: &'static Leftover,
    tops: Vec<LayerPath>,
    files: u64,
    bytes: u64,
    /// The lengths of files that may have another name, by what their names share.
    named_twice: HashMap<usize, u64>,
}

/// Paths of which some are named.
#[derive(Default)]
struct Paths {
    first: Vec<LayerPath>,
    count: usize,
}

/// What of the files that an instruction added is left over, of each kind.
fn leftovers(added: &Added, files: &FileTree, downloads: Downloads) -> Vec<Leftovers> {
    let mut leftovers: Vec<Leftovers> = LEFTOVERS.iter().map(Leftovers::none).collect();
    leftovers.retain(|found| {
        let asked_for = downloads == Downloads::Keep && found.kind.name == ".cache";
        !asked_for && !added.named.iter().any(|name| name == found.kind.name) && added.ignore != Ignore::No
    });
    let Some(into) = &added.into else { return Vec::new() };
    if leftovers.is_empty() {
        return leftovers;
    }
    files.visit(&mut |path, node| {
        for found in &mut leftovers {
            if let Some(top) = found.kind.top(path, into) {
                found.take(top, node);
            }
        }
    });
    // A file whose other names are not left over would be in the image without these, too.
    if leftovers.iter().any(|found| !found.named_twice.is_empty()) {
        files.visit(&mut |path, node| {
            let NodeKind::File(file) = &node.kind else { return };
            for found in leftovers.iter_mut().filter(|found| found.kind.top(path, into).is_none()) {
                found.named_twice.remove(&file.id().0);
            }
        });
    }
    leftovers
}

impl Leftovers {
    fn none(kind: &'static Leftover) -> Self {
        Self { kind, tops: Vec::new(), files: 0, bytes: 0, named_twice: HashMap::new() }
    }

    fn take(&mut self, top: LayerPath, node: &Node) {
        if self.tops.last() != Some(&top) {
            self.tops.push(top);
        }
        match &node.kind {
            NodeKind::Directory(_) => {}
            NodeKind::File(file) => {
                self.files += 1;
                let len = file.content().map_or(0, |content| content.len());
                match file.id() {
                    (id, true) => drop(self.named_twice.insert(id, len)),
                    (_, false) => self.bytes += len,
                }
            }
            NodeKind::Symlink(_) | NodeKind::Special(_) => self.files += 1,
        }
    }

    /// What is said of it, and how to leave it out.
    fn told(self, added: &Added) -> Option<(String, String)> {
        let mut tops = Paths::default();
        self.tops.iter().for_each(|top| tops.add(top));
        if tops.count == 0 {
            return None;
        }
        let bytes = self.bytes + self.named_twice.values().sum::<u64>();
        let (what, name) = (self.kind.what, self.kind.name);
        let message = format!(
            "{} takes {what} into the image: {tops}, {} of {}",
            added.keyword,
            count(self.files, "file"),
            size(bytes)
        );
        let help = match &added.ignore {
            Ignore::File(file) => format!("add the line **/{name} to {file}"),
            Ignore::Exclude | Ignore::No => format!("write {} --exclude=**/{name}", added.keyword),
        };
        Some((message, help))
    }
}

impl Paths {
    fn add(&mut self, path: &LayerPath) {
        self.count += 1;
        if self.first.len() < MAX_NAMED {
            self.first.push(path.clone());
        }
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, path) in self.first.iter().enumerate() {
            let comma = if at > 0 { ", " } else { "" };
            write!(f, "{comma}{path}")?;
        }
        match self.count - self.first.len() {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

pub(super) fn count(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}
