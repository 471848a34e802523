//! Where COPY puts what it copies, and the entries that come of it.
//!
//! The rules are buildah's, tried with 1.28.2; docs/containerfile.md lists them with what is different here.

use std::collections::BTreeSet;
use std::sync::Arc;

use crossdock_storage::{IndexEntry, LayerPath, Special};

use super::mode::Mode;
use super::overlaps::Overlaps;
use crate::error::Problem;
use crate::origin::{Item, ItemKind, join};
use crate::tree::{
    FileNode, FileTree, Leaf, Lookup, LookupError, Node, NodeKind, State, layer_path, own_mtime,
};

/// The beginning of names that mean something else in a layer (OCI image-spec, layer.md, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";

/// A path has at most so many bytes (`PATH_MAX` of Linux): nobody could unpack a longer one, and one of links that lead to
/// links, or of stages that copy one another ever deeper, has no end.
pub(super) const MAX_PATH: usize = 4096;

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
    /// There is a FIFO or device among them.
    pub(super) special: bool,
    /// How many things the sources stand for.
    pub(super) count: usize,
}

/// Decides where the sources go.
pub(super) fn target(tree: &FileTree, path: &LayerPath, sources: Sources) -> Result<Target, Problem> {
    let bad = |error: LookupError| Problem::new(format!("cannot copy to {path}: {error}"));
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
        // Only a file is given a name.
        _ if sources.special => Ok(Target::Into(followed.path)),
        (state, _) => {
            Ok(Target::As { path: unfollowed.path, may_be_directory: matches!(state, State::Unknown) })
        }
    }
}

/// What an instruction made.
pub(super) struct Made {
    /// What becomes entries.
    pub(super) files: FileTree,
    /// Directories of the image that something else has taken the place of.
    pub(super) hidden: BTreeSet<LayerPath>,
    /// Paths that several sources landed on.
    pub(super) overlaps: Overlaps,
}

/// Puts items into a stage's tree and keeps what becomes entries.
pub(super) struct Writer<'t> {
    tree: &'t mut FileTree,
    made: FileTree,
    /// Directories of the image that something else has taken the place of.
    hidden: BTreeSet<LayerPath>,
    overlaps: Overlaps,
    owner: Option<(u32, u32)>,
    mode: Option<Mode>,
    /// Where the directory that was written to last is, its links followed.
    last: Option<(Vec<u8>, LayerPath)>,
}

impl<'t> Writer<'t> {
    /// `owner` and `mode` are those of `--chown` and `--chmod`.
    pub(super) fn new(tree: &'t mut FileTree, owner: Option<(u32, u32)>, mode: Option<Mode>) -> Self {
        Self {
            tree,
            made: FileTree::empty(),
            hidden: BTreeSet::new(),
            overlaps: Overlaps::default(),
            owner,
            mode,
            last: None,
        }
    }

    /// What was made.
    pub(super) fn into_made(self) -> Made {
        Made { files: self.made, hidden: self.hidden, overlaps: self.overlaps }
    }

    /// Makes a directory and those above it where they are missing: 0755, and owned as `--chown` says. Where only
    /// an unknown base could have them nothing is made; the unpacker does it if need be.
    pub(super) fn make_directories(&mut self, path: &LayerPath) -> Result<(), Problem> {
        if self.tree.is_unknown() {
            return Ok(());
        }
        short_enough(path)?;
        for directory in path.ancestors().chain([path.clone()]) {
            if !directory.is_root() && self.tree.get(&directory).is_none() {
                self.insert(&directory, self.owned(Node::directory(0o755)), None)?;
            }
        }
        Ok(())
    }

    /// Puts an item at `below` (its path below the copied directory) under `directory`.
    pub(super) fn put(&mut self, directory: &LayerPath, below: &[u8], item: Item<'_>) -> Result<(), Problem> {
        let (parent, name) = split(below);
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
            _ if there.is_some_and(Node::is_directory) => return Err(over_directory(&path)),
            ItemKind::File(file) => Node {
                kind: NodeKind::File(file),
                mode: self.changed(item.mode, false),
                ..Node::directory(0)
            },
            ItemKind::Symlink(target) => Node { kind: NodeKind::Symlink(target), ..Node::directory(0o777) },
            ItemKind::Special(special) => Node {
                kind: NodeKind::Special(Arc::new(not_a_whiteout(special, &path)?)),
                mode: self.changed(item.mode, false),
                ..Node::directory(0)
            },
            ItemKind::Socket => {
                return Err(Problem::new(format!(
                    "{path} would be a socket, which an image layer cannot carry"
                )));
            }
        };
        let Item { uid, gid, mtime, xattrs, .. } = item;
        let node = self.owned(Node { uid, gid, mtime, xattrs, ..node });
        self.overlaps.see(&self.made, &path, &node);
        self.insert(&path, node, item.leaf)
    }

    /// An archive begins: what it has twice is no overlap, for its later entry is there to renew the earlier one.
    pub(super) fn begin_archive(&mut self) {
        self.overlaps.begin_archive(&self.made);
    }

    /// The archive has ended.
    pub(super) fn end_archive(&mut self) {
        self.overlaps.end_archive();
    }

    /// What a hard link of an archive to `target` below `directory` is: the file that is there, which takes over mode, owner
    /// and time of the link. Links on the way and at the end are followed, and none leads out of `directory`. A link to a
    /// symlink that leads to no such file is that symlink.
    pub(super) fn link(
        &mut self,
        directory: &LayerPath,
        target: &LayerPath,
        link: &IndexEntry,
    ) -> Option<NodeKind> {
        let followed = self.tree.lookup_below(directory, target, true).ok();
        if let Some(Lookup { path, state: State::Found(there) }) = followed {
            let kind = match &there.kind {
                // A copy of the symlink might lead elsewhere.
                NodeKind::File(FileNode::InBase) => return None,
                NodeKind::Directory(_) | NodeKind::Symlink(_) => None,
                NodeKind::File(file) => Some(NodeKind::File(file.clone())),
                NodeKind::Special(special) => Some(NodeKind::Special(Arc::clone(special))),
            };
            if let Some(kind) = kind {
                let &IndexEntry { mode, uid, gid, .. } = link;
                let mtime = own_mtime(link.mtime);
                let node = Node { kind: kind.clone(), mode, uid, gid, mtime, xattrs: there.xattrs.clone() };
                return self.insert(&path, node, None).ok().map(|()| kind);
            }
        }
        match self.tree.lookup_below(directory, target, false).ok()?.state {
            State::Found(Node { kind: kind @ NodeKind::Symlink(_), .. }) => Some(kind.clone()),
            _ => None,
        }
    }

    /// Puts what an archive has at `below` under `directory`, with the owner and mode it has there. Directories that the
    /// archive does not name are made. `directory` is the archive's root: the links on the way lead nowhere else, whoever
    /// made them, as buildah has it, which changes its root to there.
    pub(super) fn unpack(
        &mut self,
        directory: &LayerPath,
        below: &LayerPath,
        node: Node,
    ) -> Result<(), Problem> {
        if below.is_root() && !node.is_directory() {
            return Err(Problem::new(format!(
                "the archive has no directory, but a file, for {directory} itself"
            ))
            .with_help("pack the file under its name"));
        }
        let (parent, name) = split(below.as_bytes());
        let key = join(directory.as_bytes(), parent);
        let parent = match &self.last {
            Some((last, resolved)) if *last == key => resolved.clone(),
            _ => {
                let looked = self.tree.lookup_below(directory, &layer_path(parent), true);
                let parent = Self::directory_of(looked)?;
                self.last = Some((key, parent.clone()));
                parent
            }
        };
        // Above what is nowhere to be found nothing was made.
        self.make_directories(&parent)?;
        let path = layer_path(&join(parent.as_bytes(), name));
        if let NodeKind::Special(special) = &node.kind {
            not_a_whiteout(**special, &path)?;
        }
        // The root directory has no entry: its mode is the base's.
        if path.is_root() {
            return Ok(());
        }
        // What is no directory takes the place of one, and a directory that of a link, as in an archive: found directories
        // may be other ones now.
        if node.is_directory() || matches!(node.kind, NodeKind::Symlink(_)) || self.is_directory(&path) {
            self.last = None;
        }
        self.overlaps.see(&self.made, &path, &node);
        self.insert(&path, node, None)
    }

    fn is_directory(&self, path: &LayerPath) -> bool {
        self.tree.get(path).is_some_and(Node::is_directory)
    }

    /// A directory to write into, its links followed; made where it is missing.
    fn directory(&mut self, path: Vec<u8>) -> Result<LayerPath, Problem> {
        if let Some((last, resolved)) = &self.last
            && *last == path
        {
            return Ok(resolved.clone());
        }
        let resolved = Self::directory_of(self.tree.lookup(&layer_path(&path), true))?;
        self.make_directories(&resolved)?;
        self.last = Some((path, resolved.clone()));
        Ok(resolved)
    }

    /// Where a lookup ended: a directory, or nothing.
    fn directory_of(looked: Result<Lookup<'_>, LookupError>) -> Result<LayerPath, Problem> {
        let looked = looked.map_err(|error| Problem::new(format!("cannot copy: {error}")))?;
        match looked.state {
            State::Found(node) if !node.is_directory() => {
                Err(Problem::new(format!("cannot copy into {}: it is not a directory", looked.path)))
            }
            _ => Ok(looked.path),
        }
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

    /// Puts a node at `path`; it may be `leaf`, which is in another tree.
    fn insert(&mut self, path: &LayerPath, node: Node, leaf: Option<Leaf>) -> Result<(), Problem> {
        short_enough(path)?;
        if let Some(name) = path.file_name().filter(|name| name.starts_with(WHITEOUT)) {
            let what = if node.is_directory() { "directory" } else { "file" };
            let name = String::from_utf8_lossy(name);
            return Err(Problem::new(format!(
                "the {what} {name} would take another one away, as its name does in a layer"
            ))
            .with_help("give it another name, or leave it out"));
        }
        // The two trees must not share a directory's contents; all else they do share.
        if let (false, Some(name)) = (node.is_directory(), path.file_name()) {
            let leaf = leaf.filter(|leaf| leaf.is(name, &node)).unwrap_or_else(|| Leaf::new(name, node));
            if self.is_directory(path) {
                self.hidden.insert(path.clone());
            }
            self.made.insert_leaf(path, leaf.clone());
            self.tree.insert_leaf(path, leaf);
        } else {
            self.made.insert(path, node.clone());
            self.tree.insert(path, node);
            // The layer says nothing of what stood there in between: without this its directory would join that of the image.
            if self.hidden.contains(path) {
                self.made.make_opaque(path);
            }
        }
        Ok(())
    }
}

fn short_enough(path: &LayerPath) -> Result<(), Problem> {
    if path.as_bytes().len() <= MAX_PATH {
        return Ok(());
    }
    let head = String::from_utf8_lossy(&path.as_bytes()[..40]).into_owned();
    Err(Problem::new(format!("the path /{head}... would have more than {MAX_PATH} bytes"))
        .with_help("copy to a path that Linux takes"))
}

/// The path above a last part, and the part.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    }
}

fn not_a_whiteout(special: Special, path: &LayerPath) -> Result<Special, Problem> {
    if special.is_whiteout() {
        return Err(Problem::new(format!(
            "{path} is {special}, which takes away what lower layers have there, as overlayfs reads it"
        ))
        .with_help("leave it out"));
    }
    Ok(special)
}

fn over_directory(path: &LayerPath) -> Problem {
    Problem::new(format!("{path} is a directory, which a file would take the place of"))
        .with_help("give the file another name, or copy into another directory")
}
