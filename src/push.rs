//! `crossdock push`: an image that is remembered here goes where it belongs, from the files it is made of.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result, anyhow, bail};
use crossdock_builder::{AssembleOptions, Conversion, send};
use crossdock_registry::RegistriesConf;
use crossdock_storage::{Counters, ImageRecord, IoMode, MemoStore, Platform, ReadOptions};

use crate::args::{ConfArgs, ProgressStyle, PushArgs};
use crate::destination::{Destination, pushable, transport_of};
use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::manifest::{ListPush, push_list};
use crate::options::{compression, writable};
use crate::report::Report;
use crate::session::{block_on, interruptible, print, print_aside, root_directory, write_digest};
use crate::usage::Usage;
use crate::{progress, registries};

/// A push as it was asked for.
struct PushOptions {
    destination: Destination,
    conversion: Conversion,
    digestfile: Option<PathBuf>,
    io: IoMode,
}

impl PushOptions {
    fn new(args: &PushArgs) -> Result<Self> {
        let format = match &args.format {
            Some(format) => Some(format.parse().map_err(|e: String| anyhow!("--format: {e}"))?),
            None => None,
        };
        let wanted = match &args.compression_format {
            Some(format) => Some(format.as_str()),
            None => args.disable_compression.then_some("none"),
        };
        let destination = destination(&args.image, args.destination.as_deref())?;
        Ok(Self {
            conversion: Conversion {
                format: destination.format(format)?,
                compression: wanted.map(|format| compression(format, args.compression_level)).transpose()?,
            },
            destination,
            digestfile: writable(args.digestfile.as_deref(), "--digestfile")?,
            io: args.work.io.parse().map_err(|e: String| anyhow!("--io: {e}"))?,
        })
    }
}

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(args: &PushArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let root = root_directory(root);
    let local = LocalImages::new(root.as_deref())?;
    let image = match local.find_list(&args.image)? {
        Some(list) if args.all => {
            let options = PushOptions::new(args).map_err(UsageError)?;
            let push = ListPush {
                name: &args.image,
                destination: args.destination.as_deref(),
                all: true,
                format: args.format.as_deref(),
                compression: options.conversion.compression,
                digestfile: args.digestfile.as_deref(),
                preflight: !args.no_preflight,
                registry: &args.registry,
                work: &args.work,
                quiet: args.quiet,
                report_on_stderr: args.report_on_stderr,
            };
            return push_list(&push, &local, &list, root.as_deref(), conf);
        }
        // As buildah does: the one that runs here.
        Some(list) => local.member(list.select(&Platform::host()).with_context(|| {
            format!("the list {} has no image for this machine: use --all to push all of it", args.image)
        })?)?,
        None => local.find(&args.image)?,
    };
    let options = PushOptions::new(args).map_err(UsageError)?;
    let report = block_on(push(args, &options, &local, &image, root.as_deref(), conf))?;
    write_digest(options.digestfile.as_deref(), &report.digest)?;
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

async fn push(
    args: &PushArgs,
    options: &PushOptions,
    local: &LocalImages,
    image: &ImageRecord,
    root: Option<&Path>,
    conf: RegistriesConf,
) -> Result<Report> {
    let began = Instant::now();
    let counters = Arc::<Counters>::default();
    let destination = &options.destination;
    let registry =
        registries::registry(&args.registry, conf, destination.registry(), Arc::clone(&counters), root)
            .map_err(UsageError)?;
    let sealed = local.sealed(image, &registry)?;
    let sink = destination.sink(&registry, !args.no_preflight)?;
    let settings = AssembleOptions {
        read: ReadOptions { io: options.io, counters: Arc::clone(&counters) },
        jobs: args.work.jobs(),
        memos: root.map(MemoStore::new),
        progress: progress::display(args.work.progress, args.quiet),
    };
    let sending = send(&sealed, options.conversion, sink.as_ref(), &settings);
    let sent = interruptible(sink.as_ref(), sending).await?;
    Ok(Report {
        names: destination.names(),
        recorded: false,
        digest: sent.manifest.digest().clone(),
        image_id: sent.config.digest().clone(),
        layers: sent.layers,
        read: counters.read(),
        sent: counters.sent(),
        received: counters.received(),
        usage: Usage::now(),
        elapsed: began.elapsed(),
    })
}

/// Where the image goes; by its own name where nothing is said.
pub(crate) fn destination(image: &str, destination: Option<&str>) -> Result<Destination> {
    let text = destination.unwrap_or(image);
    if let Some((transport, rest)) = transport_of(text) {
        if transport != "docker" {
            return Destination::on_disk(text, &[]);
        }
        if !rest.starts_with("//") {
            bail!("{text}: write docker://{rest}");
        }
    }
    Ok(Destination::Registry(vec![pushable(text).with_context(|| text.to_owned())?]))
}
