//! A directory of the context, entry by entry: what is ignored is left out, links are carried as links.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{Dir, DirEntry, FileTypeExt, Metadata, MetadataExt};
use crossdock_storage::{Fence, FileContent, SourceFile, Special, Xattrs, in_parallel};
use nix::fcntl::AtFlags;
use nix::unistd::{AccessFlags, faccessat};

use super::own::Present;
use super::{Context, os_path, unreadable};
use crate::error::Problem;
use crate::ignore::{IgnoreFile, ParentMatch};
use crate::origin::{Item, ItemKind, Visit, join, shown};
use crate::tree::FileNode;

/// Entries of a directory that are looked at side by side: what is known of them is in memory at once.
const BATCH: usize = 1024;

pub(super) struct Walk<'a, 'v> {
    context: &'a Context,
    own: &'a Present,
    exclude: &'a IgnoreFile,
    visit: &'a mut Visit<'v>,
    /// Files with several names, by device and inode.
    links: HashMap<(u64, u64), Arc<FileNode>>,
}

/// Something in the context, and where it goes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    /// From the context's root on.
    pub(super) path: &'a [u8],
    /// Below the destination.
    pub(super) below: &'a [u8],
}

/// What the file system says of a path.
pub(super) struct Seen {
    metadata: Metadata,
    /// A symlink's.
    target: Bytes,
    xattrs: Xattrs,
    /// What messages call it where this run writes it; then it is not copied.
    own: Option<Arc<str>>,
}

/// What ignore file and `--exclude` say of a directory.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub(super) ignored: ParentMatch,
    pub(super) excluded: ParentMatch,
}

/// An entry of a directory that has to be looked at.
struct Entry {
    entry: DirEntry,
    path: Vec<u8>,
    below: Vec<u8>,
    matched: Matched,
    /// Left out by itself, and entered only as it may be a directory with something in it that is not.
    left_out: bool,
    seen: Option<Result<Seen, Problem>>,
}

impl<'a, 'v> Walk<'a, 'v> {
    pub(super) fn new(
        context: &'a Context,
        own: &'a Present,
        exclude: &'a IgnoreFile,
        visit: &'a mut Visit<'v>,
    ) -> Self {
        Self { context, own, exclude, visit, links: HashMap::new() }
    }

    /// All that is in a directory.
    pub(super) fn directory(
        &mut self,
        directory: &Dir,
        place: Place<'_>,
        matched: &Matched,
    ) -> Result<(), Problem> {
        Problem::check(&self.context.cancel)?;
        let mut entries: Vec<(Vec<u8>, DirEntry)> = directory
            .entries()
            .and_then(|entries| entries.map(|e| e.map(|e| (e.file_name().into_vec(), e))).collect())
            .map_err(|error| unreadable(place.path, error))?;
        entries.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        let mut entries = entries.into_iter();
        while entries.len() > 0 {
            let next = entries.by_ref().take(BATCH);
            let mut batch: Vec<Entry> =
                next.filter_map(|(name, entry)| self.wanted(&name, entry, place, matched)).collect();
            // On a network file system each look is a round trip.
            in_parallel(&mut batch, |entry| {
                Problem::check(&self.context.cancel)?;
                entry.seen = Some(entry.look(directory, self.context, self.own));
                Ok(())
            })?;
            for entry in batch {
                self.entry(entry)?;
            }
        }
        Ok(())
    }

    /// What has to be looked at.
    fn wanted(&self, name: &[u8], entry: DirEntry, parent: Place<'_>, matched: &Matched) -> Option<Entry> {
        let (path, below) = (join(parent.path, name), join(parent.below, name));
        let ignored = self.context.ignore.child(&path, &matched.ignored);
        let excluded = self.exclude.child(&below, &matched.excluded);
        let left_out = ignored.ignored_by.is_some() || excluded.ignored_by.is_some();
        let enter = (ignored.ignored_by.is_none() || self.context.ignore.may_except_below(&path))
            && (excluded.ignored_by.is_none() || self.exclude.may_except_below(&below));
        let matched = Matched { ignored: ignored.matched, excluded: excluded.matched };
        (!left_out || enter).then(|| Entry { entry, path, below, matched, left_out, seen: None })
    }

    fn entry(&mut self, entry: Entry) -> Result<(), Problem> {
        let Entry { entry, path, below, matched, left_out, seen } = entry;
        let (place, fail) = (Place { path: &path, below: &below }, |error| unreadable(&path, error));
        let Some(seen) = seen.transpose()? else { return Ok(()) };
        if let (Some(what), false) = (&seen.own, left_out) {
            self.context.leave_out(&path, what);
        }
        if seen.own.is_some() {
            return Ok(());
        }
        if !seen.metadata.is_dir() {
            return if left_out { Ok(()) } else { self.one(place, seen) };
        }
        let inside = entry.open_dir().map_err(fail)?;
        let opened = inside.dir_metadata().map_err(fail)?;
        if (opened.dev(), opened.ino()) != (seen.metadata.dev(), seen.metadata.ino()) {
            return Err(Problem::new(format!("{} was exchanged while the context was read", shown(&path)))
                .with_help("run the build again when nothing writes to the context"));
        }
        if !left_out {
            self.one(place, seen)?;
        }
        self.directory(&inside, place, &matched)
    }

    /// A file, a link, or a directory without what is in it.
    pub(super) fn one(&mut self, place: Place<'_>, seen: Seen) -> Result<(), Problem> {
        let Seen { metadata, target, xattrs, .. } = seen;
        let kind = if metadata.is_dir() {
            ItemKind::Directory
        } else if metadata.is_file() {
            ItemKind::File(self.file(place.path, &metadata))
        } else if metadata.is_symlink() {
            ItemKind::Symlink(target)
        } else if metadata.file_type().is_socket() {
            ItemKind::Socket
        } else {
            let special = Special::of(metadata.mode(), metadata.rdev());
            ItemKind::Special(special.ok_or_else(|| {
                Problem::new(format!("{} is a device that an image layer cannot carry", shown(place.path)))
                    .with_help("remove it or name it in .containerignore")
            })?)
        };
        (self.visit)(Item {
            path: place.below,
            kind,
            mode: metadata.mode() & 0o7777,
            uid: metadata.uid(),
            gid: metadata.gid(),
            xattrs,
        })
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

impl Entry {
    fn look(&self, directory: &Dir, context: &Context, own: &Present) -> Result<Seen, Problem> {
        let metadata = self.entry.metadata().map_err(|error| unreadable(&self.path, error))?;
        let name = self.entry.file_name();
        let own = own.what(&metadata, name.as_bytes()).cloned();
        if self.left_out || own.is_some() {
            // Nothing of it is carried.
            return Ok(Seen { metadata, target: Bytes::new(), xattrs: Xattrs::default(), own });
        }
        Seen::of(context, directory, Path::new(&name), &self.path, metadata)
    }
}

impl Seen {
    /// All that is carried of what is called `name` in `directory`, and `path` in the context.
    pub(super) fn of(
        context: &Context,
        directory: &Dir,
        name: &Path,
        path: &[u8],
        metadata: Metadata,
    ) -> Result<Self, Problem> {
        let look = || {
            let mut target = Bytes::new();
            if metadata.is_file() {
                check_readable(directory, name)?;
            } else if metadata.is_symlink() {
                target = directory.read_link_contents(name)?.into_os_string().into_vec().into();
            }
            let xattrs = if metadata.is_file() || metadata.is_dir() {
                // By path, as there is no other way; what is exchanged meanwhile fails its fence.
                let found = Xattrs::of_path(&context.root.join(os_path(path)))?;
                if let Some(error) = found.refused {
                    context.refuse_xattrs(metadata.dev(), path, &error);
                }
                found.xattrs
            } else {
                Xattrs::default()
            };
            Ok((target, xattrs))
        };
        let (target, xattrs) = look().map_err(|error| unreadable(path, error))?;
        Ok(Self { metadata, target, xattrs, own: None })
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
