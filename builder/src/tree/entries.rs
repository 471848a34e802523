//! The entries that a tree becomes.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{Entry, EntryKind, FileContent, LayerPath, Xattrs};

use super::{Children, Directory, FileNode, FileTree, Leaf, Node, NodeKind, OPAQUE, layer_path};
use crate::origin::join;

/// As [`FileTree::into_entries`].
pub(super) fn of(tree: FileTree) -> Vec<Entry> {
    let mut into = Collected { entries: Vec::with_capacity(tree.count()), names: Vec::new() };
    into.directory(tree.root, &mut Vec::new());
    let Collected { mut entries, mut names } = into;
    entries.sort_unstable_by(|a, b| a.path.cmp(&b.path));
    names.sort_unstable_by(|(a, _, path), (b, _, other)| (a, path).cmp(&(b, other)));
    for names in names.chunk_by(|(a, ..), (b, ..)| a == b) {
        let Some(((.., first), others)) = names.split_first() else { continue };
        for (.., name) in others {
            if let Ok(at) = entries.binary_search_by(|entry| entry.path.cmp(name)) {
                entries[at].kind = EntryKind::HardLink { target: first.clone() };
            }
        }
    }
    entries
}

/// Leaves that become entries at a time. glibc keeps small pieces that were freed for requests of just their size, until one
/// of a KiB or more comes: with one for each batch, the paths of entries take the room that leaves had.
const BATCH: usize = 256;

/// The entries of a tree that goes away meanwhile.
struct Collected {
    entries: Vec<Entry>,
    /// What may have several names: the number that these share, what keeps it theirs, and the path.
    names: Vec<(usize, NodeKind, LayerPath)>,
}

impl Collected {
    fn directory(&mut self, node: Node, path: &mut Vec<u8>) {
        let Node { kind, mode, uid, gid, mtime, xattrs } = node;
        let NodeKind::Directory(Directory(children)) = kind else { return };
        let Children { directories, leaves, implied, opaque } = Arc::unwrap_or_clone(children);
        if !implied && !path.is_empty() {
            let path = layer_path(path);
            self.entries.push(Entry { path, kind: EntryKind::Directory, mode, uid, gid, mtime, xattrs });
        }
        if opaque {
            self.entries.push(Entry {
                path: layer_path(&join(path, OPAQUE)),
                kind: EntryKind::File(FileContent::Inline(Bytes::new())),
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: 0,
                xattrs: Xattrs::default(),
            });
        }
        let len = path.len();
        let enter = |path: &mut Vec<u8>, name: &[u8]| {
            path.truncate(len);
            if len > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        };
        let mut leaves = leaves.into_iter();
        while leaves.len() > 0 {
            let mut batch = Vec::with_capacity(BATCH);
            batch.extend(leaves.by_ref().take(BATCH));
            for leaf in batch {
                enter(path, &leaf.0.name);
                self.leaf(leaf, path);
            }
        }
        for (name, node) in directories {
            enter(path, &name);
            self.directory(node, path);
        }
        path.truncate(len);
    }

    fn leaf(&mut self, Leaf(leaf): Leaf, path: &[u8]) {
        let path = layer_path(path);
        let (id, shared) = match &leaf.node.kind {
            NodeKind::File(file) => file.id(),
            NodeKind::Special(special) => (Arc::as_ptr(special) as usize, Arc::strong_count(special) > 1),
            NodeKind::Directory(_) | NodeKind::Symlink(_) => (0, false),
        };
        if id != 0 && (shared || Arc::strong_count(&leaf) > 1) {
            self.names.push((id, leaf.node.kind.clone(), path.clone()));
        }
        let Node { kind, mode, uid, gid, mtime, xattrs } = Arc::unwrap_or_clone(leaf).node;
        let kind = match kind {
            NodeKind::File(file) => match file {
                FileNode::Source(file) => EntryKind::File(FileContent::Source(file)),
                FileNode::Inline(bytes) => EntryKind::File(FileContent::Inline(Arc::unwrap_or_clone(bytes))),
                FileNode::Parts(parts) => EntryKind::File(FileContent::Parts(parts)),
                FileNode::InBase => return,
            },
            NodeKind::Symlink(target) => EntryKind::Symlink { target: Arc::unwrap_or_clone(target) },
            NodeKind::Special(special) => EntryKind::Special(*special),
            NodeKind::Directory(_) => return,
        };
        self.entries.push(Entry { path, kind, mode, uid, gid, mtime, xattrs });
    }
}
