//! `--follow-links`: what symlinks of a context point to is copied in their place.
//!
//! A link may lead to whatever lies in the context itself, in a directory of `--build-context`, or, of a snapshot in the
//! cache of Hugging Face (`models--ORG--NAME/snapshots/REVISION`), in the directory `blobs` of the same repository, where
//! the files of snapshots are. A link that leads elsewhere stays a link, and is told of.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use cap_std::fs::{Metadata, MetadataExt};

use super::directory::{Directory, Located, Miss, os_path};
use super::own::Present;
use crate::error::Error;
use crate::ignore::IgnoreFile;
use crate::origin::shown;

/// Of so many links one message has the names.
const MAX_NAMED: usize = 3;

/// How the directory of a repository begins in the cache of Hugging Face: see "Understand caching" in the documentation of
/// `huggingface_hub`, <https://huggingface.co/docs/huggingface_hub/guides/manage-cache>.
const REPOSITORIES: [&str; 3] = ["models--", "datasets--", "spaces--"];

/// The directories that links may lead into.
#[derive(Debug)]
pub(super) struct Follow {
    places: Vec<Directory>,
    /// The links that stay links, by path, with the reason.
    left: Mutex<BTreeMap<PathBuf, String>>,
}

/// What a link leads to.
pub(super) struct Target<'a> {
    /// The directory that it lies in.
    pub(super) directory: &'a Directory,
    /// Which of the places that is; `None` for the directory of the link.
    pub(super) place: Option<usize>,
    /// The path in it, without links.
    pub(super) path: Vec<u8>,
    pub(super) metadata: Metadata,
}

/// Why a link is not followed.
pub(super) enum Why {
    /// It leads to nothing, or round and round: the image's own check says so.
    Nothing,
    /// To a directory around the link.
    Loop,
    /// Out of all places.
    Outside,
    /// To what is ignored, by this line.
    Ignored(String),
    /// To what this run writes.
    Own,
    Unreadable(io::Error),
}

impl Follow {
    /// The places of `context` and of the directories in `more`.
    pub(super) fn new(context: &Directory, more: &[PathBuf]) -> Result<Self, Error> {
        let open = |path: &Path, ignore| {
            let mut place = Directory::open(path, ignore)?;
            place.own.clone_from(&context.own);
            place.cancel.clone_from(&context.cancel);
            Ok::<_, Error>(place)
        };
        let mut places = vec![open(&context.root, context.ignore.clone())?];
        for directory in more {
            places.push(open(directory, IgnoreFile::none())?);
        }
        let blobs: Vec<_> = places.iter().filter_map(|place| blobs_of(&place.root)).collect();
        for directory in blobs {
            places.push(open(&directory, IgnoreFile::none())?);
        }
        Ok(Self { places, left: Mutex::default() })
    }

    pub(super) fn place(&self, index: usize) -> Option<&Directory> {
        self.places.get(index)
    }

    /// What the link at `path` of `directory` leads to: by the rules of that directory, else by those of the file system.
    pub(super) fn target<'a>(
        &'a self,
        directory: &'a Directory,
        path: &[u8],
        own: &Present,
    ) -> Result<Target<'a>, Why> {
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        match directory.locate(&parts, own) {
            Ok(Located { path, metadata }) => {
                visible(directory, &path, &metadata)?;
                Ok(Target { directory, place: None, path, metadata })
            }
            Err(Miss::Own(..)) => Err(Why::Own),
            Err(Miss::Io(_, error)) => Err(Why::Unreadable(error)),
            Err(Miss::Missing(_) | Miss::Outside(_) | Miss::Loop) => {
                self.resolve(&directory.root.join(os_path(path)), own)
            }
        }
    }

    /// What a path of this machine leads to, where that is in one of the places.
    pub(super) fn resolve(&self, path: &Path, own: &Present) -> Result<Target<'_>, Why> {
        let real = fs::canonicalize(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Why::Nothing,
            _ if error.raw_os_error() == Some(nix::errno::Errno::ELOOP as i32) => Why::Nothing,
            _ => Why::Unreadable(error),
        })?;
        let within = |(index, place): (usize, &Directory)| {
            let below = real.strip_prefix(&place.root).ok()?;
            Some((index, below.as_os_str().as_encoded_bytes().to_vec()))
        };
        let (place, path) = self.places.iter().enumerate().find_map(within).ok_or(Why::Outside)?;
        let directory = &self.places[place];
        let parts: Vec<&[u8]> = path.split(|b| *b == b'/').collect();
        // There is no link on the way, but one that was put there meanwhile.
        match directory.locate(&parts, own) {
            Ok(Located { path, metadata }) => {
                visible(directory, &path, &metadata)?;
                Ok(Target { directory, place: Some(place), path, metadata })
            }
            Err(Miss::Own(..)) => Err(Why::Own),
            Err(Miss::Io(_, error)) => Err(Why::Unreadable(error)),
            Err(Miss::Missing(_) | Miss::Outside(_) | Miss::Loop) => Err(Why::Nothing),
        }
    }

    /// Notes that a link stays one.
    pub(super) fn leave(&self, directory: &Directory, path: &[u8], why: Why) {
        let why = match why {
            Why::Nothing => return,
            Why::Loop => "it leads to a directory around it".to_owned(),
            Why::Outside => "it leads outside".to_owned(),
            Why::Ignored(line) => format!("ignored by {line}"),
            Why::Own => "written by this run".to_owned(),
            Why::Unreadable(error) => error.to_string(),
        };
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.entry(directory.root.join(os_path(path))).or_insert(why);
    }

    /// What is said of the links that stay links, and of what else was left out behind links; once.
    pub(super) fn losses(&self) -> Vec<String> {
        let left = std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
        let mut losses = Vec::new();
        if !left.is_empty() {
            let named: Vec<_> = left
                .iter()
                .take(MAX_NAMED)
                .map(|(path, why)| format!("{} ({why})", shown(path.as_os_str().as_encoded_bytes())))
                .collect();
            let more = match left.len().saturating_sub(MAX_NAMED) {
                0 => String::new(),
                more => format!(" and {more} more"),
            };
            let links = match left.len() {
                1 => "1 symlink as it is".to_owned(),
                count => format!("{count} symlinks as they are"),
            };
            losses.push(format!(
                "--follow-links leaves {links}: {}{more}; name the directory that they lead to with --build-context",
                named.join(", ")
            ));
        }
        losses.extend(self.places.iter().flat_map(Directory::losses));
        losses
    }
}

impl Target<'_> {
    /// Device and inode.
    pub(super) fn inode(&self) -> (u64, u64) {
        (self.metadata.dev(), self.metadata.ino())
    }

    /// Whether it is a directory that `path` of `directory` lies in.
    pub(super) fn is_above(&self, directory: &Directory, path: &[u8]) -> bool {
        directory.root.join(os_path(path)).starts_with(self.directory.root.join(os_path(&self.path)))
    }
}

/// Whether the ignore file leaves something to be seen.
fn visible(directory: &Directory, path: &[u8], metadata: &Metadata) -> Result<(), Why> {
    match directory.ignore.verdict(path).ignored_by {
        Some(line) if !(metadata.is_dir() && directory.ignore.may_except_below(path)) => {
            Err(Why::Ignored(directory.ignored(line)))
        }
        _ => Ok(()),
    }
}

/// Where the files of a snapshot are, if `root` is one of a repository in the cache of Hugging Face, or lies in one.
fn blobs_of(root: &Path) -> Option<PathBuf> {
    let snapshots =
        root.ancestors().skip(1).find(|path| path.file_name() == Some(OsStr::new("snapshots")))?;
    let repository = snapshots.parent()?;
    let name = repository.file_name()?.to_str()?;
    let blobs = repository.join("blobs");
    let is_cache = REPOSITORIES.iter().any(|beginning| name.starts_with(beginning));
    // A link would lead wherever it likes.
    (is_cache && fs::symlink_metadata(&blobs).is_ok_and(|blobs| blobs.is_dir())).then_some(blobs)
}
