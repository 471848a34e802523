//! Locks between processes: flock(2) on a file of its own. The kernel gives a lock back however its holder ends, so a
//! file that a killed process left behind locks nobody out.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;

use crate::cancel::Cancel;

/// How long one waits for a lock without a word.
const SILENT: Duration = Duration::from_secs(3);

/// How often a lock is tried that another process holds.
const AGAIN: Duration = Duration::from_millis(10);

/// The right to change what a lock file stands for, until it is dropped or the process ends in whatever way.
#[derive(Debug)]
pub struct FileLock {
    /// `None` where the file system has no locks.
    held: Option<Flock<File>>,
    path: PathBuf,
    removed: bool,
}

impl FileLock {
    /// Locks the file at `path`, which is made where it is missing; `None` where somebody else holds it. On a file system
    /// without locks everybody gets one that [is not held](Self::is_held), and the user is warned.
    ///
    /// # Errors
    /// Where the file cannot be made.
    pub fn try_hold(path: &Path) -> io::Result<Option<Self>> {
        Self::try_with(path, |file| Flock::lock(file, FlockArg::LockExclusiveNonblock))
    }

    /// Locks the file at `path` as soon as nobody else holds it.
    ///
    /// # Errors
    /// As [`try_hold`](Self::try_hold).
    pub fn hold(path: &Path) -> io::Result<Self> {
        let mut wait = Wait::new(path);
        loop {
            match Self::try_hold(path)? {
                Some(lock) => return Ok(lock),
                None => thread::sleep(wait.next()),
            }
        }
    }

    /// As [`hold`](Self::hold), until the word to stop is given.
    ///
    /// # Errors
    /// As [`try_hold`](Self::try_hold); an [`Error::Interrupted`](crate::Error::Interrupted) within.
    pub(crate) fn hold_or(path: &Path, cancel: &Cancel) -> io::Result<Self> {
        let mut wait = Wait::new(path);
        loop {
            match Self::try_hold(path)? {
                Some(lock) => return Ok(lock),
                None => {
                    cancel.check().map_err(io::Error::other)?;
                    thread::sleep(wait.next());
                }
            }
        }
    }

    /// Removes the file together with the lock.
    #[must_use]
    pub const fn removed(mut self) -> Self {
        self.removed = true;
        self
    }

    /// Whether there is a lock at all: not so on a file system without them.
    #[must_use]
    pub const fn is_held(&self) -> bool {
        self.held.is_some()
    }

    fn try_with(
        path: &Path,
        lock: impl Fn(File) -> Result<Flock<File>, (File, Errno)>,
    ) -> io::Result<Option<Self>> {
        let (path, removed) = (path.to_owned(), false);
        loop {
            // A link is not followed, and a FIFO not waited for.
            let file = File::options()
                .create(true)
                .append(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
                .open(&path)?;
            match lock(file) {
                // Its holder before may have removed the file that was opened here: then it locks nobody out.
                Ok(held) if is_at(&held, &path) => {
                    return Ok(Some(Self { held: Some(held), path, removed }));
                }
                Ok(_) | Err((_, Errno::EINTR)) => {}
                Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
                Err((_, error)) => {
                    tracing::warn!(
                        path = %path.display(), %error,
                        "the file system has no locks: let no other process write there at the same time"
                    );
                    return Ok(Some(Self { held: None, path, removed }));
                }
            }
        }
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        if self.removed {
            // By its holder alone: who waits for the file sees that it is gone, and makes another.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether `file` is what stands at `path`.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(open), Ok(there)) => (open.dev(), open.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

/// The wait for a lock, of which the user hears when it gets long.
struct Wait<'a> {
    path: &'a Path,
    since: Instant,
    told: bool,
}

impl<'a> Wait<'a> {
    fn new(path: &'a Path) -> Self {
        Self { path, since: Instant::now(), told: false }
    }

    fn next(&mut self) -> Duration {
        if !self.told && self.since.elapsed() > SILENT {
            self.told = true;
            tracing::warn!(path = %self.path.display(), "waiting for another process that holds this lock");
        }
        AGAIN
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn one_holds_a_lock_at_a_time_and_its_file_goes_where_that_is_wanted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let first = FileLock::try_hold(&path).unwrap().unwrap();
        assert!(first.is_held());
        assert!(FileLock::try_hold(&path).unwrap().is_none());
        drop(first);
        let second = FileLock::try_hold(&path).unwrap().unwrap().removed();
        assert!(FileLock::try_hold(&path).unwrap().is_none());
        drop(second);
        assert!(!path.exists());
    }

    #[test]
    fn who_waited_for_a_file_that_is_removed_does_not_hold_it_beside_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let counter = directory.path().join("counter");
        fs::write(&counter, "0").unwrap();
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        let _lock = FileLock::hold(&path).unwrap().removed();
                        let count: u32 = fs::read_to_string(&counter).unwrap().parse().unwrap();
                        fs::write(&counter, (count + 1).to_string()).unwrap();
                    }
                });
            }
        });
        assert_eq!(fs::read_to_string(&counter).unwrap(), "400");
    }

    #[test]
    fn a_file_system_without_locks_gives_one_that_is_not_held() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        let lock = FileLock::try_with(&path, |file| Err((file, Errno::ENOLCK))).unwrap().unwrap();
        assert!(!lock.is_held());
    }

    #[test]
    fn a_link_at_the_locks_path_is_not_followed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("lock");
        symlink(directory.path().join("elsewhere"), &path).unwrap();
        assert!(FileLock::try_hold(&path).is_err());
        assert!(!directory.path().join("elsewhere").exists());
    }
}
