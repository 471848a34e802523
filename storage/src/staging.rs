//! Blobs on their way into a directory of blobs. They wait in a directory of their own beside the others until their image
//! is whole, and move to their places in one go. So an image that comes to nothing takes no blob away that another process
//! counts on. The directory of a killed process is removed by the next one that writes there.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{Flock, FlockArg};
use tempfile::{NamedTempFile, TempDir};

use crate::digest::Digest;
use crate::lock::FileLock;
use crate::map::prefers_read;
use crate::source::IoMode;
use crate::whole::without_path;

/// What the names of all that is ours begin with, beside what belongs to an image.
const OURS: &str = ".crossdock";
const PREFIX: &str = ".crossdock-";
const LOCK: &str = "lock";

/// On a network file system a lock may say nothing of other machines: what was not written to for so long is left over.
const ABANDONED: Duration = Duration::from_secs(3600);

/// How often a directory is made that goes away at once.
const ATTEMPTS: usize = 10;

/// Blobs that wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Staging {
    /// Their sizes, by the digest's hexadecimal part.
    blobs: BTreeMap<String, u64>,
    /// Blobs that were in their places already, and that no second name could be given to.
    counted: Vec<(String, u64)>,
    directory: TempDir,
    /// Says that the process is there.
    _lock: FileLock,
}

impl Staging {
    /// A place for blobs in `parent`, after those of processes that are gone were removed.
    pub(crate) fn new(parent: &Path) -> io::Result<Self> {
        sweep(parent);
        let mut attempt = 0;
        loop {
            attempt += 1;
            // Another process may remove the parent, which it made, before there is something in it.
            let made = fs::create_dir_all(parent)
                .and_then(|()| {
                    tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).map_err(without_path)
                })
                .and_then(|directory| Ok((FileLock::try_hold(&directory.path().join(LOCK))?, directory)));
            match made {
                Ok((Some(lock), directory)) => {
                    let (blobs, counted) = (BTreeMap::new(), Vec::new());
                    return Ok(Self { blobs, counted, directory, _lock: lock });
                }
                Ok((None, _)) if attempt < ATTEMPTS => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound && attempt < ATTEMPTS => {}
                Ok((None, _)) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(error) => return Err(error),
            }
        }
    }

    /// The directory for files that become blobs.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    pub(crate) fn has(&self, digest: &Digest, size: u64) -> bool {
        self.blobs.get(digest.digest()) == Some(&size)
    }

    /// Keeps a file as the blob of this digest.
    pub(crate) fn keep(&mut self, file: NamedTempFile, digest: &Digest) -> io::Result<()> {
        let size = file.as_file().metadata()?.len();
        file.persist(self.directory.path().join(digest.digest())).map_err(|error| error.error)?;
        self.blobs.insert(digest.digest().to_owned(), size);
        Ok(())
    }

    /// Counts on a blob that is in its place. A second name keeps it, whoever removes the first.
    pub(crate) fn count_on(&mut self, place: &Path, digest: &Digest, size: u64) {
        let name = digest.digest().to_owned();
        // Some file systems have no second names, and the kernel may not allow one for a file of another user.
        match fs::hard_link(place, self.directory.path().join(&name)) {
            Ok(()) => drop(self.blobs.insert(name, size)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => self.counted.push((name, size)),
        }
    }

    /// Moves all blobs into `blobs`, and adds to `moved` those that were not there. By the holder of that directory's lock.
    ///
    /// # Errors
    /// Where one cannot be moved, or one that was counted on is gone.
    pub(crate) fn publish(&mut self, blobs: &Path, moved: &mut Vec<PathBuf>) -> io::Result<()> {
        for (name, size) in &self.blobs {
            let place = blobs.join(name);
            if !is_there(&place, *size) {
                fs::rename(self.directory.path().join(name), &place)?;
                moved.push(place);
            }
        }
        match self.counted.iter().find(|(name, size)| !is_there(&blobs.join(name), *size)) {
            None => Ok(()),
            Some((name, _)) => {
                let text = format!("another program removed the blob {name} in the meantime; run it again");
                Err(io::Error::new(io::ErrorKind::NotFound, text))
            }
        }
    }
}

/// Whether a directory has anything in it but what processes of ours are at work on.
pub(crate) fn holds_something(directory: &Path) -> bool {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names = entries.map(|entry| entry.file_name());
    names.any(|name| !name.as_encoded_bytes().starts_with(OURS.as_bytes()))
}

/// The file that is locked by who changes what a directory holds.
pub(crate) fn lock_of(directory: &Path) -> PathBuf {
    directory.join(format!("{OURS}.lock"))
}

fn is_there(place: &Path, size: u64) -> bool {
    fs::metadata(place).is_ok_and(|metadata| metadata.is_file() && metadata.len() == size)
}

/// Removes the directories of processes that are gone, each of which has given back its lock.
fn sweep(parent: &Path) {
    for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let ours = entry.file_name().as_encoded_bytes().starts_with(PREFIX.as_bytes());
        // One without a lock is being made.
        let Some(lock) = ours.then(|| File::options().append(true).open(path.join(LOCK)).ok()).flatten()
        else {
            continue;
        };
        let local = !prefers_read(&lock, IoMode::Auto);
        let Ok(_held) = Flock::lock(lock, FlockArg::LockExclusiveNonblock) else { continue };
        if local || is_abandoned(&path) {
            tracing::debug!(path = %path.display(), "removing what a killed process left");
            // What cannot be removed stays for the next one.
            let _ = fs::remove_dir_all(&path);
        }
    }
}

fn is_abandoned(directory: &Path) -> bool {
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut times =
        std::iter::once(directory.to_owned()).chain(files).map(|path| fs::metadata(path)?.modified());
    times.all(|time| time.is_ok_and(|time| time.elapsed().is_ok_and(|age| age > ABANDONED)))
}

/// Where blobs for `blobs`, a directory in `directory`, wait: on the same file system.
pub(crate) fn parent<'a>(directory: &'a Path, blobs: &'a Path) -> &'a Path {
    match (fs::metadata(directory), fs::metadata(blobs)) {
        (Ok(outer), Ok(inner)) if outer.dev() != inner.dev() => blobs,
        _ => directory,
    }
}
