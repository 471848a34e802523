//! An archive of the context that ADD unpacks: its entries, the bytes of its files, and the layer that comes of it.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use crossdock_builder::{Containerfile, Context, IgnoreFile, PlanOptions, plan};
use crossdock_storage::{Cancel, FileContent, ReadOptions, SourceArchive, SourceFile};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::base_index::told;
use super::containerfile::{NoBases, checked};
use super::packing;

/// So many files of an archive are read: each is decoded from the archive's beginning.
const READ: usize = 8;

/// Unpacks archives.
pub struct Archives {
    runtime: Runtime,
    context: TempDir,
    file: Arc<Containerfile>,
    options: PlanOptions,
}

impl Archives {
    pub fn new() -> Self {
        let text = b"FROM scratch\nADD archive /a/\nADD archive /a/\n";
        Self {
            runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime"),
            context: TempDir::new().expect("a directory"),
            file: Containerfile::parse("Containerfile", text).expect("it is valid").into(),
            options: PlanOptions::new("linux/amd64".parse().expect("a platform")),
        }
    }

    /// Reads the archive that `input` stands for, and what is in it; then ADDs it twice.
    pub fn run(&self, input: &[u8]) {
        let Some(bytes) = packing::stored(input) else { return };
        let path = self.path();
        fs::write(&path, &bytes).expect("it can be written");
        match SourceArchive::read(&SourceFile::stat(&path).expect("it is there"), &Cancel::default()) {
            Ok(Some(archive)) => contents(&archive),
            Ok(None) => {}
            Err(error) => told(&error),
        }
        let context =
            Context::open(self.context.path(), IgnoreFile::none()).expect("it is a directory").into();
        match self.runtime.block_on(plan(&self.file, &context, &self.options, &NoBases)) {
            Ok(image) => checked(&image),
            Err(error) => told(&error),
        }
    }

    fn path(&self) -> PathBuf {
        self.context.path().join("archive")
    }
}

/// A file's bytes are as many as its entry says, or there is an error.
fn contents(archive: &SourceArchive) {
    let files = archive.entries.iter().filter_map(|entry| archive.content(entry));
    for content in files.take(READ) {
        let FileContent::Parts(parts) = &content else { continue };
        let mut len = 0;
        for chunk in parts.bytes_from(0, &ReadOptions::default()) {
            match chunk {
                Ok(chunk) => len += chunk.len() as u64,
                Err(error) => return told(&error),
            }
        }
        assert_eq!(len, content.len());
    }
}
