//! The build context: what COPY and ADD copy from, and nothing is read from outside of it.
//!
//! It is a [directory](directory), or a [tar archive](archive) whose files are read where they lie in it.

mod archive;
mod directory;
mod follow;
mod own;
mod walk;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crossdock_storage::{Cancel, SourceFile};

use self::archive::Archive;
use self::directory::Directory;
use self::follow::Follow;
pub use self::own::OwnPaths;
pub(crate) use self::walk::Stat;
use crate::error::{Error, Problem};
use crate::ignore::IgnoreFile;
use crate::origin::{Found, Origin, Visit};

/// What COPY and ADD copy from.
pub struct Context {
    kind: Kind,
    own: OwnPaths,
    cancel: Cancel,
    /// Whether `--follow-links` is given.
    follows: bool,
}

enum Kind {
    Directory(Box<Directory>),
    Archive(Box<Archive>),
}

impl Context {
    /// Opens a directory.
    ///
    /// # Errors
    /// Where `path` is not there or is no directory.
    pub fn open(path: &Path, ignore: IgnoreFile) -> Result<Self, Error> {
        Ok(Self::of(Kind::Directory(Box::new(Directory::open(path, ignore)?))))
    }

    /// Opens a tar archive, perhaps compressed; messages call it `name`. Nothing is ignored until
    /// [`ignoring`](Self::ignoring) says so, for the ignore file may be in it. `None` where it is no archive.
    ///
    /// # Errors
    /// Where the archive cannot be read or holds what an image cannot have.
    pub fn open_archive(file: &SourceFile, name: &str, cancel: &Cancel) -> Result<Option<Self>, Error> {
        let archive = Archive::open(file, name, cancel)?;
        Ok(archive.map(|archive| Self::of(Kind::Archive(Box::new(archive))).with_cancel(cancel.clone())))
    }

    /// What is most likely not meant to be so with the context itself, in words for people.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match &self.kind {
            Kind::Archive(archive) if archive.cut => Some(format!(
                "{} ends without the blocks of zeros that stand behind the last entry of an archive: there may have been more; compare it with where it came from",
                archive.name()
            )),
            Kind::Archive(_) | Kind::Directory(_) => None,
        }
    }

    /// A context with nothing in it, which messages call `name`.
    #[must_use]
    pub fn empty(name: &str) -> Self {
        Self::of(Kind::Archive(Box::new(Archive::empty(name))))
    }

    fn of(kind: Kind) -> Self {
        Self { kind, own: OwnPaths::none(), cancel: Cancel::default(), follows: false }
    }

    /// The context, in which nobody looks around any more once `cancel` says so.
    #[must_use]
    pub fn with_cancel(mut self, cancel: Cancel) -> Self {
        if let Kind::Directory(directory) = &mut self.kind {
            directory.cancel = cancel.clone();
        }
        Self { cancel, ..self }
    }

    /// The same context without what this run writes.
    #[must_use]
    pub fn without(mut self, own: OwnPaths) -> Self {
        if let Kind::Directory(directory) = &mut self.kind {
            directory.own = own.clone();
        }
        Self { own, ..self }
    }

    /// The same context without what `ignore` names.
    #[must_use]
    pub fn ignoring(mut self, ignore: IgnoreFile) -> Self {
        match &mut self.kind {
            Kind::Directory(directory) => directory.ignore = ignore,
            Kind::Archive(archive) => archive.ignore = ignore,
        }
        self
    }

    /// The same context, in which what symlinks point to is copied in their place: what lies in the context itself, in one
    /// of `more` (the directories of `--build-context`), or beside a snapshot of one of these in the cache of Hugging Face.
    /// To be called after all else is said of the context.
    ///
    /// # Errors
    /// Where one of these directories cannot be opened.
    pub fn following_links(mut self, more: &[PathBuf]) -> Result<Self, Error> {
        match &mut self.kind {
            Kind::Directory(directory) => directory.follow = Some(Arc::new(Follow::new(directory, more)?)),
            Kind::Archive(archive) => archive.follow = true,
        }
        Ok(Self { follows: true, ..self })
    }

    /// Opens a further context of the same run, a directory or an archive. Ignore files are for the build context alone.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`open_archive`](Self::open_archive).
    pub(crate) fn further(&self, path: &Path) -> Result<Self, Error> {
        let name = path.display().to_string();
        let further = if path.is_file() {
            let file = SourceFile::stat(std::path::absolute(path).unwrap_or_else(|_| path.to_owned()));
            let file = file.map_err(|source| Error::ContextArchive {
                name: name.clone(),
                reason: String::new(),
                source: Some(Box::new(source)),
            })?;
            Self::open_archive(&file, &name, &self.cancel)?
                .ok_or_else(|| Error::ContextKind { path: path.to_owned() })?
        } else {
            Self::open(path, IgnoreFile::none())?
        };
        let mut further = further.without(self.own.clone()).with_cancel(self.cancel.clone());
        match (&mut further.kind, &self.kind) {
            _ if !self.follows => {}
            (Kind::Archive(archive), _) => archive.follow = true,
            (Kind::Directory(further), Kind::Directory(first)) => further.follow.clone_from(&first.follow),
            (Kind::Directory(_), Kind::Archive(_)) => return further.following_links(&[]),
        }
        further.follows = self.follows;
        Ok(further)
    }

    /// A file of an archive that is a context, by its path in there, of at most so many bytes; links are followed. `None`
    /// where it has none, and always of a directory.
    ///
    /// # Errors
    /// Where the file cannot be read, is too large, or is none.
    pub fn file_inside(&self, path: &str, most: u64) -> Result<Option<Vec<u8>>, Error> {
        match &self.kind {
            Kind::Directory(_) => Ok(None),
            Kind::Archive(archive) => archive.read(path, most),
        }
    }

    /// How messages name the ignore file that a line may be added to.
    pub(crate) fn ignore_file(&self) -> &str {
        let ignore = match &self.kind {
            Kind::Directory(directory) => &directory.ignore,
            Kind::Archive(archive) => &archive.ignore,
        };
        match ignore.name() {
            "" => ".containerignore",
            name => name,
        }
    }

    /// What was left out while the context was read, and why.
    pub(crate) fn losses(&self) -> Vec<String> {
        match &self.kind {
            Kind::Directory(directory) => directory.losses(),
            Kind::Archive(_) => Vec::new(),
        }
    }

    /// A regular file that was found, with the fence of what was seen; `None` for all else, and for what lies in an archive.
    pub(crate) fn source_file(&self, found: &Found) -> Option<SourceFile> {
        match &self.kind {
            Kind::Directory(directory) => directory.source_file(found),
            Kind::Archive(_) => None,
        }
    }

    /// The path of a source file as the Containerfile names it: from the root of a directory that is the context.
    pub(crate) fn relative<'a>(&self, path: &'a Path) -> &'a Path {
        match &self.kind {
            Kind::Directory(directory) => path.strip_prefix(&directory.root).unwrap_or(path),
            Kind::Archive(_) => path,
        }
    }

    /// Whether what was found lies in an archive and looks as if it were one itself.
    pub(crate) fn is_nested_archive(&self, found: &Found) -> bool {
        match &self.kind {
            Kind::Directory(_) => false,
            Kind::Archive(archive) => archive.is_nested(found),
        }
    }

    fn origin(&self) -> &dyn Origin {
        match &self.kind {
            Kind::Directory(directory) => &**directory,
            Kind::Archive(archive) => &**archive,
        }
    }
}

impl Origin for Context {
    fn name(&self) -> String {
        self.origin().name()
    }

    fn find(&self, source: &str, parents: bool) -> Result<Vec<Found>, Problem> {
        self.origin().find(source, parents)
    }

    fn walk(&self, found: &Found, exclude: &IgnoreFile, visit: &mut Visit<'_>) -> Result<(), Problem> {
        self.origin().walk(found, exclude, visit)
    }

    fn may_follow(&self) -> bool {
        !self.follows
    }

    fn may_have_downloads(&self) -> bool {
        true
    }

    fn directory(&self, named: &[u8], below: &[u8], visit: &mut Visit<'_>) -> Result<(), Problem> {
        self.origin().directory(named, below, visit)
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("name", &self.name()).finish_non_exhaustive()
    }
}
