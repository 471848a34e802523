//! `crossdock build`: Containerfile and context to an image at its destinations.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use crossdock_builder::containerfile::Containerfile;
use crossdock_builder::{
    AssembleOptions, Assembled, Assembly, Context, IgnoreFile, LayerOptions, PlanOptions, assemble, plan,
    to_assembly,
};
use crossdock_registry::Registry;
use crossdock_storage::{
    Abort, ArchiveSink, Counters, DigestSink, ImageSink, IndexStore, LayoutSink, MemoStore, Platform,
    ReadOptions,
};
use jiff::Timestamp;

use crate::args::{BuildArgs, ConfArgs, ProgressStyle};
use crate::bases::Bases;
use crate::exit::{Interrupted, UsageError};
use crate::options::{BuildOptions, ContainerfileAt, Destination};
use crate::report::Report;
use crate::usage::Usage;
use crate::{progress, registries};

/// How long uploads may take to be cancelled when the build is interrupted.
const CANCEL: Duration = Duration::from_secs(5);

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(args: &BuildArgs, root: Option<&Path>, conf: &ConfArgs) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let options = BuildOptions::new(args, |name| std::env::var(name).ok()).map_err(UsageError)?;
    let counters = Arc::<Counters>::default();
    let destination = options.destinations.iter().find_map(|destination| match destination {
        Destination::Registry(references) => references.first().map(|r| r.registry().to_owned()),
        _ => None,
    });
    let root = root_directory(root);
    let registry = registries::registry(
        &args.registry,
        conf,
        destination.as_deref(),
        Arc::clone(&counters),
        root.as_deref(),
    )
    .map_err(UsageError)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let result = runtime.block_on(build(&options, &registry, root.as_deref(), counters));
    // A thread that reads or hashes on for nobody, or waits for a slow disk, is no reason to wait.
    runtime.shutdown_background();
    finish(&options, &result?)
}

/// `--root`, else the user's data directory as the XDG base directory specification has it; without a home, nothing
/// is remembered.
fn root_directory(root: Option<&Path>) -> Option<PathBuf> {
    let variable = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    root.map(Path::to_path_buf)
        .or_else(|| variable("XDG_DATA_HOME").map(|data| data.join("crossdock")))
        .or_else(|| variable("HOME").map(|home| home.join(".local/share/crossdock")))
}

async fn build(
    options: &BuildOptions,
    registry: &Registry,
    root: Option<&Path>,
    counters: Arc<Counters>,
) -> Result<Report> {
    let began = Instant::now();
    let bases = Bases { registry: registry.clone(), indexes: root.map(IndexStore::new) };
    let sinks = sinks(options, registry)?;
    let assembly = plan_image(options, &bases, &sinks).await?;
    let settings = AssembleOptions {
        read: ReadOptions { io: options.io, counters: Arc::clone(&counters) },
        jobs: options.jobs,
        memos: root.map(MemoStore::new),
        progress: progress::display(options.progress, options.quiet),
    };
    let mut assembled = None;
    for sink in &sinks {
        assembled = Some(interruptible(&assembly, sink.as_ref(), &settings).await?);
    }
    let Assembled { manifest, config, layers, .. } = assembled.context("there is no destination")?;
    Ok(Report {
        names: names(&options.destinations),
        digest: manifest.digest().clone(),
        image_id: config.digest().clone(),
        layers,
        read: counters.read(),
        sent: counters.sent(),
        received: counters.received(),
        usage: Usage::now(),
        elapsed: began.elapsed(),
    })
}

/// Assembles into one sink; SIGINT and SIGTERM end it cleanly.
async fn interruptible(
    assembly: &Assembly,
    sink: &dyn ImageSink,
    settings: &AssembleOptions,
) -> Result<Assembled> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let signal = tokio::select! {
        result = assemble(assembly, sink, settings) => return result.map_err(Into::into),
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
    };
    tracing::warn!("interrupted: cancelling uploads");
    // A second signal, or a registry that does not answer, ends it at once.
    tokio::select! {
        () = sink.abort(Abort::Interrupted) => {}
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
        () = tokio::time::sleep(CANCEL) => {}
    }
    Err(Interrupted(u8::try_from(signal.as_raw_value()).unwrap_or(2)).into())
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
    plan.labels.clone_from(&options.labels);
    plan.build_platform = Platform::host();
    plan.target.clone_from(&options.target);
    plan.created = now.map(|time| time.to_string());
    plan.squash = options.squash;
    plan
}

fn sinks(options: &BuildOptions, registry: &Registry) -> Result<Vec<Box<dyn ImageSink>>> {
    if options.destinations.is_empty() {
        return Ok(vec![Box::new(DigestSink)]);
    }
    options
        .destinations
        .iter()
        .map(|destination| -> Result<Box<dyn ImageSink>> {
            Ok(match destination {
                Destination::Registry(references) => {
                    let sink = registry.sink(references)?;
                    Box::new(if options.preflight { sink } else { sink.without_preflight() })
                }
                Destination::Layout { directory, reference } => {
                    Box::new(LayoutSink::new(directory, reference.clone()))
                }
                Destination::Archive { path, kind, names } => {
                    Box::new(ArchiveSink::new(path, *kind, names.clone()))
                }
            })
        })
        .collect()
}

fn names(destinations: &[Destination]) -> Vec<String> {
    destinations
        .iter()
        .flat_map(|destination| match destination {
            Destination::Registry(references) => {
                references.iter().map(ToString::to_string).collect::<Vec<_>>()
            }
            Destination::Layout { directory, reference } => {
                vec![LayoutSink::new(directory, reference.clone()).name()]
            }
            Destination::Archive { path, kind, .. } => vec![ArchiveSink::new(path, *kind, Vec::new()).name()],
        })
        .collect()
}

/// Writes the files that were asked for, then the report.
fn finish(options: &BuildOptions, report: &Report) -> Result<()> {
    for (file, text) in [(&options.digestfile, &report.digest), (&options.iidfile, &report.image_id)] {
        if let Some(file) = file {
            // Without a newline, as buildah writes them.
            std::fs::write(file, text.to_string())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    let text = if options.quiet {
        format!("{}\n", report.digest)
    } else if options.progress == ProgressStyle::Json {
        format!("{}\n", report.json())
    } else {
        report.text()
    };
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        // Who closed the pipe has read what it wanted; the image is where it belongs.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        result => result.context("cannot write to standard output"),
    }?;
    Ok(())
}
