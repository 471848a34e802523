//! `crossdock build`: Containerfile and context to an image at its destinations.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context as _, Result};
use crossdock_builder::containerfile::Containerfile;
use crossdock_builder::{
    Ahead, AssembleOptions, Assembled, Assembly, LayerContent, LayerOptions, Listed, OwnPaths, PlanOptions,
    PlannedStage, assemble, assemble_index, base_references, describe_index, plan, to_assembly,
};
use crossdock_registry::Registry;
use crossdock_storage::{
    Abort, Compression, Counters, Descriptor, Digest, EntryDetails, Error as StorageError, ImageList,
    ImageSink, IndexStore, ListEntry, ListedPlace, ManifestEntry, Platform, ReadOptions,
    Result as StorageResult, blocking, is_spooled, write_file,
};
use jiff::Timestamp;

use crate::args::{BuildArgs, ConfArgs, ProgressStyle};
use crate::bases::Bases;
use crate::destination::Destination;
use crate::exit::{Strict, UsageError};
use crate::local::LocalImages;
use crate::options::BuildOptions;
use crate::report::{Effort, ListReport, ListedReport, Report, Told};
use crate::session::{leave_stdout_alone, print, root_directory, write_digest};
use crate::signals::{block_on, block_on_to_end};
use crate::{context, dry_run, environment, progress, registries, signals};

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
    images: Vec<(Platform, Assembly)>,
    /// The index, where there is one.
    index: Option<Descriptor>,
    assembled: Vec<Assembled>,
}

async fn build(
    options: &Arc<BuildOptions>,
    registry: &Registry,
    root: Option<&Path>,
    local: &Result<LocalImages>,
    counters: &Arc<Counters>,
) -> Result<Built> {
    let sinks = options
        .destinations
        .iter()
        .map(|destination| destination.sink(registry, options.preflight))
        .collect::<Result<Vec<_>>>()?;
    let cancel = signals::cancel();
    let bases = Bases {
        registry: registry.clone(),
        indexes: root.map(IndexStore::new),
        local: local.as_ref().ok().cloned(),
        pull: options.pull,
        ahead: Ahead {
            // With --strict nothing goes ahead of the plan.
            sink: sinks.iter().find(|sink| sink.takes_ahead() && !options.strict).cloned(),
            jobs: options.jobs,
            progress: progress::display_of_bases(options.progress, options.quiet),
            cancel: cancel.clone(),
        },
    };
    let planned = plan_images(options, &bases, &sinks).await;
    if planned.is_err()
        && let Some(sink) = &bases.ahead.sink
    {
        let why = if cancel.is_cancelled() { Abort::Interrupted } else { Abort::Failed };
        cancel.cleaning(sink.abort(why)).await;
    }
    let planned = planned?;
    drop(bases);
    let mut images: Vec<_> =
        planned.into_iter().map(|planned| (planned.platform, planned.assembly)).collect();
    if options.records() {
        recordable(options, local)?;
        if options.is_named() && images.iter().any(|(_, image)| is_fleeting(image)) {
            return Err(StorageError::Unusable(
                "the image cannot be remembered: its files came through a pipe, and are gone when this build ends; add --push or --output, or redirect a file: crossdock build - < FILE".to_owned(),
            )
            .into());
        }
    }
    let settings = AssembleOptions {
        read: ReadOptions {
            io: options.io,
            counters: Arc::clone(counters),
            cancel: cancel.clone(),
            digest_content: options.modelcar.is_some(),
        },
        jobs: options.jobs,
        memos: options.memos(root),
        progress: progress::display(options.progress, options.quiet),
        cancel,
    };
    let mut last = None;
    for (sink, destination) in sinks.iter().zip(&options.destinations) {
        let assembled = put(options, &images, sink, &settings).await?;
        signals::published(destination.names());
        for ((_, assembly), image) in images.iter_mut().zip(&assembled.1) {
            assembly.learn(image);
        }
        last = Some(assembled);
    }
    let (index, assembled) = last.context("there is no destination")?;
    Ok(Built { images, index, assembled })
}

/// Remembers what was built, where that is asked for, and says what came out.
fn report(options: &BuildOptions, local: &Result<LocalImages>, built: Built, effort: Effort) -> Result<Done> {
    let Built { images, index, assembled } = built;
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

/// An image that was given a name must be remembered: where that cannot be, it is said before a file is read.
fn recordable(options: &BuildOptions, local: &Result<LocalImages>) -> Result<()> {
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
fn is_fleeting(image: &Assembly) -> bool {
    image.layers.iter().any(|layer| match &layer.content {
        LayerContent::Files { layer, .. } => layer.files().any(is_spooled),
        LayerContent::Blob { .. } => false,
    })
}

/// Remembers what was built, where that can be; the list, where there is one.
fn remember(
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
fn remember_sent(
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

/// The plan for one platform.
pub(crate) struct PlannedPlatform {
    pub(crate) platform: Platform,
    pub(crate) stages: Vec<PlannedStage>,
    pub(crate) assembly: Assembly,
}

/// Plans the image for each platform; the first question to the destinations is whether they may be written to.
pub(crate) async fn plan_images(
    options: &Arc<BuildOptions>,
    bases: &Bases,
    sinks: &[Arc<dyn ImageSink>],
) -> Result<Vec<PlannedPlatform>> {
    let cancel = signals::cancel();
    let (asked, stop) = (Arc::clone(options), cancel.clone());
    let (file, archive) = cancel.or(blocking(move || context::containerfile(&asked, &stop))).await?;
    let file = Arc::new(file);
    // What is refused is refused before the context is looked at.
    let mut wanted = options.platforms.clone();
    if options.all_platforms {
        let options = plan_options(options, &Platform::host());
        wanted = cancel.or(all_platforms(&file, &options, bases)).await?;
    }
    let plans: Vec<_> = wanted.iter().map(|platform| plan_options(options, platform)).collect();
    for plan in &plans {
        crossdock_builder::check(&file, plan)?;
    }
    let (asked, stop) = (Arc::clone(options), cancel.clone());
    let context = Arc::new(cancel.or(blocking(move || context::open(&asked, archive, &stop))).await?);
    // A credential that is missing shows before the context and the base's layers are looked through.
    for sink in sinks {
        cancel.or(sink.admit()).await?;
    }
    let layer_options = LayerOptions {
        layer_file_size: (!options.squash).then_some(options.layer_file_size),
        mtime: options.time_of_files(),
        keep_mtime: options.keep_mtime,
        latest_mtime: options.source_date_epoch.filter(|_| options.rewrite_timestamp),
        compression: options.compression,
        format: options.format,
        annotations: options.annotations.clone(),
        omit_history: options.omit_history,
        modelcar: options.modelcar.clone(),
    };
    let mut warnings: BTreeSet<String> = BTreeSet::new();
    if matches!(options.compression, Compression::Zstd { .. }) {
        let text = "layers stored as zstd: KServe's oci+fetch:// refuses them; --compression-format gzip is read everywhere";
        match options.modelcar {
            Some(_) => {
                tracing::warn!("{text}");
                warnings.insert(text.to_owned());
            }
            None => tracing::info!("{text}"),
        }
    }
    let mut planned = Vec::with_capacity(plans.len());
    for (platform, plan_options) in wanted.into_iter().zip(&plans) {
        let mut image = plan(&file, &context, plan_options, bases).await?;
        let of_image = file.warnings.iter().map(ToString::to_string);
        for warning in of_image.chain(image.warnings.iter().map(ToString::to_string)) {
            if warnings.insert(warning.clone()) {
                tracing::warn!("{warning}");
            }
        }
        let stages = std::mem::take(&mut image.stages);
        let layer_options = layer_options.clone();
        let mut assembly = blocking(move || to_assembly(image, &layer_options)).await?;
        cancel.check()?;
        planned.iter().for_each(|earlier: &PlannedPlatform| assembly.share(&earlier.assembly));
        planned.push(PlannedPlatform { platform, stages, assembly });
    }
    if options.strict && !warnings.is_empty() {
        return Err(Strict(warnings.len()).into());
    }
    Ok(planned)
}

/// The platforms that all bases are there for.
async fn all_platforms(file: &Containerfile, options: &PlanOptions, bases: &Bases) -> Result<Vec<Platform>> {
    let mut common: Option<Vec<Platform>> = None;
    for reference in base_references(file, options)? {
        let Some(offered) = bases.platforms(&reference).await? else {
            return Err(StorageError::Unusable(format!(
                "--all-platforms: {reference} is one image and not a list of them; name platforms with --platform"
            ))
            .into());
        };
        common = Some(match common {
            None => offered,
            Some(common) => common.into_iter().filter(|platform| offered.contains(platform)).collect(),
        });
    }
    match common {
        Some(platforms) if !platforms.is_empty() => Ok(platforms),
        Some(_) => {
            let text = "--all-platforms: the base images have no platform in common".to_owned();
            Err(StorageError::Unusable(text).into())
        }
        None => {
            let text =
                "--all-platforms: no base image says which there are; name them with --platform".to_owned();
            Err(StorageError::Unusable(text).into())
        }
    }
}

fn plan_options(options: &BuildOptions, platform: &Platform) -> PlanOptions {
    let now = match options.timestamp.or(options.source_date_epoch) {
        Some(seconds) => i64::try_from(seconds).ok().and_then(|s| Timestamp::from_second(s).ok()),
        None => Some(Timestamp::now()),
    };
    let mut plan = PlanOptions::new(platform.clone());
    plan.build_args.clone_from(&options.build_args);
    plan.build_contexts.clone_from(&options.build_contexts);
    plan.labels.clone_from(&options.labels);
    plan.env.clone_from(&options.env);
    plan.unset_env.clone_from(&options.unset_env);
    plan.unset_labels.clone_from(&options.unset_labels);
    plan.inherit_labels = options.inherit_labels;
    plan.from.clone_from(&options.from);
    plan.build_platform = Platform::host();
    plan.target.clone_from(&options.target);
    plan.created = now.map(|time| time.to_string());
    plan.squash = options.squash;
    plan.cancel = signals::cancel();
    plan
}

/// What this run writes: no part of the context, wherever that is. With `given`, the whole directory of `--root` is not,
/// whoever else keeps something there.
fn own_paths(options: &BuildOptions, given: Option<&Path>) -> OwnPaths {
    let mut own = OwnPaths::none();
    for root in given.map(Path::to_owned).into_iter().chain(root_directory(given)) {
        own.add("the directory of --root", root);
    }
    for destination in &options.destinations {
        destination.add_to(&mut own);
    }
    let files = [
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
    let text = if options.quiet {
        format!("{name}\n")
    } else if options.progress == ProgressStyle::Json {
        format!("{}\n", report.json())
    } else {
        report.text()
    };
    match &options.logfile {
        Some(file) => {
            write_file(file, text.as_bytes()).with_context(|| format!("cannot write {}", file.display()))
        }
        None => print(&text),
    }
}
