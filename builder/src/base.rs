//! The file tree of an image, from the indexes of its layers.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{
    Cancel, Compression, Detail, Error, FileContent, FileState, ImageSink, ImageSource, IndexEntry,
    IndexKind, IndexStore, IndexedSource, Layer, LayerIndex, LayerOrigin, LayerWatch, NewLayer, NoProgress,
    Packed, Piece, Progress, ReadOptions, ResolvedImage, Result, Segment, VirtualLayer, Warnings, blocking,
    in_lanes, spread,
};

use crate::tree::{FileNode, FileTree, Node, NodeKind, draining, own_mtime};

/// Where the bytes of a layer's files are.
enum Contents {
    /// Nobody asks.
    Unknown,
    /// In the files that the layer is made of.
    Files(VirtualLayer),
    /// In its tar.
    Packed(Packed),
}

/// Where the layers of a base go to while they are read.
#[derive(Debug, Clone)]
pub struct Ahead {
    /// A destination that [`takes_ahead`](ImageSink::takes_ahead); `None` where the layers are read alone.
    pub sink: Option<Arc<dyn ImageSink>>,
    /// Layers that are read at the same time, at least one.
    pub jobs: usize,
    /// Who is told.
    pub progress: Arc<dyn Progress>,
    /// The word to stop.
    pub cancel: Cancel,
    /// Receives what is most likely not as it was meant of the images.
    pub warnings: Warnings,
}

impl Ahead {
    /// The layers are read alone, and nobody is told.
    #[must_use]
    pub fn nowhere() -> Self {
        Self {
            sink: None,
            jobs: 1,
            progress: Arc::new(NoProgress),
            cancel: Cancel::default(),
            warnings: Warnings::default(),
        }
    }
}

/// Reads what an image holds: each layer's index is recalled from `store`, or read from the layer's stream once. With
/// [`Detail::Contents`] the files can be copied out of it; their bytes are read when they are sent.
///
/// A layer that has to be read and that the destination of `ahead` lacks goes there by the way, so that it is had from
/// its source once.
///
/// A [foreign](crossdock_storage::is_foreign) layer may be nowhere to be had. Where nothing is copied out of the image, there is
/// a warning then, and the tree is [unknown](FileTree::unknown).
///
/// # Errors
/// Those of the source and the destination, and of layers that are not as their descriptors say.
pub async fn base_tree(
    source: &Arc<dyn ImageSource>,
    image: &ResolvedImage,
    detail: Detail,
    store: Option<&IndexStore>,
    ahead: &Ahead,
) -> Result<FileTree> {
    let layers = image.layers(&source.name())?;
    let indexed = in_lanes(layers, ahead.jobs, &ahead.cancel, |number, layer| {
        let (source, store, ahead) = (Arc::clone(source), store.cloned(), ahead.clone());
        let warnings = ahead.warnings.clone();
        async move {
            let name = layer.is_foreign().then(|| (layer.descriptor.digest().clone(), source.name()));
            let result = indexed(source, layer, detail, store, ahead, number).await;
            match (name, result) {
                (Some((digest, image)), Err(error)) if detail == Detail::Names && cannot_be_had(&error) => {
                    warnings.add(format!(
                        "what {image} holds is not known, for its layer {digest}, which only its URLs have, cannot be \
                         read: {}",
                        chain(&error)
                    ));
                    Ok(None)
                }
                (_, result) => result.map(Some),
            }
        }
    });
    let layers: Option<Vec<_>> = indexed.await?.into_iter().collect();
    let Some(layers) = layers else { return Ok(FileTree::unknown()) };
    let cancel = ahead.cancel.clone();
    blocking(move || {
        let mut tree = FileTree::empty();
        for (index, contents) in layers {
            let contents = if detail == Detail::Contents { contents } else { Contents::Unknown };
            apply(&mut tree, index, &contents, &cancel)?;
        }
        Ok(tree)
    })
    .await
}

/// Whether bytes are not there, or not within reach; bytes that are not as they should be are another matter.
fn cannot_be_had(error: &Error) -> bool {
    matches!(error, Error::Backend(_) | Error::Load { .. })
}

/// An error with its causes.
fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

/// The index of a layer, and where its bytes are.
async fn indexed(
    source: Arc<dyn ImageSource>,
    layer: Layer,
    detail: Detail,
    store: Option<IndexStore>,
    ahead: Ahead,
    number: usize,
) -> Result<(LayerIndex, Contents)> {
    match source.origin(&layer.descriptor) {
        Some(LayerOrigin::Files { layer: files, compression, state }) => {
            if detail == Detail::Contents && state == FileState::Touched {
                check_digest(&source, &layer, &files, compression, &ahead.cancel).await?;
            }
            let of_files = files.clone();
            let index = blocking(move || match recall(store.as_ref(), &layer, Detail::Names) {
                Some(index) => Ok(index),
                None => LayerIndex::of_files(&of_files).map(|index| remember(store.as_ref(), &layer, index)),
            });
            Ok((index.await?, Contents::Files(files)))
        }
        other => {
            let source = if let Some(LayerOrigin::Blob(source)) = other { source } else { source };
            let (wanted, known) = (layer.clone(), store.clone());
            let index = match blocking(move || recall(known.as_ref(), &wanted, detail)).await {
                Some(index) => index,
                None => {
                    let (index, read) = (read(&source, &layer, detail, &ahead, number).await?, layer.clone());
                    blocking(move || remember(store.as_ref(), &read, index)).await
                }
            };
            Ok((index, Contents::Packed(Packed::of_layer(source, layer)?)))
        }
    }
}

/// Hashes files of an image that is remembered, of which one has another change time now: what is copied out of the
/// image must be what it has in it, and a part of a layer has no digest to hold it against.
async fn check_digest(
    source: &Arc<dyn ImageSource>,
    layer: &Layer,
    files: &VirtualLayer,
    compression: Compression,
    cancel: &Cancel,
) -> Result<()> {
    let title = base_title(source);
    let new = NewLayer { title, layer: files.clone(), compression, known: Some(layer.clone()) };
    let read = ReadOptions { cancel: cancel.clone(), ..ReadOptions::default() };
    new.check(&new.digest(&read, &LayerWatch::silent()).await?)
}

/// Reads a layer's index: from the bytes that go to the destination, or else from a stream of its own.
async fn read(
    source: &Arc<dyn ImageSource>,
    layer: &Layer,
    detail: Detail,
    ahead: &Ahead,
    number: usize,
) -> Result<LayerIndex> {
    ahead.progress.announce(number, &base_title(source), layer.descriptor.size());
    let watch = LayerWatch::new(number, Arc::clone(&ahead.progress));
    if let Some(sink) = ahead.sink.as_ref().filter(|_| !layer.is_foreign()) {
        let passing = IndexedSource::new(Arc::clone(source), layer.clone(), detail);
        sink.take_blob(&layer.descriptor, Some(&layer.diff_id), &passing, &watch).await?;
        if let Some(index) = passing.index().await? {
            return Ok(index);
        }
    }
    LayerIndex::read(&**source, layer, detail, &watch).await
}

/// What the layers of a base are called.
pub(crate) fn base_title(source: &Arc<dyn ImageSource>) -> String {
    format!("base {}", source.name())
}

fn recall(store: Option<&IndexStore>, layer: &Layer, detail: Detail) -> Option<LayerIndex> {
    store.and_then(|store| store.recall(&layer.diff_id)).filter(|index| index.has(detail))
}

fn remember(store: Option<&IndexStore>, layer: &Layer, index: LayerIndex) -> LayerIndex {
    if let Some(store) = store
        && let Err(error) = store.remember(&layer.diff_id, &index)
    {
        tracing::warn!(%error, "the index of a base layer is not remembered");
    }
    index
}

/// Puts a layer upon the tree: what it takes away goes first, for a whiteout is for lower layers only
/// (OCI image-spec, layer.md, "Whiteouts").
fn apply(tree: &mut FileTree, index: LayerIndex, contents: &Contents, cancel: &Cancel) -> Result<()> {
    for entry in &index.entries {
        match entry.kind {
            IndexKind::Whiteout => tree.remove(&entry.path),
            IndexKind::Opaque => tree.clear(&entry.path),
            _ => {}
        }
    }
    // An entry goes as it becomes a node.
    for mut entry in draining(index.entries) {
        cancel.check()?;
        let kind = match &entry.kind {
            IndexKind::Directory => Node::directory(entry.mode).kind,
            IndexKind::File(size) => NodeKind::File(file(&entry, *size, contents)?),
            IndexKind::Symlink(target) => NodeKind::Symlink(Arc::new(Bytes::clone(target))),
            IndexKind::HardLink(target) => {
                // A link to a link is that link; a target that is not there is a file all the same. So is a directory:
                // no system links one, and a tree that is put into itself again and again has no end.
                match tree.get(target).map(|node| &node.kind) {
                    None | Some(NodeKind::Directory(_)) => NodeKind::File(FileNode::InBase),
                    Some(kind) => kind.clone(),
                }
            }
            IndexKind::Special(special) => NodeKind::Special(Arc::new(*special)),
            IndexKind::Whiteout | IndexKind::Opaque => continue,
        };
        tree.insert(
            &entry.path,
            Node {
                kind,
                mode: entry.mode,
                uid: entry.uid,
                gid: entry.gid,
                mtime: own_mtime(entry.mtime),
                xattrs: std::mem::take(&mut entry.xattrs),
            },
        );
    }
    Ok(())
}

/// A file of a layer, whose bytes are at hand where they were asked for and stand in one piece.
fn file(entry: &IndexEntry, size: u64, contents: &Contents) -> Result<FileNode> {
    if let Some(content) = &entry.content {
        return Ok(FileNode::Inline(Arc::new(Bytes::clone(content))));
    }
    // A file that is stored in one piece is no other thing.
    let digest = || entry.digest.as_deref().cloned();
    let whole = |offset| vec![Piece { at: 0, offset, len: size, digest: digest() }];
    let known = match contents {
        Contents::Unknown => None,
        _ => entry.pieces.as_deref().map(<[Piece]>::to_vec).or_else(|| entry.offset.map(whole)),
    };
    let Some(pieces) = known else { return Ok(FileNode::InBase) };
    let digested = pieces.iter().all(|piece| piece.digest.is_some());
    let known = match contents {
        Contents::Unknown => false,
        Contents::Files(_) => true,
        Contents::Packed(_) => digested,
    };
    Ok(match known {
        false => FileNode::InBase,
        true if size == 0 => FileNode::Inline(Arc::default()),
        true => FileNode::from(FileContent::of_parts(spread(size, &pieces, |piece| match contents {
            Contents::Files(files) => Ok(files.part(piece.offset, piece.len)?.segments().collect()),
            Contents::Packed(packed) => {
                let &Piece { offset, len, ref digest, .. } = piece;
                Ok(vec![Segment::Packed { packed: packed.clone(), offset, len, digest: digest.clone() }])
            }
            Contents::Unknown => Ok(Vec::new()),
        })?)),
    })
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
                mtime: 0,
                offset: None,
                pieces: None,
                digest: None,
                xattrs: crossdock_storage::Xattrs::default(),
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
            index(&[
                ("tmp", IndexKind::Directory),
                ("a/x", IndexKind::File(1)),
                ("b/x", IndexKind::File(1)),
                ("c", IndexKind::File(1)),
            ]),
            &Contents::Unknown,
            &Cancel::default(),
        )
        .unwrap();
        apply(
            &mut tree,
            index(&[
                ("a/y", IndexKind::File(1)),
                ("a", IndexKind::Opaque),
                ("b/x", IndexKind::Whiteout),
                ("c", IndexKind::Whiteout),
                ("c", IndexKind::File(2)),
            ]),
            &Contents::Unknown,
            &Cancel::default(),
        )
        .unwrap();
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
        apply(&mut tree, index(&entries), &Contents::Unknown, &Cancel::default()).unwrap();
        assert!(matches!(tree.get(&LayerPath::clean(&deep).unwrap()).unwrap().kind, NodeKind::File(_)));
        assert!(!has(&tree, &deep.repeat(2)));
    }
}
