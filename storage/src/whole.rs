//! Files that are written whole: readers see the old one, none, or the whole new one. And what stands at a path before it
//! is written to: a regular file, or nothing, is replaced; everything else stays in its place and is written into.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Seek as _, SeekFrom, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::{
    DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt, fchown,
};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::libc;
use nix::sys::statfs::{PROC_SUPER_MAGIC, statfs};
use tempfile::NamedTempFile;

use crate::lock::FileLock;

/// As many links may stand in a row as the kernel follows.
const MAX_LINKS: usize = 40;

/// How often a FIFO that nobody reads is looked at.
const AGAIN: Duration = Duration::from_millis(20);

/// What stands at a path that is to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A regular file, or nothing yet, behind all links: it is replaced as a whole.
    Whole(PathBuf),
    /// A FIFO, a device, an open file of /proc (as `/dev/stdout` is one), or a file that is mounted by itself: it stays
    /// where it is and is written into.
    Into(PathBuf),
}

impl Place {
    /// Looks at a path. Nothing is opened.
    ///
    /// # Errors
    /// For a directory, for a socket, for links in a circle, and where a directory on the way cannot be searched.
    pub fn of(path: &Path) -> io::Result<Self> {
        let mut at = path.to_owned();
        for _ in 0..MAX_LINKS {
            let metadata = match fs::symlink_metadata(&at) {
                Ok(metadata) => metadata,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Self::Whole(at)),
                Err(error) => return Err(error),
            };
            let kind = metadata.file_type();
            if kind.is_symlink() {
                let directory = directory_of(&at);
                if statfs(directory)?.filesystem_type() == PROC_SUPER_MAGIC {
                    // It leads to an open file itself, and its text may name another by now.
                    return match fs::metadata(&at)?.is_dir() {
                        true => Err(io::ErrorKind::IsADirectory.into()),
                        false => Ok(Self::Into(at)),
                    };
                }
                at = directory.join(fs::read_link(&at)?);
            } else if kind.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            } else if kind.is_socket() {
                let text = "it is a socket, which cannot be opened by its name: write to a FIFO or a file";
                return Err(io::Error::new(io::ErrorKind::Unsupported, text));
            } else if kind.is_file() && !is_mounted(&at) {
                return Ok(Self::Whole(at));
            } else {
                return Ok(Self::Into(at));
            }
        }
        Err(Errno::ELOOP.into())
    }

    /// Whether what is written there comes out at standard output.
    #[must_use]
    pub fn is_stdout(&self) -> bool {
        let Self::Into(path) = self else { return false };
        if descriptor(path) == Some(1) {
            return true;
        }
        let stdout = io::stdout().as_fd().try_clone_to_owned().and_then(|fd| File::from(fd).metadata());
        match (fs::metadata(path), stdout) {
            (Ok(there), Ok(stdout)) => (there.dev(), there.ino()) == (stdout.dev(), stdout.ino()),
            _ => false,
        }
    }
}

/// Writes a small file that was asked for at a path: into what stands there, whatever it is. A regular file keeps its
/// owner and mode.
///
/// # Errors
/// As [`Place::of`], and where it cannot be written.
pub fn write_file(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match Place::of(path)? {
        Place::Whole(path) => fs::write(path, bytes),
        Place::Into(path) => Flow::open(&path, || Ok(()))?.write_all(bytes, || Ok(())),
    }
}

/// Writes a file so that readers see the old one, none, or the whole new one; only its owner can read it.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    write_whole_by(path, |file| file.write_all(bytes))
}

/// As [`write_whole`], for what is not in memory at once.
pub(crate) fn write_whole_by(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<()> {
    let directory = directory_of(path);
    fs::create_dir_all(directory)?;
    replace(path, write, NamedTempFile::new_in(directory).map_err(without_path)?)
}

/// As [`write_whole`], for a file beside an image: with a mode, and a name by which others know it while it is written.
pub(crate) fn write_whole_as(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let file = tempfile::Builder::new().prefix(".crossdock-").tempfile_in(directory_of(path));
    let file = file.map_err(without_path)?;
    file.as_file().set_permissions(PermissionsExt::from_mode(mode))?;
    replace(path, |file| file.write_all(bytes), file)
}

/// An error of tempfile's without the random name that it tried, which says nothing to anybody.
pub(crate) fn without_path(error: io::Error) -> io::Error {
    let text = error.to_string();
    match text.split_once(" at path ") {
        Some((reason, _)) if error.raw_os_error().is_none() => io::Error::new(error.kind(), reason),
        _ => error,
    }
}

fn replace(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
    mut file: NamedTempFile,
) -> io::Result<()> {
    write(file.as_file_mut())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// A file that is read and written anew while no other process of ours does so, until this is dropped. It is its owner's
/// alone.
#[derive(Debug)]
pub struct LockedFile {
    place: Place,
    _beside: Option<FileLock>,
    /// Where the file is written into, the file itself is locked: it stays the same one.
    _itself: Option<Flock<File>>,
}

impl LockedFile {
    /// Waits until nobody else changes the file at `path`. Directories that are missing are made, for their owner alone.
    ///
    /// # Errors
    /// As [`Place::of`], and where there may not be written beside the file.
    pub fn hold(path: &Path) -> io::Result<Self> {
        let place = Place::of(path)?;
        match &place {
            Place::Whole(file) => {
                let directory = directory_of(file);
                fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
                let mut name = std::ffi::OsString::from(".");
                name.push(file.file_name().ok_or(io::ErrorKind::InvalidInput)?);
                name.push(".lock");
                let lock = FileLock::hold(&directory.join(name))?.removed();
                Ok(Self { place, _beside: Some(lock), _itself: None })
            }
            Place::Into(file) if is_regular(file) => {
                let file = File::options().append(true).open(file)?;
                let itself = Flock::lock(file, FlockArg::LockExclusive).ok();
                Ok(Self { place, _beside: None, _itself: itself })
            }
            Place::Into(_) => Ok(Self { place, _beside: None, _itself: None }),
        }
    }

    /// Reads the file; empty where there is none yet, or where what stands there is not read, as a FIFO.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn read(&self) -> io::Result<Vec<u8>> {
        let (Place::Whole(path) | Place::Into(path)) = &self.place;
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_file() => fs::read(path),
            Ok(_) => Ok(Vec::new()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes the file anew: with mode 0600, and for the owner that it had. It is on the disk afterwards.
    ///
    /// # Errors
    /// Where it cannot be written; then it is as it was, but for one that is written into.
    pub fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let path = match &self.place {
            Place::Whole(path) => path,
            Place::Into(path) => return Flow::open(path, || Ok(()))?.write_all(bytes, || Ok(())),
        };
        // Made with mode 0600, as all of tempfile's.
        let file = tempfile::Builder::new().prefix(".crossdock-").tempfile_in(directory_of(path));
        let mut file = file.map_err(without_path)?;
        if let (Ok(old), Ok(new)) = (fs::metadata(path), file.as_file().metadata())
            && (old.uid(), old.gid()) != (new.uid(), new.gid())
        {
            // Only root may give a file away; others get one that is their own.
            let _ = fchown(file.as_file(), Some(old.uid()), Some(old.gid()));
        }
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }
}

/// Something that is written into from front to back, as a pipe.
#[derive(Debug)]
pub(crate) struct Flow(File);

impl Flow {
    /// Opens what [`Place::Into`] names; for a FIFO that nobody reads it waits. `go_on` is asked now and then, and ends
    /// the wait with its error.
    ///
    /// # Errors
    /// Where it cannot be opened, and those of `go_on`.
    pub(crate) fn open(path: &Path, go_on: impl Fn() -> io::Result<()>) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        let open_file = descriptor(path);
        // The file of a redirection is shared with the shell, and with it the place where the next byte goes. A socket has
        // no other way in.
        if let Some(number @ (1 | 2)) = open_file
            && !metadata.file_type().is_fifo()
        {
            let fd = match number {
                1 => io::stdout().as_fd().try_clone_to_owned(),
                _ => io::stderr().as_fd().try_clone_to_owned(),
            };
            return Ok(Self(fd?.into()));
        }
        let mut options = File::options();
        options.write(true).truncate(metadata.is_file() && open_file.is_none());
        if metadata.file_type().is_fifo() {
            options.custom_flags(libc::O_NONBLOCK);
        }
        loop {
            match options.open(path) {
                Ok(mut file) => {
                    if let Some(number) = open_file.filter(|_| metadata.is_file()) {
                        go_where_it_is(&mut file, number)?;
                    }
                    return Ok(Self(file));
                }
                Err(error) if error.raw_os_error() == Some(libc::ENXIO) && metadata.file_type().is_fifo() => {
                    if open_file.is_some() {
                        // A pipe of which the other end is closed will have no reader any more.
                        return Err(told(Errno::EPIPE.into()));
                    }
                    go_on()?;
                    std::thread::sleep(AGAIN);
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// Whether a person would see the bytes.
    pub(crate) fn is_terminal(&self) -> bool {
        self.0.is_terminal()
    }

    /// Writes all of it; while a pipe is full, `go_on` is asked now and then and ends the wait with its error.
    ///
    /// # Errors
    /// Where it cannot be written, and those of `go_on`.
    pub(crate) fn write_all(
        &mut self,
        mut bytes: &[u8],
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    go_on()?;
                    self.wait()?;
                }
                Err(error) => return Err(told(error)),
            }
        }
        Ok(())
    }

    /// Until there is room, or for a tenth of a second.
    fn wait(&self) -> io::Result<()> {
        use nix::poll::{PollFd, PollFlags, poll};
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut polled, 100u16) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

/// A broken pipe in words that say whose end it was.
fn told(error: io::Error) -> io::Error {
    if error.kind() == io::ErrorKind::BrokenPipe {
        let text = "its reader went away before it had all (Broken pipe)";
        return io::Error::new(io::ErrorKind::BrokenPipe, text);
    }
    error
}

/// The number of the open file of this process that a link below `/proc/self/fd` leads to.
fn descriptor(path: &Path) -> Option<u32> {
    let number = path.file_name()?.to_str()?.parse().ok()?;
    let own = fs::canonicalize("/proc/self/fd").ok()?;
    (fs::canonicalize(directory_of(path)).ok()? == own).then_some(number)
}

/// Sets a regular file that was opened a second time to where the first one is: behind what was written there.
fn go_where_it_is(file: &mut File, number: u32) -> io::Result<()> {
    let text = fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let appends = field("flags:")
        .and_then(|flags| i32::from_str_radix(flags, 8).ok())
        .is_some_and(|flags| flags & libc::O_APPEND != 0);
    let position = match field("pos:").and_then(|position| position.parse().ok()) {
        Some(position) if !appends => SeekFrom::Start(position),
        _ => SeekFrom::End(0),
    };
    file.seek(position).map(drop)
}

fn is_regular(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// Whether a file is the root of a mount, as those are that a container engine binds one by one: no other file can take
/// its place.
fn is_mounted(path: &Path) -> bool {
    use std::os::unix::ffi::OsStrExt as _;
    let (Ok(mounts), Ok(real)) = (fs::read("/proc/self/mountinfo"), fs::canonicalize(path)) else {
        return false;
    };
    // The fifth field, in which blanks and backslashes are octal (proc_pid_mountinfo(5)).
    let escaped: Vec<u8> = real
        .as_os_str()
        .as_bytes()
        .iter()
        .flat_map(|byte| match byte {
            b' ' | b'\t' | b'\n' | b'\\' => format!("\\{byte:03o}").into_bytes(),
            byte => vec![*byte],
        })
        .collect();
    mounts.split(|byte| *byte == b'\n').any(|line| line.split(|byte| *byte == b' ').nth(4) == Some(&escaped))
}

/// The directory that a path is in.
pub(crate) fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
