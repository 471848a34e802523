//! The file tree of a base image, from the indexes of its layers.

use std::sync::Arc;

use crossdock_storage::{
    FileContent, ImageSource, IndexKind, IndexStore, LayerIndex, LayerOrigin, ResolvedImage, Result,
};

use crate::tree::{FileNode, FileTree, Node, NodeKind};

/// Reads what a base holds: each layer's index is recalled from `store`, or read from the layer's stream once.
///
/// # Errors
/// Those of the source, and of layers that are not as their descriptors say.
pub async fn base_tree(
    source: &dyn ImageSource,
    image: &ResolvedImage,
    store: Option<&IndexStore>,
) -> Result<FileTree> {
    let mut tree = FileTree::empty();
    for layer in image.layers(&source.name())? {
        let index = match store.and_then(|store| store.recall(&layer.diff_id)) {
            Some(index) => index,
            None => {
                let index = match source.origin(&layer.descriptor) {
                    Some(LayerOrigin::Files { layer: files, .. }) => LayerIndex::of_files(&files)?,
                    Some(LayerOrigin::Blob(source)) => LayerIndex::read(&*source, &layer).await?,
                    None => LayerIndex::read(source, &layer).await?,
                };
                if let Some(store) = store
                    && let Err(error) = store.remember(&layer.diff_id, &index)
                {
                    tracing::warn!(%error, "the index of a base layer is not remembered");
                }
                index
            }
        };
        apply(&mut tree, &index);
    }
    Ok(tree)
}

/// Puts a layer upon the tree: what it takes away goes first, for a whiteout is for lower layers only
/// (OCI image-spec, layer.md, "Whiteouts").
fn apply(tree: &mut FileTree, index: &LayerIndex) {
    for entry in &index.entries {
        match entry.kind {
            IndexKind::Whiteout => tree.remove(&entry.path),
            IndexKind::Opaque => tree.clear(&entry.path),
            _ => {}
        }
    }
    for entry in &index.entries {
        let kind = match &entry.kind {
            IndexKind::Directory => Node::directory(entry.mode).kind,
            IndexKind::File(_) => NodeKind::File(Arc::new(match &entry.content {
                Some(content) => FileNode::Known(FileContent::Inline(content.clone())),
                None => FileNode::InBase,
            })),
            IndexKind::Symlink(target) => NodeKind::Symlink(target.clone()),
            IndexKind::HardLink(target) => {
                // A link to a link is that link; a target that is not there is a file all the same. So is a directory:
                // no system links one, and a tree that is put into itself again and again has no end.
                match tree.get(target).map(|node| &node.kind) {
                    None | Some(NodeKind::Directory(_)) => NodeKind::File(Arc::new(FileNode::InBase)),
                    Some(kind) => kind.clone(),
                }
            }
            IndexKind::Special => NodeKind::Special,
            IndexKind::Whiteout | IndexKind::Opaque => continue,
        };
        tree.insert(&entry.path, Node { kind, mode: entry.mode, uid: entry.uid, gid: entry.gid });
    }
}

#[cfg(test)]
mod tests {
    use crossdock_storage::{IndexEntry, LayerPath};

    use super::*;

    fn index(entries: &[(&str, IndexKind)]) -> LayerIndex {
        let entries = entries
            .iter()
            .map(|(path, kind)| IndexEntry {
                path: LayerPath::clean(path).unwrap(),
                kind: kind.clone(),
                mode: 0o1777,
                uid: 5,
                gid: 6,
                offset: None,
                content: None,
            })
            .collect();
        LayerIndex { entries }
    }

    fn has(tree: &FileTree, path: &str) -> bool {
        tree.get(&LayerPath::clean(path).unwrap()).is_some()
    }

    #[test]
    fn whiteouts_take_away_what_lower_layers_have_and_no_more() {
        let mut tree = FileTree::empty();
        apply(
            &mut tree,
            &index(&[
                ("tmp", IndexKind::Directory),
                ("a/x", IndexKind::File(1)),
                ("b/x", IndexKind::File(1)),
                ("c", IndexKind::File(1)),
            ]),
        );
        apply(
            &mut tree,
            &index(&[
                ("a/y", IndexKind::File(1)),
                ("a", IndexKind::Opaque),
                ("b/x", IndexKind::Whiteout),
                ("c", IndexKind::Whiteout),
                ("c", IndexKind::File(2)),
            ]),
        );
        assert!(!has(&tree, "a/x") && has(&tree, "a/y"));
        assert!(!has(&tree, "b/x") && has(&tree, "b"));
        assert!(has(&tree, "c"));
        let tmp = tree.get(&LayerPath::clean("tmp").unwrap()).unwrap();
        assert_eq!((tmp.mode, tmp.uid, tmp.gid), (0o1777, 5, 6));
    }

    #[test]
    fn hard_links_to_directories_make_no_tree_without_end() {
        let deep = "d/".repeat(2048);
        let mut entries = vec![(deep.as_str(), IndexKind::Directory)];
        for _ in 0..100 {
            entries.push((&deep, IndexKind::HardLink(LayerPath::clean("d").unwrap())));
        }
        let mut tree = FileTree::empty();
        apply(&mut tree, &index(&entries));
        assert!(matches!(tree.get(&LayerPath::clean(&deep).unwrap()).unwrap().kind, NodeKind::File(_)));
        assert!(!has(&tree, &deep.repeat(2)));
    }
}
