//! Indexes that are remembered, by the layer's diff ID.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::LayerIndex;
use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::memo::used;
use crate::whole::write_whole_by;

/// Goes up when the index of a layer has something that it had not before.
const VERSION: u32 = 5;
/// An index as it is written down.
#[derive(Serialize, Deserialize)]
struct Stored<T> {
    /// Indexes of the first version had none.
    #[serde(default)]
    version: u32,
    entries: T,
}

/// Remembered indexes, below one root directory.
#[derive(Debug, Clone)]
pub struct IndexStore {
    directory: PathBuf,
    writes: bool,
}

impl IndexStore {
    /// The indexes below `root`; nothing is created before the first one is written.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { directory: root.join("index"), writes: true }
    }

    /// What is remembered, and nothing more.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writes: false, ..self }
    }

    /// The index of a layer, where it is remembered. One that cannot be read is none.
    #[must_use]
    pub fn recall(&self, diff_id: &DiffId) -> Option<LayerIndex> {
        let path = self.path(diff_id);
        let file = fs::File::open(&path).ok()?;
        if self.writes {
            used(&path);
        }
        zstd::Decoder::new(file)
            .map_err(serde_json::Error::io)
            .and_then(|text| serde_json::from_reader(io::BufReader::new(text)))
            .inspect_err(
                |error| tracing::warn!(path = %path.display(), %error, "a damaged layer index is not used"),
            )
            .ok()
            .filter(|stored: &Stored<_>| stored.version == VERSION)
            .map(|stored| LayerIndex { entries: stored.entries })
    }

    /// Remembers the index of a layer.
    ///
    /// # Errors
    /// [`Error::Write`].
    pub fn remember(&self, diff_id: &DiffId, index: &LayerIndex) -> Result<()> {
        if !self.writes {
            return Ok(());
        }
        let path = self.path(diff_id);
        // A tenth of the text: a base of a hundred thousand files has some ten megabytes of it.
        write_whole_by(&path, |file| {
            let encoder = zstd::Encoder::new(file, zstd::DEFAULT_COMPRESSION_LEVEL)?;
            let mut bytes = io::BufWriter::new(encoder);
            serde_json::to_writer(&mut bytes, &Stored { version: VERSION, entries: &index.entries })?;
            bytes.into_inner()?.finish().map(drop)
        })
        .map_err(|source| Error::Write { path, source })
    }

    fn path(&self, diff_id: &DiffId) -> PathBuf {
        self.directory.join(format!("{}.json.zst", diff_id.as_digest().digest()))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::entry::LayerPath;
    use crate::hash::Hasher;
    use crate::index::{IndexEntry, IndexKind};
    use crate::xattrs::Xattrs;

    fn entry(path: &[u8], kind: IndexKind) -> IndexEntry {
        IndexEntry {
            path: LayerPath::clean(path).unwrap(),
            kind,
            mode: 0o644,
            uid: 1,
            gid: 2,
            mtime: 3,
            offset: None,
            pieces: None,
            digest: None,
            xattrs: Xattrs::default(),
            content: None,
        }
    }

    #[test]
    fn an_index_is_remembered_whatever_bytes_its_names_have() {
        let root = tempfile::tempdir().unwrap();
        let store = IndexStore::new(root.path());
        let diff_id = DiffId::of_tar(Hasher::digest(b"x"));
        assert_eq!(store.recall(&diff_id), None);
        let index = LayerIndex {
            entries: vec![
                entry("etc/ö".as_bytes(), IndexKind::File(1 << 40)),
                entry(b"etc/\xff\xfe", IndexKind::Symlink(Box::new(Bytes::from_static(b"/\x80")))),
                entry(b"a", IndexKind::HardLink(LayerPath::clean("etc/\u{f6}").unwrap())),
            ],
        };
        store.remember(&diff_id, &index).unwrap();
        assert_eq!(store.recall(&diff_id), Some(index));
    }

    #[test]
    fn a_user_database_is_remembered_whatever_it_begins_with() {
        let root = tempfile::tempdir().unwrap();
        let store = IndexStore::new(root.path());
        for content in [&b"\0root"[..], b"\0\0", "\0\u{fffd}".as_bytes(), b"\xff"] {
            let diff_id = DiffId::of_tar(Hasher::digest(content));
            let content = Some(Box::new(Bytes::copy_from_slice(content)));
            let entry = IndexEntry { content, ..entry(b"etc/passwd", IndexKind::File(5)) };
            let index = LayerIndex { entries: vec![entry] };
            store.remember(&diff_id, &index).unwrap();
            assert_eq!(store.recall(&diff_id), Some(index));
        }
    }
}
