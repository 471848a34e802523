//! An image of one blob, in memory.

use async_trait::async_trait;
use bytes::Bytes;
use crossdock_storage::{BlobStream, Descriptor, ImageSource, Platform, ResolvedImage, Result};

/// The blob, in chunks of so many bytes.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) blob: Bytes,
    pub(crate) chunk: usize,
}

#[async_trait]
impl ImageSource for Source {
    fn name(&self) -> String {
        "some.example/base:1".to_owned()
    }

    fn image_name(&self) -> Option<String> {
        None
    }

    fn locator(&self) -> String {
        self.name()
    }

    async fn resolve(&self, _platform: &Platform) -> Result<ResolvedImage> {
        unreachable!("only the blob is asked for")
    }

    async fn blob(&self, _blob: &Descriptor, offset: u64) -> Result<BlobStream> {
        let rest = self.blob.slice(usize::try_from(offset).unwrap()..);
        let chunks: Vec<_> = rest.chunks(self.chunk).map(|chunk| Ok(rest.slice_ref(chunk))).collect();
        Ok(Box::pin(futures_util::stream::iter(chunks)))
    }
}
