//! A directory as a build context: nothing is read from outside of it.
//!
//! Every look goes through a [`cap_std::fs::Dir`]: `..`, links and directories that are exchanged meanwhile cannot
//! lead out. Files are handed on by absolute path with the [`Fence`](crossdock_storage::Fence) of the file that was seen inside, so a path
//! that leads elsewhere later fails the fence and is not read.
//!
//! As in buildah the context is the root that an absolute link starts from; unlike there, a link that leads out
//! by `..` is an error and not cut off at the root. With `--follow-links` it may lead into some other directories, see
//! [`follow`](super::follow).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::ambient_authority;
use cap_std::fs::{Dir, DirEntry, Metadata};
use crossdock_storage::{Cancel, SourceDirectory, SourceFile};

use super::follow::{Follow, Target};
use super::own::{OwnPaths, Present};
use super::walk::{Matched, Place, Seen, Stat, Walk};
use crate::error::{Error, Problem};
use crate::ignore::IgnoreFile;
use crate::origin::{Found, Origin, SourcePath, Visit, glob, join, shown};
use crate::tree::MAX_LINKS;

/// A directory that COPY and ADD copy from.
pub(super) struct Directory {
    pub(super) dir: Dir,
    /// Absolute and without links.
    pub(super) root: PathBuf,
    /// As the user gave it.
    given: String,
    pub(super) ignore: IgnoreFile,
    /// Where links may lead with `--follow-links`.
    pub(super) follow: Option<Arc<Follow>>,
    /// The directory of the file that was found last, with its path from the root on: files found one by one share it.
    last: Mutex<Option<(Vec<u8>, SourceDirectory)>>,
    pub(super) own: OwnPaths,
    /// What was left out of what is copied, as this run writes it.
    left_out: Mutex<BTreeMap<Vec<u8>, Arc<str>>>,
    /// By device: the first path whose extended attributes the file system did not give, and its error.
    refused: Mutex<BTreeMap<u64, (Vec<u8>, String)>>,
    pub(super) cancel: Cancel,
}

/// A path without links and what is there.
pub(super) struct Located {
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata,
}

/// Why a path leads nowhere.
pub(super) enum Miss {
    /// Nothing there; the link on the way, if one was followed.
    Missing(Option<Link>),
    Outside(Link),
    Loop,
    /// What is there is written by this run, or lies in what is; and what messages call that.
    Own(Vec<u8>, Arc<str>),
    Io(Vec<u8>, io::Error),
}

#[derive(Clone)]
pub(super) struct Link {
    path: Vec<u8>,
    target: Vec<u8>,
}

/// The directory that was looked into last, as it was named and without links.
#[derive(Default)]
struct Siblings {
    directory: Option<(Vec<u8>, Vec<u8>)>,
}

impl Directory {
    /// Opens the directory.
    ///
    /// # Errors
    /// Where `path` is not there or is no directory.
    pub(super) fn open(path: &Path, ignore: IgnoreFile) -> Result<Self, Error> {
        let fail = |source: io::Error| match source.kind() {
            io::ErrorKind::NotADirectory => Error::ContextKind { path: path.to_owned() },
            _ => Error::Context { path: path.to_owned(), source },
        };
        let root = fs::canonicalize(path).map_err(fail)?;
        if !root.is_dir() {
            return Err(Error::ContextKind { path: path.to_owned() });
        }
        let dir = Dir::open_ambient_dir(&root, ambient_authority()).map_err(fail)?;
        let (given, own) = (path.display().to_string(), OwnPaths::none());
        let (last, left_out, refused) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (follow, cancel) = (None, Cancel::default());
        Ok(Self { dir, root, given, ignore, follow, last, own, left_out, refused, cancel })
    }

    /// What was left out while the context was read, and why.
    pub(super) fn losses(&self) -> Vec<String> {
        let mut losses = Vec::new();
        let left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        if !left_out.is_empty() {
            let each = left_out.iter().map(|(path, what)| format!("{} ({what})", shown(path)));
            losses.push(format!(
                "what this run writes is left out of {}: {}, name it in .containerignore, or let it be elsewhere",
                self.name(),
                each.collect::<Vec<_>>().join(", ")
            ));
        }
        let refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        losses.extend(refused.values().map(|(path, error)| {
            format!(
                "the files of {} come without extended attributes where their file system does not give them: {}: {error}",
                self.name(),
                shown(path)
            )
        }));
        if let Some(follow) = &self.follow {
            losses.extend(follow.losses());
        }
        losses
    }

    /// Notes that something is not copied as this run writes it. A root directory in its usual place in a context says by its
    /// name whose it is.
    pub(super) fn leave_out(&self, path: &[u8], what: &Arc<str>) {
        if path.rsplit(|byte| *byte == b'/').next() == Some(OwnPaths::ROOT_NAME.as_bytes()) {
            return;
        }
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.entry(path.to_vec()).or_insert_with(|| Arc::clone(what));
    }

    /// Notes that a file system does not give the attributes of a path.
    pub(super) fn refuse_xattrs(&self, device: u64, path: &[u8], error: &io::Error) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        refused.entry(device).or_insert_with(|| (path.to_vec(), error.to_string()));
    }

    /// What is there now of what this run writes.
    fn present(&self) -> Result<Present, Miss> {
        let root = self.dir.dir_metadata().map_err(|error| Miss::Io(Vec::new(), error))?;
        let present = self.own.now(&root);
        match present.what(&root, b"") {
            Some(what) => Err(Miss::Own(Vec::new(), Arc::clone(what))),
            None => Ok(present),
        }
    }

    /// A regular file that was found, with the fence of what was seen; `None` for all else.
    pub(super) fn source_file(&self, found: &Found) -> Option<SourceFile> {
        let stat = found.stat.as_ref().filter(|stat| stat.is_file())?;
        let (here, name) = self.place_of(found).source_place(&found.path);
        Some(here.file(name, stat.fence))
    }

    /// The directory of a path without links, and the name in it.
    pub(super) fn source_place(&self, path: &[u8]) -> (SourceDirectory, Arc<[u8]>) {
        let (parent, name) = split_last(path);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let here = match &*last {
            Some((known, here)) if known == parent => here.clone(),
            _ => {
                let here = SourceDirectory::new(self.root.join(os_path(parent)));
                *last = Some((parent.to_vec(), here.clone()));
                here
            }
        };
        (here, name.into())
    }

    /// The directory that what was found lies in: this one, or one that a link has led to.
    fn place_of(&self, found: &Found) -> &Self {
        let follow = self.follow.as_ref();
        found.place.and_then(|place| follow?.place(place)).unwrap_or(self)
    }

    /// What a path leads to that leads out of this directory, where links are followed.
    fn outside(&self, path: &[u8], miss: &Miss, own: &Present) -> Option<Target<'_>> {
        match miss {
            Miss::Outside(_) | Miss::Missing(Some(_)) => {
                self.follow.as_ref()?.resolve(&self.root.join(os_path(path)), own).ok()
            }
            _ => None,
        }
    }

    /// Follows the links of a path.
    pub(super) fn locate(&self, parts: &[&[u8]], own: &Present) -> Result<Located, Miss> {
        let mut todo: Vec<Vec<u8>> = parts.iter().rev().map(|part| part.to_vec()).collect();
        let mut path: Vec<u8> = Vec::new();
        let mut metadata = self.dir.dir_metadata().map_err(|error| Miss::Io(Vec::new(), error))?;
        let mut link: Option<Link> = None;
        let mut links = 0;
        while let Some(part) = todo.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    if path.is_empty() {
                        return Err(link.map_or(Miss::Missing(None), Miss::Outside));
                    }
                    let end = path.iter().rposition(|b| *b == b'/').unwrap_or(0);
                    path.truncate(end);
                    metadata = self.stat(&path, link.as_ref())?;
                    continue;
                }
                _ => {}
            }
            let next = join(&path, &part);
            let found = self.stat(&next, link.as_ref())?;
            if let Some(what) = own.what(&found, &part) {
                return Err(Miss::Own(next, Arc::clone(what)));
            }
            if !found.is_symlink() {
                path = next;
                metadata = found;
                continue;
            }
            links += 1;
            if links > MAX_LINKS {
                return Err(Miss::Loop);
            }
            let target =
                self.dir.read_link_contents(os_path(&next)).map_err(|error| Miss::Io(next.clone(), error))?;
            let target = target.into_os_string().into_vec();
            if target.starts_with(b"/") {
                path.clear();
            }
            todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
            link = Some(Link { path: next, target });
        }
        Ok(Located { path, metadata })
    }

    /// As [`locate`](Self::locate); what a wildcard matched in one directory shares the way there.
    fn locate_beside(&self, path: &[u8], siblings: &mut Siblings, own: &Present) -> Result<Located, Miss> {
        let (parent, name) = split_last(path);
        if siblings.directory.as_ref().is_none_or(|(known, _)| known != parent) {
            let parts: Vec<&[u8]> = parent.split(|b| *b == b'/').collect();
            siblings.directory = Some((parent.to_vec(), self.locate(&parts, own)?.path));
        }
        if let Some((_, directory)) = &siblings.directory {
            let path = join(directory, name);
            let metadata = self.stat(&path, None)?;
            if let Some(what) = own.what(&metadata, name) {
                return Err(Miss::Own(path, Arc::clone(what)));
            }
            if !metadata.is_symlink() {
                return Ok(Located { path, metadata });
            }
        }
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        self.locate(&parts, own)
    }

    fn stat(&self, path: &[u8], link: Option<&Link>) -> Result<Metadata, Miss> {
        if path.is_empty() {
            return self.dir.dir_metadata().map_err(|error| Miss::Io(Vec::new(), error));
        }
        self.dir.symlink_metadata(os_path(path)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Miss::Missing(link.cloned()),
            _ => Miss::Io(path.to_owned(), error),
        })
    }

    /// The names in a directory, sorted, and whether they are directories that something may be copied from; none where it
    /// is no directory.
    fn names_in(&self, path: &[u8], own: &Present) -> Result<Vec<(Vec<u8>, bool)>, Problem> {
        Problem::check(&self.cancel)?;
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        let (here, at, directory) = match self.locate(&parts, own) {
            Ok(located) => (self, located.path, located.metadata.is_dir()),
            Err(miss) => match self.outside(path, &miss, own) {
                Some(target) => (target.directory, target.path, target.metadata.is_dir()),
                None => return Ok(Vec::new()),
            },
        };
        if !directory {
            return Ok(Vec::new());
        }
        let name = |entry: io::Result<DirEntry>| {
            let entry = entry?;
            Ok((entry.file_name().into_vec(), entry.file_type()?.is_dir()))
        };
        let mut names: Vec<(Vec<u8>, bool)> = here
            .open_dir(&at)?
            .entries()
            .and_then(|entries| entries.map(name).collect())
            .map_err(|error| unreadable(&at, error))?;
        names.sort_unstable();
        for (name, enter) in names.iter_mut().filter(|(_, enter)| *enter) {
            *enter = !self.is_ignored(&join(path, name));
        }
        Ok(names)
    }

    /// Whether nothing of a directory is left.
    fn is_ignored(&self, directory: &[u8]) -> bool {
        self.ignore.verdict(directory).ignored_by.is_some() && !self.ignore.may_except_below(directory)
    }

    pub(super) fn open_dir(&self, path: &[u8]) -> Result<Dir, Problem> {
        let opened = if path.is_empty() { self.dir.try_clone() } else { self.dir.open_dir(os_path(path)) };
        opened.map_err(|error| unreadable(path, error))
    }

    /// Shows what is at a path without links to `walk`.
    pub(super) fn show(&self, walk: &mut Walk<'_, '_>, place: Place<'_>, stat: Stat) -> Result<(), Problem> {
        let seen = Seen::of(self, &self.dir, os_path(place.path), place.path, stat)?;
        let (here, name) = self.source_place(place.path);
        walk.one(place, name, &here, seen)
    }

    fn missing(&self, source: &str, miss: Miss) -> Problem {
        let problem = match miss {
            Miss::Missing(None) => return Problem::source(format!("{source:?} is not in {}", self.name())),
            Miss::Missing(Some(link)) if link.target.starts_with(b"/") => {
                Problem::new(format!("{} leads outside {}", link.shown(), self.name()))
            }
            Miss::Missing(Some(link)) => {
                return Problem::new(format!("{} leads to nothing in {}", link.shown(), self.name()));
            }
            Miss::Outside(link) => Problem::new(format!("{} leads outside {}", link.shown(), self.name())),
            Miss::Loop => return Problem::source(format!("{source:?} is a loop of symlinks")),
            Miss::Own(path, what) => {
                let at =
                    if path.is_empty() { source.to_owned() } else { String::from_utf8_lossy(&path).into() };
                return Problem::source(format!("{source:?} is not in {}: {at:?} is {what}", self.name()))
                    .with_help("which is never part of an image; let this run write elsewhere to copy it");
            }
            Miss::Io(path, error) => return unreadable(&path, error),
        };
        problem.with_help(if self.may_follow() {
            "put what it points to into the context, make the directory above both the context, or build with --follow-links"
        } else {
            "put what it points to into the context, make the directory above both the context, or name its directory with --build-context"
        })
    }

    pub(super) fn ignored(&self, line: usize) -> String {
        format!("{}:{line}", self.ignore.name())
    }
}

impl Origin for Directory {
    fn name(&self) -> String {
        format!("the build context {}", self.given)
    }

    fn find(&self, source: &str, parents: bool) -> Result<Vec<Found>, Problem> {
        let Some(wanted) = SourcePath::new(source, parents) else {
            return Err(Problem::source(format!("{source:?} leads outside {}", self.name()))
                .with_help("give the directory above as the context and name the source from there"));
        };
        let own = self.present().map_err(|miss| self.missing(source, miss))?;
        let bytes: Vec<&[u8]> = wanted.parts.iter().map(|part| part.as_bytes()).collect();
        // A name that is there is that name, whatever it looks like.
        let (paths, pattern) = match self.locate(&bytes, &own) {
            Ok(_) => (vec![wanted.literal()], false),
            Err(miss) if self.outside(&wanted.literal(), &miss, &own).is_some() => {
                (vec![wanted.literal()], false)
            }
            Err(_) if wanted.has_meta() => (glob(&wanted, |path| self.names_in(path, &own))?, true),
            Err(miss) => match (self.ignore.verdict(&wanted.literal()).ignored_by, &miss) {
                (Some(line), Miss::Missing(_)) => {
                    return Err(Problem::source(format!(
                        "{source:?} is not in {} ({} would ignore it too)",
                        self.name(),
                        self.ignored(line)
                    )));
                }
                _ => return Err(self.missing(source, miss)),
            },
        };
        let mut found = Vec::with_capacity(paths.len());
        let (mut ignored, mut written) = (None, None);
        let mut siblings = Siblings::default();
        for path in paths {
            Problem::check(&self.cancel)?;
            let (place, located) = match self.locate_beside(&path, &mut siblings, &own) {
                Ok(located) => (None, located),
                Err(Miss::Own(path, what)) if pattern => {
                    self.leave_out(&path, &what);
                    written = Some(Miss::Own(path, what));
                    continue;
                }
                // `dir/*/x`: a directory without x is no match.
                Err(Miss::Missing(None)) => continue,
                Err(miss) => match self.outside(&path, &miss, &own) {
                    Some(Target { place, path, metadata, .. }) => (place, Located { path, metadata }),
                    None => return Err(self.missing(&String::from_utf8_lossy(&path), miss)),
                },
            };
            let directory = located.metadata.is_dir();
            if pattern && wanted.is_for_directories() && !directory {
                continue;
            }
            // Where a link has led out, that place has looked at its own ignore file.
            let of_target = || match place {
                None => self.ignore.verdict(&located.path).ignored_by,
                Some(_) => None,
            };
            let line = self.ignore.verdict(&path).ignored_by.or_else(of_target);
            if let Some(line) = line
                && (!directory || place.is_some() || !self.ignore.may_except_below(&located.path))
            {
                ignored.get_or_insert((path, line));
                continue;
            }
            let ignored_by = line.map(|line| self.ignored(line).into());
            let named: Arc<[u8]> = path.into();
            found.push(Found {
                kept: wanted.kept(&named, directory),
                path: if located.path == *named { Arc::clone(&named) } else { located.path.into() },
                named,
                directory,
                special: !directory && !located.metadata.is_file(),
                place,
                ignored_by,
                stat: Some(Box::new(Stat::of(&located.metadata))),
            });
        }
        match (found.is_empty(), ignored) {
            (false, _) => Ok(found),
            (true, Some((path, line))) if pattern => Err(Problem::source(format!(
                "{source:?} matches only what is ignored in {} ({} by {})",
                self.name(),
                shown(&path),
                self.ignored(line)
            ))),
            (true, Some((_, line))) => Err(Problem::source(format!(
                "{source:?} is not in {} (ignored by {})",
                self.name(),
                self.ignored(line)
            ))),
            (true, None) => match written {
                Some(miss) => Err(self.missing(source, miss)),
                None => Ok(found),
            },
        }
    }

    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem> {
        let own = self.present().map_err(|miss| self.missing(".", miss))?;
        let here = self.place_of(found);
        let mut walk = Walk::new(here, self.follow.as_deref(), &own, exclude, visit);
        let place = Place { path: &found.path, below: found.below() };
        let excluded = exclude.verdict(place.below);
        if found.directory {
            let directory = here.open_dir(&found.path)?;
            let ignored = here.ignore.verdict(&found.path).matched;
            if excluded.ignored_by.is_none() && found.ignored_by.is_none() && !place.below.is_empty() {
                let metadata = directory.dir_metadata().map_err(|error| unreadable(&found.path, error))?;
                here.show(&mut walk, place, Stat::of(&metadata))?;
            }
            return walk.directory(&directory, place, &Matched { ignored, excluded: excluded.matched });
        }
        if excluded.ignored_by.is_some() {
            return Ok(());
        }
        let stat = match &found.stat {
            Some(stat) => Stat::clone(stat),
            None => {
                let metadata = here.dir.symlink_metadata(os_path(&found.path));
                Stat::of(&metadata.map_err(|error| unreadable(&found.path, error))?)
            }
        };
        here.show(&mut walk, place, stat)
    }

    fn may_follow(&self) -> bool {
        self.follow.is_none()
    }

    fn directory(&self, named: &[u8], below: &[u8], visit: &mut Visit<'_>) -> Result<(), Problem> {
        let parts: Vec<&[u8]> = named.split(|b| *b == b'/').collect();
        let Ok(own) = self.present() else { return Ok(()) };
        match self.locate(&parts, &own) {
            Ok(located) if self.ignore.verdict(&located.path).ignored_by.is_none() => {
                let none = IgnoreFile::none();
                let place = Place { path: &located.path, below };
                self.show(&mut Walk::new(self, None, &own, &none, visit), place, Stat::of(&located.metadata))
            }
            _ => Ok(()),
        }
    }
}

impl Link {
    fn shown(&self) -> String {
        format!("the symlink {} to {}", shown(&self.path), shown(&self.target))
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("root", &self.root)
            .field("ignore", &self.ignore.name())
            .finish_non_exhaustive()
    }
}

pub(super) fn unreadable(path: &[u8], error: io::Error) -> Problem {
    let path = if path.is_empty() { b".".as_slice() } else { path };
    let denied = error.kind() == io::ErrorKind::PermissionDenied;
    let problem = Problem::new(format!("cannot read {} of the build context", shown(path))).with_cause(error);
    if denied {
        problem.with_help("give the user of the build the right to read it, or name it in .containerignore")
    } else {
        problem
    }
}

/// The directory of a path, and its last part.
fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&path[..0], path),
    }
}

pub(super) fn os_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
