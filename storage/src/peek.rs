//! `Peek`: a few bytes of a file, for who wants to know what it is before its layer is read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use crate::entry::FileContent;
use crate::error::Result;
use crate::layer::{Segment, VirtualLayer};
use crate::progress::Counters;
use crate::source::SourceFile;
use crate::windows::read_error;

/// Reads single pieces of a file with `pread(2)`: just the bytes that are asked for, none ahead of them. A file is opened once.
#[derive(Debug)]
pub struct Peek {
    parts: VirtualLayer,
    open: Option<(SourceFile, File)>,
    counters: Arc<Counters>,
}

impl Peek {
    /// Nothing is opened yet. What is read is counted in `counters`.
    #[must_use]
    pub fn new(content: FileContent, counters: Arc<Counters>) -> Self {
        Self { parts: content.into_parts(), open: None, counters }
    }

    /// The length of the file in bytes.
    #[must_use]
    pub fn file_len(&self) -> u64 {
        self.parts.len()
    }

    /// The bytes from `offset` on: `most`, or fewer where the file ends. `None` where they come out of a stream, which would
    /// have to be decoded or fetched for them.
    ///
    /// # Errors
    /// [`Error::Changed`](crate::Error::Changed) where the file is not what the build looked at,
    /// [`Error::Open`](crate::Error::Open) and [`Error::Read`](crate::Error::Read).
    pub fn read(&mut self, offset: u64, most: usize) -> Result<Option<Vec<u8>>> {
        let len = self.file_len().saturating_sub(offset).min(most as u64);
        let mut bytes = vec![0; usize::try_from(len).unwrap_or(most)];
        let mut done = 0;
        while done < bytes.len() {
            let Some((index, within)) = self.parts.locate(offset + done as u64) else { break };
            let Some(segment) = self.parts.segment(index) else { break };
            let left = usize::try_from(segment.len() - within).unwrap_or(usize::MAX);
            let piece_len = left.min(bytes.len() - done);
            let piece = &mut bytes[done..done + piece_len];
            match segment {
                Segment::Inline(inline) => {
                    let from = usize::try_from(within).unwrap_or(usize::MAX);
                    piece.copy_from_slice(&inline[from..from + piece_len]);
                }
                Segment::Zeros(_) => {}
                Segment::Extent { file, offset, .. } => self.read_file(&file, piece, offset + within)?,
                Segment::Packed { .. } => return Ok(None),
            }
            done += piece_len;
        }
        Ok(Some(bytes))
    }

    fn read_file(&mut self, source: &SourceFile, piece: &mut [u8], offset: u64) -> Result<()> {
        if self.open.as_ref().is_none_or(|(open, _)| open.id().0 != source.id().0) {
            let (file, _) = source.open()?;
            // The kernel would read far beyond a header. It does no harm where it does not take the advice.
            let _ = posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_RANDOM);
            self.open = Some((source.clone(), file));
        }
        let Some((source, file)) = &self.open else { return Ok(()) };
        let read = file.read_exact_at(piece, offset);
        // A change of the change time alone is no matter here: no digest comes of what is read.
        let _ = source.check_open(file)?;
        read.map_err(|error| read_error(source, offset, error.kind(), error))?;
        self.counters.add_read(piece.len() as u64);
        Ok(())
    }
}
