//! Images come onto a list.

use std::sync::Arc;

use anyhow::{Context as _, Result};
use crossdock_registry::{Reference, RegistriesConf, Registry};
use crossdock_storage::{
    Digest, EntryDetails, EntryPlatform, Error, ImageConfig, ImageList, ImageRecord, ImageSource,
    LayoutSource, ListEntry, ListedPlace, ManifestEntry, Platform, Selection, is_index,
};

use super::{AddArgs, AnnotateArgs, CreateArgs, DetailArgs, not_in, wanted};
use crate::destination::{split_reference, transport_of};
use crate::exit::UsageError;
use crate::local::{LocalImages, local_name};
use crate::registries;
use crate::session::print;
use crate::signals::block_on;

/// What to do where a list lacks the image that is wanted.
const CHOOSE: &str = "choose an image of the list with --os and --arch, or add all of it with --all";

pub(super) fn create(args: &CreateArgs, local: &LocalImages, conf: RegistriesConf) -> Result<()> {
    let name = local_name(&args.list).map_err(UsageError)?;
    if name.digest().is_some() {
        return Err(UsageError(anyhow::anyhow!("{}: a list has a tag and not a digest", args.list)).into());
    }
    let registry =
        registries::registry(&args.registry, conf, None, Arc::default(), None).map_err(UsageError)?;
    // Whatever cannot be added is known before there is a list.
    let entries = block_on(async {
        let mut entries = Vec::new();
        for image in &args.images {
            entries.extend(find(local, &registry, image, &Platform::host(), args.all).await?);
        }
        Ok(entries)
    })?;
    let name = name.to_string();
    if args.replace {
        local.store().untag(&name)?;
    }
    let list = local.store().create_list(&name, args.amend)?;
    if !entries.is_empty() {
        put(local, &list, entries)?;
    }
    print(&format!("{}\n", list.id.digest()))
}

pub(super) fn add(args: &AddArgs, local: &LocalImages, conf: RegistriesConf) -> Result<()> {
    let list = wanted(local, &args.list)?;
    let registry =
        registries::registry(&args.registry, conf, None, Arc::default(), None).map_err(UsageError)?;
    let platform = chosen(&args.details).map_err(UsageError)?;
    let mut entries = block_on(find(local, &registry, &args.image, &platform, args.all))?;
    // What is said of one image is not true of all of a list.
    if entries.len() == 1 {
        args.details.apply(&mut entries[0].manifest.details)?;
    }
    let Some(last) = entries.last().map(|entry| entry.manifest.digest.clone()) else {
        return Err(Error::Unusable(format!("the list {} has no image", args.image)).into());
    };
    put(local, &list, entries)?;
    print(&format!("{}: {last}\n", list.id.digest()))
}

pub(super) fn annotate(args: &AnnotateArgs, local: &LocalImages) -> Result<()> {
    let list = wanted(local, &args.list)?;
    let digest = match args.image.parse::<Digest>() {
        Ok(digest) => digest,
        Err(_) => local.find(&args.image)?.manifest.digest().clone(),
    };
    local.store().change_list(&list.id, |list| {
        let entry = list.entry(&digest).ok_or_else(|| not_in(&args.list, &digest))?;
        args.details.apply(&mut entry.manifest.details).map_err(|e| Error::Unusable(format!("{e:#}")))
    })?;
    print(&format!("{}: {digest}\n", list.id.digest()))
}

fn put(local: &LocalImages, list: &ImageList, entries: Vec<ListEntry>) -> Result<()> {
    Ok(local.store().change_list(&list.id, |list| {
        entries.into_iter().for_each(|entry| list.add(entry));
        Ok(())
    })?)
}

/// Which image of a list is meant where one is: that for the platform it is said to be for.
fn chosen(details: &DetailArgs) -> Result<Platform> {
    Platform::host_but(details.os.as_deref(), details.arch.as_deref(), None).context("--os, --arch")
}

/// The image that `name` stands for, or all images of a list.
async fn find(
    local: &LocalImages,
    registry: &Registry,
    name: &str,
    platform: &Platform,
    all: bool,
) -> Result<Vec<ListEntry>> {
    let remote = match transport_of(name) {
        Some(("docker", rest)) => rest.trim_start_matches('/'),
        Some(("oci", rest)) => return in_layout(rest, name, platform, all).await,
        Some((transport, _)) => {
            return Err(Error::Unusable(format!(
                "{name}: an image of {transport}: cannot be added to a list; name one on a registry, oci:DIR[:REF], or one \
                 that was built here"
            ))
            .into());
        }
        None => {
            if let Some(list) = local.find_list(name)? {
                if all {
                    return Ok(list.entries);
                }
                let chosen = list.select(platform, name).context(CHOOSE)?;
                return Ok(vec![chosen.clone()]);
            }
            if let Some(image) = local.find_named(name)? {
                return Ok(vec![recorded(&image)?]);
            }
            // By its ID.
            if !name.contains('/')
                && let Ok(image) = local.find(name)
            {
                return Ok(vec![recorded(&image)?]);
            }
            name
        }
    };
    let source = registry.image(remote)?;
    chosen_of(&source, name, platform, all, |digest| on_registry(&source.locator(), digest)).await
}

/// As [`find`], in an OCI layout.
async fn in_layout(rest: &str, name: &str, platform: &Platform, all: bool) -> Result<Vec<ListEntry>> {
    let (directory, reference) = split_reference(rest);
    let directory = std::path::absolute(directory).with_context(|| name.to_owned())?;
    let source = LayoutSource::new(directory.clone(), reference.map(str::to_owned));
    let place = |digest: &Digest| Ok(LayoutSource::new(directory.clone(), Some(digest.to_string())).name());
    chosen_of(&source, name, platform, all, place).await
}

/// The image of a source, or all of them; `place` says by what a later process finds the image of a digest.
async fn chosen_of(
    source: &dyn ImageSource,
    name: &str,
    platform: &Platform,
    all: bool,
    place: impl Fn(&Digest) -> Result<String>,
) -> Result<Vec<ListEntry>> {
    let entry = |manifest: ManifestEntry| -> Result<ListEntry> {
        if is_index(&manifest.media_type) {
            let text = format!("{} has a list within the list: add that one by itself", source.name());
            return Err(Error::Unusable(text).into());
        }
        Ok(ListEntry { place: ListedPlace::Image(place(&manifest.digest)?), manifest })
    };
    let Some(entries) = source.index().await? else {
        let image = source.resolve(platform).await?;
        return Ok(vec![entry(ManifestEntry::new(&image.descriptor, details(&image.config)))?]);
    };
    if all {
        let mut listed = Vec::new();
        for mut manifest in entries {
            // As buildah does: registries refuse an entry that does not say what it is for.
            if manifest.platform().is_none() && !is_index(&manifest.media_type) {
                let said = source.platform_of(&manifest).await?;
                manifest.details.platform = said.or(manifest.details.platform);
            }
            listed.push(entry(manifest)?);
        }
        return Ok(listed);
    }
    let mut selection = Selection::new(&entries, platform);
    while let Some(unknown) = selection.next_unknown() {
        selection.learn(source.platform_of(unknown).await?.as_ref());
    }
    let mut chosen = selection.chosen(name).context(CHOOSE)?.clone();
    if chosen.platform().is_none() {
        chosen.details.platform = source.platform_of(&chosen).await?.or(chosen.details.platform);
    }
    Ok(vec![entry(chosen)?])
}

fn recorded(image: &ImageRecord) -> Result<ListEntry> {
    let manifest = ManifestEntry::new(&image.manifest, details(&image.config()?));
    Ok(ListEntry { manifest, place: ListedPlace::Record })
}

fn details(config: &ImageConfig) -> EntryDetails {
    EntryDetails { platform: Some(EntryPlatform::of_config(config)), ..EntryDetails::default() }
}

/// An image on a registry by its digest: a tag may name another one by the time it is pushed.
fn on_registry(locator: &str, digest: &Digest) -> Result<String> {
    let reference: Reference = locator.trim_start_matches("docker://").parse()?;
    Ok(format!("docker://{}/{}@{digest}", reference.registry(), reference.repository()))
}
