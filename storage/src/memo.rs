//! Remembered layer digests: a layer whose files all have the fences they had need not be hashed again.
//!
//! A memo is one small JSON file under the root directory, named by a hash over the layer's segments: inline bytes
//! as they are, extents by inode, length, modification and change time of their file. The path and the device are
//! not part of it, so that memos survive another mount of the same volume. Any change to any file gives another name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::Layer;
use crate::layer::{Segment, VirtualLayer};
use crate::whole::write_whole;

/// A file that was written less than this before it was read is not remembered: a further write in the same tick of
/// the file system's clock would leave its times as they are. Network file systems have coarse clocks that are not
/// ours.
const RACY: Duration = Duration::from_secs(2);

/// The memos below one root directory. Several processes may use it at once: memos are written whole or not at all.
#[derive(Debug, Clone)]
pub struct MemoStore {
    directory: PathBuf,
    writes: bool,
}

#[derive(Debug, Serialize, Deserialize)]
struct Memo {
    version: u32,
    layer: Layer,
}

/// Goes up when the bytes that a layer's segments stand for, or the compressors, change.
const VERSION: u32 = 1;

impl MemoStore {
    /// The memos below `root`; nothing is created before the first one is written.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { directory: root.join("memo"), writes: true }
    }

    /// What is remembered, and nothing more: not even that it was needed.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writes: false, ..self }
    }

    /// The digested layer, where this very layer was digested before. A memo that cannot be read is none.
    #[must_use]
    pub fn recall(&self, layer: &VirtualLayer, compression: Compression) -> Option<Layer> {
        let path = self.path(layer, compression);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "a layer memo cannot be read");
                }
                return None;
            }
        };
        match serde_json::from_slice::<Memo>(&bytes) {
            Ok(memo) if memo.version == VERSION => {
                let plausible =
                    compression != Compression::None || memo.layer.descriptor.size() == layer.len();
                if plausible && self.writes {
                    used(&path);
                }
                plausible.then_some(memo.layer)
            }
            Ok(_) => None,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a damaged layer memo is not used");
                None
            }
        }
    }

    /// Remembers what `layer`, whose reading began at `since`, was digested to.
    ///
    /// Not remembered, and `false`, where a file of it was written so shortly before `since` that a later write may
    /// not show in its times.
    ///
    /// # Errors
    /// [`Error::Write`] where the memo cannot be written: the build is right all the same.
    pub fn remember(
        &self,
        layer: &VirtualLayer,
        compression: Compression,
        digested: &Layer,
        since: SystemTime,
    ) -> Result<bool> {
        if !self.writes || !is_settled(layer, since) {
            return Ok(false);
        }
        let path = self.path(layer, compression);
        let memo = Memo { version: VERSION, layer: digested.clone() };
        write_whole(&path, &crate::canonical_json(&memo))
            .map_err(|source| Error::Write { path, source })
            .map(|()| true)
    }

    /// Forgets a layer whose memo was found wrong.
    pub fn forget(&self, layer: &VirtualLayer, compression: Compression) {
        // A memo that is gone already is as good.
        let _ = fs::remove_file(self.path(layer, compression));
    }

    fn path(&self, layer: &VirtualLayer, compression: Compression) -> PathBuf {
        let name = layer_identity(layer, compression);
        self.directory.join(&name[..2]).join(format!("{}.json", &name[2..]))
    }
}

/// Whether all files of the layer were last written so long before `since` that a write after it shows in their times.
#[must_use]
pub fn is_settled(layer: &VirtualLayer, since: SystemTime) -> bool {
    let settled = since.checked_sub(RACY).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let settled = settled.map_or(0, |t| i128::try_from(t.as_nanos()).unwrap_or(i128::MAX));
    layer.files().all(|file| file.fence().mtime_ns.max(file.fence().ctime_ns) <= settled)
}

/// A name that no other layer has, in 64 hexadecimal digits, made of the layer's segments and not of its bytes: any
/// change to any of its files gives another.
#[must_use]
pub fn layer_identity(layer: &VirtualLayer, compression: Compression) -> String {
    let mut hasher = Hasher::new();
    hasher.update(format!("crossdock layer {compression:?}\n").as_bytes());
    for segment in layer.segments() {
        match segment {
            Segment::Inline(bytes) => {
                hasher.update(b"i");
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
            Segment::Zeros(len) => {
                hasher.update(b"z");
                hasher.update(&len.to_le_bytes());
            }
            Segment::Extent { file, offset, len } => {
                let fence = file.fence();
                hasher.update(b"e");
                for number in [*offset, *len, fence.inode, fence.size] {
                    hasher.update(&number.to_le_bytes());
                }
                for time in [fence.mtime_ns, fence.ctime_ns] {
                    hasher.update(&time.to_le_bytes());
                }
            }
            Segment::Packed { packed, offset, len, digest } => {
                hasher.update(b"p");
                for number in [*offset, *len] {
                    hasher.update(&number.to_le_bytes());
                }
                if let Some(file) = packed.file() {
                    let fence = file.fence();
                    hasher.update(&fence.inode.to_le_bytes());
                    hasher.update(&fence.size.to_le_bytes());
                    for time in [fence.mtime_ns, fence.ctime_ns] {
                        hasher.update(&time.to_le_bytes());
                    }
                }
                // Without a file there is a digest, which says all.
                hasher.update(digest.as_ref().map_or("", Digest::digest).as_bytes());
            }
        }
    }
    hasher.finish().digest().to_owned()
}

/// Notes in a file's time, once a day, that somebody needed it: `prune` removes what nobody did.
pub(crate) fn used(path: &Path) {
    const DAY: Duration = Duration::from_secs(24 * 3600);
    let now = SystemTime::now();
    let note = || -> io::Result<()> {
        let file = fs::File::options().append(true).open(path)?;
        let noted = file.metadata()?.modified()?;
        if now.duration_since(noted).is_ok_and(|passed| passed > DAY) {
            file.set_modified(now)
        } else {
            Ok(())
        }
    };
    // A file that cannot be written to may be pruned too early, and is made again.
    let _ = note();
}
