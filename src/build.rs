//! `crossdock build`: Containerfile and context to an image at its destinations.

use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use crossdock_builder::containerfile::Containerfile;
use crossdock_builder::{
    AssembleOptions, Assembly, Context, IgnoreFile, LayerOptions, PlanOptions, assemble, plan, to_assembly,
};
use crossdock_registry::Registry;
use crossdock_storage::{Counters, ImageSink, IndexStore, MemoStore, Platform, ReadOptions};
use jiff::Timestamp;

use crate::args::{BuildArgs, ConfArgs, ProgressStyle};
use crate::bases::Bases;
use crate::destination::Destination;
use crate::exit::UsageError;
use crate::local::LocalImages;
use crate::options::{BuildOptions, ContainerfileAt};
use crate::report::Report;
use crate::session::{block_on, interruptible, print, root_directory, write_digest};
use crate::usage::Usage;
use crate::{progress, registries};

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(args: &BuildArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let options = BuildOptions::new(args, |name| std::env::var(name).ok()).map_err(UsageError)?;
    let counters = Arc::<Counters>::default();
    let destination = options.destinations.iter().find_map(Destination::registry);
    let root = root_directory(root);
    let registry =
        registries::registry(&args.registry, conf, destination, Arc::clone(&counters), root.as_deref())
            .map_err(UsageError)?;
    let report = block_on(build(&options, &registry, root.as_deref(), counters))?;
    finish(&options, &report)
}

async fn build(
    options: &BuildOptions,
    registry: &Registry,
    root: Option<&Path>,
    counters: Arc<Counters>,
) -> Result<Report> {
    let began = Instant::now();
    let local = LocalImages::new(root);
    let bases = Bases {
        registry: registry.clone(),
        indexes: root.map(IndexStore::new),
        local: local.as_ref().ok().cloned(),
    };
    let sinks = options
        .destinations
        .iter()
        .map(|destination| destination.sink(registry, options.preflight))
        .collect::<Result<Vec<_>>>()?;
    let mut assembly = plan_image(options, &bases, &sinks).await?;
    let settings = AssembleOptions {
        read: ReadOptions { io: options.io, counters: Arc::clone(&counters) },
        jobs: options.jobs,
        memos: root.filter(|_| options.memo).map(MemoStore::new),
        progress: progress::display(options.progress, options.quiet),
    };
    let mut last = None;
    for sink in &sinks {
        let assembled = interruptible(sink.as_ref(), assemble(&assembly, sink.as_ref(), &settings)).await?;
        assembly.learn(&assembled);
        last = Some(assembled);
    }
    let assembled = last.context("there is no destination")?;
    let mut names: Vec<_> = options.destinations.iter().flat_map(Destination::names).collect();
    let recorded = match (&local, options.records()) {
        (Ok(local), true) => {
            local.record(&assembly, &assembled, &options.names)?;
            names.clone_from(&options.names);
            true
        }
        (Err(_), true) => {
            tracing::warn!("the image is not remembered: give --root DIR, or set HOME");
            false
        }
        (_, false) => false,
    };
    Ok(Report {
        names,
        recorded,
        digest: assembled.manifest.digest().clone(),
        image_id: assembled.config.digest().clone(),
        layers: assembled.layers,
        read: counters.read(),
        sent: counters.sent(),
        received: counters.received(),
        usage: Usage::now(),
        elapsed: began.elapsed(),
    })
}

async fn plan_image(options: &BuildOptions, bases: &Bases, sinks: &[Box<dyn ImageSink>]) -> Result<Assembly> {
    let file = containerfile(&options.containerfile)?;
    let plan_options = plan_options(options);
    // What is refused is refused before the context is looked at.
    crossdock_builder::check(&file, &plan_options)?;
    let given = match &options.containerfile {
        ContainerfileAt::File(path) => Some(path.as_path()),
        ContainerfileAt::StandardInput => None,
    };
    let ignore = IgnoreFile::find(&options.context, given, options.ignorefile.as_deref())?;
    let context = Context::open(&options.context, ignore)?;
    // A credential that is missing shows before the context and the base's layers are looked through.
    for sink in sinks {
        sink.admit().await?;
    }
    let image = plan(&file, &context, &plan_options, bases).await?;
    if !options.quiet {
        for warning in file
            .warnings
            .iter()
            .map(ToString::to_string)
            .chain(image.warnings.iter().map(ToString::to_string))
        {
            tracing::warn!("{warning}");
        }
    }
    let layer_options = LayerOptions {
        layer_file_size: (!options.squash).then_some(options.layer_file_size),
        mtime: options.timestamp.unwrap_or(0),
        compression: options.compression,
        format: options.format,
        annotations: options.annotations.clone(),
    };
    Ok(to_assembly(image, &layer_options)?)
}

fn containerfile(at: &ContainerfileAt) -> Result<Containerfile> {
    let (name, text) = match at {
        ContainerfileAt::StandardInput => {
            let mut text = Vec::new();
            std::io::stdin()
                .lock()
                .read_to_end(&mut text)
                .context("cannot read the Containerfile from standard input")?;
            ("-".to_owned(), text)
        }
        ContainerfileAt::File(path) => {
            let name = path
                .file_name()
                .map_or_else(|| path.display().to_string(), |n| n.to_string_lossy().into_owned());
            (name, std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))?)
        }
    };
    Containerfile::parse(name, &text).map_err(|error| crossdock_builder::Error::from(error).into())
}

fn plan_options(options: &BuildOptions) -> PlanOptions {
    let now = match options.timestamp {
        Some(seconds) => i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()),
        None => Some(Timestamp::now()),
    };
    let mut plan = PlanOptions::new(options.platform.clone());
    plan.build_args.clone_from(&options.build_args);
    plan.build_contexts.clone_from(&options.build_contexts);
    plan.labels.clone_from(&options.labels);
    plan.build_platform = Platform::host();
    plan.target.clone_from(&options.target);
    plan.created = now.map(|time| time.to_string());
    plan.squash = options.squash;
    plan
}

/// Writes the files that were asked for, then the report.
fn finish(options: &BuildOptions, report: &Report) -> Result<()> {
    write_digest(options.digestfile.as_deref(), &report.digest)?;
    write_digest(options.iidfile.as_deref(), &report.image_id)?;
    print(&if options.quiet {
        // What a script goes on with: the image where it is, or the one to push.
        if options.records() {
            format!("{}\n", report.image_id.digest())
        } else {
            format!("{}\n", report.digest)
        }
    } else if options.progress == ProgressStyle::Json {
        format!("{}\n", report.json())
    } else {
        report.text()
    })
}
