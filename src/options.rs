//! What is to be done, made of what was typed: every value parsed, every contradiction found before any work.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow, bail};
use crossdock_builder::{AnnotationOptions, BuildContext, Downloads, ModelcarOptions, OwnPaths, Part};
use crossdock_registry::Reference;
use crossdock_storage::{ArchiveKind, Compression, IoMode, ManifestFormat, MemoStore, Platform, redact_urls};

use crate::args::{BuildArgs, ProgressStyle, parse_seconds};
use crate::context::{ContextAt, remote};
use crate::destination::{Destination, Output, pushable, takes_stdout, transport_of};
use crate::local::local_name;
use crate::model::ModelCheck;
use crate::overrides::{Overrides, PullPolicy};
use crate::reuse::ReuseOptions;
use crate::size::parse_size;

/// A build as it was asked for.
#[derive(Debug)]
pub(crate) struct BuildOptions {
    pub(crate) containerfile: ContainerfileAt,
    pub(crate) context: ContextAt,
    /// Where a context is written that comes through a pipe; below the directory for temporary files if there is none.
    pub(crate) spool: Option<PathBuf>,
    pub(crate) follow_links: bool,
    pub(crate) model_check: ModelCheck,
    pub(crate) downloads: Downloads,
    /// Whether warnings are errors.
    pub(crate) strict: bool,
    /// What is not part of it, as this run writes it.
    pub(crate) own: OwnPaths,
    /// Where the image goes, at least one.
    pub(crate) destinations: Vec<Destination>,
    /// Whether one of them is standard output.
    pub(crate) stdout: bool,
    /// The names of the image where it is remembered here.
    pub(crate) names: Vec<String>,
    /// Whether digests of layers that are remembered are trusted.
    pub(crate) memo: bool,
    /// Whether they are trusted where the change times of files are others.
    pub(crate) trust_mtime: bool,
    /// The part of the layers that is sent, where it is not all of them.
    pub(crate) part: Option<Part>,
    /// Where part files are.
    pub(crate) part_file: Option<PathBuf>,
    pub(crate) digestfile: Option<PathBuf>,
    pub(crate) iidfile: Option<PathBuf>,
    /// The same without the algorithm.
    pub(crate) iidfile_raw: Option<PathBuf>,
    pub(crate) build_args: BTreeMap<String, Option<String>>,
    pub(crate) build_contexts: BTreeMap<String, BuildContext>,
    pub(crate) labels: Vec<(String, String)>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) unset_env: Vec<String>,
    pub(crate) unset_labels: Vec<String>,
    pub(crate) inherit_labels: bool,
    pub(crate) annotations: AnnotationOptions,
    /// Whether layers say what they hold of a model, and the card that goes with it.
    pub(crate) modelcar: Option<ModelcarOptions>,
    /// At least one.
    pub(crate) platforms: Vec<Platform>,
    /// Instead of those: whatever the bases are there for.
    pub(crate) all_platforms: bool,
    /// The list that the images are added to where they are remembered.
    pub(crate) manifest: Option<String>,
    /// Whether a list of images comes out, and not one image.
    pub(crate) listed: bool,
    pub(crate) dry_run: bool,
    /// The image in the place of the first FROM's.
    pub(crate) from: Option<String>,
    pub(crate) pull: PullPolicy,
    pub(crate) target: Option<String>,
    /// The time of all there is in the image.
    pub(crate) timestamp: Option<u64>,
    /// The time of the image and its history alone.
    pub(crate) source_date_epoch: Option<u64>,
    /// Whether that is the time of files too.
    pub(crate) rewrite_timestamp: bool,
    /// Whether files keep their own.
    pub(crate) keep_mtime: bool,
    pub(crate) format: ManifestFormat,
    pub(crate) ignorefile: Option<PathBuf>,
    pub(crate) squash: bool,
    pub(crate) omit_history: bool,
    pub(crate) layer_file_size: u64,
    pub(crate) compression: Compression,
    pub(crate) jobs: usize,
    pub(crate) io: IoMode,
    pub(crate) progress: ProgressStyle,
    pub(crate) quiet: bool,
    /// Where to write what would be printed.
    pub(crate) logfile: Option<PathBuf>,
    pub(crate) preflight: bool,
    /// What is taken over of images that a registry has.
    pub(crate) reuse: ReuseOptions,
}

/// Where the Containerfile is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ContainerfileAt {
    StandardInput,
    File(PathBuf),
    /// In the archive that is the context: by this name, or by one of those that are looked for.
    InContext(Option<String>),
}

impl BuildOptions {
    /// Reads the meaning out of `args`; `env` looks up a variable of the environment.
    ///
    /// # Errors
    /// What cannot be understood or does not go together, by the option's name.
    pub(crate) fn new(args: &BuildArgs, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let context = ContextAt::new(&args.context)?;
        for name in &args.tags {
            if transport_of(name).is_some_and(|(transport, _)| transport != "docker") {
                bail!("--tag {name}: that is no name but a place: write --output {name}");
            }
        }
        // A list that is sent has all names; one that is remembered is found by its own.
        let tags: Vec<String> =
            args.tags.iter().chain(args.manifest.iter().filter(|_| args.push)).cloned().collect();
        let mut destinations = Vec::new();
        let mut pushed = args.push.then(|| tags.clone());
        let mut remembered = (args.outputs.is_empty() && !args.push).then(|| args.tags.clone());
        for output in &args.outputs {
            match Output::parse(output, &args.tags).map_err(|error| anyhow!("--output {error:#}"))? {
                Output::OnDisk(destination) => destinations.push(destination),
                Output::Push(names) => pushed.get_or_insert_default().extend(names),
                Output::Remember(names) => remembered.get_or_insert_default().extend(names),
            }
        }
        let stdout = takes_stdout(&destinations).context("--output")?;
        if let Some(pushed) = &pushed {
            if pushed.is_empty() {
                bail!("--push needs a name to push to: add --tag REGISTRY/REPOSITORY:TAG");
            }
            destinations.extend(by_repository(pushed)?);
        }
        let mut names = Vec::new();
        if remembered.is_some() {
            destinations.push(Destination::Record);
        }
        // What is sent somewhere is remembered too, as buildah does it; --push has checked its names.
        for name in tags.iter().chain(remembered.iter().flatten()).chain(pushed.iter().flatten()) {
            let reference = local_name(name).with_context(|| format!("--tag {name}"))?;
            if reference.digest().is_some() {
                bail!("--tag {name}: an image cannot be given a digest for a name; give it a tag");
            }
            let name = reference.to_string();
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let overrides = &args.overrides;
        let platforms = platforms(&args.platforms, overrides)?;
        let manifest = match &args.manifest {
            Some(name) if args.push || !args.outputs.is_empty() => {
                local_name(name).with_context(|| format!("--manifest {name}"))?;
                None
            }
            Some(name) => Some(local_name(name).with_context(|| format!("--manifest {name}"))?.to_string()),
            None => None,
        };
        let several = platforms.len() > 1 || args.all_platforms;
        let records = destinations.iter().any(|destination| matches!(destination, Destination::Record));
        if several && records && names.is_empty() && manifest.is_none() && !args.dry_run {
            bail!("a list of images for several platforms needs a name: add --manifest NAME or --tag NAME");
        }
        let one_image = |d: &&Destination| {
            matches!(d, Destination::Archive { kind: ArchiveKind::Docker, .. } | Destination::Directory(_))
        };
        if (several || args.manifest.is_some())
            && let Some(destination) = destinations.iter().find(one_image)
        {
            bail!(
                "--output: {} has no place for a list of images; write an oci-archive",
                destination.names().join(", ")
            );
        }
        let format = format(args.format.as_deref(), &env)?;
        for destination in &destinations {
            destination.format(Some(format))?;
        }
        let modelcar = modelcar(args, format, &destinations)?;
        let mut build_args = overrides.build_args()?;
        build_args.extend(args.build_args.iter().filter(|t| !t.is_empty()).map(|text| build_arg(text, &env)));
        let source_date_epoch = source_date_epoch(args, &mut build_args)?;
        Ok(Self {
            containerfile: containerfile(args.file.as_deref(), &context)?,
            context,
            spool: None,
            follow_links: args.follow_links,
            model_check: args.model_check.unwrap_or(ModelCheck::Error),
            downloads: if args.keep_download_cache {
                Downloads::Keep
            } else if args.as_buildah {
                Downloads::Tell
            } else {
                Downloads::LeaveOut
            },
            strict: args.strict,
            own: OwnPaths::none(),
            destinations,
            stdout,
            names,
            memo: !args.no_memo,
            trust_mtime: args.trust_mtime,
            part: part(args)?,
            part_file: part_file(args)?,
            digestfile: writable(args.digestfile.as_deref(), "--digestfile")?,
            iidfile: writable(args.iidfile.as_deref(), "--iidfile")?,
            iidfile_raw: writable(args.iidfile_raw.as_deref(), "--iidfile-raw")?,
            build_args,
            build_contexts: args
                .build_contexts
                .iter()
                .map(|text| build_context(text))
                .collect::<Result<_>>()?,
            labels: args.labels.iter().map(|text| key_value(text, "--label")).collect::<Result<_>>()?,
            env: overrides.env(&env)?,
            unset_env: overrides.unset_env.clone(),
            unset_labels: overrides.unset_labels.clone(),
            inherit_labels: overrides.inherit_labels,
            annotations: annotations(args)?,
            modelcar,
            platforms,
            all_platforms: args.all_platforms,
            manifest,
            listed: several || args.manifest.is_some(),
            dry_run: args.dry_run,
            from: overrides.from.clone(),
            pull: overrides.pull(),
            target: args.target.clone(),
            timestamp: args.timestamp,
            source_date_epoch,
            rewrite_timestamp: args.rewrite_timestamp,
            keep_mtime: args.keep_mtime,
            format,
            ignorefile: args.ignorefile.clone(),
            squash: args.squash,
            omit_history: overrides.omit_history,
            layer_file_size: parse_size(&args.layer_file_size)
                .map_err(|e| anyhow!("--layer-file-size: {e}"))?,
            compression: compression(&args.compression_format, args.compression_level)?,
            jobs: args.work.jobs(),
            io: args.work.io.parse().map_err(|e: String| anyhow!("--io: {e}"))?,
            progress: args.work.progress,
            quiet: args.quiet,
            logfile: writable(overrides.logfile.as_deref(), "--logfile")?,
            preflight: !args.no_preflight,
            reuse: ReuseOptions::new(&args.reuse)?,
        })
    }

    /// What is remembered of layers, as far as it is trusted.
    pub(crate) fn memos(&self, root: Option<&Path>) -> Option<MemoStore> {
        let kept = match root.filter(|_| self.memo) {
            Some(root) => MemoStore::new(root),
            // What part files say of layers needs no root directory.
            None if self.part_file.is_some() => MemoStore::nowhere(),
            None => return None,
        };
        Some(kept.trusting_mtime(self.trust_mtime))
    }

    /// The time that files in layers have, in seconds since the epoch.
    pub(crate) fn time_of_files(&self) -> u64 {
        let rewritten = self.source_date_epoch.filter(|_| self.rewrite_timestamp);
        self.timestamp.or(rewritten).unwrap_or(0)
    }

    /// Whether somebody will ask for what is built by a name.
    pub(crate) fn is_named(&self) -> bool {
        !self.names.is_empty() || self.manifest.is_some()
    }

    /// Whether the image is remembered here and sent nowhere yet.
    pub(crate) fn records(&self) -> bool {
        self.destinations.iter().any(|destination| matches!(destination, Destination::Record))
    }
}

/// `--part`, with nothing beside it that a part does not make.
fn part(args: &BuildArgs) -> Result<Option<Part>> {
    let Some(text) = &args.part else { return Ok(None) };
    let part = text.parse().map_err(|error: String| anyhow!("--part {text}: {error}"))?;
    if !args.push {
        bail!("--part {text}: parts are sent to a registry, which all of them have in common: add --push");
    }
    let iidfile_raw = args.iidfile_raw.is_some();
    for (option, given, what) in [
        ("--output", !args.outputs.is_empty(), "makes no image"),
        ("--digestfile", args.digestfile.is_some(), "makes no manifest, and so no digest"),
        ("--iidfile", args.iidfile.is_some(), "makes no image, and so no ID"),
        ("--iidfile-raw", iidfile_raw, "makes no image, and so no ID"),
    ] {
        if given {
            bail!("--part {text} and {option}: a part {what}; give {option} to the build after the parts");
        }
    }
    if args.no_memo {
        bail!(
            "--part {text} and --no-memo: the build after the parts knows their layers by what is remembered; leave --no-memo out"
        );
    }
    Ok(Some(part))
}

/// `--part-file`: parts make the directory, and the build after them must find it.
fn part_file(args: &BuildArgs) -> Result<Option<PathBuf>> {
    let Some(directory) = &args.part_file else { return Ok(None) };
    let named = || format!("--part-file {}", directory.display());
    if !args.push {
        bail!("{}: parts are sent to a registry: add --push", named());
    }
    if args.no_memo {
        bail!(
            "{} and --no-memo: part files are digests that an earlier build remembered; leave one out",
            named()
        );
    }
    if directory.exists() && !directory.is_dir() {
        bail!("{}: it is no directory; part files are written into one", named());
    }
    if let Ok(at) = directory.canonicalize()
        && args.context.canonicalize().is_ok_and(|context| context == at)
    {
        bail!("{}: it is the build context; part files need a directory of their own", named());
    }
    if args.part.is_none() && !directory.exists() {
        bail!(
            "{}: there is no such directory; name the one that the parts wrote to, as this machine knows it",
            named()
        );
    }
    Ok(Some(directory.clone()))
}

/// What is said of annotations.
fn annotations(args: &BuildArgs) -> Result<AnnotationOptions> {
    let set = args.annotations.iter().map(|text| key_value(text, "--annotation"));
    Ok(AnnotationOptions {
        set: set.collect::<Result<_>>()?,
        unset: args.overrides.unset_annotations.clone(),
        inherit: args.overrides.inherit_annotations,
        created: args.overrides.created_annotation,
    })
}

/// `--modelcar` and `--modelcard`, where there is a place for what they say.
fn modelcar(
    args: &BuildArgs,
    format: ManifestFormat,
    destinations: &[Destination],
) -> Result<Option<ModelcarOptions>> {
    let option = match (&args.modelcard, args.modelcar) {
        (None, false) => return Ok(None),
        (None, true) => "--modelcar",
        (Some(_), _) => "--modelcard",
    };
    if format == ManifestFormat::Docker {
        bail!("{option}: the docker format has no annotations of layers; use --format oci");
    }
    let docker = |d: &&Destination| matches!(d, Destination::Archive { kind: ArchiveKind::Docker, .. });
    if let Some(destination) = destinations.iter().find(docker) {
        let name = destination.names().join(", ");
        bail!("{option}: {name} has no annotations of layers; write an oci-archive");
    }
    if let Some(card) = &args.modelcard
        && card.extension().is_none_or(|extension| extension != "md")
    {
        bail!(
            "--modelcard {}: readers of model cards look for a name that ends in .md, as README.md",
            card.display()
        );
    }
    Ok(Some(ModelcarOptions { card: args.modelcard.clone() }))
}

/// `--source-date-epoch`, or a build argument of that name where no other time is given; and the other way round the
/// argument for an ARG that declares it.
fn source_date_epoch(
    args: &BuildArgs,
    build_args: &mut BTreeMap<String, Option<String>>,
) -> Result<Option<u64>> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    if args.timestamp.is_some() {
        return Ok(None);
    }
    match (args.source_date_epoch, build_args.get(NAME)) {
        (Some(seconds), None | Some(None)) => {
            build_args.insert(NAME.to_owned(), Some(seconds.to_string()));
            Ok(Some(seconds))
        }
        (None, Some(Some(text))) if !text.is_empty() => {
            let seconds = parse_seconds(text);
            seconds
                .map(Some)
                .map_err(|form| anyhow!("invalid value '{text}' for '--build-arg {NAME}': {form}"))
        }
        (seconds, _) => Ok(seconds),
    }
}

/// The platforms that were named, each once; this machine's where there are none.
fn platforms(texts: &[String], overrides: &Overrides) -> Result<Vec<Platform>> {
    let mut platforms: Vec<Platform> = Vec::new();
    for text in texts {
        let platform = text.parse().context("--platform")?;
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    if platforms.is_empty() {
        platforms.push(overrides.platform()?);
    }
    Ok(platforms)
}

/// `-f`, else Containerfile or Dockerfile in the context; a relative FILE that is not in the current directory is
/// looked for in the context, as buildah does.
fn containerfile(file: Option<&Path>, at: &ContextAt) -> Result<ContainerfileAt> {
    let context = match at {
        ContextAt::Directory(context) => context,
        ContextAt::File(_) | ContextAt::StandardInput => {
            return match file {
                None => Ok(ContainerfileAt::InContext(None)),
                Some(file) if file == Path::new("-") && *at == ContextAt::StandardInput => {
                    bail!(
                        "--file -: standard input is the build context already; name the Containerfile in it"
                    )
                }
                Some(file) if file == Path::new("-") => Ok(ContainerfileAt::StandardInput),
                Some(file) if file.is_file() => Ok(ContainerfileAt::File(file.to_owned())),
                Some(file) => match file.to_str() {
                    Some(name) => Ok(ContainerfileAt::InContext(Some(name.to_owned()))),
                    None => bail!("--file {}: the name is not UTF-8", file.display()),
                },
            };
        }
    };
    let Some(file) = file else {
        return ["Containerfile", "Dockerfile"]
            .iter()
            .map(|name| context.join(name))
            .find(|path| path.is_file())
            .map(ContainerfileAt::File)
            .ok_or_else(|| {
                anyhow!("no Containerfile or Dockerfile in {}: name one with --file", context.display())
            });
    };
    if file == Path::new("-") {
        return Ok(ContainerfileAt::StandardInput);
    }
    let in_context = context.join(file);
    let path = if !file.exists() && in_context.exists() { in_context } else { file.to_owned() };
    if path.extension().is_some_and(|extension| extension == "in") {
        bail!(
            "--file {}: buildah lets cpp read it first, crossdock does not: run cpp -E and name its output",
            path.display()
        );
    }
    if path.is_dir() {
        bail!("--file {}: it is a directory, name the Containerfile in it", path.display());
    }
    if !path.exists() {
        bail!(
            "--file {}: no such file, neither here nor in the context {}",
            file.display(),
            context.display()
        );
    }
    Ok(ContainerfileAt::File(path))
}

/// `--format`, else what the variable of the environment says that buildah has for it.
fn format(given: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Result<ManifestFormat> {
    let variable = env("BUILDAH_FORMAT").filter(|value| !value.is_empty());
    let (text, name) = match (given, &variable) {
        (Some(text), _) => (text, "--format"),
        (None, Some(text)) => (text.as_str(), "BUILDAH_FORMAT"),
        (None, None) => return Ok(ManifestFormat::Oci),
    };
    text.parse().map_err(|e: String| anyhow!("{name}: {e}"))
}

/// Found out now and not after two hours: the directory of a file that is written at the end must be there.
pub(crate) fn writable(file: Option<&Path>, option: &str) -> Result<Option<PathBuf>> {
    let Some(file) = file else { return Ok(None) };
    let directory = file.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    if !directory.is_dir() {
        bail!("{option} {}: there is no directory {}", file.display(), directory.display());
    }
    if file.is_dir() {
        bail!("{option} {}: it is a directory, name a file", file.display());
    }
    Ok(Some(file.to_owned()))
}

fn build_arg(text: &str, env: impl Fn(&str) -> Option<String>) -> (String, Option<String>) {
    match text.split_once('=') {
        Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
        None => (text.to_owned(), env(text)),
    }
}

/// What buildah and BuildKit take, but for what is downloaded.
fn build_context(text: &str) -> Result<(String, BuildContext)> {
    const FORMS: &str = "NAME=DIR, NAME=ARCHIVE.tar, NAME=docker://IMAGE or NAME=oci:DIR";
    let (name, value) = key_value(text, "--build-context")?;
    if value.is_empty() {
        bail!("--build-context {text}: there is nothing behind the name: write {FORMS}");
    }
    let image = |rest: &str| BuildContext::Image(rest.to_owned());
    let context = match value.split_once(':').map(|(scheme, rest)| (scheme, rest.strip_prefix("//"))) {
        Some((_, Some(""))) | Some(("oci", None)) if value.ends_with("://") || value == "oci:" => {
            bail!("--build-context {text}: no image is named behind {value}")
        }
        Some(("docker-image" | "container-image", Some(rest))) => image(rest),
        Some(("oci-layout", Some(rest))) => image(&format!("oci:{rest}")),
        Some(("docker", Some(_)) | ("oci", _)) => image(&value),
        _ if Path::new(&value).is_dir() || Path::new(&value).is_file() => {
            BuildContext::Directory(value.into())
        }
        _ if remote(&value).is_some() => {
            let (what, instead) = remote(&value).unwrap_or_default();
            bail!("--build-context {name}={}: {what} is not downloaded: {instead}", redact_urls(&value))
        }
        _ if value == "-" => bail!(
            "--build-context {text}: standard input is for the build context alone; name a directory, an archive or an image"
        ),
        _ => {
            let option = value.rsplit_once(':').filter(|(path, _)| Path::new(path).exists());
            let hint =
                option.map(|(path, option)| format!("; {path:?} is there, and takes no option {option:?}"));
            bail!(
                "--build-context {text}: {value:?} is no directory, no tar archive, and no docker://NAME or oci:DIR{}",
                hint.unwrap_or_default()
            )
        }
    };
    Ok((name, context))
}

fn key_value(text: &str, option: &str) -> Result<(String, String)> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        bail!("{option} {text:?}: there is no name before the =");
    }
    Ok((key.to_owned(), value.to_owned()))
}

pub(crate) fn compression(format: &str, level: Option<u8>) -> Result<Compression> {
    let within = |low: u8, high: u8, default: u8| match level {
        Some(level) if !(low..=high).contains(&level) => {
            Err(anyhow!("--compression-level {level}: {format} takes {low} to {high}"))
        }
        level => Ok(level.unwrap_or(default)),
    };
    match (format, level) {
        ("none", Some(_)) => bail!("--compression-level without --compression-format zstd or gzip"),
        ("none", None) => Ok(Compression::None),
        ("zstd", _) => Ok(Compression::Zstd { level: within(1, 22, 3)? }),
        ("gzip", _) => Ok(Compression::Gzip { level: within(0, 9, 6)? }),
        _ => bail!("--compression-format {format}: none, zstd and gzip are known"),
    }
}

/// Tags of one repository are moved together, at the end of one push.
fn by_repository(names: &[String]) -> Result<Vec<Destination>> {
    let mut repositories: Vec<Vec<Reference>> = Vec::new();
    for name in names {
        let reference = pushable(name).with_context(|| format!("--tag {name}"))?;
        match repositories.iter_mut().find(|group| group[0].repository_name() == reference.repository_name())
        {
            Some(group) if group.contains(&reference) => {}
            Some(group) => group.push(reference),
            None => repositories.push(vec![reference]),
        }
    }
    Ok(repositories.into_iter().map(Destination::Registry).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_must_be_one_that_the_format_has() {
        assert_eq!(compression("zstd", None).unwrap(), Compression::Zstd { level: 3 });
        assert!(compression("zstd", Some(0)).is_err());
        assert!(compression("gzip", Some(10)).is_err());
        assert!(compression("none", Some(1)).is_err());
        assert!(compression("bzip2", None).is_err());
    }
}
