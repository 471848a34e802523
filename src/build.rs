//! `crossdock build`: Containerfile and context to an image at its destinations.

mod plan;
mod record;

use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use crossdock_builder::{
    Ahead, AssembleOptions, Assembled, Assembly, Listed, OwnPaths, Trust, assemble, assemble_index,
    describe_index,
};
use crossdock_registry::Registry;
use crossdock_storage::{
    Abort, Counters, Descriptor, Digest, EntryDetails, Error as StorageError, ImageSink, IndexStore,
    MemoStore, Platform, ReadOptions, Result as StorageResult, Warnings, escape_controls, write_file,
};

use crate::args::{BuildArgs, ConfArgs, ProgressStyle};
use crate::bases::Bases;
use crate::context::ContextAt;
use crate::destination::Destination;
use crate::exit::{Strict, UsageError};
use crate::local::LocalImages;
use crate::model::Models;
use crate::options::BuildOptions;
use crate::report::{Effort, ListReport, ListedReport, Report, Told};
use crate::session::{leave_stdout_alone, print, print_data, root_directory, write_digest};
use crate::signals::{block_on, block_on_to_end};
use crate::{dry_run, environment, message, part, progress, registries, signals};

pub(crate) use plan::{PlannedPlatform, plan_images};
pub(crate) use record::is_fleeting;
use record::{recordable, remember, remember_sent};

/// Runs the command.
///
/// # Errors
/// All that can go wrong; `exit::code` sorts it.
pub(crate) fn run(
    args: &BuildArgs,
    root: Option<&Path>,
    kept_out: Option<&Path>,
    conf: &ConfArgs,
) -> Result<()> {
    let conf = registries::conf(conf).map_err(UsageError)?;
    let mut options = BuildOptions::new(args, environment::passed_on).map_err(UsageError)?;
    options.own = own_paths(&options, kept_out);
    options.spool = root_directory(root);
    let counters = Arc::<Counters>::default();
    let destination = options.destinations.iter().find_map(Destination::registry);
    let root = root_directory(root);
    let registry =
        registries::registry(&args.registry, conf, destination, Arc::clone(&counters), root.as_deref())
            .map_err(UsageError)?;
    let options = Arc::new(options);
    if options.dry_run {
        return block_on(dry_run::run(&options, &registry, root.as_deref(), &counters));
    }
    if options.stdout {
        leave_stdout_alone();
    }
    signals::moves_tags();
    let began = Instant::now();
    let local = LocalImages::new(root.as_deref());
    if let Some(part) = options.part {
        let work = part::send(part, &options, &registry, root.as_deref(), &local, &counters);
        return part::tell(&options, &block_on_to_end(work)?, &Effort::since(began, &counters));
    }
    let built = block_on_to_end(build(&options, &registry, root.as_deref(), &local, &counters))?;
    match report(&options, &local, built, Effort::since(began, &counters))? {
        Done::Image(report) => finish(&options, &report),
        Done::List(report) => finish_list(&options, &report),
    }
}

/// What came out.
enum Done {
    Image(Report),
    List(ListReport),
}

/// Images that are where they belong.
struct Built {
    models: Models,
    images: Vec<(Platform, Assembly)>,
    /// The index, where there is one.
    index: Option<Descriptor>,
    assembled: Vec<Assembled>,
}

/// Images that are planned, and the sinks that they go to.
pub(crate) struct Prepared {
    pub(crate) sinks: Vec<Arc<dyn ImageSink>>,
    pub(crate) images: Vec<(Platform, Assembly)>,
    pub(crate) models: Models,
    /// Images whose digests are taken.
    pub(crate) trust: Option<Arc<Trust>>,
    /// What was warned of so far.
    pub(crate) warnings: Warnings,
}

/// Does all that comes before the first file is read.
pub(crate) async fn prepare(
    options: &Arc<BuildOptions>,
    registry: &Registry,
    root: Option<&Path>,
    local: &Result<LocalImages>,
) -> Result<Prepared> {
    let sinks = options
        .destinations
        .iter()
        .map(|destination| destination.sink(registry, options.preflight, &options.reuse.from))
        .collect::<Result<Vec<_>>>()?;
    let cancel = signals::cancel();
    let warnings = Warnings::default();
    // With --strict nothing goes ahead of the plan, and of a part nothing but its own layers.
    let ahead = !options.strict && options.part.is_none();
    let bases = Bases {
        registry: registry.clone(),
        indexes: root.map(IndexStore::new),
        local: local.as_ref().ok().cloned(),
        pull: options.pull,
        ahead: Ahead {
            sink: sinks.iter().find(|sink| sink.takes_ahead() && ahead).cloned(),
            jobs: options.jobs,
            progress: progress::display_of_bases(options.progress, options.quiet),
            cancel: cancel.clone(),
            warnings: warnings.clone(),
        },
    };
    let destinations: Vec<_> = sinks.iter().map(AsRef::as_ref).collect();
    let planned = async {
        let (planned, models) = plan_images(options, &bases, &sinks).await?;
        cancel.or(settle_warnings(options, &planned, &destinations, &warnings)).await?;
        anyhow::Ok((planned, models))
    }
    .await;
    if planned.is_err()
        && let Some(sink) = &bases.ahead.sink
    {
        let why = if cancel.is_cancelled() { Abort::Interrupted } else { Abort::Failed };
        cancel.cleaning(sink.abort(why)).await;
    }
    let (planned, models) = planned?;
    drop(bases);
    let platforms: Vec<_> = planned.iter().map(|planned| &planned.platform).collect();
    let trust = cancel.or(options.reuse.trust(registry, &platforms)).await?;
    let images = planned.into_iter().map(|planned| (planned.platform, planned.assembly)).collect();
    Ok(Prepared { sinks, images, models, trust, warnings })
}

/// How the layers are read and put.
pub(crate) fn settings(
    options: &BuildOptions,
    memos: Option<MemoStore>,
    trust: Option<Arc<Trust>>,
    counters: &Arc<Counters>,
    warnings: Warnings,
) -> AssembleOptions {
    let cancel = signals::cancel();
    AssembleOptions {
        read: ReadOptions {
            io: options.io,
            counters: Arc::clone(counters),
            cancel: cancel.clone(),
            digest_content: options.modelcar.is_some(),
        },
        jobs: options.jobs,
        memos,
        trust,
        progress: progress::display(options.progress, options.quiet),
        cancel,
        warnings,
    }
}

async fn build(
    options: &Arc<BuildOptions>,
    registry: &Registry,
    root: Option<&Path>,
    local: &Result<LocalImages>,
    counters: &Arc<Counters>,
) -> Result<Built> {
    let Prepared { sinks, mut images, models, trust, warnings } =
        prepare(options, registry, root, local).await?;
    if options.records() {
        recordable(options, local)?;
        if options.is_named() && images.iter().any(|(_, image)| is_fleeting(image)) {
            return Err(StorageError::Unusable(
                "the image cannot be remembered: its files came through a pipe, and are gone when this build ends; add --push or --output, or redirect a file: crossdock build - < FILE".to_owned(),
            )
            .into());
        }
    }
    let mut parts = part::find(options, images.iter().map(|(_, image)| image), root, &warnings).await?;
    let memos = options.memos(root).map(|memos| match &mut parts {
        Some(parts) => memos.bringing(parts.memos()),
        None => memos,
    });
    let settings = settings(options, memos, trust, counters, warnings);
    let mut last = None;
    for (sink, destination) in sinks.iter().zip(&options.destinations) {
        let assembled = put(options, &images, sink, &settings).await?;
        signals::published(destination.names());
        if let Some(parts) = &parts {
            parts.tell_lost(images.iter().map(|(_, image)| image).zip(&assembled.1));
        }
        for ((_, assembly), image) in images.iter_mut().zip(&assembled.1) {
            assembly.learn(image);
        }
        last = Some(assembled);
    }
    if let Some(parts) = &parts {
        parts.done();
    }
    let (index, assembled) = last.context("there is no destination")?;
    Ok(Built { models, images, index, assembled })
}

/// Adds what the destinations make of the images to the warnings of the plan; with `--strict` there may be none of either.
///
/// # Errors
/// [`Strict`]; where a destination is known to refuse an image.
pub(crate) async fn settle_warnings(
    options: &BuildOptions,
    planned: &[PlannedPlatform],
    destinations: &[&dyn ImageSink],
    warnings: &Warnings,
) -> Result<()> {
    for sink in destinations {
        for image in planned {
            let of_image = crossdock_builder::warnings(&image.assembly, *sink).await?;
            of_image.into_iter().for_each(|warning| warnings.add(warning));
        }
    }
    match warnings.all() {
        all if options.strict && !all.is_empty() => Err(Strict::new(all).into()),
        _ => Ok(()),
    }
}

/// Remembers what was built, where that is asked for, and says what came out.
fn report(options: &BuildOptions, local: &Result<LocalImages>, built: Built, effort: Effort) -> Result<Done> {
    let Built { models, images, index, assembled } = built;
    let mut names: Vec<_> = options.destinations.iter().flat_map(Destination::names).collect();
    let recorded = if options.records() {
        remember(options, local, &images, &assembled)?
    } else {
        remember_sent(options, local, &images, &assembled);
        None
    };
    if recorded.is_some() {
        names = options.manifest.iter().filter(|_| options.listed).chain(&options.names).cloned().collect();
    }
    Ok(match index {
        Some(index) => Done::List(ListReport {
            names,
            // The list may have had images before.
            digest: match &recorded {
                Some(Some(list)) => {
                    let entries: Vec<_> = list.entries.iter().map(|entry| entry.manifest.clone()).collect();
                    describe_index(options.format, &entries).digest().clone()
                }
                _ => index.digest().clone(),
            },
            recorded: recorded.flatten().map(|list| list.id),
            images: images
                .into_iter()
                .zip(assembled)
                .map(|((platform, _), image)| ListedReport::new(Some(&platform), image))
                .collect(),
            models: Some(models),
            effort,
        }),
        None => {
            let image = assembled.into_iter().next().context("there is no image")?;
            Done::Image(Report {
                names,
                recorded: recorded.is_some(),
                digest: image.manifest.digest().clone(),
                image_id: image.config.digest().clone(),
                layers: image.layers,
                models: Some(models),
                effort,
            })
        }
    })
}

/// Puts the image, or the list of them.
async fn put(
    options: &BuildOptions,
    images: &[(Platform, Assembly)],
    sink: &Arc<dyn ImageSink>,
    settings: &AssembleOptions,
) -> StorageResult<(Option<Descriptor>, Vec<Assembled>)> {
    if let ([(_, image)], false) = (images, options.listed) {
        return Ok((None, vec![assemble(image, sink, settings).await?]));
    }
    let images: Vec<_> =
        images.iter().map(|(platform, image)| Listed { image, details: details(platform) }).collect();
    let done = assemble_index(&images, options.format, sink, settings).await?;
    Ok((Some(done.index), done.images))
}

fn details(platform: &Platform) -> EntryDetails {
    EntryDetails { platform: Some(platform.into()), ..EntryDetails::default() }
}

/// What this run writes: no part of the context, wherever that is. With `given`, the whole directory of `--root` is not,
/// whoever else keeps something there.
fn own_paths(options: &BuildOptions, given: Option<&Path>) -> OwnPaths {
    let mut own = OwnPaths::none();
    for root in given.map(Path::to_owned).into_iter().chain(root_directory(given)) {
        own.add("the directory of --root", root);
    }
    // One that an earlier run had there, and this one has elsewhere.
    if let ContextAt::Directory(context) = &options.context
        && let earlier = context.join(OwnPaths::ROOT_NAME)
        && ["memo", "images"].iter().any(|name| earlier.join(name).is_dir())
    {
        own.add("the directory of --root", earlier);
    }
    for destination in &options.destinations {
        destination.add_to(&mut own);
    }
    let files = [
        ("--part-file", &options.part_file),
        ("--digestfile", &options.digestfile),
        ("--iidfile", &options.iidfile),
        ("--iidfile-raw", &options.iidfile_raw),
        ("--logfile", &options.logfile),
    ];
    for (option, file) in files {
        if let Some(file) = file {
            own.add(&format!("what {option} writes"), file);
        }
    }
    // Where a shell sent them into a file.
    own.add("standard output", "/dev/stdout");
    own.add("standard error", "/dev/stderr");
    own
}

/// Writes the files that were asked for, then the report.
fn finish(options: &BuildOptions, report: &Report) -> Result<()> {
    write_digest(options.digestfile.as_deref(), &report.digest)?;
    write_id(options, &report.image_id)?;
    // What a script goes on with: the image where it is, or the one to push.
    let name =
        if options.records() { report.image_id.digest().to_owned() } else { report.digest.to_string() };
    tell(options, &name, report)
}

/// As [`finish`], for a list of images: its ID takes the place of the image's where it is remembered, as buildah has it.
fn finish_list(options: &BuildOptions, report: &ListReport) -> Result<()> {
    let id = report.recorded.as_ref().unwrap_or(&report.digest);
    write_digest(options.digestfile.as_deref(), &report.digest)?;
    write_id(options, id)?;
    let name = match &report.recorded {
        Some(id) => id.digest().to_owned(),
        None => report.digest.to_string(),
    };
    tell(options, &name, report)
}

fn write_id(options: &BuildOptions, id: &Digest) -> Result<()> {
    write_digest(options.iidfile.as_deref(), id)?;
    let Some(file) = &options.iidfile_raw else { return Ok(()) };
    std::fs::write(file, id.digest()).with_context(|| format!("cannot write {}", file.display()))
}

fn tell(options: &BuildOptions, name: &str, report: &impl Told) -> Result<()> {
    let (text, is_data) = if options.quiet {
        (format!("{name}\n"), true)
    } else if options.progress == ProgressStyle::Json {
        (format!("{}\n", message::json_safe(&report.json().to_string())), true)
    } else {
        (escape_controls(&report.text()).into_owned(), false)
    };
    show(options, &text, is_data)
}

/// Writes what a build has to say where that is wanted.
pub(crate) fn show(options: &BuildOptions, text: &str, is_data: bool) -> Result<()> {
    match &options.logfile {
        Some(file) => {
            write_file(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
        }
        None if is_data => print_data(text),
        None => print(text),
    }
}
