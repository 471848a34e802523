//! A source file: a path and the fence that says it is still the file the build looked at.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, FenceBreach, Result};
use crate::parallel::in_parallel;
use crate::windows::read_error;

/// What must not change between the look at a file and the publication of a digest of its bytes.
///
/// The times are nanoseconds since the epoch. The device number takes part only within a process: a volume
/// that is mounted again may have another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Fence {
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Length in bytes.
    pub size: u64,
    /// Modification time, in nanoseconds since the epoch.
    pub mtime_ns: i128,
    /// Change time of the inode, in nanoseconds since the epoch.
    pub ctime_ns: i128,
}

impl Fence {
    /// The fence of a file whose metadata is at hand.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
            ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// How `now` differs from this fence, if it does: [`FenceBreach::Touched`] where the change time alone is another.
    #[must_use]
    pub fn breach(&self, now: &Self) -> Option<FenceBreach> {
        if (self.device, self.inode) != (now.device, now.inode) {
            Some(FenceBreach::Replaced)
        } else if self.size != now.size {
            Some(FenceBreach::Size { expected: self.size, actual: now.size })
        } else if self.mtime_ns != now.mtime_ns {
            Some(FenceBreach::Modified)
        } else if self.ctime_ns != now.ctime_ns {
            Some(FenceBreach::Touched)
        } else {
            None
        }
    }
}

/// What a look at a file has found whose inode, size and modification time are what they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[must_use]
pub enum FileState {
    /// Its change time is what it was too: the bytes are the same.
    Same,
    /// Its change time alone is another. That is what chown, chmod, ln, mv and setfattr leave behind, and also who
    /// writes to a file and sets its modification time back: the bytes are most likely the same, and must be read
    /// to know it.
    Touched,
}

fn nanoseconds(seconds: i64, nanoseconds: i64) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}

/// A regular file outside any image, by absolute path, with the fence it had when the build looked at it.
///
/// Cheap to clone. The path may be followed again later without harm: a file that another one has taken the place
/// of fails the fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceFile {
    path: Arc<Path>,
    fence: Fence,
}

impl SourceFile {
    /// A file by its path and the metadata that the walk of the context read for it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, fence: Fence) -> Self {
        Self { path: path.into().into(), fence }
    }

    /// Looks at the file now.
    ///
    /// # Errors
    /// [`Error::Open`] where the file cannot be looked at.
    pub fn stat(path: impl Into<PathBuf>) -> Result<Self> {
        let path = path.into();
        match std::fs::metadata(&path) {
            Ok(metadata) => Ok(Self::new(path, Fence::of(&metadata))),
            Err(source) => Err(Error::Open { path, source }),
        }
    }

    /// Where the file lies.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What the file was when the build looked at it.
    #[must_use]
    pub const fn fence(&self) -> &Fence {
        &self.fence
    }

    /// Its length in bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.fence.size
    }

    /// The same file as this process sees it, where another one looked at it: on the device that it is on now, and with
    /// the change time that it has now. A file that is another by now keeps the rest of its fence, so that who reads it
    /// is told.
    pub fn renewed(&self) -> (Self, FileState) {
        let Ok(metadata) = std::fs::metadata(&self.path) else { return (self.clone(), FileState::Touched) };
        let now = Fence::of(&metadata);
        let fence = Fence { device: now.device, ..self.fence };
        let (fence, state) = match fence.breach(&now) {
            None => (fence, FileState::Same),
            Some(FenceBreach::Touched) => (now, FileState::Touched),
            Some(_) => (fence, FileState::Touched),
        };
        (Self { path: Arc::clone(&self.path), fence }, state)
    }

    /// Opens the file and checks the fence on the open descriptor. The file comes with the fence that it has now: its
    /// change time may be another, for no byte was read yet.
    pub(crate) fn open(&self) -> Result<(File, Self)> {
        let file = self.open_unchecked()?;
        let metadata = self.metadata_of(&file)?;
        match self.check(&metadata) {
            Ok(_) => Ok((file, Self { path: Arc::clone(&self.path), fence: Fence::of(&metadata) })),
            Err(changed) => Err(self.check_by_path().err().unwrap_or(changed)),
        }
    }

    fn open_unchecked(&self) -> Result<File> {
        // A FIFO in the file's place would keep an open without O_NONBLOCK waiting for a writer.
        let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(&self.path);
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.changed(FenceBreach::Removed),
            _ => Error::Open { path: self.path.to_path_buf(), source },
        })
    }

    /// Fills `buffer` with the bytes from `offset` on. The fence is checked once they are there, on the descriptor that
    /// they came from: for a file that is read at once this says all that a check before could. Where the change time
    /// alone has moved, the bytes are read twice and must be the same both times.
    pub(crate) fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        let file = self.open_unchecked()?;
        let read = file.read_exact_at(buffer, offset);
        let state = self.check_open(&file)?;
        read.map_err(|error| read_error(self, offset, error.kind(), error))?;
        if state == FileState::Same {
            return Ok(());
        }
        let mut again = vec![0; buffer.len()];
        let read = file.read_exact_at(&mut again, offset);
        let _ = self.check_open(&file)?;
        read.map_err(|error| read_error(self, offset, error.kind(), error))?;
        if again == buffer { Ok(()) } else { Err(self.changed(FenceBreach::Rewritten)) }
    }

    /// Checks the fence on an open descriptor.
    pub(crate) fn check_open(&self, file: &File) -> Result<FileState> {
        // What stands at the path says more than the times of a file that was removed or replaced.
        self.check(&self.metadata_of(file)?).map_err(|changed| self.check_by_path().err().unwrap_or(changed))
    }

    fn metadata_of(&self, file: &File) -> Result<Metadata> {
        file.metadata().map_err(|source| Error::Open { path: self.path.to_path_buf(), source })
    }

    /// Checks the fence by path, without opening: for digests that are remembered.
    ///
    /// # Errors
    /// [`Error::Changed`] where the fence does not hold, [`Error::Open`] where the file cannot be looked at.
    pub fn check_by_path(&self) -> Result<FileState> {
        match std::fs::metadata(&self.path) {
            Ok(metadata) => self.check(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.changed(FenceBreach::Removed)),
            Err(source) => Err(Error::Open { path: self.path.to_path_buf(), source }),
        }
    }

    /// As [`check_by_path`](Self::check_by_path), for many files: some of them side by side. [`FileState::Touched`] where
    /// one of them is.
    ///
    /// # Errors
    /// Of the first file in order that has one.
    pub fn check_all<'a>(files: impl IntoIterator<Item = &'a Self>) -> Result<FileState> {
        let mut files: Vec<_> = files.into_iter().map(|file| (file, FileState::Same)).collect();
        in_parallel(&mut files, |(file, state)| {
            *state = file.check_by_path()?;
            Ok(())
        })?;
        Ok(files.into_iter().map(|(_, state)| state).max().unwrap_or(FileState::Same))
    }

    pub(crate) fn changed(&self, breach: FenceBreach) -> Error {
        Error::Changed { path: self.path.to_path_buf(), breach }
    }

    fn check(&self, metadata: &Metadata) -> Result<FileState> {
        match self.fence.breach(&Fence::of(metadata)) {
            None => Ok(FileState::Same),
            Some(FenceBreach::Touched) => Ok(FileState::Touched),
            Some(breach) => Err(self.changed(breach)),
        }
    }
}

/// How bytes come from a source file into memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IoMode {
    /// Mapped on local file systems, read on network and FUSE file systems, where a mapped page that cannot be
    /// had is a signal and not an error.
    #[default]
    Auto,
    /// Always mapped.
    Mmap,
    /// Always read with `pread(2)`.
    Read,
}

impl FromStr for IoMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "mmap" => Ok(Self::Mmap),
            "read" => Ok(Self::Read),
            _ => Err(format!("unknown I/O mode {text:?}: auto, mmap and read are known")),
        }
    }
}
