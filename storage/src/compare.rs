//! The files in a layer held against files of this machine: as the layer's bytes come by, or in ranges of it.
//!
//! Contents are compared, sizes, kinds and the targets of links; modes, owners and times are not. A file that an upper
//! layer replaces is compared too: which entries count shows only when all layers are known.

use std::cell::RefCell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tar::EntryType;

use crate::decode;
use crate::entries::{LayerArchive, damaged};
use crate::error::{Error, Result};
use crate::index::{IndexEntry, IndexKind};
use crate::local::{LocalFile, LocalKind, LocalTree};
use crate::parallel::blocking;

/// Bytes that are compared at a time.
const BUFFER: usize = 128 << 10;

/// An entry of a layer, and what came of holding it against this machine's.
#[derive(Debug, Clone)]
pub struct ComparedEntry {
    /// The entry.
    pub entry: IndexEntry,
    /// `None` where nothing here has its path, and for hard links, which have no content of their own.
    pub outcome: Option<Compared>,
}

/// How an entry and what is here are to each other.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Compared {
    /// The same, as far as these bytes go.
    Same {
        /// How many bytes of the content were compared.
        bytes: u64,
    },
    /// Something else.
    Differs(Difference),
}

/// What differs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The file here.
    pub file: PathBuf,
    /// The first byte of the file that is another, as far as was looked.
    pub offset: Option<u64>,
    /// In words.
    pub problem: String,
}

/// Holds all files of a layer against `tree`, every byte, as the stored layer, of `stored` bytes, comes by in
/// `chunks`. The first result is
/// that of the stream, which is read to its end whatever the archive in it is.
pub async fn compare_whole(
    mut chunks: impl Stream<Item = Result<Bytes>> + Unpin,
    stored: u64,
    tree: Arc<LocalTree>,
    what: String,
) -> (Result<()>, Result<Vec<ComparedEntry>>) {
    let (sender, receiver) = decode::channel();
    let reading = blocking(move || {
        let mut archive = LayerArchive::new(decode::decoder(receiver, stored, &what)?, &what);
        let mut compared = Vec::new();
        archive.walk(|entry, content| {
            let in_pieces = entry.pieces.is_some() && content.header().entry_type() != EntryType::GNUSparse;
            let outcome =
                hold(&entry, &tree, in_pieces, |local, size| same_bytes(content, local, 0..size, &what))?;
            compared.push(ComparedEntry { entry, outcome });
            Ok(())
        })?;
        // Who sends waits for all to be taken.
        archive.finish()?;
        Ok(compared)
    });
    let streaming = async move {
        let mut listening = true;
        let mut streamed = Ok(());
        while let Some(chunk) = chunks.next().await {
            match chunk {
                Ok(chunk) if listening => listening = sender.send(Ok(chunk)).await.is_ok(),
                Ok(_) => {}
                Err(error) => streamed = Err(error),
            }
        }
        streamed
    };
    tokio::join!(streaming, reading)
}

/// Holds the files of a layer that is stored as it is against `tree`: of each, the ranges that `choose` gives for its
/// size, in bytes of the file. Only the archive's headers are read besides.
///
/// # Errors
/// [`Error::Unusable`] where the layer is no archive that can be read, and [`Error::Open`] and [`Error::Read`].
pub fn compare_ranges(
    layer: impl Read + Seek,
    tree: &LocalTree,
    mut choose: impl FnMut(u64) -> Vec<Range<u64>>,
    what: &str,
) -> Result<Vec<ComparedEntry>> {
    let layer = Shared(RefCell::new(layer));
    let mut archive = LayerArchive::new(&layer, what);
    let mut compared = Vec::new();
    archive.walk_seeking(|entry, content| {
        let start = content.raw_file_position();
        let is_sparse = content.header().entry_type() == EntryType::GNUSparse;
        let in_pieces = entry.pieces.is_some() && !is_sparse;
        let outcome = hold(&entry, tree, in_pieces, |local, size| {
            if is_sparse {
                // Its bytes lie in pieces.
                return same_bytes(content, local, 0..size, what);
            }
            let mut bytes = 0;
            for range in choose(size) {
                let mut part = Part { layer: &layer, at: start + range.start };
                match same_bytes(&mut part, local, range, what)? {
                    Compared::Same { bytes: more } => bytes += more,
                    differs => return Ok(differs),
                }
            }
            Ok(Compared::Same { bytes })
        })?;
        compared.push(ComparedEntry { entry, outcome });
        Ok(())
    })?;
    Ok(compared)
}

/// Holds an entry against what is here; `content` compares the contents of two files of one size. A file that is stored
/// `in_pieces`, sparse in PAX form, is not compared, and so is no match.
fn hold(
    entry: &IndexEntry,
    tree: &LocalTree,
    in_pieces: bool,
    content: impl FnOnce(&Path, u64) -> Result<Compared>,
) -> Result<Option<Compared>> {
    let Some(LocalFile { path, kind }) = tree.at(&entry.path) else { return Ok(None) };
    let differs = |problem: String| {
        Ok(Some(Compared::Differs(Difference { file: path.clone(), offset: None, problem })))
    };
    let image = &entry.path;
    match (&entry.kind, kind) {
        (IndexKind::HardLink(_) | IndexKind::Whiteout | IndexKind::Opaque, _) => Ok(None),
        (IndexKind::File(size), LocalKind::File(here) | LocalKind::Symlink(_, Some(here))) => {
            if size != here {
                return differs(format!("{image} has {size} bytes in the image, and {here} here"));
            }
            if in_pieces {
                return differs(format!(
                    "{image} is a sparse file in PAX form in the image, which cannot be compared"
                ));
            }
            Ok(Some(match content(path, *size)? {
                Compared::Differs(Difference { file, offset, .. }) => {
                    let problem = format!("{image} in the image has other bytes than the file here");
                    Compared::Differs(Difference { file, offset, problem })
                }
                same => same,
            }))
        }
        (IndexKind::Symlink(target), LocalKind::Symlink(here, _)) if **target != *here => differs(format!(
            "{image} leads to {} in the image, and to {} here",
            String::from_utf8_lossy(target),
            String::from_utf8_lossy(here)
        )),
        (IndexKind::Symlink(_), LocalKind::Symlink(..)) | (IndexKind::Directory, LocalKind::Directory) => {
            Ok(Some(Compared::Same { bytes: 0 }))
        }
        (IndexKind::Special(there), LocalKind::Special(here)) if there == here => {
            Ok(Some(Compared::Same { bytes: 0 }))
        }
        (there, here) => {
            let there = match there {
                IndexKind::Symlink(_) => "a symbolic link".to_owned(),
                IndexKind::Directory => "a directory".to_owned(),
                IndexKind::Special(special) => special.to_string(),
                _ => "a file".to_owned(),
            };
            let here = match here {
                LocalKind::File(_) => "a file".to_owned(),
                LocalKind::Symlink(..) => "a symbolic link".to_owned(),
                LocalKind::Directory => "a directory".to_owned(),
                LocalKind::Special(special) => special.to_string(),
                LocalKind::Socket => "a socket".to_owned(),
            };
            differs(format!("{image} is {there} in the image, and {here} here"))
        }
    }
}

impl LocalFile {
    /// Holds the contents of two files here against each other: those of a hard link in the image, and of its target.
    ///
    /// # Errors
    /// [`Error::Open`] and [`Error::Read`].
    pub fn same_as(&self, other: &Self) -> Result<bool> {
        // Others are not opened: a FIFO would wait.
        let is_file = |file: &Self| matches!(file.kind, LocalKind::File(_) | LocalKind::Symlink(_, Some(_)));
        if !is_file(self) || !is_file(other) {
            return Ok(false);
        }
        let open = |file: &Self| {
            File::open(&file.path).map_err(|source| Error::Open { path: file.path.clone(), source })
        };
        let size = |file: &File| file.metadata().map_or(0, |meta| meta.len());
        let mut there = open(other)?;
        if size(&open(self)?) != size(&there) {
            return Ok(false);
        }
        let len = size(&there);
        let what = other.path.display().to_string();
        Ok(matches!(same_bytes(&mut there, &self.path, 0..len, &what)?, Compared::Same { .. }))
    }
}

/// Compares `range` of the file at `path` with what `there` gives; a file that ends early differs where it ends.
fn same_bytes(there: &mut impl Read, path: &Path, range: Range<u64>, what: &str) -> Result<Compared> {
    let read = |offset, source| Error::Read { path: path.to_path_buf(), offset, source };
    let mut here = File::open(path).map_err(|source| Error::Open { path: path.to_path_buf(), source })?;
    here.seek(SeekFrom::Start(range.start)).map_err(|source| read(range.start, source))?;
    let at_most = |bytes: u64| usize::try_from(bytes).unwrap_or(BUFFER).min(BUFFER);
    let mut left = vec![0; at_most(range.end - range.start)];
    let mut right = left.clone();
    let mut at = range.start;
    while at < range.end {
        let len = at_most(range.end - at);
        there.read_exact(&mut left[..len]).map_err(|error| damaged(what, error))?;
        let got = fill(&mut here, &mut right[..len]).map_err(|source| read(at, source))?;
        if left[..len] != right[..got] {
            let same = left.iter().zip(&right[..got]).take_while(|(a, b)| a == b).count();
            let offset = Some(at + same as u64);
            return Ok(Compared::Differs(Difference {
                file: path.to_path_buf(),
                offset,
                problem: String::new(),
            }));
        }
        at += len as u64;
    }
    Ok(Compared::Same { bytes: range.end - range.start })
}

/// Reads until the buffer is full or the file ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match from.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(len) => filled += len,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

/// A layer that the walk along the headers and the look into a file take turns with.
struct Shared<R>(RefCell<R>);

impl<R: Read> Read for &Shared<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.borrow_mut().read(buffer)
    }
}

impl<R: Seek> Seek for &Shared<R> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.borrow_mut().seek(to)
    }
}

/// A part of the layer; the walk's own place stays as it is.
struct Part<'a, R> {
    layer: &'a Shared<R>,
    at: u64,
}

impl<R: Read + Seek> Read for Part<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut layer = self.layer.0.borrow_mut();
        let before = layer.stream_position()?;
        layer.seek(SeekFrom::Start(self.at))?;
        let read = layer.read(buffer);
        layer.seek(SeekFrom::Start(before))?;
        let len = read?;
        self.at += len as u64;
        Ok(len)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use tar::{Builder, Header};

    use super::*;
    use crate::entry::LayerPath;
    use crate::entry::{Entry, EntryKind, Special};
    use crate::local::Against;

    #[test]
    fn a_sparse_file_in_pax_form_has_its_own_name_and_is_not_taken_for_the_same() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["plain", "sparse"] {
            std::fs::write(directory.path().join(name), b"0123456789").unwrap();
        }
        let mut builder = Builder::new(Vec::new());
        let mut put = |path: &str, data: &[u8], records: &[(&str, &[u8])]| {
            builder.append_pax_extensions(records.iter().copied()).unwrap();
            let mut header = Header::new_ustar();
            header.set_size(data.len() as u64);
            header.set_cksum();
            builder.append_data(&mut header, path, data).unwrap();
        };
        let sparse: [(&str, &[u8]); 4] = [
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"models/sparse"),
            ("GNU.sparse.realsize", b"10"),
        ];
        let mut pieces = b"1\n0\n5\n".to_vec();
        pieces.resize(512, 0);
        pieces.extend_from_slice(b"01234");
        put("models/GNUSparseFile.0/sparse", &pieces, &sparse);
        put("models/plain", b"0123456789", &[]);
        let archive = builder.into_inner().unwrap();

        let place =
            Against { local: directory.path().to_path_buf(), image: LayerPath::clean("models").unwrap() };
        let tree = LocalTree::read(&[place]).unwrap();
        let whole = |size| std::iter::once(0..size).collect();
        let compared = compare_ranges(Cursor::new(archive), &tree, whole, "it").unwrap();
        let [sparse, plain] = compared.as_slice() else { panic!("{compared:?}") };
        assert_eq!(
            (sparse.entry.path.to_string().as_str(), &sparse.entry.kind),
            ("/models/sparse", &IndexKind::File(10))
        );
        assert!(
            matches!(&sparse.outcome, Some(Compared::Differs(d)) if d.problem.contains("cannot be compared")),
            "{sparse:?}"
        );
        assert_eq!(plain.outcome, Some(Compared::Same { bytes: 10 }));
    }

    #[test]
    fn fifos_are_held_against_what_is_here_and_not_opened() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["pipe", "null"] {
            nix::unistd::mkfifo(&directory.path().join(name), nix::sys::stat::Mode::S_IRUSR).unwrap();
        }
        std::os::unix::net::UnixListener::bind(directory.path().join("socket")).unwrap();
        let entry = |name: &str, special| Entry {
            path: LayerPath::clean(name).unwrap(),
            kind: EntryKind::Special(special),
            mode: 0o600,
            uid: 0,
            gid: 0,
            mtime: 0,
            xattrs: crate::Xattrs::default(),
        };
        let entries = vec![
            entry("null", Special::Character(1, 3)),
            entry("pipe", Special::Fifo),
            entry("socket", Special::Block(7, 0)),
        ];
        let layer = crate::encode_entries(entries, 0).unwrap();
        let mut archive = Vec::new();
        for chunk in layer.bytes_from(0, &crate::ReadOptions::default()) {
            archive.extend_from_slice(&chunk.unwrap());
        }
        let place = Against { local: directory.path().to_path_buf(), image: LayerPath::root() };
        let tree = LocalTree::read(&[place]).unwrap();
        let compared = compare_ranges(Cursor::new(archive), &tree, |_| Vec::new(), "it").unwrap();
        let said = compared.iter().map(|compared| match &compared.outcome {
            Some(Compared::Differs(difference)) => difference.problem.as_str(),
            Some(Compared::Same { bytes: 0 }) => "same",
            _ => "not compared",
        });
        assert_eq!(
            said.collect::<Vec<_>>(),
            [
                "/null is the character device 1:3 in the image, and a FIFO here",
                "same",
                "/socket is the block device 7:0 in the image, and a socket here"
            ]
        );
    }
}
