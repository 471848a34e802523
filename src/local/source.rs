//! Sources of images that records name, and a remembered image as a source.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use async_trait::async_trait;
use crossdock_registry::{Reference, Registry};
use crossdock_storage::{
    BlobStream, Descriptor, EntryPlatform, Error, ImageRecord, ImageSource, LayerOrigin, LayerStream,
    LayerWatch, LayoutSource, Platform, ReadOptions, ResolvedImage,
};

use crate::destination::{split_reference, transport_of};

/// The source that a [locator](ImageSource::locator) names.
pub(crate) fn locate(name: &str, registry: &Registry) -> Result<Arc<dyn ImageSource>> {
    match transport_of(name) {
        Some(("oci", rest)) => {
            let (directory, reference) = split_reference(rest);
            let layout = LayoutSource::new(PathBuf::from(directory), reference.map(str::to_owned));
            Ok(registry.with_urls(Arc::new(layout)))
        }
        Some(("docker", rest)) => {
            let reference: Reference = rest.trim_start_matches('/').parse()?;
            // By way of registries.conf, which may say that the host is spoken to without TLS.
            Ok(registry.with_urls(Arc::new(registry.image(&reference.to_string())?)))
        }
        _ => bail!("the record has layers in {name}, which is no place that is known"),
    }
}

/// An image that is remembered here, as a base.
#[derive(Debug)]
pub(super) struct RecordSource {
    /// As the user names it.
    pub(super) name: String,
    /// Its name, where it was meant by it.
    pub(super) in_full: Option<String>,
    pub(super) record: ImageRecord,
    pub(super) origins: Vec<(Descriptor, LayerOrigin)>,
}

impl RecordSource {
    /// The platform that the image is for, where that is another one.
    pub(super) fn other_platform(&self, wanted: &Platform) -> Result<Option<Platform>, Error> {
        // An image that does not say is taken for any.
        Ok(self.record.config()?.platform().filter(|is| !wanted.accepts(is)))
    }
}

#[async_trait]
impl ImageSource for RecordSource {
    fn name(&self) -> String {
        self.name.clone()
    }

    fn image_name(&self) -> Option<String> {
        self.in_full.clone()
    }

    fn locator(&self) -> String {
        // Each of its layers is somewhere else.
        self.name()
    }

    fn origin(&self, layer: &Descriptor) -> Option<LayerOrigin> {
        self.origins
            .iter()
            .find(|(descriptor, _)| descriptor.digest() == layer.digest())
            .map(|(_, o)| o.clone())
    }

    async fn resolve(&self, platform: &Platform) -> Result<ResolvedImage, Error> {
        self.resolve_listed(&EntryPlatform::default(), platform).await
    }

    async fn resolve_listed(
        &self,
        said: &EntryPlatform,
        _platform: &Platform,
    ) -> Result<ResolvedImage, Error> {
        let image = ResolvedImage {
            descriptor: self.record.manifest.clone(),
            manifest: self.record.manifest()?,
            config: self.record.config()?,
            manifest_bytes: self.record.manifest_bytes.clone(),
            config_bytes: self.record.config_bytes.clone(),
        };
        Ok(image.listed_as(Some(said)))
    }

    async fn blob(&self, blob: &Descriptor, offset: u64) -> Result<BlobStream, Error> {
        match self.origin(blob) {
            Some(LayerOrigin::Blob(source)) => source.blob(blob, offset).await,
            Some(LayerOrigin::Files { layer, compression, .. }) if offset == 0 => {
                let read = ReadOptions::default();
                Ok(Box::pin(LayerStream::start(&layer, compression, &read, LayerWatch::silent()).0))
            }
            _ => Err(Error::Unusable(format!("{} has no blob {}", self.name(), blob.digest()))),
        }
    }
}
