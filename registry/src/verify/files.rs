//! The files of an image, layer over layer, held against files here: what is other, what is missing, what is too much.

use std::collections::BTreeMap;
use std::sync::Arc;

use crossdock_storage::{
    Compared, ComparedEntry, Digest, Error as StorageError, ImageManifest, IndexKind, LayerPath, LocalKind,
    LocalTree, blocking,
};

use super::blobs::Contents;
use super::{Mismatch, Verified, VerifiedFiles};
use crate::error::Result;

/// What an image has at a path, and the layer that it comes from.
type Tree<'a> = BTreeMap<&'a LayerPath, (&'a Digest, &'a ComparedEntry)>;

/// Holds every image against the files here, and adds to the report what came of it.
pub(super) async fn hold(
    manifests: Vec<(Digest, ImageManifest, Option<String>)>,
    contents: Contents,
    tree: Arc<LocalTree>,
    report: &mut Verified,
) -> Result<()> {
    // Hard links are looked at by reading files here.
    let work = blocking(move || {
        let mut found = Found::default();
        for (digest, manifest, _) in &manifests {
            found.image(digest, manifest, &contents, &tree)?;
        }
        Ok::<_, StorageError>(found)
    });
    let found = work.await?;
    for mismatch in found.mismatches {
        // Images of several platforms share layers.
        if !report.mismatches.contains(&mismatch) {
            report.mismatches.push(mismatch);
        }
    }
    report.notes.extend(found.notes);
    report.files = Some(found.files);
    Ok(())
}

#[derive(Default)]
struct Found {
    files: VerifiedFiles,
    mismatches: Vec<Mismatch>,
    notes: Vec<String>,
}

impl Found {
    fn image(
        &mut self,
        digest: &Digest,
        manifest: &ImageManifest,
        contents: &Contents,
        tree: &LocalTree,
    ) -> Result<(), StorageError> {
        let layers: Vec<_> = manifest
            .layers()
            .iter()
            .filter_map(|layer| Some((layer.digest(), contents.get(layer.digest().as_ref())?.as_slice())))
            .collect();
        let complete = layers.len() == manifest.layers().len();
        if !complete {
            let note = format!("which files {digest} lacks cannot be told: a layer could not be looked into");
            self.notes.push(note);
        }
        let image = overlay(&layers);
        for (path, local) in tree.iter() {
            match image.get(path) {
                Some((layer, there)) => self.entry(layer, there, &image, tree)?,
                // That of the files in it is said; and no image has sockets.
                None if matches!(local.kind, LocalKind::Directory | LocalKind::Socket) || !complete => {}
                None => self.mismatches.push(Mismatch {
                    file: Some(local.path.clone()),
                    ..Mismatch::new(digest, format!("the image has no {path}"))
                }),
            }
        }
        for (path, (layer, there)) in &image {
            let is_file = there.entry.kind != IndexKind::Directory;
            if is_file && tree.covers(path) && tree.at(path).is_none() {
                let problem = format!("{path} is in the image, and not here");
                self.mismatches.push(Mismatch::new(layer, problem));
            }
        }
        Ok(())
    }

    /// An entry of the image at whose path there is something here.
    fn entry(
        &mut self,
        layer: &Digest,
        there: &ComparedEntry,
        image: &Tree<'_>,
        tree: &LocalTree,
    ) -> Result<(), StorageError> {
        self.files.count += 1;
        if let IndexKind::File(size) = there.entry.kind {
            self.files.size += size;
        }
        match &there.outcome {
            Some(Compared::Same { bytes }) => self.files.compared += bytes,
            Some(Compared::Differs(difference)) => self.mismatches.push(Mismatch {
                file: Some(difference.file.clone()),
                offset: difference.offset,
                ..Mismatch::new(layer, difference.problem.clone())
            }),
            _ => self.hard_link(layer, there, image, tree)?,
        }
        Ok(())
    }

    /// A hard link has its target's content, which was held against what is at the target's path here.
    fn hard_link(
        &mut self,
        layer: &Digest,
        there: &ComparedEntry,
        image: &Tree<'_>,
        tree: &LocalTree,
    ) -> Result<(), StorageError> {
        let path = &there.entry.path;
        let (IndexKind::HardLink(target), Some(local)) = (&there.entry.kind, tree.at(path)) else {
            return Ok(());
        };
        let problem = match (tree.at(target), image.contains_key(target)) {
            (Some(other), true) if local.same_as(other)? => return Ok(()),
            (Some(_), true) => format!("{path} has the bytes of {target} in the image, and others here"),
            _ => format!(
                "{path} has the bytes of {target} in the image, which has nothing here to compare with"
            ),
        };
        let file = Some(local.path.clone());
        self.mismatches.push(Mismatch { file, ..Mismatch::new(layer, problem) });
        Ok(())
    }
}

/// What is left to be seen when each layer lies over those below it (OCI image-spec, layer.md, "Applying Changesets").
fn overlay<'a>(layers: &[(&'a Digest, &'a [ComparedEntry])]) -> Tree<'a> {
    let mut tree = Tree::new();
    for (digest, entries) in layers {
        // Whiteouts are for what lies below, wherever in the archive they stand.
        for entry in *entries {
            let path = &entry.entry.path;
            match entry.entry.kind {
                IndexKind::Whiteout => tree.retain(|known, _| !known.starts_with(path)),
                IndexKind::Opaque => tree.retain(|known, _| *known == path || !known.starts_with(path)),
                _ => {}
            }
        }
        for entry in *entries {
            match entry.entry.kind {
                IndexKind::Whiteout | IndexKind::Opaque => {}
                IndexKind::Directory => drop(tree.insert(&entry.entry.path, (digest, entry))),
                _ => {
                    let path = &entry.entry.path;
                    let was = tree.insert(path, (digest, entry));
                    if was.is_some_and(|(_, was)| was.entry.kind == IndexKind::Directory) {
                        tree.retain(|known, _| *known == path || !known.starts_with(path));
                    }
                }
            }
        }
    }
    tree
}

#[cfg(test)]
mod tests {
    use crossdock_storage::{Hasher, IndexEntry, Xattrs};

    use super::*;

    fn layer(entries: &[(&str, IndexKind)]) -> Vec<ComparedEntry> {
        let entry = |(path, kind): &(&str, IndexKind)| {
            let path = LayerPath::clean(path).unwrap();
            let entry = IndexEntry {
                path,
                kind: kind.clone(),
                mode: 0,
                uid: 0,
                gid: 0,
                mtime: 0,
                offset: None,
                pieces: None,
                digest: None,
                xattrs: Xattrs::default(),
                content: None,
            };
            ComparedEntry { entry, outcome: None }
        };
        entries.iter().map(entry).collect()
    }

    #[test]
    fn layers_hide_what_lies_below_them() {
        use IndexKind::{Directory, File, Opaque, Whiteout};
        let below = layer(&[
            ("a", Directory),
            ("a/old", File(1)),
            ("a/kept", File(1)),
            ("b", Directory),
            ("b/gone", File(1)),
            ("c", Directory),
            ("c/x", File(1)),
            ("cx", File(1)),
        ]);
        // An opaque whiteout may stand behind what its own layer has there.
        let above =
            layer(&[("a/old", Whiteout), ("b/new", File(2)), ("b", Opaque), ("c", File(3)), ("cx", File(4))]);
        let digests = [Hasher::digest(b"below"), Hasher::digest(b"above")];
        let tree = overlay(&[(&digests[0], &below), (&digests[1], &above)]);
        let seen: Vec<_> = tree
            .iter()
            .map(|(path, (digest, _))| {
                format!("{path} {}", if **digest == digests[0] { "below" } else { "above" })
            })
            .collect();
        assert_eq!(seen, ["/a below", "/a/kept below", "/b below", "/b/new above", "/c above", "/cx above"]);
    }
}
