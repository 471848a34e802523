//! Where COPY puts what it copies, and the entries that come of it.
//!
//! The rules are buildah's, tried with 1.28.2; docs/containerfile.md lists them with what is different here.

use crossdock_storage::{Entry, LayerPath};

use super::mode::Mode;
use crate::error::Problem;
use crate::origin::{Item, ItemKind, join};
use crate::tree::{FileTree, Node, NodeKind, State, layer_path};

/// Where the sources go.
#[derive(Debug)]
pub(super) enum Target {
    /// Into this directory.
    Into(LayerPath),
    /// The one file is to have this path.
    As { path: LayerPath, may_be_directory: bool },
}

/// What decides about the destination, besides the tree.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sources {
    /// Several sources are written, or the one is a directory, or the destination is written as a directory.
    pub(super) need_directory: bool,
    /// How many things the sources stand for.
    pub(super) count: usize,
}

/// Decides where the sources go.
pub(super) fn target(tree: &FileTree, path: &LayerPath, sources: Sources) -> Result<Target, Problem> {
    let bad = |error: crate::tree::LookupError| Problem::new(format!("cannot copy to {path}: {error}"));
    let followed = tree.lookup(path, true).map_err(bad)?;
    let unfollowed = tree.lookup(path, false).map_err(bad)?;
    match (followed.state, unfollowed.state) {
        (State::Found(node), _) if node.is_directory() => Ok(Target::Into(followed.path)),
        (State::Found(_), _) if sources.need_directory || sources.count > 1 => {
            Err(Problem::new(format!("cannot copy into {path}: it is there and not a directory")))
        }
        _ if sources.need_directory => Ok(Target::Into(followed.path)),
        _ if sources.count > 1 => {
            Err(Problem::new(format!("cannot copy {} files to the one path {path}", sources.count))
                .with_help("end the destination with / to copy into a directory"))
        }
        // A link is replaced and not written through.
        (State::Found(_), _) => Ok(Target::As { path: unfollowed.path, may_be_directory: false }),
        // A link to nothing: a directory is made where it points.
        (_, State::Found(_)) => Ok(Target::Into(followed.path)),
        (state, _) => {
            Ok(Target::As { path: unfollowed.path, may_be_directory: matches!(state, State::Unknown) })
        }
    }
}

/// Puts items into a stage's tree and keeps what becomes entries.
pub(super) struct Writer<'t> {
    tree: &'t mut FileTree,
    made: FileTree,
    owner: Option<(u32, u32)>,
    mode: Option<Mode>,
    /// Where the directory that was written to last is, its links followed.
    last: Option<(Vec<u8>, LayerPath)>,
}

impl<'t> Writer<'t> {
    /// `owner` and `mode` are those of `--chown` and `--chmod`.
    pub(super) fn new(tree: &'t mut FileTree, owner: Option<(u32, u32)>, mode: Option<Mode>) -> Self {
        Self { tree, made: FileTree::empty(), owner, mode, last: None }
    }

    /// What was made, sorted.
    pub(super) fn into_entries(self) -> Vec<Entry> {
        self.made.into_entries()
    }

    /// The tree as it is now.
    pub(super) fn tree(&self) -> &FileTree {
        self.tree
    }

    /// Makes a directory and those above it where they are missing: 0755, and owned as `--chown` says. Where only
    /// an unknown base could have them nothing is made; the unpacker does it if need be.
    pub(super) fn make_directories(&mut self, path: &LayerPath) {
        if self.tree.is_unknown() {
            return;
        }
        for directory in path.ancestors().chain([path.clone()]) {
            if !directory.is_root() && self.tree.get(&directory).is_none() {
                self.insert(&directory, self.owned(Node::directory(0o755)));
            }
        }
    }

    /// Puts an item at `below` (its path below the copied directory) under `directory`.
    pub(super) fn put(&mut self, directory: &LayerPath, below: &[u8], item: Item<'_>) -> Result<(), Problem> {
        let (parent, name) = match below.iter().rposition(|b| *b == b'/') {
            Some(at) => (&below[..at], &below[at + 1..]),
            None => (&below[..0], below),
        };
        let parent = self.directory(join(directory.as_bytes(), parent))?;
        let mut path = layer_path(&join(parent.as_bytes(), name));
        let there = self.tree.get(&path);
        let node = match item.kind {
            ItemKind::Directory => {
                // A link to a directory stays, and what the copied directory holds goes where it points.
                if let Some(Node { kind: NodeKind::Symlink(_), .. }) = there
                    && let Ok(lookup) = self.tree.lookup(&path, true)
                    && let State::Found(target) = lookup.state
                    && target.is_directory()
                {
                    path = lookup.path;
                }
                // Found directories may be other ones now.
                self.last = None;
                Node { mode: self.changed(item.mode, true), ..Node::directory(0) }
            }
            ItemKind::File(_) | ItemKind::Symlink(_) if there.is_some_and(Node::is_directory) => {
                return Err(Problem::new(format!(
                    "{path} is a directory, which a file would take the place of"
                ))
                .with_help("give the file another name, or copy into another directory"));
            }
            ItemKind::File(file) => {
                Node { kind: NodeKind::File(file), mode: self.changed(item.mode, false), uid: 0, gid: 0 }
            }
            ItemKind::Symlink(target) => {
                Node { kind: NodeKind::Symlink(target), mode: 0o777, uid: 0, gid: 0 }
            }
        };
        let node = self.owned(Node { uid: item.uid, gid: item.gid, ..node });
        self.insert(&path, node);
        Ok(())
    }

    /// A directory to write into, its links followed; made where it is missing.
    fn directory(&mut self, path: Vec<u8>) -> Result<LayerPath, Problem> {
        if let Some((last, resolved)) = &self.last
            && *last == path
        {
            return Ok(resolved.clone());
        }
        let looked = self
            .tree
            .lookup(&layer_path(&path), true)
            .map_err(|error| Problem::new(format!("cannot copy: {error}")))?;
        let resolved = match looked.state {
            State::Found(node) if !node.is_directory() => {
                return Err(Problem::new(format!("cannot copy into {}: it is not a directory", looked.path)));
            }
            _ => looked.path,
        };
        self.make_directories(&resolved);
        self.last = Some((path, resolved.clone()));
        Ok(resolved)
    }

    fn changed(&self, mode: u32, directory: bool) -> u32 {
        self.mode.as_ref().map_or(mode, |change| change.apply(mode, directory))
    }

    fn owned(&self, node: Node) -> Node {
        match self.owner {
            Some((uid, gid)) => Node { uid, gid, ..node },
            None => node,
        }
    }

    fn insert(&mut self, path: &LayerPath, node: Node) {
        // The two trees must not share a directory's contents; files they do share, to know hard links by.
        self.made.insert(path, node.clone());
        self.tree.insert(path, node);
    }
}
