//! A directory of the context, entry by entry: what is ignored is left out, links are carried as links.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{Dir, DirEntry, FileTypeExt, Metadata, MetadataExt};
use crossdock_storage::{Fence, FileContent, SourceFile, Special, Xattrs};
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::{Context, os_path, unreadable};
use crate::error::Problem;
use crate::ignore::{IgnoreFile, ParentMatch};
use crate::origin::{Item, ItemKind, Visit, shown};
use crate::tree::FileNode;

pub(super) struct Walk<'a, 'v> {
    context: &'a Context,
    exclude: &'a IgnoreFile,
    visit: &'a mut Visit<'v>,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), Arc<FileNode>>,
    /// The path below the destination.
    below: Vec<u8>,
}

impl<'a, 'v> Walk<'a, 'v> {
    pub(super) fn new(
        context: &'a Context,
        exclude: &'a IgnoreFile,
        below: &[u8],
        visit: &'a mut Visit<'v>,
    ) -> Self {
        Self { context, exclude, visit, links: HashMap::new(), below: below.to_vec() }
    }

    /// `path` is the directory's, from the context root on; it comes back as it was.
    pub(super) fn directory(
        &mut self,
        directory: &Dir,
        path: &mut Vec<u8>,
        ignored: &ParentMatch,
        excluded: &ParentMatch,
    ) -> Result<(), Problem> {
        let mut entries: Vec<(Vec<u8>, DirEntry)> = directory
            .entries()
            .and_then(|entries| entries.map(|e| e.map(|e| (e.file_name().into_vec(), e))).collect())
            .map_err(|error| unreadable(path, error))?;
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let (path_len, below_len) = (path.len(), self.below.len());
        for (name, entry) in entries {
            for path in [&mut *path, &mut self.below] {
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&name);
            }
            self.entry(directory, &name, &entry, path, ignored, excluded)?;
            path.truncate(path_len);
            self.below.truncate(below_len);
        }
        Ok(())
    }

    fn entry(
        &mut self,
        directory: &Dir,
        name: &[u8],
        entry: &DirEntry,
        path: &mut Vec<u8>,
        ignored: &ParentMatch,
        excluded: &ParentMatch,
    ) -> Result<(), Problem> {
        let fail = |error| unreadable(path, error);
        let ignore = &self.context.ignore;
        let (ignored, excluded) = (ignore.child(path, ignored), self.exclude.child(&self.below, excluded));
        let left_out = ignored.ignored_by.is_some() || excluded.ignored_by.is_some();
        if left_out {
            let enter = (ignored.ignored_by.is_none() || ignore.may_except_below(path))
                && (excluded.ignored_by.is_none() || self.exclude.may_except_below(&self.below));
            if !enter || !entry.metadata().map_err(fail)?.is_dir() {
                return Ok(());
            }
        }
        let metadata = entry.metadata().map_err(fail)?;
        if !metadata.is_dir() {
            return self.one(directory, os_path(name), path, &metadata);
        }
        let inside = entry.open_dir().map_err(fail)?;
        let opened = inside.dir_metadata().map_err(fail)?;
        if (opened.dev(), opened.ino()) != (metadata.dev(), metadata.ino()) {
            return Err(Problem::new(format!("{} was exchanged while the context was read", shown(path)))
                .with_help("run the build again when nothing writes to the context"));
        }
        if !left_out {
            self.directory_itself(path, &metadata)?;
        }
        self.directory(&inside, path, &ignored.matched, &excluded.matched)
    }

    /// A directory without what is in it.
    pub(super) fn directory_itself(&mut self, path: &[u8], metadata: &Metadata) -> Result<(), Problem> {
        let xattrs = self.xattrs(path)?;
        (self.visit)(Item {
            path: &self.below,
            kind: ItemKind::Directory,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            xattrs,
        })
    }

    /// What is no directory.
    pub(super) fn one(
        &mut self,
        directory: &Dir,
        name: &Path,
        path: &[u8],
        metadata: &Metadata,
    ) -> Result<(), Problem> {
        let kind = if metadata.is_file() {
            check_readable(directory, name).map_err(|error| unreadable(path, error))?;
            ItemKind::File(self.file(path, metadata))
        } else if metadata.is_symlink() {
            let target = directory.read_link_contents(name).map_err(|error| unreadable(path, error))?;
            ItemKind::Symlink(Bytes::from(target.into_os_string().into_vec()))
        } else if metadata.file_type().is_socket() {
            ItemKind::Socket
        } else {
            let special = Special::of(metadata.mode(), metadata.rdev());
            ItemKind::Special(special.ok_or_else(|| {
                Problem::new(format!("{} is a device that an image layer cannot carry", shown(path)))
                    .with_help("remove it or name it in .containerignore")
            })?)
        };
        let xattrs = if metadata.is_file() { self.xattrs(path)? } else { Xattrs::default() };
        (self.visit)(Item {
            path: &self.below,
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            xattrs,
        })
    }

    /// By path, as there is no other way; what is exchanged meanwhile fails its fence.
    fn xattrs(&self, path: &[u8]) -> Result<Xattrs, Problem> {
        Xattrs::of_path(&self.context.root.join(os_path(path))).map_err(|error| unreadable(path, error))
    }

    fn file(&mut self, path: &[u8], metadata: &Metadata) -> Arc<FileNode> {
        let file = || {
            let source = SourceFile::new(self.context.root.join(os_path(path)), fence(metadata));
            Arc::new(FileNode::Known(FileContent::Source(source)))
        };
        if metadata.nlink() < 2 {
            return file();
        }
        Arc::clone(self.links.entry((metadata.dev(), metadata.ino())).or_insert_with(file))
    }
}

/// Asks the kernel without opening: on a network file system an open is a round trip of its own. Where it says no,
/// opening decides, and gives the reason.
fn check_readable(directory: &Dir, name: &Path) -> io::Result<()> {
    match faccessat(directory, name, AccessFlags::R_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        Err(_) => directory.open(name).map(drop),
    }
}

pub(super) fn fence(metadata: &Metadata) -> Fence {
    let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
    Fence {
        device: metadata.dev(),
        inode: metadata.ino(),
        size: metadata.len(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}
