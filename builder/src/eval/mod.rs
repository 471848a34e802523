//! The second pass: the needed stages, instruction by instruction.

mod config;
mod copy;
mod destination;
mod downloads;
mod mode;
mod notes;
mod overlaps;
mod owner;
mod ports;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub(crate) use self::unpack::tree_of_archive;

use crossdock_storage::{Entry, HistoryEntry, ImageConfig, LayerPath, Platform};

use crate::check::{Checked, StageBase};
use crate::containerfile::{Containerfile, Diagnostic, Expanded, Instruction, Source, Span, Spanned};
use crate::error::Error;
use crate::model::{self, ModelReport};
use crate::plan::{Origins, PlanOptions, PlannedBase, PlannedStep, Warning, name_of};
use crate::scope::Scope;
use crate::tree::{FileTree, State};

/// Set where a base says nothing, as buildah does.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// All stages together make at most so many entries of layers, as many as an index of a base has; stages that copy one
/// another several times have no end.
const MAX_ENTRIES: usize = if cfg!(test) { 1000 } else { 2 << 20 };

/// What buildah puts before an instruction in the history.
const CREATED_BY: &str = "/bin/sh -c #(nop) ";

/// What one instruction adds to the image.
#[derive(Debug, Clone)]
pub(crate) struct BuiltLayer {
    pub(crate) title: String,
    /// `created_by` of the instruction's line in the history.
    pub(crate) created_by: String,
    /// The files that it adds or changes, with the directories that it makes.
    pub(crate) files: FileTree,
    /// Directories of lower layers that something else has taken the place of.
    pub(crate) hidden: BTreeSet<LayerPath>,
}

/// Whether `--chmod` takes this.
pub(crate) fn is_mode(text: &str) -> bool {
    mode::Mode::parse(text).is_some()
}

/// A stage with all its instructions carried out.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) base: Option<PlannedBase>,
    pub(crate) layers: Vec<Arc<BuiltLayer>>,
    pub(crate) config: ImageConfig,
    pub(crate) steps: Vec<PlannedStep>,
    /// What made its layers, to tell what is in them when they are all there.
    added: Vec<notes::Added>,
    /// The ARGs that a stage built on this one sees.
    args: BTreeMap<String, String>,
    pub(crate) tree: FileTree,
}

/// All stages as far as they are done.
pub(crate) struct Evaluation<'a> {
    file: &'a Containerfile,
    origins: Origins<'a>,
    options: &'a PlanOptions,
    checked: &'a Checked,
    /// The scope of FROM lines.
    global: Scope<'a>,
    built: BTreeMap<usize, Built>,
    /// Entries made so far.
    entries: usize,
    warnings: Vec<Warning>,
}

/// A stage under way.
struct Stage<'a> {
    /// The text of the instruction that is carried out: the file's, or that of a trigger of this number.
    source: &'a Arc<Source>,
    trigger: Option<usize>,
    origins: Origins<'a>,
    options: &'a PlanOptions,
    checked: &'a Checked,
    earlier: &'a BTreeMap<usize, Built>,
    index: usize,
    scope: Scope<'a>,
    built: Built,
    /// Entries made so far, by all stages.
    entries: usize,
    /// Whether this stage has a CMD: then ENTRYPOINT leaves it.
    cmd_set: bool,
    /// What the instruction that is carried out has taken the place of, see [`BuiltLayer::hidden`].
    hidden: BTreeSet<LayerPath>,
    warnings: Vec<Warning>,
}

impl<'a> Evaluation<'a> {
    pub(crate) fn new(
        file: &'a Containerfile,
        origins: Origins<'a>,
        options: &'a PlanOptions,
        checked: &'a Checked,
    ) -> Result<Self, Error> {
        let (global, unset) = Scope::global(file, options).map_err(Error::Value)?;
        let warnings = unset.iter().map(|name| not_set(&file.source, name)).collect();
        let built = BTreeMap::new();
        Ok(Self { file, origins, options, checked, global, built, entries: 0, warnings })
    }

    /// Carries out a stage whose needed stages are done. `base` is there for a stage that begins with an image.
    pub(crate) fn stage(&mut self, index: usize, base: Option<(PlannedBase, FileTree)>) -> Result<(), Error> {
        let mut built = match (self.checked.base(index), base) {
            (Some(StageBase::Stage(earlier)), _) => {
                self.built.get(earlier).expect("a stage is evaluated after those it needs").clone()
            }
            (_, Some((base, tree))) => from_image(base, tree, self.options),
            (Some(StageBase::Scratch { platform }), None) => from_scratch(platform.clone()),
            (_, None) => from_scratch(self.options.platform.clone()),
        };
        // They are carried out below, and are not for who builds upon this stage.
        built.config.config.on_build.clear();
        let env = &mut built.config.config.env;
        if !env.iter().any(|line| name_of(line) == "PATH") {
            env.push(DEFAULT_PATH.to_owned());
        }
        let from = self.file.stages[index].from.span;
        let scope = self.global.stage(env, &built.args, from).map_err(Error::Value)?;
        scope.spend(built.memory(), from).map_err(Error::Value)?;
        let mut stage = Stage {
            source: &self.file.source,
            trigger: None,
            origins: self.origins,
            options: self.options,
            checked: self.checked,
            earlier: &self.built,
            index,
            scope,
            built,
            entries: self.entries,
            cmd_set: false,
            hidden: BTreeSet::new(),
            warnings: Vec::new(),
        };
        for (number, trigger) in self.checked.triggers(index).iter().enumerate() {
            (stage.source, stage.trigger) = (&trigger.source, Some(number));
            stage.scope.within(&trigger.source, trigger.escape);
            stage.instruction(&trigger.instruction)?;
        }
        (stage.source, stage.trigger) = (&self.file.source, None);
        stage.scope.within(&self.file.source, self.file.directives.escape);
        for instruction in &self.file.stages[index].instructions {
            stage.instruction(instruction)?;
        }
        let Stage { mut built, scope, warnings, entries, .. } = stage;
        built.args.clone_from(scope.args());
        let builds_upon =
            |other| matches!(self.checked.base(other), Some(StageBase::Stage(below)) if *below == index);
        if index != self.checked.target && !self.checked.needed().any(builds_upon) {
            // Nobody has its layers; its files may be copied.
            built.layers.clear();
        }
        self.entries = entries;
        self.built.insert(index, built);
        self.warnings.extend(warnings);
        Ok(())
    }

    /// The build arguments that no ARG of the stages so far has taken.
    pub(crate) fn unused_build_args(&self) -> Vec<String> {
        self.global.unused_build_args()
    }

    /// The target, what was found on the way, and what its models are.
    pub(crate) fn finish(mut self) -> Result<(Built, Vec<Warning>, ModelReport), Error> {
        let target = self.built.remove(&self.checked.target).expect("the target is evaluated last");
        self.warnings.extend(notes::warnings(&target, self.options.downloads));
        let model = if self.options.check_models {
            model::check(&target.tree, &notes::brought(&target), &self.options.cancel)?
        } else {
            ModelReport::default()
        };
        Ok((target, self.warnings, model))
    }
}

fn from_scratch(platform: Platform) -> Built {
    let config = ImageConfig {
        architecture: platform.architecture,
        os: platform.os,
        variant: platform.variant,
        ..ImageConfig::default()
    };
    Built {
        base: None,
        layers: Vec::new(),
        config,
        steps: Vec::new(),
        added: Vec::new(),
        args: BTreeMap::new(),
        tree: FileTree::empty(),
    }
}

fn from_image(base: PlannedBase, tree: FileTree, options: &PlanOptions) -> Built {
    let mut config = base.image.config.clone();
    if config.os.is_empty() || config.architecture.is_empty() {
        config.os.clone_from(&options.platform.os);
        config.architecture.clone_from(&options.platform.architecture);
        config.variant.clone_from(&options.platform.variant);
    }
    config.config.labels.retain(|name, _| options.inherit_labels && !options.unset_labels.contains(name));
    let (layers, steps, added, args) = (Vec::new(), Vec::new(), Vec::new(), BTreeMap::new());
    Built { base: Some(base), layers, config, steps, added, args, tree }
}

impl Built {
    /// About what a stage that is built on this one takes over of it, in bytes: all but its files, which are shared.
    fn memory(&self) -> usize {
        let config = &self.config.config;
        let texts = config.env.iter().chain(config.labels.values()).chain(config.volumes.keys());
        let history = self.steps.iter().map(|step| &step.history);
        let lines = history.flat_map(|line| [&line.created_by, &line.author]).flatten();
        let ports = config.exposed_ports.keys();
        texts.chain(lines).chain(ports).map(String::len).sum()
    }
}

impl Stage<'_> {
    fn instruction(&mut self, instruction: &Spanned<Instruction>) -> Result<(), Error> {
        self.options.cancel.check().map_err(|_| Error::Interrupted)?;
        let mut made = FileTree::empty();
        match &instruction.value {
            Instruction::Add(add) => made = self.add(add)?,
            Instruction::Copy(copy) => made = self.copy(copy)?,
            Instruction::Workdir(path) => self.workdir(path)?,
            Instruction::Arg(declarations) => {
                let unset = self.scope.declare(declarations).map_err(Error::Value)?;
                self.expanded(Expanded { value: (), unset });
            }
            Instruction::Cmd(command) => self.cmd(command),
            Instruction::Entrypoint(command) => self.entrypoint(command),
            Instruction::Env(pairs) => self.env(pairs)?,
            Instruction::Expose(words) => self.expose(words)?,
            Instruction::Healthcheck(healthcheck) => self.healthcheck(healthcheck),
            Instruction::Label(pairs) => self.label(pairs)?,
            Instruction::Maintainer(author) => self.built.config.author = Some(author.value.clone()),
            Instruction::Onbuild(onbuild) => {
                self.built.config.config.on_build.push(onbuild.text.value.clone());
            }
            Instruction::Run(_) => {
                let diagnostic = Diagnostic::new(self.source, instruction.span, "RUN is not carried out");
                return Err(Error::Refused(diagnostic));
            }
            Instruction::Shell(words) => {
                self.built.config.config.shell = Some(words.iter().map(|word| word.value.clone()).collect());
            }
            Instruction::Stopsignal(signal) => self.stop_signal(signal)?,
            Instruction::User(user) => self.user(user)?,
            Instruction::Volume(paths) => self.volume(paths)?,
        }
        for directory in self.make_workdir(instruction.span)? {
            made.apply(directory);
        }
        self.entries += made.count();
        if self.entries > MAX_ENTRIES {
            let message = format!("the files up to here are more than {MAX_ENTRIES}");
            return Err(self.invalid_with_help(
                instruction.span,
                &message,
                "copy fewer of them, or pack them",
            ));
        }
        self.record(instruction.span, made)
    }

    /// Adds the instruction's line to the history, and its layer where it made one.
    fn record(&mut self, span: Span, made: FileTree) -> Result<(), Error> {
        let text = self.source.unfolded(span);
        let title = text.lines().next().unwrap_or_default().trim().to_owned();
        let created_by = format!("{CREATED_BY}{title}");
        let layer = (!made.is_empty()).then_some(self.built.layers.len());
        let history = HistoryEntry {
            created: self.options.created.clone(),
            created_by: Some(created_by.clone()),
            author: self.built.config.author.clone(),
            empty_layer: layer.is_none(),
            ..HistoryEntry::default()
        };
        self.built.steps.push(PlannedStep { history, layer });
        if layer.is_some() {
            let hidden = std::mem::take(&mut self.hidden);
            self.built.layers.push(Arc::new(BuiltLayer { title, created_by, files: made, hidden }));
        }
        // The author stands in every line.
        let author = self.built.config.author.as_ref().map_or(0, String::len);
        self.scope.spend(author, span).map_err(Error::Value)
    }

    /// WORKDIR: sets the directory, which is made [after it](Self::make_workdir) where it is missing.
    fn workdir(&mut self, path: &Spanned<String>) -> Result<(), Error> {
        let text = self.word(path)?;
        if text.is_empty() {
            return Err(self.invalid(path.span, "WORKDIR needs a path"));
        }
        let directory = self.absolute(&text, path.span)?;
        self.built.config.config.working_dir = directory.to_string();
        match self.built.tree.lookup(&directory, true).map(|lookup| lookup.state) {
            Err(error) => Err(self.invalid(path.span, &format!("cannot make {directory}: {error}"))),
            Ok(State::Found(node)) if !node.is_directory() => {
                Err(self.invalid(path.span, &format!("{directory} is not a directory")))
            }
            Ok(_) => Ok(()),
        }
    }

    /// Makes the working directory where it is missing, for USER where that is a number or known. buildah does so after
    /// every instruction (imagebuilder's `Builder.Run`), and so makes that of a base which its layers lack.
    fn make_workdir(&mut self, span: Span) -> Result<Vec<Entry>, Error> {
        let config = &self.built.config.config;
        let Ok(directory) = LayerPath::confined(&config.working_dir) else { return Ok(Vec::new()) };
        let at = match self.built.tree.lookup(&directory, true) {
            Ok(lookup) if matches!(lookup.state, State::Missing) => lookup.path,
            _ => return Ok(Vec::new()),
        };
        let owner = match config.user.as_str() {
            "" => None,
            user => owner::owner(&self.built.tree, user).ok(),
        };
        if owner.is_none() && !config.user.is_empty() {
            let message = format!("{directory} is made as root's: USER {} is not known here", config.user);
            self.warn(span, message);
        }
        let mut writer = destination::Writer::new(&mut self.built.tree, owner, None);
        let made = writer.make_directories(&at).map(|()| writer.into_made().files.into_entries());
        made.map_err(|problem| problem.at(self.source, span, "WORKDIR"))
    }

    /// A path of the image: relative ones begin at WORKDIR, and `..` stops at the root.
    fn absolute(&self, path: &str, span: Span) -> Result<LayerPath, Error> {
        let mut parts: Vec<&str> = Vec::new();
        let start = if path.starts_with('/') { "" } else { &self.built.config.config.working_dir };
        for part in start.split('/').chain(path.split('/')) {
            match part {
                "" | "." => {}
                ".." => {
                    parts.pop();
                }
                part => parts.push(part),
            }
        }
        let joined = parts.join("/");
        if joined.len() > destination::MAX_PATH {
            let most = destination::MAX_PATH;
            return Err(self.invalid(span, &format!("the path would have more than {most} bytes")));
        }
        LayerPath::clean(joined).map_err(|error| self.invalid(span, &format!("{path:?}: {error}")))
    }

    fn word(&mut self, word: &Spanned<String>) -> Result<String, Error> {
        let expanded = self.scope.word(word).map_err(Error::Value)?;
        Ok(self.expanded(expanded))
    }

    /// The result of an expansion; a variable without a value is worth a warning.
    fn expanded<T>(&mut self, expanded: Expanded<T>) -> T {
        let unset = expanded.unset.iter().map(|name| not_set(self.source, name));
        self.warnings.extend(unset);
        expanded.value
    }

    fn warn(&mut self, span: Span, message: String) {
        self.warnings.push(Warning::At(Diagnostic::new(self.source, span, message)));
    }

    fn warn_with_help(&mut self, span: Span, message: String, help: &str) {
        let diagnostic = Diagnostic::new(self.source, span, message).with_help(help);
        self.warnings.push(Warning::At(diagnostic));
    }

    fn invalid(&self, span: Span, message: &str) -> Error {
        Error::Value(Diagnostic::new(self.source, span, message))
    }

    fn invalid_with_help(&self, span: Span, message: &str, help: &str) -> Error {
        Error::Value(Diagnostic::new(self.source, span, message).with_help(help))
    }
}

/// A variable that counts as empty.
fn not_set(source: &Arc<Source>, name: &Spanned<String>) -> Warning {
    let message = format!("the variable {} is not set", name.value);
    let help = "declare it with ARG or ENV above, or write ${NAME:-}";
    Warning::At(Diagnostic::new(source, name.span, message).with_help(help))
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::plan::{BaseResolver, plan};
    use crate::{Context, IgnoreFile};

    struct Nothing;

    #[async_trait]
    impl BaseResolver for Nothing {
        async fn resolve(&self, _: &str, _: &Platform) -> Result<PlannedBase, crossdock_storage::Error> {
            unreachable!("all stages are from scratch")
        }
    }

    #[test]
    fn stages_that_copy_one_another_twice_end_somewhere() {
        let dir = tempfile::tempdir().unwrap();
        let context = Context::open(dir.path(), IgnoreFile::none()).unwrap().into();
        let mut text = "FROM scratch\nWORKDIR /d\n".to_owned();
        for stage in 0..40 {
            text += &format!("FROM scratch\nCOPY --from={stage} / /a\nCOPY --from={stage} / /b\n");
        }
        let file = Containerfile::parse("Containerfile", text.as_bytes()).unwrap().into();
        let options = PlanOptions::new("linux/amd64".parse().unwrap());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let error = runtime.block_on(plan(&file, &context, &options, &Nothing)).unwrap_err();
        assert_eq!(
            error.to_string(),
            "Containerfile:25:1: the files up to here are more than 1000, copy fewer of them, or pack them"
        );
    }
}
