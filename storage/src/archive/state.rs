//! An archive while it grows: in a file, whose headers are filled in behind the bytes, or in a stream, where each header
//! comes first.

use std::collections::{BTreeSet, HashMap};
use std::io::{self, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use bytes::Bytes;
use tar::{EntryType, Header};
use tempfile::NamedTempFile;

use super::layer_name;
use crate::digest::{DiffId, Digest};
use crate::hash::Hasher;
use crate::layout::readable;
use crate::whole::{Flow, Place, directory_of, without_path};

const BLOCK: u64 = 512;

/// The archive while it grows.
#[derive(Debug)]
pub(super) struct State {
    out: Out,
    end: u64,
    have: BTreeSet<String>,
    /// Names of layers that are not called as their diff ID, by it.
    layers: HashMap<DiffId, String>,
    /// Docker: the config's name and bytes, for the manifest at the end.
    pub(super) config: Option<(String, Bytes)>,
}

#[derive(Debug)]
enum Out {
    /// A file beside the one whose place it takes at the end.
    Beside { file: NamedTempFile, target: PathBuf },
    /// What is written into.
    Into(Flow),
}

impl State {
    /// Begins an archive. Where it is written into a FIFO, this waits for a reader; `go_on` is asked meanwhile.
    pub(super) fn open(place: &Place, go_on: impl Fn() -> io::Result<()>) -> io::Result<Self> {
        let out = match place {
            Place::Whole(target) => {
                let file = tempfile::Builder::new()
                    .prefix(".crossdock-")
                    .tempfile_in(directory_of(target))
                    .map_err(without_path)?;
                Out::Beside { file, target: target.clone() }
            }
            Place::Into(path) => {
                let flow = Flow::open(path, go_on)?;
                if flow.is_terminal() {
                    let text = "an archive is not written to a terminal: redirect it, or name a file";
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Out::Into(flow)
            }
        };
        let (have, layers) = (BTreeSet::new(), HashMap::new());
        Ok(Self { out, end: 0, have, layers, config: None })
    }

    /// Whether nothing can be filled in later.
    pub(super) const fn flows(&self) -> bool {
        matches!(self.out, Out::Into(_))
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.have.contains(name)
    }

    /// The name of a layer that no other has, where its diff ID is not known yet.
    pub(super) fn next_name(&self) -> String {
        format!("layer-{}.tar", self.have.len())
    }

    /// Under which name the layer with this diff ID is there.
    pub(super) fn layer_name(&self, diff_id: &DiffId) -> String {
        self.layers.get(diff_id).cloned().unwrap_or_else(|| layer_name(diff_id))
    }

    pub(super) fn name_layer(&mut self, diff_id: DiffId, name: String) {
        self.layers.insert(diff_id, name);
    }

    pub(super) fn append(
        &mut self,
        name: &str,
        bytes: &[u8],
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        if self.flows() {
            self.announce(name, bytes.len() as u64, &go_on)?;
            self.write(bytes, &go_on)?;
            return self.pad(&go_on);
        }
        let start = self.begin()?;
        self.write(bytes, &go_on)?;
        self.complete(start, name, bytes.len() as u64)
    }

    /// Writes the next bytes.
    pub(super) fn write(&mut self, bytes: &[u8], go_on: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match &mut self.out {
            Out::Beside { file, .. } => file.write_all(bytes),
            Out::Into(flow) => {
                self.end += bytes.len() as u64;
                flow.write_all(bytes, go_on)
            }
        }
    }

    /// Writes the header of the `len` bytes that follow, into a stream.
    pub(super) fn announce(
        &mut self,
        name: &str,
        len: u64,
        go_on: impl Fn() -> io::Result<()>,
    ) -> io::Result<()> {
        self.have.insert(name.to_owned());
        self.write(header(name, len)?.as_bytes(), go_on)
    }

    /// Ends the entry that was announced.
    pub(super) fn pad(&mut self, go_on: impl Fn() -> io::Result<()>) -> io::Result<()> {
        let padding = self.end.next_multiple_of(BLOCK) - self.end;
        self.write(&vec![0; usize::try_from(padding).unwrap_or_default()], go_on)
    }

    /// Leaves room for a header in a file; the blob's bytes follow.
    pub(super) fn begin(&mut self) -> io::Result<u64> {
        if let Out::Beside { file, .. } = &mut self.out {
            file.as_file_mut().seek(SeekFrom::Start(self.end + BLOCK))?;
        }
        Ok(self.end)
    }

    /// Fills in the header of the `len` bytes that followed, and pads them.
    pub(super) fn complete(&mut self, start: u64, name: &str, len: u64) -> io::Result<()> {
        self.end = start + BLOCK + len.next_multiple_of(BLOCK);
        if let Out::Beside { file, .. } = &self.out {
            file.as_file().write_all_at(header(name, len)?.as_bytes(), start)?;
            file.as_file().set_len(self.end)?;
        }
        self.have.insert(name.to_owned());
        Ok(())
    }

    /// Forgets what was written to a file since `start`.
    pub(super) fn drop_back(&mut self, start: u64) -> io::Result<()> {
        self.end = start;
        match &self.out {
            Out::Beside { file, .. } => file.as_file().set_len(start),
            Out::Into(_) => Ok(()),
        }
    }

    /// Ends the archive with two blocks of zeros, and lets a file take its place.
    pub(super) fn finish(self, go_on: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match self.out {
            Out::Beside { mut file, target } => {
                file.as_file_mut().set_len(self.end + 2 * BLOCK)?;
                readable(file.as_file())?;
                file.persist(target).map_err(|error| error.error)?;
                Ok(())
            }
            Out::Into(mut flow) => flow.write_all(&[0; 1024], go_on),
        }
    }
}

fn header(name: &str, len: u64) -> io::Result<Header> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(len);
    header.set_cksum();
    Ok(header)
}

/// Hashes and counts what goes on to `write`.
pub(super) struct Hashed<W> {
    write: W,
    hasher: Hasher,
    len: u64,
}

impl<W: FnMut(&[u8]) -> io::Result<()>> Hashed<W> {
    pub(super) fn new(write: W) -> Self {
        Self { write, hasher: Hasher::new(), len: 0 }
    }

    pub(super) fn finish(self) -> (u64, Digest) {
        (self.len, self.hasher.finish())
    }
}

impl<W: FnMut(&[u8]) -> io::Result<()>> Write for Hashed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (self.write)(bytes)?;
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
