//! What a tree is made of: nodes, and the leaves that trees share.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{FileContent, Xattrs};

use super::{Children, Directory, FileNode, Leaf, Named, Node, NodeKind};

impl FileNode {
    /// The same content as a file of its own.
    #[must_use]
    pub fn apart(self) -> Self {
        match self {
            Self::Source(file) => Self::Source(file.apart()),
            Self::Inline(bytes) => Self::Inline(Arc::new(Arc::unwrap_or_clone(bytes))),
            Self::Parts(parts) => Self::Parts(parts.apart()),
            Self::InBase => Self::InBase,
        }
    }

    /// The content, where the build has it.
    #[must_use]
    pub fn content(&self) -> Option<FileContent> {
        match self {
            Self::Source(file) => Some(FileContent::Source(file.clone())),
            Self::Inline(bytes) => Some(FileContent::Inline(Bytes::clone(bytes))),
            Self::Parts(parts) => Some(FileContent::Parts(parts.clone())),
            Self::InBase => None,
        }
    }

    /// A number that all names of the file have and no other file has, and whether it may have another name.
    pub(crate) fn id(&self) -> (usize, bool) {
        match self {
            Self::Source(file) => file.id(),
            Self::Inline(bytes) => (Arc::as_ptr(bytes) as usize, Arc::strong_count(bytes) > 1),
            Self::Parts(parts) => parts.id(),
            Self::InBase => (0, false),
        }
    }
}

impl From<FileContent> for FileNode {
    fn from(content: FileContent) -> Self {
        match content {
            FileContent::Source(file) => Self::Source(file),
            FileContent::Inline(bytes) => Self::Inline(Arc::new(bytes)),
            FileContent::Parts(parts) => Self::Parts(parts),
        }
    }
}

impl Leaf {
    /// `node` is no directory.
    pub(crate) fn new(name: &[u8], node: Node) -> Self {
        // Mostly the image has the name that the file has.
        let name = match &node.kind {
            NodeKind::File(FileNode::Source(file)) if **file.name() == *name => Arc::clone(file.name()),
            _ => name.into(),
        };
        Self(Arc::new(Named { name, node }))
    }

    /// Whether this is just `node` by this name: clones of one file, and the rest the same.
    pub(crate) fn is(&self, name: &[u8], node: &Node) -> bool {
        let Named { name: this, node: own } = &*self.0;
        let same = match (&own.kind, &node.kind) {
            (NodeKind::File(a), NodeKind::File(b)) => a.id().0 == b.id().0,
            (NodeKind::Symlink(a), NodeKind::Symlink(b)) => Arc::ptr_eq(a, b),
            (NodeKind::Special(a), NodeKind::Special(b)) => Arc::ptr_eq(a, b),
            _ => false,
        };
        let rest = |node: &Node| (node.mode, node.uid, node.gid, node.mtime);
        same && **this == *name && rest(own) == rest(node) && own.xattrs == node.xattrs
    }
}

impl Borrow<[u8]> for Leaf {
    fn borrow(&self) -> &[u8] {
        &self.0.name
    }
}

impl PartialEq for Leaf {
    fn eq(&self, other: &Self) -> bool {
        self.0.name == other.0.name
    }
}

impl Eq for Leaf {}

impl PartialOrd for Leaf {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Leaf {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.name.cmp(&other.0.name)
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
            mtime: 0,
            xattrs: Xattrs::default(),
        }
    }

    /// Whether it is a directory.
    #[must_use]
    pub const fn is_directory(&self) -> bool {
        matches!(self.kind, NodeKind::Directory(_))
    }

    /// What a directory has by this name.
    #[must_use]
    pub fn child(&self, name: &[u8]) -> Option<&Self> {
        let NodeKind::Directory(Directory(children)) = &self.kind else { return None };
        let leaf = || children.leaves.get(name).map(|leaf| &leaf.0.node);
        children.directories.get(name).or_else(leaf)
    }

    /// The nodes of a directory by name, sorted; none where it is no directory.
    pub fn children(&self) -> impl Iterator<Item = (&[u8], &Self)> {
        self.children_and_leaves().map(|(name, child, _)| (name, child))
    }

    /// As [`children`](Self::children), with the leaf where the child is one.
    pub(crate) fn children_and_leaves(&self) -> impl Iterator<Item = (&[u8], &Self, Option<&Leaf>)> {
        let children = match &self.kind {
            NodeKind::Directory(Directory(children)) => Some(children),
            NodeKind::File(_) | NodeKind::Symlink(_) | NodeKind::Special(_) => None,
        };
        let mut directories = children.into_iter().flat_map(|all| &all.directories).peekable();
        let mut leaves = children.into_iter().flat_map(|all| &all.leaves).peekable();
        std::iter::from_fn(move || {
            let leaf_is_next = match (directories.peek(), leaves.peek()) {
                (Some((name, _)), Some(leaf)) => leaf.0.name < **name,
                (None, leaf) => leaf.is_some(),
                (Some(_), None) => false,
            };
            if leaf_is_next {
                leaves.next().map(|leaf| (&*leaf.0.name, &leaf.0.node, Some(leaf)))
            } else {
                directories.next().map(|(name, node)| (&**name, node, None))
            }
        })
    }

    /// Whether it becomes an entry of a layer.
    pub(crate) fn is_entry(&self) -> bool {
        match &self.kind {
            NodeKind::Directory(Directory(children)) => !children.implied,
            NodeKind::File(file) => *file != FileNode::InBase,
            NodeKind::Symlink(_) | NodeKind::Special(_) => true,
        }
    }

    /// Whether it is a directory that hides what lower layers have in it.
    pub(super) fn is_opaque(&self) -> bool {
        matches!(&self.kind, NodeKind::Directory(Directory(children)) if children.opaque)
    }

    pub(super) fn implied() -> Self {
        let children = Children { implied: true, ..Children::default() };
        Self { kind: NodeKind::Directory(Directory(Arc::new(children))), ..Self::directory(0o755) }
    }

    /// Becomes `directory`; what is in this one stays, where that has nothing in it.
    pub(super) fn renew(&mut self, directory: Self) {
        let before = std::mem::replace(self, directory);
        if let (NodeKind::Directory(Directory(now)), NodeKind::Directory(Directory(before))) =
            (&mut self.kind, before.kind)
            && now.directories.is_empty()
            && now.leaves.is_empty()
        {
            let implied = now.implied;
            *now = before;
            if now.implied != implied {
                Arc::make_mut(now).implied = implied;
            }
        }
    }

    /// The directory at `path` below this one; what is missing on the way is made.
    pub(super) fn make_directories(&mut self, path: &[u8]) -> &mut Self {
        let mut at = self;
        for part in path.split(|b| *b == b'/').filter(|part| !part.is_empty()) {
            let children = at.make_children();
            if !children.directories.contains_key(part) {
                children.leaves.remove(part);
                children.directories.insert(part.into(), Self::implied());
            }
            at = children.directories.get_mut(part).expect("it was made above");
        }
        at
    }

    /// The children, of a directory that it becomes where it is none.
    pub(super) fn make_children(&mut self) -> &mut Children {
        if !self.is_directory() {
            *self = Self::implied();
        }
        match &mut self.kind {
            NodeKind::Directory(Directory(children)) => Arc::make_mut(children),
            NodeKind::File(_) | NodeKind::Symlink(_) | NodeKind::Special(_) => {
                unreachable!("made a directory above")
            }
        }
    }
}

/// The modification time of something that has one, in seconds since the epoch. 0 stands for none, so that the epoch itself,
/// and what is before it, becomes the second behind it.
pub(crate) const fn own_mtime(seconds: u32) -> u32 {
    if seconds == 0 { 1 } else { seconds }
}
