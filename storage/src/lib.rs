//! What a container image is made of, and where its bytes lie.
//!
//! A layer here is a [`VirtualLayer`]: a list of inline bytes (tar headers, padding) and extents of files that
//! stay where they are. It is read, hashed and encoded in one pass by a [`LayerReader`], whose
//! [`finish`](LayerReader::finish) is the only maker of a digested [`Layer`]. Where images come from and go to is
//! behind two traits, [`ImageSource`] and [`ImageSink`].
//!
//! This crate alone names memmap2, sha2, tar, zstd and the other compressions; all unsafe code of the workspace is in its `map` module.

mod archive;
mod cancel;
mod compare;
mod config;
mod content;
mod decode;
mod delegate;
mod digest;
mod dir;
mod encode;
mod entries;
mod entry;
mod entry_list;
mod error;
mod gzip;
mod hash;
mod image;
mod index;
mod indexing;
mod json;
mod layer;
mod layer_key;
mod layout;
mod local;
mod lock;
mod manifest_entry;
mod map;
mod memo;
mod packed;
mod parallel;
mod part_file;
mod peek;
mod platform;
mod progress;
mod prune;
mod reader;
mod record;
mod resume;
mod said_digest;
mod selection;
mod sharding;
mod sink;
mod source;
mod sparse;
mod spool;
mod staging;
mod state;
mod stream;
mod tar;
mod text;
mod unpack;
mod warnings;
mod whole;
mod windows;
mod writers;
mod xattrs;

pub use archive::{ArchiveKind, ArchiveSink};
pub use cancel::Cancel;
pub use compare::{Compared, ComparedEntry, Difference, compare_ranges, compare_whole};
pub use config::{HealthConfig, HistoryEntry, ImageConfig, RootFs, RuntimeConfig};
pub use delegate::{Delegate, ListedSource};
pub use digest::{DiffId, Digest};
pub use dir::DirSink;
pub use encode::{Compression, ManifestFormat};
pub use entry::{Entry, EntryKind, FileContent, LayerPath, LayerPathError, Special};
pub use error::{BoxError, Error, FenceBreach, Result};
pub use hash::Hasher;
pub use image::{
    BlobStream, CONTENT_DIGEST, ImageSource, Layer, LayerOrigin, RepositoryName, ResolvedImage,
    VerifiedStream, is_config, is_foreign,
};
pub use index::{Detail, IndexEntry, IndexKind, IndexStore, LayerIndex};
pub use indexing::IndexedSource;
pub use json::{canonical_json, from_json};
pub use layer::{Segment, VirtualLayer};
pub use layer_key::{LayerKey, check_archive};
pub use layout::{LayoutSink, LayoutSource, is_index};
pub use local::{Against, LocalFile, LocalKind, LocalTree};
pub use lock::FileLock;
pub use manifest_entry::{EntryDetails, EntryPlatform, ManifestEntry};
pub use memo::{Memo, MemoStore, Memos, Recalled, change_times, is_settled, layer_identity, layer_key};
pub use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, MediaType};
pub use packed::Packed;
pub use parallel::{blocking, in_lanes, in_parallel};
pub use part_file::{PartFile, PartFiles, PartStore};
pub use peek::Peek;
pub use platform::{Platform, PlatformError};
pub use progress::{Counters, LayerEvent, LayerWatch, NoProgress, Outcome, Phase, Progress};
pub use prune::{Pruned, prune};
pub use reader::{LayerReader, ReadOptions};
pub use record::{
    ImageList, ImageRecord, ListEntry, ListedPlace, RecordStore, RecordedLayer, RecordedOrigin, Records,
};
pub use resume::{Checkpoint, Checkpoints};
pub use selection::Selection;
pub use sharding::{DEFAULT_LAYER_FILE_SIZE, MAX_LAYERS, shard};
pub use sink::{Abort, DigestSink, ImageSink, NewLayer, PlannedLayer, SinkPlan};
pub use source::{Fence, FileState, IoMode, SourceDirectory, SourceFile};
pub use sparse::{Piece, spread};
pub use spool::{is_spooled, spool};
pub use state::{StateLock, StateStore};
pub use stream::{LayerStream, PendingLayer};
pub use tar::encode_entries;
pub use text::{escape_controls, escape_line, redact_urls};
pub use unpack::{SourceArchive, is_archive};
pub use warnings::Warnings;
pub use whole::{LockedFile, Place, write_file};
pub use xattrs::{FoundXattrs, Xattrs};
