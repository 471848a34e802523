//! Checkpoints: places in a layer's bytes from which its hashing can go on, in this process or in another. Only layers
//! that are stored as they are have them: a compressor's state cannot be kept.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use crate::hash::Hasher;

/// Checkpoints kept at most, the latest ones: 4 GiB back, in less than 64 KiB of memory. What lies before is hashed
/// again from the start.
const KEPT: usize = 256;

/// An offset into a layer's tar, and the SHA-256 of all bytes before it; and that of the bytes of its only file before it, where
/// somebody wants to know.
#[derive(Debug, Clone)]
pub struct Checkpoint {
    offset: u64,
    hasher: Hasher,
    content: Option<Hasher>,
}

impl Checkpoint {
    /// The start, where nothing is hashed yet.
    #[must_use]
    pub fn start() -> Self {
        Self { offset: 0, hasher: Hasher::new(), content: None }
    }

    pub(crate) const fn new(offset: u64, hasher: Hasher, content: Option<Hasher>) -> Self {
        Self { offset, hasher, content }
    }

    /// How many bytes are hashed.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn hasher(&self) -> Hasher {
        self.hasher.clone()
    }

    pub(crate) fn content(&self) -> Option<Hasher> {
        self.content.clone()
    }

    /// The state of the hashes, to be kept in a file; about 100 bytes each.
    #[must_use]
    pub fn state(&self) -> Vec<u8> {
        let mut state = self.hasher.state();
        state.extend(self.content.iter().flat_map(Hasher::state));
        state
    }

    /// A checkpoint that was kept; `None` where the state is none, or not one at `offset`.
    #[must_use]
    pub fn from_state(offset: u64, state: &[u8]) -> Option<Self> {
        let len = Hasher::new().state().len();
        let (own, content) = state.split_at_checked(len)?;
        let content = match content {
            [] => None,
            state => Some(Hasher::of_state(state)?),
        };
        Hasher::from_state(offset, own).map(|hasher| Self { offset, hasher, content })
    }
}

/// The latest checkpoints of a layer that is being read. Cheap to clone; clones share them.
#[derive(Debug, Clone)]
pub struct Checkpoints {
    step: u64,
    kept: Arc<Mutex<VecDeque<Checkpoint>>>,
}

impl Default for Checkpoints {
    fn default() -> Self {
        Self::every(Self::STEP)
    }
}

impl Checkpoints {
    /// Bytes between two, if nothing else is said: 16 MiB.
    pub const STEP: u64 = 16 << 20;

    /// One each `step` bytes, or a little more.
    #[must_use]
    pub fn every(step: u64) -> Self {
        Self { step, kept: Arc::default() }
    }

    /// The last one at or before `offset`; the start where there is none.
    #[must_use]
    pub fn before(&self, offset: u64) -> Checkpoint {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().rev().find(|c| c.offset <= offset).cloned().unwrap_or_else(Checkpoint::start)
    }

    /// The last `count`, in order.
    #[must_use]
    pub fn last(&self, count: usize) -> Vec<Checkpoint> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().skip(kept.len().saturating_sub(count)).cloned().collect()
    }

    /// Keeps `checkpoint`, if it lies a step or more after the last one.
    pub fn keep(&self, checkpoint: Checkpoint) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if checkpoint.offset < kept.back().map_or(0, |last| last.offset).saturating_add(self.step) {
            return;
        }
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(checkpoint);
    }

    pub(crate) fn is_due(&self, offset: u64) -> bool {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        offset >= kept.back().map_or(0, |last| last.offset).saturating_add(self.step)
    }
}
