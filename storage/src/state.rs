//! Small files below the root directory that help the next process and that nothing depends on: written whole or not
//! at all, readable by their owner only, and locked by who is at work on what they describe.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::lock::FileLock;
use crate::whole::write_whole;

/// Files above this many bytes are not ours.
const MAX: u64 = 4 << 20;

/// How long a change waits for the one that another process is making.
const PATIENCE: Duration = Duration::from_secs(1);

/// A directory of small files.
#[derive(Debug, Clone)]
pub struct StateStore {
    directory: PathBuf,
}

/// The right to work on what a file describes, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct StateLock(FileLock);

impl StateStore {
    /// The files of `kind` below `root`; nothing is created before the first one is written.
    #[must_use]
    pub fn new(root: &Path, kind: &str) -> Self {
        Self { directory: root.join(kind) }
    }

    /// A file's bytes; `None` where there is none that can be read.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path(name);
        match fs::metadata(&path) {
            Ok(metadata) if metadata.len() <= MAX => fs::read(&path).ok(),
            _ => None,
        }
    }

    /// Puts a file in the place of the one there; only its owner can read it.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn write(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let path = self.path(name);
        write_whole(&path, bytes).map_err(|source| Error::Write { path, source })
    }

    /// Replaces a file by what `change` makes of it; no other process changes it at the same time.
    ///
    /// # Errors
    /// [`Error::Write`], also where another process does not come to the end of its change.
    pub fn change(&self, name: &str, change: impl FnOnce(Option<Vec<u8>>) -> Vec<u8>) -> Result<()> {
        let path = self.path(&format!("{name}.lock"));
        let since = Instant::now();
        let hold = || {
            fs::create_dir_all(&self.directory)?;
            loop {
                match FileLock::try_hold(&path)? {
                    Some(lock) => return Ok(lock.removed()),
                    None if since.elapsed() > PATIENCE => return Err(io::ErrorKind::WouldBlock.into()),
                    None => thread::sleep(Duration::from_millis(5)),
                }
            }
        };
        let _lock = hold().map_err(|source| Error::Write { path: path.clone(), source })?;
        self.write(name, &change(self.read(name)))
    }

    /// Removes a file. One that is gone already is as good.
    pub fn remove(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Locks `name` against other processes and other holders in this one; `None` where one holds it, or where the
    /// file system has no locks.
    #[must_use]
    pub fn lock(&self, name: &str) -> Option<StateLock> {
        fs::create_dir_all(&self.directory).ok()?;
        let lock = FileLock::try_hold(&self.path(&format!("{name}.lock"))).ok()??;
        lock.is_held().then_some(StateLock(lock))
    }

    /// Removes a lock's file; by its holder only.
    pub fn unlock(lock: StateLock) {
        drop(lock.0.removed());
    }

    /// Removes files that were not written to for longer than `age`, with their locks; not those that somebody is at
    /// work on. Returns how many bytes each had.
    pub fn prune(&self, age: Duration) -> Vec<u64> {
        let Ok(entries) = fs::read_dir(&self.directory) else { return Vec::new() };
        let mut removed = Vec::new();
        for entry in entries.flatten() {
            let old = || -> io::Result<Option<u64>> {
                let metadata = entry.metadata()?;
                let old = metadata.modified()?.elapsed().is_ok_and(|elapsed| elapsed >= age);
                Ok((old && metadata.is_file()).then_some(metadata.len()))
            };
            let (Ok(Some(len)), Ok(file)) = (old(), entry.file_name().into_string()) else { continue };
            let name = file.strip_suffix(".lock").unwrap_or(&file);
            let Some(lock) = self.lock(name) else { continue };
            // Somebody else may have been quicker.
            if file == name && fs::remove_file(entry.path()).is_ok() {
                removed.push(len);
            }
            // A lock goes with what it is for.
            if self.path(name).exists() {
                drop(lock);
            } else {
                drop(lock.0.removed());
            }
        }
        removed
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }
}
