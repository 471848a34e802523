//! Remembering on this machine what was built.

use anyhow::Result;
use crossdock_builder::{Assembled, Assembly, LayerContent};
use crossdock_storage::{ImageList, ListEntry, ListedPlace, ManifestEntry, Platform, is_spooled};

use super::details;
use crate::local::LocalImages;
use crate::options::BuildOptions;
use crate::signals;

/// An image that was given a name must be remembered: where that cannot be, it is said before a file is read.
pub(super) fn recordable(options: &BuildOptions, local: &Result<LocalImages>) -> Result<()> {
    let writable = match local {
        Ok(local) => local.store().check_writable().map_err(anyhow::Error::from),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    match writable {
        Err(error) if options.is_named() => Err(error.context("the image cannot be remembered")),
        // Its digests are all that comes out.
        Err(error) => {
            tracing::warn!("the image is not remembered: {error:#}");
            Ok(())
        }
        Ok(()) => Ok(()),
    }
}

/// Whether an image has files that nobody can read any more when this process is gone.
pub(crate) fn is_fleeting(image: &Assembly) -> bool {
    image.layers.iter().any(|layer| match &layer.content {
        LayerContent::Files { layer, .. } => layer.files().any(is_spooled),
        LayerContent::Blob { .. } => false,
    })
}

/// Remembers what was built, where that can be; the list, where there is one.
pub(super) fn remember(
    options: &BuildOptions,
    local: &Result<LocalImages>,
    images: &[(Platform, Assembly)],
    assembled: &[Assembled],
) -> Result<Option<Option<ImageList>>> {
    let Ok(local) = local else { return Ok(None) };
    if images.iter().any(|(_, image)| is_fleeting(image)) {
        return Ok(None);
    }
    signals::check()?;
    match record(options, local, images, assembled) {
        Ok(list) => Ok(Some(list)),
        Err(error) if !options.is_named() => {
            tracing::debug!("the image is not remembered: {error:#}");
            Ok(None)
        }
        Err(error) => Err(error.context("the image cannot be remembered")),
    }
}

/// Remembers what was sent under its names, so that they can be listed, inspected and tagged. The image is where it
/// belongs already: a root directory that cannot be written is no reason to fail.
pub(super) fn remember_sent(
    options: &BuildOptions,
    local: &Result<LocalImages>,
    images: &[(Platform, Assembly)],
    assembled: &[Assembled],
) {
    if options.names.is_empty() {
        return;
    }
    let recorded = match local {
        Ok(_) if images.iter().any(|(_, image)| is_fleeting(image)) => {
            Err(anyhow::anyhow!("its files came through a pipe, and are gone now"))
        }
        Ok(local) => record(options, local, images, assembled).map(drop),
        Err(error) => Err(anyhow::anyhow!("{error}")),
    };
    if let Err(error) = recorded {
        tracing::warn!("the image was sent, but is not remembered here: {error:#}");
    }
}

/// Remembers what was built; the list comes back, where there is one.
fn record(
    options: &BuildOptions,
    local: &LocalImages,
    images: &[(Platform, Assembly)],
    assembled: &[Assembled],
) -> Result<Option<ImageList>> {
    // The names of a build for one platform are its image's, as buildah has it, and the list's is its own.
    let one = images.len() == 1 && (options.manifest.is_some() || !options.listed);
    for ((_, assembly), image) in images.iter().zip(assembled) {
        local.record(assembly, image, if one { &options.names } else { &[] })?;
    }
    if !options.listed {
        return Ok(None);
    }
    let entries = images.iter().zip(assembled).map(|((platform, _), image)| ListEntry {
        manifest: ManifestEntry::new(&image.manifest, details(platform)),
        place: ListedPlace::Record,
    });
    let store = local.store();
    let list = match &options.manifest {
        Some(name) => {
            let list = store.create_list(name, true)?;
            store.change_list(&list.id, |list| {
                entries.for_each(|entry| list.renew(entry));
                Ok(list.clone())
            })?
        }
        None => store.put_list(entries.collect(), [])?,
    };
    if !one {
        options.names.iter().try_for_each(|name| store.tag(&list.id, name))?;
    }
    Ok(Some(list))
}
