//! Where FROM leads: a registry, or an OCI layout on disk.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_builder::{BaseResolver, FileTree, PlannedBase, base_tree};
use crossdock_registry::Registry;
use crossdock_storage::{Error, ImageSource, IndexStore, LayoutSource, Platform};

use crate::destination::{split_reference, transport_of};
use crate::local::LocalImages;
use crate::overrides::PullPolicy;

/// Finds base images for a plan.
#[derive(Debug)]
pub(crate) struct Bases {
    pub(crate) registry: Registry,
    /// What is remembered of the layers of bases.
    pub(crate) indexes: Option<IndexStore>,
    /// Images that were built or pulled here: a name is theirs first.
    pub(crate) local: Option<LocalImages>,
    /// Which of the two a name is looked up in.
    pub(crate) pull: PullPolicy,
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
            None => return self.named(reference, platform).await,
        };
        let image = source.resolve(platform).await?;
        Ok(PlannedBase { reference: reference.to_owned(), source, image })
    }

    async fn tree(&self, base: &PlannedBase) -> Result<FileTree, Error> {
        base_tree(&*base.source, &base.image, self.indexes.as_ref()).await
    }
}

impl Bases {
    /// An image without a transport: of this machine or a registry, as the policy says.
    async fn named(&self, reference: &str, platform: &Platform) -> Result<PlannedBase, Error> {
        let planned = |source: Arc<dyn ImageSource>| async move {
            let image = source.resolve(platform).await?;
            Ok(PlannedBase { reference: reference.to_owned(), source, image })
        };
        let local = match self.pull {
            PullPolicy::Always => None,
            _ => self.local_source(reference)?,
        };
        match (self.pull, local) {
            (PullPolicy::Newer, Some(local)) if !reference.starts_with("localhost/") => {
                let newer = match self.registry_source(reference) {
                    Ok(source) => planned(source).await,
                    Err(error) => Err(error),
                };
                match newer {
                    Err(error) => {
                        tracing::warn!("{reference} is taken from this machine: {error}");
                        planned(local).await
                    }
                    newer => newer,
                }
            }
            (_, Some(local)) => planned(local).await,
            (PullPolicy::Never, None) => Err(Error::Unusable(format!(
                "no image {reference} on this machine, and with --pull=never no registry is asked"
            ))),
            (_, None) => planned(self.registry_source(reference)?).await,
        }
    }

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
