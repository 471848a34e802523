//! `FileTree`: what the root file system of a stage is known to hold.
//!
//! It starts as the base's contents (empty for scratch, an index of its layers, or unknown) and takes in every
//! entry that an instruction makes. Trees share what they have in common: a clone costs nothing, and a change
//! copies only the directories on its way. Two names of one file (a hard link) share one [`FileNode`].
//!
//! A build may have some hundred thousand files in several trees at once. So what is no directory is a [`Leaf`], which the
//! trees share: a further tree takes some 20 bytes for it.
//!
//! **When the base is unknown** a path that no instruction made may or may not be there. Then no entry is made
//! for a directory that the base could have: writing `/tmp` again as 0755 root would be wrong content, and the
//! unpacker makes what is missing. What an instruction itself brings is written as always.

mod entries;
mod node;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{Entry, EntryKind, LayerPath, SourceFile, Special, VirtualLayer, Xattrs};

pub(crate) use self::node::own_mtime;
use crate::origin::join;

/// What stands in a directory that hides what lower layers have in it (OCI image-spec, layer.md, "Opaque Whiteout").
pub(crate) const OPAQUE: &[u8] = b".wh..wh..opq";

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
    /// Modification time in seconds since the epoch; 0 where it has none of its own.
    pub mtime: u32,
    /// Extended attributes.
    pub xattrs: Xattrs,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeKind {
    /// A directory.
    Directory(Directory),
    /// A regular file.
    File(FileNode),
    /// A symbolic link.
    Symlink(Arc<Bytes>),
    /// A FIFO or device; nodes that share the `Arc` are names of one.
    Special(Arc<Special>),
}

/// The contents of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Directory(Arc<Children>);

#[derive(Debug, Clone, Default)]
struct Children {
    directories: BTreeMap<Arc<[u8]>, Node>,
    leaves: BTreeSet<Leaf>,
    /// No entry says that the directory is there: it was made because something is below it.
    implied: bool,
    /// What lower layers have in the directory is gone, which an entry says: it took the place of something that had taken
    /// the place of a directory.
    opaque: bool,
}

impl PartialEq for Children {
    fn eq(&self, other: &Self) -> bool {
        // Leaves are told apart by their names alone.
        let same = |(a, b): (&Leaf, &Leaf)| a == b && a.0.node == b.0.node;
        (self.implied, self.opaque) == (other.implied, other.opaque)
            && self.directories == other.directories
            && self.leaves.len() == other.leaves.len()
            && self.leaves.iter().zip(&other.leaves).all(same)
    }
}

impl Eq for Children {}

/// What is no directory, with its name. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct Leaf(Arc<Named>);

#[derive(Debug, Clone)]
struct Named {
    name: Arc<[u8]>,
    node: Node,
}

/// A regular file's content. Clones are names of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileNode {
    /// A whole file that the build can read.
    Source(SourceFile),
    /// At hand.
    Inline(Arc<Bytes>),
    /// In parts of files, or in streams.
    Parts(VirtualLayer),
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

impl Default for FileTree {
    fn default() -> Self {
        Self::empty()
    }
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
            node = node.child(part)?;
        }
        Some(node)
    }

    /// What a path leads to when the links in its directories are followed inside the root, and with
    /// `follow_last` a link at its end too.
    ///
    /// # Errors
    /// A part that is no directory, or a loop of links.
    pub fn lookup(&self, path: &LayerPath, follow_last: bool) -> Result<Lookup<'_>, LookupError> {
        self.lookup_below(&LayerPath::root(), path, follow_last)
    }

    /// As [`lookup`](Self::lookup), with `directory` for the root: no link leads out of it, and an absolute one begins there.
    /// `path` is relative to it; the path that comes out is not.
    ///
    /// # Errors
    /// As [`lookup`](Self::lookup).
    pub fn lookup_below(
        &self,
        directory: &LayerPath,
        path: &LayerPath,
        follow_last: bool,
    ) -> Result<Lookup<'_>, LookupError> {
        let whole = |done: &[Vec<u8>]| layer_path(&join(directory.as_bytes(), &done.join(&b'/')));
        let Some(root) = self.get(directory) else {
            let state = if self.unknown { State::Unknown } else { State::Missing };
            return Ok(Lookup { path: whole(&[path.as_bytes().to_vec()]), state });
        };
        let mut todo: Vec<Vec<u8>> = parts(path).map(<[u8]>::to_vec).collect();
        todo.reverse();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut trail = vec![root];
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
            if !here.is_directory() {
                return Err(LookupError::NotADirectory(whole(&done)));
            }
            let Some(node) = here.child(&part) else {
                done.push(part);
                continue;
            };
            match &node.kind {
                NodeKind::Symlink(target) if follow_last || !todo.is_empty() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LookupError::Loop(whole(&[path.as_bytes().to_vec()])));
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
        Ok(Lookup { path: whole(&done), state })
    }

    /// Puts a node at `path`. What stood there goes with all below it, but for a directory that a directory takes
    /// the place of: then the contents stay. Directories above that are missing are made, 0755 and root's.
    ///
    /// Links are not followed: resolve `path` first.
    pub fn insert(&mut self, path: &LayerPath, node: Node) {
        let Some((parent, name)) = split(path) else {
            return if node.is_directory() { self.root.renew(node) } else { self.root = node };
        };
        if !node.is_directory() {
            return self.insert_leaf(path, Leaf::new(name, node));
        }
        let children = self.root.make_directories(parent).make_children();
        children.leaves.remove(name);
        match children.directories.get_mut(name) {
            Some(there) => there.renew(node),
            None => drop(children.directories.insert(name.into(), node)),
        }
    }

    /// As [`insert`](Self::insert), of a leaf that has the name at the end of `path`; not for the root.
    pub(crate) fn insert_leaf(&mut self, path: &LayerPath, leaf: Leaf) {
        let Some((parent, name)) = split(path) else { return };
        let children = self.root.make_directories(parent).make_children();
        children.directories.remove(name);
        children.leaves.replace(leaf);
    }

    /// Removes what is at `path`, as a whiteout does.
    pub fn remove(&mut self, path: &LayerPath) {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return self.clear(path);
        };
        if let Some(directory) = self.existing(&parent) {
            let children = directory.make_children();
            children.directories.remove(name);
            children.leaves.remove(name);
        }
    }

    /// Removes all that is below `path`, as an opaque whiteout does.
    pub fn clear(&mut self, path: &LayerPath) {
        if let Some(directory) = self.existing(path) {
            let children = directory.make_children();
            children.directories.clear();
            children.leaves.clear();
        }
    }

    /// Says that a directory which was put in hides what lower layers have in it.
    pub(crate) fn make_opaque(&mut self, path: &LayerPath) {
        if let Some(directory) = self.existing(path) {
            directory.make_children().opaque = true;
        }
    }

    /// The directories that hide what lower layers have in them.
    pub(crate) fn opaque(&self) -> Vec<LayerPath> {
        let mut found = Vec::new();
        self.visit(&mut |path, node| {
            if node.is_opaque() {
                found.push(path.clone());
            }
        });
        found
    }

    /// Takes in an entry of a layer. A hard link whose target is not there becomes a file in the base.
    pub fn apply(&mut self, entry: Entry) {
        let kind = match entry.kind {
            EntryKind::Directory => NodeKind::Directory(Directory::default()),
            // Entries of different layers are files of their own, wherever their bytes come from.
            EntryKind::File(content) => NodeKind::File(FileNode::from(content).apart()),
            EntryKind::Symlink { target } => NodeKind::Symlink(Arc::new(target)),
            EntryKind::Special(special) => NodeKind::Special(Arc::new(special)),
            EntryKind::HardLink { target } => {
                self.get(&target).map_or(NodeKind::File(FileNode::InBase), |node| node.kind.clone())
            }
        };
        let Entry { path, mode, uid, gid, mtime, xattrs, .. } = entry;
        self.insert(&path, Node { kind, mode, uid, gid, mtime, xattrs });
    }

    /// Whether nothing was put in.
    pub(crate) fn is_empty(&self) -> bool {
        self.root.children().next().is_none()
    }

    /// The number of entries that [`into_entries`](Self::into_entries) gives.
    #[must_use]
    pub fn count(&self) -> usize {
        let mut todo = vec![&self.root];
        let mut count = 0;
        while let Some(node) = todo.pop() {
            for (_, child) in node.children() {
                count += usize::from(child.is_entry()) + usize::from(child.is_opaque());
                if child.is_directory() {
                    todo.push(child);
                }
            }
        }
        count
    }

    /// Shows what [`into_entries`](Self::into_entries) gives: a directory before its contents, names sorted by bytes.
    pub(crate) fn visit(&self, each: &mut impl FnMut(&LayerPath, &Node)) {
        fn inside(node: &Node, path: &mut Vec<u8>, each: &mut impl FnMut(&LayerPath, &Node)) {
            let len = path.len();
            for (name, child) in node.children() {
                if len > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                if child.is_entry() {
                    each(&layer_path(path), child);
                }
                inside(child, path, each);
                path.truncate(len);
            }
        }
        inside(&self.root, &mut Vec::new(), each);
    }

    /// All that was put in, as entries of one layer: sorted by path, and of each file's names the first is the
    /// file and the others are hard links to it. Directories that were only implied are left out.
    #[must_use]
    pub fn into_entries(self) -> Vec<Entry> {
        entries::of(self)
    }

    fn existing(&mut self, path: &LayerPath) -> Option<&mut Node> {
        if !self.get(path)?.is_directory() {
            return None;
        }
        let mut at = &mut self.root;
        for part in parts(path) {
            at = at.make_children().directories.get_mut(part)?;
        }
        Some(at)
    }
}

/// What is in `list`, which goes away meanwhile, in order.
pub(crate) fn draining<T>(mut list: Vec<T>) -> impl Iterator<Item = T> {
    const AT_ONCE: usize = 4096;
    // A list gets shorter at its end without being copied.
    list.reverse();
    let lists = std::iter::from_fn(move || {
        let next = list.split_off(list.len().saturating_sub(AT_ONCE));
        list.shrink_to_fit();
        (!next.is_empty()).then(|| next.into_iter().rev())
    });
    lists.flatten()
}

/// The path above the last part, and that part; `None` for the root.
fn split(path: &LayerPath) -> Option<(&[u8], &[u8])> {
    let (path, name) = (path.as_bytes(), path.file_name()?);
    Some((&path[..path.len() - name.len()], name))
}

/// The parts of a path; none for the root.
pub(crate) fn parts(path: &LayerPath) -> impl Iterator<Item = &[u8]> {
    path.as_bytes().split(|b| *b == b'/').filter(|part| !part.is_empty())
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
        let content = FileNode::Inline(Arc::new(Bytes::from_static(text.as_bytes())));
        Node { kind: NodeKind::File(content), mode: 0o644, ..Node::directory(0) }
    }

    fn link(target: &'static str) -> Node {
        let kind = NodeKind::Symlink(Arc::new(Bytes::from_static(target.as_bytes())));
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
    fn a_leaf_is_small() {
        assert!(size_of::<Named>() <= 56, "{}", size_of::<Named>());
        assert_eq!(size_of::<Leaf>(), 8);
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
