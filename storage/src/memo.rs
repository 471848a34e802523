//! Remembered layer digests: a layer whose files all have the fences they had need not be hashed again.
//!
//! A memo is one small JSON file under the root directory, named by a hash over the layer's segments: inline bytes
//! as they are, extents by inode, length and modification time of their file. The path and the device are not part of
//! it, so that memos survive another mount of the same volume; nor is the change time, which chown, chmod and ln move. The
//! change times are in the memo: where they are others now, the memo says what the digest most likely is, and no more.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::encode::Compression;
use crate::error::{Error, Result};
use crate::hash::Hasher;
use crate::image::Layer;
use crate::json::from_json;
use crate::layer::{Segment, VirtualLayer};
use crate::source::{Fence, FileState, SourceFile};
use crate::whole::write_whole;

/// A file that was written less than this before it was read is not remembered: a further write in the same tick of
/// the file system's clock would leave its times as they are. Network file systems have coarse clocks that are not
/// ours.
const RACY: Duration = Duration::from_secs(2);

/// The memos below one root directory. Several processes may use it at once: memos are written whole or not at all.
#[derive(Debug, Clone)]
pub struct MemoStore {
    /// `None` where nothing is kept on disk.
    directory: Option<PathBuf>,
    writes: bool,
    trusts_mtime: bool,
    /// Memos that came from elsewhere, in part files.
    brought: Arc<Memos>,
    /// Every memo that was made or used, where somebody wants to pass them on.
    collected: Option<Arc<Mutex<Memos>>>,
}

/// Memos by the [`layer_identity`] of their layer, as part files carry them.
pub type Memos = BTreeMap<String, Memo>;

/// What is kept of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memo {
    version: u32,
    pub(crate) layer: Layer,
    /// The [`change_times`] of its files.
    change_times: Option<String>,
}

/// What is remembered of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recalled {
    /// What it was digested to.
    pub layer: Layer,
    /// Whether its files' change times are still the same. Where one is not, the file may have been written to and its
    /// modification time set back.
    pub state: FileState,
}

/// Goes up when the bytes that a layer's segments stand for change. Those of compressors are told apart by [`Compression::form`].
const VERSION: u32 = 2;

/// As [`VERSION`], where the compressors alone count.
pub(crate) const ENCODING: u32 = VERSION;

impl MemoStore {
    /// The memos below `root`; nothing is created before the first one is written.
    #[must_use]
    pub fn new(root: &Path) -> Self {
        Self { directory: Some(root.join("memo")), ..Self::nowhere() }
    }

    /// Memos that are gone with this process.
    #[must_use]
    pub fn nowhere() -> Self {
        Self { directory: None, writes: true, trusts_mtime: false, brought: Arc::default(), collected: None }
    }

    /// Memos that another build made and that count here by the same rules.
    #[must_use]
    pub fn bringing(self, memos: Memos) -> Self {
        Self { brought: Arc::new(memos), ..self }
    }

    /// Keeps a copy of every memo that is made or used, for [`collected`](Self::collected).
    #[must_use]
    pub fn collecting(self) -> Self {
        Self { collected: Some(Arc::default()), ..self }
    }

    /// The memos of all layers that were remembered or recalled since [`collecting`](Self::collecting).
    #[must_use]
    pub fn collected(&self) -> Memos {
        let collected = self.collected.as_ref();
        collected
            .map(|memos| memos.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .unwrap_or_default()
    }

    fn collect(&self, change: impl FnOnce(&mut Memos)) {
        if let Some(memos) = &self.collected {
            change(&mut memos.lock().unwrap_or_else(PoisonError::into_inner));
        }
    }

    /// What is remembered, and nothing more: not even that it was needed.
    #[must_use]
    pub fn read_only(self) -> Self {
        Self { writes: false, ..self }
    }

    /// What is remembered counts for files whose inode, size and modification time are the same, whatever their change
    /// times are.
    #[must_use]
    pub fn trusting_mtime(self, trusts: bool) -> Self {
        Self { trusts_mtime: trusts, ..self }
    }

    /// Whether it does.
    #[must_use]
    pub const fn trusts_mtime(&self) -> bool {
        self.trusts_mtime
    }

    /// The digested layer, where this very layer was digested before. A memo that cannot be read is none.
    #[must_use]
    pub fn recall(&self, layer: &VirtualLayer, compression: Compression) -> Option<Recalled> {
        let name = layer_identity(layer, compression);
        let usable = |memo: &Memo| {
            memo.version == VERSION
                && memo.layer.is_stored_as(compression)
                && (compression != Compression::None || memo.layer.descriptor.size() == layer.len())
        };
        let now = hash_of_change_times(layer);
        let is_same = |memo: &Memo| memo.change_times.as_ref() == Some(&now);
        let kept = self.read(&name).filter(usable);
        let brought = self.brought.get(&name).filter(|memo| usable(memo)).cloned();
        // The one whose files were not even touched since says more.
        let memo = match (kept, brought) {
            (Some(kept), Some(brought)) if !is_same(&kept) && is_same(&brought) => brought,
            (Some(kept), _) => {
                if self.writes
                    && let Some(path) = self.path(&name)
                {
                    used(&path);
                }
                kept
            }
            (None, Some(brought)) => brought,
            (None, None) => return None,
        };
        let state = if is_same(&memo) { FileState::Same } else { FileState::Touched };
        self.collect(|memos| drop(memos.insert(name, memo.clone())));
        Some(Recalled { layer: memo.layer, state })
    }

    /// The memo of this name in the root directory.
    fn read(&self, name: &str) -> Option<Memo> {
        let path = self.path(name)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::warn!(path = %path.display(), %error, "a layer memo cannot be read");
                }
                return None;
            }
        };
        match from_json::<Memo>(&bytes) {
            Ok(memo) => Some(memo),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a damaged layer memo is not used");
                None
            }
        }
    }

    /// Remembers what `layer`, whose reading began at `since`, was digested to.
    ///
    /// Not remembered, and `false`, where a file of it was written so shortly before `since` that a later write may
    /// not show in its times, and where the layer was stored in another form than `compression` says.
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
        let name = layer_identity(layer, compression);
        if !self.writes || !digested.is_stored_as(compression) || !is_settled(layer, since) {
            self.collect(|memos| drop(memos.remove(&name)));
            return Ok(false);
        }
        let change_times = change_times(layer, since);
        let memo = Memo { version: VERSION, layer: digested.clone(), change_times };
        let path = self.path(&name);
        self.collect(|memos| drop(memos.insert(name, memo.clone())));
        let Some(path) = path else { return Ok(true) };
        write_whole(&path, &crate::canonical_json(&memo))
            .map_err(|source| Error::Write { path, source })
            .map(|()| true)
    }

    /// Forgets a layer whose memo was found wrong.
    pub fn forget(&self, layer: &VirtualLayer, compression: Compression) {
        let name = layer_identity(layer, compression);
        if let Some(path) = self.path(&name) {
            // A memo that is gone already is as good.
            let _ = fs::remove_file(path);
        }
        self.collect(|memos| drop(memos.remove(&name)));
    }

    fn path(&self, name: &str) -> Option<PathBuf> {
        Some(self.directory.as_ref()?.join(&name[..2]).join(format!("{}.json", &name[2..])))
    }
}

/// Whether all files of the layer were last written so long before `since` that a write after it shows in their
/// modification times.
#[must_use]
pub fn is_settled(layer: &VirtualLayer, since: SystemTime) -> bool {
    settled(layer, since, |fence| fence.mtime_ns)
}

/// The change times of the layer's files, as one hash; `None` where one is so short before `since` that a change after
/// it may not show.
#[must_use]
pub fn change_times(layer: &VirtualLayer, since: SystemTime) -> Option<String> {
    settled(layer, since, |fence| fence.ctime_ns).then(|| hash_of_change_times(layer))
}

fn hash_of_change_times(layer: &VirtualLayer) -> String {
    let mut hasher = Hasher::new();
    for file in layer.files() {
        hasher.update(&file.fence().ctime_ns.to_le_bytes());
    }
    hasher.finish().digest().to_owned()
}

fn settled(layer: &VirtualLayer, since: SystemTime, time: impl Fn(&Fence) -> i128) -> bool {
    let settled = since.checked_sub(RACY).and_then(|t| t.duration_since(UNIX_EPOCH).ok());
    let settled = settled.map_or(0, |t| i128::try_from(t.as_nanos()).unwrap_or(i128::MAX));
    layer.files().all(|file| time(&file.fence()) <= settled)
}

/// A name that no other layer has, in 64 hexadecimal digits, made of the layer's segments and not of its bytes. It is the
/// same on another mount, and whatever the change times of its files are: see [`change_times`].
#[must_use]
pub fn layer_identity(layer: &VirtualLayer, compression: Compression) -> String {
    identity(layer, compression, |_| 0)
}

/// As [`layer_identity`], for layers in one process: those that have the same key are made of the very same files.
#[must_use]
pub fn layer_key(layer: &VirtualLayer, compression: Compression) -> String {
    identity(layer, compression, |fence| fence.device)
}

fn identity(layer: &VirtualLayer, compression: Compression, device: impl Fn(&Fence) -> u64) -> String {
    let mut hasher = Hasher::new();
    hasher.update(format!("crossdock layer {VERSION} {}\n", compression.form()).as_bytes());
    let of_file = |hasher: &mut Hasher, file: &SourceFile| {
        let fence = file.fence();
        for number in [device(&fence), fence.inode, fence.size] {
            hasher.update(&number.to_le_bytes());
        }
        hasher.update(&fence.mtime_ns.to_le_bytes());
    };
    for segment in layer.segments() {
        match &segment {
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
                hasher.update(b"e");
                for number in [*offset, *len] {
                    hasher.update(&number.to_le_bytes());
                }
                of_file(&mut hasher, file);
            }
            Segment::Packed { packed, offset, len, digest } => {
                hasher.update(b"p");
                for number in [*offset, *len] {
                    hasher.update(&number.to_le_bytes());
                }
                if let Some(file) = packed.file() {
                    of_file(&mut hasher, file);
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
