//! The journal of uploads: what another process needs to go on where this one was killed. One small file for each blob
//! on its way, below the root directory; it may hold a token of the registry's, so only its owner can read it.
//!
//! Nothing depends on it: an entry that is old, damaged or of an upload that the registry has forgotten is dropped, and
//! the blob is sent from its start. A layer of which a file was written just now has none, for a further write might
//! not show in the file's modification time. Where the change time of a file is another than it was, the states of the hash
//! are not used: what the registry has is hashed again, and not sent again.
//!
//! An entry is written while the bytes go, when a signal or a failure ends the push, and before the request that makes
//! a blob of the upload: then it has the layer's digests, and the next process asks for the blob before it does anything
//! else.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use crossdock_storage::{
    Checkpoint, Checkpoints, Hasher, Layer, StateLock, StateStore, canonical_json, from_json,
};
use serde::{Deserialize, Serialize};
use url::Url;

use crate::client::{RegistryOptions, lock};
use crate::resume::Partial;

/// Entries that nobody came back for are dropped after this time.
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// Checkpoints of an entry, which is about half a page with them: a registry may have less than was sent, by what it had
/// in memory.
const CHECKPOINTS: usize = 8;

/// Checkpoints of an entry whose bytes are all sent: they are needed only where the registry lost some.
const CHECKPOINTS_DONE: usize = 2;

/// The notes that a push may make beside the first of each layer, however much it sends.
const NOTES: u64 = 64;

/// One blob's place in the journal, ours alone until it is dropped.
#[derive(Debug)]
pub(crate) struct Journal {
    store: StateStore,
    name: String,
    lock: Option<StateLock>,
    every: Duration,
    /// Bytes between two checkpoints, and between two notes.
    checkpoint_step: u64,
    step: u64,
    registry: String,
    repository: String,
    identity: String,
    /// The change times of the blob's files.
    change_times: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    registry: String,
    repository: String,
    identity: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change_times: Option<String>,
    upload: String,
    /// Offsets, each with the state of the hash there.
    checkpoints: Vec<(u64, String)>,
    /// The layer's digests, where all its bytes were sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    done: Option<Layer>,
}

/// What there is to note about an upload when its push ends.
#[derive(Debug)]
pub(crate) struct Note {
    pub(crate) journal: Arc<Journal>,
    /// Shared with the reader, which adds to them.
    pub(crate) checkpoints: Checkpoints,
    pub(crate) done: Option<Layer>,
}

impl Note {
    /// Writes how far the upload at `place` came. Whether that worked.
    pub(crate) fn write(&self, place: &Url) -> bool {
        self.journal.write(place, &self.checkpoints, self.done.as_ref())
    }
}

impl Journal {
    /// The place of a blob on its way to a repository, in a push of `total` bytes; `None` where there is no directory for
    /// it, or where another process has it. `identity` is what the blob is made of, with the change times of its files, or
    /// its digest.
    pub(crate) fn open(
        options: &RegistryOptions,
        (registry, repository): (&str, &str),
        (identity, change_times): (String, Option<String>),
        total: u64,
    ) -> Option<Self> {
        let store = StateStore::new(options.root.as_deref()?, "uploads");
        drop(store.prune(WEEK));
        let digest = Hasher::digest(format!("{registry}\n{repository}\n{identity}").as_bytes());
        let name = format!("{}.json", digest.digest());
        let lock = Some(store.lock(&name)?);
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        let (every, step) = (options.journal_every, options.checkpoint_step.max(total / NOTES));
        Some(Self {
            store,
            name,
            lock,
            every,
            checkpoint_step: options.checkpoint_step,
            step,
            registry,
            repository,
            identity,
            change_times,
        })
    }

    /// The upload that an earlier process left behind.
    pub(crate) fn recall(&self) -> Option<Partial> {
        let entry: Entry = from_json(&self.store.read(&self.name)?).ok()?;
        let ours = entry.version == 2
            && (&entry.registry, &entry.repository, &entry.identity)
                == (&self.registry, &self.repository, &self.identity);
        if !ours {
            return None;
        }
        let checkpoints = Checkpoints::every(self.checkpoint_step);
        // Bytes before a checkpoint are not hashed again: for sure they are those that were.
        let unchanged = entry.change_times.is_some() && entry.change_times == self.change_times;
        for (offset, state) in entry.checkpoints.iter().filter(|_| unchanged) {
            checkpoints.keep(Checkpoint::from_state(*offset, &STANDARD.decode(state).ok()?)?);
        }
        let (done, touched) = if unchanged { (entry.done, None) } else { (None, entry.done) };
        Some(Partial { done, touched, ..Partial::new(Url::parse(&entry.upload).ok()?, checkpoints) })
    }

    /// Writes how far the blob is, until it is dropped: at the first checkpoint, and then where the last one lies a step
    /// further than the last note; without checkpoints once, for the upload's place is all there is to note. So all notes
    /// of a push together stay below a mebibyte. Bytes that the registry has beyond the last note are hashed again but not
    /// sent again.
    pub(crate) async fn keep(&self, upload: &Mutex<Url>, checkpoints: Option<&Checkpoints>) {
        let mut noted = None;
        loop {
            tokio::time::sleep(self.every).await;
            let last = checkpoints.map(|checkpoints| checkpoints.last(1)).unwrap_or_default();
            let offset = match (checkpoints, last.last()) {
                (None, _) => 0,
                (Some(_), Some(last)) => last.offset(),
                (Some(_), None) => continue,
            };
            if noted.is_some_and(|noted| offset < self.step.saturating_add(noted)) {
                continue;
            }
            let place = lock(upload).clone();
            // Half a page, and never after `remove`: so not on another thread.
            if !self.write(&place, checkpoints.unwrap_or(&Checkpoints::default()), None) {
                return std::future::pending().await;
            }
            noted = Some(offset);
        }
    }

    /// Writes how far a blob came that is not sent on, not now. Whether that worked.
    pub(crate) fn note(&self, partial: &Partial) -> bool {
        self.write(&partial.url(), &partial.checkpoints, partial.done.as_ref())
    }

    fn write(&self, upload: &Url, checkpoints: &Checkpoints, done: Option<&Layer>) -> bool {
        let checkpoints = checkpoints.last(if done.is_some() { CHECKPOINTS_DONE } else { CHECKPOINTS });
        let entry = Entry {
            version: 2,
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            identity: self.identity.clone(),
            change_times: self.change_times.clone(),
            upload: upload.to_string(),
            checkpoints: checkpoints.iter().map(|c| (c.offset(), STANDARD.encode(c.state()))).collect(),
            done: done.cloned(),
        };
        let written = self.store.write(&self.name, &canonical_json(&entry));
        if let Err(error) = &written {
            tracing::warn!(%error, "the push goes on, but cannot be continued if it is killed");
        }
        written.is_ok()
    }

    /// Forgets the upload: it is a blob, or it is gone.
    pub(crate) fn remove(&self) {
        self.store.remove(&self.name);
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        if let Some(lock) = self.lock.take() {
            StateStore::unlock(lock);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use crossdock_storage::{Compression, LayerReader, ReadOptions, Segment, SourceFile, VirtualLayer};

    use super::*;

    /// The notes of a layer of 192 MiB, one read after the other; each is waited for after each chunk.
    async fn notes(checkpoint_step: u64, total: u64) -> Vec<Vec<u8>> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("weights");
        fs::File::create(&path).unwrap().set_len(192 << 20).unwrap();
        let file = SourceFile::stat(&path).unwrap();
        let layer = VirtualLayer::new([Segment::Extent { len: file.size(), file, offset: 0 }]);
        let root = Some(directory.path().to_owned());
        let options = RegistryOptions { root, checkpoint_step, ..RegistryOptions::default() };
        let journal =
            Journal::open(&options, ("registry.example", "a/b"), ("identity".repeat(10), None), total)
                .unwrap();
        let upload =
            Mutex::new(Url::parse(&format!("https://registry.example/{}", "x".repeat(900))).unwrap());
        let checkpoints = Checkpoints::every(checkpoint_step);
        let mut notes: Vec<Vec<u8>> = Vec::new();
        let reading = async {
            let mut reader = LayerReader::new(&layer, Compression::None, &ReadOptions::default());
            while reader.next_chunk().unwrap().is_some() {
                checkpoints.keep(reader.checkpoint().unwrap());
                tokio::time::sleep(2 * options.journal_every).await;
                let note = journal.store.read(&journal.name);
                notes.extend(note.filter(|note| notes.last() != Some(note)));
            }
        };
        tokio::select! {
            () = reading => {}
            () = journal.keep(&upload, Some(&checkpoints)) => {}
        }
        notes
    }

    #[tokio::test(start_paused = true)]
    async fn a_push_of_any_size_writes_less_than_a_mebibyte_of_notes() {
        let notes = notes(1 << 20, 192 << 20).await;
        // Of a hundred layers each has its first note.
        assert!((60..=65).contains(&notes.len()), "{} notes", notes.len());
        let largest = notes.iter().map(Vec::len).max().unwrap();
        assert!(largest <= 4096, "{largest} bytes are more than a page");
        const { assert!((100 + NOTES) * 4096 < 1 << 20) };
    }

    #[tokio::test(start_paused = true)]
    async fn a_layer_that_is_a_small_part_of_its_push_is_noted_seldom_but_soon() {
        let notes = notes(1 << 20, 64 * (100 << 20)).await;
        assert_eq!(notes.len(), 2);
        let first: Entry = serde_json::from_slice(&notes[0]).unwrap();
        assert_eq!(first.checkpoints.last().unwrap().0, 1 << 20);
    }
}
