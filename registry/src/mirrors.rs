//! `MirroredSource`: an image that may be at several places. The first that has it is the one all its bytes are from.

use std::fmt;
use std::future::Future;
use std::sync::OnceLock;

use async_trait::async_trait;
use crossdock_storage::{
    BlobStream, Descriptor, EntryPlatform, ImageSource, ManifestEntry, Platform, RepositoryName,
    ResolvedImage, Result as StorageResult,
};

use crate::error::Error;
use crate::pull::RegistrySource;

/// An image, and the places it may be pulled from: mirrors, the registry itself, the registries that a short name is
/// looked for on.
pub struct MirroredSource {
    name: String,
    /// At least one.
    sources: Vec<RegistrySource>,
    /// For each of them, the name in full that it is a place of.
    names: Vec<String>,
    /// Where it was found.
    found: OnceLock<usize>,
}

impl MirroredSource {
    pub(crate) fn new(name: String, places: Vec<(String, RegistrySource)>) -> Self {
        let (names, sources) = places.into_iter().unzip();
        Self { name, sources, names, found: OnceLock::new() }
    }

    /// The places, in the order they are tried.
    #[must_use]
    pub fn places(&self) -> Vec<String> {
        self.sources.iter().map(|source| source.reference().to_string()).collect()
    }

    /// Where it was found; before it was looked for, the registry itself.
    fn source(&self) -> Option<&RegistrySource> {
        self.found.get().and_then(|at| self.sources.get(*at)).or(self.sources.last())
    }
}

impl MirroredSource {
    /// Asks one place after the other.
    async fn anywhere<'a, T, F: Future<Output = StorageResult<T>> + Send>(
        &'a self,
        ask: impl Fn(&'a RegistrySource) -> F + Send,
    ) -> StorageResult<T> {
        let mut tried = Vec::new();
        for (at, source) in self.sources.iter().enumerate() {
            let place = source.reference().to_string();
            // A place that is down is waited for only where there is no other.
            let result = match source.reachable().await {
                Err(error) if at + 1 < self.sources.len() => Err(error.into()),
                _ => ask(source).await,
            };
            match result {
                Ok(found) => {
                    tracing::debug!(image = self.name, place, "found");
                    // Who looked first and found it elsewhere has bytes from there: they are the same, or none.
                    let _ = self.found.set(at);
                    return Ok(found);
                }
                Err(error) if self.sources.len() == 1 => return Err(error),
                Err(error) => {
                    tracing::debug!(image = self.name, place, %error, "not there");
                    tried.push((place, error));
                }
            }
        }
        Err(Error::Everywhere { image: self.name.clone(), tried }.into())
    }
}

#[async_trait]
impl ImageSource for MirroredSource {
    fn name(&self) -> String {
        match self.source() {
            Some(source) if self.found.get().is_some() || self.sources.len() == 1 => source.name(),
            _ => self.name.clone(),
        }
    }

    fn image_name(&self) -> Option<String> {
        // A mirror is where its bytes are from, and no name of it.
        self.found.get().map_or(self.names.last(), |at| self.names.get(*at)).cloned()
    }

    fn repository(&self) -> Option<RepositoryName> {
        self.source().and_then(RegistrySource::repository)
    }

    fn locator(&self) -> String {
        self.source().map_or_else(|| format!("docker://{}", self.name), ImageSource::locator)
    }

    async fn index(&self) -> StorageResult<Option<Vec<ManifestEntry>>> {
        self.anywhere(ImageSource::index).await
    }

    async fn resolve(&self, platform: &Platform) -> StorageResult<ResolvedImage> {
        self.anywhere(|source| source.resolve(platform)).await
    }

    async fn platform_of(&self, entry: &ManifestEntry) -> StorageResult<Option<EntryPlatform>> {
        match self.source() {
            Some(source) => source.platform_of(entry).await,
            None => Ok(None),
        }
    }

    async fn resolve_listed(
        &self,
        said: &EntryPlatform,
        platform: &Platform,
    ) -> StorageResult<ResolvedImage> {
        self.anywhere(|source| source.resolve_listed(said, platform)).await
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> StorageResult<BlobStream> {
        match self.source() {
            Some(source) => source.blob(blob, offset).await,
            None => Err(Error::Everywhere { image: self.name.clone(), tried: Vec::new() }.into()),
        }
    }
}

impl fmt::Debug for MirroredSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirroredSource").field("name", &self.name).field("places", &self.places()).finish()
    }
}
