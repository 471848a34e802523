//! The SHA-256 of the only file in a layer, taken from the chunks of the tar while they are at hand.

use crate::digest::Digest;
use crate::entry::EntryKind;
use crate::hash::Hasher;
use crate::layer::VirtualLayer;
use crate::reader::ReadOptions;
use crate::resume::Checkpoint;

/// The bytes of the layer's only file, and their SHA-256 so far.
#[derive(Debug)]
pub(crate) struct Content {
    begins: u64,
    ends: u64,
    hasher: Hasher,
}

impl Content {
    /// The content of a layer that is to be hashed by itself, before any of it is read.
    pub(crate) fn of(layer: &VirtualLayer, options: &ReadOptions) -> Option<Self> {
        let (entry, begins) = layer.only_file().filter(|_| options.digest_content)?;
        let EntryKind::File(content) = &entry.kind else { return None };
        Some(Self { begins, ends: begins + content.len(), hasher: Hasher::new() })
    }

    /// The same where the tar was read to `checkpoint`, if that knows.
    pub(crate) fn resumed(self, checkpoint: &Checkpoint) -> Option<Self> {
        let taken = checkpoint.offset().min(self.ends).saturating_sub(self.begins);
        if taken == 0 {
            return Some(self);
        }
        let hasher = checkpoint.content().filter(|hasher| hasher.may_be_at(taken))?;
        Some(Self { hasher, ..self })
    }

    /// Takes in what a chunk of the tar, which ends at `end`, has of the content.
    pub(crate) fn update(&mut self, chunk: &[u8], end: u64) {
        let begin = end - chunk.len() as u64;
        let within = |offset: u64| usize::try_from(offset.clamp(begin, end) - begin).unwrap_or(chunk.len());
        let (from, to) = (within(self.begins), within(self.ends));
        self.hasher.update(&chunk[from..to]);
    }

    /// The state of the hash, for a checkpoint.
    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    /// The digest, the whole tar being read.
    pub(crate) fn finish(self) -> Digest {
        self.hasher.finish()
    }
}
