//! What a build says while it works: events for a display, and counters for the summary.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use oci_spec::image::Descriptor;

use crate::digest::Digest;

/// What happened to a layer or config at the destination.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Its bytes went to the registry.
    Sent,
    /// The registry took it over from another of its repositories.
    Mounted {
        /// The repository it was taken from.
        from: String,
    },
    /// The destination had it already; nothing was sent.
    Present,
    /// Written to a layout or archive on disk, as asked.
    Written,
    /// Neither sent nor written: its licence forbids that, and the manifest says from which URLs it is to be had.
    Foreign,
    /// Hashed and remembered only; there is no destination yet.
    Digested,
    /// Read again from the registry, and what its digest says.
    Verified,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sent => f.write_str("sent"),
            Self::Mounted { from } => write!(f, "mounted from {from}"),
            Self::Present => f.write_str("already there"),
            Self::Written => f.write_str("written"),
            Self::Foreign => f.write_str("left at its URLs"),
            Self::Digested => f.write_str("digested"),
            Self::Verified => f.write_str("verified"),
        }
    }
}

/// What is being done with a layer's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Read to learn the digest, before the destination is asked for it.
    Hashing,
    /// Read, hashed and sent in one pass.
    Sending,
    /// Read for what its files are called.
    Indexing,
    /// Streamed from the base's registry to the destination.
    Transferring,
    /// Read, hashed and written to disk in one pass.
    Writing,
    /// All bytes are sent; the registry is closing the upload.
    Committing,
    /// Read from the registry and compared with what it should be.
    Verifying,
}

/// Something that happened to a layer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum LayerEvent {
    /// Work on the layer begins, or a new phase of it.
    Phase(Phase),
    /// So many of its bytes are done in this phase; goes back when an attempt starts again.
    Position(u64),
    /// An attempt failed and is made again.
    Retry {
        /// The attempt that comes next, counted from 2.
        attempt: u32,
        /// Why the last one failed.
        reason: String,
        /// How long the wait before it is, in milliseconds.
        wait_ms: u64,
    },
    /// The layer is where it belongs.
    Finished {
        /// What happened to it.
        outcome: Outcome,
        /// Its digest.
        digest: Digest,
        /// Its size in bytes, as stored.
        size: u64,
    },
}

/// Takes the events of all layers; called from several threads, and often: it must return at once.
pub trait Progress: Send + Sync + fmt::Debug {
    /// A layer is announced, before any work on it: its place in the image, what it holds, and its length in bytes.
    fn announce(&self, index: usize, title: &str, bytes: u64);
    /// Something happened to layer `index`.
    fn event(&self, index: usize, event: LayerEvent);
}

/// Shows nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoProgress;

impl Progress for NoProgress {
    fn announce(&self, _index: usize, _title: &str, _bytes: u64) {}
    fn event(&self, _index: usize, _event: LayerEvent) {}
}

/// One layer's line to the display.
#[derive(Debug, Clone)]
pub struct LayerWatch {
    index: usize,
    progress: Arc<dyn Progress>,
}

impl LayerWatch {
    /// The line of layer `index`.
    #[must_use]
    pub fn new(index: usize, progress: Arc<dyn Progress>) -> Self {
        Self { index, progress }
    }

    /// A line that leads nowhere.
    #[must_use]
    pub fn silent() -> Self {
        Self::new(0, Arc::new(NoProgress))
    }

    /// Passes an event on.
    pub fn event(&self, event: LayerEvent) {
        self.progress.event(self.index, event);
    }

    /// A new phase begins.
    pub fn phase(&self, phase: Phase) {
        self.event(LayerEvent::Phase(phase));
    }

    /// The blob is where it belongs.
    pub fn finished(&self, outcome: &Outcome, blob: &Descriptor) {
        self.event(LayerEvent::Finished {
            outcome: outcome.clone(),
            digest: blob.digest().clone(),
            size: blob.size(),
        });
    }

    /// So many bytes are done in this phase.
    pub fn position(&self, bytes: u64) {
        self.event(LayerEvent::Position(bytes));
    }
}

/// Bytes that went through this process, counted where they pass.
#[derive(Debug, Default)]
pub struct Counters {
    read: AtomicU64,
    sent: AtomicU64,
    received: AtomicU64,
}

impl Counters {
    /// Bytes read from source files, those read again for a retry included.
    #[must_use]
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of bodies handed to the connections of a registry, those of failed attempts included.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Bytes of blobs received from a registry.
    #[must_use]
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Counts bytes read from source files.
    pub fn add_read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts body bytes handed to a connection.
    pub fn add_sent(&self, bytes: u64) {
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Counts blob bytes received.
    pub fn add_received(&self, bytes: u64) {
        self.received.fetch_add(bytes, Ordering::Relaxed);
    }
}
