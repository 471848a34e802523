//! Files of this machine by the paths that they should have in an image, for [`compare`](crate::compare_whole).

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::entry::{LayerPath, Special};
use crate::error::{Error, Result};

/// A file or directory of this machine, and where it should stand in an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Against {
    /// The file or directory here.
    pub local: PathBuf,
    /// Its place in the image; for a directory, that of what is in it.
    pub image: LayerPath,
}

/// What should be in an image, by path. Directories that hold something are implied.
#[derive(Debug, Clone, Default)]
pub struct LocalTree {
    files: BTreeMap<LayerPath, LocalFile>,
    roots: Vec<LayerPath>,
}

/// What stands at a path here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    /// The path here.
    pub path: PathBuf,
    /// What it is.
    pub kind: LocalKind,
}

/// What a path of this machine is.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LocalKind {
    /// A regular file of so many bytes.
    File(u64),
    /// A symbolic link: its target, and the length of the file that it leads to, where it leads to one.
    Symlink(Bytes, Option<u64>),
    /// A directory.
    Directory,
    /// A FIFO or device.
    Special(Special),
    /// A socket, which no archive has, or a device whose numbers none can have.
    Socket,
}

impl LocalTree {
    /// Lists what is at all these places. Where two have one path in the image, the later counts, as with COPY.
    ///
    /// # Errors
    /// [`Error::Open`], where one cannot be looked at.
    pub fn read(places: &[Against]) -> Result<Self> {
        let mut tree = Self::default();
        for place in places {
            let open = |source| Error::Open { path: place.local.clone(), source };
            // Links lead on where somebody names them, and below that are what they are.
            let kind = fs::metadata(&place.local).map_err(open)?;
            if kind.is_dir() {
                tree.roots.push(place.image.clone());
                tree.directory(&place.local, &place.image)?;
            } else {
                tree.insert(&place.local, place.image.clone(), kind_of(&kind));
            }
        }
        Ok(tree)
    }

    fn directory(&mut self, local: &Path, image: &LayerPath) -> Result<()> {
        let open = |source| Error::Open { path: local.to_path_buf(), source };
        for entry in fs::read_dir(local).map_err(open)? {
            let entry = entry.map_err(open)?;
            let path = entry.path();
            let name = OsStr::as_bytes(&entry.file_name()).to_vec();
            let below =
                image.join(name).map_err(|error| open(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let meta = entry.metadata().map_err(|source| Error::Open { path: path.clone(), source })?;
            let kind = if meta.is_symlink() {
                let target = fs::read_link(&path).map_err(open)?;
                let leads_to = fs::metadata(&path).ok().filter(fs::Metadata::is_file).map(|meta| meta.len());
                LocalKind::Symlink(Bytes::copy_from_slice(target.as_os_str().as_bytes()), leads_to)
            } else {
                kind_of(&meta)
            };
            let is_directory = kind == LocalKind::Directory;
            self.insert(&path, below.clone(), kind);
            if is_directory {
                self.directory(&path, &below)?;
            }
        }
        Ok(())
    }

    fn insert(&mut self, path: &Path, image: LayerPath, kind: LocalKind) {
        self.files.insert(image, LocalFile { path: path.to_path_buf(), kind });
    }

    /// All that is here, in the order of the paths in the image.
    pub fn iter(&self) -> impl Iterator<Item = (&LayerPath, &LocalFile)> {
        self.files.iter()
    }

    /// What should stand at a path of the image.
    #[must_use]
    pub fn at(&self, path: &LayerPath) -> Option<&LocalFile> {
        self.files.get(path)
    }

    /// Whether a path of the image lies below the place of a directory: all there should be here too. The root of the
    /// image is no such place, for what else is in it is the base's.
    #[must_use]
    pub fn covers(&self, path: &LayerPath) -> bool {
        self.roots.iter().any(|root| !root.is_root() && path.starts_with(root))
    }
}

fn kind_of(meta: &fs::Metadata) -> LocalKind {
    if meta.is_dir() {
        LocalKind::Directory
    } else if meta.is_file() {
        LocalKind::File(meta.len())
    } else {
        Special::of(meta.mode(), meta.rdev()).map_or(LocalKind::Socket, LocalKind::Special)
    }
}
