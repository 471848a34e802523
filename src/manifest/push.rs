//! A list goes where it belongs: its images first, what they share once, and the index last.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use crossdock_builder::{send_index, send_index_alone};
use crossdock_registry::RegistriesConf;
use crossdock_storage::{Counters, ImageList, ManifestEntry, ManifestFormat};

use super::{PushListArgs, wanted};
use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::report::{Effort, ListReport, ListedReport};
use crate::send::{SendArgs, SendOptions};
use crate::signals::{self, block_on_to_end};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// The format of a list that is not told: Docker's, where all images are Docker's and it has a place for what is said
/// of them.
pub(super) fn format_of<'a>(mut entries: impl Iterator<Item = &'a ManifestEntry> + Clone) -> ManifestFormat {
    let some = entries.clone().next().is_some();
    let docker = entries
        .all(|entry| entry.media_type.to_string() == DOCKER_MANIFEST && entry.details.annotations.is_empty());
    if some && docker { ManifestFormat::Docker } else { ManifestFormat::Oci }
}

pub(super) const fn media_type(format: ManifestFormat) -> &'static str {
    match format {
        ManifestFormat::Oci => OCI_INDEX,
        ManifestFormat::Docker => DOCKER_LIST,
    }
}

/// A push of a list as it was asked for.
#[derive(Debug)]
pub(crate) struct ListPush<'a> {
    pub(crate) send: &'a SendArgs,
    pub(crate) options: &'a SendOptions,
    /// Whether the images go too.
    pub(crate) all: bool,
}

pub(super) fn run(
    args: &PushListArgs,
    local: &LocalImages,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<()> {
    let list = wanted(local, &args.list)?;
    let options = args.send.options(&args.list, args.destination.as_deref(), None).map_err(UsageError)?;
    let push = ListPush { send: &args.send, options: &options, all: args.all };
    signals::moves_tags();
    let report = block_on_to_end(push_list(&push, local, &list, root, conf))?;
    args.send.tell(&options, &report)?;
    if args.rm {
        local.store().remove(&list.id)?;
    }
    Ok(())
}

/// Sends a list.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) async fn push_list(
    push: &ListPush<'_>,
    local: &LocalImages,
    list: &ImageList,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<ListReport> {
    let began = Instant::now();
    let counters = Arc::<Counters>::default();
    let ListPush { send, options, all } = push;
    let registry = send.registry(options, conf, &counters, root)?;
    let sink = options.destination.sink(&registry, options.preflight, &[])?;
    let cancel = signals::cancel();
    cancel.or(sink.admit()).await?;
    let settings = send.assembling(options, &counters, root);
    let entries = list.entries.iter().map(|entry| &entry.manifest);
    let format = options.conversion.format.unwrap_or_else(|| format_of(entries.clone()));
    let mut images = Vec::new();
    if *all {
        for entry in &list.entries {
            images.push(cancel.or(local.listed(entry, &registry)).await?);
        }
    }
    let sent = if *all {
        send_index(&images, options.conversion, format, &sink, &settings).await?
    } else {
        let entries: Vec<_> = entries.cloned().collect();
        send_index_alone(&entries, format, &sink, &cancel).await?
    };
    signals::published(options.destination.names());
    let platforms = list.entries.iter().map(|entry| entry.manifest.platform());
    Ok(ListReport {
        names: options.destination.names(),
        recorded: None,
        digest: sent.index.digest().clone(),
        images: sent
            .images
            .into_iter()
            .zip(platforms)
            .map(|(image, platform)| ListedReport::new(platform.as_ref(), image))
            .collect(),
        models: None,
        effort: Effort::since(began, &counters),
    })
}
