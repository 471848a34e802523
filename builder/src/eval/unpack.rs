//! ADD of local archives: what is in them goes into the layer, and nothing to disk.
//!
//! The rules are buildah's, tried with 1.28.2: the destination is a directory, and the root of all links in it; entries keep
//! their owner and mode, set-id bits too, whatever `--chown` and `--chmod` say; those are for the directories made on the
//! way. What the archive has takes the place of what the image has, but for a directory that meets one. An archive in a
//! directory that is added stays packed.

use std::sync::Arc;

use bytes::Bytes;
use crossdock_storage::{IndexEntry, IndexKind, LayerPath, SourceArchive};

use super::Stage;
use super::destination::Writer;
use crate::containerfile::{Diagnostic, Span};
use crate::error::{Error, Problem};
use crate::ignore::IgnoreFile;
use crate::origin::{Found, shown};
use crate::tree::{FileTree, Node, NodeKind, draining, own_mtime};

impl Stage<'_> {
    /// The archives among what ADD was given by name, and the rest.
    pub(super) fn archives(
        &self,
        found: Vec<Found>,
        exclude: &IgnoreFile,
        span: Span,
    ) -> Result<(Vec<SourceArchive>, Vec<Found>), Error> {
        let cancel = &self.options.cancel;
        let (mut archives, mut rest) = (Vec::new(), Vec::new());
        for found in found {
            let excluded = exclude.verdict(found.below()).ignored_by.is_some();
            if !excluded && self.origins.context.is_nested_archive(&found) {
                let message =
                    format!("ADD cannot unpack {}: it lies in an archive itself", shown(&found.path));
                return Err(self.invalid_with_help(
                    span,
                    &message,
                    "use COPY, or ADD --unpack=false, to keep it as it is; or make the context a directory",
                ));
            }
            let archive = match self.origins.context.source_file(&found) {
                Some(file) if !excluded => SourceArchive::read(&file, cancel).map_err(|source| {
                    if cancel.is_cancelled() {
                        return Error::Interrupted;
                    }
                    let message = format!("ADD cannot unpack {}", shown(&found.path));
                    Error::Archive {
                        diagnostic: Diagnostic::new(self.source, span, message)
                            .with_help("use COPY, or ADD --unpack=false, to keep it as it is"),
                        source: Box::new(source),
                    }
                })?,
                _ => None,
            };
            match archive {
                Some(archive) => archives.push(archive),
                None => rest.push(found),
            }
        }
        Ok((archives, rest))
    }
}

/// What an archive holds, as it would be unpacked into an empty root directory.
pub(crate) fn tree_of_archive(archive: SourceArchive) -> Result<FileTree, Problem> {
    let mut tree = FileTree::empty();
    unpack(&mut Writer::new(&mut tree, None, None), &LayerPath::root(), archive)?;
    Ok(tree)
}

/// Unpacks an archive into a directory.
pub(super) fn unpack(
    writer: &mut Writer<'_>,
    directory: &LayerPath,
    mut archive: SourceArchive,
) -> Result<(), Problem> {
    writer.begin_archive();
    // An entry goes as it becomes a node.
    for entry in draining(std::mem::take(&mut archive.entries)) {
        let entry = &entry;
        let refused = |what: &str| {
            Err(Problem::new(format!("{} in the archive is {what}", entry.path))
                .with_help("use COPY to keep it packed, or unpack it in an earlier step of the pipeline"))
        };
        let kind = match &entry.kind {
            IndexKind::Directory => Node::directory(0).kind,
            IndexKind::Symlink(target) => NodeKind::Symlink(Arc::new(Bytes::clone(target))),
            IndexKind::File(_) => match archive.content(entry) {
                Some(content) => NodeKind::File(content.into()),
                None => return refused("a file with attributes that cannot be read"),
            },
            IndexKind::HardLink(target) => match writer.link(directory, target, entry) {
                Some(kind) => kind,
                None => {
                    let what = format!(
                        "a hard link to {target}, which is no file in it and none that ADD or COPY brought there"
                    );
                    return refused(&what);
                }
            },
            IndexKind::Special(special) => NodeKind::Special(Arc::new(*special)),
            IndexKind::Whiteout | IndexKind::Opaque => {
                let name = entry.name_in_archive();
                return Err(Problem::new(format!(
                    "{name} in the archive has a name that begins with .wh., which in a layer takes files away"
                ))
                .with_help("use COPY to keep it packed, or rename it in an earlier step of the pipeline"));
            }
        };
        // Whatever an archive says, no system gives a symlink another mode.
        let mode = if matches!(kind, NodeKind::Symlink(_)) { 0o777 } else { entry.mode };
        let &IndexEntry { uid, gid, .. } = entry;
        let mtime = own_mtime(entry.mtime);
        let node = Node { kind, mode, uid, gid, mtime, xattrs: entry.xattrs.clone() };
        writer.unpack(directory, &entry.path, node)?;
    }
    writer.end_archive();
    Ok(())
}
