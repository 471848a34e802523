//! Where FROM and `COPY --from` lead: a registry, or an OCI layout on disk.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_builder::{BaseResolver, FileTree, PlannedBase, base_tree};
use crossdock_registry::Registry;
use crossdock_storage::{Detail, Error, ImageSource, IndexStore, LayoutSource, Platform};

use crate::destination::{split_reference, transport_of};
use crate::local::LocalImages;

/// Finds base images for a plan.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(crate) registry: Registry,
    /// What is remembered of the layers of bases.
    pub(crate) indexes: Option<IndexStore>,
    /// Images that were built or pulled here: a name is theirs first.
    pub(crate) local: Option<LocalImages>,
}

#[async_trait]
impl BaseResolver for Bases {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<PlannedBase, Error> {
        let source: Arc<dyn ImageSource> = match transport_of(reference) {
            Some(("oci", rest)) => {
                let (directory, name) = split_reference(rest);
                Arc::new(LayoutSource::new(PathBuf::from(directory), name.map(str::to_owned)))
            }
            Some(("docker", rest)) => self.registry_source(rest.strip_prefix("//").unwrap_or(rest))?,
            Some((transport, _)) => {
                return Err(Error::Unusable(format!(
                    "the transport {transport}: is not supported for a base: name an image on a registry, or oci:DIR[:ref]"
                )));
            }
            None => match self.local_source(reference)? {
                Some(source) => source,
                None => self.registry_source(reference)?,
            },
        };
        let image = source.resolve(platform).await?;
        Ok(PlannedBase { reference: reference.to_owned(), source, image })
    }

    async fn tree(&self, base: &PlannedBase, detail: Detail) -> Result<FileTree, Error> {
        base_tree(&base.source, &base.image, detail, self.indexes.as_ref()).await
    }
}

impl Bases {
    fn local_source(&self, reference: &str) -> Result<Option<Arc<dyn ImageSource>>, Error> {
        let Some(local) = &self.local else { return Ok(None) };
        let failed = |error: anyhow::Error| match error.downcast::<Error>() {
            Ok(error) => error,
            Err(error) => Error::Unusable(format!("{error:#}")),
        };
        let Some(image) = local.find_named(reference).map_err(failed)? else { return Ok(None) };
        Ok(Some(Arc::new(local.source(&image, reference.to_owned(), &self.registry).map_err(failed)?)))
    }

    fn registry_source(&self, reference: &str) -> Result<Arc<dyn ImageSource>, Error> {
        Ok(Arc::new(self.registry.image(reference).map_err(Error::backend)?))
    }
}
