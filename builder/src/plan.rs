//! From a Containerfile and its context to the plan of an image: what each layer holds and what the config says.
//!
//! Two passes. The first ([`check`](crate::check)) goes over the stages that the target needs and refuses what
//! cannot be carried out, before a base is asked for or a file is looked at. The second evaluates those stages in
//! order. Planning reads names, modes and sizes; the bytes of the context stay where they are (the exceptions are
//! the first 512 bytes of a file that ADD might unpack, `/etc/passwd` where `--chown` names a user, and the headers of
//! weights: see [`model`](crate::model)).

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_storage::{
    Cancel, Detail, Digest, Entry, EntryKind, HistoryEntry, ImageConfig, ImageSource, Platform,
    ResolvedImage, blocking,
};

use crate::check::{Checked, CopyFrom, ImageKey, Place, StageBase, Triggers, check_stages};
use crate::containerfile::{Containerfile, Diagnostic, Trigger};
use crate::context::Context;
use crate::error::Error;
use crate::eval::{Built, BuiltLayer, Evaluation};
use crate::model::ModelReport;
use crate::tree::{FileTree, OPAQUE, draining};

/// What the command line says about a build.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanOptions {
    /// `--build-arg`; `None` for a name whose value was to come from the environment, which does not have it.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`, set after all instructions.
    pub labels: Vec<(String, String)>,
    /// `--inherit-labels`: whether the labels of bases are taken over.
    pub inherit_labels: bool,
    /// `--unsetlabel`: labels of bases that are not.
    pub unset_labels: Vec<String>,
    /// `--env`, set after all instructions.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`: taken away after all instructions.
    pub unset_env: Vec<String>,
    /// `--from`: what the first FROM names instead.
    pub from: Option<String>,
    /// What the image is for.
    pub platform: Platform,
    /// What the build runs on: `BUILDPLATFORM` and its like.
    pub build_platform: Platform,
    /// `--target`: the name or index of the stage to build; the last one if `None`.
    pub target: Option<String>,
    /// `created` of the config and of each line of the history, RFC 3339.
    pub created: Option<String>,
    /// `--squash`: one layer for all that is new.
    pub squash: bool,
    /// `--build-context`: what a name stands for in FROM and `COPY --from`.
    pub build_contexts: BTreeMap<String, BuildContext>,
    /// Whether the headers of weights are looked at: see [`ModelReport`].
    pub check_models: bool,
    /// What becomes of what a download has left in the context.
    pub downloads: Downloads,
    /// The word to stop planning.
    pub cancel: Cancel,
}

/// What becomes of `.cache/huggingface` of a download and of files that it has not finished, where a COPY or ADD names
/// something above them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Downloads {
    /// They are left out, with a warning: two downloads of one model make one layer.
    LeaveOut,
    /// They are copied, with a warning.
    Tell,
    /// They are copied.
    Keep,
}

/// A further build context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BuildContext {
    /// A directory or a tar archive, for `COPY --from`.
    Directory(PathBuf),
    /// An image, as FROM names it.
    Image(String),
}

impl PlanOptions {
    /// A build for `platform` on `platform` with nothing else said.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            inherit_labels: true,
            unset_labels: Vec::new(),
            env: Vec::new(),
            unset_env: Vec::new(),
            from: None,
            build_platform: platform.clone(),
            platform,
            target: None,
            created: None,
            squash: false,
            build_contexts: BTreeMap::new(),
            check_models: true,
            downloads: Downloads::LeaveOut,
            cancel: Cancel::default(),
        }
    }
}

/// Finds the images that FROM names.
#[async_trait]
pub trait BaseResolver: Send + Sync {
    /// The image of `reference` for `platform`: its manifest and config.
    ///
    /// `reference` is as the Containerfile has it, variables expanded: a name with tag or digest, or `oci:DIR[:ref]`.
    async fn resolve(
        &self,
        reference: &str,
        platform: &Platform,
    ) -> Result<PlannedBase, crossdock_storage::Error>;

    /// What the image's root file system holds. Asked for only where a needed stage copies onto the image or
    /// from it. The default knows nothing.
    async fn tree(&self, wanted: TreeOf<'_>) -> Result<FileTree, crossdock_storage::Error> {
        let _ = wanted;
        Ok(FileTree::unknown())
    }
}

/// An image whose file tree is needed.
#[derive(Debug, Clone, Copy)]
pub struct TreeOf<'a> {
    /// The image.
    pub base: &'a PlannedBase,
    /// What of it: [`Detail::Contents`] where files are copied from it.
    pub detail: Detail,
    /// Whether its layers are those of the planned image too.
    pub stays: bool,
}

/// The image that the planned one is built upon.
#[derive(Debug, Clone)]
pub struct PlannedBase {
    /// As FROM names it.
    pub reference: String,
    /// Where its layers come from.
    pub source: Arc<dyn ImageSource>,
    /// Its manifest and config.
    pub image: ResolvedImage,
}

/// What one instruction adds to the image.
#[derive(Debug, Clone)]
pub struct PlannedLayer {
    /// The instruction as written, on one line; `squashed layers` where there are several.
    pub title: String,
    /// `created_by` of the instruction's line in the history.
    pub created_by: String,
    /// Sorted by path; a hard link's target is an earlier entry.
    pub entries: Vec<Entry>,
}

/// A line of the history that the build adds.
#[derive(Debug, Clone)]
pub struct PlannedStep {
    /// The line. `empty_layer` is set where the instruction makes no layer.
    pub history: HistoryEntry,
    /// The instruction's layer, as an index into [`PlannedImage::layers`].
    pub layer: Option<usize>,
}

/// A stage that the image needs.
#[derive(Debug, Clone)]
pub struct PlannedStage {
    /// Its place in the Containerfile, from 0.
    pub index: usize,
    /// Its name, where it has one.
    pub name: Option<String>,
    /// What FROM names, as written.
    pub from: String,
    /// The digest of the image's manifest and its platform, where it begins with an image.
    pub base: Option<(Digest, Platform)>,
    /// Its instructions, without FROM.
    pub instructions: usize,
}

/// The plan of an image.
#[derive(Debug)]
#[non_exhaustive]
pub struct PlannedImage {
    /// The image it is built upon; `None` for scratch.
    pub base: Option<PlannedBase>,
    /// What is new, in order and not yet split: see [`crossdock_storage::shard`].
    pub layers: Vec<PlannedLayer>,
    /// The config; `rootfs` and `history` are the base's alone.
    pub config: ImageConfig,
    /// The history's new lines in order.
    pub steps: Vec<PlannedStep>,
    /// What is most likely not as it was meant.
    pub warnings: Vec<Warning>,
    /// What the model check has found.
    pub model: ModelReport,
    /// The stages that were carried out, in order.
    pub stages: Vec<PlannedStage>,
}

/// What is most likely not as it was meant, and does not stop the build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// At a place in the Containerfile.
    At(Diagnostic),
    /// A `--build-arg` that no ARG takes.
    UnusedBuildArg(String),
    /// Something of a context that is not copied, as a sentence.
    LeftOut(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(diagnostic) => diagnostic.fmt(f),
            Self::UnusedBuildArg(name) => write!(f, "--build-arg {name} is not used: no ARG declares it"),
            Self::LeftOut(text) => f.write_str(text),
        }
    }
}

/// Refuses what the stages that the target needs cannot be built with, by name and place. Nothing is read.
///
/// # Errors
/// The first instruction, flag or reference that is not carried out, or a target that is none.
pub fn check(file: &Containerfile, options: &PlanOptions) -> Result<(), Error> {
    check_stages(file, options, &BTreeMap::new()).map(drop)
}

/// The images that the needed stages begin with, as they are named, for the platform of the options.
///
/// # Errors
/// As [`check`].
pub fn base_references(file: &Containerfile, options: &PlanOptions) -> Result<Vec<String>, Error> {
    let checked = check_stages(file, options, &BTreeMap::new())?;
    let of_target = checked.images().filter(|(_, key)| key.platform == options.platform);
    Ok(of_target.map(|(_, key)| key.reference.clone()).collect())
}

/// Plans the image. To be called while a tokio runtime runs: the instructions are carried out on a blocking thread.
///
/// # Errors
/// As [`check`]; then a base that cannot be had, and the first instruction that cannot be carried out;
/// [`Error::Interrupted`] where the options' [`Cancel`] says so.
pub async fn plan(
    file: &Arc<Containerfile>,
    context: &Arc<Context>,
    options: &PlanOptions,
    resolver: &dyn BaseResolver,
) -> Result<PlannedImage, Error> {
    let cancel = &options.cancel;
    let mut images = Images { file, resolver, cancel, resolved: BTreeMap::new() };
    let mut triggers = BTreeMap::new();
    let checked = loop {
        let checked = check_stages(file, options, &triggers)?;
        // A trigger may copy from a stage that nothing needed before.
        let known = images.resolve(&checked).await?;
        if known == triggers {
            break checked;
        }
        triggers = known;
    };
    let (bases, copied) = images.trees(&checked).await?;
    let (file, context, options) = (Arc::clone(file), Arc::clone(context), options.clone());
    let stop = options.cancel.clone();
    let evaluated = blocking(move || evaluate(&file, &context, &options, &checked, bases, copied));
    // A file system that does not answer is not waited for.
    let evaluated = stop.or(async { Ok(evaluated.await) }).await;
    evaluated.unwrap_or_else(|_: crossdock_storage::Error| Err(Error::Interrupted))
}

/// Carries out the stages that the target needs, whose images are there.
fn evaluate(
    file: &Containerfile,
    context: &Context,
    options: &PlanOptions,
    checked: &Checked,
    bases: Bases,
    copied: BTreeMap<ImageKey, FileTree>,
) -> Result<PlannedImage, Error> {
    let contexts = open_contexts(checked, context, options)?;
    let origins = Origins { context, contexts: &contexts, images: &copied };
    let mut evaluation = Evaluation::new(file, origins, options, checked)?;
    for index in checked.needed() {
        evaluation.stage(index, bases.get(&index).cloned())?;
    }
    let unused_build_args = evaluation.unused_build_args();
    let (built, mut warnings, model) = evaluation.finish()?;
    let read = [context].into_iter().chain(contexts.values());
    warnings.extend(read.flat_map(Context::losses).map(Warning::LeftOut));
    warnings.extend(unused_build_args.into_iter().map(Warning::UnusedBuildArg));
    let stages = checked.needed().map(|index| {
        let stage = &file.stages[index];
        let base = match (bases.get(&index), checked.base(index)) {
            (Some((base, _)), Some(StageBase::Image(key))) => {
                Some((base.image.descriptor.digest().clone(), key.platform.clone()))
            }
            _ => None,
        };
        PlannedStage {
            index,
            name: checked.name(index).map(str::to_owned),
            from: stage.from.image.value.clone(),
            base,
            instructions: stage.instructions.len(),
        }
    });
    let stages = stages.collect();
    // Their trees are in nobody's way while what is new becomes entries.
    drop((bases, copied));
    Ok(PlannedImage { stages, model, ..finish(built, options, warnings) })
}

/// The directories and archives of `--build-context` that are copied from.
fn open_contexts(
    checked: &Checked,
    context: &Context,
    options: &PlanOptions,
) -> Result<BTreeMap<String, Context>, Error> {
    let mut contexts = BTreeMap::new();
    for (_, _, from) in checked.copies() {
        if let CopyFrom::Context(name) = from
            && let Some(BuildContext::Directory(path)) = options.build_contexts.get(name)
            && !contexts.contains_key(name)
        {
            contexts.insert(name.clone(), context.further(path)?.with_cancel(options.cancel.clone()));
        }
    }
    Ok(contexts)
}

/// What stages copy from, besides one another.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins<'a> {
    pub(crate) context: &'a Context,
    /// Those of `--build-context`, by name.
    pub(crate) contexts: &'a BTreeMap<String, Context>,
    pub(crate) images: &'a BTreeMap<ImageKey, FileTree>,
}

/// What stages begin with, by stage.
type Bases = BTreeMap<usize, (PlannedBase, FileTree)>;

/// What stages begin with, and the trees of the images that are copied from.
type Trees = (Bases, BTreeMap<ImageKey, FileTree>);

/// The images behind stages and copies; one that is named several times is asked for once.
struct Images<'a> {
    file: &'a Containerfile,
    resolver: &'a dyn BaseResolver,
    cancel: &'a Cancel,
    resolved: BTreeMap<ImageKey, PlannedBase>,
}

impl Images<'_> {
    /// Asks for the images of the needed stages; gives their ONBUILD triggers, by stage.
    async fn resolve(&mut self, checked: &Checked) -> Result<BTreeMap<usize, Triggers>, Error> {
        let mut triggers = BTreeMap::new();
        for (index, key) in checked.images() {
            self.ask(key).await.map_err(|error| self.fail(index, key, error))?;
            let on_build = &self.resolved[key].image.config.config.on_build;
            let parsed = on_build
                .iter()
                .map(|text| Trigger::parse(format!("ONBUILD of {}", key.reference), text))
                .collect::<Result<Triggers, _>>()?;
            if !parsed.is_empty() {
                triggers.insert(index, parsed);
            }
        }
        for (index, place, from) in checked.copies() {
            if let CopyFrom::Image(key) = from {
                let asked = self.ask(key).await;
                asked.map_err(|error| self.fail_copy(checked, index, place, key, error))?;
            }
        }
        Ok(triggers)
    }

    async fn ask(&mut self, key: &ImageKey) -> Result<(), crossdock_storage::Error> {
        if !self.resolved.contains_key(key) {
            let base = self.cancel.or(self.resolver.resolve(&key.reference, &key.platform)).await?;
            self.resolved.insert(key.clone(), base);
        }
        Ok(())
    }

    async fn trees(self, checked: &Checked) -> Result<Trees, Error> {
        let mut details: BTreeMap<&ImageKey, Detail> = BTreeMap::new();
        let needed = checked.images().filter_map(|(index, key)| Some((key, checked.needs_tree(index)?)));
        let copied = checked.copies().filter_map(|(_, _, from)| match from {
            CopyFrom::Image(key) => Some((key, Detail::Contents)),
            CopyFrom::Stage(_) | CopyFrom::Context(_) => None,
        });
        for (key, detail) in needed.chain(copied) {
            let most = details.entry(key).or_insert(detail);
            *most = detail.max(*most);
        }
        let mut trees = BTreeMap::new();
        let below_target = checked.base_image();
        for (index, key) in checked.images() {
            if let Some(detail) = details.get(key)
                && !trees.contains_key(key)
            {
                let (base, stays) = (&self.resolved[key], below_target == Some(key));
                let tree = self.resolver.tree(TreeOf { base, detail: *detail, stays }).await;
                trees.insert(key.clone(), tree.map_err(|error| self.fail(index, key, error))?);
            }
        }
        for (index, place, from) in checked.copies() {
            if let CopyFrom::Image(key) = from
                && !trees.contains_key(key)
            {
                let base = &self.resolved[key];
                let tree = self.resolver.tree(TreeOf { base, detail: Detail::Contents, stays: false }).await;
                let tree = tree.map_err(|error| self.fail_copy(checked, index, place, key, error))?;
                trees.insert(key.clone(), tree);
            }
        }
        let bases = checked.images().map(|(index, key)| {
            let tree = trees.get(key).cloned().unwrap_or_else(FileTree::unknown);
            (index, (self.resolved[key].clone(), tree))
        });
        Ok((bases.collect(), trees))
    }

    fn fail(&self, index: usize, key: &ImageKey, source: crossdock_storage::Error) -> Error {
        if self.cancel.is_cancelled() {
            return Error::Interrupted;
        }
        let message = format!("cannot use the base image {key}");
        let span = self.file.stages[index].from.image.span;
        Error::Base {
            diagnostic: Diagnostic::new(&self.file.source, span, message),
            source: Box::new(source),
        }
    }

    fn fail_copy(
        &self,
        checked: &Checked,
        index: usize,
        (trigger, span): Place,
        key: &ImageKey,
        source: crossdock_storage::Error,
    ) -> Error {
        if self.cancel.is_cancelled() {
            return Error::Interrupted;
        }
        let text = trigger.map_or(&self.file.source, |number| &checked.triggers(index)[number].source);
        let message = format!("cannot copy from the image {key}, and no stage above has this name");
        let names = checked.names_above(index);
        let mut diagnostic = Diagnostic::new(text, span, message);
        if !names.is_empty() {
            diagnostic = diagnostic.with_help(format!("the stages above are {}", names.join(", ")));
        }
        Error::Base { diagnostic, source: Box::new(source) }
    }
}

fn finish(built: Built, options: &PlanOptions, warnings: Vec<Warning>) -> PlannedImage {
    let Built { base, layers, mut config, steps, tree, .. } = built;
    drop(tree);
    config.created.clone_from(&options.created);
    for (name, value) in &options.labels {
        config.config.labels.insert(name.clone(), value.clone());
    }
    for (name, value) in &options.env {
        set_env(&mut config.config.env, name, value);
    }
    config.config.env.retain(|line| !options.unset_env.iter().any(|name| name_of(line) == name));
    let layers: Vec<BuiltLayer> = layers.into_iter().map(Arc::unwrap_or_clone).collect();
    let (layers, mut steps) = if options.squash { squash(layers, steps) } else { (layers, steps) };
    if base.is_none() && steps.is_empty() {
        steps.push(nothing_done(options));
    }
    // Here and now: an allocator that has a heap for each thread gives the room of the trees to this one alone.
    let planned = |BuiltLayer { title, created_by, files, .. }| PlannedLayer {
        title,
        created_by,
        entries: files.into_entries(),
    };
    let layers = layers.into_iter().map(planned).collect();
    let (model, stages) = (ModelReport::default(), Vec::new());
    PlannedImage { base, layers, config, steps, warnings, model, stages }
}

/// The line of an image of which nothing is said but FROM scratch: one without any history is taken for a broken one. As
/// buildah writes it.
fn nothing_done(options: &PlanOptions) -> PlannedStep {
    let history = HistoryEntry {
        created: options.created.clone(),
        created_by: Some("/bin/sh".to_owned()),
        empty_layer: true,
        ..HistoryEntry::default()
    };
    PlannedStep { history, layer: None }
}

/// One layer of all: a later entry takes the place of an earlier one, and a hard link whose target is gone becomes
/// the file.
fn squash(layers: Vec<BuiltLayer>, mut steps: Vec<PlannedStep>) -> (Vec<BuiltLayer>, Vec<PlannedStep>) {
    if layers.len() < 2 {
        return (layers, steps);
    }
    let mut layers = layers.into_iter();
    let (mut all, mut hidden) =
        layers.next().map_or_else(Default::default, |layer| (layer.files, layer.hidden));
    for layer in layers {
        let opaque = layer.files.opaque();
        opaque.iter().for_each(|path| all.clear(path));
        for entry in draining(layer.files.into_entries()) {
            if entry.path.file_name() == Some(OPAQUE) {
                continue;
            }
            // A directory comes back where something else had taken its place: no layer says so any more.
            let comes_back = matches!(entry.kind, EntryKind::Directory)
                && hidden.contains(&entry.path)
                && all.get(&entry.path).is_some_and(|there| !there.is_directory());
            let path = comes_back.then(|| entry.path.clone());
            all.apply(entry);
            path.iter().for_each(|path| all.make_opaque(path));
        }
        opaque.iter().for_each(|path| all.make_opaque(path));
        hidden.extend(layer.hidden);
    }
    // The line of the last instruction that made a layer stands for the one there is now.
    let last = steps.iter().rposition(|step| step.layer.is_some());
    let mut created_by = String::new();
    for (index, step) in steps.iter_mut().enumerate() {
        step.layer = (Some(index) == last).then_some(0);
        step.history.empty_layer = step.layer.is_none();
        if step.layer.is_some() {
            created_by = step.history.created_by.clone().unwrap_or_default();
        }
    }
    let layer = BuiltLayer { title: "squashed layers".to_owned(), created_by, files: all, hidden };
    (vec![layer], steps)
}

/// Sets a variable in a list of `NAME=value`, in its place where it is there.
pub(crate) fn set_env(env: &mut Vec<String>, name: &str, value: &str) {
    let line = format!("{name}={value}");
    match env.iter_mut().find(|line| name_of(line) == name) {
        Some(old) => *old = line,
        None => env.push(line),
    }
}

/// The name in `NAME=value`.
pub(crate) fn name_of(line: &str) -> &str {
    line.split_once('=').map_or(line, |(name, _)| name)
}
