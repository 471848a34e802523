//! `FileTree`: what the root file system of a stage is known to hold.
//!
//! It starts as the base's contents (empty for scratch, an index of its layers, or unknown) and takes in every
//! entry that an instruction makes. Trees share what they have in common: a clone costs nothing, and a change
//! copies only the directories on its way. Two names of one file (a hard link) share one [`FileNode`].
//!
//! **When the base is unknown** a path that no instruction made may or may not be there. Then no entry is made
//! for a directory that the base could have: writing `/tmp` again as 0755 root would be wrong content, and the
//! unpacker makes what is missing. What an instruction itself brings is written as always.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as MapEntry;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{Entry, EntryKind, FileContent, LayerPath, Special, Xattrs};

/// Symbolic links followed in one lookup, as in Linux.
pub(crate) const MAX_LINKS: usize = 40;

/// What a root file system is known to hold.
#[derive(Debug, Clone)]
pub struct FileTree {
    root: Node,
    unknown: bool,
}

/// A file, directory or link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// What it is.
    pub kind: NodeKind,
    /// Permission bits with set-id and sticky bits, at most 0o7777.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory(Directory),
    /// A regular file; nodes that share the `Arc` are names of one file.
    File(Arc<FileNode>),
    /// A symbolic link.
    Symlink(Bytes),
    /// A FIFO or device; nodes that share the `Arc` are names of one.
    Special(Arc<Special>),
}

/// The contents of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory {
    children: Arc<BTreeMap<Box<[u8]>, Node>>,
    /// No entry says so: it was made because something is below it.
    implied: bool,
}

/// A regular file's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileNode {
    /// At hand, or in a file that the build can read.
    Known(FileContent),
    /// In a layer of the base image, that the build does not unpack.
    InBase,
}

/// Where a lookup ended.
#[derive(Debug)]
pub struct Lookup<'a> {
    /// The path without links, as far as they are known.
    pub path: LayerPath,
    /// What is there.
    pub state: State<'a>,
}

/// What is known of a path.
#[derive(Debug, Clone, Copy)]
pub enum State<'a> {
    /// It is there.
    Found(&'a Node),
    /// It is not there.
    Missing,
    /// Only the base could have it, and what the base has is not known.
    Unknown,
}

/// A path that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LookupError {
    /// A part of the path that ought to be a directory is none.
    #[error("{0} is not a directory")]
    NotADirectory(LayerPath),
    /// Symbolic links that lead to one another.
    #[error("{0} is a loop of symbolic links")]
    Loop(LayerPath),
}

impl FileTree {
    /// The tree of `scratch`: a root directory with nothing in it.
    #[must_use]
    pub fn empty() -> Self {
        Self { root: Node::directory(0o755), unknown: false }
    }

    /// The tree of a base whose contents are not known.
    #[must_use]
    pub fn unknown() -> Self {
        Self { root: Node::directory(0o755), unknown: true }
    }

    /// Whether there may be more in it than is known.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.unknown
    }

    /// The root directory.
    #[must_use]
    pub const fn root(&self) -> &Node {
        &self.root
    }

    /// What stands at `path` itself; no link is followed.
    #[must_use]
    pub fn get(&self, path: &LayerPath) -> Option<&Node> {
        let mut node = &self.root;
        for part in parts(path) {
            node = node.children()?.get(part)?;
        }
        Some(node)
    }

    /// What a path leads to when the links in its directories are followed inside the root, and with
    /// `follow_last` a link at its end too.
    ///
    /// # Errors
    /// A part that is no directory, or a loop of links.
    pub fn lookup(&self, path: &LayerPath, follow_last: bool) -> Result<Lookup<'_>, LookupError> {
        let mut todo: Vec<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut trail = vec![&self.root];
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    trail.truncate(done.len() + 1);
                    continue;
                }
                _ => {}
            }
            // Below what is missing there is nothing to follow.
            let here = if trail.len() == done.len() + 1 { trail.last().copied() } else { None };
            let Some(here) = here else {
                done.push(part);
                continue;
            };
            let Some(children) = here.children() else {
                return Err(LookupError::NotADirectory(joined(&done)));
            };
            let Some(node) = children.get(part.as_slice()) else {
                done.push(part);
                continue;
            };
            match &node.kind {
                NodeKind::Symlink(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LookupError::Loop(path.clone()));
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                        trail.truncate(1);
                    }
                    todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
                }
                _ => {
                    done.push(part);
                    trail.push(node);
                }
            }
        }
        let state = match trail.last() {
            Some(node) if trail.len() == done.len() + 1 => State::Found(node),
            _ if self.unknown => State::Unknown,
            _ => State::Missing,
        };
        Ok(Lookup { path: joined(&done), state })
    }

    /// Puts a node at `path`. What stood there goes with all below it, but for a directory that a directory takes
    /// the place of: then the contents stay. Directories above that are missing are made, 0755 and root's.
    ///
    /// Links are not followed: resolve `path` first.
    pub fn insert(&mut self, path: &LayerPath, node: Node) {
        let mut at = &mut self.root;
        for part in parts(path) {
            at = at.make_children().entry(part.into()).or_insert_with(Node::implied);
        }
        let old = std::mem::replace(at, node);
        if let (NodeKind::Directory(now), NodeKind::Directory(before)) = (&mut at.kind, old.kind)
            && now.children.is_empty()
        {
            now.children = before.children;
        }
    }

    /// Removes what is at `path`, as a whiteout does.
    pub fn remove(&mut self, path: &LayerPath) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.clear(path);
        };
        if let Some(directory) = self.existing(&parent) {
            directory.make_children().remove(name);
        }
    }

    /// Removes all that is below `path`, as an opaque whiteout does.
    pub fn clear(&mut self, path: &LayerPath) {
        if let Some(directory) = self.existing(path) {
            directory.make_children().clear();
        }
    }

    /// Takes in an entry of a layer. A hard link whose target is not there becomes a file in the base.
    pub fn apply(&mut self, entry: &Entry) {
        let kind = match &entry.kind {
            EntryKind::Directory => NodeKind::Directory(Directory::default()),
            EntryKind::File(content) => NodeKind::File(Arc::new(FileNode::Known(content.clone()))),
            EntryKind::Symlink { target } => NodeKind::Symlink(target.clone()),
            EntryKind::Special(special) => NodeKind::Special(Arc::new(*special)),
            EntryKind::HardLink { target } => self
                .get(target)
                .map_or_else(|| NodeKind::File(Arc::new(FileNode::InBase)), |node| node.kind.clone()),
        };
        self.insert(
            &entry.path,
            Node { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid, xattrs: entry.xattrs.clone() },
        );
    }

    /// All that was put in, as entries of one layer: sorted by path, and of each file's names the first is the
    /// file and the others are hard links to it. Directories that were only implied are left out.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        let mut nodes = Vec::new();
        collect(self.root, &mut Vec::new(), &mut nodes);
        nodes.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut first: BTreeMap<*const (), LayerPath> = BTreeMap::new();
        let mut entries = Vec::with_capacity(nodes.len());
        for (path, node) in nodes {
            let kind = match node.kind {
                NodeKind::Directory(_) => EntryKind::Directory,
                NodeKind::Symlink(target) => EntryKind::Symlink { target },
                NodeKind::File(file) => {
                    let FileNode::Known(content) = &*file else { continue };
                    match first.entry(Arc::as_ptr(&file).cast()) {
                        MapEntry::Occupied(name) => EntryKind::HardLink { target: name.get().clone() },
                        MapEntry::Vacant(slot) => {
                            slot.insert(path.clone());
                            EntryKind::File(content.clone())
                        }
                    }
                }
                NodeKind::Special(special) => match first.entry(Arc::as_ptr(&special).cast()) {
                    MapEntry::Occupied(name) => EntryKind::HardLink { target: name.get().clone() },
                    MapEntry::Vacant(slot) => {
                        slot.insert(path.clone());
                        EntryKind::Special(*special)
                    }
                },
            };
            entries.push(Entry {
                path,
                kind,
                mode: node.mode,
                uid: node.uid,
                gid: node.gid,
                xattrs: node.xattrs,
            });
        }
        entries
    }

    fn existing(&mut self, path: &LayerPath) -> Option<&mut Node> {
        self.get(path)?.children()?;
        let mut at = &mut self.root;
        for part in parts(path) {
            at = at.make_children().get_mut(part)?;
        }
        Some(at)
    }
}

impl Node {
    /// A directory of root's with nothing in it.
    #[must_use]
    pub fn directory(mode: u32) -> Self {
        Self {
            kind: NodeKind::Directory(Directory::default()),
            mode,
            uid: 0,
            gid: 0,
            xattrs: Xattrs::default(),
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }

    /// The nodes of a directory by name, sorted; `None` where it is none.
    #[must_use]
    pub fn children(&self) -> Option<&BTreeMap<Box<[u8]>, Self>> {
        match &self.kind {
            NodeKind::Directory(directory) => Some(&directory.children),
            NodeKind::File(_) | NodeKind::Symlink(_) | NodeKind::Special(_) => None,
        }
    }

    fn implied() -> Self {
        let kind = NodeKind::Directory(Directory { implied: true, ..Directory::default() });
        Self { kind, ..Self::directory(0o755) }
    }

    /// The children, of a directory that it becomes where it is none.
    fn make_children(&mut self) -> &mut BTreeMap<Box<[u8]>, Self> {
        if !self.is_directory() {
            *self = Self::implied();
        }
        match &mut self.kind {
            NodeKind::Directory(directory) => Arc::make_mut(&mut directory.children),
            NodeKind::File(_) | NodeKind::Symlink(_) | NodeKind::Special(_) => {
                unreachable!("made a directory above")
            }
        }
    }
}

fn collect(node: Node, path: &mut Vec<u8>, nodes: &mut Vec<(LayerPath, Node)>) {
    let Node { kind, mode, uid, gid, xattrs } = node;
    let NodeKind::Directory(Directory { children, implied }) = kind else {
        nodes.push((layer_path(path), Node { kind, mode, uid, gid, xattrs }));
        return;
    };
    if !implied && !path.is_empty() {
        nodes.push((
            layer_path(path),
            Node { kind: NodeKind::Directory(Directory::default()), mode, uid, gid, xattrs },
        ));
    }
    let len = path.len();
    for (name, child) in Arc::unwrap_or_clone(children) {
        if len > 0 {
            path.push(b'/');
        }
        path.extend_from_slice(&name);
        collect(child, path, nodes);
        path.truncate(len);
    }
}

/// The parts of a path; none for the root.
pub(crate) fn parts(path: &LayerPath) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty())
}

fn joined(parts: &[Vec<u8>]) -> LayerPath {
    layer_path(&parts.join(&b'/'))
}

/// A path of parts that are clean already.
pub(crate) fn layer_path(path: &[u8]) -> LayerPath {
    LayerPath::clean(path).expect("parts of clean paths and names of files have no NUL and no dots")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> LayerPath {
        LayerPath::clean(text).unwrap()
    }

    fn file(text: &'static str) -> Node {
        let content = FileNode::Known(FileContent::Inline(Bytes::from_static(text.as_bytes())));
        Node { kind: NodeKind::File(Arc::new(content)), mode: 0o644, ..Node::directory(0) }
    }

    fn link(target: &'static str) -> Node {
        let kind = NodeKind::Symlink(Bytes::from_static(target.as_bytes()));
        Node { kind, mode: 0o777, ..Node::directory(0) }
    }

    fn found(tree: &FileTree, at: &str, follow: bool) -> String {
        match tree.lookup(&path(at), follow) {
            Ok(Lookup { path, state: State::Found(_) }) => format!("found {path}"),
            Ok(Lookup { path, state: State::Missing }) => format!("missing {path}"),
            Ok(Lookup { path, state: State::Unknown }) => format!("unknown {path}"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn links_are_followed_inside_the_root() {
        let mut tree = FileTree::empty();
        tree.insert(&path("run/lock/x"), file("x"));
        tree.insert(&path("var/run"), link("/run"));
        tree.insert(&path("var/up"), link("../../../run/./lock"));
        tree.insert(&path("a/b"), link("../a/b"));
        tree.insert(&path("gone"), link("nowhere/at/../all"));
        for (at, follow, expected) in [
            ("var/run/lock/x", true, "found /run/lock/x"),
            ("var/run", true, "found /run"),
            ("var/run", false, "found /var/run"),
            ("var/up/x", true, "found /run/lock/x"),
            ("var/up/y/z", true, "missing /run/lock/y/z"),
            ("run/lock/x/y", true, "/run/lock/x is not a directory"),
            ("a/b", true, "/a/b is a loop of symbolic links"),
            ("gone", true, "missing /nowhere/all"),
            ("", true, "found /"),
        ] {
            assert_eq!(found(&tree, at, follow), expected, "{at}");
        }
        let mut tree = FileTree::unknown();
        tree.insert(&path("run/x"), file("x"));
        assert_eq!(found(&tree, "run/x", true), "found /run/x");
        assert_eq!(found(&tree, "run/y", true), "unknown /run/y");
    }

    #[test]
    fn a_directory_keeps_its_contents_and_a_file_takes_them_away() {
        let mut tree = FileTree::empty();
        tree.insert(&path("a/b"), file("b"));
        tree.insert(&path("a"), Node::directory(0o700));
        assert_eq!(found(&tree, "a/b", true), "found /a/b");
        let before = tree.clone();
        tree.insert(&path("a"), file("a"));
        tree.insert(&path("a"), Node::directory(0o700));
        assert_eq!(found(&tree, "a/b", true), "missing /a/b");
        assert_eq!(found(&before, "a/b", true), "found /a/b", "a clone is not touched");
        let mut tree = before;
        tree.remove(&path("a/b"));
        tree.remove(&path("no/such"));
        assert_eq!(found(&tree, "a/b", true), "missing /a/b");
        assert_eq!(found(&tree, "no", true), "missing /no");
    }

    #[test]
    fn entries_come_out_sorted_with_hard_links_to_the_first_name() {
        let mut tree = FileTree::empty();
        let shared = file("shared");
        tree.insert(&path("a/z"), shared.clone());
        tree.insert(&path("a-b"), shared.clone());
        tree.insert(&path("d"), Node::directory(0o700));
        tree.insert(&path("d/x"), shared);
        let entries = tree.into_entries();
        let shown: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.kind {
                EntryKind::HardLink { target } => format!("{} -> {target}", entry.path),
                _ => entry.path.to_string(),
            })
            .collect();
        assert_eq!(shown, ["/a-b", "/a/z -> /a-b", "/d", "/d/x -> /a-b"]);
    }
}
