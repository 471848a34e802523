//! A list goes where it belongs: its images first, what they share once, and the index last.

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Result, anyhow};
use crossdock_builder::{AssembleOptions, Conversion, send_index, send_index_alone};
use crossdock_registry::RegistriesConf;
use crossdock_storage::{
    Compression, Counters, ImageList, ManifestEntry, ManifestFormat, MemoStore, ReadOptions,
};

use super::{PushListArgs, wanted};
use crate::args::{ProgressStyle, RegistryArgs, WorkArgs};
use crate::destination::Destination;
use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::options::{compression, writable};
use crate::report::{ListReport, ListedReport};
use crate::session::{block_on, interruptible, print, print_aside, write_digest};
use crate::usage::Usage;
use crate::{progress, registries};

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
    /// As the user names it.
    pub(crate) name: &'a str,
    pub(crate) destination: Option<&'a str>,
    /// Whether the images go too.
    pub(crate) all: bool,
    pub(crate) format: Option<&'a str>,
    pub(crate) compression: Option<Compression>,
    pub(crate) digestfile: Option<&'a Path>,
    pub(crate) preflight: bool,
    pub(crate) registry: &'a RegistryArgs,
    pub(crate) work: &'a WorkArgs,
    pub(crate) quiet: bool,
    /// As buildah has it.
    pub(crate) report_on_stderr: bool,
}

pub(super) fn run(
    args: &PushListArgs,
    local: &LocalImages,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<()> {
    let list = wanted(local, &args.list)?;
    let wanted = args.compression_format.as_deref();
    let compression =
        wanted.map(|format| compression(format, args.compression_level)).transpose().map_err(UsageError)?;
    let push = ListPush {
        name: &args.list,
        destination: args.destination.as_deref(),
        all: args.all,
        format: args.format.as_deref(),
        compression,
        digestfile: args.digestfile.as_deref(),
        preflight: !args.no_preflight,
        registry: &args.registry,
        work: &args.work,
        quiet: args.quiet,
        report_on_stderr: args.report_on_stderr,
    };
    push_list(&push, local, &list, root, conf)?;
    if args.rm {
        local.store().remove(&list.id)?;
    }
    Ok(())
}

fn format(text: Option<&str>) -> Result<Option<ManifestFormat>> {
    let parsed = text.map(|format| format.parse().map_err(|e: String| anyhow!("--format: {e}")));
    Ok(parsed.transpose().map_err(UsageError)?)
}

/// Sends a list, and says what came of it.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn push_list(
    args: &ListPush<'_>,
    local: &LocalImages,
    list: &ImageList,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<()> {
    let conversion = Conversion { format: format(args.format)?, compression: args.compression };
    let destination = crate::push::destination(args.name, args.destination).map_err(UsageError)?;
    let digestfile = writable(args.digestfile, "--digestfile").map_err(UsageError)?;
    let report = block_on(send(args, conversion, &destination, local, list, root, conf))?;
    write_digest(digestfile.as_deref(), &report.digest)?;
    if args.quiet {
        return Ok(());
    }
    let text = if args.work.progress == ProgressStyle::Json {
        format!("{}\n", report.json())
    } else {
        report.text()
    };
    if args.report_on_stderr { print_aside(&text) } else { print(&text) }
}

async fn send(
    args: &ListPush<'_>,
    conversion: Conversion,
    destination: &Destination,
    local: &LocalImages,
    list: &ImageList,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<ListReport> {
    let began = Instant::now();
    let counters = Arc::<Counters>::default();
    let registry =
        registries::registry(args.registry, conf, destination.registry(), Arc::clone(&counters), root)
            .map_err(UsageError)?;
    let sink = destination.sink(&registry, args.preflight)?;
    sink.admit().await?;
    let io = args.work.io.parse().map_err(|e: String| UsageError(anyhow!("--io: {e}")))?;
    let settings = AssembleOptions {
        read: ReadOptions { io, counters: Arc::clone(&counters) },
        jobs: args.work.jobs(),
        memos: root.map(MemoStore::new),
        progress: progress::display(args.work.progress, args.quiet),
    };
    let entries = list.entries.iter().map(|entry| &entry.manifest);
    let format = conversion.format.unwrap_or_else(|| format_of(entries.clone()));
    let mut images = Vec::new();
    if args.all {
        for entry in &list.entries {
            images.push(local.listed(entry, &registry).await?);
        }
    }
    let sink = sink.as_ref();
    let sent = if args.all {
        interruptible(sink, send_index(&images, conversion, format, sink, &settings)).await?
    } else {
        let entries: Vec<_> = entries.cloned().collect();
        interruptible(sink, send_index_alone(&entries, format, sink)).await?
    };
    let platforms = list.entries.iter().map(|entry| entry.manifest.platform());
    Ok(ListReport {
        names: destination.names(),
        recorded: None,
        digest: sent.index.digest().clone(),
        images: sent
            .images
            .into_iter()
            .zip(platforms)
            .map(|(image, platform)| ListedReport::new(platform.as_ref(), image))
            .collect(),
        read: counters.read(),
        sent: counters.sent(),
        received: counters.received(),
        usage: Usage::now(),
        elapsed: began.elapsed(),
    })
}
