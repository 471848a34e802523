//! A source file: a path and the fence that says it is still the file the build looked at.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
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
/// Cheap to clone, and small: a build holds one for each file. The path may be followed again later without harm: a file
/// that another one has taken the place of fails the fence.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceFile(Arc<Source>);

/// What a [`SourceFile`] holds. The path is in two parts, for the files of a directory share the first.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Source {
    directory: SourceDirectory,
    /// Empty where `directory` is the whole path.
    name: Arc<[u8]>,
    fence: PackedFence,
}

/// A directory whose files are sources; they share its path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceDirectory(Arc<PathBuf>);

impl SourceDirectory {
    /// A directory by its absolute path.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(Arc::new(path.into()))
    }

    /// The directory's path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A file in this directory by its name.
    #[must_use]
    pub fn file(&self, name: Arc<[u8]>, fence: Fence) -> SourceFile {
        SourceFile(Arc::new(Source { directory: self.clone(), name, fence: fence.into() }))
    }
}

/// A [`Fence`] in three quarters of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct PackedFence {
    device: u64,
    inode: u64,
    size: u64,
    mtime_seconds: i64,
    ctime_seconds: i64,
    /// The nanoseconds behind the seconds.
    mtime_rest: u32,
    ctime_rest: u32,
}

impl From<Fence> for PackedFence {
    fn from(fence: Fence) -> Self {
        const SECOND: i128 = 1_000_000_000;
        // No file system has times that do not fit; a record that does is of no file.
        let seconds = |time: i128| i64::try_from(time.div_euclid(SECOND)).unwrap_or(i64::MAX);
        let rest = |time: i128| u32::try_from(time.rem_euclid(SECOND)).expect("below a second");
        Self {
            device: fence.device,
            inode: fence.inode,
            size: fence.size,
            mtime_seconds: seconds(fence.mtime_ns),
            ctime_seconds: seconds(fence.ctime_ns),
            mtime_rest: rest(fence.mtime_ns),
            ctime_rest: rest(fence.ctime_ns),
        }
    }
}

impl From<PackedFence> for Fence {
    fn from(fence: PackedFence) -> Self {
        Self {
            device: fence.device,
            inode: fence.inode,
            size: fence.size,
            mtime_ns: nanoseconds(fence.mtime_seconds, fence.mtime_rest.into()),
            ctime_ns: nanoseconds(fence.ctime_seconds, fence.ctime_rest.into()),
        }
    }
}

impl SourceFile {
    /// A file by its path and the metadata that the walk of the context read for it.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, fence: Fence) -> Self {
        let path = path.into();
        match (path.parent(), path.file_name()) {
            (Some(directory), Some(name)) => {
                SourceDirectory::new(directory).file(name.as_bytes().into(), fence)
            }
            _ => SourceDirectory::new(path).file(Arc::default(), fence),
        }
    }

    /// A file of its own with the same path and fence, whose [`id`](Self::id) no clone of this one has.
    #[must_use]
    pub fn apart(self) -> Self {
        if self.id().1 { Self(Arc::new((*self.0).clone())) } else { self }
    }

    /// A number that clones of this `SourceFile` have and no other one has, and whether there are clones.
    #[must_use]
    pub fn id(&self) -> (usize, bool) {
        (Arc::as_ptr(&self.0) as usize, Arc::strong_count(&self.0) > 1)
    }

    /// Its name in the directory that it lies in.
    #[must_use]
    pub fn name(&self) -> &Arc<[u8]> {
        &self.0.name
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
    pub fn path(&self) -> PathBuf {
        let Source { directory, name, .. } = &*self.0;
        if name.is_empty() { directory.0.to_path_buf() } else { directory.0.join(OsStr::from_bytes(name)) }
    }

    /// The directory that the file lies in.
    pub(crate) fn directory(&self) -> &SourceDirectory {
        &self.0.directory
    }

    /// What the file was when the build looked at it.
    #[must_use]
    pub fn fence(&self) -> Fence {
        self.0.fence.into()
    }

    /// Its length in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.0.fence.size
    }

    /// The same file as this process sees it, where another one looked at it: on the device that it is on now, and with
    /// the change time that it has now. A file that is another by now keeps the rest of its fence, so that who reads it
    /// is told.
    pub fn renewed(&self) -> (Self, FileState) {
        let mut renewed = self.clone();
        let state = renewed.renew();
        (renewed, state)
    }

    /// As [`renewed`](Self::renewed), in place.
    pub(crate) fn renew(&mut self) -> FileState {
        let Ok(metadata) = std::fs::metadata(self.path()) else { return FileState::Touched };
        let now = Fence::of(&metadata);
        let fence = Fence { device: now.device, ..self.fence() };
        let (fence, state) = match fence.breach(&now) {
            None => (fence, FileState::Same),
            Some(FenceBreach::Touched) => (now, FileState::Touched),
            Some(_) => (fence, FileState::Touched),
        };
        if fence != self.fence() {
            Arc::make_mut(&mut self.0).fence = fence.into();
        }
        state
    }

    /// Opens the file and checks the fence on the open descriptor. The file comes with the fence that it has now: its
    /// change time may be another, for no byte was read yet.
    pub(crate) fn open(&self) -> Result<(File, Self)> {
        let file = self.open_unchecked()?;
        let metadata = self.metadata_of(&file)?;
        match self.check(&metadata) {
            Ok(_) => Ok((file, self.0.directory.file(Arc::clone(&self.0.name), Fence::of(&metadata)))),
            Err(changed) => Err(self.check_by_path().err().unwrap_or(changed)),
        }
    }

    fn open_unchecked(&self) -> Result<File> {
        // A FIFO in the file's place would keep an open without O_NONBLOCK waiting for a writer.
        let opened = File::options().read(true).custom_flags(nix::libc::O_NONBLOCK).open(self.path());
        opened.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => self.changed(FenceBreach::Removed),
            _ => Error::Open { path: self.path(), source },
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
        file.metadata().map_err(|source| Error::Open { path: self.path(), source })
    }

    /// Checks the fence by path, without opening: for digests that are remembered.
    ///
    /// # Errors
    /// [`Error::Changed`] where the fence does not hold, [`Error::Open`] where the file cannot be looked at.
    pub fn check_by_path(&self) -> Result<FileState> {
        match std::fs::metadata(self.path()) {
            Ok(metadata) => self.check(&metadata),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.changed(FenceBreach::Removed)),
            Err(source) => Err(Error::Open { path: self.path(), source }),
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
        Error::Changed { path: self.path(), breach }
    }

    fn check(&self, metadata: &Metadata) -> Result<FileState> {
        match self.fence().breach(&Fence::of(metadata)) {
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
