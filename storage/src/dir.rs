//! `dir:DIR`, one image in a directory as containers-transports(5) has it: `version`, `manifest.json`, and each blob in a
//! file called as the hexadecimal part of its digest.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use oci_spec::image::{Descriptor, ImageManifest};

use crate::digest::DiffId;
use crate::error::{Error, Result};
use crate::image::{ImageSource, Layer};
use crate::json::from_json;
use crate::layout::LayoutSink;
use crate::progress::{LayerWatch, Outcome};
use crate::reader::ReadOptions;
use crate::sink::{Abort, ImageSink, NewLayer, SinkPlan};
use crate::staging::holds_something;

const MARKER: &str = "version";

/// The version of which skopeo and buildah write it.
const VERSION: &[u8] = b"Directory Transport Version: 1.1\n";

/// Writes an image into a directory of its own, in the place of the one that was there.
#[derive(Debug)]
pub struct DirSink {
    directory: PathBuf,
    /// The blobs lie in the directory itself.
    blobs: LayoutSink,
}

impl DirSink {
    /// An image in `directory`, which is created, or empty, or holds an image already.
    #[must_use]
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        let directory = directory.into();
        Self { blobs: LayoutSink::flat(directory.clone()), directory }
    }
}

/// Removes the blobs of the image that was there before.
fn remove_others(directory: &Path, manifest: &ImageManifest) {
    let own: BTreeSet<OsString> = std::iter::once(manifest.config())
        .chain(manifest.layers())
        .map(|blob| blob.digest().digest().into())
        .collect();
    let is_blob = |name: &OsString| {
        name.len() == 64 && name.to_str().is_some_and(|n| n.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if is_blob(&name) && !own.contains(&name) {
            // The image is whole; one file too many does no harm.
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[async_trait]
impl ImageSink for DirSink {
    fn name(&self) -> String {
        format!("dir:{}", self.directory.display())
    }

    async fn foresee(&self, blob: Option<&Descriptor>, from: Option<&dyn ImageSource>) -> Result<Outcome> {
        self.blobs.foresee(blob, from).await
    }

    async fn prepare(&self, _plan: &SinkPlan) -> Result<()> {
        self.blobs
            .run(|blobs, _| {
                let directory = blobs.directory();
                if holds_something(directory) && !directory.join(MARKER).exists() {
                    return Err(Error::Unusable(format!(
                        "{} is not empty and holds no image: choose another directory",
                        directory.display()
                    )));
                }
                blobs.open()
            })
            .await
    }

    async fn put_layer(
        &self,
        layer: &NewLayer,
        read: &ReadOptions,
        watch: &LayerWatch,
    ) -> Result<(Layer, Outcome)> {
        self.blobs.put_layer(layer, read, watch).await
    }

    async fn take_blob(
        &self,
        blob: &Descriptor,
        diff_id: Option<&DiffId>,
        from: &dyn ImageSource,
        watch: &LayerWatch,
    ) -> Result<Outcome> {
        self.blobs.take_blob(blob, diff_id, from, watch).await
    }

    async fn put_config(&self, config: &Descriptor, bytes: Bytes) -> Result<Outcome> {
        self.blobs.put_config(config, bytes).await
    }

    async fn put_manifest(&self, _manifest: &Descriptor, _bytes: Bytes) -> Result<()> {
        Err(Error::Unusable(format!("{} has no place for a list of images", self.name())))
    }

    async fn commit(&self, _manifest: &Descriptor, bytes: Bytes) -> Result<()> {
        let manifest: ImageManifest = from_json(&bytes).map_err(|source| Error::Malformed {
            what: format!("the manifest of {}", self.name()),
            source,
        })?;
        self.blobs
            .run(move |blobs, cancel| {
                blobs.publish((MARKER, VERSION), cancel, || {
                    blobs.write("manifest.json", &bytes)?;
                    remove_others(blobs.directory(), &manifest);
                    Ok(())
                })
            })
            .await
    }

    async fn abort(&self, why: Abort) {
        self.blobs.abort(why).await;
    }
}
