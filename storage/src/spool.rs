//! Bytes that come through a pipe and are needed more than once: they are put into a file that has no name.
//!
//! A pipe can be read once and cannot be mapped. So what comes out of it is written down, into a file that is gone when the
//! process is, however that ends. Nobody else can open or change it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::IntoRawFd;
use std::path::Path;

use crate::cancel::Cancel;
use crate::error::{Error, Result};
use crate::source::SourceFile;
use crate::whole::without_path;

/// Bytes that are copied at a time.
const CHUNK: usize = 1 << 20;

/// Writes all that `source` gives, behind `head`, into a file without a name in the first of `directories` that takes one, and
/// says which. The file stays open as long as this process lives, and its path is for this process alone.
///
/// # Errors
/// [`Error::Write`] where the file cannot be written, or `source` not read; [`Error::Interrupted`] where `cancel` says so.
pub fn spool<'d>(
    head: &[u8],
    mut source: impl Read,
    directories: &[&'d Path],
    cancel: &Cancel,
) -> Result<(SourceFile, &'d Path)> {
    let mut opened = Err(Error::Unusable("there is no directory to write to".to_owned()));
    for directory in directories {
        let made = std::fs::create_dir_all(directory)
            .and_then(|()| tempfile::tempfile_in(directory).map_err(without_path));
        opened = made
            .map(|file| (file, *directory))
            .map_err(|source| Error::Write { path: (*directory).to_owned(), source });
        if opened.is_ok() {
            break;
        }
    }
    let (mut file, directory) = opened?;
    let fail = |source: io::Error| Error::Write { path: directory.to_owned(), source };
    file.write_all(head).map_err(fail)?;
    let mut chunk = vec![0; CHUNK];
    loop {
        cancel.check()?;
        match source.read(&mut chunk) {
            Ok(0) => break,
            Ok(len) => file.write_all(&chunk[..len]).map_err(fail)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Ok((SourceFile::stat(path_of(file))?, directory))
}

/// The path of an open file that is never closed.
fn path_of(file: File) -> String {
    format!("/proc/self/fd/{}", file.into_raw_fd())
}

/// Whether a file is one that [`spool`] wrote: no other process can read it.
#[must_use]
pub fn is_spooled(file: &SourceFile) -> bool {
    file.path().starts_with("/proc/self/fd")
}

/// What errors call a file.
pub(crate) fn name_of(file: &SourceFile) -> String {
    if is_spooled(file) { "what came through the pipe".to_owned() } else { file.path().display().to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_through_a_pipe_is_read_again_and_has_no_name() {
        let directory = tempfile::tempdir().unwrap();
        let (no, path) = (directory.path().join("file/no"), directory.path().join("sub"));
        std::fs::write(directory.path().join("file"), "").unwrap();
        let spooled = spool(b"one ", &b"two"[..], &[&no, &path], &Cancel::default());
        let (file, taken) = spooled.unwrap();
        assert_eq!(taken, path);
        assert!(is_spooled(&file));
        assert_eq!(file.size(), 7);
        assert_eq!(std::fs::read(file.path()).unwrap(), b"one two");
        let mut bytes = [0; 3];
        file.read_at(&mut bytes, 4).unwrap();
        assert_eq!(&bytes, b"two");
        assert_eq!(std::fs::read_dir(path).unwrap().count(), 0);
    }
}
