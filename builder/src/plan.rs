//! From a Containerfile and its context to the plan of an image: what each layer holds and what the config says.
//!
//! Two passes. The first ([`check`](crate::check)) goes over the stages that the target needs and refuses what
//! cannot be carried out, before a base is asked for or a file is looked at. The second evaluates those stages in
//! order. Planning reads names, modes and sizes; the bytes of the context stay where they are (the exceptions are
//! the first 512 bytes of a file that ADD might unpack, and `/etc/passwd` where `--chown` names a user).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use crossdock_storage::{Entry, HistoryEntry, ImageConfig, ImageSource, Platform, ResolvedImage};

use crate::check::{Checked, StageBase, Triggers, check_stages};
use crate::containerfile::{Containerfile, Diagnostic, Trigger};
use crate::context::Context;
use crate::error::Error;
use crate::eval::{Built, Evaluation};
use crate::tree::FileTree;

/// What the command line says about a build.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PlanOptions {
    /// `--build-arg`; `None` for a name whose value was to come from the environment, which does not have it.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--label`, set after all instructions.
    pub labels: Vec<(String, String)>,
    /// `--env`, set after all instructions.
    pub env: Vec<(String, String)>,
    /// `--unsetenv`: taken away after all instructions.
    pub unset_env: Vec<String>,
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
}

impl PlanOptions {
    /// A build for `platform` on `platform` with nothing else said.
    #[must_use]
    pub fn new(platform: Platform) -> Self {
        Self {
            build_args: BTreeMap::new(),
            labels: Vec::new(),
            env: Vec::new(),
            unset_env: Vec::new(),
            build_platform: platform.clone(),
            platform,
            target: None,
            created: None,
            squash: false,
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
    async fn tree(&self, base: &PlannedBase) -> Result<FileTree, crossdock_storage::Error> {
        let _ = base;
        Ok(FileTree::unknown())
    }
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
}

/// What is most likely not as it was meant, and does not stop the build.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// At a place in the Containerfile.
    At(Diagnostic),
    /// A `--build-arg` that no ARG takes.
    UnusedBuildArg(String),
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(diagnostic) => diagnostic.fmt(f),
            Self::UnusedBuildArg(name) => write!(f, "--build-arg {name} is not used: no ARG declares it"),
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

/// Plans the image.
///
/// # Errors
/// As [`check`]; then a base that cannot be had, and the first instruction that cannot be carried out.
pub async fn plan(
    file: &Containerfile,
    context: &Context,
    options: &PlanOptions,
    resolver: &dyn BaseResolver,
) -> Result<PlannedImage, Error> {
    let mut images = Images { file, resolver, resolved: BTreeMap::new() };
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
    let bases = images.trees(&checked).await?;
    let mut evaluation = Evaluation::new(file, context, options, &checked);
    for index in checked.needed() {
        evaluation.stage(index, bases.get(&index).cloned())?;
    }
    let (built, mut warnings) = evaluation.finish();
    warnings.extend(checked.unused_build_args.iter().cloned().map(Warning::UnusedBuildArg));
    Ok(finish(built, options, warnings))
}

/// An image as it is asked for: reference and platform.
type Key = (String, String);

/// The images behind stages; one that several stages name is asked for once.
struct Images<'a> {
    file: &'a Containerfile,
    resolver: &'a dyn BaseResolver,
    resolved: BTreeMap<Key, PlannedBase>,
}

impl Images<'_> {
    /// Asks for the images of the needed stages; gives their ONBUILD triggers, by stage.
    async fn resolve(&mut self, checked: &Checked) -> Result<BTreeMap<usize, Triggers>, Error> {
        let mut triggers = BTreeMap::new();
        for (index, reference, platform) in checked.images() {
            let key = key(reference, platform);
            if !self.resolved.contains_key(&key) {
                let base = self.resolver.resolve(reference, platform).await;
                let base = base.map_err(|error| self.fail(index, &key, error))?;
                self.resolved.insert(key.clone(), base);
            }
            let on_build = &self.resolved[&key].image.config.config.on_build;
            let parsed = on_build
                .iter()
                .map(|text| Trigger::parse(format!("ONBUILD of {reference}"), text))
                .collect::<Result<Triggers, _>>()?;
            if !parsed.is_empty() {
                triggers.insert(index, parsed);
            }
        }
        Ok(triggers)
    }

    /// What stages begin with, by stage.
    async fn trees(self, checked: &Checked) -> Result<BTreeMap<usize, (PlannedBase, FileTree)>, Error> {
        let needed: BTreeSet<Key> = checked
            .images()
            .filter(|(index, ..)| checked.needs_tree(*index))
            .map(|(_, reference, platform)| key(reference, platform))
            .collect();
        let mut trees = BTreeMap::new();
        let mut bases = BTreeMap::new();
        for (index, reference, platform) in checked.images() {
            let key = key(reference, platform);
            let base = &self.resolved[&key];
            if !trees.contains_key(&key) {
                let tree = if needed.contains(&key) {
                    self.resolver.tree(base).await.map_err(|error| self.fail(index, &key, error))?
                } else {
                    FileTree::unknown()
                };
                trees.insert(key.clone(), tree);
            }
            bases.insert(index, (base.clone(), trees[&key].clone()));
        }
        Ok(bases)
    }

    fn fail(&self, index: usize, (reference, platform): &Key, source: crossdock_storage::Error) -> Error {
        Error::Base {
            diagnostic: Diagnostic::new(
                &self.file.source,
                self.file.stages[index].from.image.span,
                format!("cannot use the base image {reference} for {platform}"),
            ),
            source: Box::new(source),
        }
    }
}

fn key(reference: &str, platform: &Platform) -> Key {
    (reference.to_owned(), platform.to_string())
}

fn finish(built: Built, options: &PlanOptions, warnings: Vec<Warning>) -> PlannedImage {
    let Built { base, layers, mut config, steps, .. } = built;
    config.created.clone_from(&options.created);
    for (name, value) in &options.labels {
        config.config.labels.insert(name.clone(), value.clone());
    }
    for (name, value) in &options.env {
        set_env(&mut config.config.env, name, value);
    }
    config.config.env.retain(|line| !options.unset_env.iter().any(|name| name_of(line) == name));
    let layers: Vec<PlannedLayer> = layers.into_iter().map(Arc::unwrap_or_clone).collect();
    let (layers, steps) = if options.squash { squash(layers, steps) } else { (layers, steps) };
    PlannedImage { base, layers, config, steps, warnings }
}

/// One layer of all: a later entry takes the place of an earlier one, and a hard link whose target is gone becomes
/// the file.
fn squash(layers: Vec<PlannedLayer>, mut steps: Vec<PlannedStep>) -> (Vec<PlannedLayer>, Vec<PlannedStep>) {
    if layers.len() < 2 {
        return (layers, steps);
    }
    let mut all = FileTree::empty();
    for layer in &layers {
        for entry in &layer.entries {
            all.apply(entry);
        }
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
    let layer = PlannedLayer { title: "squashed layers".to_owned(), created_by, entries: all.into_entries() };
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

impl Checked {
    /// The needed stages that begin with an image.
    fn images(&self) -> impl Iterator<Item = (usize, &str, &Platform)> {
        self.needed().filter_map(|index| match self.base(index)? {
            StageBase::Image { reference, platform } => Some((index, reference.as_str(), platform)),
            StageBase::Scratch | StageBase::Stage(_) => None,
        })
    }
}
