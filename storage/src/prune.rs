//! What can go from a root directory: layer memos, layer indexes and notes of uploads that nobody needed for long, and
//! files that a killed process was writing. All of it is made again where it is needed. Image records are the business
//! of [`RecordStore`](crate::RecordStore).

use std::fs;
use std::io;
use std::path::Path;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::state::StateStore;

/// Files that are written have this prefix until they are whole: `tempfile`'s own.
const BEING_WRITTEN: &[u8] = b".tmp";

/// A file that is written is whole within seconds: older ones are left over.
const ABANDONED: Duration = Duration::from_secs(3600);

/// What was removed, in files and bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Remembered digests of layers.
    pub memos: (u64, u64),
    /// Remembered contents of base layers.
    pub indexes: (u64, u64),
    /// Notes of uploads, and of the parts of builds that were sent in parts.
    pub uploads: (u64, u64),
    /// Files that were not written to their end.
    pub leftovers: (u64, u64),
}

impl Pruned {
    /// The sum.
    #[must_use]
    pub const fn bytes(&self) -> u64 {
        self.memos.1 + self.indexes.1 + self.uploads.1 + self.leftovers.1
    }
}

/// Removes what nobody needed for longer than `unused_for` below `root`. Notes of uploads that another process is at
/// work on stay.
///
/// # Errors
/// [`Error::Load`] and [`Error::Write`], with what was removed before gone.
pub fn prune(root: &Path, unused_for: Duration) -> Result<Pruned> {
    let mut pruned = Pruned::default();
    for (directory, sum) in [("memo", &mut pruned.memos), ("index", &mut pruned.indexes)] {
        walk(&root.join(directory), &mut |path, age| {
            if !is_being_written(path) && age >= unused_for { remove(path, sum) } else { Ok(()) }
        })?;
    }
    for kind in ["uploads", "parts"] {
        for len in StateStore::new(root, kind).prune(unused_for) {
            pruned.uploads.0 += 1;
            pruned.uploads.1 += len;
        }
    }
    walk(root, &mut |path, age| {
        if is_being_written(path) && age >= ABANDONED { remove(path, &mut pruned.leftovers) } else { Ok(()) }
    })?;
    Ok(pruned)
}

fn is_being_written(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(BEING_WRITTEN))
}

fn remove(path: &Path, sum: &mut (u64, u64)) -> Result<()> {
    let len = fs::symlink_metadata(path).map_or(0, |metadata| metadata.len());
    match fs::remove_file(path) {
        Ok(()) => {
            sum.0 += 1;
            sum.1 += len;
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(source) => Err(Error::Write { path: path.to_owned(), source }),
    }
}

/// Shows each regular file below a directory, with how long it was not touched. Links are not followed.
fn walk(directory: &Path, show: &mut dyn FnMut(&Path, Duration) -> Result<()>) -> Result<()> {
    let load = |source| Error::Load { path: directory.to_owned(), source };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(load(source)),
    };
    for entry in entries {
        let entry = entry.map_err(load)?;
        // A file that is gone by now is somebody else's business.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            walk(&entry.path(), show)?;
        } else if metadata.is_file() {
            let age = metadata.modified().ok().and_then(|time| time.elapsed().ok()).unwrap_or_default();
            show(&entry.path(), age)?;
        }
    }
    Ok(())
}
