//! What a run writes itself is no part of its context: the root directory, and the outputs of this very run.
//!
//! A directory or file is known by device and inode, so that links and bind mounts lead to nothing else. Both are looked up
//! anew for each walk: a first output may be made after the context was opened.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cap_std::fs::{Metadata, MetadataExt};

/// Paths that a run writes, each with what messages call it.
#[derive(Debug, Clone, Default)]
pub struct OwnPaths(Vec<Own>);

#[derive(Debug, Clone)]
struct Own {
    what: Arc<str>,
    path: PathBuf,
    /// Whether it may be the context itself, of which something else is left then.
    inside_only: bool,
}

impl OwnPaths {
    /// What a root directory is called that lies in a context, as Tekton's tasks make it: it is left out without a word.
    pub const ROOT_NAME: &str = ".crossdock";

    /// None.
    #[must_use]
    pub fn none() -> Self {
        Self::default()
    }

    /// Adds a file, or a directory with all in it; `what` is what messages call it, such as `the directory of --root`.
    pub fn add(&mut self, what: &str, path: impl Into<PathBuf>) {
        self.0.push(Own { what: what.into(), path: path.into(), inside_only: false });
    }

    /// Adds a directory of which only `entries` are written: where it is the context itself, the rest stays part of that.
    pub fn add_directory_of(&mut self, what: &str, path: &Path, entries: &[&str]) {
        self.0.push(Own { what: what.into(), path: path.to_owned(), inside_only: true });
        for entry in entries {
            self.add(what, path.join(entry));
        }
    }

    /// What messages call a file that is one of these.
    #[must_use]
    pub fn names(&self, metadata: &fs::Metadata) -> Option<&str> {
        let is = |own: &&Own| {
            fs::metadata(&own.path)
                .is_ok_and(|there| (there.dev(), there.ino()) == (metadata.dev(), metadata.ino()))
        };
        self.0.iter().find(is).map(|own| &*own.what)
    }

    /// Those that are there now, for a context whose root directory is `root`.
    pub(super) fn now(&self, root: &Metadata) -> Present {
        let present = self.0.iter().filter_map(|own| {
            let present = One::of(own)?;
            (!(own.inside_only && present.is(root, OsStr::new("")))).then_some(present)
        });
        Present(present.collect())
    }
}

/// What a run writes and what is there already.
#[derive(Debug)]
pub(super) struct Present(Vec<One>);

#[derive(Debug)]
struct One {
    what: Arc<str>,
    inode: (u64, u64),
    /// Of a file with several names the others stay what they are when it is written anew.
    name: Option<OsString>,
}

impl Present {
    /// What messages call something that is called `name` and that this run writes.
    pub(super) fn what(&self, metadata: &Metadata, name: &[u8]) -> Option<&Arc<str>> {
        self.0.iter().find(|one| one.is(metadata, OsStr::from_bytes(name))).map(|one| &one.what)
    }
}

impl One {
    fn of(own: &Own) -> Option<Self> {
        let metadata = fs::metadata(&own.path).ok()?;
        let kind = metadata.file_type();
        if !(kind.is_dir() || kind.is_file() || kind.is_fifo()) {
            return None;
        }
        let name = if kind.is_file() && metadata.nlink() > 1 {
            fs::canonicalize(&own.path).ok()?.file_name().map(OsStr::to_owned)
        } else {
            None
        };
        Some(Self { what: Arc::clone(&own.what), inode: (metadata.dev(), metadata.ino()), name })
    }

    fn is(&self, metadata: &Metadata, name: &OsStr) -> bool {
        self.inode == (MetadataExt::dev(metadata), MetadataExt::ino(metadata))
            && self.name.as_deref().is_none_or(|own| own == name)
    }
}
