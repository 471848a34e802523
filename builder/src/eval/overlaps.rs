//! Paths that several sources of one instruction land on: the later one wins, and whoever wrote the instruction is told of
//! both. `COPY models/* /models/` is how it happens, where `models/inference` has a `config.json` too.
//!
//! Nothing is kept of the sources of a file. Only where there is an overlap are they gone through once more, for the names.

use crossdock_storage::{IndexKind, LayerPath};

use super::Stage;
use super::copy::{Request, Resolved, inside};
use super::destination::{Target, split};
use crate::ignore::IgnoreFile;
use crate::origin::{ItemKind, Origin, join, shown};
use crate::tree::{FileTree, Node, NodeKind, State, layer_path};

/// Of so many overlaps the names are told.
const MAX_NAMED: usize = 10;

/// Overlaps as they are noticed.
#[derive(Debug, Default)]
pub(super) struct Overlaps {
    /// The first of them.
    first: Vec<LayerPath>,
    /// How many there are.
    count: usize,
    /// While an archive is unpacked: what was made before it.
    before: Option<FileTree>,
}

impl Overlaps {
    /// Notices what is in the way of `node`, which is about to be put at `path`, among what was `made`.
    pub(super) fn see(&mut self, made: &FileTree, path: &LayerPath, node: &Node) {
        let before = self.before.as_mut();
        let Some(there) = before.as_ref().map_or(made, |before| before).get(path) else { return };
        // Directories join, and what is the same is no loss.
        if there.is_directory() && node.is_directory() || there == node {
            return;
        }
        if self.first.len() < MAX_NAMED {
            self.first.push(path.clone());
        }
        self.count += 1;
        if let Some(before) = before {
            before.remove(path);
        }
    }

    /// An archive begins.
    pub(super) fn begin_archive(&mut self, made: &FileTree) {
        self.before = Some(made.clone());
    }

    /// The archive has ended.
    pub(super) fn end_archive(&mut self) {
        self.before = None;
    }
}

impl Stage<'_> {
    /// Warns of paths that several sources of an instruction landed on.
    pub(super) fn warn_of_overlaps(
        &mut self,
        request: &Request<'_>,
        origin: &dyn Origin,
        exclude: &IgnoreFile,
        target: &Target,
        overlaps: &Overlaps,
    ) {
        if overlaps.count == 0 {
            return;
        }
        // What there is to say of the sources was said.
        let said = self.warnings.len();
        let sources = self.sources(request, origin, exclude);
        self.warnings.truncate(said);
        let Ok(sources) = sources else { return };
        let named = self.names(&sources, origin, exclude, target, &overlaps.first);
        let mut told: Vec<String> = Vec::new();
        for (path, names) in overlaps.first.iter().zip(&named) {
            if let [.., lost, wins] = names.as_slice() {
                told.push(format!("{path} is {wins} and not {lost}"));
            }
        }
        if told.is_empty() {
            return;
        }
        let more = match overlaps.count - overlaps.first.len() {
            0 => String::new(),
            more => format!("; and so it is with {more} more"),
        };
        self.warn_with_help(
            request.dest.span,
            format!("several sources of {} have one path, and the last wins: {}{more}", request.keyword, told.join("; ")),
            "copy them into different directories, leave one out with --exclude, or keep their paths with COPY --parents",
        );
    }

    /// The names of what landed on each of these paths, in order.
    fn names(
        &self,
        sources: &[Resolved],
        origin: &dyn Origin,
        exclude: &IgnoreFile,
        target: &Target,
        paths: &[LayerPath],
    ) -> Vec<Vec<String>> {
        let tree = &self.built.tree;
        let mut named: Vec<Vec<String>> = vec![Vec::new(); paths.len()];
        let mut note = |path: Option<LayerPath>, name: &dyn Fn() -> String| {
            let Some(at) = path.and_then(|path| paths.iter().position(|known| *known == path)) else {
                return;
            };
            let name = name();
            if named[at].last() != Some(&name) {
                named[at].push(name);
            }
        };
        let into = match target {
            Target::Into(directory) => directory.clone(),
            Target::As { path, .. } => path.parent().unwrap_or_default(),
        };
        let heredocs = sources.iter().filter_map(|source| match source {
            Resolved::Heredoc { name, .. } => Some(name),
            Resolved::Found(..) | Resolved::Archive(..) => None,
        });
        let heredocs: Vec<_> = heredocs.collect();
        let mut heredoc = 0;
        for source in sources {
            match (source, target) {
                (Resolved::Heredoc { name, .. }, Target::Into(directory)) => {
                    let number = heredocs[..=heredoc].iter().filter(|other| **other == name).count();
                    heredoc += 1;
                    let one_of_several = heredocs.iter().filter(|other| **other == name).count() > 1;
                    note(directory.join(name).ok(), &|| match one_of_several {
                        true => format!("heredoc {number} of the name {name}"),
                        false => format!("the heredoc {name}"),
                    });
                }
                (Resolved::Archive(_, archive), _) => {
                    let file = archive.file().path();
                    let file = self.origins.context.relative(&file);
                    for entry in &archive.entries {
                        let name = || {
                            let file = shown(file.as_os_str().as_encoded_bytes());
                            format!("{} in {file}", shown(entry.path.as_bytes()))
                        };
                        let is_directory = matches!(entry.kind, IndexKind::Directory);
                        if may_be_one_of(paths, entry.path.as_bytes(), is_directory) {
                            note(unpacked_to(tree, &into, &entry.path), &name);
                        }
                    }
                }
                (Resolved::Found(_, found), Target::Into(directory)) => {
                    for found in found {
                        // Who cannot be gone through again has no name here.
                        let _ = origin.walk(found, exclude, &mut |item| {
                            let is_directory = matches!(item.kind, ItemKind::Directory);
                            if may_be_one_of(paths, item.path, is_directory) {
                                let inside = inside(found, item.path);
                                let name = || match found.directory {
                                    true => shown(&join(&found.named, inside)),
                                    false => shown(&found.named),
                                };
                                note(copied_to(tree, directory, item.path, is_directory), &name);
                            }
                            Ok(())
                        });
                    }
                }
                // One file, which has the path to itself.
                (Resolved::Heredoc { .. } | Resolved::Found(..), Target::As { .. }) => {}
            }
        }
        named
    }
}

/// Whether what is called so may have landed on one of the paths: most have not, and a look at the tree takes longer.
fn may_be_one_of(paths: &[LayerPath], below: &[u8], is_directory: bool) -> bool {
    // A directory may have gone where a link leads.
    is_directory || paths.iter().any(|path| path.file_name() == below.rsplit(|byte| *byte == b'/').next())
}

/// Where COPY has put what goes to `below` under `directory`.
fn copied_to(tree: &FileTree, directory: &LayerPath, below: &[u8], is_directory: bool) -> Option<LayerPath> {
    let (parent, name) = split(below);
    let parent = tree.lookup(&layer_path(&join(directory.as_bytes(), parent)), true).ok()?.path;
    let path = layer_path(&join(parent.as_bytes(), name));
    if is_directory
        && let Some(Node { kind: NodeKind::Symlink(_), .. }) = tree.get(&path)
        && let Ok(lookup) = tree.lookup(&path, true)
        && matches!(lookup.state, State::Found(node) if node.is_directory())
    {
        return Some(lookup.path);
    }
    Some(path)
}

/// Where ADD has put the entry `below` of an archive that it unpacked into `directory`.
fn unpacked_to(tree: &FileTree, directory: &LayerPath, below: &LayerPath) -> Option<LayerPath> {
    let (parent, name) = split(below.as_bytes());
    let parent = tree.lookup_below(directory, &layer_path(parent), true).ok()?.path;
    Some(layer_path(&join(parent.as_bytes(), name)))
}
