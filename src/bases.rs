//! Where FROM and `COPY --from` lead: a registry, or an OCI layout on disk.

use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_builder::{Ahead, BaseResolver, FileTree, PlannedBase, TreeOf, base_tree};
use crossdock_registry::Registry;
use crossdock_storage::{Error, ImageSource, IndexStore, LayoutSource, Platform, blocking};

use crate::destination::{split_reference, transport_of};
use crate::local::{LOCALHOST, LocalBase, LocalImages};
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
    /// Where the layers of a base go to while they are looked through.
    pub(crate) ahead: Ahead,
}

#[async_trait]
impl BaseResolver for Bases {
    async fn resolve(&self, reference: &str, platform: &Platform) -> Result<PlannedBase, Error> {
        let source: Arc<dyn ImageSource> = match transport_of(reference) {
            None => return self.named(reference, platform).await,
            Some((transport, rest)) => self.transported(transport, rest)?,
        };
        self.planned(reference, source, platform).await
    }

    async fn tree(&self, wanted: TreeOf<'_>) -> Result<FileTree, Error> {
        let TreeOf { base, detail, stays } = wanted;
        let ahead = Ahead { sink: self.ahead.sink.clone().filter(|_| stays), ..self.ahead.clone() };
        base_tree(&base.source, &base.image, detail, self.indexes.as_ref(), &ahead).await
    }
}

impl Bases {
    /// The platforms that a base is there for; `None` for an image that is of one alone.
    pub(crate) async fn platforms(&self, reference: &str) -> Result<Option<Vec<Platform>>, Error> {
        if transport_of(reference).is_none()
            && let Some(local) = self.local.clone()
            && let reference = reference.to_owned()
            && let Some(list) = blocking(move || local.find_list(&reference).map_err(failed)).await?
        {
            return Ok(Some(list.entries.iter().filter_map(|entry| entry.manifest.platform()).collect()));
        }
        let source = match transport_of(reference) {
            None => self.registry_source(reference)?,
            Some((transport, rest)) => self.transported(transport, rest)?,
        };
        let Some(entries) = source.index().await? else { return Ok(None) };
        let mut platforms = Vec::new();
        for entry in &entries {
            let platform = match entry.platform() {
                None => source.platform_of(entry).await?.and_then(|said| said.said()),
                platform => platform,
            };
            // Attestations stand beside the images under a platform that is none.
            platforms.extend(platform.filter(|platform| platform.os != "unknown"));
        }
        Ok(Some(platforms))
    }

    /// An image that is named with its transport.
    fn transported(&self, transport: &str, rest: &str) -> Result<Arc<dyn ImageSource>, Error> {
        match transport {
            "oci" => {
                let (directory, name) = split_reference(rest);
                let layout = LayoutSource::new(PathBuf::from(directory), name.map(str::to_owned));
                Ok(self.registry.with_urls(Arc::new(layout)))
            }
            "docker" => self.registry_source(rest.strip_prefix("//").unwrap_or(rest)),
            _ => Err(Error::Unusable(format!(
                "the transport {transport}: is not supported for a base: name an image on a registry, or oci:DIR[:ref]"
            ))),
        }
    }

    /// A base as its source has it; one for another platform is warned of.
    async fn planned(
        &self,
        reference: &str,
        source: Arc<dyn ImageSource>,
        platform: &Platform,
    ) -> Result<PlannedBase, Error> {
        let image = source.resolve(platform).await?;
        if let Some(warning) = image.platform_warning(platform, &source.name()) {
            self.ahead.warnings.add(warning);
        }
        Ok(PlannedBase { reference: reference.to_owned(), source, image })
    }

    /// An image without a transport: of this machine or a registry, as the policy says.
    async fn named(&self, reference: &str, platform: &Platform) -> Result<PlannedBase, Error> {
        let planned = |source| self.planned(reference, source, platform);
        let local = match self.pull {
            PullPolicy::Always => LocalBase::Unknown,
            _ => self.local_base(reference, platform).await?,
        };
        match (self.pull, local) {
            (PullPolicy::Newer, LocalBase::Source(local)) if !reference.starts_with(LOCALHOST) => {
                let newer = match self.registry_source(reference) {
                    Ok(source) => planned(source).await,
                    Err(error) => Err(error),
                };
                match newer {
                    Err(error) => {
                        let warning = format!("{reference} is taken from this machine: {error}");
                        self.ahead.warnings.add(warning);
                        planned(local).await
                    }
                    newer => newer,
                }
            }
            (_, LocalBase::Source(local)) => planned(local).await,
            // A registry may have a list under the name. Where none has it, or none is asked, the image is all there is.
            (policy, LocalBase::OtherPlatform { name, image, .. })
                if policy == PullPolicy::Never || name.starts_with(LOCALHOST) =>
            {
                planned(image).await
            }
            (policy, LocalBase::NotListed { name, error })
                if policy == PullPolicy::Never || name.starts_with(LOCALHOST) =>
            {
                Err(error)
            }
            (_, LocalBase::OtherPlatform { name, is, .. }) => {
                tracing::debug!("{name} is on this machine for {is}: the registry is asked");
                planned(self.registry_source(reference)?).await
            }
            (_, LocalBase::NotListed { error, .. }) => {
                tracing::debug!("{error}: the registry is asked");
                planned(self.registry_source(reference)?).await
            }
            (PullPolicy::Never, LocalBase::Unknown) => Err(Error::Unusable(format!(
                "no image {reference} on this machine, and with --pull=never no registry is asked"
            ))),
            (_, LocalBase::Unknown) => planned(self.registry_source(reference)?).await,
        }
    }

    async fn local_base(&self, reference: &str, platform: &Platform) -> Result<LocalBase, Error> {
        let Some(local) = self.local.clone() else { return Ok(LocalBase::Unknown) };
        let (reference, platform, registry) = (reference.to_owned(), platform.clone(), self.registry.clone());
        blocking(move || local.base(&reference, &platform, &registry).map_err(failed)).await
    }

    fn registry_source(&self, reference: &str) -> Result<Arc<dyn ImageSource>, Error> {
        let image = self.registry.image(reference).map_err(Error::backend)?;
        Ok(self.registry.with_urls(Arc::new(image)))
    }
}

fn failed(error: anyhow::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::Unusable(format!("{error:#}")),
    }
}
