//! A directory of the context, entry by entry: what is ignored is left out, links are carried as links, or followed where
//! `--follow-links` says so.

use std::collections::HashMap;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use cap_std::fs::{Dir, Metadata, MetadataExt};
use crossdock_storage::{Fence, SourceDirectory, Special, Xattrs, in_parallel};
use nix::fcntl::AtFlags;
use nix::sys::stat::SFlag;
use nix::unistd::{AccessFlags, faccessat};

use super::directory::{Directory, os_path, unreadable};
use super::follow::{Follow, Target, Why};
use super::own::Present;
use crate::error::Problem;
use crate::ignore::{IgnoreFile, ParentMatch};
use crate::origin::{Item, ItemKind, Visit, join, shown};
use crate::tree::{FileNode, MAX_LINKS, own_mtime};

/// Entries of a directory that are looked at side by side: what is known of them is in memory at once.
const BATCH: usize = 1024;

/// Links are followed to at most so many files and directories: directories that link to one another hold ever more.
const MAX_FOLLOWED: usize = 2 << 20;

pub(super) struct Walk<'a, 'v> {
    context: &'a Directory,
    /// Where links may lead that are followed.
    follow: Option<&'a Follow>,
    own: &'a Present,
    exclude: &'a IgnoreFile,
    visit: &'a mut Visit<'v>,
    /// Files with several names, by device and inode; those that links led to, too.
    links: HashMap<(u64, u64), FileNode>,
    /// The directories around, by device and inode, where links are followed.
    around: Vec<(u64, u64)>,
    /// How many links to directories led here, and what was found behind links so far.
    depth: usize,
    followed: usize,
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
    stat: Stat,
    /// A symlink's.
    target: Bytes,
    xattrs: Xattrs,
    /// What messages call it where this run writes it; then it is not copied.
    own: Option<Arc<str>>,
}

/// What is kept of a path's metadata.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stat {
    pub(crate) fence: Fence,
    /// The type and the permission bits.
    mode: u32,
    uid: u32,
    gid: u32,
    links: u64,
    /// Which device it is.
    number: u64,
}

impl Stat {
    pub(super) fn of(metadata: &Metadata) -> Self {
        let nanoseconds = |s: i64, ns: i64| i128::from(s) * 1_000_000_000 + i128::from(ns);
        Self {
            fence: Fence {
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.len(),
                mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
                ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
            },
            mode: metadata.mode(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            links: metadata.nlink(),
            number: metadata.rdev(),
        }
    }

    /// The modification time in seconds, as an entry of a layer has it.
    fn mtime(&self) -> u32 {
        let seconds = self.fence.mtime_ns.div_euclid(1_000_000_000).max(0);
        own_mtime(u32::try_from(seconds).unwrap_or(u32::MAX))
    }

    fn kind(&self) -> SFlag {
        SFlag::from_bits_truncate(self.mode) & SFlag::S_IFMT
    }

    pub(crate) fn is_file(&self) -> bool {
        self.kind() == SFlag::S_IFREG
    }

    fn is_directory(&self) -> bool {
        self.kind() == SFlag::S_IFDIR
    }

    fn is_symlink(&self) -> bool {
        self.kind() == SFlag::S_IFLNK
    }
}

/// What ignore file and `--exclude` say of a directory.
#[derive(Debug, Clone)]
pub(super) struct Matched {
    pub(super) ignored: ParentMatch,
    pub(super) excluded: ParentMatch,
}

/// An entry of a directory that has to be looked at.
struct Entry {
    name: Arc<[u8]>,
    path: Vec<u8>,
    below: Vec<u8>,
    matched: Matched,
    /// Left out by itself, and entered only as it may be a directory with something in it that is not.
    left_out: bool,
    seen: Option<Result<Seen, Problem>>,
}

impl<'a, 'v> Walk<'a, 'v> {
    pub(super) fn new(
        context: &'a Directory,
        follow: Option<&'a Follow>,
        own: &'a Present,
        exclude: &'a IgnoreFile,
        visit: &'a mut Visit<'v>,
    ) -> Self {
        let (links, around) = (HashMap::new(), Vec::new());
        Self { context, follow, own, exclude, visit, links, around, depth: 0, followed: 0 }
    }

    /// All that is in a directory.
    pub(super) fn directory(
        &mut self,
        directory: &Dir,
        place: Place<'_>,
        matched: &Matched,
    ) -> Result<(), Problem> {
        Problem::check(&self.context.cancel)?;
        if self.follow.is_some() {
            let metadata = directory.dir_metadata().map_err(|error| unreadable(place.path, error))?;
            self.around.push((metadata.dev(), metadata.ino()));
        }
        // Of a large directory the names alone are in memory at once, and as they will be kept.
        let mut names: Vec<Arc<[u8]>> = directory
            .entries()
            .and_then(|entries| entries.map(|e| e.map(|e| e.file_name().as_bytes().into())).collect())
            .map_err(|error| unreadable(place.path, error))?;
        names.sort_unstable();
        let here = SourceDirectory::new(self.context.root.join(os_path(place.path)));
        let mut names = names.into_iter();
        while names.len() > 0 {
            let next = names.by_ref().take(BATCH);
            let mut batch: Vec<Entry> = next.filter_map(|name| self.wanted(name, place, matched)).collect();
            // On a network file system each look is a round trip.
            in_parallel(&mut batch, |entry| {
                Problem::check(&self.context.cancel)?;
                entry.seen = Some(entry.look(directory, self.context, self.own));
                Ok(())
            })?;
            for entry in batch {
                self.entry(entry, directory, &here)?;
            }
        }
        if self.follow.is_some() {
            self.around.pop();
        }
        Ok(())
    }

    /// What has to be looked at.
    fn wanted(&self, name: Arc<[u8]>, parent: Place<'_>, matched: &Matched) -> Option<Entry> {
        let (path, below) = (join(parent.path, &name), join(parent.below, &name));
        let ignored = self.context.ignore.child(&path, &matched.ignored);
        let excluded = self.exclude.child(&below, &matched.excluded);
        let left_out = ignored.ignored_by.is_some() || excluded.ignored_by.is_some();
        let enter = (ignored.ignored_by.is_none() || self.context.ignore.may_except_below(&path))
            && (excluded.ignored_by.is_none() || self.exclude.may_except_below(&below));
        let matched = Matched { ignored: ignored.matched, excluded: excluded.matched };
        (!left_out || enter).then(|| Entry { name, path, below, matched, left_out, seen: None })
    }

    fn entry(&mut self, entry: Entry, directory: &Dir, here: &SourceDirectory) -> Result<(), Problem> {
        let Entry { name, path, below, matched, left_out, seen } = entry;
        let (place, fail) = (Place { path: &path, below: &below }, |error| unreadable(&path, error));
        let Some(seen) = seen.transpose()? else { return Ok(()) };
        if let (Some(what), false) = (&seen.own, left_out) {
            self.context.leave_out(&path, what);
        }
        if seen.own.is_some() {
            return Ok(());
        }
        if !seen.stat.is_directory() {
            if left_out {
                return Ok(());
            }
            if let (Some(follow), true) = (self.follow, seen.stat.is_symlink()) {
                let found = follow.target(self.context, &path, self.own);
                let why = match found {
                    Ok(target)
                        if !self.around.contains(&target.inode())
                            && !target.is_above(self.context, &path) =>
                    {
                        return self.behind(place, &matched, target);
                    }
                    Ok(_) => Why::Loop,
                    Err(why) => why,
                };
                follow.leave(self.context, &path, why);
            }
            return self.one(place, name, here, seen);
        }
        let inside = directory.open_dir(os_path(&name)).map_err(fail)?;
        let opened = inside.dir_metadata().map_err(fail)?;
        if (opened.dev(), opened.ino()) != (seen.stat.fence.device, seen.stat.fence.inode) {
            return Err(exchanged(&path));
        }
        if !left_out {
            self.one(place, name, here, seen)?;
        }
        self.directory(&inside, place, &matched)
    }

    /// What a link leads to, in the place of the link.
    fn behind(&mut self, place: Place<'_>, matched: &Matched, target: Target<'a>) -> Result<(), Problem> {
        let Target { directory, path, metadata, .. } = target;
        let (stat, fail) = (Stat::of(&metadata), |error| unreadable(&path, error));
        self.followed += 1;
        if self.depth >= MAX_LINKS || self.followed > MAX_FOLLOWED {
            let link = shown(place.path);
            return Err(Problem::new(format!(
                "--follow-links finds no end of what is behind the symlink {link}"
            ))
            .with_help("name it in .containerignore, or leave --follow-links out"));
        }
        let place = Place { path: &path, below: place.below };
        let seen = Seen::of(directory, &directory.dir, os_path(&path), &path, stat)?;
        let (here, name) = directory.source_place(&path);
        let inside = if stat.is_directory() {
            let inside = directory.open_dir(&path)?;
            let opened = inside.dir_metadata().map_err(fail)?;
            if (opened.dev(), opened.ino()) != (stat.fence.device, stat.fence.inode) {
                return Err(exchanged(&path));
            }
            Some(inside)
        } else {
            None
        };
        if stat.is_file() {
            // Links to one file become names of it.
            self.shared(Arc::clone(&name), &here, &stat);
        }
        self.one(place, name, &here, seen)?;
        let Some(inside) = inside else { return Ok(()) };
        let ignored = directory.ignore.verdict(&path).matched;
        let matched = Matched { ignored, excluded: matched.excluded.clone() };
        let context = std::mem::replace(&mut self.context, directory);
        self.depth += 1;
        self.directory(&inside, place, &matched)?;
        self.depth -= 1;
        self.context = context;
        Ok(())
    }

    /// What `seen` says is called `name` in the directory `here`: a file, a link, or a directory without what is in it.
    pub(super) fn one(
        &mut self,
        place: Place<'_>,
        name: Arc<[u8]>,
        here: &SourceDirectory,
        seen: Seen,
    ) -> Result<(), Problem> {
        let Seen { stat, target, xattrs, .. } = seen;
        let kind = match stat.kind() {
            SFlag::S_IFDIR => ItemKind::Directory,
            SFlag::S_IFREG => ItemKind::File(self.file(name, here, &stat)),
            SFlag::S_IFLNK => ItemKind::Symlink(Arc::new(target)),
            SFlag::S_IFSOCK => ItemKind::Socket,
            _ => ItemKind::Special(Special::of(stat.mode, stat.number).ok_or_else(|| {
                Problem::new(format!("{} is a device that an image layer cannot carry", shown(place.path)))
                    .with_help("remove it or name it in .containerignore")
            })?),
        };
        let mtime = stat.mtime();
        let Stat { mode, uid, gid, .. } = stat;
        let mode = mode & 0o7777;
        (self.visit)(Item { path: place.below, kind, mode, uid, gid, mtime, xattrs, leaf: None })
    }

    fn file(&mut self, name: Arc<[u8]>, here: &SourceDirectory, stat: &Stat) -> FileNode {
        match self.links.get(&(stat.fence.device, stat.fence.inode)) {
            Some(file) => file.clone(),
            None if stat.links < 2 => FileNode::Source(here.file(name, stat.fence)),
            None => self.shared(name, here, stat),
        }
    }

    /// A file that further names will be found of.
    fn shared(&mut self, name: Arc<[u8]>, here: &SourceDirectory, stat: &Stat) -> FileNode {
        let file = || FileNode::Source(here.file(name, stat.fence));
        self.links.entry((stat.fence.device, stat.fence.inode)).or_insert_with(file).clone()
    }
}

impl Entry {
    fn look(&self, directory: &Dir, context: &Directory, own: &Present) -> Result<Seen, Problem> {
        let name = os_path(&self.name);
        let metadata = directory.symlink_metadata(name).map_err(|error| unreadable(&self.path, error))?;
        let own = own.what(&metadata, &self.name).cloned();
        let stat = Stat::of(&metadata);
        if self.left_out || own.is_some() {
            // Nothing of it is carried.
            return Ok(Seen { stat, target: Bytes::new(), xattrs: Xattrs::default(), own });
        }
        Seen::of(context, directory, name, &self.path, stat)
    }
}

impl Seen {
    /// All that is carried of what is called `name` in `directory`, and `path` in the context.
    pub(super) fn of(
        context: &Directory,
        directory: &Dir,
        name: &Path,
        path: &[u8],
        stat: Stat,
    ) -> Result<Self, Problem> {
        let look = || {
            let mut target = Bytes::new();
            if stat.is_file() {
                check_readable(directory, name)?;
            } else if stat.kind() == SFlag::S_IFLNK {
                target = directory.read_link_contents(name)?.into_os_string().into_vec().into();
            }
            let xattrs = if stat.is_file() || stat.is_directory() {
                // By path, as there is no other way; what is exchanged meanwhile fails its fence.
                let found = Xattrs::of_path(&context.root.join(os_path(path)))?;
                if let Some(error) = found.refused {
                    context.refuse_xattrs(stat.fence.device, path, &error);
                }
                found.xattrs
            } else {
                Xattrs::default()
            };
            Ok((target, xattrs))
        };
        let (target, xattrs) = look().map_err(|error| unreadable(path, error))?;
        Ok(Self { stat, target, xattrs, own: None })
    }
}

fn exchanged(path: &[u8]) -> Problem {
    Problem::new(format!("{} was exchanged while the context was read", shown(path)))
        .with_help("run the build again when nothing writes to the context")
}

/// Asks the kernel without opening: on a network file system an open is a round trip of its own. Where it says no,
/// opening decides, and gives the reason.
fn check_readable(directory: &Dir, name: &Path) -> io::Result<()> {
    match faccessat(directory, name, AccessFlags::R_OK, AtFlags::AT_EACCESS) {
        Ok(()) => Ok(()),
        Err(_) => directory.open(name).map(drop),
    }
}
