//! `Delegate`: an image source that is another one in all but one thing.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use oci_spec::image::Descriptor;

use crate::error::Result;
use crate::image::{BlobStream, ImageSource, LayerOrigin, RepositoryName, ResolvedImage};
use crate::manifest_entry::{EntryPlatform, ManifestEntry};
use crate::platform::Platform;

/// Does one thing in its own way, and is an [`ImageSource`] that asks another source for all else.
#[async_trait]
pub trait Delegate: Send + Sync + fmt::Debug {
    /// The source that is asked.
    fn inner(&self) -> &dyn ImageSource;

    /// What a list elsewhere says that the image is for.
    fn said(&self) -> Option<&EntryPlatform> {
        None
    }

    /// As [`ImageSource::blob`].
    async fn read_blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.inner().blob(blob, offset).await
    }
}

/// An image that stands in a list, which says what it is for.
#[derive(Debug)]
pub struct ListedSource {
    inner: Arc<dyn ImageSource>,
    said: Option<EntryPlatform>,
}

impl ListedSource {
    /// The image `inner`, of which its list says this.
    #[must_use]
    pub fn new(inner: Arc<dyn ImageSource>, said: Option<EntryPlatform>) -> Self {
        Self { inner, said }
    }
}

impl Delegate for ListedSource {
    fn inner(&self) -> &dyn ImageSource {
        &*self.inner
    }

    fn said(&self) -> Option<&EntryPlatform> {
        self.said.as_ref()
    }
}

#[async_trait]
impl<T: Delegate> ImageSource for T {
    fn name(&self) -> String {
        self.inner().name()
    }

    fn image_name(&self) -> Option<String> {
        self.inner().image_name()
    }

    fn locator(&self) -> String {
        self.inner().locator()
    }

    fn origin(&self, layer: &Descriptor) -> Option<LayerOrigin> {
        self.inner().origin(layer)
    }

    fn repository(&self) -> Option<RepositoryName> {
        self.inner().repository()
    }

    async fn index(&self) -> Result<Option<Vec<ManifestEntry>>> {
        self.inner().index().await
    }

    async fn platform_of(&self, entry: &ManifestEntry) -> Result<Option<EntryPlatform>> {
        self.inner().platform_of(entry).await
    }

    async fn resolve(&self, platform: &Platform) -> Result<ResolvedImage> {
        match self.said() {
            Some(said) => self.inner().resolve_listed(said, platform).await,
            None => self.inner().resolve(platform).await,
        }
    }

    async fn resolve_listed(&self, said: &EntryPlatform, platform: &Platform) -> Result<ResolvedImage> {
        self.inner().resolve_listed(said, platform).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        self.read_blob(blob, offset).await
    }
}
