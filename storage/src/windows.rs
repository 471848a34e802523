//! `Windows`: a large extent of a source file, window by window, each made ready while the one before it is hashed.
//!
//! The pool maps (or reads) one window ahead. Where the bytes are in memory already, that takes the cost of mapping off the
//! hashing thread; where they are not, the disk or the network works while the processor hashes.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use crate::error::{Error, FenceBreach, Result};
use crate::map::{self, READ_WINDOW, WINDOW, Window};
use crate::parallel::pool;
use crate::source::{FileState, IoMode, SourceFile};

/// The windows of an extent, in order.
#[derive(Debug)]
pub(crate) struct Windows {
    extent: Arc<Extent>,
    ahead: Ahead,
}

#[derive(Debug)]
enum Ahead {
    /// The pool has the next one ready, or is at it.
    Pool(Receiver<Made>),
    /// Made when it is asked for: the extent is no longer than a window, or there is no pool.
    Inline(Cursor),
}

/// A window with its offset in the file, `None` after the last one, and where the next one begins.
type Made = (Option<io::Result<(Window, u64)>>, Cursor);

/// An open file and the run of it that is wanted.
#[derive(Debug)]
struct Extent {
    file: File,
    /// With the fence that it had when it was opened.
    source: SourceFile,
    io: IoMode,
    end: u64,
}

/// Where in the extent the next window begins, and how it comes.
#[derive(Debug, Clone, Copy)]
struct Cursor {
    offset: u64,
    read: bool,
}

impl Windows {
    /// Opens the file, checks its fence, and begins at `offset`; `end` is where the extent ends in the file.
    pub(crate) fn open(source: &SourceFile, offset: u64, end: u64, io: IoMode) -> Result<Self> {
        let (file, source) = source.open()?;
        let cursor = Cursor { offset, read: map::prefers_read(&file, io) };
        let extent = Arc::new(Extent { file, source, io, end });
        let several = end - offset > extent.size(cursor) as u64;
        let ahead = if several { Ahead::of(&extent, cursor) } else { Ahead::Inline(cursor) };
        Ok(Self { extent, ahead })
    }

    /// The next window, with its offset in the file; `None` after the last.
    pub(crate) fn next(&mut self) -> Result<Option<(Window, u64)>> {
        match &mut self.ahead {
            Ahead::Pool(next) => match next.recv() {
                Ok((window, cursor)) => {
                    // It is made while the one at hand is hashed. So there are two at a time, and those whose bytes are
                    // still on their way to the connection.
                    if matches!(window, Some(Ok(_))) {
                        self.ahead = Ahead::of(&self.extent, cursor);
                    }
                    window.transpose()
                }
                Err(_) => Ok(None),
            },
            Ahead::Inline(cursor) => self.extent.next(cursor).transpose(),
        }
        .map_err(|error| self.extent.error(error))
    }

    /// Whether the file is still what it was when it was opened.
    pub(crate) fn check(&self) -> Result<FileState> {
        self.extent.source.check_open(&self.extent.file)
    }

    /// The error of a window at `offset` whose pages could not be had.
    pub(crate) fn fault(&self, offset: u64) -> Error {
        // Where its length or times are others, that is why.
        self.check().err().unwrap_or_else(|| Error::Read {
            path: self.extent.source.path(),
            offset,
            source: io::Error::other("the file system did not give a mapped page; try --io read"),
        })
    }
}

impl Ahead {
    /// Has the window at `cursor` made.
    fn of(extent: &Arc<Extent>, mut cursor: Cursor) -> Self {
        let Some(pool) = pool() else { return Self::Inline(cursor) };
        let (ready, next) = sync_channel(1);
        let extent = Arc::clone(extent);
        pool.spawn(move || {
            let window = extent.next(&mut cursor);
            // A reader that was dropped wants no more.
            let _ = ready.send((window, cursor));
        });
        Self::Pool(next)
    }
}

impl Extent {
    fn size(&self, cursor: Cursor) -> usize {
        let left = usize::try_from(self.end - cursor.offset).unwrap_or(usize::MAX);
        left.min(if cursor.read { READ_WINDOW } else { WINDOW })
    }

    fn next(&self, cursor: &mut Cursor) -> Option<io::Result<(Window, u64)>> {
        let len = self.size(*cursor);
        if len == 0 {
            return None;
        }
        let after = cursor.offset + len as u64;
        if after < self.end {
            map::prefetch(&self.file, after, self.size(Cursor { offset: after, ..*cursor }));
        }
        let window = match map::window(&self.file, cursor.offset, len, cursor.read) {
            Err(error) if !cursor.read && self.io == IoMode::Auto && cannot_map(&error) => {
                cursor.read = true;
                return self.next(cursor);
            }
            result => result.map(|window| (window, cursor.offset)),
        };
        cursor.offset = after;
        // An error is about this window: say where it began.
        Some(window.map_err(|error| io::Error::new(error.kind(), At { offset: after - len as u64, error })))
    }

    fn error(&self, error: io::Error) -> Error {
        let kind = error.kind();
        let (offset, source) = match error.downcast::<At>() {
            Ok(At { offset, error }) => (offset, error),
            Err(error) => (0, error),
        };
        read_error(&self.source, offset, kind, source)
    }
}

/// An error and the offset of the window it is about.
#[derive(Debug, thiserror::Error)]
#[error("at byte {offset}")]
struct At {
    offset: u64,
    #[source]
    error: io::Error,
}

fn cannot_map(error: &io::Error) -> bool {
    use nix::libc::{EACCES, EINVAL, ENODEV, ENOMEM, EPERM};
    error.raw_os_error().is_some_and(|code| [EACCES, EINVAL, ENODEV, ENOMEM, EPERM].contains(&code))
}

/// The error of reading `source` at `offset`: a file that ended too early has changed.
pub(crate) fn read_error(source: &SourceFile, offset: u64, kind: io::ErrorKind, error: io::Error) -> Error {
    match kind {
        io::ErrorKind::UnexpectedEof => source.changed(FenceBreach::Truncated { at: offset }),
        _ => Error::Read { path: source.path(), offset, source: error },
    }
}
